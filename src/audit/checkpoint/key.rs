//! A log's name and its key pair, and the public form of both that a verifier is given (vkey,
//! <https://c2sp.org/signed-note#verifier-keys>).

use std::fmt;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{self, DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::note::NoteVerifier;

const ORIGIN_MAX_BYTES: usize = 200;

/// The name of a log, e.g. `portcullis.example.com/gate-1`. It is the first line of each checkpoint, the name of the
/// key, and part of a header of every answer; so it is 1 to 200 letters, digits, and `-._~/:`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

/// Why a text is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Nothing there.
    #[error("the origin is empty; write a host name you own and a path, e.g. portcullis.example.com/gate-1")]
    Empty,
    /// Longer than 200 bytes.
    #[error("the origin is longer than {ORIGIN_MAX_BYTES} bytes")]
    TooLong,
    /// A character outside the list.
    #[error("the origin has the character {0:?}; it may have ASCII letters, digits, and - . _ ~ / :")]
    Character(char),
}

impl Origin {
    /// Checks a name.
    ///
    /// # Errors
    /// See [`OriginError`].
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        if text.is_empty() {
            return Err(OriginError::Empty);
        }
        if text.len() > ORIGIN_MAX_BYTES {
            return Err(OriginError::TooLong);
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-._~/:".contains(*c))) {
            Some(c) => Err(OriginError::Character(c)),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A log's private key together with its name. The secret is wiped from memory when it is dropped, and never printed.
pub struct SigningKey {
    origin: Origin,
    secret: ed25519_dalek::SigningKey,
    /// The same key with a library that signs in half the time; signatures are the same (RFC 8032 section 5.1.6). Its
    /// copy is wiped, too. Without it, were it ever refused, signing is only slow.
    pair: Option<Ed25519KeyPair>,
    id: u32,
}

/// Why a private key could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Random(#[from] getrandom::Error),
    /// Not an Ed25519 private key in PKCS#8 PEM.
    #[error("not an Ed25519 private key in PKCS#8 PEM (\"-----BEGIN PRIVATE KEY-----\"): {0}")]
    Pkcs8(#[from] pkcs8::Error),
}

impl SigningKey {
    /// Makes a new key from the operating system's random bytes.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate(origin: Origin) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice())?;
        Ok(Self::from_seed(origin, &seed))
    }

    /// The key of this seed (RFC 8032's 32 byte private key).
    pub fn from_seed(origin: Origin, seed: &[u8; 32]) -> Self {
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = secret.verifying_key();
        let id = key_id(origin.as_str(), KeyType::Ed25519, public.as_bytes());
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public.as_bytes()).ok();
        Self { origin, secret, pair, id }
    }

    /// Reads a PKCS#8 PEM file's content (RFC 8410), as [`SigningKey::to_pkcs8_pem`] or `openssl genpkey` writes it.
    ///
    /// # Errors
    /// [`KeyError::Pkcs8`].
    pub fn from_pkcs8_pem(origin: Origin, pem: &str) -> Result<Self, KeyError> {
        let secret = ed25519_dalek::SigningKey::from_pkcs8_pem(pem)?;
        Ok(Self::from_seed(origin, secret.as_bytes()))
    }

    /// The PKCS#8 PEM form (RFC 8410, version 1: the seed alone, which every tool reads). Wiped when dropped.
    ///
    /// # Errors
    /// [`KeyError::Pkcs8`], if the encoder fails.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let pair = KeypairBytes { secret_key: self.secret.to_bytes(), public_key: None };
        Ok(pair.to_pkcs8_pem(LineEnding::LF)?)
    }

    /// The log's name.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The public half, as a verifier is given it.
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.origin.0.clone(), id: self.id, key: self.secret.verifying_key() }
    }

    /// Signs `text`, which must end in a newline, as a note with one signature.
    #[cfg(test)]
    pub(super) fn sign_note(&self, text: &str) -> String {
        format!("{text}\n{}", self.sign_line(text))
    }

    /// The line by which this key signs the note of this `text`, which must end in a newline.
    pub(super) fn sign_line(&self, text: &str) -> String {
        let mut line = Vec::with_capacity(68);
        line.extend_from_slice(&self.id.to_be_bytes());
        line.extend_from_slice(&self.sign_bytes(text.as_bytes()));
        format!("\u{2014} {} {}\n", self.origin, STANDARD.encode(line))
    }

    /// The Ed25519 signature over `message`. What is signed must say what it is for.
    pub(super) fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.pair
            .as_ref()
            .and_then(|pair| pair.try_sign(message).ok()?.as_ref().try_into().ok())
            .unwrap_or_else(|| self.secret.sign(message).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifier())
    }
}

