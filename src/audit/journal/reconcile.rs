//! What a log must satisfy before it may grow again.

use super::keys::{self, LogKeys, Signing};
use crate::audit::checkpoint::{Checkpoint, CheckpointError, KeyChain, Note, RotationError};
use crate::audit::hash::Hash;
use crate::audit::merkle::Frontier;
use crate::audit::record::{Head, RecordError};
use crate::audit::storage::{Store, StoreError, leaf_or_node};
use crate::clock::Timestamp;

/// Where a log stands.
#[derive(Debug)]
pub struct LogState {
    /// The tree's right edge, and its size.
    pub frontier: Frontier,
    /// The leaf hash of the last record.
    pub prev: Hash,
    /// The time of the last record.
    pub last_time: Timestamp,
    /// Allows without outcome.
    pub open: Vec<u64>,
    /// The latest checkpoint's note.
    pub checkpoint: Option<String>,
    /// The keys it has had.
    pub keys: KeyChain,
    /// What becomes of the configured keys.
    pub signing: Signing,
}

/// Why a log may not grow. Nothing is changed by finding out.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// It could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It belongs to another origin.
    #[error(
        "the log belongs to origin {found:?}, the config says {expected:?}; each origin has a log of its own"
    )]
    Origin {
        /// The log's.
        found: String,
        /// The config's.
        expected: String,
    },
    /// It is signed with another key.
    #[error(
        "the log's verifier key is {found}, the configured signing key's is {expected} (log.key_file): not the key it \
         was created with, or has now. If this key is to follow that one, name the file of that one by \
         log.retiring_key_file; the change is then recorded, signed by both"
    )]
    Key {
        /// The log's.
        found: String,
        /// The config's.
        expected: String,
    },
    /// The configured key was the log's, and is not any more.
    #[error(
        "the configured signing key {vkey} (log.key_file) was this log's before {current} was: a key that was retired \
         does not come back. Make another with `portcullis keygen`"
    )]
    Retired {
        /// The config's.
        vkey: String,
        /// The log's.
        current: String,
    },
    /// The configured retiring key is not the one before the log's key.
    #[error(
        "the retiring key {found} (log.retiring_key_file) is not the key that the log had before {current}; take it out \
         of the config, or name the right one"
    )]
    Retiring {
        /// The config's.
        found: String,
        /// The log's.
        current: String,
    },
    /// A record that changed the log's key does not hold.
    #[error("record {index} changes the log's key, and does not hold: {source}")]
    Rotation {
        /// Which.
        index: u64,
        /// Why.
        source: RotationError,
    },
    /// The latest checkpoint is signed by a key that no key record names.
    #[error(
        "the log's latest checkpoint is signed by {vkey}, but the store knows of no record that names this key: it was \
         tampered with. Run `portcullis audit verify`"
    )]
    Unnamed {
        /// The key.
        vkey: String,
    },
    /// Its latest checkpoint does not verify.
    #[error("the log's latest checkpoint does not verify: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// It holds records and no checkpoint, or the reverse.
    #[error("the latest checkpoint covers {signed} records and the log holds {held}: it was cut or added to")]
    Size {
        /// By the checkpoint.
        signed: u64,
        /// By the store.
        held: u64,
    },
    /// The last record is not the one that was written.
    #[error("record {index}, the last one, is not the one that was written")]
    Tip {
        /// Which.
        index: u64,
    },
    /// The records do not hash to what was signed.
    #[error(
        "the log's records do not hash to its latest checkpoint of size {size}; run `portcullis audit verify` to find the first bad record"
    )]
    Root {
        /// The checkpoint's size.
        size: u64,
    },
    /// Its last record cannot be read.
    #[error("record {index}: {source}")]
    Record {
        /// Which.
        index: u64,
        /// Why.
        source: RecordError,
    },
    /// The writer's thread could not be started.
    #[error("the journal's thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// Reads where the log in `store` stands, and holds its end against its latest checkpoint.
///
/// The tree is rebuilt from stored nodes and the records to the right of them, so an edit among the last few records
/// or of any stored node shows here; older records are `audit verify`'s to check.
///
/// # Errors
/// [`ReconcileError`]: the log is not as its last commit left it.
pub fn reconcile(store: &dyn Store, configured: &LogKeys) -> Result<LogState, ReconcileError> {
    let identity = store.identity()?;
    if identity.origin != configured.origin().as_str() {
        let expected = configured.origin().to_string();
        return Err(ReconcileError::Origin { found: identity.origin, expected });
    }
    let keys = keys::chain(store)?;
    let signing = keys::plan(store, &keys, configured)?;
    let held = store.last_index()?.map_or(0, |last| last + 1);
    let checkpoint = store.latest_checkpoint()?;
    let signed = checkpoint.as_deref().map(|note| keys.open(note.as_bytes())).transpose()?;
    if let (Signing::Rotates, Some(note)) = (&signing, &checkpoint) {
        // Its list of key records is not signed: a shortened one must not lead to a second change to the same key.
        let (new, note) =
            (configured.verifier(), Note::parse(note.as_bytes()).map_err(CheckpointError::from)?);
        if note.signatures_of(&new).next().is_some() {
            return Err(ReconcileError::Unnamed { vkey: new.to_string() });
        }
    }
    let size = signed.as_ref().map_or(0, Checkpoint::size);
    if size != held {
        return Err(ReconcileError::Size { signed: size, held });
    }
    let frontier = Frontier::rebuild(held, |id| leaf_or_node(store, id))?;
    if let Some(signed) = signed
        && signed.root() != frontier.root()
    {
        return Err(ReconcileError::Root { size });
    }
    let (prev, last_time) = match held.checked_sub(1) {
        None => (Hash::ZERO, Timestamp::from_micros(i64::MIN)),
        Some(index) => {
            let bytes = store.record(index)?.ok_or(StoreError::Missing("record"))?;
            let last = Head::parse(&bytes).map_err(|source| ReconcileError::Record { index, source })?;
            let leaf = Hash::leaf(&bytes);
            if store.tip()? != Some(leaf) {
                return Err(ReconcileError::Tip { index });
            }
            (leaf, last.time)
        }
    };
    Ok(LogState { frontier, prev, last_time, open: store.open_allows()?, checkpoint, keys, signing })
}
