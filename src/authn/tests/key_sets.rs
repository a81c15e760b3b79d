use serde_json::{Value, json};

use super::testing::*;
use super::*;
use crate::authn::keys::KeySet;
use CredentialFault::*;

fn usable(keys: Value) -> usize {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes(), at(NOW), None).unwrap().len()
}

#[test]
fn keys_that_cannot_verify_tokens_are_left_out_and_the_others_used() {
    let ec = Signer::es256("ec").jwk;
    let p384 = Signer::new(Algorithm::Es384, "p384").jwk;
    let rsa = Signer::new(Algorithm::Rs256, "rsa").jwk;
    let ed = Signer::new(Algorithm::EdDsa, "ed").jwk;
    let useless = vec![
        json!(null),
        json!("key"),
        json!({}),
        json!({"kty": "oct", "k": "c2VjcmV0", "kid": "s"}),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}),
        with(ec.clone(), "use", json!("enc")),
        with(ec.clone(), "use", json!("SIG")),
        with(ec.clone(), "key_ops", json!(["encrypt"])),
        with(ec.clone(), "key_ops", json!([])),
        with(ec.clone(), "kid", json!(7)),
        with(ec.clone(), "crv", json!("P-521")),
        with(ec.clone(), "crv", json!("secp256k1")),
        with(ec.clone(), "crv", json!("P-384")),
        with(ec.clone(), "crv", json!(null)),
        with(ec.clone(), "y", json!(null)),
        with(ec.clone(), "x", json!("AAAA")),
        with(ec.clone(), "x", json!("!!")),
        with(ec.clone(), "alg", json!("ES384")),
        with(ec.clone(), "alg", json!("RS256")),
        with(ec.clone(), "alg", json!("ECDH-ES")),
        with(rsa.clone(), "alg", json!("RSA-OAEP")),
        with(rsa.clone(), "alg", json!("HS256")),
        with(rsa.clone(), "e", json!("")),
        with(rsa.clone(), "n", json!("")),
        with(rsa.clone(), "n", json!("AAAA")),
        // 1024 bits.
        with(rsa.clone(), "n", json!(format!("gA{}", "A".repeat(169)))),
        with(ed.clone(), "crv", json!("X25519")),
        with(ed.clone(), "x", json!("AAAA")),
    ];
    for key in &useless {
        assert_eq!(usable(json!([key])), 0, "{key}");
    }
    let useful = vec![
        with(ec.clone(), "use", json!("sig")),
        with(ec.clone(), "kid", json!(null)),
        with(ec, "key_ops", json!(["sign", "verify"])),
        p384,
        with(rsa.clone(), "alg", json!("PS512")),
        rsa,
        with(ed.clone(), "alg", json!("Ed25519")),
        with(ed, "alg", json!("EdDSA")),
    ];
    let all: Vec<Value> = useless.into_iter().chain(useful.clone()).collect();
    assert_eq!(usable(json!(all)), useful.len());
}

#[test]
fn a_set_is_bounded_and_what_is_no_set_is_refused() {
    let many: Vec<Value> =
        (0..1000).map(|_| json!({"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43)})).collect();
    assert_eq!(usable(json!(many)), 64);
    for text in ["", "{}", "[]", "null", r#"{"keys":{}}"#, r#"{"keys":null}"#, "<html>", r#"{"keys":[]} x"#] {
        assert!(KeySet::parse(text.as_bytes(), at(NOW), None).is_err(), "{text}");
    }
}

#[test]
fn the_generation_changes_with_what_is_published_and_only_then() {
    let [first, second] = ["a", "b"].map(|kid| key_set(&[&Signer::es256(kid)]));
    let one = KeySet::parse(first.as_bytes(), at(NOW), None).unwrap();
    let again = KeySet::parse(first.as_bytes(), at(NOW + 9), Some(&one)).unwrap();
    assert_eq!((again.generation(), again.seen(), again.len()), (one.generation(), at(NOW + 9), 1));
    let other = KeySet::parse(second.as_bytes(), at(NOW), Some(&again)).unwrap();
    let back = KeySet::parse(first.as_bytes(), at(NOW), Some(&other)).unwrap();
    assert!(one.generation() < other.generation() && other.generation() < back.generation());
}

#[tokio::test]
async fn keys_that_share_an_id_are_all_tried() {
    let (one, two) = (Signer::es256("k"), Signer::es256("k"));
    let three = Signer::new(Algorithm::EdDsa, "k");
    let fixture = Fixture::new(&[&one, &two, &three]);
    for signer in [&one, &two, &three] {
        fixture.caller(&signer.token(&claims("alice"))).await;
    }
    assert_eq!(fixture.fault(&Signer::es256("k").token(&claims("alice"))).await, BadSignature);
}

#[tokio::test]
async fn a_leading_zero_in_a_published_modulus_does_no_harm() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut signer = Signer::new(Algorithm::Rs256, "k1");
    let modulus = URL_SAFE_NO_PAD.decode(signer.jwk["n"].as_str().unwrap()).unwrap();
    signer.jwk["n"] = json!(URL_SAFE_NO_PAD.encode([&[0], modulus.as_slice()].concat()));
    Fixture::new(&[&signer]).caller(&signer.token(&claims("alice"))).await;
}

#[test]
fn a_key_file_without_a_usable_key_stops_the_start() {
    for (text, expected) in [
        ("{", "not a JSON Web Key Set"),
        (r#"{"keys":[]}"#, "no key in it can verify a token"),
        (&" ".repeat(1024 * 1024 + 1), "larger than 1024 KiB"),
    ] {
        let file = published(text);
        let path = file.path().to_owned();
        let issuer = issuer(KeySource::File(path.clone()));
        let Err(error) = Authn::new(vec![issuer], AuthnLimits::default(), Clock::system()) else {
            panic!("accepted {expected}")
        };
        let said = error.to_string();
        assert!(said.contains(expected) && said.contains(&*path.to_string_lossy()), "{said}");
    }
}
