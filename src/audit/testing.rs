//! A log in memory that tests can grow, copy and tamper with.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};

use super::checkpoint::{Origin, SigningKey};
use super::hash::Hash;
use super::merkle::{Frontier, NodeId};
use super::record::{Body, Epochs, Event, seal};
use super::storage::{Batch, LogIdentity, Store, StoreError, Visit, Walk};
use crate::clock::Timestamp;

/// The key of all logs here.
pub(super) fn key() -> SigningKey {
    SigningKey::from_seed(Origin::parse("gate.example/1").unwrap(), &[7; 32])
}

/// Everything a log holds. Scans hand out what is there, and fail where told to.
#[derive(Clone, Default)]
pub(super) struct Held {
    pub(super) records: BTreeMap<u64, Vec<u8>>,
    pub(super) nodes: BTreeMap<NodeId, Hash>,
    pub(super) kept: BTreeMap<u64, String>,
    pub(super) latest: Option<String>,
    pub(super) tip: Option<Hash>,
    frontier: Frontier,
    /// A scan that comes to this index finds a damaged block.
    pub(super) damaged: Option<u64>,
    /// So many scans are refused by the disk.
    pub(super) refused: u32,
    /// How many checkpoints were handed out in one go, at most.
    pub(super) most_kept: usize,
}

#[derive(Default)]
pub(super) struct MemoryStore(Mutex<Held>);

impl MemoryStore {
    /// A log of `size` records, a commit each.
    pub(super) fn of(size: u64, word: &str) -> Arc<Self> {
        let log = Arc::new(Self::default());
        log.grow(size, word);
        log
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap()
    }

    /// A log that has gone its own way from here on.
    pub(super) fn copy(&self) -> Arc<Self> {
        Arc::new(Self(Mutex::new(self.held().clone())))
    }

    /// Commits `more` records, one by one; every third checkpoint is kept.
    pub(super) fn grow(&self, more: u64, word: &str) {
        let epochs = Epochs { policy: Hash::ZERO, config: Hash::ZERO };
        let mut held = self.held();
        for _ in 0..more {
            let index = held.frontier.size();
            let mut bytes = Vec::new();
            let time = Timestamp::from_micros(1_700_000_000_000_000 + index as i64);
            let body = Body::event(&epochs, &Event::Started { version: word });
            let leaf = seal(index, &held.tip.unwrap_or(Hash::ZERO), time, &body, &mut bytes);
            let Held { nodes, frontier, .. } = &mut *held;
            frontier.push(leaf, |id, hash| {
                nodes.insert(id, hash);
            });
            let note = key().sign(index + 1, &frontier.root());
            if index.is_multiple_of(3) {
                held.kept.insert(index + 1, note.clone());
            }
            held.records.insert(index, bytes);
            (held.tip, held.latest) = (Some(leaf), Some(note));
        }
    }

    pub(super) fn latest(&self) -> Arc<str> {
        self.held().latest.clone().unwrap_or_default().into()
    }
}

impl Store for MemoryStore {
    fn keep_policy(&self, _: Hash, _: &[u8]) -> Result<(), StoreError> {
        unreachable!("nobody loads a policy here")
    }

    fn policy(&self, _: Hash) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    fn commit(&self, _: &Batch) -> Result<(), StoreError> {
        unreachable!("it grows by `grow`")
    }

    fn identity(&self) -> Result<LogIdentity, StoreError> {
        Ok(LogIdentity { origin: key().origin().to_string(), vkey: key().verifier().to_string() })
    }

    fn last_index(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.held().records.last_key_value().map(|(index, _)| *index))
    }

    fn record(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.held().records.get(&index).cloned())
    }

    fn scan(&self, walk: Walk, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let Walk::Up(from) = walk else { unreachable!("nobody here walks down") };
        let (records, damaged) = {
            let mut held = self.held();
            if held.refused > 0 {
                held.refused -= 1;
                return Err(StoreError::Io(std::io::Error::other("EIO")));
            }
            // As an iterator sees the log as it was when it began.
            (
                held.records.range(from..).map(|(at, bytes)| (*at, bytes.clone())).collect::<Vec<_>>(),
                held.damaged,
            )
        };
        for (index, bytes) in records {
            if damaged.is_some_and(|damaged| index >= damaged) {
                return Err(StoreError::Malformed("block"));
            }
            if let ControlFlow::Break(()) = visit(index, &bytes) {
                break;
            }
        }
        Ok(())
    }

    fn tip(&self) -> Result<Option<Hash>, StoreError> {
        Ok(self.held().tip)
    }

    fn latest_checkpoint(&self) -> Result<Option<String>, StoreError> {
        Ok(self.held().latest.clone())
    }

    fn kept_checkpoints(&self) -> Result<Vec<(u64, String)>, StoreError> {
        unreachable!("all of them at once may be too many")
    }

    fn kept_checkpoints_from(&self, from: u64, most: usize) -> Result<Vec<(u64, String)>, StoreError> {
        let mut held = self.held();
        let page: Vec<_> =
            held.kept.range(from..).take(most).map(|(size, note)| (*size, note.clone())).collect();
        held.most_kept = held.most_kept.max(page.len());
        Ok(page)
    }

    fn keep_cosigned(&self, _: u64, _: &str, _: bool) -> Result<(), StoreError> {
        unreachable!("nobody cosigns it")
    }

    fn latest_cosigned(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    fn open_allows(&self) -> Result<Vec<u64>, StoreError> {
        Ok(Vec::new())
    }

    fn node(&self, id: NodeId) -> Result<Option<Hash>, StoreError> {
        Ok(self.held().nodes.get(&id).copied())
    }
}
