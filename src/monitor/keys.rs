//! The log's keys, as they come to be known from one that was given: the *pinned* one, and each that a record of kind
//! `key` leads to from there.

use crate::audit::checkpoint::{Checkpoint, CheckpointError, KeyChain, Note, RotationError, VerifierKey};
use crate::audit::record::{Head, Kind};
use crate::audit::verify::rotation;

/// The keys known so far, and the records that name them.
#[derive(Clone, Debug)]
pub struct Keys {
    chain: KeyChain,
    records: Vec<Vec<u8>>,
}

impl Keys {
    /// One key, and nothing else.
    pub fn pinned(key: VerifierKey) -> Self {
        Self { chain: key.into(), records: Vec::new() }
    }

    /// Takes up what a record says of the log's keys; whether there is a new one. A record that leads on from a key that is
    /// not the last one known is passed over: the pinned key may have come after it.
    ///
    /// # Errors
    /// [`RotationError`], if the record takes up the last known key and does not hold.
    pub fn read(&mut self, head: &Head, record: &[u8]) -> Result<bool, RotationError> {
        if head.kind != Kind::Key {
            return Ok(false);
        }
        let Some(rotation) = rotation(record)? else { return Ok(false) };
        if rotation.old_vkey != self.chain.current().to_string() || self.records.len() == MOST_CHANGES {
            return Ok(false);
        }
        self.chain.follow(&rotation, head.index)?;
        self.records.push(record.to_vec());
        Ok(true)
    }

    /// Opens a checkpoint by the key in force at its size.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn open(&self, note: &[u8]) -> Result<Checkpoint, CheckpointError> {
        self.chain.open(note)
    }

    /// Whether a signature in the log's name is by a key that is not known: while a log's key changes, both sign.
    pub fn is_there_another(&self, note: &[u8]) -> bool {
        let Ok(note) = Note::parse(note) else { return false };
        let name = self.chain.current().name();
        note.signatures()
            .iter()
            .any(|signature| signature.name == name && self.chain.all().all(|key| key.id() != signature.id))
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.chain.current().name()
    }

    /// The log's key now.
    pub fn current(&self) -> &VerifierKey {
        self.chain.current()
    }

    /// The records that lead from the pinned key to the current one.
    pub fn records(&self) -> &[Vec<u8>] {
        &self.records
    }
}

/// Changes of key that are followed. A log that has more cannot be told from one that is to fill a monitor's disk.
const MOST_CHANGES: usize = 1_000;

#[cfg(test)]
mod tests;
