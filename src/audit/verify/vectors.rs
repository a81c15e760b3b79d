//! The frozen log in `tests/vectors/log-v1`: written again today, it must come out the same, and it must verify.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::access::recording::Detail;
use crate::access::{Caller, CredentialFault, Decision, Identity, Malformed, ProofMethod, Reason, Rule};
use crate::audit::checkpoint::{Origin, SigningKey};
use crate::audit::record::{
    Body, ClientEntry, DecisionEntry, Epochs, Event, OutcomeEntry, OutcomeResult, Record, RequestEntry,
    Shown, seal,
};

const EPOCHS: Epochs = Epochs { policy: Hash([0x11; 32]), config: Hash([0x22; 32]) };
const SEED: [u8; 32] = [0x07; 32];

const CLIENT: ClientEntry<'static> = ClientEntry {
    ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    port: 50_123,
    via: None,
    tls: Some("TLSv1.3"),
};

const REQUEST: RequestEntry<'static> = RequestEntry {
    id: "0198c1f2-7d3a-7c64-9d0e-2f4b8a6c1e55",
    service: Some("app"),
    method: "GET",
    host: Some(b"app.example.com"),
    path: Some(Shown::Whole(b"/docs/handbook")),
    target: None,
    query: &[b"page", b"sort%20by"],
    user_agent: Some(b"curl/8.5.0"),
    trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
    head: None,
    tag: None,
};

const OUTCOME: OutcomeEntry<'static> = OutcomeEntry {
    decision: 3,
    epochs: EPOCHS,
    result: OutcomeResult::Completed,
    detail: None,
    status: Some(200),
    request_bytes: 0,
    response_bytes: 5_120,
    duration: Duration::from_micros(1_873),
    upstream: Some("http://127.0.0.1:9000"),
    tag: None,
};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/log-v1")
}

fn caller(roles: Vec<String>) -> Caller {
    Caller {
        user: "user:alice".into(),
        roles,
        issuer: "corp".into(),
        method: ProofMethod::Jwt,
        token_id: Some("b1946ac9".into()),
        key_id: Some("2026-01".into()),
        expires: Timestamp::from_micros(0),
        also: None,
    }
}

