//! The front: protocols on one port, proxies before it, and the way down.

use std::io::ErrorKind;
use std::net::TcpStream;

use crate::support::client::empty;
use crate::support::{Act, Client, Setup, Upstream, until};

#[test]
fn http1_and_http2_share_a_port_plain_and_over_tls() {
    let upstream = Upstream::start(Act::Answer);
    for tls in [false, true] {
        let setup = Setup::new(&upstream);
        let gate = if tls { setup.tls() } else { setup }.start();
        for client in [gate.client(), gate.client2()] {
            // With TLS, the client asserts what ALPN has agreed on.
            let answer = client.get("/public/x", None);
            assert_eq!((answer.status, answer.text()), (200, "hello"), "{client:?}");
            let record = gate.record(answer.record());
            assert_eq!(record["client"]["tls"].as_str(), tls.then_some("TLSv1.3"), "{record}");
            assert_eq!(record["client"]["ip"], "127.0.0.1");
            let forwarded = if tls { "https" } else { "http" };
            assert_eq!(upstream.seen().pop().unwrap().headers["x-forwarded-proto"], forwarded);
        }
        gate.stop().verify();
    }
}

#[test]
fn a_plain_call_to_a_tls_port_gets_nowhere_and_harms_nobody() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).tls().start();
    let client = Client::http1(gate.front);
    assert!(client.try_send(client.request("GET", "/public/x", None, &[], empty())).is_err());
    assert_eq!(upstream.count(), 0);
    assert_eq!(gate.client().get("/public/x", None).status, 200);
}

#[test]
fn only_a_trusted_proxy_is_believed() {
    let upstream = Upstream::start(Act::Answer);
    for (trusted, ip, id) in
        [("[]", "127.0.0.1", None), ("[\"127.0.0.0/8\"]", "203.0.113.9", Some("from-the-proxy"))]
    {
        let gate = Setup::new(&upstream).server(&format!("trusted_proxies = {trusted}")).start();
        let headers = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "from-the-proxy"),
            ("x-auth-subject", "spoof"),
        ];
        for client in [gate.client(), gate.client2()] {
            let answer = client.call("GET", "/public/x", None, &headers);
            assert_eq!(answer.status, 200);
            let record = gate.record(answer.record());
            assert_eq!(record["client"]["ip"], ip);
            let seen = upstream.seen().pop().unwrap();
            assert_eq!(seen.headers["x-forwarded-for"], ip);
            assert_eq!(seen.headers["x-forwarded-proto"], if id.is_some() { "https" } else { "http" });
            assert!(!seen.headers.contains_key("x-auth-subject"));
            match id {
                Some(id) => assert_eq!(answer.header("x-request-id"), Some(id)),
                None => assert_ne!(answer.header("x-request-id"), Some("from-the-proxy")),
            }
            assert_eq!(seen.headers["x-request-id"], answer.header("x-request-id").unwrap());
            assert_eq!(record["request"]["id"], answer.header("x-request-id").unwrap());
        }
    }
}

#[test]
fn a_trace_is_carried_on() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = gate.client().call("GET", "/public/x", None, &[("traceparent", parent)]);
    let seen = upstream.only();
    let carried = seen.headers["traceparent"].to_str().unwrap();
    assert!(carried.contains("0af7651916cd43dd8448eb211c80319c"), "{carried}");
    let record = gate.record(answer.record());
    assert!(record["request"].to_string().contains("0af7651916cd43dd8448eb211c80319c"), "{record}");
}

#[test]
fn sigterm_finishes_what_is_in_flight_takes_nothing_new_and_exits_0() {
    for tls in [false, true] {
        let upstream = Upstream::start(Act::Hold);
        let setup = Setup::new(&upstream);
        let gate = if tls { setup.tls() } else { setup }.start();
        let callers: Vec<_> = [gate.client(), gate.client2()]
            .into_iter()
            .map(|client| std::thread::spawn(move || client.get("/public/held", None)))
            .collect();
        until("both to be forwarded", || upstream.count() == 2);
        gate.signal("TERM");
        until("no new connection is taken", || match TcpStream::connect(gate.front) {
            Err(error) => error.kind() == ErrorKind::ConnectionRefused,
            Ok(_) => false,
        });
        assert!(callers.iter().all(|caller| !caller.is_finished()));
        assert_eq!(upstream.count(), 2);
        upstream.release();
        for caller in callers {
            let answer = caller.join().unwrap();
            assert_eq!((answer.status, answer.text()), (200, "held"));
        }
        let site = gate.wait();
        site.verify();
        let records = site.records();
        let outcomes = crate::support::log::outcomes(&records);
        assert_eq!(outcomes.len(), 2);
        assert!(outcomes.values().all(|outcome| outcome["result"] == "completed"));
        assert_eq!(records.last().unwrap()["event"], "stopped");
    }
}

