//! More than the gate can carry: a slow disk, a slow service, a greedy caller. Callers wait, then are turned away; nothing
//! grows without bound, no record is dropped, and others get on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::task::JoinSet;

use crate::support::client::{HOST, empty, whole};
use crate::support::faulty::Fault;
use crate::support::frames::Frames;
use crate::support::{
    Act, Answer, Client, Setup, Upstream, block_on, log, nothing_is_left, readiness, until,
};

/// Where there is no room, the answer says when to come back.
fn is_turned_away(answer: &Answer) -> bool {
    let after = answer.header("retry-after").and_then(|after| after.parse::<u32>().ok());
    answer.status == 503
        && after.is_some_and(|after| after >= 1)
        && answer.header("portcullis-record").is_none()
}

/// Calls all paths at once, each over a connection of its own; every other one over HTTP/2.
fn all_at_once(client: Client, paths: Vec<String>) -> Vec<(String, Answer)> {
    block_on(async {
        let mut calling = JoinSet::new();
        for (number, path) in paths.into_iter().enumerate() {
            let client = Client { http2: number % 2 == 1, ..client };
            calling.spawn(async move {
                let request = client.request("GET", &path, None, &[], empty());
                let answer = whole(client.exchange(request).await.unwrap()).await.unwrap();
                (path, answer)
            });
        }
        calling.join_all().await
    })
}

#[test]
fn a_disk_that_is_100_times_slower_slows_callers_down_then_turns_them_away_and_drops_no_record() {
    const QUEUE: u64 = 24;
    const IN_FLIGHT: u64 = 64;
    // Where the log may take its time, all that are not turned away get through; where not, they are refused in time.
    for patience in ["50s", "100ms"] {
        let upstream = Upstream::start(Act::Answer);
        let gate = Setup::new(&upstream)
            .log(&format!("queue = {QUEUE}\ntimeout = \"{patience}\""))
            .tables(&format!("[limits]\nin_flight = {IN_FLIGHT}"))
            .site()
            .start_here();
        assert_eq!(gate.client().get("/public/before", None).status, 200);

        let (over, health) = (Arc::new(AtomicBool::new(false)), gate.health());
        let watching: JoinHandle<(u64, u64)> = {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let (mut waiting, mut in_flight) = (0, 0);
                while !over.load(Ordering::SeqCst) {
                    let ready = readiness(health);
                    assert_eq!(ready["ready"], true);
                    waiting = waiting.max(ready["log"]["waiting"].as_u64().unwrap());
                    in_flight = in_flight.max(ready["in_flight"].as_u64().unwrap());
                }
                (waiting, in_flight)
            })
        };
        gate.store.slow_down(100);
        let mut answers = Vec::new();
        for wave in 0..4 {
            let paths = (0..100).map(|number| format!("/public/{wave}-{number}")).collect();
            answers.extend(all_at_once(gate.client(), paths));
        }
        over.store(true, Ordering::SeqCst);
        let (waiting, in_flight) = watching.join().unwrap();
        assert!(in_flight <= IN_FLIGHT, "{in_flight}");
        // Beside decisions there may wait one outcome for each call that was let through.
        assert!(waiting <= QUEUE + IN_FLIGHT, "{waiting}");

        // The disk is well again, and so is the gate, by itself.
        gate.store.slow_down(1);
        until("the log to have caught up", || readiness(gate.health())["log"]["waiting"] == 0);
        let after = gate.client().get("/public/after", None);
        assert_eq!(after.status, 200, "at once, and without a restart");
        nothing_is_left(&gate, gate.health());
        let site = gate.stop();
        site.verify();

        let (passed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, a)| a.status == 200);
        assert!(
            !refused.is_empty() && refused.iter().all(|(_, answer)| is_turned_away(answer)),
            "{refused:?}"
        );
        let records = site.records();
        let outcomes = log::outcomes(&records);
        let with_result = |result: &str| -> BTreeSet<&str> {
            let index = |index: &u64| usize::try_from(*index).unwrap();
            let of = outcomes.iter().filter(|(_, outcome)| outcome["result"] == result);
            of.map(|(decision, _)| records[index(decision)]["request"]["path"].as_str().unwrap()).collect()
        };
        let mut expected: BTreeSet<&str> = passed.iter().map(|(path, _)| path.as_str()).collect();
        expected.extend(["/public/before", "/public/after"]);
        // Every call that was let through has its record, every record its outcome, and no refused call went on.
        assert_eq!(with_result("completed"), expected);
        let late = with_result("not_forwarded");
        assert!(late.iter().all(|late| refused.iter().any(|(path, _)| path == late)));
        assert_eq!(outcomes.len(), expected.len() + late.len());
        assert_eq!(upstream.count(), expected.len());
        match patience {
            "50s" => assert!(late.is_empty() && !passed.is_empty()),
            _ => assert!(passed.len() + late.len() > 0),
        }
    }
}

