//! From one key of a log to the next, so that whoever was given one of them can follow.
//!
//! A record of kind `key` names the new key. The old key signs that it is the next one, the new key signs that it takes
//! this log up at this index; neither can do the other's part. Each signs a text that no checkpoint, cosignature or
//! other message can be, since its first line has spaces, which no origin has:
//!
//! ```text
//! Portcullis log key rotation v1: the old key names the new one
//! <origin>
//! <index of the record>
//! <old vkey>
//! <new vkey>
//! ```
//!
//! ```text
//! Portcullis log key rotation v1: the new key takes the log up
//! <origin>
//! <index of the record>
//! ```
//!
//! Each line ends in a newline, the last one too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::{SigningKey, VerifierKey, VkeyError};
use super::note::{Note, NoteError};
use super::{Checkpoint, CheckpointError};

/// What a record says of a new key: texts as they stand there, nothing checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The old key.
    pub old_vkey: String,
    /// The new one.
    pub new_vkey: String,
    /// The old key's signature, base64.
    pub old_signature: String,
    /// The new key's signature, base64.
    pub new_signature: String,
}

/// Why a log's key does not change by a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// A field is not there, or not a text.
    #[error("it has no {0}")]
    Field(&'static str),
    /// The old key is not the one in force.
    #[error("it takes {found} for the log's key, which is {expected}")]
    Old {
        /// In force.
        expected: String,
        /// In the record.
        found: String,
    },
    /// The new key cannot be read.
    #[error("its new key: {0}")]
    New(#[from] VkeyError),
    /// The new key is another log's.
    #[error("its new key is named {0:?}, which is not the log's name")]
    Name(String),
    /// The new key was the log's before.
    #[error("its new key {0} has been the log's before; a key does not come back")]
    Again(String),
    /// The old key did not sign.
    #[error("the old key's signature over the new one does not hold")]
    OldSignature,
    /// The new key did not sign.
    #[error("the new key's signature over the log's name and the index does not hold")]
    NewSignature,
}

impl Rotation {
    /// The change from `old` to `new` by the record at `index`. Both are keys of one log.
    pub fn sign(old: &SigningKey, new: &SigningKey, index: u64) -> Self {
        let (old_vkey, new_vkey) = (old.verifier().to_string(), new.verifier().to_string());
        let naming = naming_text(old.origin().as_str(), index, &old_vkey, &new_vkey);
        let taking = taking_text(old.origin().as_str(), index);
        Self {
            old_signature: STANDARD.encode(old.sign_bytes(naming.as_bytes())),
            new_signature: STANDARD.encode(new.sign_bytes(taking.as_bytes())),
            old_vkey,
            new_vkey,
        }
    }

    /// The new key, if `old` names it and it takes the log up at `index`.
    fn check(&self, old: &VerifierKey, index: u64) -> Result<VerifierKey, RotationError> {
        let expected = old.to_string();
        if self.old_vkey != expected {
            return Err(RotationError::Old { expected, found: self.old_vkey.clone() });
        }
        let new = VerifierKey::parse(&self.new_vkey)?;
        if new.name() != old.name() {
            return Err(RotationError::Name(new.name().to_owned()));
        }
        let naming = naming_text(old.name(), index, &self.old_vkey, &self.new_vkey);
        if !holds(old, &naming, &self.old_signature) {
            return Err(RotationError::OldSignature);
        }
        if !holds(&new, &taking_text(old.name(), index), &self.new_signature) {
            return Err(RotationError::NewSignature);
        }
        Ok(new)
    }
}

fn holds(key: &VerifierKey, text: &str, signature: &str) -> bool {
    STANDARD.decode(signature).is_ok_and(|signature| key.holds(text.as_bytes(), &signature))
}

fn naming_text(origin: &str, index: u64, old: &str, new: &str) -> String {
    format!(
        "Portcullis log key rotation v1: the old key names the new one\n{origin}\n{index}\n{old}\n{new}\n"
    )
}

fn taking_text(origin: &str, index: u64) -> String {
    format!("Portcullis log key rotation v1: the new key takes the log up\n{origin}\n{index}\n")
}

/// The keys of one log, one after the other. Never empty; none stands in it twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChain {
    first: Box<VerifierKey>,
    /// Each later key, and the index of the record that named it.
    later: Vec<(u64, VerifierKey)>,
    /// A key that is known and that no record has named yet.
    expected: Option<Box<VerifierKey>>,
}

impl From<VerifierKey> for KeyChain {
    fn from(first: VerifierKey) -> Self {
        Self { first: Box::new(first), later: Vec::new(), expected: None }
    }
}

impl KeyChain {
    /// Also knows `key`, which may come to be the log's: where the log is ahead of what is known of it here, a
    /// checkpoint by that key is believed, too.
    #[must_use]
    pub fn expecting(mut self, key: VerifierKey) -> Self {
        self.expected = (!self.knows(&key)).then(|| Box::new(key));
        self
    }

    /// Goes on to the key that the record at `index` names.
    ///
    /// # Errors
    /// [`RotationError`]; then nothing has changed.
    pub fn follow(&mut self, rotation: &Rotation, index: u64) -> Result<(), RotationError> {
        let new = rotation.check(self.current(), index)?;
        if self.knows(&new) {
            return Err(RotationError::Again(new.to_string()));
        }
        self.expected.take_if(|expected| **expected == new);
        self.later.push((index, new));
        Ok(())
    }

    /// The log's key now.
    pub fn current(&self) -> &VerifierKey {
        self.later.last().map_or(&self.first, |(_, key)| key)
    }

    /// The key before that one, and the index of the record that named the current one.
    pub fn before(&self) -> Option<(&VerifierKey, u64)> {
        let (_, rest) = self.later.split_last()?;
        let (index, _) = self.later.last()?;
        Some((rest.last().map_or(&self.first, |(_, key)| key), *index))
    }

    /// The key that signs checkpoints of this size: the one that the last key record below it names.
    pub fn in_force(&self, size: u64) -> &VerifierKey {
        let named = self.later.iter().rev().find(|(index, _)| *index < size);
        named.map_or(&self.first, |(_, key)| key)
    }

    /// Whether `key` is or was the log's.
    pub fn knows(&self, key: &VerifierKey) -> bool {
        self.all().any(|known| known == key)
    }

    /// All keys, the first one first.
    pub fn all(&self) -> impl Iterator<Item = &VerifierKey> {
        std::iter::once(&*self.first).chain(self.later.iter().map(|(_, key)| key))
    }

    /// Every key but the first, with the index of the record that named it.
    pub fn rotations(&self) -> impl Iterator<Item = (u64, &VerifierKey)> {
        self.later.iter().map(|(index, key)| (*index, key))
    }

    /// Reads a checkpoint of this log: signed by the key in force at its size, or the expected one, and no signature of
    /// any key known is bad. An old key's word on what came after it is not enough.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn open(&self, note: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let note = Note::parse(note)?;
        let claimed = Checkpoint::parse(note.text()).ok_or(CheckpointError::Malformed);
        let known: Vec<&VerifierKey> = self.all().chain(self.expected.as_deref()).collect();
        let mut signers = Vec::new();
        for key in known {
            if note.is_signed_by(key)? {
                signers.push(key);
            }
        }
        let wanted = match &claimed {
            Ok(claimed) => self.in_force(claimed.size()),
            Err(_) => self.current(),
        };
        if !signers.iter().any(|key| *key == wanted || Some(*key) == self.expected.as_deref()) {
            return Err(NoteError::NotSigned { vkey: wanted.to_string() }.into());
        }
        claimed?.of(wanted.name())
    }
}

#[cfg(test)]
mod tests;
