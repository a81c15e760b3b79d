use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::access::certificate::Names;
use crate::access::{Caller, CredentialFault, Malformed, ProofMethod, Reason, Rule};
use crate::audit::record::{MAX_RECORD_BYTES, Record, seal};

const EPOCHS: Epochs = Epochs { policy: Hash([0x11; 32]), config: Hash([0x22; 32]) };

fn sealed(body: &Body) -> Vec<u8> {
    let mut out = Vec::new();
    seal(u64::MAX, &Hash::ZERO, Timestamp::from_micros(0), body, &mut out);
    out
}

/// The fields after `config`, as JSON.
fn fields(body: &Body) -> serde_json::Value {
    let bytes = sealed(body);
    let record = Record::parse(&bytes).unwrap();
    assert_eq!(record.text(&["policy"]), Some(EPOCHS.policy.to_string().as_str()));
    assert_eq!(record.text(&["config"]), Some(EPOCHS.config.to_string().as_str()));
    record.fields().clone().into_iter().skip(7).collect::<serde_json::Map<_, _>>().into()
}

fn request() -> RequestEntry<'static> {
    RequestEntry {
        id: "req-1",
        service: Some("app"),
        method: "GET",
        host: Some(b"app.example.com"),
        path: Some(Shown::Whole(b"/docs/a%20b")),
        target: None,
        query: &[b"page", b"q%20"],
        user_agent: Some(b"curl/8"),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
        head: None,
        tag: None,
    }
}

const CLIENT: ClientEntry<'static> = ClientEntry {
    ip: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    port: 50_000,
    via: None,
    tls: Some("TLSv1.3"),
};

fn caller() -> Caller {
    Caller {
        user: "user:alice".into(),
        roles: vec!["role:viewer".into(), "role:editor".into()],
        issuer: "corp".into(),
        method: ProofMethod::Jwt,
        token_id: Some("t-1".into()),
        key_id: Some("k-1".into()),
        expires: Timestamp::from_micros(0),
        also: None,
    }
}

fn decision_body(decision: &Decision, identity: &Identity, request: RequestEntry<'_>) -> Body {
    Body::decision(&DecisionEntry {
        decision,
        epochs: EPOCHS,
        identity,
        certificate: None,
        client: CLIENT,
        request,
        detail: Detail::Standard,
        outcome_follows: true,
    })
}

#[test]
fn a_decision_says_who_asked_for_what_and_why_it_was_decided() {
    let rule =
        Rule { text: "p, role:viewer, app, /docs/*, GET, allow".into(), file: "policy.csv".into(), line: 3 };
    let decision = Decision::allow(Reason::PolicyAllow, Some(Arc::new(rule)));
    let body = decision_body(&decision, &Identity::Proved(Arc::new(caller())), request());
    let expected = json!({
        "decision": "allow",
        "reason": "policy_allow",
        "rule": {"text": "p, role:viewer, app, /docs/*, GET, allow", "file": "policy.csv", "line": 3},
        "identity": {
            "state": "proved", "user": "user:alice", "roles": ["role:viewer", "role:editor"],
            "issuer": "corp", "method": "jwt", "jti": "t-1", "kid": "k-1",
        },
        "client": {"ip": "127.0.0.1", "port": 50000, "tls": "TLSv1.3"},
        "request": {
            "id": "req-1", "service": "app", "method": "GET", "host": "app.example.com", "path": "/docs/a%20b",
            "query": ["page", "q%20"], "user_agent": "curl/8", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        },
    });
    // Compared as text: order counts.
    assert_eq!(fields(&body).to_string(), expected.to_string());
}

#[test]
fn a_decision_names_the_certificate_and_both_callers_where_two_proofs_were_shown() {
    let certificate =
        ClientCertificate::new(vec![], Hash([0xab; 32]), "07ff".into(), Names::default(), CLIENT_TIME);
    let also = Caller {
        user: "user:mtls:spiffe://example.org/web".into(),
        roles: vec![],
        issuer: "mtls".into(),
        method: ProofMethod::Mtls,
        token_id: None,
        key_id: None,
        ..caller()
    };
    let identity = Identity::Proved(Arc::new(Caller { also: Some(Arc::new(also)), ..caller() }));
    let entry = DecisionEntry {
        decision: &Decision::deny(Reason::NoMatch, None),
        epochs: EPOCHS,
        identity: &identity,
        certificate: Some(&certificate),
        client: CLIENT,
        request: request(),
        detail: Detail::Standard,
        outcome_follows: true,
    };
    let expected = json!({
        "state": "proved", "user": "user:alice", "roles": ["role:viewer", "role:editor"],
        "issuer": "corp", "method": "jwt", "jti": "t-1", "kid": "k-1",
        "also": {"user": "user:mtls:spiffe://example.org/web", "issuer": "mtls", "method": "mtls"},
        "certificate": {"sha256": "ab".repeat(32), "serial": "07ff"},
    });
    assert_eq!(fields(&Body::decision(&entry))["identity"].to_string(), expected.to_string());
}

