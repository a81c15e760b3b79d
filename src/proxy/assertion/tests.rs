use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::access::attempt::{Attempt, Connection, ReadRules, TrustedProxies};
use crate::access::path::Tolerance;
use crate::access::route::{HostPattern, Preflights, Route, Routes};
use crate::access::{Caller, CredentialFault, ProofMethod, Reason};
use crate::audit::journal::RecordRef;

/// 2026-01-31T12:00:00.9Z: what is issued says whole seconds, rounded down.
const NOW: i64 = 1_769_860_800;

fn key() -> AssertionKey {
    // RFC 8037 appendix A.1.
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    AssertionKey::from_seed(&seed.try_into().unwrap()).unwrap()
}

fn assertions() -> Assertions {
    let clock = Clock::manual(Timestamp::from_micros(NOW * 1_000_000 + 900_000));
    Assertions::new(key(), Duration::from_secs(30), clock)
}

/// What stands for a call of `identity` that was allowed; `None` if its target has no canonical form.
fn passage(method: &str, target: &str, identity: Identity) -> Option<Passage> {
    let routes = Routes::new([Route {
        service: "app".into(),
        hosts: vec![HostPattern::Any],
        prefix: "/".into(),
        rewrite: None,
        tolerance: Tolerance::LETTER_CASE.with(Tolerance::SEMICOLON).with(Tolerance::ENCODED_SLASH),
        preflights: Preflights::Off,
        certificates: Default::default(),
        recording: Default::default(),
    }]);
    let request = http::Request::builder().method(method).uri(target).header("host", "App.example.com:80");
    let (head, ()) = request.body(()).ok()?.into_parts();
    let connection = Connection::without_certificate("192.0.2.1:5000".parse().unwrap(), None);
    let trusted = TrustedProxies::default();
    let rules = ReadRules { routes: &routes, trusted: &trusted, target_bytes: 8192 };
    let attempt = Attempt::read(&head, &connection, &rules, 7);
    Some(Passage {
        access: attempt.access.ok()?,
        identity,
        client: attempt.client,
        id: attempt.id,
        trace: attempt.trace,
        reason: Reason::PolicyAllow,
        record: RecordRef { origin: "gate.example.com/1".into(), index: 41 },
    })
}

fn caller(user: &str, roles: &[String]) -> Identity {
    Identity::Proved(Arc::new(Caller {
        user: user.into(),
        roles: roles.to_vec(),
        issuer: "main".into(),
        method: ProofMethod::Jwt,
        token_id: Some("secret-to-services".into()),
        key_id: None,
        expires: Timestamp::from_micros(0),
        also: None,
    }))
}

fn asserted(passage: &Passage) -> String {
    let value = assertions().assert(passage, &Hash::of(b"policy")).unwrap();
    assert!(value.is_sensitive());
    value.to_str().unwrap().to_owned()
}

/// What a service finds that checks an assertion by the key set alone, with a library that is not the gate's.
fn checked(token: &str) -> Value {
    let set: JwkSet = serde_json::from_str(&key_set([&key()])).unwrap();
    let header = decode_header(token).unwrap();
    assert_eq!((header.typ.as_deref(), header.alg), (Some(TYPE), Algorithm::EdDSA));
    let key = DecodingKey::from_jwk(set.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["app"]);
    // The frozen time has long passed.
    validation.validate_exp = false;
    decode::<Value>(token, &key, &validation).unwrap().claims
}

#[test]
fn a_kid_is_the_thumbprint_of_its_key() {
    // RFC 8037 appendix A.3.
    assert_eq!(key().kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    assert_eq!(
        serde_json::from_str::<Value>(&key().jwk()).unwrap(),
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key().kid(), "x": x })
    );
}

#[test]
fn a_key_set_has_public_halves_only_each_once() {
    let other = AssertionKey::generate().unwrap();
    let set: Value = serde_json::from_str(&key_set([&key(), &other, &key()])).unwrap();
    let keys = set["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    for key in keys {
        let mut members: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    }
    assert_eq!(keys[1]["kid"], other.kid());
}

#[test]
fn a_key_survives_its_pem_form_and_is_not_printed() {
    let key = key();
    let pem = key.to_pkcs8_pem().unwrap();
    assert_eq!(AssertionKey::from_pkcs8_pem(&pem).unwrap().kid(), key.kid());
    assert!(AssertionKey::from_pkcs8_pem("no key").is_err());
    assert_eq!(format!("{key:?}"), format!("AssertionKey({})", key.kid()));
}

#[test]
fn an_assertion_is_frozen() {
    let alice = caller("user:alice", &["role:viewer".into(), "role:editor".into()]);
    let passage = passage("GET", "/docs/%7eann?q=1", alice).unwrap();
    // PyJWT 2.15 and cryptography 48 find the same claims in it under the same key.
    assert_eq!(
        asserted(&passage),
        include_str!("../../../tests/vectors/assertion-v1/assertion.jwt").trim_end()
    );
}

#[test]
fn the_claims_are_what_was_decided() {
    let alice = caller("user:alice", &["role:viewer".into()]);
    let claims = checked(&asserted(&passage("POST", "/docs/%7eann?q=1", alice).unwrap()));
    assert_eq!(
        claims,
        json!({
            "iss": "gate.example.com/1", "sub": "user:alice", "roles": ["role:viewer"], "aud": "app",
            "method": "POST", "host": "app.example.com", "path": "/docs/~ann",
            "record": "gate.example.com/1/41", "policy": Hash::of(b"policy").to_string(),
            "iat": NOW, "exp": NOW + 30, "jti": "gate.example.com/1/41",
        })
    );
}

#[test]
fn who_showed_no_credential_is_anonymous_and_who_proved_nothing_is_not_vouched_for() {
    let nobody = checked(&asserted(&passage("GET", "/", Identity::Anonymous).unwrap()));
    assert_eq!((&nobody["sub"], &nobody["roles"]), (&json!("anonymous"), &json!([])));
    let failed = passage("OPTIONS", "/", Identity::Failed(CredentialFault::CertificateRejected)).unwrap();
    assert!(assertions().assert(&failed, &Hash::ZERO).is_none());
}

proptest! {
    /// Whoever calls for whatever, a service reads exactly that.
    #[test]
    fn any_caller_and_any_canonical_path_make_a_valid_assertion(
        user in "\\PC{0,40}|[\\x00-\\x22\\\\\u{7f}\u{2028}\u{10ffff}]{0,20}",
        roles in prop::collection::vec("role:(\\PC|[\"\\\\\\x00-\\x1f]){0,12}", 0..4),
        method in "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS",
        target in "(/([a-zA-Z0-9_~!$&'()*+,;=:@-]|%[2-7][0-9a-fA-F]|%C3%A9){1,8}){1,6}",
    ) {
        let user = format!("user:{user}");
        let passage = passage(&method, &target, caller(&user, &roles));
        prop_assume!(passage.is_some());
        let passage = passage.unwrap();
        let policy = Hash::of(target.as_bytes());
        let value = assertions().assert(&passage, &policy).unwrap();
        let claims = checked(value.to_str().unwrap());
        prop_assert_eq!(
            claims,
            json!({
                "iss": "gate.example.com/1", "sub": user, "roles": roles, "aud": "app",
                "method": method, "host": "app.example.com", "path": passage.access.path.as_str(),
                "record": "gate.example.com/1/41", "policy": policy.to_string(),
                "iat": NOW, "exp": NOW + 30, "jti": "gate.example.com/1/41",
            })
        );
    }
}
