//! Reads a log from its first record to its last and says whether it is the one that was signed; if not, which record is
//! the first that does not hold.
//!
//! A [`Verifier`] is fed records in order. It checks each head, that indexes have no gap, that each `prev` is the leaf
//! hash of the record before, that time never runs back, and at each checkpoint that the root is the signed one. The
//! last checkpoint must cover the last record: every commit is signed together with its records.
//!
//! # Which record it was
//!
//! When `prev` of record n + 1 is not the leaf hash of record n, either n was altered, or n + 1 was, in its `prev`. The
//! signature tells which: at the next checkpoint the true leaves must give the signed root. So after a break the
//! verifier goes on with two trees, one that takes n + 1's word for n and one that takes n as it stands, both taking
//! each later record's word for the one before. The tree that meets the root names the record, however many later ones
//! were altered too. If neither does, records were rewritten together, and n is named as the first that is seen to be
//! wrong; [`Fault::proven`] says below which index all is proven.
//!
//! Nobody speaks for the last record but the root; there the store's own note of its leaf hash helps
//! ([`Verifier::with_tip`]): unsigned, but proven if it meets the root.
//!
//! # Which key signs
//!
//! A log's key can change, by a record that both keys sign. A verifier is given one key of the log, whichever, and
//! follows from there: each checkpoint must be signed by the key in force at its size.

mod fault;
pub(in crate::audit) mod keys;

pub use self::fault::{Fault, FaultKind};
pub use self::keys::rotation;

use self::keys::Keys;
use super::checkpoint::{Checkpoint, CheckpointError, KeyChain, VerifierKey};
use super::hash::Hash;
use super::merkle::Frontier;
use super::record::Head;
use crate::clock::Timestamp;

/// A verification under way. Memory is that of a few records' hashes, however long the log.
#[derive(Debug)]
pub struct Verifier<N> {
    keys: Keys,
    /// Signed notes not yet looked at, by ascending size.
    notes: N,
    /// The next checkpoint to be met.
    due: Option<Due>,
    /// A checkpoint from outside to be met besides.
    against: Option<Due>,
    tip: Option<Hash>,
    /// All records before `last`, as long as there is no doubt.
    tree: Frontier,
    doubt: Option<Doubt>,
    /// The record fed last: its leaf is taken into the tree once the next record has spoken for it.
    last: Option<(Head, Hash)>,
    /// The size of the last checkpoint met.
    met: u64,
    proven: u64,
    checkpoints: u64,
}

/// A checkpoint to be met. By which key it must be signed is known only when its size is reached.
#[derive(Debug)]
struct Due {
    size: u64,
    note: Vec<u8>,
    /// What it opened to, and when.
    opened: Option<(Checkpoint, keys::Age)>,
}

/// The chain broke: the record at `at` or the one after it was altered.
#[derive(Debug)]
struct Doubt {
    at: u64,
    /// The tree if the record at `at` was.
    if_this: Frontier,
    /// The tree if the one after it was.
    if_next: Frontier,
}

/// A log that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many records were read; all of them are covered by the last checkpoint.
    pub records: u64,
    /// How many of the log's own checkpoints were met.
    pub checkpoints: u64,
    /// The root over all records.
    pub root: Hash,
    /// The time of the last record; `None` in an empty log.
    pub last_time: Option<Timestamp>,
    /// The log's keys from its creation on.
    pub keys: KeyChain,
}

/// Where a log could not be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenOff {
    /// The first record that could not be read.
    pub index: u64,
    /// Records below this index are proven by a checkpoint of the log.
    pub proven: u64,
}

