//! A key set (RFC 7517 §5), and which of its keys signed a token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm as Jwa, DecodingKey, crypto};
use serde::Deserialize;
use serde_json::Value;

use super::issuer::Algorithm;
use super::token::Token;
use crate::access::CredentialFault;
use crate::audit::hash::Hash;
use crate::clock::Timestamp;

/// The most keys of one set that are used; sets of real issuers have two to ten.
const MAX_KEYS: usize = 64;

/// An issuer's keys as it published them.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: std::sync::Arc<[Key]>,
    /// SHA-256 of what was published.
    digest: Hash,
    /// Counts the changes of what was published.
    generation: u64,
    /// When it was last seen to be published.
    seen: Timestamp,
}

/// One public key, of a kind and size we can verify with.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    kind: Kind,
    /// The one algorithm it is published for, if it says so (RFC 7517 §4.4).
    only: Option<Algorithm>,
    key: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// Proof that a key of the set, fit for the algorithm, verified the token's signature. Made only by
/// [`KeySet::verify`].
#[derive(Debug)]
pub(super) struct Verified<'a> {
    token: &'a Token<'a>,
    generation: u64,
}

impl<'a> Verified<'a> {
    /// The token, whose claims are now the issuer's word.
    pub(super) const fn token(&self) -> &'a Token<'a> {
        self.token
    }

    /// The generation of the key set that verified it.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }
}

/// Why no key of a set verified a token.
#[derive(Debug)]
pub(super) struct Unverified {
    pub(super) fault: CredentialFault,
    /// Whether a newer key set may hold the key: its `kid` is unknown, or it names none and no key fits.
    pub(super) newer_keys_may_help: bool,
}

/// Why a published text is no key set.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON, or not an object with an array `keys`.
    #[error("not a JSON Web Key Set: {0}")]
    NotAKeySet(#[from] serde_json::Error),
}

impl KeySet {
    /// Reads a published key set, seen at `seen`, following `before`. Keys that cannot verify tokens are left out:
    /// encryption keys, shared secrets, unknown kinds and curves, sizes out of bounds. The set may thus be empty,
    /// which is what an issuer says that has withdrawn all its keys.
    pub(super) fn parse(text: &[u8], seen: Timestamp, before: Option<&Self>) -> Result<Self, KeySetError> {
        let digest = Hash::of(text);
        if let Some(before) = before.filter(|before| before.digest == digest) {
            return Ok(Self { keys: before.keys.clone(), digest, generation: before.generation, seen });
        }
        let published: Published = serde_json::from_slice(text)?;
        let keys = published.keys.into_iter().filter_map(Key::read).take(MAX_KEYS).collect();
        let generation = before.map_or(0, |before| before.generation + 1);
        Ok(Self { keys, digest, generation, seen })
    }

    /// How many keys can be used.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Differs from that of every earlier, different set of the issuer.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// When it was last seen to be published.
    pub(super) const fn seen(&self) -> Timestamp {
        self.seen
    }

    /// Verifies the token's signature by `algorithm`, which the caller has found to be allowed. Keys are chosen by
    /// `kid` where the token has one; several keys may share one (RFC 7517 §4.5), and each that fits is tried.
    pub(super) fn verify<'a>(
        &self,
        token: &'a Token<'a>,
        algorithm: Algorithm,
    ) -> Result<Verified<'a>, Unverified> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| token.key_id().is_none() || key.id.as_deref() == token.key_id())
            .filter(|key| key.fits(algorithm))
            .peekable();
        if fitting.peek().is_none() {
            return Err(Unverified { fault: CredentialFault::UnknownKey, newer_keys_may_help: true });
        }
        if fitting.any(|key| key.signed(token, algorithm)) {
            return Ok(Verified { token, generation: self.generation });
        }
        Err(Unverified {
            fault: CredentialFault::BadSignature,
            newer_keys_may_help: token.key_id().is_none(),
        })
    }
}

