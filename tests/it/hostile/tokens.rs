//! Tokens that are wrong in every way.

use serde_json::{Value, json};

use super::table::{Row, rows};
use crate::support::client::full;
use crate::support::tokens::{claims, now, rsa_public_pem, sign_by_hmac, sign_text};
use crate::support::{Act, Answer, Client, Setup, Signer, Upstream, poll};

#[test]
fn tokens() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    for row in rows(include_str!("tokens.tsv")) {
        let [header, claims_patch, signature, place, status, reason, _] = row.fields();
        let header = text(&json!({ "typ": "JWT", "alg": "ES256", "kid": "usual" }), &header);
        let token = signed(&row, &header, &text(&claims("alice", &["viewer"]), &claims_patch), &signature);
        for client in [gate.client(), gate.client2()] {
            let what = format!("{row} {}", if client.http2 { "HTTP/2" } else { "HTTP/1.1" });
            let before = upstream.count();
            let answer = sent(&row, &client, &token, &place);
            assert_eq!(answer.status.to_string(), status, "{what}");
            assert_eq!(answer.header("www-authenticate").is_some(), status == "401", "{what}");
            let record = gate.record(answer.record());
            assert_eq!(record["reason"], *reason, "{what}");
            assert_eq!(upstream.count() - before, usize::from(status == "200"), "{what} reached the service");
            let secret = token.rsplit('.').next().unwrap();
            assert!(
                secret.len() < 8 || !record.to_string().contains(secret),
                "{what}: the token is on record"
            );
        }
    }
    let said = gate.said();
    assert!(!said.contains("eyJ"), "a token was logged: {said}");
    gate.stop().verify();
}

/// `good` with the members of `patch` laid over it, as text.
fn text(good: &Value, patch: &str) -> String {
    if let Some(first) = patch.strip_prefix("twice:") {
        let good = good.to_string();
        return format!("{},{}", first.strip_suffix('}').unwrap(), good.strip_prefix('{').unwrap());
    }
    let mut laid = good.clone();
    let members = laid.as_object_mut().unwrap();
    // What is no JSON is to get there as it is.
    let Ok(Value::Object(patch)) = serde_json::from_str(patch) else {
        return format!(
            "{},{}",
            patch.strip_suffix('}').unwrap(),
            good.to_string().strip_prefix('{').unwrap()
        );
    };
    for (name, value) in patch {
        match value {
            Value::Null if name != "alg" => drop(members.remove(&name)),
            Value::Object(when) if when.contains_key("now") => {
                members.insert(name, json!(now() + when["now"].as_i64().unwrap()));
            }
            value => drop(members.insert(name, value)),
        }
    }
    laid.to_string()
}

fn signed(row: &Row, header: &str, claims: &str, how: &str) -> String {
    let usual = || sign_text(Signer::usual(), header, claims);
    let message = || usual().rsplit_once('.').unwrap().0.to_owned();
    match how {
        "usual" => usual(),
        "stranger" => sign_text(&Signer::new("ES256", "usual"), header, claims),
        "none" => format!("{}.", message()),
        "changed" => {
            let token = usual();
            let (message, signature) = token.rsplit_once('.').unwrap();
            let first = if signature.starts_with('A') { 'B' } else { 'A' };
            format!("{message}.{first}{}", &signature[1..])
        }
        "hmac" => {
            let parts: Vec<Value> =
                [header, claims].iter().map(|part| serde_json::from_str(part).unwrap()).collect();
            sign_by_hmac(&parts[0], &parts[1], rsa_public_pem().as_bytes())
        }
        other => panic!("{row}: {other} is no signature"),
    }
}

fn sent(row: &Row, client: &Client, token: &str, place: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let with = |fields: &[(&str, &str)]| client.call("GET", "/docs/x", None, fields);
    match place {
        "bearer" => with(&[("authorization", &bearer)]),
        "twice" => with(&[("authorization", &bearer), ("authorization", &bearer)]),
        "basic" => with(&[("authorization", &format!("Basic {token}"))]),
        "lower" => with(&[("authorization", &format!("bearer {token}"))]),
        "padded" => with(&[("authorization", &format!("{bearer} x"))]),
        "bare" => with(&[("authorization", token)]),
        "huge" => with(&[("authorization", &format!("{bearer}{}", "A".repeat(9_000)))]),
        "cookie" => with(&[("cookie", &format!("access_token={token}"))]),
        "query" => client.call("GET", &format!("/docs/x?access_token={token}"), None, &[]),
        "body" => {
            let body = format!("access_token={token}&{}", "x".repeat(1 << 20));
            client.send(client.request("GET", "/docs/x", None, &[], full(body)))
        }
        other => panic!("{row}: {other} is no place"),
    }
}

#[test]
fn a_token_that_expires_while_its_answer_streams_ends_with_it() {
    let upstream = Upstream::start(Act::HoldBody);
    let gate = Setup::new(&upstream).tables("[identity]\nleeway = \"0s\"").start();
    let mut claims = claims("alice", &["viewer"]);
    claims["exp"] = json!(now() + 2);
    let token = Signer::usual().sign(&claims);
    let client = gate.client();
    let streaming = {
        let token = token.clone();
        std::thread::spawn(move || client.get("/docs/x", Some(&token)))
    };
    // Calls made with it are refused once it has expired, the one that was let in goes on to its end.
    poll("the token to expire", || {
        let answer = gate.client().call("GET", "/admin/x", Some(&token), &[]);
        (gate.record(answer.record())["reason"] == "credential_expired").then_some(())
    });
    assert!(!streaming.is_finished());
    upstream.release();
    assert_eq!(streaming.join().unwrap().status, 200);
    gate.stop().verify();
}