/// What a signature line of a note is made of, by the type of its key
/// (<https://c2sp.org/signed-note#signature-types>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// 0x01: Ed25519 over the note's text. A log's own key.
    Ed25519,
    /// 0x04: cosignature/v1, Ed25519 with a time. A witness's key.
    Cosignature,
    /// 0x06: ML-DSA-44. Read and kept; nothing here checks its signatures yet.
    MlDsa44,
    /// Any other; read and kept.
    Other(u8),
}

impl KeyType {
    /// The byte before the public key.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::Cosignature => 0x04,
            Self::MlDsa44 => 0x06,
            Self::Other(byte) => byte,
        }
    }

    const fn of(byte: u8) -> Self {
        match byte {
            0x01 => Self::Ed25519,
            0x04 => Self::Cosignature,
            0x06 => Self::MlDsa44,
            other => Self::Other(other),
        }
    }

    /// How long a public key of this type is, bytes, where that is known.
    const fn key_bytes(self) -> Option<usize> {
        match self {
            Self::Ed25519 | Self::Cosignature => Some(32),
            Self::MlDsa44 => Some(1_312),
            Self::Other(_) => None,
        }
    }
}

/// A verifier key of any type: read, and its ID checked. Its text form, by [`fmt::Display`], is the vkey:
/// `<name>+<key id in hex>+<base64(type ‖ public key)>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vkey {
    name: String,
    id: u32,
    kind: KeyType,
    key: Vec<u8>,
}

/// Why a text is not a verifier key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VkeyError {
    /// Not three parts joined by `+`, or a part is not what it should be.
    #[error("not a verifier key: expected <name>+<8 hex digits>+<base64>, as `portcullis keygen` prints it")]
    Malformed,
    /// A kind of key other than the one that is wanted here.
    #[error("a verifier key of type {0:#04x}; a log's is Ed25519 (0x01)")]
    Type(u8),
    /// The key ID is not that of this name and key: one of the three was changed.
    #[error("the key ID does not belong to this name and key; the verifier key was altered or mistyped")]
    Id,
}

impl Vkey {
    /// Reads a vkey, whatever its type.
    ///
    /// # Errors
    /// See [`VkeyError`]; never [`VkeyError::Type`]. The ID of a key of an unknown type is not checked: how it comes
    /// about is that type's to say.
    pub fn parse(vkey: &str) -> Result<Self, VkeyError> {
        let (name, rest) = vkey.split_once('+').ok_or(VkeyError::Malformed)?;
        let (id, key) = rest.split_once('+').ok_or(VkeyError::Malformed)?;
        let digits = id.len() == 8 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_key_name(name) || !digits {
            return Err(VkeyError::Malformed);
        }
        let id = u32::from_str_radix(id, 16).map_err(|_| VkeyError::Malformed)?;
        let bytes = STANDARD.decode(key).map_err(|_| VkeyError::Malformed)?;
        let (kind, key) = bytes.split_first().ok_or(VkeyError::Malformed)?;
        let kind = KeyType::of(*kind);
        if kind.key_bytes().is_some_and(|length| length != key.len()) {
            return Err(VkeyError::Malformed);
        }
        if !matches!(kind, KeyType::Other(_)) && id != key_id(name, kind, key) {
            return Err(VkeyError::Id);
        }
        Ok(Self { name: name.to_owned(), id, kind, key: key.to_vec() })
    }

