//! Cosignatures (<https://c2sp.org/tlog-cosignature>, `cosignature/v1`): a witness's statement that, at a time, a
//! checkpoint was of the largest tree it had seen of a log, and consistent with all before.
//!
//! ```text
//! — witness.example.com/w1 <base64(key id ‖ time, 8 bytes big-endian ‖ Ed25519 signature)>
//! ```
//!
//! The signature is over `cosignature/v1\ntime <seconds since 1970>\n` and the checkpoint's text. Cosignatures by
//! ML-DSA-44 (type 0x06) are signatures of unknown keys here, and ignored.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::key::{KeyError, Origin, is_key_name};
use super::note::Note;

/// Signature type 0x04 of signed-note: a timestamped Ed25519 cosignature.
const COSIGNATURE: u8 = 0x04;

/// Signature type 0x06: a timestamped ML-DSA-44 cosignature.
const ML_DSA_44: u8 = 0x06;

/// The length of an ML-DSA-44 public key (FIPS 204).
const ML_DSA_44_KEY_BYTES: usize = 1312;

/// A witness's private key together with its name. The secret is wiped from memory when it is dropped, and never
/// printed. It must sign nothing else, and under no other name: the signed message does not hold the name.
pub struct CosigningKey {
    name: Origin,
    secret: ed25519_dalek::SigningKey,
    id: u32,
}

impl CosigningKey {
    /// Makes a new key from the operating system's random bytes.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate(name: Origin) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice())?;
        Ok(Self::from_seed(name, &seed))
    }

    /// The key of this seed (RFC 8032's 32 byte private key).
    pub fn from_seed(name: Origin, seed: &[u8; 32]) -> Self {
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let id = key_id(name.as_str(), COSIGNATURE, secret.verifying_key().as_bytes());
        Self { name, secret, id }
    }

    /// Reads a PKCS#8 PEM file's content (RFC 8410).
    ///
    /// # Errors
    /// [`KeyError::Pkcs8`].
    pub fn from_pkcs8_pem(name: Origin, pem: &str) -> Result<Self, KeyError> {
        let secret = ed25519_dalek::SigningKey::from_pkcs8_pem(pem)?;
        Ok(Self::from_seed(name, secret.as_bytes()))
    }

    /// The PKCS#8 PEM form (RFC 8410, version 1). Wiped when dropped.
    ///
    /// # Errors
    /// [`KeyError::Pkcs8`], if the encoder fails.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let pair = KeypairBytes { secret_key: self.secret.to_bytes(), public_key: None };
        Ok(pair.to_pkcs8_pem(LineEnding::LF)?)
    }

    /// The public half, as those are given it who rely on the witness.
    pub fn verifier(&self) -> CosignerKey {
        CosignerKey { name: self.name.as_str().to_owned(), id: self.id, key: self.secret.verifying_key() }
    }

    /// Cosigns a checkpoint's `text`, which ends in a newline, at `time`, in seconds since 1970. The note's signature
    /// line, with its newline.
    pub fn cosign(&self, text: &str, time: u64) -> String {
        let mut bytes = Vec::with_capacity(76);
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&time.to_be_bytes());
        bytes.extend_from_slice(&self.secret.sign(message(text, time).as_bytes()).to_bytes());
        format!("\u{2014} {} {}\n", self.name, STANDARD.encode(bytes))
    }
}

impl fmt::Debug for CosigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosigningKey({})", self.verifier())
    }
}

/// A witness's public key and the name it cosigns under. Its text form, by [`fmt::Display`], is the vkey:
/// `<name>+<key id in hex>+<base64(0x04 ‖ public key)>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignerKey {
    name: String,
    id: u32,
    key: ed25519_dalek::VerifyingKey,
}

/// Why a text is not a witness's verifier key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignerKeyError {
    /// Not three parts joined by `+`, or a part is not what it should be.
    #[error(
        "not a witness's verifier key: expected <name>+<8 hex digits>+<base64>, as `portcullis witness keygen` prints it"
    )]
    Malformed,
    /// A log's key.
    #[error("the verifier key of a log (type 0x01), not of a witness (0x04)")]
    Log,
    /// An ML-DSA-44 key.
    #[error("a verifier key for ML-DSA-44 cosignatures (0x06); only those by Ed25519 (0x04) can be checked")]
    MlDsa44,
    /// Any other kind of key.
    #[error("a verifier key of type {0:#04x}; a witness's is 0x04")]
    Type(u8),
    /// The key ID is not that of this name and key.
    #[error("the key ID does not belong to this name and key; the verifier key was altered or mistyped")]
    Id,
}

