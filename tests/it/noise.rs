//! Little noise: what is said already is counted, what is secret is not shown, and nobody fills the disk by being refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use portcullis::clock::Timestamp;
use serde_json::{Value, json};

use crate::support::client::HOST;
use crate::support::faulty::Fault;
use crate::support::{Act, Setup, Signer, Upstream, Wire, log, until};

/// How many denials the counts on record stand for, by the index they lean on.
fn counts(records: &[Value], event: &str) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for record in records.iter().filter(|record| record["kind"] == "summary" && record["event"] == event) {
        *counts.entry(record["decision_index"].as_u64().unwrap()).or_default() +=
            record["count"].as_u64().unwrap();
    }
    counts
}

fn denials(records: &[Value]) -> usize {
    records.iter().filter(|record| record["decision"] == "deny").count()
}

#[test]
fn identical_denials_are_one_record_with_a_count_and_each_answer_quotes_it() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let mut quoted = BTreeMap::new();
    for _ in 0..200 {
        let answer = gate.client().get("/admin/x", None);
        assert_eq!(answer.status, 401);
        assert_eq!(
            gate.record(answer.record())["request"]["path"],
            "/admin/x",
            "what it quotes is durable by then"
        );
        *quoted.entry(answer.record()).or_insert(0) += 1;
    }
    let site = gate.stop();
    let records = site.records();
    assert_eq!(denials(&records), quoted.len());
    assert!(quoted.len() < 100, "{quoted:?}");
    // Each answer is a record's own, or counted for the record it quotes.
    let counts = counts(&records, "collapsed");
    for (index, times) in quoted {
        assert_eq!(1 + counts.get(&index).copied().unwrap_or(0), times, "{index}");
    }
    site.verify();
}

#[test]
fn a_count_follows_within_a_second() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let first = gate.client().get("/admin/x", None).record();
    until("one that leans on it", || {
        gate.client().get("/admin/x", None).record() == first || first == u64::MAX
    });
    let count = gate.record_where("its count", |record| record["event"] == "collapsed");
    let time = |value: &Value| Timestamp::parse(value.as_str().unwrap()).unwrap().as_micros();
    assert!(time(&count["time"]) - time(&count["since"]) <= 1_000_000, "{count}");
    gate.stop().verify();
}

#[test]
fn denials_that_differ_are_records_of_their_own_and_an_allow_is_never_collapsed() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let (alice, bob) =
        (Signer::usual().token("alice", &["viewer"]), Signer::usual().token("bob", &["viewer"]));
    let calls: &[(&str, &str, Option<&str>)] = &[
        ("GET", "/admin/x", None),
        ("GET", "/admin/y", None),
        ("POST", "/admin/x", None),
        ("GET", "/admin/x", Some(&alice)),
        ("GET", "/admin/x", Some(&bob)),
        ("GET", "/admin/x", Some("no.token.this")),
        ("GET", "/public/../x", None),
    ];
    for (method, path, token) in calls {
        gate.client().call(method, path, *token, &[]);
    }
    for _ in 0..20 {
        assert_eq!(gate.client().get("/public/same", None).status, 200);
    }
    let site = gate.stop();
    let records = site.records();
    assert_eq!(denials(&records), calls.len());
    let allows = records.iter().filter(|record| record["decision"] == "allow").count();
    assert_eq!((allows, log::outcomes(&records).len()), (20, 20));
    assert!(counts(&records, "collapsed").is_empty());
    site.verify();
}

#[test]
fn a_service_may_have_every_denial_on_record_and_the_admin_api_has() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).service("records = { collapse = false }").start();
    let viewer = Signer::usual().token("alice", &["viewer"]);
    for _ in 0..5 {
        assert_eq!(gate.client().get("/admin/x", Some(&viewer)).status, 403);
        assert_eq!(gate.admin().get("/v1/records", Some(&viewer)).status, 403);
    }
    let site = gate.stop();
    assert_eq!(denials(&site.records()), 10);
    site.verify();
}