#[test]
fn what_does_not_finish_in_time_is_cut_off_and_closed_at_the_next_start() {
    let upstream = Upstream::start(Act::Hold);
    let gate = Setup::new(&upstream).server("drain_timeout = \"100ms\"").start();
    let mut wire = gate.wire();
    wire.send("GET /public/held HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it to be forwarded", || upstream.count() == 1);
    let site = gate.stop().start().stop();
    let records = site.records();
    let outcomes = crate::support::log::outcomes(&records);
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    site.verify();
}

#[test]
fn an_idle_connection_does_not_hold_up_the_way_down() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).server("drain_timeout = \"10m\"").start();
    let mut kept = gate.wire();
    kept.send("GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(kept.answer().unwrap().status, 200);
    let _silent = gate.wire();
    gate.stop().verify();
    assert!(kept.ends());
}

#[test]
fn readiness_goes_before_the_gate_does() {
    let upstream = Upstream::start(Act::Hold);
    let gate = Setup::new(&upstream).start();
    let client = gate.client();
    let caller = std::thread::spawn(move || client.get("/public/held", None));
    until("it to be forwarded", || upstream.count() == 1);
    gate.signal("TERM");
    until("it to be unready", || gate.health().get("/readyz", None).status == 503);
    assert_eq!(gate.health().get("/livez", None).status, 200);
    upstream.release();
    assert_eq!(caller.join().unwrap().status, 200);
    gate.wait();
}

#[test]
fn more_calls_than_the_limit_are_shed_before_any_decision() {
    let upstream = Upstream::start(Act::Hold);
    let gate = Setup::new(&upstream).tables("[limits]\nin_flight = 2").start();
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let client = gate.client();
            std::thread::spawn(move || client.get("/public/held", None).status)
        })
        .collect();
    until("both to be forwarded", || upstream.count() == 2);
    let shed = gate.client().get("/public/shed", None);
    assert_eq!((shed.status, shed.header("portcullis-record")), (503, None));
    upstream.release();
    for caller in callers {
        assert_eq!(caller.join().unwrap(), 200);
    }
    assert!(gate.health().get("/metrics", None).text().contains("portcullis_shed_total"));
    let site = gate.stop();
    assert!(!site.records().iter().any(|record| record["request"]["path"] == "/public/shed"));
}

#[test]
fn a_target_or_head_beyond_the_limits_is_refused() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).tables("[limits]\ntarget_bytes = \"1KiB\"\nheaders = 20").start();
    let long = format!("/public/{}", "x".repeat(1100));
    for client in [gate.client(), gate.client2()] {
        let answer = client.get(&long, None);
        assert_eq!(answer.status, 414);
        assert_eq!(gate.record(answer.record())["reason"], "malformed_target_too_long");
    }
    let mut wire = gate.wire();
    let many: String = (0..40).map(|n| format!("X-{n}: y\r\n")).collect();
    let _ = wire.try_send(format!("GET /public/x HTTP/1.1\r\nHost: a\r\n{many}\r\n"));
    assert!(wire.answer().is_none_or(|answer| answer.status == 431));
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).tables("[limits]\nheader_timeout = \"200ms\"").start();
    let mut wire = gate.wire();
    wire.send("GET /public/x HTTP/1.1\r\nHost: a\r\n");
    drop(wire.rest());
    // And one that says nothing at all, where a handshake is due.
    let gate = Setup::new(&upstream).tls().tables("[limits]\nheader_timeout = \"200ms\"").start();
    let mut silent = crate::support::Wire::open(gate.front);
    assert!(silent.ends());
    assert_eq!(upstream.count(), 0);
}