impl<N> Verifier<N>
where
    N: Iterator,
    N::Item: AsRef<[u8]>,
{
    /// Begins at the first record. `key` is one of the log's, whichever. `notes` are the log's own checkpoints as stored, by ascending size, the latest last.
    ///
    /// # Errors
    /// If the first note is no checkpoint, or has a signature of `key` that does not hold.
    pub fn new(key: VerifierKey, notes: impl IntoIterator<IntoIter = N>) -> Result<Self, Fault> {
        let mut verifier = Self {
            keys: Keys::pinned(key),
            notes: notes.into_iter(),
            due: None,
            against: None,
            tip: None,
            tree: Frontier::new(),
            doubt: None,
            last: None,
            met: 0,
            proven: 0,
            checkpoints: 0,
        };
        verifier.due = verifier.next_checkpoint()?;
        Ok(verifier)
    }

    /// Also asks that the log extends `kept`, a checkpoint of it that was kept outside.
    #[must_use]
    pub fn against(mut self, kept: Checkpoint) -> Self {
        let opened = Some((kept.clone(), keys::Age::ANY));
        self.against = Some(Due { size: kept.size(), note: Vec::new(), opened });
        self
    }

    /// As [`Verifier::against`], with a note that may be signed by another key of the log than the one given here.
    /// Whether it is shows when its size is reached: [`FaultKind::NotKept`].
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`]: it is no checkpoint.
    pub fn against_note(mut self, note: &[u8]) -> Result<Self, CheckpointError> {
        let (size, _) = Checkpoint::stated(note).ok_or(CheckpointError::Malformed)?;
        self.against = Some(Due { size, note: note.to_vec(), opened: None });
        Ok(self)
    }

    /// Gives the store's own note of the last record's leaf hash. It is not trusted; it helps to name the record if it is
    /// the last one that was altered.
    #[must_use]
    pub const fn with_tip(mut self, leaf: Hash) -> Self {
        self.tip = Some(leaf);
        self
    }

    /// The index that the next record must have.
    pub fn next_index(&self) -> u64 {
        self.last.as_ref().map_or(0, |(head, _)| head.index + 1)
    }

    /// Takes the next record: its bytes, and the index at which it was found (its key in the store, its line in an
    /// export).
    ///
    /// # Errors
    /// The first fault. The verification is over then.
    pub fn feed(&mut self, index: u64, record: &[u8]) -> Result<(), Fault> {
        let head = match self.admit(index, record) {
            Ok(head) => head,
            Err(fault) => {
                // With two claimants there is no telling whose leaf should meet a checkpoint.
                if fault.kind != FaultKind::Repeated {
                    self.settle(None)?;
                }
                return Err(self.first(fault));
            }
        };
        self.settle(Some(head.prev))?;
        if self.due.is_none() {
            return Err(self.first(self.fault(head.index, FaultKind::Unsigned)));
        }
        let before = self.last.map_or(head.time, |(last, _)| last.time);
        if head.time < before && self.doubt.is_none() {
            return Err(self.fault(head.index, FaultKind::Time));
        }
        // What a record says that may not be the one that was signed is not gone by: its checkpoint will not be met.
        if self.doubt.is_none() {
            self.keys.read(&head, record).map_err(|error| self.fault(head.index, error.into()))?;
        }
        self.last = Some((head, Hash::leaf(record)));
        Ok(())
    }

    /// Ends the log after the records fed so far.
    ///
    /// # Errors
    /// The first fault.
    pub fn finish(mut self) -> Result<Report, Fault> {
        let end = self.next_index();
        let tip = self.proven_tip();
        self.settle(tip)?;
        if let Some(due) = self.due.take() {
            let kind =
                self.keys.open(&due).map_or_else(FaultKind::from, |_| FaultKind::Missing { size: due.size });
            let index = if matches!(kind, FaultKind::Missing { .. }) { end } else { self.proven };
            return Err(self.first(self.fault(index, kind)));
        }
        if let Some(kept) = self.against.take() {
            let kind = self
                .keys
                .open(&kept)
                .map_or_else(FaultKind::NotKept, |_| FaultKind::Shorter { size: kept.size });
            return Err(self.first(self.fault(end, kind)));
        }
        if self.checkpoints == 0 || self.doubt.is_some() {
            return Err(self.first(self.fault(0, FaultKind::Unsigned)));
        }
        if self.proven < end {
            let vkey = self.keys.pin().to_string();
            return Err(self.fault(self.proven, FaultKind::NotPinned { vkey }));
        }
        Ok(Report {
            records: end,
            checkpoints: self.checkpoints,
            root: self.tree.root(),
            last_time: self.last.map(|(head, _)| head.time),
            keys: self.keys.into_chain(),
        })
    }

    /// Ends the verification where the records could not be read on: the next one is bad, whatever it is.
    ///
    /// # Errors
    /// A fault among the records fed so far, which comes first.
    pub fn break_off(self) -> Result<BrokenOff, Fault> {
        let index = self.next_index();
        match self.finish() {
            Err(fault) if fault.index < index || !fault.kind.is_of_the_end() => Err(fault),
            Err(fault) => Ok(BrokenOff { index, proven: fault.proven }),
            Ok(report) => Ok(BrokenOff { index, proven: report.records }),
        }
    }

    /// What can be said of a record by itself and its place.
    fn admit(&self, index: u64, record: &[u8]) -> Result<Head, Fault> {
        let expected = self.next_index();
        if index > expected {
            return Err(self.fault(expected, FaultKind::Missing { size: index + 1 }));
        }
        let head = Head::parse(record).map_err(|error| self.fault(expected, error.into()))?;
        if index == expected && head.index == expected {
            // Nothing comes before the first record; nobody else could say that its `prev` is wrong.
            if expected == 0 && head.prev != Hash::ZERO {
                return Err(self.fault(0, FaultKind::Altered));
            }
            return Ok(head);
        }
        // Two records that follow the same one: which of them was put in cannot be told.
        let repeats = self.last.is_some_and(|(last, _)| last.index == head.index && last.prev == head.prev);
        Err(if repeats {
            self.fault(head.index, FaultKind::Repeated)
        } else if index < expected {
            self.fault(index, FaultKind::Repeated)
        } else {
            self.fault(expected, FaultKind::Index { found: head.index })
        })
    }

    /// Takes the last record into the tree, given what the next one says its leaf is, and meets the checkpoints that
    /// end there.
    fn settle(&mut self, claimed: Option<Hash>) -> Result<(), Fault> {
        if let Some((head, leaf)) = self.last {
            let believed = claimed.unwrap_or(leaf);
            match &mut self.doubt {
                Some(doubt) => {
                    doubt.if_this.push(believed, |_, _| ());
                    doubt.if_next.push(believed, |_, _| ());
                }
                None => {
                    let before = (believed != leaf).then(|| self.tree.clone());
                    self.tree.push(leaf, |_, _| ());
                    self.doubt = before.map(|mut tree| {
                        tree.push(believed, |_, _| ());
                        Doubt { at: head.index, if_this: tree, if_next: self.tree.clone() }
                    });
                }
            }
        }
        let size = self.next_index();
        while let Some(due) = self.due.take_if(|due| due.size == size) {
            let opened = self.keys.open(&due);
            let checkpoint = opened.map_err(|error| self.first(self.fault(self.proven, error.into())))?;
            self.meet(&checkpoint, claimed.is_some())?;
            self.checkpoints += 1;
            self.met = size;
            if self.keys.prove(&due) {
                self.proven = size;
            }
            self.due = self.next_checkpoint()?;
        }
        if let Some(kept) = self.against.take_if(|kept| kept.size == size)
            && self.doubt.is_none()
        {
            let opened = self.keys.open(&kept);
            let checkpoint = opened.map_err(|error| self.fault(size, FaultKind::NotKept(error)))?;
            if self.tree.root() != checkpoint.root() {
                // The key signed two histories: nothing it signed proves anything.
                return Err(Fault { index: 0, proven: 0, kind: FaultKind::Against { size } });
            }
        }
        Ok(())
    }

    /// Compares the root. `spoken_for`: someone other than the last record itself says what its leaf is.
    fn meet(&self, due: &Checkpoint, spoken_for: bool) -> Result<(), Fault> {
        let size = due.size();
        let Some(doubt) = &self.doubt else {
            return if self.tree.root() == due.root() {
                Ok(())
            } else {
                Err(self.fault(self.proven, FaultKind::Root { size }))
            };
        };
        Err(if doubt.if_this.root() == due.root() {
            self.fault(doubt.at, FaultKind::Altered)
        } else if doubt.if_next.root() == due.root() || (doubt.at + 2 == size && !spoken_for) {
            // Or by elimination: the one after is the last, so there is no tree to prove it by.
            self.fault(doubt.at + 1, FaultKind::Altered)
        } else {
            self.fault(doubt.at, FaultKind::Chain)
        })
    }

    /// The tip, if it is needed to name a culprit and can be right.
    fn proven_tip(&self) -> Option<Hash> {
        let (tip, due) = (self.tip?, self.due.as_ref()?);
        if self.doubt.is_some() {
            return Some(tip);
        }
        let due = self.keys.open(due).ok()?;
        let mut tree = self.tree.clone();
        tree.push(tip, |_, _| ());
        (tree.size() == due.size() && tree.root() == due.root()).then_some(tip)
    }

    fn next_checkpoint(&mut self) -> Result<Option<Due>, Fault> {
        let Some(note) = self.notes.next() else { return Ok(None) };
        let due = self.keys.due(note.as_ref()).map_err(|error| self.fault(self.proven, error.into()))?;
        if due.size < self.met {
            return Err(self.fault(self.met, FaultKind::CheckpointOrder { size: due.size }));
        }
        Ok(Some(due))
    }

    const fn fault(&self, index: u64, kind: FaultKind) -> Fault {
        Fault { index, proven: self.proven, kind }
    }

    /// A break of the chain comes before whatever was found after it.
    fn first(&self, fault: Fault) -> Fault {
        match &self.doubt {
            Some(doubt) => self.fault(doubt.at, FaultKind::Chain),
            None => fault,
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
