//! Rates: of a caller, of an address, of a service. More is answered 429, with a record.

use http::HeaderMap;

use crate::support::{Act, Answer, Client, Setup, Signer, Upstream, until};

/// It is refused for its rate, says when to come again, and is on record.
fn is_refused(answer: &Answer, burst: &str) -> bool {
    let seconds = |headers: &HeaderMap, name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
    let retry = seconds(&answer.headers, "retry-after");
    answer.status == 429
        && retry.is_some_and(|retry| retry >= 1)
        && seconds(&answer.headers, "ratelimit-reset") == retry
        && answer.header("ratelimit-limit") == Some(burst)
        && answer.header("ratelimit-remaining") == Some("0")
        && answer.header("content-type") == Some("application/problem+json")
        && answer.header("portcullis-record").is_some()
}

fn from(client: Client, address: &str, path: &str) -> Answer {
    client.call("GET", path, None, &[("x-forwarded-for", address)])
}

#[test]
fn a_caller_has_its_rate_wherever_it_calls_from_and_leaves_others_theirs() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).service("rate = { per_principal = \"2/h burst 3\" }").start();
    let [alice, bob] = ["alice", "bob"].map(|name| Signer::usual().token(name, &["viewer"]));
    for client in [gate.client(), gate.client2(), gate.client()] {
        assert_eq!(client.get("/docs/x", Some(&alice)).status, 200);
    }
    let refused = [gate.client(), gate.client2()].map(|client| client.get("/docs/x", Some(&alice)));
    assert!(refused.iter().all(|answer| is_refused(answer, "3")), "{refused:?}");
    for _ in 0..50 {
        assert!(is_refused(&gate.client().get("/docs/x", Some(&alice)), "3"));
    }
    assert_eq!(gate.client().get("/docs/x", Some(&bob)).status, 200);
    // One who proved nothing is the address it comes from, and counts apart from those who did.
    for _ in 0..3 {
        assert_eq!(gate.client().get("/public/x", None).status, 200);
    }
    assert!(is_refused(&gate.client().get("/public/x", None), "3"));
    let figures = gate.health().get("/metrics", None);
    for (by, count) in [("principal", 52), ("address", 1)] {
        let line = format!("portcullis_rate_limited_total{{service=\"app\",by=\"{by}\"}} {count}");
        assert!(figures.text().contains(&line), "{}", figures.text());
    }
    let site = gate.stop();
    site.verify();
    let limited = site.records().into_iter().filter(|record| record["reason"] == "rate_limited").count();
    assert!(limited <= 8, "{limited} records: what is alike is counted");
    let record = &site.records()[usize::try_from(refused[0].record()).unwrap()];
    assert_eq!((&record["decision"], &record["reason"]), (&"deny".into(), &"rate_limited".into()));
    assert_eq!(record["identity"]["user"], "user:alice", "{record}");
    assert_eq!(upstream.count(), 7);
}

#[test]
fn an_address_has_its_rate_and_nobody_looks_at_its_credentials_beyond_it() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream)
        .server("trusted_proxies = [\"127.0.0.0/8\"]")
        .service("rate = { per_address = \"2/h\" }")
        .start();
    for address in ["192.0.2.1", "192.0.2.2", "2001:db8:0:1::1"] {
        for _ in 0..2 {
            assert_eq!(from(gate.client(), address, "/public/x").status, 200);
        }
        assert!(is_refused(&from(gate.client(), address, "/public/x"), "2"));
    }
    // A host with many IPv6 addresses is one.
    assert_eq!(from(gate.client(), "2001:db8:0:1::2", "/public/x").status, 429);
    assert_eq!(from(gate.client(), "2001:db8:0:2::1", "/public/x").status, 200);
    let token = Signer::usual().token("alice", &["viewer"]);
    let answer = gate.client().call("GET", "/docs/x", Some(&token), &[("x-forwarded-for", "192.0.2.1")]);
    assert!(is_refused(&answer, "2"));
    let site = gate.stop();
    site.verify();
    let record = &site.records()[usize::try_from(answer.record()).unwrap()];
    assert_eq!(record["identity"]["fault"], "credential_unchecked", "{record}");
    assert_eq!(record["client"]["ip"], "192.0.2.1");
    assert_eq!(upstream.count(), 7);
}

#[test]
fn only_calls_that_are_let_through_use_up_a_services_total() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).service("rate = { total = \"2/h\" }").start();
    for _ in 0..10 {
        assert_eq!(gate.client().get("/admin/x", None).status, 401);
    }
    for _ in 0..2 {
        assert_eq!(gate.client().get("/public/x", None).status, 200);
    }
    assert!(is_refused(&gate.client().get("/public/x", None), "2"));
    assert_eq!(gate.client().get("/admin/x", None).status, 401, "who is refused anyway is told why");
    gate.stop().verify();
    assert_eq!(upstream.count(), 2);
}

#[test]
fn the_gates_own_rate_binds_whatever_is_asked_for_and_not_those_who_watch() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).tables("[limits]\nrate_per_address = \"4/h\"").start();
    assert_eq!(gate.client().get("/public/x", None).status, 200);
    assert_eq!(gate.client().get("/admin/x", None).status, 401);
    assert_eq!(gate.client().get("//admin", None).status, 400);
    assert_eq!(gate.client().get("/public/%zz", None).status, 400);
    for path in ["/public/x", "//admin", "/public/%zz"] {
        assert!(is_refused(&gate.client().get(path, None), "4"), "{path}");
    }
    let mut wire = gate.wire();
    wire.send("GET /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\nGET");
    assert_eq!(wire.answer().unwrap().status, 429);
    assert!(wire.ends(), "what follows has no certain beginning");
    let auditor = Signer::usual().token("carol", &["auditor"]);
    for _ in 0..10 {
        assert_eq!(gate.admin().get("/v1/status", Some(&auditor)).status, 200);
    }
    gate.stop().verify();
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_reload_forgives_nobody_unless_the_rate_is_another() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).service("rate = { per_address = \"2/h\" }").start();
    let loads = |gate: &crate::support::Gate| {
        let events = gate.records().into_iter().filter(|record| record["kind"] == "config");
        events.filter(|record| record["event"] == "loaded").count()
    };
    let call = || gate.client().get("/public/x", None).status;
    assert_eq!([call(), call(), call()], [200, 200, 429]);
    let before = loads(&gate);
    gate.edit_config("name = \"app\"", "name = \"app\"\nmax_body = \"1MiB\"");
    gate.signal("HUP");
    until("the config to be loaded", || loads(&gate) == before + 1);
    assert_eq!(call(), 429);
    gate.edit_config("2/h", "3/h");
    gate.signal("HUP");
    until("the other rate", || call() == 200);
    gate.stop().verify();
}