#[test]
fn a_slow_service_takes_its_share_and_others_get_on() {
    let (slow, quick) = (Upstream::start(Act::Hold), Upstream::start(Act::Answer));
    let gate = Setup::new(&slow)
        .service("path_prefix = \"/public/slow\"")
        .services(&format!(
            "[[service]]\nname = \"quick\"\nhosts = [\"*\"]\nupstreams = [\"http://{}\"]\n",
            quick.address
        ))
        .policy("p, anonymous, app, /public/*, .*, allow\np, anonymous, quick, /public/*, .*, allow\n")
        // Each call is another caller's.
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .tables("[limits]\nin_flight = 16")
        .start();
    let from = |number: usize, path: &str| {
        let address = format!("192.0.2.{number}");
        gate.client().call("GET", path, None, &[("x-forwarded-for", &address)])
    };
    std::thread::scope(|scope| {
        let from = &from;
        let held: Vec<_> = (0..12).map(|n| scope.spawn(move || from(n, "/public/slow"))).collect();
        until("its share to be taken", || slow.count() == 12);
        for number in 100..130 {
            assert!(is_turned_away(&from(number, "/public/slow")));
            assert_eq!(from(number, "/public/quick").status, 200);
        }
        slow.release();
        assert!(held.into_iter().all(|call| call.join().unwrap().status == 200));
    });
    assert_eq!(from(200, "/public/slow").status, 200);
    let figures = gate.health().get("/metrics", None);
    assert!(
        figures.text().contains("portcullis_shed_total{cause=\"service_share\"} 30"),
        "{}",
        figures.text()
    );
    nothing_is_left(&gate, gate.health());
    let site = gate.stop();
    site.verify();
    assert_eq!((slow.count(), quick.count()), (13, 30));
}

#[test]
fn a_greedy_caller_takes_its_share_and_others_get_on() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .tables("[limits]\nin_flight = 16")
        .site()
        .start_here();
    let client = gate.client();
    let from = move |address: &str| client.call("GET", "/public/x", None, &[("x-forwarded-for", address)]);
    gate.store.set(Fault::Block);
    std::thread::scope(|scope| {
        let greedy: Vec<_> = (0..30).map(|_| scope.spawn(move || from("192.0.2.1"))).collect();
        let ended = || greedy.iter().filter(|call| call.is_finished()).count();
        until("all but its share to be turned away", || ended() == 18);
        let other = scope.spawn(move || from("192.0.2.2"));
        until("another to find a place", || readiness(gate.health())["in_flight"] == 13);
        assert!(!other.is_finished(), "the disk stands still");
        gate.store.set(Fault::None);
        assert_eq!(other.join().unwrap().status, 200);
        let answers: Vec<_> = greedy.into_iter().map(|call| call.join().unwrap()).collect();
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 12);
        assert_eq!(answers.iter().filter(|answer| is_turned_away(answer)).count(), 18);
    });
    nothing_is_left(&gate, gate.health());
    gate.stop().verify();
    assert_eq!(upstream.count(), 13);
}

#[test]
fn calls_that_are_taken_back_at_once_do_not_fill_the_queue() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).site().start_here();
    gate.store.set(Fault::Block);
    let mut frames = Frames::open(gate.front(), 65_535);
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/public/x"), (":authority", HOST)];
    for number in 0..300 {
        let stream = 2 * number + 1;
        frames.request(stream, &fields, false);
        frames.settle();
        frames.reset(stream);
    }
    frames.settle();
    // One connection's records wait up to 32 at a time, whoever still wants them.
    until("the streams to be gone", || readiness(gate.health())["in_flight"] == 32);
    assert!(readiness(gate.health())["log"]["waiting"].as_u64().unwrap() <= 32);
    gate.store.set(Fault::None);
    until("them to be on record", || {
        gate.open_allows().is_empty() && readiness(gate.health())["in_flight"] == 0
    });
    // The same connection is served again.
    frames.request(1001, &fields, false);
    assert_eq!(frames.status(1001), Some(200));
    drop(frames);
    nothing_is_left(&gate, gate.health());
    let site = gate.stop();
    site.verify();
    let records = site.records();
    let outcomes = log::outcomes(&records);
    assert_eq!(outcomes.values().filter(|outcome| outcome["result"] == "not_forwarded").count(), 32);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn those_who_watch_do_not_stand_behind_those_they_watch() {
    let upstream = Upstream::start(Act::Hold);
    let gate = Setup::new(&upstream).tables("[limits]\nin_flight = 1").start();
    let client = gate.client();
    let held = std::thread::spawn(move || client.get("/public/held", None).status);
    until("the only place to be taken", || upstream.count() == 1);
    assert!(is_turned_away(&gate.client().get("/public/more", None)));
    let auditor = crate::support::Signer::usual().token("carol", &["auditor"]);
    assert_eq!(gate.admin().get("/v1/status", Some(&auditor)).status, 200);
    upstream.release();
    assert_eq!(held.join().unwrap(), 200);
}
