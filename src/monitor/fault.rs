//! What can be wrong with a log, as seen from outside; or with the way there.

use http::StatusCode;

use super::fetch::FetchError;
use super::records::RecordFault;
use super::state::{Evidence, StateError};
use super::tree::TileFault;
use crate::audit::checkpoint::{BadCosignature, CheckpointError, NoteError, RotationError};
use crate::audit::hash::Hash;

/// Why a round did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No answer, or one that says that there is none now.
    #[error("the log cannot be reached: {0}")]
    Unreachable(FetchError),
    /// The gate does not let this caller read.
    #[error(
        "the gate answered {status}: this monitor may not read {path}; see its token and the gate's policy"
    )]
    Refused {
        /// 401 or 403.
        status: StatusCode,
        /// What was asked for.
        path: String,
    },
    /// Something answered, but not as a log does.
    #[error("what answers there is not the log: {0}")]
    Garbage(FetchError),
    /// Not a checkpoint.
    #[error("/checkpoint is no checkpoint")]
    NoCheckpoint,
    /// A checkpoint of another log.
    #[error("/checkpoint is of the log {found:?}, not of {expected:?}")]
    Origin {
        /// The name of the key that was given.
        expected: String,
        /// The name in the checkpoint.
        found: String,
    },
    /// Not signed by the log's key, or badly.
    #[error("the checkpoint does not hold: {0}")]
    Signature(#[from] CheckpointError),
    /// Witnesses are missing.
    #[error("the checkpoint of {size} records is not cosigned by as many witnesses as the policy asks for")]
    NotCosigned {
        /// What the checkpoint covers.
        size: u64,
    },
    /// A witness's signature that does not hold.
    #[error("a cosignature of the checkpoint does not hold: {0}")]
    Cosignature(#[from] BadCosignature),
    /// A tile that does not lead to the root.
    #[error("the tree does not hold: {0}")]
    Tile(#[from] TileFault),
    /// A record that is not the tree's, or none at all.
    #[error("the records do not hold: {0}")]
    Record(#[from] RecordFault),
    /// A change of keys that does not hold.
    #[error("record {index} changes the log's key, but does not hold: {error}")]
    Key {
        /// Of the record.
        index: u64,
        /// Why.
        error: RotationError,
    },
    /// The log is shorter than it was.
    #[error(
        "rollback: a checkpoint of {shown} records is shown, after one of {kept}: the log was set back, or an old answer is given"
    )]
    Rollback {
        /// Records under the kept checkpoint.
        kept: u64,
        /// Records under the one that is shown.
        shown: u64,
    },
    /// The log's key has signed two histories.
    #[error(
        "fork: the log of {shown} records does not begin with the {kept} records that were signed before ({kept_root}): it was forked, or \
         rewritten"
    )]
    Fork {
        /// Records under the kept checkpoint.
        kept: u64,
        /// Its root.
        kept_root: Hash,
        /// Records under the one that is shown.
        shown: u64,
    },
    /// A fork or rollback was found before, and nobody has looked at it yet.
    #[error("{} was found at {}, and stands until somebody removes {}: {}", .0.kind, .0.time, .0.path.display(), .0.what)]
    Before(Evidence),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file with the token.
    #[error("{path}: {source}")]
    Token {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Every word that [`Fault::kind`] says, and `stall`.
pub const KINDS: [&str; 13] = [
    "fork",
    "rollback",
    "stall",
    "bad_signature",
    "wrong_origin",
    "not_cosigned",
    "bad_tile",
    "bad_record",
    "bad_key",
    "garbage",
    "unreachable",
    "refused",
    "state",
];

impl Fault {
    /// The word for figures and scripts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Refused { .. } => "refused",
            Self::Garbage(_) | Self::NoCheckpoint | Self::Signature(CheckpointError::Malformed) => "garbage",
            Self::Signature(CheckpointError::Note(NoteError::Malformed)) => "garbage",
            Self::Origin { .. } | Self::Signature(CheckpointError::Origin { .. }) => "wrong_origin",
            Self::Signature(CheckpointError::Note(
                NoteError::NotSigned { .. } | NoteError::BadSignature { .. },
            ))
            | Self::Cosignature(_) => "bad_signature",
            Self::NotCosigned { .. } => "not_cosigned",
            Self::Tile(_) => "bad_tile",
            Self::Record(_) => "bad_record",
            Self::Key { .. } => "bad_key",
            Self::Rollback { .. } => "rollback",
            Self::Fork { .. } => "fork",
            Self::Before(evidence) => evidence.kind.as_str(),
            Self::State(_) | Self::Token { .. } => "state",
        }
    }

    /// Whether it is the log that does not hold, and not the way there or this machine.
    pub const fn is_of_the_log(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Refused { .. } | Self::State(_) | Self::Token { .. } => false,
            Self::Garbage(_)
            | Self::NoCheckpoint
            | Self::Origin { .. }
            | Self::Signature(_)
            | Self::NotCosigned { .. }
            | Self::Cosignature(_)
            | Self::Tile(_)
            | Self::Record(_)
            | Self::Key { .. }
            | Self::Rollback { .. }
            | Self::Fork { .. }
            | Self::Before(_) => true,
        }
    }
}
