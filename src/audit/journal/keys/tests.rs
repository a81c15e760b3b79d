//! A journal whose log's key changes, over the real store.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::audit::checkpoint::{Checkpoint, Note};
use crate::audit::journal::reconcile::reconcile;
use crate::audit::journal::{Journal, JournalOptions};
use crate::audit::rocks::{RocksOptions, RocksStore};
use crate::audit::storage::{Batch, LogIdentity};
use crate::clock::Clock;

const EPOCHS: Epochs = Epochs { policy: Hash::ZERO, config: Hash::ZERO };
const DAY: Duration = Duration::from_secs(86_400);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Origin::parse("gate.example/1").unwrap(), &[seed; 32])
}

fn configured(signing: u8, retiring: Option<u8>) -> LogKeys {
    LogKeys { signing: key(signing), retiring: retiring.map(key), overlap: DAY }
}

struct Log {
    dir: tempfile::TempDir,
    clock: Clock,
}

impl Log {
    /// Created with key 1.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = LogIdentity { origin: "gate.example/1".into(), vkey: key(1).verifier().to_string() };
        drop(RocksStore::create(dir.path(), &identity, RocksOptions::default()).unwrap());
        Self { dir, clock: Clock::manual(Timestamp::from_micros(1_700_000_000_000_000)) }
    }

    fn store(&self) -> Arc<RocksStore> {
        Arc::new(RocksStore::open(self.dir.path(), RocksOptions::default()).unwrap())
    }

    /// A run that records so many events; who signed the last checkpoint, by seed.
    fn run(&self, keys: LogKeys, events: usize) -> Result<Vec<u8>, ReconcileError> {
        let (store, runtime) = (self.store(), tokio::runtime::Builder::new_current_thread().build().unwrap());
        let options = JournalOptions { queue: 16, timeout: DAY, denial_bytes: None };
        let (journal, writer) =
            Journal::open(Arc::<RocksStore>::clone(&store), keys, self.clock.clone(), options, EPOCHS)?;
        for _ in 0..events {
            runtime.block_on(journal.event(EPOCHS, &Event::ConfigLoaded)).unwrap();
        }
        journal.close();
        writer.join().unwrap();
        Ok(signers(&store.latest_checkpoint().unwrap().unwrap()))
    }
}

fn signers(note: &str) -> Vec<u8> {
    let note = Note::parse(note.as_bytes()).unwrap();
    (1..=9).filter(|seed| note.is_signed_by(&key(*seed).verifier()) == Ok(true)).collect()
}

#[test]
fn the_change_is_the_first_record_of_the_run_and_its_checkpoint_is_kept() {
    let log = Log::new();
    assert_eq!(log.run(configured(1, None), 3).unwrap(), [1]);
    assert_eq!(log.run(configured(2, Some(1)), 2).unwrap(), [1, 2]);
    let store = log.store();
    assert_eq!(store.key_records().unwrap(), [3]);
    let record: serde_json::Value = serde_json::from_slice(&store.record(3).unwrap().unwrap()).unwrap();
    assert_eq!((record["kind"].as_str(), record["event"].as_str()), (Some("key"), Some("rotated")));
    assert_eq!(record["vkey"], key(2).verifier().to_string());
    let kept = store.kept_checkpoints().unwrap();
    let (size, note) = kept.last().unwrap();
    assert!(*size > 3);
    assert_eq!(signers(note), [1, 2]);
}

#[test]
fn both_keys_sign_until_the_overlap_is_over_whatever_restarts_come_between() {
    let log = Log::new();
    log.run(configured(1, None), 1).unwrap();
    log.run(configured(2, Some(1)), 1).unwrap();
    log.clock.pass_to(log.clock.now().plus(DAY / 2));
    assert_eq!(log.run(configured(2, Some(1)), 1).unwrap(), [1, 2]);
    assert_eq!(log.run(configured(2, None), 1).unwrap(), [2], "the old key was taken away early");
    assert_eq!(log.run(configured(2, Some(1)), 1).unwrap(), [1, 2]);
    log.clock.pass_to(log.clock.now().plus(DAY));
    assert_eq!(log.run(configured(2, Some(1)), 1).unwrap(), [2]);
    assert_eq!(log.run(configured(2, None), 1).unwrap(), [2]);
    assert_eq!(log.store().key_records().unwrap().len(), 1);
}

#[test]
fn the_commit_that_changes_the_key_is_signed_by_both_even_without_an_overlap() {
    let log = Log::new();
    log.run(configured(1, None), 1).unwrap();
    let none = |signing, retiring| LogKeys { overlap: Duration::ZERO, ..configured(signing, retiring) };
    assert_eq!(log.run(none(2, Some(1)), 1).unwrap(), [1, 2]);
    assert_eq!(log.run(none(2, Some(1)), 1).unwrap(), [2]);
}