const CLIENT_TIME: Timestamp = Timestamp::from_micros(0);

#[test]
fn what_is_absent_is_left_out() {
    let bare = RequestEntry {
        id: "",
        service: None,
        method: "GET",
        host: None,
        path: None,
        target: Some(Shown::Whole(b"*")),
        query: &[],
        user_agent: None,
        trace_id: None,
        head: None,
        tag: None,
    };
    let entry = DecisionEntry {
        decision: &Decision::deny(Reason::Malformed(Malformed::Target), None),
        epochs: EPOCHS,
        identity: &Identity::Anonymous,
        certificate: None,
        client: ClientEntry { via: Some("::1".parse().unwrap()), tls: None, ..CLIENT },
        request: bare,
        detail: Detail::Standard,
        outcome_follows: true,
    };
    let expected = json!({
        "decision": "deny",
        "reason": "malformed_target",
        "identity": {"state": "anonymous", "user": "anonymous"},
        "client": {"ip": "127.0.0.1", "port": 50000, "via": "::1"},
        "request": {"id": "", "method": "GET", "target": "*"},
    });
    assert_eq!(fields(&Body::decision(&entry)).to_string(), expected.to_string());
}

#[test]
fn a_failed_proof_names_its_fault_and_no_user() {
    let fault = CredentialFault::Expired;
    let decision = Decision::deny(Reason::Credential(fault), None);
    let fields = fields(&decision_body(&decision, &Identity::Failed(fault), request()));
    assert_eq!(fields["identity"], json!({"state": "failed", "fault": "credential_expired"}));
}

#[test]
fn secrets_in_a_malformed_target_or_host_are_not_written() {
    let table: &[(&[u8], &str)] = &[
        (b"/a/../b?token=s3cret", "/a/../b?"),
        (b"/a#access_token=s3cret", "/a#"),
        (b"/a#f?token=s3cret", "/a#"),
        (b"/a/@team/x", "/a/@team/x"),
        (b"http://me:s3cret@app/x", "*@app/x"),
        (b"http:\\\\me:s3cret@app/x", "*@app/x"),
        (b"//me:s3cret@app/x", "*@app/x"),
        (b"/\\me:s3cret@app/x", "*@app/x"),
        (b"me:s3cret@app:443", "*@app:443"),
        (b"me:s3@cret@app:443?x", "*@app:443?"),
        (b"", ""),
    ];
    for (target, written) in table {
        let entry = RequestEntry { path: None, target: Some(Shown::Whole(target)), ..request() };
        let decision = Decision::deny(Reason::Malformed(Malformed::Target), None);
        let fields = fields(&decision_body(&decision, &Identity::Anonymous, entry));
        assert_eq!(fields["request"]["target"], json!(written));
    }
    let entry = RequestEntry { host: Some(b"me:s3cret@app"), ..request() };
    let decision = Decision::deny(Reason::Malformed(Malformed::Host), None);
    let fields = fields(&decision_body(&decision, &Identity::Anonymous, entry));
    assert_eq!(fields["request"]["host"], json!("*@app"));
}

#[test]
fn an_outcome_says_what_became_of_which_decision() {
    let mut entry = OutcomeEntry {
        decision: 41,
        epochs: EPOCHS,
        result: OutcomeResult::UpstreamError,
        detail: Some("connect_timeout"),
        status: Some(504),
        request_bytes: 7,
        response_bytes: u64::MAX,
        duration: Duration::from_micros(1_234),
        upstream: Some("http://127.0.0.1:9000"),
        tag: None,
    };
    let expected = json!({
        "decision_index": 41, "result": "upstream_error", "detail": "connect_timeout", "status": 504,
        "request_bytes": 7, "response_bytes": u64::MAX, "duration_us": 1234, "upstream": "http://127.0.0.1:9000",
    });
    assert_eq!(fields(&Body::outcome(&entry)).to_string(), expected.to_string());
    entry = OutcomeEntry { detail: None, status: None, upstream: None, duration: Duration::MAX, ..entry };
    entry.result = OutcomeResult::Unknown;
    let expected = json!({
        "decision_index": 41, "result": "unknown", "request_bytes": 7, "response_bytes": u64::MAX,
        "duration_us": u64::MAX,
    });
    assert_eq!(fields(&Body::outcome(&entry)).to_string(), expected.to_string());
}