impl Key {
    fn read(jwk: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk).ok()?;
        let for_other_use = jwk.usage.as_deref().is_some_and(|usage| usage != "sig")
            || jwk.operations.as_ref().is_some_and(|all| !all.iter().any(|one| one == "verify"));
        if for_other_use {
            return None;
        }
        let (kind, key) = jwk.key()?;
        let only = match jwk.algorithm.as_deref() {
            None => None,
            Some(word) => Some(Algorithm::parse(word)?),
        };
        let key = Self { id: jwk.id, kind, only, key };
        // A key that says it is for an algorithm of another kind is of no use.
        key.only.is_none_or(|only| key.fits(only)).then_some(key)
    }

    /// Whether the key is of the kind that `algorithm` needs, and not published for another.
    fn fits(&self, algorithm: Algorithm) -> bool {
        kind_for(algorithm) == self.kind && self.only.is_none_or(|only| only == algorithm)
    }

    fn signed(&self, token: &Token<'_>, algorithm: Algorithm) -> bool {
        crypto::verify(token.signature(), token.message(), &self.key, jwa(algorithm)).unwrap_or(false)
    }
}

/// The members of `{"keys": [...]}` that are looked at; each key is read on its own, so that one we cannot read
/// does not take the others with it.
#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    #[serde(rename = "kty")]
    family: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    #[serde(rename = "key_ops")]
    operations: Option<Vec<String>>,
    #[serde(rename = "alg")]
    algorithm: Option<String>,
    #[serde(rename = "kid")]
    id: Option<String>,
    #[serde(rename = "crv")]
    curve: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Jwk {
    fn key(&self) -> Option<(Kind, DecodingKey)> {
        match (self.family.as_str(), self.curve.as_deref()) {
            ("RSA", _) => Some((Kind::Rsa, self.rsa()?)),
            ("EC", Some("P-256")) => Some((Kind::P256, self.ec(32)?)),
            ("EC", Some("P-384")) => Some((Kind::P384, self.ec(48)?)),
            ("OKP", Some("Ed25519")) => {
                Some((Kind::Ed25519, DecodingKey::from_ed_der(&bytes(self.x.as_ref()?, 32)?)))
            }
            _ => None,
        }
    }

    fn rsa(&self) -> Option<DecodingKey> {
        let modulus = URL_SAFE_NO_PAD.decode(self.n.as_ref()?).ok()?;
        let exponent = URL_SAFE_NO_PAD.decode(self.e.as_ref()?).ok()?;
        // Some issuers write a leading zero, though RFC 7518 §6.3.1.1 says not to; aws-lc refuses it.
        let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
        let modulus = modulus.get(zeros..)?;
        let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
        let fits = (2048..=8192).contains(&bits) && (1..=5).contains(&exponent.len());
        fits.then(|| DecodingKey::from_rsa_raw_components(modulus, &exponent))
    }

    fn ec(&self, coordinate_bytes: usize) -> Option<DecodingKey> {
        let x = bytes(self.x.as_ref()?, coordinate_bytes)?;
        let y = bytes(self.y.as_ref()?, coordinate_bytes)?;
        // The uncompressed point of SEC 1 §2.3.3.
        Some(DecodingKey::from_ec_der(&[&[4], x.as_slice(), y.as_slice()].concat()))
    }
}

fn bytes(base64: &str, length: usize) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(base64).ok().filter(|bytes| bytes.len() == length)
}

const fn kind_for(algorithm: Algorithm) -> Kind {
    match algorithm {
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512 => Kind::Rsa,
        Algorithm::Es256 => Kind::P256,
        Algorithm::Es384 => Kind::P384,
        Algorithm::EdDsa => Kind::Ed25519,
    }
}

const fn jwa(algorithm: Algorithm) -> Jwa {
    match algorithm {
        Algorithm::Rs256 => Jwa::RS256,
        Algorithm::Rs384 => Jwa::RS384,
        Algorithm::Rs512 => Jwa::RS512,
        Algorithm::Ps256 => Jwa::PS256,
        Algorithm::Ps384 => Jwa::PS384,
        Algorithm::Ps512 => Jwa::PS512,
        Algorithm::Es256 => Jwa::ES256,
        Algorithm::Es384 => Jwa::ES384,
        Algorithm::EdDsa => Jwa::EdDSA,
    }
}
