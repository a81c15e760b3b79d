//! An issuer's keys, what it publishes of them, and tokens signed with them.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto, jwk};
use portcullis::clock::Clock;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
};
use serde_json::{Value, json};

pub const ISSUER: &str = "https://issuer.example.com";
pub const AUDIENCE: &str = "gate";

/// Every algorithm that a config can name.
pub const ALGORITHMS: [&str; 9] =
    ["ES256", "ES384", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/// One RSA key for all tests: making one takes a while.
static RSA: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap());

/// The key that gates trust unless told otherwise.
static USUAL: LazyLock<Signer> = LazyLock::new(|| Signer::new("ES256", "usual"));

/// A private key, and what its issuer publishes of it.
#[derive(Clone)]
pub struct Signer {
    pub algorithm: &'static str,
    pub kid: String,
    pub jwk: Value,
    key: EncodingKey,
}

impl Signer {
    pub fn usual() -> &'static Self {
        &USUAL
    }

    pub fn new(algorithm: &'static str, kid: &str) -> Self {
        let (key, mut jwk) = match algorithm {
            "ES256" => elliptic(&PKCS_ECDSA_P256_SHA256, "P-256", 32),
            "ES384" => elliptic(&PKCS_ECDSA_P384_SHA384, "P-384", 48),
            "EdDSA" => {
                let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
                let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
                let key = EncodingKey::from_ed_der(pair.serialized_der());
                (key, json!({ "kty": "OKP", "crv": "Ed25519", "x": x }))
            }
            _ => rsa(),
        };
        jwk["kid"] = json!(kid);
        Self { algorithm, kid: kid.to_owned(), jwk, key }
    }

    /// A good token of `subject` with `roles`.
    pub fn token(&self, subject: &str, roles: &[&str]) -> String {
        self.sign(&claims(subject, roles))
    }

    /// A token with the usual header.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({ "typ": "JWT", "alg": self.algorithm, "kid": self.kid }), claims)
    }

    /// A token with any header, signed all the same.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let algorithm: Algorithm = self.algorithm.parse().unwrap();
        let signature = crypto::sign(message.as_bytes(), &self.key, algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// A token of this header and these claims, whatever text they are.
pub fn sign_text(signer: &Signer, header: &str, claims: &str) -> String {
    let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = crypto::sign(message.as_bytes(), &signer.key, signer.algorithm.parse().unwrap()).unwrap();
    format!("{message}.{signature}")
}

/// Header and claims without a signature.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// A token signed by HMAC with `secret`: what algorithm confusion makes of a public key.
pub fn sign_by_hmac(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = unsigned(header, claims);
    let signature =
        crypto::sign(message.as_bytes(), &EncodingKey::from_secret(secret), Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

/// The shared RSA key's public half, as PEM.
pub fn rsa_public_pem() -> String {
    RSA.public_key_pem()
}

/// Good claims, for an hour.
pub fn claims(subject: &str, roles: &[&str]) -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "roles": roles, "exp": now() + 3600, "jti": "token-1" })
}

/// `claims` with one member set, or removed for `null`.
pub fn with(mut claims: Value, member: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(member)),
        value => claims[member] = value,
    }
    claims
}

/// Seconds since 1970.
pub fn now() -> i64 {
    Clock::system().now().as_secs()
}

/// The key set that publishes these.
pub fn key_set(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| &signer.jwk).collect::<Vec<_>>() }).to_string()
}

fn elliptic(
    algorithm: &'static rcgen::SignatureAlgorithm,
    curve: &str,
    coordinate: usize,
) -> (EncodingKey, Value) {
    let pair = KeyPair::generate_for(algorithm).unwrap();
    // An uncompressed point: 0x04, x, y (SEC 1 §2.3.3).
    let (x, y) = pair.public_key_raw()[1..].split_at(coordinate);
    let [x, y] = [x, y].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    let key = EncodingKey::from_ec_der(pair.serialized_der());
    (key, json!({ "kty": "EC", "crv": curve, "x": x, "y": y }))
}

fn rsa() -> (EncodingKey, Value) {
    let key = EncodingKey::from_rsa_pem(RSA.serialize_pem().as_bytes()).unwrap();
    let public = jwk::Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
    let jwk::AlgorithmParameters::RSA(public) = public.algorithm else { panic!("an RSA key") };
    (key, json!({ "kty": "RSA", "n": public.n, "e": public.e }))
}
