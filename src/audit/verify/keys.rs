//! The keys of a log, as they come to be known while it is read, when one of them is known to begin with: the *pinned*
//! one.
//!
//! - If the log was created with the pinned key, all is plain: that key, then each that a key record names.
//! - If the pinned key came later, the first record says which key the log was created with, and records lead from there
//!   to the pinned one. Until they do, checkpoints are only claimed: they are held against the records, and nothing
//!   counts as proven by them. The pinned key's first checkpoint proves all records before it, those claims among them.
//! - If the pinned key never becomes the log's, the log does not hold for who was given that key.

use super::Due;
use crate::audit::checkpoint::{
    Checkpoint, CheckpointError, KeyChain, Note, NoteError, Rotation, RotationError, VerifierKey,
};
use crate::audit::record::{Head, Kind, Record};

/// The keys known so far.
#[derive(Debug)]
pub(in crate::audit) struct Keys {
    pinned: VerifierKey,
    chain: KeyChain,
    /// Whether the pinned key is one of the chain.
    anchored: bool,
    age: Age,
}

/// How often the keys have changed: what was opened before the last change is to be opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) struct Age(Option<u32>);

impl Age {
    /// Of what the caller has opened: that stands.
    pub(in crate::audit) const ANY: Self = Self(None);
}

impl Keys {
    pub(in crate::audit) fn pinned(key: VerifierKey) -> Self {
        Self { chain: key.clone().into(), pinned: key, anchored: true, age: Age(Some(0)) }
    }

    pub(super) const fn pin(&self) -> &VerifierKey {
        &self.pinned
    }

    pub(in crate::audit) fn into_chain(self) -> KeyChain {
        self.chain
    }

    pub(in crate::audit) const fn chain(&self) -> &KeyChain {
        &self.chain
    }

    /// Whether the pinned key is one of those known.
    pub(in crate::audit) const fn are_anchored(&self) -> bool {
        self.anchored
    }

    /// Takes up what the next record says of the log's keys.
    pub(in crate::audit) fn read(&mut self, head: &Head, record: &[u8]) -> Result<(), RotationError> {
        match head.kind {
            Kind::Lifecycle if head.index == 0 => {
                let created = created_with(record);
                if let Some(key) =
                    created.filter(|key| key.name() == self.pinned.name() && *key != self.pinned)
                {
                    self.chain = KeyChain::from(key).expecting(self.pinned.clone());
                    self.anchored = false;
                    self.grow_older();
                }
                Ok(())
            }
            Kind::Key => {
                let Some(rotation) = rotation(record)? else { return Ok(()) };
                self.chain.follow(&rotation, head.index)?;
                self.anchored |= self.chain.knows(&self.pinned);
                self.grow_older();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The next checkpoint to be met. Not being signed by a key that is known yet is no fault yet.
    pub(super) fn due(&self, note: &[u8]) -> Result<Due, CheckpointError> {
        let opened = match self.chain.open(note) {
            Ok(checkpoint) => Some((checkpoint, self.age)),
            Err(CheckpointError::Note(NoteError::NotSigned { .. })) => None,
            Err(error) => return Err(error),
        };
        let (size, _) = Checkpoint::stated(note).ok_or(CheckpointError::Malformed)?;
        Ok(Due { size, note: note.to_vec(), opened })
    }

    /// Opens a checkpoint by the keys known now.
    pub(super) fn open(&self, due: &Due) -> Result<Checkpoint, CheckpointError> {
        match &due.opened {
            Some((checkpoint, age)) if *age == Age::ANY || *age == self.age => Ok(checkpoint.clone()),
            _ => self.chain.open(&due.note),
        }
    }

    /// Whether a checkpoint that was met proves anything to who knows the pinned key.
    pub(super) fn prove(&self, met: &Due) -> bool {
        self.anchored || Note::parse(&met.note).is_ok_and(|note| note.is_signed_by(&self.pinned) == Ok(true))
    }

    const fn grow_older(&mut self) {
        if let Some(age) = self.age.0 {
            self.age = Age(Some(age.saturating_add(1)));
        }
    }
}

/// The key that the first record says the log was created with.
fn created_with(record: &[u8]) -> Option<VerifierKey> {
    let record = Record::parse(record).ok()?;
    if record.text(&["event"]) != Some("created") {
        return None;
    }
    VerifierKey::parse(record.text(&["vkey"])?).ok()
}

/// The change of keys that a record of kind `key` tells of; `None` if it tells of something else.
///
/// # Errors
/// [`RotationError::Field`].
pub fn rotation(record: &[u8]) -> Result<Option<Rotation>, RotationError> {
    let record = Record::parse(record).map_err(|_| RotationError::Field("event"))?;
    if record.text(&["event"]) != Some("rotated") {
        return Ok(None);
    }
    let field =
        |name: &'static str| record.text(&[name]).map(str::to_owned).ok_or(RotationError::Field(name));
    Ok(Some(Rotation {
        new_vkey: field("vkey")?,
        old_vkey: field("old_vkey")?,
        old_signature: field("old_signature")?,
        new_signature: field("new_signature")?,
    }))
}

#[cfg(test)]
mod tests;
