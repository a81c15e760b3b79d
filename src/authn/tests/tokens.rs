use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm as Jwa, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::testing::*;
use super::*;
use CredentialFault::*;

#[tokio::test]
async fn every_algorithm_proves_its_caller() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm, "k1");
        let fixture = Fixture::adjusted(&key_set(&[&signer]), |issuer| issuer.algorithms = vec![algorithm]);
        let caller = fixture.caller(&signer.token(&with(claims("alice"), "jti", json!("t-1")))).await;
        assert_eq!(caller.user, "user:alice", "{algorithm:?}");
        assert_eq!((caller.token_id.as_deref(), caller.key_id.as_deref()), (Some("t-1"), Some("k1")));
        assert_eq!((caller.issuer.as_str(), caller.method), ("main", crate::access::ProofMethod::Jwt));
        assert_eq!(caller.expires, at(NOW + 3600 + 30));
    }
}

#[tokio::test]
async fn an_algorithm_that_is_not_configured_is_refused_whatever_key_signed() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm, "k1");
        let fixture = Fixture::adjusted(&key_set(&[&signer]), |issuer| {
            issuer.algorithms.retain(|other| *other != algorithm);
        });
        let fault = fixture.fault(&signer.token(&claims("alice"))).await;
        assert_eq!(fault, AlgorithmNotAllowed, "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_changed_signature_is_refused_for_every_algorithm() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm, "k1");
        let fixture = Fixture::new(&[&signer]);
        let good = signer.token(&claims("alice"));
        let (message, signature) = good.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[7] ^= 1;
        let flipped = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes));
        assert_eq!(fixture.fault(&flipped).await, BadSignature, "{algorithm:?}");
        assert_eq!(fixture.fault(&format!("{message}.")).await, BadSignature, "{algorithm:?}");
        // The signature of alice's claims under root's.
        let other = signer.token(&claims("root"));
        let (other, _) = other.rsplit_once('.').unwrap();
        assert_eq!(fixture.fault(&format!("{other}.{signature}")).await, BadSignature, "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused_however_none_is_written() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::new(&[&signer]);
    for none in ["none", "None", "NONE", "nOnE", ""] {
        for signature in ["", "AAAA"] {
            let header = URL_SAFE_NO_PAD.encode(json!({"alg": none, "kid": "k1"}).to_string());
            let body = URL_SAFE_NO_PAD.encode(claims("alice").to_string());
            let token = format!("{header}.{body}.{signature}");
            assert_eq!(fixture.fault(&token).await, AlgorithmNotAllowed, "{none:?}");
        }
    }
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_shared_secret() {
    let signer = Signer::new(Algorithm::Rs256, "k1");
    let fixture = Fixture::new(&[&signer]);
    let modulus = URL_SAFE_NO_PAD.decode(signer.jwk["n"].as_str().unwrap()).unwrap();
    for secret in [signer.jwk["n"].as_str().unwrap().as_bytes(), &modulus, signer.jwk.to_string().as_bytes()]
    {
        for jwa in [Jwa::HS256, Jwa::HS384, Jwa::HS512] {
            let header = Header { kid: Some("k1".to_owned()), ..Header::new(jwa) };
            let token = encode(&header, &claims("root"), &EncodingKey::from_secret(secret)).unwrap();
            assert_eq!(fixture.fault(&token).await, AlgorithmNotAllowed);
        }
    }
}

#[tokio::test]
async fn a_key_serves_only_the_algorithms_of_its_kind() {
    let signers: Vec<Signer> =
        [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa].map(Signer::of).into();
    let fixture = Fixture::new(&signers.iter().collect::<Vec<_>>());
    for signer in &signers {
        for algorithm in Algorithm::ALL {
            let header = json!({"alg": algorithm.as_str(), "kid": signer.kid});
            let fault = match fixture.authn.identify_token(&signer.token_with(&header, &claims("a"))).await {
                Identity::Failed(fault) => fault,
                Identity::Proved(_) if algorithm == signer.algorithm => continue,
                other => panic!("{other:?}: {algorithm:?} by a key for {:?}", signer.algorithm),
            };
            let same_kind = signer.jwk["kty"] == "RSA" && algorithm.as_str().ends_with(['6', '4', '2']) && {
                algorithm.as_str().starts_with(['R', 'P'])
            };
            assert_eq!(fault, if same_kind { BadSignature } else { UnknownKey }, "{algorithm:?}");
        }
    }
}

#[tokio::test]
async fn a_key_published_for_one_algorithm_serves_no_other() {
    let mut signer = Signer::new(Algorithm::Rs256, "k1");
    signer.jwk["alg"] = json!("PS256");
    let fixture = Fixture::new(&[&signer]);
    assert_eq!(fixture.fault(&signer.token(&claims("alice"))).await, UnknownKey);
    let signer = Signer { algorithm: Algorithm::Ps256, ..signer };
    fixture.caller(&signer.token(&claims("alice"))).await;
}

#[tokio::test]
async fn claims_are_refused_for_what_is_wrong_with_them() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::new(&[&signer]);
    let cases: Vec<(&str, Value, Option<CredentialFault>)> = vec![
        // iss
        ("iss", json!(null), Some(BadClaims)),
        ("iss", json!(7), Some(BadClaims)),
        ("iss", json!([ISS]), Some(BadClaims)),
        ("iss", json!("https://issuer.example.com/"), Some(UnknownIssuer)),
        ("iss", json!(""), Some(UnknownIssuer)),
        // aud
        ("aud", json!(null), Some(BadClaims)),
        ("aud", json!(7), Some(BadClaims)),
        ("aud", json!([AUD, 7]), Some(BadClaims)),
        ("aud", json!({AUD: true}), Some(BadClaims)),
        ("aud", json!("other"), Some(WrongAudience)),
        ("aud", json!([]), Some(WrongAudience)),
        ("aud", json!(["other", "https://gate.example.com/"]), Some(WrongAudience)),
        ("aud", json!(["other", AUD]), None),
        // exp, with 30 s of leeway
        ("exp", json!(null), Some(BadClaims)),
        ("exp", json!((NOW + 3600).to_string()), Some(BadClaims)),
        ("exp", json!(true), Some(BadClaims)),
        ("exp", json!([NOW + 3600]), Some(BadClaims)),
        ("exp", json!(0), Some(Expired)),
        ("exp", json!(-1), Some(Expired)),
        ("exp", json!(NOW - 31), Some(Expired)),
        ("exp", json!(NOW - 30), Some(Expired)),
        ("exp", json!(NOW - 29), None),
        ("exp", json!((NOW + 1) as f64 + 0.5), None),
        ("exp", json!(1e300), None),
        // nbf
        ("nbf", json!(NOW.to_string()), Some(BadClaims)),
        ("nbf", json!({}), Some(BadClaims)),
        ("nbf", json!(NOW + 31), Some(NotYetValid)),
        ("nbf", json!(1e300), Some(NotYetValid)),
        ("nbf", json!(NOW + 30), None),
        ("nbf", json!(0), None),
        // sub
        ("sub", json!(null), Some(BadClaims)),
        ("sub", json!(7), Some(BadClaims)),
        ("sub", json!(["alice"]), Some(BadClaims)),
        ("sub", json!(""), Some(BadClaims)),
        ("sub", json!(" alice"), Some(BadClaims)),
        ("sub", json!("alice\n"), Some(BadClaims)),
        ("sub", json!("al\u{0}ice"), Some(BadClaims)),
        ("sub", json!("al\u{7f}ice"), Some(BadClaims)),
        ("sub", json!("al\u{85}ice"), Some(BadClaims)),
        ("sub", json!("a".repeat(256)), Some(BadClaims)),
        ("sub", json!("a".repeat(255)), None),
        ("sub", json!("Zoë Łuk, \"Z\""), None),
    ];
    for (member, value, expected) in cases {
        // null above stands for an absent member; a member that is null is wrong likewise.
        let token = signer.token(&with(claims("alice"), member, value.clone()));
        match (fixture.authn.identify_token(&token).await, expected) {
            (Identity::Proved(_), None) => {}
            (Identity::Failed(fault), Some(expected)) => assert_eq!(fault, expected, "{member}: {value}"),
            (other, _) => panic!("{other:?} for {member}: {value}"),
        }
    }
    for member in ["iss", "aud", "exp", "nbf", "sub"] {
        let mut null = claims("alice");
        null[member] = Value::Null;
        assert_eq!(fixture.fault(&signer.token(&null)).await, BadClaims, "{member}: null");
    }
}

