//! Proofs as files: that a record is in a log, and that a log has only grown. Whoever has one, and the log's verifier key,
//! needs nothing else to check it.
//!
//! A [`RecordProof`] is a C2SP tlog-proof (<https://c2sp.org/tlog-proof>), to the byte:
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index 73894
//! <hash, base64>                          the leaf's sibling first, the root's child last
//! …
//!
//! <checkpoint, as signed>
//! ```
//!
//! A [`ConsistencyProof`] is one JSON object: `origin`, `from`, `to`, `proof` (base64 hashes, RFC 6962 §2.1.2), and, where
//! there is one of size `to`, `checkpoint`. C2SP has no format for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::checkpoint::{Checkpoint, CheckpointError, VerifierKey, decimal};
use super::hash::Hash;
use super::merkle::proof::{ConsistencyError, InclusionError, verify_consistency, verify_inclusion};

/// That a record stands at an index, under a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordProof {
    /// The record's index.
    pub index: u64,
    /// The inclusion proof (RFC 6962 §2.1.1).
    pub path: Vec<Hash>,
    /// The checkpoint, a signed note.
    pub checkpoint: String,
}

/// That the log of one size begins with all of the log of a smaller one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// The log's name, as whoever made the proof says.
    pub origin: String,
    /// The smaller size.
    pub from: u64,
    /// The larger size.
    pub to: u64,
    /// The consistency proof (RFC 6962 §2.1.2).
    pub path: Vec<Hash>,
    /// The checkpoint of the larger size, a signed note, where it came along.
    pub checkpoint: Option<String>,
}

/// Why bytes are not a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFormatError {
    /// The first line is not that of a tlog-proof.
    #[error("not a proof of a record: its first line must be {HEADER:?}")]
    Header,
    /// The extra data is not base64.
    #[error("the proof's extra data is not base64")]
    Extra,
    /// No index, or not one in decimal.
    #[error("the proof has no line `index` with a number behind it")]
    Index,
    /// A line that is no hash.
    #[error("line {0} of the proof is not a SHA-256 hash in base64")]
    Hash(usize),
    /// The blank line or what follows it is missing.
    #[error("the proof has no checkpoint behind a blank line")]
    Checkpoint,
    /// Not the JSON object of a consistency proof.
    #[error(
        "not a proof of consistency: expected a JSON object with origin, from, to, and proof, a list of base64 hashes"
    )]
    Json,
}

/// Why a proof does not show what it is to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordProofError {
    /// Its checkpoint is not one of the key's log.
    #[error("the proof's checkpoint does not hold: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The record is not under the checkpoint by it.
    #[error("the record is not at that index under that checkpoint: {0}")]
    Inclusion(#[from] InclusionError),
}

/// Why a proof does not show that one checkpoint's log grew into the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrowthError {
    /// It is of other sizes.
    #[error("the proof goes from size {from} to {to}, the checkpoints from {old} to {new}")]
    Sizes {
        /// The proof's smaller size.
        from: u64,
        /// The proof's larger size.
        to: u64,
        /// The older checkpoint's size.
        old: u64,
        /// The newer checkpoint's size.
        new: u64,
    },
    /// It does not lead from one root to the other.
    #[error("the log did not grow from one to the other: {0}")]
    Consistency(#[from] ConsistencyError),
}

impl RecordProof {
    /// The file.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\nindex {}\n", self.index);
        for hash in &self.path {
            text.push_str(&STANDARD.encode(hash.0));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads a file. Extra data, which nothing vouches for, is passed over.
    ///
    /// # Errors
    /// [`ProofFormatError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofFormatError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ProofFormatError::Header)?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ProofFormatError::Checkpoint)?;
        let mut lines = head.split('\n').zip(1..).peekable();
        if lines.next().map(|(line, _)| line) != Some(HEADER) {
            return Err(ProofFormatError::Header);
        }
        if let Some((line, _)) = lines.next_if(|(line, _)| line.starts_with("extra ")) {
            let extra = line.strip_prefix("extra ").unwrap_or_default();
            STANDARD.decode(extra).map_err(|_| ProofFormatError::Extra)?;
        }
        let index = lines.next().and_then(|(line, _)| decimal(line.strip_prefix("index ")?));
        let index = index.ok_or(ProofFormatError::Index)?;
        let path =
            lines.map(|(line, at)| hash(line).ok_or(ProofFormatError::Hash(at))).collect::<Result<_, _>>()?;
        Ok(Self { index, path, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that `key` signed the checkpoint and that `record`, the stored bytes, stands under it at the index.
    ///
    /// # Errors
    /// [`RecordProofError`].
    pub fn check(&self, record: &[u8], key: &VerifierKey) -> Result<Checkpoint, RecordProofError> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), key)?;
        let leaf = Hash::leaf(record);
        verify_inclusion(&leaf, self.index, checkpoint.size(), &self.path, &checkpoint.root())?;
        Ok(checkpoint)
    }
}

impl ConsistencyProof {
    /// The file: one line of JSON.
    pub fn to_json(&self) -> String {
        let path: Vec<String> = self.path.iter().map(|hash| STANDARD.encode(hash.0)).collect();
        let mut object = json!({ "origin": self.origin, "from": self.from, "to": self.to, "proof": path });
        if let (Some(checkpoint), Some(fields)) = (&self.checkpoint, object.as_object_mut()) {
            fields.insert("checkpoint".into(), checkpoint.as_str().into());
        }
        format!("{object}\n")
    }

    /// Reads a file. Fields that are not known are passed over.
    ///
    /// # Errors
    /// [`ProofFormatError::Json`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofFormatError> {
        let read = || {
            let object: Value = serde_json::from_slice(bytes).ok()?;
            let path = object.get("proof")?.as_array()?.iter().map(|line| hash(line.as_str()?));
            let checkpoint = match object.get("checkpoint") {
                None | Some(Value::Null) => None,
                Some(note) => Some(note.as_str()?.to_owned()),
            };
            Some(Self {
                origin: object.get("origin")?.as_str()?.to_owned(),
                from: object.get("from")?.as_u64()?,
                to: object.get("to")?.as_u64()?,
                path: path.collect::<Option<_>>()?,
                checkpoint,
            })
        };
        read().ok_or(ProofFormatError::Json)
    }

    /// Checks that the log of the checkpoint `old` grew into that of `new`: nothing `old` covers was changed or dropped.
    ///
    /// # Errors
    /// [`GrowthError`].
    pub fn check(&self, old: &Checkpoint, new: &Checkpoint) -> Result<(), GrowthError> {
        let Self { from, to, path, .. } = self;
        if (*from, *to) != (old.size(), new.size()) {
            return Err(GrowthError::Sizes { from: *from, to: *to, old: old.size(), new: new.size() });
        }
        Ok(verify_consistency(*from, &old.root(), *to, &new.root(), path)?)
    }
}

fn hash(line: &str) -> Option<Hash> {
    Some(Hash(STANDARD.decode(line).ok()?.try_into().ok()?))
}

const HEADER: &str = "c2sp.org/tlog-proof@v1";

#[cfg(test)]
mod tests;
