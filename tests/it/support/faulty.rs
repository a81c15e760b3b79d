//! A store that blocks, fails or is slow when told to.

use std::sync::{Condvar, Mutex};
use std::time::Instant;

use portcullis::audit::hash::Hash;
use portcullis::audit::merkle::NodeId;
use portcullis::audit::rocks::RocksStore;
use portcullis::audit::storage::{Batch, LogIdentity, Store, StoreError, Visit, Walk};

use super::DEADLINE;

/// What the next commits do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They succeed.
    None,
    /// They wait for [`FaultyStore::set`].
    Block,
    /// They fail, and nothing is there.
    Fail,
    /// They fail, but all is there: an fsync that reports an error after the data reached the disk.
    FailPersisted,
    /// They panic, and nothing is there.
    Panic,
    /// They panic, and all is there.
    PanicPersisted,
    /// They succeed; only policies are not kept.
    KeepNoPolicy,
}

/// RocksDB, with faults.
pub struct FaultyStore {
    inner: RocksStore,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    fault: Fault,
    blocked: bool,
    times: u32,
    commits: u64,
    failed: u64,
}

impl FaultyStore {
    pub fn new(inner: RocksStore) -> Self {
        let state = State { fault: Fault::None, blocked: false, times: 1, commits: 0, failed: 0 };
        Self { inner, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// From now on commits do this.
    pub fn set(&self, fault: Fault) {
        self.state.lock().unwrap().fault = fault;
        self.changed.notify_all();
    }

    /// Waits until a commit is blocked.
    pub fn wait_blocked(&self) {
        let state = self.state.lock().unwrap();
        let (state, _) = self.changed.wait_timeout_while(state, DEADLINE, |state| !state.blocked).unwrap();
        assert!(state.blocked, "no commit came");
    }

    /// From now on commits take so many times as long as they would; 1 is no longer.
    pub fn slow_down(&self, times: u32) {
        self.state.lock().unwrap().times = times;
        self.changed.notify_all();
    }

    /// How many commits were begun.
    pub fn commits(&self) -> u64 {
        self.state.lock().unwrap().commits
    }

    /// How many commits have failed.
    pub fn failed(&self) -> u64 {
        self.state.lock().unwrap().failed
    }
}

impl FaultyStore {
    /// As slow as the disk is told to be, measured by what this very commit took.
    fn commit_slowly(&self, batch: &Batch) -> Result<(), StoreError> {
        let began = Instant::now();
        let committed = self.inner.commit(batch);
        let took = began.elapsed();
        let state = self.state.lock().unwrap();
        let until = began + took * state.times;
        let slow = |state: &mut State| state.times > 1 && Instant::now() < until;
        drop(self.changed.wait_timeout_while(state, until.saturating_duration_since(Instant::now()), slow));
        committed
    }
}

impl Store for FaultyStore {
    fn keep_policy(&self, epoch: Hash, text: &[u8]) -> Result<(), StoreError> {
        match self.state.lock().unwrap().fault {
            Fault::KeepNoPolicy => Err(broken()),
            _ => self.inner.keep_policy(epoch, text),
        }
    }

    fn policy(&self, epoch: Hash) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.policy(epoch)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let fault = {
            let mut state = self.state.lock().unwrap();
            state.commits += 1;
            while state.fault == Fault::Block {
                state.blocked = true;
                self.changed.notify_all();
                state = self.changed.wait(state).unwrap();
            }
            state.blocked = false;
            if !matches!(state.fault, Fault::None | Fault::Block | Fault::KeepNoPolicy) {
                state.failed += 1;
            }
            state.fault
        };
        match fault {
            Fault::Block | Fault::None | Fault::KeepNoPolicy => self.commit_slowly(batch),
            Fault::Fail => Err(broken()),
            Fault::FailPersisted => {
                self.inner.commit(batch)?;
                Err(broken())
            }
            Fault::Panic => panic!("the store panics on purpose"),
            Fault::PanicPersisted => {
                self.inner.commit(batch)?;
                panic!("the store panics on purpose")
            }
        }
    }

    fn identity(&self) -> Result<LogIdentity, StoreError> {
        self.inner.identity()
    }

    fn last_index(&self) -> Result<Option<u64>, StoreError> {
        self.inner.last_index()
    }

    fn record(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.record(index)
    }

    fn scan(&self, walk: Walk, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.inner.scan(walk, visit)
    }

    fn tip(&self) -> Result<Option<Hash>, StoreError> {
        self.inner.tip()
    }

    fn latest_checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.inner.latest_checkpoint()
    }

    fn kept_checkpoints(&self) -> Result<Vec<(u64, String)>, StoreError> {
        self.inner.kept_checkpoints()
    }

    fn kept_checkpoints_from(&self, from: u64, most: usize) -> Result<Vec<(u64, String)>, StoreError> {
        self.inner.kept_checkpoints_from(from, most)
    }

    fn keep_cosigned(&self, size: u64, note: &str, keep: bool) -> Result<(), StoreError> {
        self.inner.keep_cosigned(size, note, keep)
    }

    fn latest_cosigned(&self) -> Result<Option<String>, StoreError> {
        self.inner.latest_cosigned()
    }

    fn key_records(&self) -> Result<Vec<u64>, StoreError> {
        self.inner.key_records()
    }

    fn open_allows(&self) -> Result<Vec<u64>, StoreError> {
        self.inner.open_allows()
    }

    fn node(&self, id: NodeId) -> Result<Option<Hash>, StoreError> {
        self.inner.node(id)
    }
}

fn broken() -> StoreError {
    StoreError::Io(std::io::Error::other("the disk is broken on purpose"))
}
