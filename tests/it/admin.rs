//! The admin API: records by filter and in pages, one record, the checkpoint, policy and status.

use portcullis::audit::checkpoint::{Checkpoint, VerifierKey};
use serde_json::Value;

use crate::support::{Act, Answer, Gate, Setup, Signer, Upstream, log};

/// A gate with some calls on record, and its reader.
struct Reader {
    gate: Gate,
    token: String,
    _upstream: Upstream,
}

impl Reader {
    fn new() -> Self {
        let upstream = Upstream::start(Act::Answer);
        let gate = Setup::new(&upstream).start();
        let alice = Signer::usual().token("alice", &["viewer"]);
        let erin = Signer::usual().token("erin", &["admin"]);
        for (path, token) in [
            ("/public/1", None),
            ("/docs/2", Some(&alice)),
            ("/admin/3", Some(&alice)),
            ("/admin/4", Some(&erin)),
            ("/public/../5", None),
            ("/docs/6", Some(&alice)),
            ("/admin/7", None),
        ] {
            gate.client().get(path, token.map(String::as_str));
        }
        Self { gate, token: Signer::usual().token("carol", &["auditor"]), _upstream: upstream }
    }

    fn get(&self, path: &str) -> Answer {
        self.gate.admin().get(path, Some(&self.token))
    }