    /// The vkey of a public key.
    pub fn of(name: &str, kind: KeyType, key: &[u8]) -> Self {
        Self { name: name.to_owned(), id: key_id(name, kind, key), kind, key: key.to_vec() }
    }

    /// The name the key signs under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key ID that stands in its signature lines.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The type.
    pub const fn kind(&self) -> KeyType {
        self.kind
    }

    /// The public key, without the byte for its type.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.kind.byte()], self.key.as_slice()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(key))
    }
}

/// A log's public key and the name it signs under: a [`Vkey`] of type Ed25519. Its text form, by [`fmt::Display`], is
/// the vkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    /// Reads a vkey.
    ///
    /// # Errors
    /// See [`VkeyError`].
    pub fn parse(vkey: &str) -> Result<Self, VkeyError> {
        let Vkey { name, id, kind, key } = Vkey::parse(vkey)?;
        if kind != KeyType::Ed25519 {
            return Err(VkeyError::Type(kind.byte()));
        }
        let bytes = key.as_slice().try_into().map_err(|_| VkeyError::Malformed)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| VkeyError::Malformed)?;
        Ok(Self { name, id, key })
    }

    /// The name the key signs under; for a log's key, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key), big-endian.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The public key alone.
    pub(super) fn public(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Whether `signature` is this key's over `text`. Stricter than RFC 8032 asks: keys and points of small order are
    /// refused, so no signature can hold for two texts.
    pub(super) fn holds(&self, text: &[u8], signature: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(text, &signature).is_ok())
    }
}

impl NoteVerifier for VerifierKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn holds(&self, text: &str, signature: &[u8]) -> bool {
        self.holds(text.as_bytes(), signature)
    }

    fn vkey(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_bytes().to_vec();
        Vkey { name: self.name.clone(), id: self.id, kind: KeyType::Ed25519, key }.fmt(f)
    }
}

/// Whether signed-note takes `name` for a key's name: not empty, no white space (Unicode's), no `+`.
pub(super) fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

