//! P7: after a crash, every record that let a request through is there and verifies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::client::HOST;
use crate::support::{Act, Setup, Upstream, log, until};

const ROUNDS: usize = 8;

#[test]
fn kill_9_under_load_loses_no_record_that_let_a_request_through() {
    let upstream = Upstream::start(Act::Answer);
    let mut site = Setup::new(&upstream).site();
    let number = Arc::new(AtomicU64::new(0));
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let gate = site.start();
        let stop = Arc::new(AtomicBool::new(false));
        let address = gate.front;
        let before = upstream.count();
        let callers: Vec<_> = (0..6)
            .map(|_| {
                let (number, stop) = (Arc::clone(&number), Arc::clone(&stop));
                std::thread::spawn(move || call_until(address, &number, &stop))
            })
            .collect();
        // In the midst of it, a little later each time.
        until("some load", || upstream.count() >= before + 60 + 35 * round);
        site = gate.kill();
        stop.store(true, Ordering::SeqCst);
        for caller in callers {
            acknowledged.extend(caller.join().unwrap());
        }
        // As it lies there after the crash, it verifies.
        site.verify();
    }
    let site = site.start().stop();
    site.verify();

    let records = site.records();
    let allowed: BTreeSet<&str> = records
        .iter()
        .filter(|record| record["decision"] == "allow")
        .map(|record| record["request"]["path"].as_str().unwrap())
        .collect();
    for seen in upstream.seen() {
        assert!(allowed.contains(seen.target.as_str()), "{} passed without a record", seen.target);
    }
    for path in &acknowledged {
        assert!(allowed.contains(path.as_str()), "{path} was answered, and its record is lost");
    }
    // Each allow is closed exactly once, those that the crashes left open as unknown.
    let outcomes = log::outcomes(&records);
    assert_eq!(outcomes.len(), allowed.len());
    let unknown = outcomes.values().filter(|outcome| outcome["result"] == "unknown").count();
    assert!(unknown > 0, "no crash fell into a call");
}

/// Calls over a kept connection until told to stop or the gate is gone; the paths that were answered.
fn call_until(address: std::net::SocketAddr, number: &AtomicU64, stop: &AtomicBool) -> Vec<String> {
    let mut answered = Vec::new();
    let mut wire = crate::support::Wire::open(address);
    while !stop.load(Ordering::SeqCst) {
        let path = format!("/public/{}", number.fetch_add(1, Ordering::SeqCst));
        if wire.try_send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).is_err() {
            break;
        }
        match wire.answer() {
            Some(answer) if answer.status == 200 => answered.push(path),
            Some(answer) => panic!("{}", answer.head),
            None => break,
        }
    }
    answered
}

#[test]
fn a_call_in_flight_at_the_crash_is_closed_as_unknown_exactly_once() {
    let upstream = Upstream::start(Act::Hold);
    let gate = Setup::new(&upstream).start();
    let mut wire = gate.wire();
    wire.send("GET /public/held HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it to be forwarded", || upstream.count() == 1);
    let mut site = gate.kill();
    for _ in 0..2 {
        site = site.start().stop();
    }
    let records = site.records();
    let held = records.iter().find(|record| record["request"]["path"] == "/public/held").unwrap();
    let outcomes = log::outcomes(&records);
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[&held["index"].as_u64().unwrap()]["result"], "unknown");
    site.verify();
}

#[test]
fn a_clean_stop_leaves_nothing_open() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    for n in 0..20 {
        assert_eq!(gate.client().get(&format!("/public/{n}"), None).status, 200);
    }
    let site = gate.stop();
    let records = site.records();
    let outcomes = log::outcomes(&records);
    assert_eq!(outcomes.len(), 20);
    assert!(outcomes.values().all(|outcome| outcome["result"] == "completed"));
    assert_eq!(records.last().unwrap()["event"], "stopped");
    site.verify();
}