#[tokio::test]
async fn a_signed_token_with_repeated_members_is_refused() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::new(&[&signer]);
    let header = r#"{"alg":"ES256","kid":"k1"}"#;
    let claims = claims("alice").to_string();
    fixture.caller(&signer.sign(header, &claims)).await;
    let twice = claims.replacen('{', r#"{"sub":"root","#, 1);
    assert_eq!(fixture.fault(&signer.sign(header, &twice)).await, Malformed);
    let twice = r#"{"alg":"ES256","kid":"k1","alg":"none"}"#;
    assert_eq!(fixture.fault(&signer.sign(twice, &claims)).await, Malformed);
}

#[tokio::test]
async fn keys_and_places_of_keys_inside_a_token_are_not_looked_at() {
    let signer = Signer::es256("k1");
    let attacker = Signer::es256("k1");
    let elsewhere = KeyServer::start(&key_set(&[&attacker])).await;
    let KeySource::Url { url, .. } = elsewhere.source() else { unreachable!() };
    let fixture = Fixture::new(&[&signer]);
    for (member, value) in [
        ("jku", json!(url.to_string())),
        ("x5u", json!(url.to_string())),
        ("jwk", attacker.jwk.clone()),
        ("x5c", json!(["AAAA"])),
        ("x5t", json!({"not": "a string"})),
    ] {
        let header = json!({"alg": "ES256", "kid": "k1", member: value});
        assert_eq!(fixture.fault(&attacker.token_with(&header, &claims("root"))).await, BadSignature);
        // Nor do they harm a good token.
        fixture.caller(&signer.token_with(&header, &claims("alice"))).await;
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn a_critical_extension_is_refused() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::new(&[&signer]);
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!(null)] {
        let header = json!({"alg": "ES256", "kid": "k1", "crit": crit});
        assert_eq!(fixture.fault(&signer.token_with(&header, &claims("alice"))).await, Malformed);
    }
}

