//! A store that can be called back: everyone who reads the log holds this, so that one hand can close it.
//!
//! A store in RocksDB is closed, and its lock free, only when its last holder lets go. Views, verifiers and the writer
//! hold a [`LentStore`] instead; after [`LentStore::recall`] none of them can keep the store from closing.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::hash::Hash;
use super::merkle::NodeId;
use super::storage::{Batch, LogIdentity, Store, StoreError, Visit, Walk};

/// A store lent to everyone who asks, until it is called back. It keeps the contract of the store within.
pub struct LentStore {
    shelf: Mutex<Shelf>,
    returned: Condvar,
    recalled: AtomicBool,
}

struct Shelf {
    store: Option<Arc<dyn Store>>,
    borrowed: usize,
}

/// The store in use by one call.
struct Borrowed<'a> {
    // Fields drop in order: the store is let go of before its return is told.
    store: Arc<dyn Store>,
    _return: Return<'a>,
}

struct Return<'a>(&'a LentStore);

impl LentStore {
    /// Lends out `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let shelf = Mutex::new(Shelf { store: Some(store), borrowed: 0 });
        Self { shelf, returned: Condvar::new(), recalled: AtomicBool::new(false) }
    }

    /// Lends no more, breaks off scans, waits for calls in progress, and drops the store. From then on every call fails
    /// with [`StoreError::Missing`], until [`LentStore::lend`].
    pub fn recall(&self) {
        self.recalled.store(true, Ordering::Release);
        let mut shelf = self.lock();
        let store = shelf.store.take();
        while shelf.borrowed > 0 {
            shelf = self.returned.wait(shelf).unwrap_or_else(PoisonError::into_inner);
        }
        drop(shelf);
        drop(store);
    }

    /// Lends out `store` in the place of the one called back.
    pub fn lend(&self, store: Arc<dyn Store>) {
        self.lock().store = Some(store);
        self.recalled.store(false, Ordering::Release);
    }

    fn borrow(&self) -> Result<Borrowed<'_>, StoreError> {
        let mut shelf = self.lock();
        let store = shelf.store.clone().ok_or(GONE)?;
        shelf.borrowed += 1;
        Ok(Borrowed { store, _return: Return(self) })
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Return<'_> {
    fn drop(&mut self) {
        self.0.lock().borrowed -= 1;
        self.0.returned.notify_all();
    }
}

impl Store for LentStore {
    fn keep_policy(&self, epoch: Hash, text: &[u8]) -> Result<(), StoreError> {
        self.borrow()?.store.keep_policy(epoch, text)
    }

    fn policy(&self, epoch: Hash) -> Result<Option<Vec<u8>>, StoreError> {
        self.borrow()?.store.policy(epoch)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.borrow()?.store.commit(batch)
    }

    fn identity(&self) -> Result<LogIdentity, StoreError> {
        self.borrow()?.store.identity()
    }

    fn last_index(&self) -> Result<Option<u64>, StoreError> {
        self.borrow()?.store.last_index()
    }

    fn record(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.borrow()?.store.record(index)
    }

    fn scan(&self, walk: Walk, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let mut broken_off = false;
        self.borrow()?.store.scan(walk, &mut |index, bytes| {
            if self.recalled.load(Ordering::Acquire) {
                broken_off = true;
                return ControlFlow::Break(());
            }
            visit(index, bytes)
        })?;
        if broken_off { Err(GONE) } else { Ok(()) }
    }

    fn tip(&self) -> Result<Option<Hash>, StoreError> {
        self.borrow()?.store.tip()
    }

    fn latest_checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.borrow()?.store.latest_checkpoint()
    }

    fn kept_checkpoints(&self) -> Result<Vec<(u64, String)>, StoreError> {
        self.borrow()?.store.kept_checkpoints()
    }

    fn kept_checkpoints_from(&self, from: u64, most: usize) -> Result<Vec<(u64, String)>, StoreError> {
        self.borrow()?.store.kept_checkpoints_from(from, most)
    }

    fn keep_cosigned(&self, size: u64, note: &str, keep: bool) -> Result<(), StoreError> {
        self.borrow()?.store.keep_cosigned(size, note, keep)
    }

    fn latest_cosigned(&self) -> Result<Option<String>, StoreError> {
        self.borrow()?.store.latest_cosigned()
    }

    fn key_records(&self) -> Result<Vec<u64>, StoreError> {
        self.borrow()?.store.key_records()
    }

    fn open_allows(&self) -> Result<Vec<u64>, StoreError> {
        self.borrow()?.store.open_allows()
    }

    fn node(&self, id: NodeId) -> Result<Option<Hash>, StoreError> {
        self.borrow()?.store.node(id)
    }
}

const GONE: StoreError = StoreError::Missing("log: it was handed over to another process");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::rocks::{RocksOptions, RocksStore};

    #[test]
    fn after_a_recall_the_store_is_closed_and_another_can_take_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("log");
        let identity = LogIdentity { origin: "gate.example/1".into(), vkey: "v".into() };
        let lent =
            LentStore::new(Arc::new(RocksStore::create(&dir, &identity, RocksOptions::default()).unwrap()));
        assert_eq!(lent.identity().unwrap(), identity);
        assert!(RocksStore::open(&dir, RocksOptions::default()).is_err());
        lent.recall();
        assert!(lent.identity().is_err() && lent.last_index().is_err());
        let next = RocksStore::open(&dir, RocksOptions::default()).unwrap();
        lent.lend(Arc::new(next));
        assert_eq!(lent.identity().unwrap(), identity);
    }

    #[test]
    fn a_recall_breaks_off_a_scan_and_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let identity = LogIdentity { origin: "gate.example/1".into(), vkey: "v".into() };
        let store = RocksStore::create(&dir.path().join("log"), &identity, RocksOptions::default()).unwrap();
        let mut batch = Batch::default();
        batch.restart(0);
        for _ in 0..1_000 {
            batch.push(|out| out.push(b'x'));
        }
        store.commit(&batch).unwrap();
        let lent = Arc::new(LentStore::new(Arc::new(store)));
        let (seen, first) = std::sync::mpsc::channel();
        let scanning = {
            let lent = Arc::clone(&lent);
            std::thread::spawn(move || {
                lent.scan(Walk::Up(0), &mut |index, _| {
                    if index == 0 {
                        seen.send(()).unwrap();
                        while !lent.recalled.load(Ordering::Acquire) {
                            std::thread::yield_now();
                        }
                    }
                    assert!(index < 2, "the scan goes on");
                    ControlFlow::Continue(())
                })
            })
        };
        first.recv().unwrap();
        lent.recall();
        assert!(scanning.join().unwrap().is_err(), "half a scan is not a whole one");
    }
}
