//! What the log asks of a store, and what it may rely on.

use std::ops::ControlFlow;

use super::hash::Hash;
use super::merkle::NodeId;
use super::record::{Head, Kind};

/// Where records live. One writer calls [`Store::commit`], one other thread [`Store::keep_cosigned`]; any thread may
/// read, or [`Store::keep_policy`].
///
/// # The contract
/// 1. **All or nothing.** After a crash at any moment a batch is there whole or not at all, and if batch *n* is there,
///    so are all before it.
/// 2. **Durable means durable.** When `commit` returns `Ok` under [`Durability::Fsync`], the batch survives power
///    loss; under [`Durability::Os`], the end of the process.
/// 3. **An error is final.** When `commit` returns an error, the batch may be there or not after a restart (an fsync
///    that failed may have persisted). The caller never calls `commit` again on this store and never assumes either.
/// 4. **Readers see commits whole** and in order, at once after `commit` returned.
/// 5. **Nothing is ever rewritten** but the latest checkpoint, the latest cosigned one, the tip and the set of open
///    allows; the list of key records grows, and so do the policies; and a checkpoint that was kept gains signatures.
pub trait Store: Send + Sync + 'static {
    /// Writes one batch.
    ///
    /// # Errors
    /// Whatever kept the batch from being known to be durable; see 3.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// What was written when the log was created.
    fn identity(&self) -> Result<LogIdentity, StoreError>;

    /// The index of the last record; `None` if the log is empty.
    fn last_index(&self) -> Result<Option<u64>, StoreError>;

    /// The bytes of one record.
    fn record(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError>;

    /// Hands records on in the order of `walk` until `visit` breaks or they end. Indexes come as stored: gaps are for
    /// the caller to see.
    fn scan(&self, walk: Walk, visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// The leaf hash of the last record, as the writer computed it; `None` if the log is empty.
    fn tip(&self) -> Result<Option<Hash>, StoreError>;

    /// The checkpoint that the last commit signed, as a note.
    fn latest_checkpoint(&self) -> Result<Option<String>, StoreError>;

    /// Every checkpoint kept for good, by size, ascending.
    fn kept_checkpoints(&self) -> Result<Vec<(u64, String)>, StoreError>;

    /// The first `most` of them whose size is at least `from`.
    fn kept_checkpoints_from(&self, from: u64, most: usize) -> Result<Vec<(u64, String)>, StoreError> {
        let kept = self.kept_checkpoints()?;
        Ok(kept.into_iter().filter(|(size, _)| *size >= from).take(most).collect())
    }

    /// Makes `note`, a checkpoint of this `size` of the log that enough witnesses have cosigned, the latest cosigned one;
    /// with `keep`, it is also kept for good. It need not be durable until a later commit is: who has lost it can have it
    /// cosigned again. An error is final, as one of `commit`.
    ///
    /// # Errors
    /// Whatever kept it from being written.
    fn keep_cosigned(&self, size: u64, note: &str, keep: bool) -> Result<(), StoreError>;

    /// The latest checkpoint that was cosigned, with its cosignatures.
    fn latest_cosigned(&self) -> Result<Option<String>, StoreError>;

    /// Keeps a policy's text for good under its epoch, durable when this returns; what is kept under it already stays, if it is the same. Any thread may
    /// call it. An error is final, as one of `commit`.
    ///
    /// # Errors
    /// Whatever kept it from being known to be durable.
    fn keep_policy(&self, epoch: Hash, text: &[u8]) -> Result<(), StoreError>;

    /// The text that is kept under a policy's epoch. The store does not know whether it hashes to it.
    fn policy(&self, epoch: Hash) -> Result<Option<Vec<u8>>, StoreError>;

    /// The indexes of the records of kind `key`, ascending. This is unsigned and only says where to look: who relies on
    /// what those records say checks their signatures.
    fn key_records(&self) -> Result<Vec<u64>, StoreError> {
        let mut found = Vec::new();
        self.scan(Walk::Up(0), &mut |index, bytes| {
            if Head::parse(bytes).is_ok_and(|head| head.kind == Kind::Key) {
                found.push(index);
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Decisions that let a call through and have no outcome yet, ascending.
    fn open_allows(&self) -> Result<Vec<u64>, StoreError>;

    /// A stored node of the tree.
    fn node(&self, id: NodeId) -> Result<Option<Hash>, StoreError>;
}

/// A leaf hash, from its record, or a stored node, as rebuilding a [`Frontier`](super::merkle::Frontier) asks for.
///
/// # Errors
/// [`StoreError::Missing`] if it is not there, and whatever the store says.
pub fn leaf_or_node(store: &dyn Store, id: NodeId) -> Result<Hash, StoreError> {
    if id.level > 0 {
        return store.node(id)?.ok_or(StoreError::Missing("tree node"));
    }
    let record = store.record(id.index)?.ok_or(StoreError::Missing("record"))?;
    Ok(Hash::leaf(&record))
}

/// What a scan calls for each record: index and bytes.
pub type Visit<'a> = dyn FnMut(u64, &[u8]) -> ControlFlow<()> + 'a;

/// A direction through the records, from an index (inclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Oldest first.
    Up(u64),
    /// Newest first.
    Down(u64),
}

/// How much a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The write-ahead log is fsynced: a commit survives power loss.
    Fsync,
    /// The operating system has it: a commit survives a crash of the process, not of the machine.
    Os,
}

/// Whose log this is; written once, when it is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The log's name.
    pub origin: String,
    /// The verifier key its first checkpoint is signed with (C2SP signed-note vkey).
    pub vkey: String,
}

/// What one commit writes.
#[derive(Debug, Default)]
pub struct Batch {
    first: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Nodes of the tree that became complete.
    pub nodes: Vec<(NodeId, Hash)>,
    /// The leaf hash of the last record.
    pub tip: Option<Hash>,
    /// The signed note over everything up to and with this batch; it replaces the latest one.
    pub checkpoint: String,
    /// The size under which the checkpoint is also kept for good, if it is.
    pub keep: Option<u64>,
    /// The index of the record in this batch that changes the log's key, if one does.
    pub rotated: Option<u64>,
    /// Decisions in this batch that let a call through.
    pub opened: Vec<u64>,
    /// Decisions whose outcome is in this batch.
    pub closed: Vec<u64>,
}

impl Batch {
    /// Empties the batch for use from index `first` on, keeping its memory.
    pub fn restart(&mut self, first: u64) {
        self.first = first;
        self.bytes.clear();
        self.ends.clear();
        self.nodes.clear();
        self.tip = None;
        self.checkpoint.clear();
        self.keep = None;
        self.rotated = None;
        self.opened.clear();
        self.closed.clear();
    }

    /// The index the next record will have.
    pub fn next_index(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    /// Adds the record that `write` appends; returns what `write` does.
    pub fn push<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let written = write(&mut self.bytes);
        self.ends.push(self.bytes.len());
        written
    }

    /// The records with their indexes.
    pub fn records(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        (self.first..)
            .zip(starts.zip(&self.ends))
            .map(|(index, (start, end))| (index, self.bytes.get(start..*end).unwrap_or_default()))
    }

    /// How many bytes its records have together.
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// A store that could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The storage engine's own error.
    #[error("the store failed: {0}")]
    Engine(#[from] rocksdb::Error),
    /// The operating system's error.
    #[error("the store failed: {0}")]
    Io(#[from] std::io::Error),
    /// It failed before; see [`Store`], 3.
    #[error("the store has failed before and takes nothing more")]
    Failed,
    /// A value under this key is not what was ever written there.
    #[error("the store holds a malformed {0}")]
    Malformed(&'static str),
    /// Something that must be there is not.
    #[error("the store has no {0}")]
    Missing(&'static str),
}

impl StoreError {
    /// Whether the store can be read but what it holds is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Engine(error) => error.kind() == rocksdb::ErrorKind::Corruption,
            Self::Malformed(_) => true,
            Self::Io(_) | Self::Missing(_) | Self::Failed => false,
        }
    }
}