/// A cosignature of a known witness that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cosignature by {vkey} does not hold")]
pub struct BadCosignature {
    /// The witness whose cosignature it claims to be.
    pub vkey: String,
}

impl CosignerKey {
    /// Reads a vkey.
    ///
    /// # Errors
    /// See [`CosignerKeyError`].
    pub fn parse(vkey: &str) -> Result<Self, CosignerKeyError> {
        use CosignerKeyError as E;
        let (name, rest) = vkey.split_once('+').ok_or(E::Malformed)?;
        let (id, key) = rest.split_once('+').ok_or(E::Malformed)?;
        let digits = id.len() == 8 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_key_name(name) || !digits {
            return Err(E::Malformed);
        }
        let id = u32::from_str_radix(id, 16).map_err(|_| E::Malformed)?;
        let key = STANDARD.decode(key).map_err(|_| E::Malformed)?;
        let (kind, public) = key.split_first().ok_or(E::Malformed)?;
        match *kind {
            COSIGNATURE => {}
            0x01 => return Err(E::Log),
            ML_DSA_44 if public.len() != ML_DSA_44_KEY_BYTES => return Err(E::Malformed),
            ML_DSA_44 if id != key_id(name, ML_DSA_44, public) => return Err(E::Id),
            ML_DSA_44 => return Err(E::MlDsa44),
            other => return Err(E::Type(other)),
        }
        let public = public.try_into().map_err(|_| E::Malformed)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(public).map_err(|_| E::Malformed)?;
        if id != key_id(name, COSIGNATURE, key.as_bytes()) {
            return Err(E::Id);
        }
        Ok(Self { name: name.to_owned(), id, key })
    }

    /// The name the witness cosigns under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of SHA-256(name ‖ 0x0A ‖ 0x04 ‖ public key), big-endian.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The public key alone, which tells two witnesses apart whatever they are called.
    pub(super) fn public(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The latest time at which this witness cosigned the note's text, in seconds since 1970; `None` if it did not.
    /// Whatever else has signed is ignored.
    ///
    /// # Errors
    /// [`BadCosignature`], if any signature under its name and key ID does not hold.
    pub fn cosigned(&self, note: &Note<'_>) -> Result<Option<u64>, BadCosignature> {
        let mut latest = None;
        for (_, _, bytes) in note.signatures().filter(|(name, id, _)| *name == self.name && *id == self.id) {
            let time =
                self.time(note.text(), bytes).ok_or_else(|| BadCosignature { vkey: self.to_string() })?;
            latest = latest.max(Some(time));
        }
        Ok(latest)
    }

    /// The lines of `note` that are this witness's, as they stand in it; unchecked.
    pub fn lines(&self, note: &Note<'_>) -> String {
        note.signatures()
            .filter(|(name, id, _)| *name == self.name && *id == self.id)
            .map(|(name, id, bytes)| {
                format!("\u{2014} {name} {}\n", STANDARD.encode([&id.to_be_bytes(), bytes].concat()))
            })
            .collect()
    }

    fn time(&self, text: &str, bytes: &[u8]) -> Option<u64> {
        let (time, signature) = bytes.split_first_chunk::<8>()?;
        let time = u64::from_be_bytes(*time);
        // tlog-cosignature: it must not exceed 2^63 - 1.
        if i64::try_from(time).is_err() {
            return None;
        }
        let signature = ed25519_dalek::Signature::from_slice(signature).ok()?;
        self.key.verify_strict(message(text, time).as_bytes(), &signature).ok()?;
        Some(time)
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = Vec::with_capacity(33);
        key.push(COSIGNATURE);
        key.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(key))
    }
}

fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

fn key_id(name: &str, kind: u8, key: &[u8]) -> u32 {
    let digest = Sha256::new().chain_update(name).chain_update([b'\n', kind]).chain_update(key).finalize();
    digest.iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests;
