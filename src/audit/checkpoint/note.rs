//! The signed note (<https://c2sp.org/signed-note>): a text, a blank line, and one line for each signature,
//! `— <key name> <base64(key id ‖ signature)>`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::is_key_name;

/// More than this is refused unread.
const NOTE_MAX_BYTES: usize = 1_000_000;
/// signed-note asks readers to take at least 16.
const SIGNATURES_MAX: usize = 100;

/// A note, read but not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

/// One line of signature: whose it says it is, and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// The key's name.
    pub name: &'a str,
    /// The key's ID.
    pub id: u32,
    /// What the key's type makes of it; for Ed25519, 64 bytes of signature. Never empty.
    pub bytes: Vec<u8>,
}

/// A key that a verifier knows, of whatever type.
pub trait NoteVerifier {
    /// The name in its signature lines.
    fn name(&self) -> &str;

    /// The ID in its signature lines.
    fn id(&self) -> u32;

    /// Whether `signature`, as [`Signature::bytes`], is this key's over a note's `text`.
    fn holds(&self, text: &str, signature: &[u8]) -> bool;

    /// The key as people know it.
    fn vkey(&self) -> String;
}

/// Why a note is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note.
    #[error("not a signed note")]
    Malformed,
    /// No signature of the key.
    #[error("the note is not signed by {vkey}")]
    NotSigned {
        /// The key that was looked for.
        vkey: String,
    },
    /// A signature of the key that does not hold.
    #[error("the note's signature by {vkey} does not hold")]
    BadSignature {
        /// The key whose signature it claims to be.
        vkey: String,
    },
}

impl<'a> Note<'a> {
    /// Reads a note. Signatures of unknown types and names are kept, whatever they are.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NoteError> {
        Self::read(bytes).ok_or(NoteError::Malformed)
    }

    /// The signed text, with its last newline.
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// All signatures, in order.
    pub fn signatures(&self) -> &[Signature<'a>] {
        &self.signatures
    }

    /// The signatures that claim to be `key`'s, in order.
    pub fn signatures_of(&self, key: &dyn NoteVerifier) -> impl Iterator<Item = &Signature<'a>> {
        self.signatures.iter().filter(|signature| signature.name == key.name() && signature.id == key.id())
    }

    /// Whether `key` signed the text: `false` if there is no signature of it. If it has several, all must hold. Other
    /// keys' signatures are ignored.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`].
    pub fn is_signed_by(&self, key: &dyn NoteVerifier) -> Result<bool, NoteError> {
        let mut signed = false;
        for signature in self.signatures_of(key) {
            if !key.holds(self.text, &signature.bytes) {
                return Err(NoteError::BadSignature { vkey: key.vkey() });
            }
            signed = true;
        }
        Ok(signed)
    }

    /// Which of the `known` keys signed the text, in their order. Signatures of others are ignored, whatever their type;
    /// a signature of a known key that does not hold refuses the note, however many others do
    /// (<https://c2sp.org/signed-note#signatures>).
    ///
    /// # Errors
    /// [`NoteError::BadSignature`].
    pub fn signers<'k, K: NoteVerifier>(&self, known: &'k [K]) -> Result<Vec<&'k K>, NoteError> {
        let mut signers = Vec::new();
        for key in known {
            if self.is_signed_by(key)? {
                signers.push(key);
            }
        }
        Ok(signers)
    }

    /// Checks that `key` signed the text.
    ///
    /// # Errors
    /// [`NoteError::NotSigned`], [`NoteError::BadSignature`].
    pub fn verify(&self, key: &dyn NoteVerifier) -> Result<(), NoteError> {
        if self.is_signed_by(key)? { Ok(()) } else { Err(NoteError::NotSigned { vkey: key.vkey() }) }
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > NOTE_MAX_BYTES {
            return None;
        }
        let note = std::str::from_utf8(bytes).ok()?;
        if note.bytes().any(|b| b < 0x20 && b != b'\n') {
            return None;
        }
        // The last blank line: the text itself may have some.
        let blank = note.rfind("\n\n")?;
        let (text, lines) = (note.get(..=blank)?, note.get(blank + 2..)?.strip_suffix('\n')?);
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == SIGNATURES_MAX {
                return None;
            }
            signatures.push(Signature::read(line)?);
        }
        Some(Self { text, signatures })
    }
}

