//! P3: what no row allows is denied, a deny overrides every allow, and a failure inside a decision is a recorded deny.

use crate::support::tokens::{AUDIENCE, ISSUER};
use crate::support::{Act, Setup, Signer, Upstream, client::empty};

#[test]
fn what_no_row_allows_is_denied_and_recorded() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let viewer = Signer::usual().token("alice", &["viewer"]);
    let nobody = Signer::usual().token("nobody", &[]);
    for (method, path, token, status) in [
        ("GET", "/elsewhere", Some(&viewer), 403),
        ("POST", "/docs/x", Some(&viewer), 403),
        ("GET", "/docs/x", Some(&nobody), 403),
        ("GET", "/docs/x", None, 401),
        ("GET", "/admin/x", Some(&viewer), 403),
    ] {
        for client in [gate.client(), gate.client2()] {
            let answer = client.call(method, path, token.map(String::as_str), &[]);
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            let record = gate.record(answer.record());
            assert_eq!((&record["decision"], &record["reason"]), (&"deny".into(), &"no_match".into()));
            assert!(!answer.text().contains("docs"), "it tells nothing of the policy: {}", answer.text());
        }
    }
    assert_eq!(upstream.connections(), 0);
    gate.stop().verify();
}

#[test]
fn a_deny_overrides_every_allow_and_its_row_is_on_record() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let token = Signer::usual().token("erin", &["admin", "suspended"]);
    for path in ["/public/x", "/admin/x", "/docs/x"] {
        let answer = gate.client().get(path, Some(&token));
        assert_eq!(answer.status, 403);
        let record = gate.record(answer.record());
        assert_eq!(record["reason"], "policy_deny");
        assert_eq!(
            record["rule"]["row"].as_str().or(record["rule"]["text"].as_str()),
            Some("p, role:suspended, app, /*, .*, deny"),
            "{record}"
        );
        assert_eq!(record["rule"]["line"], 5);
        assert_eq!(record["identity"]["user"], "user:erin");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_credential_that_does_not_hold_is_never_taken_for_none() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let client = gate.client();
    // All may reach it without a credential.
    assert_eq!(client.get("/public/x", None).status, 200);
    for (authorization, reason) in [
        ("Bearer not-a-token", "credential_malformed"),
        ("Bearer ", "credential_malformed"),
        ("Basic dXNlcjpwYXNz", "credential_unsupported_scheme"),
        ("Bearer a b", "credential_malformed"),
    ] {
        for client in [gate.client(), gate.client2()] {
            let headers = [("authorization", authorization)];
            let answer = client.send(client.request("GET", "/public/x", None, &headers, empty()));
            assert_eq!(answer.status, 401, "{authorization}");
            let record = gate.record(answer.record());
            assert_eq!((&record["decision"], &record["reason"]), (&"deny".into(), &reason.into()));
            assert!(!record.to_string().contains("dXNlcjpwYXNz"), "no credential on record");
        }
    }
    assert_eq!(upstream.count(), 1);
    gate.stop().verify();
}

#[test]
fn a_role_that_the_issuer_may_not_grant_is_worth_nothing() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream)
        .issuers(&format!(
            "[[issuer]]\nname = \"main\"\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\nalgorithms = [\"ES256\"]\n\
             jwks_file = \"jwks.json\"\nroles = [\"viewer\"]\n"
        ))
        .start();
    let token = Signer::usual().token("alice", &["admin", "viewer"]);
    assert_eq!(gate.client().get("/docs/x", Some(&token)).status, 200);
    let answer = gate.client().get("/admin/x", Some(&token));
    assert_eq!(answer.status, 403);
    assert_eq!(gate.record(answer.record())["identity"]["roles"], serde_json::json!(["role:viewer"]));
    assert_eq!(upstream.seen().pop().unwrap().headers["x-auth-roles"], "viewer");
}

#[test]
fn a_policy_that_takes_too_long_is_a_recorded_deny() {
    // A pattern over a long path, on enough rows, outlasts a deadline of a millisecond; whichever way it turns out,
    // it is never an allow.
    let rows: String = (0..3000)
        .map(|n| format!("p, role:none{n}, app, /public/a{n}/*, GET|HEAD|POST|PUT|PATCH|DELETE, allow\n"))
        .collect();
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).policy(&rows).policy_keys("timeout = \"1ms\"").start();
    let answer = gate.client().get("/public/x", None);
    assert!(matches!(answer.status, 401 | 503), "{answer:?}");
    let record = gate.record(answer.record());
    assert_eq!(record["decision"], "deny");
    assert!(matches!(record["reason"].as_str(), Some("policy_timeout" | "no_match")), "{record}");
    assert_eq!(upstream.connections(), 0);
}