#[test]
fn a_log_changes_its_key_more_than_once_even_within_an_overlap() {
    let log = Log::new();
    log.run(configured(1, None), 1).unwrap();
    log.run(configured(2, Some(1)), 1).unwrap();
    assert_eq!(log.run(configured(3, Some(2)), 1).unwrap(), [2, 3]);
    let chain = chain(&*log.store()).unwrap();
    assert_eq!(chain.all().cloned().collect::<Vec<_>>(), [1, 2, 3].map(|seed| key(seed).verifier()));
}

#[test]
fn keys_that_do_not_fit_the_log_are_refused_and_leave_it_as_it_is() {
    let log = Log::new();
    log.run(configured(1, None), 1).unwrap();
    let refused = |signing, retiring| log.run(configured(signing, retiring), 1).unwrap_err();
    assert!(matches!(refused(2, None), ReconcileError::Key { .. }));
    assert!(matches!(refused(2, Some(3)), ReconcileError::Key { .. }), "a wrong old key");
    assert!(matches!(refused(1, Some(2)), ReconcileError::Retiring { .. }), "the two swapped");
    assert!(matches!(refused(1, Some(1)), ReconcileError::Retiring { .. }));
    log.run(configured(2, Some(1)), 1).unwrap();
    assert!(matches!(refused(1, None), ReconcileError::Retired { .. }));
    assert!(matches!(refused(1, Some(2)), ReconcileError::Retired { .. }), "a key does not come back");
    assert!(matches!(refused(2, Some(3)), ReconcileError::Retiring { .. }));
    assert!(matches!(refused(3, Some(1)), ReconcileError::Key { .. }));
    assert_eq!(log.store().last_index().unwrap(), Some(2), "created with one, changed, and one more");
}

#[test]
fn a_store_that_hides_a_change_is_not_made_to_change_again() {
    let log = Log::new();
    log.run(configured(1, None), 1).unwrap();
    log.run(configured(2, Some(1)), 1).unwrap();
    let forgetful = Forgetful(log.store());
    let refused = reconcile(&forgetful, &configured(2, Some(1))).unwrap_err();
    assert!(matches!(refused, ReconcileError::Unnamed { .. }), "{refused}");
}

#[test]
fn a_retired_keys_checkpoint_does_not_stand_for_the_log() {
    let log = Log::new();
    log.run(configured(1, None), 1).unwrap();
    log.run(configured(2, Some(1)), 1).unwrap();
    let store = log.store();
    let latest = store.latest_checkpoint().unwrap().unwrap();
    let opened = Checkpoint::open(latest.as_bytes(), &key(2).verifier()).unwrap();
    let forged = key(1).sign(opened.size(), &opened.root());
    let mut batch = Batch::default();
    batch.checkpoint = forged;
    batch.tip = store.tip().unwrap();
    store.commit(&batch).unwrap();
    assert!(matches!(reconcile(&*store, &configured(2, Some(1))), Err(ReconcileError::Checkpoint(_))));
}

/// A store that says that the log's key never changed.
struct Forgetful(Arc<RocksStore>);

impl Store for Forgetful {
    fn keep_policy(&self, epoch: Hash, text: &[u8]) -> Result<(), StoreError> {
        self.0.keep_policy(epoch, text)
    }

    fn policy(&self, epoch: Hash) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.policy(epoch)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.0.commit(batch)
    }
    fn identity(&self) -> Result<LogIdentity, StoreError> {
        self.0.identity()
    }
    fn last_index(&self) -> Result<Option<u64>, StoreError> {
        self.0.last_index()
    }
    fn record(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.record(index)
    }
    fn scan(
        &self,
        walk: crate::audit::storage::Walk,
        visit: &mut crate::audit::storage::Visit<'_>,
    ) -> Result<(), StoreError> {
        self.0.scan(walk, visit)
    }
    fn tip(&self) -> Result<Option<Hash>, StoreError> {
        self.0.tip()
    }
    fn latest_checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.0.latest_checkpoint()
    }
    fn kept_checkpoints(&self) -> Result<Vec<(u64, String)>, StoreError> {
        self.0.kept_checkpoints()
    }
    fn keep_cosigned(&self, size: u64, note: &str, keep: bool) -> Result<(), StoreError> {
        self.0.keep_cosigned(size, note, keep)
    }
    fn latest_cosigned(&self) -> Result<Option<String>, StoreError> {
        self.0.latest_cosigned()
    }
    fn key_records(&self) -> Result<Vec<u64>, StoreError> {
        Ok(Vec::new())
    }
    fn open_allows(&self) -> Result<Vec<u64>, StoreError> {
        self.0.open_allows()
    }
    fn node(&self, id: crate::audit::merkle::NodeId) -> Result<Option<Hash>, StoreError> {
        self.0.node(id)
    }
}