#[test]
fn nobody_is_answered_by_a_first_record_that_is_not_durable() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).site().start_here();
    gate.store.set(Fault::Block);
    let mut wires: Vec<Wire> = (0..5).map(|_| gate.wire()).collect();
    for wire in &mut wires {
        wire.send("GET /admin/x HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    gate.store.wait_blocked();
    for _ in 0..30 {
        assert_eq!(gate.health().get("/livez", None).status, 200);
    }
    assert!(wires.iter_mut().all(Wire::is_silent));
    gate.store.set(Fault::None);
    let quoted: Vec<u64> = wires.iter_mut().map(|wire| wire.answer().unwrap().record()).collect();
    assert!(quoted.iter().all(|index| gate.record(*index)["decision"] == "deny"), "{quoted:?}");

    // And a log that takes nothing more answers nobody by what it took before.
    gate.client().get("/admin/y", None);
    gate.store.set(Fault::Fail);
    assert_eq!(gate.client().get("/public/x", None).status, 503);
    assert_eq!(gate.client().get("/admin/y", None).status, 503);
    gate.stop().verify();
}

#[test]
fn a_hostile_anonymous_caller_costs_a_bounded_number_of_bytes_a_second() {
    const BOUND: u64 = 16 << 10;
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).tables("[limits]\ndenial_bytes = \"16KiB\"").start();
    let number = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (address, number, stop) = (gate.front, Arc::clone(&number), Arc::clone(&stop));
            std::thread::spawn(move || hostile(address, &number, &stop))
        })
        .collect();
    // Until it has gone on for some seconds by the log's own time.
    let seconds = |records: &[Value]| {
        let time = |record: &Value| Timestamp::parse(record["time"].as_str().unwrap()).unwrap().as_micros();
        let denied: Vec<i64> =
            records.iter().filter(|record| record["decision"] == "deny").map(time).collect();
        denied.last().zip(denied.first()).map_or(0, |(last, first)| (last - first) / 1_000_000)
    };
    // Those who prove who they are keep their records, and those who are let in.
    let viewer = Signer::usual().token("alice", &["viewer"]);
    let mut proved = 0;
    until("some seconds of it", || {
        assert_eq!(gate.client().get(&format!("/admin/{proved}"), Some(&viewer)).status, 403);
        assert_eq!(gate.client().get(&format!("/public/{proved}"), None).status, 200);
        proved += 1;
        seconds(&gate.records()) >= 6
    });
    stop.store(true, Ordering::SeqCst);
    let answered: u64 = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
    let site = gate.stop();
    let records = site.records();
    let unproved = |record: &&Value| {
        record["kind"] == "summary"
            || (record["decision"] == "deny" && record["identity"]["state"] != "proved")
    };
    let bytes: u64 = records.iter().filter(unproved).map(|record| record.to_string().len() as u64).sum();
    let lasted = u64::try_from(seconds(&records)).unwrap() + 1;
    // What may be spent at once, the firsts of folds, and a second for rounding.
    let allowed = BOUND * (lasted + 4 + 1) + 64 * 1_024;
    let unbounded = answered * 700;
    assert!(bytes <= allowed, "{bytes} bytes in {lasted} s, {allowed} allowed");
    assert!(unbounded > 2 * allowed, "{answered} denials are too few to show anything");
    // Nothing is lost: each denial is on record or counted.
    let own = records.iter().filter(unproved).filter(|record| record["decision"] == "deny").count() as u64;
    let counted: u64 =
        ["collapsed", "folded"].iter().flat_map(|event| counts(&records, event).into_values()).sum();
    assert_eq!(own + counted, answered);
    let of_proved = records.iter().filter(|record| record["identity"]["state"] == "proved").count();
    let allows = records.iter().filter(|record| record["decision"] == "allow").count();
    assert_eq!((of_proved, allows), (proved, proved));
    site.verify();
}

/// Calls that are refused, each another, until told to stop; how many were answered.
fn hostile(address: SocketAddr, number: &AtomicU64, stop: &AtomicBool) -> u64 {
    let (mut wire, mut answered) = (Wire::open(address), 0);
    while !stop.load(Ordering::SeqCst) {
        let n = number.fetch_add(1, Ordering::SeqCst);
        let agent = "x".repeat(200 + n as usize % 200);
        let call = match n % 4 {
            0 => format!("GET /admin/{n}?a{n}=b HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: {agent}\r\n\r\n"),
            1 => format!("GET /public/{n}/../x HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: {agent}\r\n\r\n"),
            2 => format!("GET /docs/{n} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer a.{n}.c\r\n\r\n"),
            _ => {
                format!("POST /admin/{n} HTTP/1.1\r\nHost: host-{n}.example.com\r\nContent-Length: 0\r\n\r\n")
            }
        };
        wire.send(call);
        let answer = wire.answer().unwrap();
        assert!((400..404).contains(&answer.status), "{}", answer.head);
        answered += 1;
    }
    answered
}

#[test]
fn a_service_without_outcomes_says_so_in_each_allow_and_leaves_nothing_open() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).service("records = { outcomes = false }").start();
    let index = gate.client().get("/public/x", None).record();
    assert_eq!(gate.record(index)["outcome"], "none");
    let site = gate.kill();
    let site = site.start().stop();
    assert!(log::outcomes(&site.records()).is_empty(), "there was nothing to close");
    site.verify();
}