#[test]
fn an_event_says_what_happened_to_the_gate() {
    let since = Timestamp::from_micros(0);
    let table = [
        (
            Event::Created { origin: "o", vkey: "o+1+k", version: "0.1.0" },
            "lifecycle",
            json!({"event": "created", "origin": "o", "vkey": "o+1+k", "version": "0.1.0"}),
        ),
        (Event::Started { version: "0.1.0" }, "lifecycle", json!({"event": "started", "version": "0.1.0"})),
        (Event::Stopped, "lifecycle", json!({"event": "stopped"})),
        (Event::HandedOver, "lifecycle", json!({"event": "handed_over"})),
        (
            Event::ClockJumped { by_us: i64::MIN },
            "lifecycle",
            json!({"event": "clock_jumped", "by_us": i64::MIN}),
        ),
        (
            Event::Disk { room: Room::Full, free_bytes: 4_096 },
            "lifecycle",
            json!({"event": "disk_full", "free_bytes": 4_096}),
        ),
        (
            Event::PolicyLoaded { rows: 3, files: &["a.conf", "b.csv"] },
            "policy",
            json!({"event": "loaded", "rows": 3, "files": ["a.conf", "b.csv"]}),
        ),
        (
            Event::PolicyRefused { error: "b.csv:3: \"" },
            "policy",
            json!({"event": "refused", "error": "b.csv:3: \""}),
        ),
        (Event::ConfigLoaded, "config", json!({"event": "loaded"})),
        (Event::ConfigRefused { error: "e" }, "config", json!({"event": "refused", "error": "e"})),
        (
            Event::Sum { what: "tls_handshake_failed", count: 5, since },
            "summary",
            json!({"event": "tls_handshake_failed", "count": 5, "since": "1970-01-01T00:00:00.000000Z"}),
        ),
    ];
    for (event, kind, expected) in table {
        let body = Body::event(&EPOCHS, &event);
        assert_eq!(body.kind().as_str(), kind);
        assert_eq!(fields(&body).to_string(), expected.to_string());
    }
}

/// Bytes of every sort, up to far more than any field holds.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let seed = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..40),
        Just(vec![0]),
        Just("\u{1f6aa}".as_bytes().to_vec()),
        Just(vec![b'"']),
        Just(vec![0xff]),
        Just(vec![b'a']),
    ];
    (seed, prop_oneof![0usize..40, 8_000..20_000usize, 1usize..200_000])
        .prop_map(|(seed, length)| seed.iter().copied().cycle().take(length).collect())
}

