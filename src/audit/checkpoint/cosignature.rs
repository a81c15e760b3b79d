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
use zeroize::Zeroizing;

use super::key::{KeyError, KeyType, Origin, Vkey, VkeyError};
use super::note::{Note, NoteVerifier, Signature};

/// A witness's private key together with its name. The secret is wiped from memory when it is dropped, and never
/// printed. It must sign nothing else, and under no other name: the signed message does not hold the name.
pub struct CosigningKey {
    name: Origin,
    secret: ed25519_dalek::SigningKey,
    verifier: CosignerKey,
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
        let key = secret.verifying_key();
        let vkey = Vkey::of(name.as_str(), KeyType::Cosignature, key.as_bytes());
        Self { name, secret, verifier: CosignerKey { vkey, key } }
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
        self.verifier.clone()
    }

    /// Cosigns a checkpoint's `text`, which ends in a newline, at `time`, in seconds since 1970. The note's signature
    /// line, with its newline.
    pub fn cosign(&self, text: &str, time: u64) -> String {
        let mut bytes = Vec::with_capacity(76);
        bytes.extend_from_slice(&self.verifier.id().to_be_bytes());
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
    vkey: Vkey,
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
        let vkey = Vkey::parse(vkey).map_err(|error| match error {
            VkeyError::Id => E::Id,
            VkeyError::Malformed | VkeyError::Type(_) => E::Malformed,
        })?;
        match vkey.kind() {
            KeyType::Cosignature => {}
            KeyType::Ed25519 => return Err(E::Log),
            KeyType::MlDsa44 => return Err(E::MlDsa44),
            KeyType::Other(byte) => return Err(E::Type(byte)),
        }
        let public = vkey.key().try_into().map_err(|_| E::Malformed)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(public).map_err(|_| E::Malformed)?;
        Ok(Self { vkey, key })
    }

    /// The name the witness cosigns under.
    pub fn name(&self) -> &str {
        self.vkey.name()
    }

    /// The first four bytes of SHA-256(name ‖ 0x0A ‖ 0x04 ‖ public key), big-endian.
    pub const fn id(&self) -> u32 {
        self.vkey.id()
    }

    /// The public key alone, which tells two witnesses apart whatever they are called.
    pub fn public(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The latest time at which this witness cosigned the note's text, in seconds since 1970; `None` if it did not.
    /// Whatever else has signed is ignored.
    ///
    /// # Errors
    /// [`BadCosignature`], if any signature under its name and key ID does not hold.
    pub fn cosigned(&self, note: &Note<'_>) -> Result<Option<u64>, BadCosignature> {
        let mut latest = None;
        for signature in note.signatures_of(self) {
            let time = self
                .time(note.text(), &signature.bytes)
                .ok_or_else(|| BadCosignature { vkey: self.to_string() })?;
            latest = latest.max(Some(time));
        }
        Ok(latest)
    }

    /// The lines of `note` that are this witness's, as they stand in it; unchecked.
    pub fn lines(&self, note: &Note<'_>) -> String {
        let line = |Signature { name, id, bytes }: &Signature<'_>| {
            format!("\u{2014} {name} {}\n", STANDARD.encode([&id.to_be_bytes(), bytes.as_slice()].concat()))
        };
        note.signatures_of(self).map(line).collect()
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

impl NoteVerifier for CosignerKey {
    fn name(&self) -> &str {
        self.vkey.name()
    }

    fn id(&self) -> u32 {
        self.vkey.id()
    }

    fn holds(&self, text: &str, signature: &[u8]) -> bool {
        self.time(text, signature).is_some()
    }

    fn vkey(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.vkey.fmt(f)
    }
}

fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

#[cfg(test)]
mod tests;
