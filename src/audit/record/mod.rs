//! A record: one JSON object, made once, stored and hashed as those bytes. `docs/record-format.md` is the format's
//! own description; `tests/vectors/` freezes it.
//!
//! | file | what is there |
//! |---|---|
//! | `text` | how a value that came from outside is written, whatever bytes it has and however long it is |
//! | `entry` | what decisions, outcomes and events say of themselves: a [`Body`] from each |
//! | `fields` | their fields, each within its budget |
//! | `head` | [`Head`]: index, prev, time, kind, read by fixed prefix |
//! | `room` | [`Room`]: what events say of the log's disk |
//! | `view` | [`Record`]: a stored record, read whole, for queries |
//!
//! A record is made in two steps on two threads: the [`Body`] where the decision was made, the head around it by
//! [`seal`] where its index is given out.
//!
//! Invariants:
//! 1. A record is at most [`MAX_RECORD_BYTES`] long, whatever its entry holds: each field has a budget, and the budgets'
//!    sum is checked at compile time.
//! 2. A record is printable ASCII (0x20 to 0x7E): one line, safe on a terminal.
//! 3. Keys come in a fixed order, once each; a field without a value is left out; `null` is never written.

mod entry;
mod fields;
mod head;
mod room;
mod text;
mod view;

use crate::clock::Timestamp;

pub use entry::{
    ClientEntry, DecisionEntry, Epochs, Event, HeadEntry, OutcomeEntry, OutcomeResult, RequestEntry, Shown,
};
pub use head::{Head, RecordError};
pub use room::Room;
pub use view::Record;

use super::hash::Hash;

/// No record is longer.
pub const MAX_RECORD_BYTES: usize = 60_000;

/// The longest head: a 20 digit index.
const MAX_HEAD_BYTES: usize = r#"{"v":1,"index":,"prev":"","time":"","#.len() + 20 + 64 + 27;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An attempt and what was decided.
    Decision,
    /// What became of an allowed call.
    Outcome,
    /// An act of an administrator other than a call through the gate. Reserved.
    Admin,
    /// A policy was loaded or refused.
    Policy,
    /// A config was loaded or refused.
    Config,
    /// The log was created, the gate started or stopped, the clock jumped, the log's disk filled.
    Lifecycle,
    /// Expired records were dropped. Reserved.
    Retention,
    /// The log's key changed. Reserved.
    Key,
    /// A sum of things that are not recorded one by one.
    Summary,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Decision,
        Self::Outcome,
        Self::Admin,
        Self::Policy,
        Self::Config,
        Self::Lifecycle,
        Self::Retention,
        Self::Key,
        Self::Summary,
    ];

    /// The word for it in a record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Outcome => "outcome",
            Self::Admin => "admin",
            Self::Policy => "policy",
            Self::Config => "config",
            Self::Lifecycle => "lifecycle",
            Self::Retention => "retention",
            Self::Key => "key",
            Self::Summary => "summary",
        }
    }

    /// The kind of this word; `None` if there is none.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A record's bytes from `"kind":` to the closing brace: all of it but its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    kind: Kind,
    bytes: Vec<u8>,
}

impl Body {
    /// What the record will be about.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The most bytes the sealed record can have; what a queue should count for it.
    pub const fn sealed_len(&self) -> usize {
        MAX_HEAD_BYTES + self.bytes.len()
    }
}

/// Appends the whole record to `out`: `body` with its place in the log before it. Returns its leaf hash, which is the
/// next record's `prev`.
///
/// `prev` is the leaf hash of the record at `index - 1`, [`Hash::ZERO`] at index 0. `time` must not lie before that
/// record's; times outside the years 1970 to 9999 are written as the nearer end.
pub fn seal(index: u64, prev: &Hash, time: Timestamp, body: &Body, out: &mut Vec<u8>) -> Hash {
    let start = out.len();
    out.reserve(body.sealed_len());
    head::write(index, prev, time, out);
    out.extend_from_slice(&body.bytes);
    Hash::leaf(out.get(start..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_reads_back_from_its_word() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::parse("Decision"), None);
    }

    #[test]
    fn sealing_appends_and_returns_the_leaf_hash() {
        let epochs = Epochs { policy: Hash::of(b"p"), config: Hash::of(b"c") };
        let body = Body::event(&epochs, &Event::Stopped);
        let mut out = b"what was there".to_vec();
        let leaf = seal(7, &Hash::of(b"before"), Timestamp::from_micros(0), &body, &mut out);
        let record = out.strip_prefix(b"what was there").unwrap();
        assert_eq!(leaf, Hash::leaf(record));
        assert!(record.len() <= body.sealed_len());
        assert_eq!(
            String::from_utf8(record.to_vec()).unwrap(),
            format!(
                r#"{{"v":1,"index":7,"prev":"{}","time":"1970-01-01T00:00:00.000000Z","kind":"lifecycle","policy":"{}","config":"{}","event":"stopped"}}"#,
                Hash::of(b"before"),
                epochs.policy,
                epochs.config
            )
        );
    }
}