impl<'a> Signature<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (name, base64) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let bytes = STANDARD.decode(base64).ok()?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        if !is_key_name(name) || bytes.is_empty() {
            return None;
        }
        Some(Self { name, id: u32::from_be_bytes(*id), bytes: bytes.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::{Origin, SigningKey};
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(Origin::parse("a.example.com").unwrap(), &[seed; 32])
    }

    fn line(note: &str) -> &str {
        note.rsplit_once("\n\n").unwrap().1
    }

    #[test]
    fn signatures_of_unknown_keys_are_ignored() {
        let text = "one\n\ntwo\n";
        let (ours, others) = (key(1).sign_note(text), key(2).sign_note(text));
        let unknown_type = "\u{2014} witness.example.com/ü AAAABAUG\n";
        let note = format!("{text}\n{}{unknown_type}{}", line(&others), line(&ours));
        let note = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(note.text(), text);
        assert_eq!(note.verify(&key(1).verifier()), Ok(()));
        assert_eq!(note.verify(&key(2).verifier()), Ok(()));
        assert!(matches!(note.verify(&key(3).verifier()), Err(NoteError::NotSigned { .. })));
    }

    #[test]
    fn a_bad_signature_of_a_known_key_refuses_the_note_even_beside_a_good_one() {
        let (good, bad) = (key(1).sign_note("text\n"), key(1).sign_note("other text\n"));
        for lines in [[line(&good), line(&bad)], [line(&bad), line(&good)]] {
            let note = format!("text\n\n{}", lines.concat());
            assert!(matches!(
                Note::parse(note.as_bytes()).unwrap().verify(&key(1).verifier()),
                Err(NoteError::BadSignature { .. })
            ));
        }
    }

    #[test]
    fn of_several_known_keys_each_that_signed_must_hold() {
        let text = "text\n";
        let (one, two, bad) = (key(1).sign_line(text), key(2).sign_line(text), key(2).sign_line("other\n"));
        let known = [1, 2, 3].map(|seed| key(seed).verifier());
        let note = format!("{text}\n{one}{two}");
        let note = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(note.signers(&known), Ok(vec![&known[0], &known[1]]));
        assert_eq!(note.signers(&known[2..]), Ok(vec![]));
        let note = format!("{text}\n{one}{bad}");
        let note = Note::parse(note.as_bytes()).unwrap();
        assert!(matches!(note.signers(&known), Err(NoteError::BadSignature { .. })));
        assert_eq!(note.signers(&known[..1]), Ok(vec![&known[0]]), "the other is not known here");
    }

    #[test]
    fn signatures_of_other_types_are_kept_and_passed_over() {
        let text = "text\n";
        let line = |name: &str, length: usize| {
            format!("\u{2014} {name} {}\n", STANDARD.encode([&[1, 2, 3, 4][..], &vec![5; length]].concat()))
        };
        // cosignature/v1: a time and 64 bytes; ML-DSA-44: a time and 2,420 bytes.
        let note = format!(
            "{text}\n{}{}{}",
            line("w.example/1", 72),
            key(1).sign_line(text),
            line("w.example/2", 2_428)
        );
        let note = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(note.verify(&key(1).verifier()), Ok(()));
        let kept: Vec<_> = note.signatures().iter().map(|s| (s.name, s.bytes.len())).collect();
        assert_eq!(kept, [("w.example/1", 72), ("a.example.com", 64), ("w.example/2", 2_428)]);
    }

    #[test]
    fn what_is_not_a_note_is_refused() {
        let good = key(1).sign_note("text\n");
        let signature = line(&good);
        let table = [
            String::new(),
            "text\n".into(),
            "text\n\n".into(),
            format!("text\n{signature}"),
            good.trim_end().into(),
            format!("{good}\n"),
            format!("te\rxt\n\n{signature}"),
            format!("te\0xt\n\n{signature}"),
            format!("text\n\n{}", signature.replace('\u{2014}', "-")),
            format!("text\n\n{}", signature.replace("a.example.com", "a+b")),
            format!("text\n\n{}", signature.replace("a.example.com", "")),
            format!("text\n\n{}", signature.replace("a.example.com", "a\u{a0}b")),
            "text\n\n\u{2014} a.example.com AAAA\n".into(),
            "text\n\n\u{2014} a.example.com AAAAAAA\n".into(),
            format!("text\n\n{}", signature.repeat(101)),
            format!("{}\n\n{signature}", "x".repeat(NOTE_MAX_BYTES)),
        ];
        for bad in table {
            assert_eq!(Note::parse(bad.as_bytes()), Err(NoteError::Malformed), "{bad:.80?}");
        }
        assert!(Note::parse(b"te\xffxt\n\n").is_err());
        assert!(Note::parse(format!("text\n\n{}", signature.repeat(100)).as_bytes()).is_ok());
    }
}