fn decision(decision: &Decision, identity: &Identity, request: RequestEntry<'_>) -> Body {
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

fn decisions() -> Vec<Body> {
    let row = |text: &str, line| {
        Some(Arc::new(Rule { text: text.into(), file: "policies/policy.csv".into(), line }))
    };
    let allow = Decision::allow(Reason::PolicyAllow, row("p, role:viewer, app, /docs/*, GET, allow", 12));
    let deny = Decision::deny(Reason::PolicyDeny, row("p, role:intern, app, /docs/*, *, deny", 31));
    let no_match = Decision::deny(Reason::NoMatch, None);
    let alice = Identity::Proved(Arc::new(caller(vec!["role:viewer".into(), "role:editor".into()])));
    let many = Identity::Proved(Arc::new(caller((0..1_000).map(|n| format!("role:team-{n:04}")).collect())));
    let foreign = Caller {
        user: "user:partner:zoë \"Z\" \u{1f6aa}\u{202e}".into(),
        method: ProofMethod::Mtls,
        token_id: None,
        key_id: None,
        ..caller(Vec::new())
    };
    let expired = CredentialFault::Expired;
    let long_path = format!("/{}", "a".repeat(20_000));
    let behind_proxy = ClientEntry {
        ip: "2001:db8::7".parse().unwrap(),
        port: 443,
        via: Some("10.0.0.1".parse().unwrap()),
        tls: None,
    };
    vec![
        decision(&allow, &alice, REQUEST),
        decision(&deny, &many, RequestEntry { query: &[], trace_id: None, ..REQUEST }),
        decision(
            &no_match,
            &Identity::Proved(Arc::new(foreign)),
            RequestEntry {
                path: Some(Shown::Whole(long_path.as_bytes())),
                user_agent: Some(b"caf\xe9/1.0"),
                ..REQUEST
            },
        ),
        decision(&Decision::deny(Reason::Credential(expired), None), &Identity::Failed(expired), REQUEST),
        Body::decision(&DecisionEntry {
            decision: &Decision::deny(Reason::Malformed(Malformed::DotSegment), None),
            epochs: EPOCHS,
            identity: &Identity::Anonymous,
            certificate: None,
            client: behind_proxy,
            request: RequestEntry {
                service: None,
                path: None,
                target: Some(Shown::Whole(b"/public/../admin\xff?token=not-to-be-seen")),
                query: &[],
                user_agent: None,
                trace_id: None,
                ..REQUEST
            },
            detail: Detail::Standard,
            outcome_follows: true,
        }),
    ]
}

fn bodies() -> Vec<Body> {
    let origin = "portcullis.example.com/gate-1";
    let vkey = key().verifier().to_string();
    let none = Epochs { policy: Hash::ZERO, config: Hash::ZERO };
    let epoch = Timestamp::from_micros(1_769_860_800_000_000);
    let mut bodies = vec![
        Body::event(&none, &Event::Created { origin, vkey: &vkey, version: "0.1.0" }),
        Body::event(&EPOCHS, &Event::Started { version: "0.1.0" }),
        Body::event(
            &EPOCHS,
            &Event::PolicyLoaded { rows: 42, files: &["policies/model.conf", "policies/policy.csv"] },
        ),
    ];
    bodies.extend(decisions());
    bodies.extend([
        Body::outcome(&OUTCOME),
        Body::outcome(&OutcomeEntry {
            result: OutcomeResult::UpstreamError,
            detail: Some("connect_timeout"),
            status: Some(504),
            ..OUTCOME
        }),
        Body::outcome(&OutcomeEntry {
            result: OutcomeResult::Unknown,
            status: None,
            response_bytes: 0,
            duration: Duration::ZERO,
            upstream: None,
            ..OUTCOME
        }),
        Body::event(&EPOCHS, &Event::PolicyRefused { error: "policies/policy.csv:7: 5 fields, not 6\n" }),
        Body::event(&EPOCHS, &Event::ConfigLoaded),
        Body::event(&EPOCHS, &Event::ConfigRefused { error: "portcullis.toml:3: unknown key `lisen`" }),
        Body::event(&EPOCHS, &Event::ClockJumped { by_us: -3_600_000_000 }),
        Body::event(&EPOCHS, &Event::Sum { what: "tls_handshake_failed", count: 17, since: epoch }),
        Body::event(&EPOCHS, &Event::Stopped),
    ]);
    bodies
}

fn key() -> SigningKey {
    SigningKey::from_seed(Origin::parse("portcullis.example.com/gate-1").unwrap(), &SEED)
}

/// `records.jsonl` and `log.json`, as they come out today.
fn written() -> (String, Value) {
    let (mut tree, mut prev, mut lines) = (Frontier::new(), Hash::ZERO, String::new());
    let (mut leaves, mut roots) = (Vec::new(), vec![tree.root()]);
    let mut checkpoints = vec![key().sign(0, &tree.root())];
    for (index, body) in (0u64..).zip(&bodies()) {
        let mut record = Vec::new();
        let time = Timestamp::from_micros(1_769_860_800_123_456 + 250_001 * index as i64);
        prev = seal(index, &prev, time, body, &mut record);
        tree.push(prev, |_, _| ());
        leaves.push(prev);
        roots.push(tree.root());
        checkpoints.push(key().sign(index + 1, &tree.root()));
        lines.push_str(std::str::from_utf8(&record).unwrap());
        lines.push('\n');
    }
    let hex = |hashes: &[Hash]| hashes.iter().map(Hash::to_string).collect::<Vec<_>>();
    let mut seed = Vec::new();
    Hash(SEED).write_hex(&mut seed);
    let log = json!({
        "origin": key().origin().as_str(),
        "seed": String::from_utf8(seed).unwrap(),
        "vkey": key().verifier().to_string(),
        "leaves": hex(&leaves),
        "roots": hex(&roots),
        "checkpoints": checkpoints,
    });
    (lines, log)
}

fn frozen() -> (String, Value) {
    let records = fs::read_to_string(directory().join("records.jsonl")).unwrap();
    let log = fs::read(directory().join("log.json")).unwrap();
    (records, serde_json::from_slice(&log).unwrap())
}

#[test]
fn what_is_written_today_is_what_was_frozen() {
    let ((records, log), (frozen_records, frozen_log)) = (written(), frozen());
    for (record, frozen) in records.lines().zip(frozen_records.lines()) {
        assert_eq!(record, frozen);
    }
    assert_eq!(records.len(), frozen_records.len());
    assert_eq!(log, frozen_log);
}

#[test]
fn the_frozen_log_verifies() {
    let (records, log) = frozen();
    let key = VerifierKey::parse(log["vkey"].as_str().unwrap()).unwrap();
    let notes: Vec<&str> =
        log["checkpoints"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
    let mut verifier = Verifier::new(key, &notes).unwrap();
    for (index, record) in (0..).zip(records.lines()) {
        verifier.feed(index, record.as_bytes()).unwrap();
        assert_eq!(Record::parse(record.as_bytes()).unwrap().head().index, index);
    }
    let report = verifier.finish().unwrap();
    assert_eq!(report.root.to_string(), log["roots"].as_array().unwrap().last().unwrap().as_str().unwrap());
    assert_eq!(report.checkpoints, notes.len() as u64);
}

#[test]
fn no_secret_is_in_the_frozen_log() {
    assert!(!frozen().0.contains("not-to-be-seen"));
}

#[test]
#[ignore = "writes the vectors anew; only before a version of the format is released"]
fn write_the_vectors() {
    let (records, log) = written();
    fs::create_dir_all(directory()).unwrap();
    fs::write(directory().join("records.jsonl"), records).unwrap();
    fs::write(directory().join("log.json"), serde_json::to_string_pretty(&log).unwrap() + "\n").unwrap();
}
