//! What a verification finds wrong.

use crate::audit::checkpoint::{CheckpointError, RotationError};
use crate::audit::record::RecordError;

/// A log that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {index}: {kind}")]
pub struct Fault {
    /// The first bad index: of the record named by `kind`, or the first that can be bad.
    pub index: u64,
    /// Records below this index are proven by a checkpoint of the log.
    pub proven: u64,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// The bytes are not a record.
    #[error("not a record: {0}")]
    Record(#[from] RecordError),
    /// The record says that it stands elsewhere.
    #[error("says that its index is {found}")]
    Index {
        /// The index in its head.
        found: u64,
    },
    /// There is no record of this index, but there are later ones, or a checkpoint that covers it.
    #[error("missing; there were at least {size} records")]
    Missing {
        /// How many records there must be: the size of the next checkpoint, or up to the next record.
        size: u64,
    },
    /// Two records claim the index; one of them was put in.
    #[error("there twice")]
    Repeated,
    /// The signed root proves that the record had other bytes.
    #[error("altered; the signed tree has another hash for it")]
    Altered,
    /// The chain breaks after this record, and more than one record was changed.
    #[error("altered, or the record after it: the chain breaks between them")]
    Chain,
    /// The chain holds, but the root is not the signed one.
    #[error("from here up to index {} records were altered: their root is not the signed one", size.saturating_sub(1))]
    Root {
        /// The size of the checkpoint.
        size: u64,
    },
    /// The time is before that of the record before.
    #[error("its time lies before that of the record before it")]
    Time,
    /// The record lies beyond the last checkpoint.
    #[error("not covered by any checkpoint")]
    Unsigned,
    /// A checkpoint after the last one met is not a good one.
    #[error("not covered by a valid checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint after the last one met covers less than that.
    #[error("not covered by a checkpoint: the next one is of size {size}, out of order")]
    CheckpointOrder {
        /// The size of the checkpoint.
        size: u64,
    },
    /// The record changes the log's key, and is not one by which it can change.
    #[error("the log's key does not change by it: {0}")]
    Key(#[from] RotationError),
    /// The log is consistent in itself, under keys that have nothing to do with the one that was given.
    #[error("no checkpoint over this log is signed by {vkey}, and no record names that key as the log's")]
    NotPinned {
        /// The key that was given.
        vkey: String,
    },
    /// The log holds up to the size of the checkpoint that was kept elsewhere, but no key of its own signed that one.
    #[error("the checkpoint that was kept is not this log's: {0}")]
    NotKept(CheckpointError),
    /// The log is consistent in itself, but ends before the checkpoint that was kept elsewhere.
    #[error(
        "missing, with all after it: the checkpoint that was kept covers {size} records. The log was cut or set back"
    )]
    Shorter {
        /// The size of the checkpoint that was kept.
        size: u64,
    },
    /// The log is consistent in itself, but not with the checkpoint that was kept elsewhere.
    #[error("from here up to index {} this is not the log whose checkpoint was kept", size.saturating_sub(1))]
    Against {
        /// The size of the checkpoint that was kept.
        size: u64,
    },
}

impl FaultKind {
    /// Whether nothing is wrong with what was read; there should only have been more.
    pub(super) const fn is_of_the_end(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Shorter { .. })
    }
}
