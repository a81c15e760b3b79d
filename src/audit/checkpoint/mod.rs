//! The checkpoint: a signed statement of origin, size and Merkle root, to the byte as C2SP has it
//! (<https://c2sp.org/tlog-checkpoint> in a <https://c2sp.org/signed-note>, Ed25519).
//!
//! | file | what is there |
//! |---|---|
//! | `key` | [`Origin`], [`SigningKey`], [`VerifierKey`]; [`Vkey`], a verifier key of any type |
//! | `note` | the signed note: text, blank line, signature lines |
//! | `cosignature` | [`CosigningKey`], [`CosignerKey`]: what a witness signs, and how it is checked |
//! | `policy` | [`WitnessPolicy`]: whose cosignatures are enough |
//! | `submission` | [`Submission`]: what a witness is sent |
//! | `rotation` | [`Rotation`], [`KeyChain`]: from one key of a log to the next |
//!
//! ```text
//! portcullis.example.com/gate-1
//! 1234
//! <root, base64>
//!
//! — portcullis.example.com/gate-1 <key id and signature, base64>
//! ```
//!
//! Invariant: outside this module a [`Checkpoint`] exists only if the signature of a key the caller trusts was checked over it.

mod cosignature;
mod key;
mod note;
mod policy;
mod rotation;
mod submission;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use cosignature::{BadCosignature, CosignerKey, CosignerKeyError, CosigningKey};
pub use key::{KeyError, KeyType, Origin, OriginError, SigningKey, VerifierKey, Vkey, VkeyError};
pub use note::{Note, NoteError, NoteVerifier, Signature};
pub use policy::{Judgement, PolicyError, PolicyFault, WitnessPolicy};
pub use rotation::{KeyChain, Rotation, RotationError};
pub use submission::Submission;

use super::hash::Hash;

/// What a log's key has signed: under this origin, the first `size` records have this root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
}

/// Why a note is not a checkpoint of the log whose key was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a note, or not signed by the key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The signed text is not a checkpoint.
    #[error(
        "the signed text is not a checkpoint: expected an origin, a size and a root in base64, a line each"
    )]
    Malformed,
    /// The text is signed by the key, but for another log.
    #[error("the checkpoint is of the log \"{found}\", not of \"{expected}\"")]
    Origin {
        /// The name of the key.
        expected: String,
        /// The origin in the text.
        found: String,
    },
}

impl Checkpoint {
    /// Reads a signed note and checks it: `key`'s signature must be there and every one of them must hold; signatures
    /// of other keys are ignored; the origin must be the key's name. Extension lines are allowed and not looked at.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn open(note: &[u8], key: &VerifierKey) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        note.verify(key)?;
        Self::parse(note.text()).ok_or(CheckpointError::Malformed)?.of(key.name())
    }

    /// Itself, if it is of the log named so.
    fn of(self, origin: &str) -> Result<Self, CheckpointError> {
        if self.origin != origin {
            return Err(CheckpointError::Origin { expected: origin.to_owned(), found: self.origin });
        }
        Ok(self)
    }

    /// What a note states of size and root, whoever signed it: for those who made it themselves, or have to know the size
    /// to say whose signature it must bear. `None` if it is no checkpoint.
    pub fn stated(note: &[u8]) -> Option<(u64, Hash)> {
        let stated = Self::parse(Note::parse(note).ok()?.text())?;
        Some((stated.size, stated.root))
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many records it covers: those of index `0..size`.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The Merkle root over their leaf hashes.
    pub const fn root(&self) -> Hash {
        self.root
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        if origin.is_empty() || lines.any(str::is_empty) {
            return None;
        }
        Some(Self {
            origin: origin.to_owned(),
            size: decimal(size)?,
            root: Hash(STANDARD.decode(root).ok()?.try_into().ok()?),
        })
    }
}

/// A `u64` in decimal as tlog-checkpoint wants it: no sign, no leading zero.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

impl SigningKey {
    /// Signs the statement that the first `size` records have this `root`. The whole note, ready to be stored.
    pub fn sign(&self, size: u64, root: &Hash) -> String {
        self.sign_beside(None, size, root)
    }

    /// As [`SigningKey::sign`], with a second signature by `also`, a key of the same log.
    pub fn sign_beside(&self, also: Option<&Self>, size: u64, root: &Hash) -> String {
        let text = checkpoint_text(self.origin(), size, root);
        let mut note = format!("{text}\n{}", self.sign_line(&text));
        if let Some(also) = also {
            note.push_str(&also.sign_line(&text));
        }
        note
    }
}

