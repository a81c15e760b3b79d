//! The keys that a log is configured with, against those it has had.
//!
//! A log's key changes at a start: the config names the new key, and the one before as the retiring one. The writer's
//! first commit then begins with a record of kind `key`. From that commit on, both keys sign each checkpoint, until the
//! overlap is over; then the new one alone. The retiring key is not needed any more then, and is let go of.

use std::time::Duration;

use super::reconcile::ReconcileError;
use crate::audit::checkpoint::{KeyChain, Origin, Rotation, SigningKey, VerifierKey};
use crate::audit::hash::Hash;
use crate::audit::record::{Body, Epochs, Event, Head};
use crate::audit::storage::{Store, StoreError};
use crate::audit::verify::rotation;
use crate::clock::Timestamp;

/// The keys that a log is configured with. All have the same name.
#[derive(Debug)]
pub struct LogKeys {
    /// Signs.
    pub signing: SigningKey,
    /// Signed before, if the key changes or has just changed.
    pub retiring: Option<SigningKey>,
    /// How long both sign, from the change on.
    pub overlap: Duration,
}

impl From<SigningKey> for LogKeys {
    /// One key, from the log's creation on.
    fn from(signing: SigningKey) -> Self {
        Self { signing, retiring: None, overlap: Duration::ZERO }
    }
}

impl LogKeys {
    /// The log's name.
    pub const fn origin(&self) -> &Origin {
        self.signing.origin()
    }

    /// The public half of the key that signs.
    pub fn verifier(&self) -> VerifierKey {
        self.signing.verifier()
    }
}

/// What becomes of the configured keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// The signing key is the log's, and signs alone.
    Alone,
    /// The signing key is the log's, and the retiring key signs beside it until then.
    Both {
        /// The end of the overlap.
        until: Timestamp,
    },
    /// The retiring key is the log's: the next commit begins with the change.
    Rotates,
}

/// The keys that the log in `store` has had, each named by a record that the one before signed.
///
/// # Errors
/// [`ReconcileError::Store`], [`ReconcileError::Rotation`], [`ReconcileError::Record`].
pub fn chain(store: &dyn Store) -> Result<KeyChain, ReconcileError> {
    let first = VerifierKey::parse(&store.identity()?.vkey).map_err(|_| StoreError::Malformed("vkey"))?;
    let mut chain = KeyChain::from(first);
    for index in store.key_records()? {
        let failed = |source| ReconcileError::Rotation { index, source };
        let bytes = store.record(index)?.ok_or(StoreError::Missing("key record"))?;
        if let Some(rotation) = rotation(&bytes).map_err(failed)? {
            chain.follow(&rotation, index).map_err(failed)?;
        }
    }
    Ok(chain)
}

/// What becomes of the `configured` keys in a log that has had `keys`.
///
/// # Errors
/// [`ReconcileError::Key`], [`ReconcileError::Retired`], [`ReconcileError::Retiring`].
pub fn plan(store: &dyn Store, keys: &KeyChain, configured: &LogKeys) -> Result<Signing, ReconcileError> {
    let (signing, current) = (configured.verifier(), keys.current());
    let retiring = configured.retiring.as_ref().map(SigningKey::verifier);
    if signing == *current {
        return match (retiring, keys.before()) {
            (None, _) => Ok(Signing::Alone),
            (Some(retiring), Some((before, index))) if retiring == *before => {
                let bytes = store.record(index)?.ok_or(StoreError::Missing("key record"))?;
                let head = Head::parse(&bytes).map_err(|source| ReconcileError::Record { index, source })?;
                Ok(Signing::Both { until: head.time.plus(configured.overlap) })
            }
            (Some(retiring), _) => {
                Err(ReconcileError::Retiring { found: retiring.to_string(), current: current.to_string() })
            }
        };
    }
    if keys.knows(&signing) {
        return Err(ReconcileError::Retired { vkey: signing.to_string(), current: current.to_string() });
    }
    if retiring.as_ref() == Some(current) {
        return Ok(Signing::Rotates);
    }
    Err(ReconcileError::Key { found: current.to_string(), expected: signing.to_string() })
}

/// What the writer signs with.
pub(super) struct Signers {
    key: SigningKey,
    /// Let go of when its time is over.
    beside: Option<Beside>,
    overlap: Duration,
}

struct Beside {
    key: SigningKey,
    /// `None` until the change is recorded.
    until: Option<Timestamp>,
}

impl Signers {
    pub(super) fn new(configured: LogKeys, signing: Signing) -> Self {
        let LogKeys { signing: key, retiring, overlap } = configured;
        let until = match signing {
            Signing::Alone => return Self { key, beside: None, overlap },
            Signing::Both { until } => Some(until),
            Signing::Rotates => None,
        };
        let beside = retiring.map(|key| Beside { key, until });
        Self { key, beside, overlap }
    }

    /// The record of the change, if it is still to be made; it is to stand at `index`.
    pub(super) fn change(&self, index: u64, epochs: &Epochs) -> Option<Body> {
        let old = &self.beside.as_ref().filter(|beside| beside.until.is_none())?.key;
        let Rotation { old_vkey, new_vkey, old_signature, new_signature } =
            Rotation::sign(old, &self.key, index);
        let event = Event::KeyRotated {
            vkey: &new_vkey,
            old_vkey: &old_vkey,
            old_signature: &old_signature,
            new_signature: &new_signature,
        };
        Some(Body::event(epochs, &event))
    }

    /// Signs the checkpoint of a commit made at `time`. The one that changes the key is signed by both, always.
    pub(super) fn sign(&mut self, size: u64, root: &Hash, time: Timestamp) -> String {
        if self.beside.take_if(|beside| beside.until.is_some_and(|until| time >= until)).is_some() {
            tracing::info!(
                "the log's retiring key signs no more: log.retiring_key_file can go from the config"
            );
        }
        let note = self.key.sign_beside(self.beside.as_ref().map(|beside| &beside.key), size, root);
        if let Some(beside) = &mut self.beside {
            beside.until.get_or_insert(time.plus(self.overlap));
        }
        note
    }
}

#[cfg(test)]
mod tests;