#[tokio::test]
async fn any_type_of_token_is_tolerated() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::new(&[&signer]);
    for typ in [json!("JWT"), json!("jwt"), json!("at+jwt"), json!("application/at+jwt"), json!(null)] {
        let header = with(json!({"alg": "ES256", "kid": "k1"}), "typ", typ);
        fixture.caller(&signer.token_with(&header, &claims("alice"))).await;
    }
}

#[tokio::test]
async fn a_key_id_only_selects_among_known_keys() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::new(&[&signer]);
    for kid in ["k2", "", "../../etc/passwd", "http://127.0.0.1/", "k1\u{0}", "K1", "' OR 1=1"] {
        let header = json!({"alg": "ES256", "kid": kid});
        assert_eq!(fixture.fault(&signer.token_with(&header, &claims("a"))).await, UnknownKey, "{kid}");
    }
    // Without one, the keys that fit are tried.
    let header = json!({"alg": "ES256"});
    assert_eq!(fixture.caller(&signer.token_with(&header, &claims("a"))).await.key_id, None);
    let stranger = Signer::es256("k1");
    assert_eq!(fixture.fault(&stranger.token_with(&header, &claims("a"))).await, BadSignature);
}

#[tokio::test]
async fn a_token_over_eight_kibibytes_is_not_looked_at() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::new(&[&signer]);
    let token = |padding: usize| signer.token(&with(claims("alice"), "pad", json!("x".repeat(padding))));
    let padding = (8192 - token(1).len()) * 3 / 4 - 4;
    let fits = token(padding);
    assert!(fits.len() <= 8192 && fits.len() > 8180, "{}", fits.len());
    fixture.caller(&fits).await;
    assert_eq!(fixture.fault(&token(padding + 16)).await, Malformed);
    assert_eq!(fixture.fault(&"x".repeat(1_000_000)).await, Malformed);
}

impl Signer {
    fn of(algorithm: Algorithm) -> Self {
        Self::new(algorithm, algorithm.as_str())
    }
}