fn checkpoint_text(origin: &Origin, size: u64, root: &Hash) -> String {
    format!("{origin}\n{size}\n{}\n", STANDARD.encode(root.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use signed_note::{Note as OracleNote, Signer, StandardSigner, StandardVerifier, VerifierList};
    use tlog_tiles::Checkpoint as OracleCheckpoint;

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(Origin::parse("portcullis.example.com/gate-1").unwrap(), &[seed; 32])
    }

    /// Signs any text with the test key, as `sign` does with a checkpoint's.
    fn signed(text: &str) -> String {
        key(1).sign_note(text)
    }

    #[test]
    fn a_checkpoint_opens_to_what_was_signed() {
        let note = key(1).sign(42, &Hash::of(b"root"));
        let opened = Checkpoint::open(note.as_bytes(), &key(1).verifier()).unwrap();
        assert_eq!(
            (opened.origin(), opened.size(), opened.root()),
            ("portcullis.example.com/gate-1", 42, Hash::of(b"root"))
        );
    }

    #[test]
    fn only_the_named_key_opens_a_checkpoint() {
        let note = key(1).sign(42, &Hash::of(b"root"));
        assert_eq!(
            Checkpoint::open(note.as_bytes(), &key(2).verifier()),
            Err(CheckpointError::Note(NoteError::NotSigned { vkey: key(2).verifier().to_string() }))
        );
    }

    #[test]
    fn the_origin_must_be_the_name_of_the_key() {
        let note = signed("elsewhere.example.com\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
        assert_eq!(
            Checkpoint::open(note.as_bytes(), &key(1).verifier()),
            Err(CheckpointError::Origin {
                expected: "portcullis.example.com/gate-1".into(),
                found: "elsewhere.example.com".into()
            })
        );
    }

    #[test]
    fn signed_text_that_is_no_checkpoint_is_refused() {
        const ROOT: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        const O: &str = "portcullis.example.com/gate-1";
        let texts = [
            format!("{O}\n"),
            format!("{O}\n1\n"),
            format!("\n1\n{ROOT}\n"),
            format!("{O}\n01\n{ROOT}\n"),
            format!("{O}\n+1\n{ROOT}\n"),
            format!("{O}\n-1\n{ROOT}\n"),
            format!("{O}\n\n{ROOT}\n"),
            format!("{O}\n18446744073709551616\n{ROOT}\n"),
            format!("{O}\n1\n{}\n", &ROOT[1..]),
            format!("{O}\n1\n{}\n", &ROOT[4..]),
            format!("{O}\n1\n AAA{}\n", &ROOT[4..]),
            format!("{O}\n1\n{ROOT}\n\n"),
            format!("{O}\n1\n{ROOT}\n\nextension\n"),
        ];
        for text in texts {
            let note = signed(&text);
            assert!(
                matches!(
                    Checkpoint::open(note.as_bytes(), &key(1).verifier()),
                    Err(CheckpointError::Malformed)
                ),
                "{text:?}"
            );
        }
        let extended = signed(&format!("{O}\n1\n{ROOT}\nextension\nanother\n"));
        assert!(Checkpoint::open(extended.as_bytes(), &key(1).verifier()).is_ok());
    }

    #[test]
    fn any_changed_byte_of_a_note_is_refused() {
        let note = key(1).sign(42, &Hash::of(b"root")).into_bytes();
        for at in 0..note.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut changed = note.clone();
                changed[at] ^= flip;
                assert!(Checkpoint::open(&changed, &key(1).verifier()).is_err(), "byte {at} ^ {flip:#x}");
            }
        }
    }

    proptest! {
        #[test]
        fn an_independent_implementation_reads_what_we_sign(size: u64, root: [u8; 32], seed: u8) {
            let key = key(seed);
            let note = key.sign(size, &Hash(root));

            let oracle = OracleNote::from_bytes(note.as_bytes()).unwrap();
            let verifier = StandardVerifier::new(&key.verifier().to_string()).unwrap();
            let (ours, others) = oracle.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
            prop_assert_eq!((ours.len(), others.len()), (1, 0));

            let checkpoint = OracleCheckpoint::from_bytes(oracle.text()).unwrap();
            prop_assert_eq!(checkpoint.origin(), key.origin().as_str());
            prop_assert_eq!(checkpoint.size(), size);
            prop_assert_eq!(checkpoint.hash().0, root);
        }

        #[test]
        fn we_read_what_an_independent_implementation_signs(size: u64, root: [u8; 32], seed: [u8; 32]) {
            // A Go-style signer key: PRIVATE+KEY+<name>+<key id>+base64(0x01 ‖ seed).
            let ours = SigningKey::from_seed(Origin::parse("log.example.com").unwrap(), &seed);
            let vkey = ours.verifier().to_string();
            let id = vkey.split('+').nth(1).unwrap();
            let secret = STANDARD.encode([&[1u8][..], &seed].concat());
            let signer = StandardSigner::new(&format!("PRIVATE+KEY+log.example.com+{id}+{secret}")).unwrap();

            let root = tlog_tiles::Hash(root);
            let text = OracleCheckpoint::new("log.example.com", size, root, "").unwrap().to_bytes();
            let mut note = OracleNote::new(&text, &[]).unwrap();
            note.add_sigs(&[&signer as &dyn Signer]).unwrap();

            prop_assert_eq!(note.to_bytes(), ours.sign(size, &Hash(root.0)).into_bytes());
            let opened = Checkpoint::open(&note.to_bytes(), &ours.verifier()).unwrap();
            prop_assert_eq!((opened.size(), opened.root()), (size, Hash(root.0)));
        }

        #[test]
        fn no_bytes_make_opening_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Checkpoint::open(&bytes, &key(1).verifier());
        }
    }
}