    /// The paths on record, or the targets where there is none, of the front's decisions among the records asked for.
    fn paths(&self, query: &str) -> Vec<String> {
        let answer = self.get(&format!("/v1/records?{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let request = |record: &Value| {
            let request = &record["request"];
            request["path"].as_str().or(request["target"].as_str()).map(str::to_owned)
        };
        let page = answer.json();
        let records = page["records"].as_array().unwrap().iter();
        records.filter(|record| record["request"]["service"] != "admin").filter_map(request).collect()
    }
}

#[test]
fn records_are_found_by_filter() {
    let reader = Reader::new();
    for (query, found) in [
        ("subject=alice&order=oldest", vec!["/docs/2", "/admin/3", "/docs/6"]),
        ("subject=user:alice&decision=deny", vec!["/admin/3"]),
        ("subject=role:admin", vec!["/admin/4"]),
        ("subject=anonymous&order=oldest", vec!["/public/1", "/admin/7"]),
        ("service=app&decision=allow&order=oldest", vec!["/public/1", "/docs/2", "/admin/4", "/docs/6"]),
        ("reason=malformed_dot_segment", vec!["/public/../5"]),
        ("reason=no_match&order=oldest", vec!["/admin/3", "/admin/7"]),
        ("path_prefix=/admin/&order=oldest", vec!["/admin/3", "/admin/4", "/admin/7"]),
        ("path_prefix=/admin/", vec!["/admin/7", "/admin/4", "/admin/3"]),
        ("path_prefix=/admin/&limit=2", vec!["/admin/7", "/admin/4"]),
        ("kind=decision&subject=nobody", vec![]),
        ("from=2099-01-01T00:00:00Z", vec![]),
        ("to=2020-01-01T00:00:00Z", vec![]),
    ] {
        let mut paths = reader.paths(query);
        if query.starts_with("subject=anonymous") {
            // Whether a call without a reading has a caller is not what is asked here.
            paths.retain(|path| !path.contains(".."));
        }
        assert_eq!(paths, found, "{query}");
    }
}

#[test]
fn records_are_found_by_time() {
    let reader = Reader::new();
    let records = reader.gate.records();
    let at = |path: &str| {
        let record = records.iter().find(|record| record["request"]["path"] == path).unwrap();
        record["time"].as_str().unwrap().to_owned()
    };
    let (from, to) = (at("/docs/2"), at("/admin/4"));
    let found = reader.paths(&format!("from={from}&to={to}&order=oldest"));
    assert_eq!(found, ["/docs/2", "/admin/3"], "from is within, to is not");
}

#[test]
fn pages_follow_each_other_both_ways_without_gap_or_repeat() {
    let reader = Reader::new();
    let size = reader.gate.records().len() as u64;
    for (order, newest_first) in [("oldest", false), ("newest", true)] {
        let mut indexes = Vec::new();
        let mut query = format!("order={order}&limit=3&to=2099-01-01T00:00:00Z");
        loop {
            let page = reader.get(&format!("/v1/records?{query}")).json();
            let records = page["records"].as_array().unwrap();
            assert!(records.len() <= 3);
            indexes.extend(records.iter().map(|record| record["index"].as_u64().unwrap()));
            match page["next"].as_str() {
                // The reading itself makes records: upwards there is always more.
                Some(next) if newest_first || indexes.len() < size as usize => {
                    query = format!("limit=3&cursor={next}");
                }
                _ => break,
            }
        }
        let first = indexes[0];
        let expected: Vec<u64> = if newest_first {
            assert!(first >= size);
            (0..=first).rev().collect()
        } else {
            assert_eq!(first, 0);
            (0..indexes.len() as u64).collect()
        };
        assert_eq!(indexes, expected, "{order}");
    }
}

#[test]
fn a_record_is_given_as_stored_byte_for_byte() {
    let reader = Reader::new();
    let stored = log::stored(&reader.gate.log_dir());
    for (index, bytes) in stored.iter().enumerate() {
        let answer = reader.get(&format!("/v1/records/{index}"));
        assert_eq!((answer.status, &answer.body), (200, bytes));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let head = reader.gate.admin().call("HEAD", "/v1/records/0", Some(&reader.token), &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn the_checkpoint_is_signed_and_covers_every_record_acknowledged_before() {
    let reader = Reader::new();
    let before = reader.gate.records().len() as u64;
    let answer = reader.get("/checkpoint");
    let checkpoint = Checkpoint::open(&answer.body, &VerifierKey::parse(&reader.gate.vkey).unwrap()).unwrap();
    assert_eq!(checkpoint.origin(), crate::support::gate::ORIGIN);
    assert!(checkpoint.size() > before);
    assert!(checkpoint.size() > answer.record(), "its own reading is covered");
    // It can be held against the log from then on.
    let site = reader.gate.stop();
    std::fs::write(site.path("kept"), &answer.body).unwrap();
    let output = site.command(&["audit", "verify", "--config", "gate.toml", "--against", "kept"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn policy_and_status_tell_what_is_in_force() {
    let reader = Reader::new();
    let records = reader.gate.records();
    let decision = records.iter().find(|record| record["kind"] == "decision").unwrap();
    let policy = reader.get("/v1/policy").json();
    assert_eq!(policy["epoch"], decision["policy"]);
    assert_eq!((policy["rules"].as_u64(), policy["links"].as_u64()), (Some(8), Some(1)));
    assert!(policy["loaded"].is_string() && policy["refused"].is_null(), "{policy}");
    let status = reader.get("/v1/status").json();
    assert_eq!(status["config"]["epoch"], decision["config"]);
    assert_eq!(status["policy"]["epoch"], decision["policy"]);
    assert_eq!(status["log"]["origin"], crate::support::gate::ORIGIN);
    assert_eq!(status["log"]["failed"], false);
    assert!(status["log"]["size"].as_u64().unwrap() >= records.len() as u64);
    assert_eq!(status["issuers"][0]["issuer"], "main");
    assert_eq!(status["issuers"][0]["usable"], true);
}

#[test]
fn what_cannot_be_answered_is_a_problem_that_says_what_to_write() {
    let reader = Reader::new();
    for (path, status, says) in [
        ("/v1/records/999999", 404, "999999"),
        ("/v1/records/x", 400, "whole number"),
        ("/v1/records/-1", 400, "whole number"),
        ("/v1/records?subjct=alice", 400, "subjct"),
        ("/v1/records?decision=maybe", 400, "allow or deny"),
        ("/v1/records?limit=0", 400, "1 to 1000"),
        ("/v1/records?limit=1001", 400, "1 to 1000"),
        ("/v1/records?from=yesterday", 400, "RFC 3339"),
        ("/v1/records?cursor=7", 400, "next"),
        ("/v1/records?order=up", 400, "newest or oldest"),
        ("/v1/nothing", 404, "/v1/records"),
    ] {
        let answer = reader.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        let problem = answer.json();
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().unwrap().contains(says), "{path}: {problem}");
    }
}
