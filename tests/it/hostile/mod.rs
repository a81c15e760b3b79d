//! What hostile callers send: tables that anyone can extend with a line, and one driver for each.
//!
//! Every case goes over real sockets to the real binary, and three things are asserted: the answer, what reached the
//! service, and the record.

mod neighbours;
mod smuggling;
mod table;
mod tokens;

use self::table::rows;
use crate::support::frames::{self, Ended};
use crate::support::{Act, Answer, Client, Gate, Setup, Signer, Upstream, Wire};

const HOST: &str = crate::support::client::HOST;

/// A gate over plain sockets and one over TLS, each before a service of its own.
fn gates(setup: impl Fn(Setup) -> Setup) -> Vec<(Upstream, Gate)> {
    [false, true]
        .into_iter()
        .map(|tls| {
            let upstream = Upstream::start(Act::Answer);
            let here = setup(Setup::new(&upstream));
            let gate = if tls { here.tls() } else { here }.start();
            (upstream, gate)
        })
        .collect()
}

/// The record that an answer names says `reason`, and the service has got what it was to get and nothing else.
#[track_caller]
fn is_on_record(gate: &Gate, upstream: &Upstream, before: usize, index: u64, reason: &str, what: &str) {
    let record = gate.record(index);
    let allowed = reason == "policy_allow";
    let decision = if allowed { "allow" } else { "deny" };
    assert_eq!(
        (record["decision"].as_str(), record["reason"].as_str()),
        (Some(decision), Some(reason)),
        "{what}"
    );
    let seen = upstream.seen();
    assert_eq!(seen.len() - before, usize::from(allowed), "{what} reached the service");
    if allowed {
        let path = seen.last().unwrap().target.split('?').next().unwrap().to_owned();
        assert_eq!(
            record["request"]["path"].as_str(),
            Some(path.as_str()),
            "{what} was forwarded as decided"
        );
    }
}

#[test]
fn targets() {
    for row in rows(include_str!("targets.tsv")) {
        let [_, _, _, opt_in, with_it, _] = row.fields();
        assert_eq!(opt_in == "-", with_it == "-", "{row}");
    }
    every_target(&gates(|setup| setup), None);
    for opt_in in ["encoded_slash", "encoded_percent", "semicolon", "look_alike"] {
        every_target(&gates(|setup| setup.service(&format!("allow = [{opt_in:?}]"))), Some(opt_in));
    }
}

/// Tries the targets: all of them where no service opted into anything, else those that the opt-in is about.
fn every_target(gates: &[(Upstream, Gate)], opted_in: Option<&str>) {
    for (upstream, gate) in gates {
        for row in rows(include_str!("targets.tsv")) {
            let [target, status, reason, opt_in, with_it, _] = row.fields();
            let (status, reason) = match opted_in {
                None => (status, Some(reason)),
                Some(opted_in) if opted_in == opt_in => (with_it, None),
                Some(_) => continue,
            };
            for (how, answer) in ways(gate, &target) {
                let what = format!("{row} {how}");
                let before = upstream.count() - usize::from(answer.status == 200);
                assert_eq!(answer.status.to_string(), status, "{what}");
                let reason = match (&reason, status.as_str()) {
                    (Some(reason), _) => reason.clone(),
                    (None, "200") => "policy_allow".to_owned(),
                    (None, _) => gate.record(answer.record)["reason"].as_str().unwrap().to_owned(),
                };
                is_on_record(gate, upstream, before, answer.record, &reason, &what);
            }
        }
        gate.verify();
    }
}

/// At an origin that folds case, capitals make one thing of two; a service can have them refused.
#[test]
fn targets_of_an_origin_that_folds_case() {
    for (upstream, gate) in gates(|setup| setup.service("fold_case = \"refuse\"")) {
        for row in rows(include_str!("folded.tsv")) {
            let [target, status, reason, _] = row.fields();
            for (how, answer) in ways(&gate, &target) {
                let what = format!("{row} {how}");
                let before = upstream.count() - usize::from(answer.status == 200);
                assert_eq!(answer.status.to_string(), status, "{what}");
                is_on_record(&gate, &upstream, before, answer.record, &reason, &what);
            }
        }
        gate.verify();
    }
}

struct Told {
    status: u16,
    record: u64,
}

/// The target, in each form and over each protocol.
fn ways(gate: &Gate, target: &str) -> Vec<(&'static str, Told)> {
    let raw = |method: &str, form: &str| {
        let mut wire = gate.wire();
        wire.send(format!("{method} {form} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n"));
        let answer = wire.answer().unwrap_or_else(|| panic!("no answer to {form}"));
        Told { status: answer.status, record: answer.record() }
    };
    let scheme = if gate.front_tls() { "https" } else { "http" };
    let mut all = vec![
        ("GET", raw("GET", target)),
        ("POST", raw("POST", target)),
        ("absolute-form", raw("GET", &format!("{scheme}://{HOST}{target}"))),
    ];
    // The library that speaks HTTP/2 here sends no target that it cannot read itself.
    if http::Uri::try_from(target).is_ok() {
        let answer: Answer = gate.client2().get(target, None);
        all.push(("HTTP/2", Told { status: answer.status, record: answer.record() }));
    }
    all
}

