//! The keys that sign assertions, and the set of their public halves (RFC 7517 §5, RFC 8037 §2).

use std::fmt;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{self, DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::SIGNATURE;

/// A private key for assertions. It is never printed, and both libraries wipe their copies of it when it is dropped.
pub struct AssertionKey {
    secret: ed25519_dalek::SigningKey,
    pair: Ed25519KeyPair,
    public: [u8; 32],
    kid: String,
}

/// Why a key for assertions could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum AssertionKeyError {
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Random(#[from] getrandom::Error),
    /// Not an Ed25519 private key in PKCS#8 PEM.
    #[error("not an Ed25519 private key in PKCS#8 PEM (\"-----BEGIN PRIVATE KEY-----\"): {0}")]
    Pkcs8(#[from] pkcs8::Error),
    /// The library that signs does not take it.
    #[error("the key cannot be used for signing")]
    Rejected,
}

impl AssertionKey {
    /// Makes a new key from the operating system's random bytes.
    ///
    /// # Errors
    /// [`AssertionKeyError::Random`].
    pub fn generate() -> Result<Self, AssertionKeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice())?;
        Self::from_seed(&seed)
    }

    /// The key of this seed (RFC 8032's 32 byte private key).
    ///
    /// # Errors
    /// [`AssertionKeyError::Rejected`].
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, AssertionKeyError> {
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = secret.verifying_key().to_bytes();
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, &public)
            .map_err(|_| AssertionKeyError::Rejected)?;
        Ok(Self { secret, pair, public, kid: thumbprint(&public) })
    }

    /// Reads a PKCS#8 PEM file's content (RFC 8410), as [`AssertionKey::to_pkcs8_pem`] or `openssl genpkey` writes it.
    ///
    /// # Errors
    /// [`AssertionKeyError::Pkcs8`], [`AssertionKeyError::Rejected`].
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, AssertionKeyError> {
        Self::from_seed(ed25519_dalek::SigningKey::from_pkcs8_pem(pem)?.as_bytes())
    }

    /// The PKCS#8 PEM form (RFC 8410, version 1). Wiped when dropped.
    ///
    /// # Errors
    /// [`AssertionKeyError::Pkcs8`], if the encoder fails.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, AssertionKeyError> {
        let pair = KeypairBytes { secret_key: self.secret.to_bytes(), public_key: None };
        Ok(pair.to_pkcs8_pem(LineEnding::LF)?)
    }

    /// Its key ID: the SHA-256 thumbprint of its public half (RFC 7638, RFC 8037 §2), in base64url.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its public half, as a JWK (RFC 8037 §2).
    pub fn jwk(&self) -> String {
        format!(
            "{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"use\":\"sig\",\"alg\":\"EdDSA\",\"kid\":\"{}\",\"x\":\"{}\"}}",
            self.kid,
            URL_SAFE_NO_PAD.encode(self.public)
        )
    }

    /// The Ed25519 signature over `message`; `None` should the library fail.
    pub(super) fn sign(&self, message: &[u8]) -> Option<[u8; SIGNATURE]> {
        self.pair.try_sign(message).ok()?.as_ref().try_into().ok()
    }
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssertionKey({})", self.kid)
    }
}

/// The public halves of `keys` as a JWK Set, each once.
pub fn key_set<'a>(keys: impl IntoIterator<Item = &'a AssertionKey>) -> String {
    let mut all: Vec<String> = Vec::new();
    for jwk in keys.into_iter().map(AssertionKey::jwk) {
        if !all.contains(&jwk) {
            all.push(jwk);
        }
    }
    format!("{{\"keys\":[{}]}}\n", all.join(","))
}

/// RFC 7638 §3: the hash of the members that make the key, in the order of their names.
fn thumbprint(public: &[u8; 32]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    let members = format!("{{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"{x}\"}}");
    URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}