fn key_id(name: &str, kind: KeyType, key: &[u8]) -> u32 {
    let digest =
        Sha256::new().chain_update(name).chain_update([b'\n', kind.byte()]).chain_update(key).finalize();
    digest.iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::parse("portcullis.example.com/gate-1").unwrap()
    }

    #[test]
    fn both_libraries_make_the_same_signature() {
        for seed in 0..20 {
            let key = SigningKey::from_seed(origin(), &[seed; 32]);
            let text = "a".repeat(usize::from(seed) * 37);
            let quick = key.pair.as_ref().unwrap().sign(text.as_bytes());
            assert_eq!(quick.as_ref(), key.secret.sign(text.as_bytes()).to_bytes());
        }
    }

    #[test]
    fn an_origin_is_fit_for_a_key_name_and_a_header() {
        for good in ["a", "portcullis.example.com/gate-1", "localhost:8080/dev_1~x"] {
            assert_eq!(Origin::parse(good).unwrap().as_str(), good);
        }
        let table = [
            ("", OriginError::Empty),
            ("a b", OriginError::Character(' ')),
            ("a+b", OriginError::Character('+')),
            ("a\nb", OriginError::Character('\n')),
            ("a\u{a0}b", OriginError::Character('\u{a0}')),
            ("gäte", OriginError::Character('ä')),
        ];
        for (bad, error) in table {
            assert_eq!(Origin::parse(bad), Err(error), "{bad:?}");
        }
        assert_eq!(Origin::parse(&"a".repeat(201)), Err(OriginError::TooLong));
        assert!(Origin::parse(&"a".repeat(200)).is_ok());
    }

    #[test]
    fn a_verifier_key_reads_back() {
        let key = SigningKey::from_seed(origin(), &[7; 32]);
        assert_eq!(VerifierKey::parse(&key.verifier().to_string()), Ok(key.verifier()));
    }

    #[test]
    fn a_verifier_key_that_was_altered_is_refused() {
        let vkey = SigningKey::from_seed(origin(), &[7; 32]).verifier().to_string();
        let (name, rest) = vkey.split_once('+').unwrap();
        let (id, key) = rest.split_once('+').unwrap();
        let other = SigningKey::from_seed(origin(), &[8; 32]).verifier().to_string();
        let other_key = other.splitn(3, '+').nth(2).unwrap();
        let typed_02 = STANDARD.encode([2; 33]);
        let witness = Vkey::of(name, KeyType::Cosignature, &[9; 32]);
        let table = [
            (format!("other+{id}+{key}"), VkeyError::Id),
            (format!("{name}+00000000+{key}"), VkeyError::Id),
            (format!("{name}+{id}+{other_key}"), VkeyError::Id),
            (format!("{name}+{id}+{typed_02}"), VkeyError::Type(2)),
            (witness.to_string(), VkeyError::Type(4)),
            (format!("{name}+{}+{key}", &id[1..]), VkeyError::Malformed),
            (format!("{name}++{}+{key}", &id[1..]), VkeyError::Malformed),
            (format!("{name}+ABCDEF01+{key}"), VkeyError::Malformed),
            (format!("+{id}+{key}"), VkeyError::Malformed),
            (format!("{name}+{id}+"), VkeyError::Malformed),
            (format!("{name}+{id}+{key}\n"), VkeyError::Malformed),
            (format!("{name}+{id}"), VkeyError::Malformed),
            (String::new(), VkeyError::Malformed),
        ];
        for (bad, error) in table {
            assert_eq!(VerifierKey::parse(&bad), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn a_vkey_of_any_type_is_read_and_kept() {
        let mut keys = vec![
            Vkey::of("w.example.com/1", KeyType::Cosignature, &[3; 32]),
            Vkey::of("w.example.com/1", KeyType::MlDsa44, &[3; 1_312]),
            Vkey::of("w.example.com/1", KeyType::Other(0x7f), &[3; 5]),
        ];
        let log = SigningKey::from_seed(origin(), &[7; 32]).verifier().to_string();
        keys.push(Vkey::parse(&log).unwrap());
        for key in keys {
            assert_eq!(Vkey::parse(&key.to_string()), Ok(key.clone()), "{key}");
            let mut altered = key.clone();
            altered.key[0] ^= 1;
            let refused = matches!(key.kind(), KeyType::Other(_))
                || Vkey::parse(&altered.to_string()) == Err(VkeyError::Id);
            assert!(refused, "{key}");
        }
        let short = Vkey::of("w", KeyType::MlDsa44, &[3; 1_311]).to_string();
        assert_eq!(Vkey::parse(&short), Err(VkeyError::Malformed));
    }

    #[test]
    fn a_key_of_small_order_vouches_for_nothing() {
        // The neutral element as public key: plain RFC 8032 verification holds for any text with R = the same point
        // and S = 0.
        let mut point = [0; 32];
        point[0] = 1;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&point).unwrap();
        let weak = VerifierKey { name: "weak".into(), id: key_id("weak", KeyType::Ed25519, &point), key };
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!weak.holds(b"any text\n", &signature));
    }

    #[test]
    fn a_key_survives_its_pem_form() {
        let key = SigningKey::generate(origin()).unwrap();
        let pem = key.to_pkcs8_pem().unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{}", *pem);
        let read = SigningKey::from_pkcs8_pem(origin(), &pem).unwrap();
        assert_eq!(read.verifier(), key.verifier());
        assert!(SigningKey::from_pkcs8_pem(origin(), "not a key").is_err());
    }

    #[test]
    fn a_key_written_by_openssl_is_read() {
        // RFC 8410 §10.3's example private key.
        let pem = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
            -----END PRIVATE KEY-----\n";
        let key = SigningKey::from_pkcs8_pem(origin(), pem).unwrap();
        assert_eq!(key.to_pkcs8_pem().unwrap().as_str(), pem);
    }

    #[test]
    fn printing_a_key_does_not_give_it_away() {
        let key = SigningKey::from_seed(origin(), &[7; 32]);
        let shown = format!("{key:?}");
        assert!(shown.contains(&key.verifier().to_string()));
        assert!(!shown.contains("7, 7, 7") && !shown.contains("07070707"));
    }
}
