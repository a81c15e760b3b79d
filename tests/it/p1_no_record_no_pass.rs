//! P1: no byte of a request reaches an upstream before its decision is durable; a denial is durable before its answer.

use std::sync::Arc;

use crate::support::faulty::Fault;
use crate::support::gate::Here;
use crate::support::{Act, Client, Setup, Signer, Upstream, log, until};

/// A gate in this process, in front of a service that answers.
fn gate(setup: impl FnOnce(Setup) -> Setup) -> (Upstream, Here) {
    let upstream = Upstream::start(Act::Answer);
    let here = setup(Setup::new(&upstream)).site().start_here();
    (upstream, here)
}

/// The disk blocks; meanwhile the gate gets on with other things for a while.
fn blocked(gate: &Here) {
    gate.store.wait_blocked();
    for _ in 0..30 {
        assert_eq!(gate.health().get("/readyz", None).status, 200);
    }
}

#[test]
fn nothing_reaches_the_upstream_before_its_record_is_durable() {
    let (upstream, gate) = gate(|setup| setup);
    for (turn, client) in [gate.client(), gate.client2()].into_iter().enumerate() {
        let path = format!("/public/{turn}");
        let on_record = || gate.records().iter().any(|record| record["request"]["path"] == path);
        gate.store.set(Fault::Block);
        let calling = {
            let path = path.clone();
            std::thread::spawn(move || client.post(&path, None, "body"))
        };
        blocked(&gate);
        assert_eq!(upstream.count(), turn, "it was forwarded without a record");
        assert!(!on_record());
        gate.store.set(Fault::None);
        let answer = calling.join().unwrap();
        assert_eq!((answer.status, upstream.count()), (200, turn + 1));
        assert!(on_record());
        assert_eq!(gate.record(answer.record())["decision"], "allow");
    }
    gate.stop().verify();
}

#[test]
fn a_connection_is_not_even_opened_before_the_record_is_durable() {
    let (upstream, gate) = gate(|setup| setup);
    gate.store.set(Fault::Block);
    let client = gate.client();
    let calling = std::thread::spawn(move || client.get("/public/a", None));
    blocked(&gate);
    assert_eq!(upstream.connections(), 0);
    gate.store.set(Fault::None);
    assert_eq!(calling.join().unwrap().status, 200);
    gate.stop().verify();
}

#[test]
fn a_denial_is_durable_before_it_is_answered() {
    let (upstream, gate) = gate(|setup| setup);
    gate.store.set(Fault::Block);
    let mut wire = gate.wire();
    wire.send("GET /admin/x HTTP/1.1\r\nHost: a\r\n\r\n");
    blocked(&gate);
    assert!(wire.is_silent());
    gate.store.set(Fault::None);
    let answer = wire.answer().unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(gate.record(answer.record())["reason"], "no_match");
    assert_eq!(upstream.count(), 0);
    gate.stop().verify();
}

#[test]
fn no_continue_goes_out_before_the_record_is_durable() {
    let (upstream, gate) = gate(|setup| setup);
    gate.store.set(Fault::Block);
    let mut wire = gate.wire();
    wire.send("POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    blocked(&gate);
    assert!(wire.is_silent() && upstream.count() == 0);
    gate.store.set(Fault::None);
    assert_eq!(wire.answer().unwrap().status, 100);
    wire.send("body");
    assert_eq!(wire.answer().unwrap().status, 200);
    assert_eq!(upstream.only().body, b"body");
    gate.stop().verify();
}

#[test]
fn a_log_that_fails_answers_503_and_nothing_is_forwarded_until_a_restart() {
    for fault in [Fault::Fail, Fault::FailPersisted] {
        let (upstream, gate) = gate(|setup| setup);
        assert_eq!(gate.client().get("/public/before", None).status, 200);
        gate.store.set(fault);
        let refused = gate.client().get("/public/a", None);
        assert_eq!((refused.status, refused.header("portcullis-record")), (503, None), "{fault:?}");
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));

        // The disk is well again, but the log does not know what it holds: it takes nothing, and tries nothing.
        gate.store.set(Fault::None);
        let commits = gate.store.commits();
        for client in [gate.client(), gate.client2()] {
            assert_eq!(client.get("/public/b", None).status, 503);
            assert_eq!(client.get("/admin/b", None).status, 503);
        }
        assert_eq!((gate.store.commits(), gate.store.failed()), (commits, 1));
        assert_eq!(upstream.count(), 1, "only what came before the failure");
        assert_eq!(gate.health().get("/readyz", None).status, 503);
        assert_eq!(gate.health().get("/livez", None).status, 200);

        // A restart reconciles. What failed is there or not; if there, it is said that it did not pass.
        let site = gate.stop();
        let gate = site.start();
        assert_eq!(gate.client().get("/public/after", None).status, 200);
        let site = gate.stop();
        site.verify();
        let records = site.records();
        let outcomes = log::outcomes(&records);
        let persisted = records.iter().find(|record| record["request"]["path"] == "/public/a");
        match (fault, persisted) {
            (Fault::FailPersisted, Some(record)) => {
                assert_eq!(outcomes[&record["index"].as_u64().unwrap()]["result"], "unknown");
            }
            (Fault::Fail, None) => {}
            other => panic!("{other:?}"),
        }
        assert!(!upstream.seen().iter().any(|seen| seen.target == "/public/a"));
    }
}

