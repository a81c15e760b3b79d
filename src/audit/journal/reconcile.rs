//! What a log must satisfy before it may grow again.

use std::ops::ControlFlow;

use crate::audit::checkpoint::{self, NoteError, SigningKey};
use crate::audit::hash::Hash;
use crate::audit::merkle::{Frontier, NodeId};
use crate::audit::record::{Record, RecordError};
use crate::audit::storage::{Store, StoreError, Walk};
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
}

/// Why a log may not grow. Nothing is changed by finding out.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// It could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It belongs to another origin.
    #[error("the log belongs to origin {found:?}, the config says {expected:?}; each origin has a log of its own")]
    Origin {
        /// The log's.
        found: String,
        /// The config's.
        expected: String,
    },
    /// It is signed with another key.
    #[error("the log's verifier key is {found}, the configured signing key's is {expected}: not the key it was created with")]
    Key {
        /// The log's.
        found: String,
        /// The config's.
        expected: String,
    },
    /// Its latest checkpoint does not verify.
    #[error("the log's latest checkpoint does not verify: {0}")]
    Checkpoint(#[from] NoteError),
    /// It holds records and no checkpoint, or the reverse.
    #[error("the latest checkpoint covers {signed} records and the log holds {held}: it was cut or added to")]
    Size {
        /// By the checkpoint.
        signed: u64,
        /// By the store.
        held: u64,
    },
    /// The records do not hash to what was signed.
    #[error("the log's records do not hash to its latest checkpoint of size {size}; run `portcullis audit verify` to find the first bad record")]
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
pub fn reconcile(store: &dyn Store, key: &SigningKey) -> Result<LogState, ReconcileError> {
    let identity = store.identity()?;
    if identity.origin != key.origin() {
        return Err(ReconcileError::Origin { found: identity.origin, expected: key.origin().into() });
    }
    if identity.vkey != key.vkey() {
        return Err(ReconcileError::Key { found: identity.vkey, expected: key.vkey() });
    }
    let held = store.last_index()?.map_or(0, |last| last + 1);
    let checkpoint = store.latest_checkpoint()?;
    let signed = checkpoint.as_deref().map(|note| checkpoint::open(note, &key.verifier())).transpose()?;
    let size = signed.as_ref().map_or(0, |signed| signed.size);
    if size != held {
        return Err(ReconcileError::Size { signed: size, held });
    }
    let frontier = rebuild(store, held)?;
    if let Some(signed) = signed
        && signed.root != frontier.root()
    {
        return Err(ReconcileError::Root { size });
    }
    let (prev, last_time) = match held.checked_sub(1) {
        None => (Hash::ZERO, Timestamp::from_micros(i64::MIN)),
        Some(index) => {
            let bytes = store.record(index)?.ok_or(StoreError::Missing("record"))?;
            let last = Record::parse(&bytes).map_err(|source| ReconcileError::Record { index, source })?;
            (Hash::leaf(&bytes), last.time())
        }
    };
    Ok(LogState { frontier, prev, last_time, open: store.open_allows()?, checkpoint })
}

/// The right edge of a tree over `size` records: for each stored level, the nodes that no higher stored node covers,
/// then the leaves that no node covers.
fn rebuild(store: &dyn Store, size: u64) -> Result<Frontier, ReconcileError> {
    let mut frontier = Frontier::default();
    for level in Frontier::stored_levels(size) {
        let first = frontier.size() >> level;
        for index in first..size >> level {
            let node = store.node(NodeId { level, index })?.ok_or(StoreError::Missing("tree node"))?;
            frontier.push_node(level, node);
        }
    }
    let from = frontier.size();
    if from < size {
        store.scan(Walk::Up(from), &mut |_, bytes| {
            frontier.push(Hash::leaf(bytes), |_, _| {});
            ControlFlow::Continue(())
        })?;
    }
    Ok(frontier)
}