#[test]
fn each_detail_tells_what_it_is_to_tell() {
    let upstream = Upstream::start(Act::Answer);
    for (detail, has, has_not) in [
        ("minimal", vec!["path"], vec!["user_agent", "query", "trace_id", "version"]),
        ("standard", vec!["path", "user_agent", "query", "trace_id"], vec!["version", "fields"]),
        ("full", vec!["user_agent", "query", "version", "fields", "content_type", "content_length"], vec![]),
    ] {
        let gate = Setup::new(&upstream).service(&format!("records = {{ detail = {detail:?} }}")).start();
        let fields = [
            ("user-agent", "curl/8"),
            ("content-type", "text/plain"),
            ("content-length", "0"),
            ("x-secret", "geheim"),
        ];
        let index = gate.client().call("POST", "/public/x?page=geheim", None, &fields).record();
        let request = &gate.record(index)["request"];
        for key in has {
            assert!(!request[key].is_null(), "{detail}: {request} has no {key}");
        }
        for key in has_not {
            assert!(request[key].is_null(), "{detail}: {request} has {key}");
        }
        assert!(!request.to_string().contains("geheim"), "{request}");
        gate.stop().verify();
    }
}

#[test]
fn a_redacted_segment_stands_nowhere_on_disk_and_is_forwarded_all_the_same() {
    let upstream = Upstream::start(Act::Answer);
    let gate =
        Setup::new(&upstream).service("redact = [\"/public/invite/{}/accept\", \"/admin/reset/{}\"]").start();
    let secret = "k3y-0f-the-h0use";
    let answer = gate.client().get(&format!("/public/invite/{secret}/accept"), None);
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.only().target, format!("/public/invite/{secret}/accept"));
    let shown = json!({ "redacted": "/public/invite/{}/accept" });
    assert_eq!(gate.record(answer.record())["request"]["path"], shown);
    for target in [
        format!("/admin/reset/{secret}"),
        format!("/public//invite/{secret}/accept"),
        format!("/x/../public/%69nvite/{secret}/accept"),
        format!("/public/invite/{secret}/accept<"),
        format!("/ADMIN/reset/{secret}/"),
    ] {
        let mut wire = gate.wire();
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert!(wire.answer().unwrap().status >= 400, "{target}");
    }
    let auditor = Signer::usual().token("ann", &["auditor"]);
    let listed = gate.admin().get("/v1/records?path_prefix=/public/invite/", Some(&auditor)).json();
    assert!(listed["records"].as_array().unwrap().iter().any(|record| record["request"]["path"] == shown));
    let said = gate.said();
    let site = gate.stop();
    site.verify();
    assert!(!site.records().iter().any(|record| record.to_string().contains(secret)), "on record");
    assert!(!said.contains(secret) && !site.said().contains(secret), "on stderr");
    for entry in std::fs::read_dir(site.log_dir()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", path.display());
    }
}

#[test]
fn health_checks_are_marked_and_left_out_unless_asked_for_and_a_denied_one_is_not_hidden() {
    let upstream = Upstream::start(Act::Answer);
    let checks = "health_checks = { networks = [\"127.0.0.0/8\"], paths = [\"/public/healthz\", \"/admin/healthz\"], \
                  user_agents = [\"kube-probe/*\"] }";
    let gate = Setup::new(&upstream).service(checks).start();
    let probe = [("user-agent", "kube-probe/1.31")];
    let check = gate.client().call("GET", "/public/healthz", None, &probe).record();
    let other = gate.client().call("GET", "/public/healthz", None, &[("user-agent", "curl/8")]).record();
    let denied = gate.client().call("GET", "/admin/healthz", None, &probe).record();
    gate.outcome_of(check);
    gate.outcome_of(other);
    let auditor = Signer::usual().token("ann", &["auditor"]);
    let listed = |query: &str| -> Vec<u64> {
        let answer = gate.admin().get(&format!("/v1/records?service=app{query}"), Some(&auditor)).json();
        answer["records"].as_array().unwrap().iter().map(|record| record["index"].as_u64().unwrap()).collect()
    };
    assert_eq!(listed(""), [denied, other]);
    assert_eq!(listed("&health_checks=include"), [denied, other, check]);
    assert_eq!(listed("&health_checks=only"), [check]);
    let outcomes = gate.admin().get("/v1/records?kind=outcome&health_checks=only", Some(&auditor)).json();
    let outcomes = outcomes["records"].as_array().unwrap().clone();
    assert_eq!((outcomes.len(), &outcomes[0]["decision_index"]), (1, &json!(check)));
    assert_eq!(gate.admin().get("/v1/records?health_checks=perhaps", Some(&auditor)).status, 400);
    gate.stop().verify();
}