fn hostile_text() -> impl Strategy<Value = String> {
    hostile().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn hostile_list() -> impl Strategy<Value = Vec<Vec<u8>>> {
    (proptest::collection::vec(hostile(), 0..4), 0usize..400)
        .prop_map(|(items, repeat)| items.iter().cycle().take(items.len() * repeat).cloned().collect())
        .prop_filter("bounded", |list: &Vec<Vec<u8>>| list.iter().map(Vec::len).sum::<usize>() < 4_000_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_decision_exceeds_a_record(
        texts in proptest::array::uniform10(hostile_text()),
        bytes in proptest::array::uniform3(hostile()),
        (roles, query) in (hostile_list(), hostile_list()),
        shown_path in any::<bool>(),
    ) {
        let [rule_text, file, user, issuer, jti, kid, id, service, path, trace_id] = texts;
        let [host, target, user_agent] = bytes;
        let roles = roles.iter().map(|r| String::from_utf8_lossy(r).into_owned()).collect();
        let query: Vec<&[u8]> = query.iter().map(Vec::as_slice).collect();
        let caller = Caller { user, roles, issuer, token_id: Some(jti), key_id: Some(kid), ..caller() };
        let caller = Caller { also: Some(Arc::new(caller.clone())), ..caller };
        let certificate =
            ClientCertificate::new(vec![], Hash::ZERO, path.clone(), Names::default(), CLIENT_TIME);
        let rule = Rule { text: rule_text, file, line: u32::MAX };
        let request = RequestEntry {
            id: &id,
            service: Some(&service),
            method: &trace_id,
            host: Some(&host),
            path: shown_path.then_some(Shown::Whole(path.as_bytes())),
            target: Some(Shown::Whole(&target)),
            query: &query,
            user_agent: Some(&user_agent),
            trace_id: Some(&trace_id),
            head: Some(HeadEntry {
                version: &trace_id,
                fields: &query,
                content_type: Some(&user_agent),
                content_length: Some(u64::MAX),
            }),
            tag: Some(&service),
        };
        let v6 = "fe80:1111:2222:3333:4444:5555:6666:7777".parse().unwrap();
        let entry = DecisionEntry {
            decision: &Decision::deny(Reason::PolicyDeny, Some(Arc::new(rule))),
            epochs: EPOCHS,
            identity: &Identity::Proved(Arc::new(caller)),
            certificate: Some(&certificate),
            client: ClientEntry { ip: v6, port: u16::MAX, via: Some(v6), tls: Some(&service) },
            request,
            detail: Detail::Full,
            outcome_follows: false,
        };
        let body = Body::decision(&entry);
        prop_assert!(body.bytes.len() <= budget::DECISION);
        let record = sealed(&body);
        prop_assert!(record.len() <= MAX_RECORD_BYTES);
        prop_assert!(Record::parse(&record).is_ok());
    }

    #[test]
    fn no_outcome_or_event_exceeds_a_record(
        texts in proptest::array::uniform4(hostile_text()), files in hostile_list()
    ) {
        let [a, b, c, d] = &texts;
        let outcome = OutcomeEntry {
            decision: u64::MAX,
            epochs: EPOCHS,
            result: OutcomeResult::NotForwarded,
            detail: Some(a),
            status: Some(u16::MAX),
            request_bytes: u64::MAX,
            response_bytes: u64::MAX,
            duration: Duration::MAX,
            upstream: Some(b),
            tag: Some(c),
        };
        let files: Vec<String> = files.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let events = [
            Event::Created { origin: a, vkey: b, version: c },
            Event::PolicyLoaded { rows: u64::MAX, files: &files },
            Event::PolicyRefused { error: d },
            Event::Sum { what: d, count: u64::MAX, since: Timestamp::from_micros(i64::MAX) },
            Event::Folded {
                decision: u64::MAX,
                count: u64::MAX,
                since: Timestamp::from_micros(i64::MAX),
                network: Some("fe80:1111:2222:3333::/64".parse().unwrap()),
            },
        ];
        let mut bodies = vec![Body::outcome(&outcome)];
        bodies.extend(events.iter().map(|event| Body::event(&EPOCHS, event)));
        for body in bodies {
            let record = sealed(&body);
            prop_assert!(record.len() <= MAX_RECORD_BYTES);
            prop_assert!(Record::parse(&record).is_ok());
        }
    }
}

#[test]
fn each_detail_tells_more_and_none_tells_a_secret() {
    let rule = Rule { text: "p, a, b, c, d, allow".into(), file: "policy.csv".into(), line: 3 };
    let decision = Decision::allow(Reason::PolicyAllow, Some(Arc::new(rule)));
    let identity = Identity::Proved(Arc::new(caller()));
    let told = |detail, outcome_follows, request| {
        fields(&Body::decision(&DecisionEntry {
            decision: &decision,
            epochs: EPOCHS,
            identity: &identity,
            certificate: None,
            client: CLIENT,
            request,
            detail,
            outcome_follows,
        }))
    };
    let minimal = json!({
        "decision": "allow",
        "reason": "policy_allow",
        "rule": {"file": "policy.csv", "line": 3},
        "identity": {"state": "proved", "user": "user:alice", "issuer": "corp", "method": "jwt"},
        "client": {"ip": "127.0.0.1", "port": 50000, "tls": "TLSv1.3"},
        "request": {
            "id": "req-1", "service": "app", "method": "GET", "host": "app.example.com", "path": "/docs/a%20b",
        },
        "outcome": "none",
    });
    assert_eq!(told(Detail::Minimal, false, request()).to_string(), minimal.to_string());

    let head = HeadEntry {
        version: "HTTP/1.1",
        fields: &[b"host", b"authorization"],
        content_type: Some(b"text/plain"),
        content_length: Some(5),
    };
    let full = RequestEntry { head: Some(head), tag: Some("health_check"), ..request() };
    let full = told(Detail::Full, true, full);
    assert_eq!(
        full["request"],
        json!({
            "id": "req-1", "service": "app", "method": "GET", "host": "app.example.com", "path": "/docs/a%20b",
            "query": ["page", "q%20"], "user_agent": "curl/8", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "version": "HTTP/1.1", "fields": ["host", "authorization"], "content_type": "text/plain",
            "content_length": 5, "tag": "health_check",
        })
    );
    assert!(full.get("outcome").is_none());
}

#[test]
fn a_redacted_path_is_an_object_and_its_secret_is_nowhere() {
    let told = |shown: &str| {
        let request = RequestEntry { path: Some(Shown::Redacted(shown)), ..request() };
        fields(&decision_body(&Decision::deny(Reason::NoMatch, None), &Identity::Anonymous, request))["request"]
            ["path"]
            .clone()
    };
    assert_eq!(told("/invite/{}/accept"), json!({"redacted": "/invite/{}/accept"}));
    let long = format!("/invite/{{}}/{}", "x".repeat(20_000));
    assert_eq!(told(&long), json!({"redacted": "/invite/{}/xxx", "cut": true}));
}