#[test]
fn heads() {
    for (upstream, gate) in gates(|setup| setup) {
        for row in rows(include_str!("heads.tsv")) {
            let [bytes, status, reason, _] = row.bytes();
            let (status, reason) = (String::from_utf8(status).unwrap(), String::from_utf8(reason).unwrap());
            let before = upstream.count();
            let mut wire: Wire = gate.wire();
            wire.send(&bytes);
            // It may not be taken any more.
            let _ = wire.try_send(format!(
                "GET /public/behind HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
            ));
            let answer = wire.answer().unwrap_or_else(|| panic!("no answer to {row}"));
            assert_eq!(answer.status.to_string(), status, "{row}");
            let heard = wire.rest();
            let behind =
                upstream.seen().iter().skip(before).filter(|seen| seen.target == "/public/behind").count();
            let unframed =
                ["malformed_request_line", "malformed_field_line", "malformed_framing", "malformed_fragment"];
            let in_body = reason == "policy_allow" && status == "400";
            if in_body || unframed.contains(&&*reason) {
                assert!(heard.is_empty() && behind == 0, "{row}: what came behind was heard");
            }
            assert_eq!(
                heard.is_empty(),
                behind == 0,
                "{row}: what came behind was answered and not forwarded"
            );
            let record = gate.record(answer.record());
            assert_eq!(record["reason"], *reason, "{row}");
            let reached = upstream.count() - before - behind;
            assert!(reached <= usize::from(record["decision"] == "allow"), "{row} reached the service");
            assert_eq!(status == "200", reached == 1 && !in_body, "{row}");
            if in_body {
                assert_eq!(gate.outcome_of(answer.record())["result"], "aborted", "{row}");
            }
        }
        gate.stop().verify();
    }
}

#[test]
fn fields() {
    let token = Signer::usual().token("alice", &["viewer"]);
    for (upstream, gate) in gates(|setup| setup) {
        for row in rows(include_str!("fields.tsv")) {
            let [field, protected, reason, public, after, _] = row.fields();
            let (name, value) = field.split_once(": ").unwrap();
            for client in [gate.client(), gate.client2()] {
                if client.http2 && ["keep-alive", "proxy-connection"].contains(&&*name.to_ascii_lowercase()) {
                    // HTTP/2 has no place for these; see frames.tsv.
                    continue;
                }
                let what = format!("{row} {}", if client.http2 { "HTTP/2" } else { "HTTP/1.1" });
                let call =
                    |client: &Client, path: &str| client.call("GET", path, Some(&token), &[(name, value)]);
                let before = upstream.count();
                let answer = call(&client, "/admin/x");
                assert_eq!(answer.status.to_string(), protected, "{what}");
                is_on_record(&gate, &upstream, before, answer.record(), &reason, &what);

                let answer = call(&client, "/public/x");
                assert_eq!(answer.status.to_string(), public, "{what}");
                is_on_record(&gate, &upstream, before, answer.record(), "policy_allow", &what);
                let seen = upstream.seen().pop().unwrap();
                let arrived = seen.headers.get_all(name).iter().any(|found| found == value);
                assert_eq!(arrived, after == "kept", "{what}: {:?}", seen.headers);
            }
        }
        gate.stop().verify();
    }
}

#[test]
fn frames() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let usual = [(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", "/public/x")];
    assert_eq!(
        frames::send(gate.front, &usual, None),
        Ended::Answered(Some(200)),
        "these frames are understood"
    );
    for (number, row) in rows(include_str!("frames.tsv")).enumerate() {
        let [change, ended, reason, _] = row.fields();
        let agent = format!("case-{number}");
        let fields = changed(&usual, &change, &agent);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let before = (upstream.count(), resets(&gate));
        let told = match frames::send(gate.front, &fields, None) {
            Ended::Answered(Some(status)) => status.to_string(),
            Ended::Answered(None) => "other".to_owned(),
            Ended::Reset => "reset".to_owned(),
            Ended::Closed => "closed".to_owned(),
        };
        let record = gate.records().into_iter().find(|record| record["request"]["user_agent"] == *agent);
        let found = record.as_ref().map_or("-", |record| record["reason"].as_str().unwrap());
        assert_eq!((&*told, found), (&*ended, &*reason), "{row}");
        assert_eq!(upstream.count() - before.0, usize::from(found == "policy_allow"), "{row}");
        // What the library below refuses by itself is counted.
        let counted = resets(&gate) - before.1;
        assert_eq!(counted, u64::from(matches!(&*told, "reset" | "closed")), "{row}");
    }
    assert_eq!(gate.client2().get("/public/y", None).status, 200, "the gate stands");
    gate.stop().verify();
}

/// The usual fields and an agent, with one added (`+`), taken away (`-`) or replaced (`=`).
fn changed(usual: &[(&str, &str)], change: &str, agent: &str) -> Vec<(String, String)> {
    let (how, field) = change.split_at(1);
    let (name, value) = field.split_at(field.get(1..).unwrap().find(':').map_or(field.len(), |at| at + 1));
    let value = value.strip_prefix(": ").unwrap_or(value).to_owned();
    let mut fields: Vec<(String, String)> =
        usual.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    match how {
        "+" => fields.push((name.to_owned(), value)),
        "-" => fields.retain(|(other, _)| other != name),
        "=" => {
            fields.iter_mut().filter(|(other, _)| other == name).for_each(|field| field.1.clone_from(&value))
        }
        other => panic!("{other} is no change"),
    }
    fields.push(("user-agent".to_owned(), agent.to_owned()));
    fields
}

/// How many streams and connections the library below has ended for a fault.
fn resets(gate: &Gate) -> u64 {
    let answer = gate.health().get("/metrics", None);
    let figures = String::from_utf8(answer.body).unwrap();
    let line =
        figures.lines().find(|line| line.starts_with("portcullis_connection_faults_total{kind=\"http2\"}"));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}