#[test]
fn a_record_that_is_not_durable_in_time_lets_nothing_through() {
    let (upstream, gate) = gate(|setup| setup.log("timeout = \"50ms\""));
    gate.store.set(Fault::Block);
    for client in [gate.client(), gate.client2()] {
        let refused = client.get("/public/late", None);
        assert_eq!((refused.status, refused.header("portcullis-record")), (503, None));
    }
    gate.store.set(Fault::None);
    // What was submitted commits all the same, and is said not to have passed.
    let late = gate.record_where("the late record", |record| record["request"]["path"] == "/public/late");
    assert_eq!(gate.outcome_of(late["index"].as_u64().unwrap())["result"], "not_forwarded");
    assert_eq!((upstream.count(), upstream.connections()), (0, 0));
    gate.stop().verify();
}

#[test]
fn more_than_the_queue_takes_is_refused_and_not_forwarded() {
    let (upstream, gate) = gate(|setup| setup.log("queue = 2"));
    gate.store.set(Fault::Block);
    let first = {
        let client = gate.client();
        std::thread::spawn(move || client.get("/public/first", None).status)
    };
    gate.store.wait_blocked();
    let client = gate.client();
    let callers: Vec<_> =
        (0..8).map(|_| std::thread::spawn(move || client.get("/public/more", None).status)).collect();
    // Two find a place; the others are answered while the disk still blocks.
    until("six to be refused", || callers.iter().filter(|caller| caller.is_finished()).count() == 6);
    assert_eq!(upstream.count(), 0);
    gate.store.set(Fault::None);
    let mut statuses: Vec<u16> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!((first.join().unwrap(), statuses), (200, vec![200, 200, 503, 503, 503, 503, 503, 503]));
    assert_eq!(upstream.count(), 3);
    gate.stop().verify();
}

#[test]
fn a_caller_that_goes_away_takes_no_record_with_it() {
    let (upstream, gate) = gate(|setup| setup);
    gate.store.set(Fault::Block);
    let mut wire = gate.wire();
    wire.send("GET /public/gone HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.store.wait_blocked();
    drop(wire);
    gate.store.set(Fault::None);
    let record = gate.record_where("its record", |record| record["request"]["path"] == "/public/gone");
    let outcome = gate.outcome_of(record["index"].as_u64().unwrap());
    match upstream.count() {
        0 => assert_eq!(outcome["result"], "not_forwarded"),
        // The gate may learn that it is gone only while it answers.
        _ => assert!(matches!(outcome["result"].as_str(), Some("aborted" | "completed")), "{outcome}"),
    }
    gate.stop().verify();
}

#[test]
fn every_answer_quotes_its_record_and_the_record_is_there_by_then() {
    let (_upstream, gate) = gate(|setup| setup);
    let token = Signer::usual().token("alice", &["viewer"]);
    let clients: Arc<[Client]> = Arc::new([gate.client(), gate.client2()]);
    for (number, client) in clients.iter().enumerate() {
        for (path, token, status, decision) in [
            ("/public/a", None, 200, "allow"),
            ("/docs/a", Some(token.as_str()), 200, "allow"),
            ("/admin/a", Some(token.as_str()), 403, "deny"),
            ("/admin/a", None, 401, "deny"),
            ("/public/a", Some("x.y.z"), 401, "deny"),
            ("/public/../a", None, 400, "deny"),
        ] {
            // Denials that were alike would quote the first one's record.
            let path = format!("{path}{number}");
            let answer = client.get(&path, token);
            let record = gate.record(answer.record());
            assert_eq!((answer.status, record["decision"].as_str()), (status, Some(decision)), "{path}");
            assert_eq!(answer.header("x-request-id"), record["request"]["id"].as_str());
        }
    }
    gate.stop().verify();
}
