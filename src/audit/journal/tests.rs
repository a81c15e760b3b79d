//! The journal over a store that stands still, fails, and fails having persisted.

use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use http::Request;

use super::*;
use crate::access::Reason;
use crate::access::attempt::{Connection, ReadRules, TrustedProxies};
use crate::access::path::Tolerance;
use crate::access::route::{HostPattern, Preflights, Route, Routes};
use crate::audit::checkpoint::{Origin, SigningKey};
use crate::audit::hash::Hash;
use crate::audit::merkle::NodeId;
use crate::audit::record::{Kind, Record, Room};
use crate::audit::rocks::{RocksOptions, RocksStore};
use crate::audit::storage::{Batch, LogIdentity, StoreError, Visit, Walk};
use crate::audit::verify::Verifier;

const EPOCHS: Epochs = Epochs { policy: Hash::ZERO, config: Hash::ZERO };

fn key() -> SigningKey {
    SigningKey::from_seed(Origin::parse("gate.example/1").unwrap(), &[7; 32])
}

/// What a store does with a commit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Stuck,
    Fails,
    FailsHavingPersisted,
}

/// A real store whose commits go wrong on demand.
struct MoodyStore {
    real: RocksStore,
    mood: Mutex<Mood>,
    changed: Condvar,
    stuck: AtomicBool,
}

impl MoodyStore {
    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.changed.notify_all();
    }

    /// Waits until the writer stands in a commit.
    fn until_stuck(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.stuck.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "the writer never came");
            std::thread::yield_now();
        }
    }
}

fn broken() -> StoreError {
    StoreError::Io(std::io::Error::other("EIO"))
}

impl Store for MoodyStore {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut mood = self.mood.lock().unwrap();
        while *mood == Mood::Stuck {
            self.stuck.store(true, Ordering::SeqCst);
            mood = self.changed.wait(mood).unwrap();
        }
        self.stuck.store(false, Ordering::SeqCst);
        match *mood {
            Mood::Fails => Err(broken()),
            Mood::FailsHavingPersisted => self.real.commit(batch).and(Err(broken())),
            Mood::Well | Mood::Stuck => self.real.commit(batch),
        }
    }

    fn identity(&self) -> Result<LogIdentity, StoreError> {
        self.real.identity()
    }
    fn last_index(&self) -> Result<Option<u64>, StoreError> {
        self.real.last_index()
    }
    fn record(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.real.record(index)
    }
    fn scan(&self, walk: Walk, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.real.scan(walk, visit)
    }
    fn tip(&self) -> Result<Option<Hash>, StoreError> {
        self.real.tip()
    }
    fn latest_checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.real.latest_checkpoint()
    }
    fn kept_checkpoints(&self) -> Result<Vec<(u64, String)>, StoreError> {
        self.real.kept_checkpoints()
    }
    fn keep_cosigned(&self, size: u64, note: &str, keep: bool) -> Result<(), StoreError> {
        self.real.keep_cosigned(size, note, keep)
    }

    fn latest_cosigned(&self) -> Result<Option<String>, StoreError> {
        self.real.latest_cosigned()
    }

    fn open_allows(&self) -> Result<Vec<u64>, StoreError> {
        self.real.open_allows()
    }
    fn node(&self, id: NodeId) -> Result<Option<Hash>, StoreError> {
        self.real.node(id)
    }
}

/// A log in a directory that outlives its journals.
struct Log {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Log {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = LogIdentity { origin: "gate.example/1".into(), vkey: key().verifier().to_string() };
        drop(RocksStore::create(dir.path(), &identity, RocksOptions::default()).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { dir, runtime }
    }

    fn open(&self, queue: usize, timeout: Duration) -> Open<'_> {
        let real = RocksStore::open(self.dir.path(), RocksOptions::default()).unwrap();
        let store = Arc::new(MoodyStore {
            real,
            mood: Mutex::new(Mood::Well),
            changed: Condvar::new(),
            stuck: AtomicBool::new(false),
        });
        let options = JournalOptions { queue, timeout, denial_bytes: None };
        let shared: Arc<dyn Store> = Arc::<MoodyStore>::clone(&store);
        let (journal, writer) = Journal::open(shared, key(), Clock::system(), options, EPOCHS).unwrap();
        Open { log: self, store, journal, writer }
    }

    /// Every record, after the whole log has been verified.
    fn verified(&self) -> Vec<serde_json::Value> {
        let store = RocksStore::open_read_only(self.dir.path()).unwrap();
        let mut notes: Vec<Vec<u8>> =
            store.kept_checkpoints().unwrap().into_iter().map(|(_, note)| note.into_bytes()).collect();
        let latest = store.latest_checkpoint().unwrap().unwrap().into_bytes();
        if notes.last() != Some(&latest) {
            notes.push(latest);
        }
        let mut verifier = Verifier::new(key().verifier(), notes).unwrap();
        let mut records = Vec::new();
        store
            .scan(Walk::Up(0), &mut |index, bytes| {
                verifier.feed(index, bytes).unwrap();
                records.push(serde_json::from_slice(bytes).unwrap());
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        verifier.finish().unwrap();
        records
    }
}

struct Open<'a> {
    log: &'a Log,
    store: Arc<MoodyStore>,
    journal: Journal,
    writer: JoinHandle<()>,
}

impl Open<'_> {
    fn record(&self, decision: Decision) -> Result<Recorded, Unrecorded> {
        self.log.runtime.block_on(self.submit(decision))
    }

    async fn submit(&self, decision: Decision) -> Result<Recorded, Unrecorded> {
        self.journal.record(attempt(), Identity::Anonymous, decision, EPOCHS).await
    }

    fn permit(&self) -> Permit {
        match self.record(allow()) {
            Ok(Recorded::Allow(permit)) => permit,
            other => panic!("no permit: {other:?}"),
        }
    }

    /// Closes the journal; every record, after the whole log has been verified.
    fn close(self) -> Vec<serde_json::Value> {
        self.journal.close();
        self.writer.join().unwrap();
        drop(self.journal);
        drop(self.store);
        self.log.verified()
    }
}

fn allow() -> Decision {
    Decision::allow(Reason::PolicyAllow, None)
}

fn deny() -> Decision {
    Decision::deny(Reason::NoMatch, None)
}

fn attempt() -> Attempt {
    let routes = Routes::new([Route {
        service: "app".into(),
        hosts: vec![HostPattern::Any],
        prefix: "/".into(),
        rewrite: None,
        tolerance: Tolerance::default(),
        preflights: Preflights::Off,
        certificates: Default::default(),
        // Denials here are alike, and each is to be on record.
        recording: Recording { collapse: false, ..Recording::default() },
    }]);
    let (head, ()) = Request::get("/x").header("host", "app").body(()).unwrap().into_parts();
    let connection = Connection::without_certificate("192.0.2.1:5000".parse().unwrap(), None);
    let trusted = TrustedProxies::default();
    Attempt::read(&head, &connection, &ReadRules { routes: &routes, trusted: &trusted, target_bytes: 100 }, 1)
}

fn outcomes(records: &[serde_json::Value]) -> Vec<(u64, String)> {
    records
        .iter()
        .filter(|record| record["kind"] == Kind::Outcome.as_str())
        .map(|record| {
            (record["decision_index"].as_u64().unwrap(), record["result"].as_str().unwrap().to_owned())
        })
        .collect()
}

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);

#[test]
fn a_permit_and_a_denial_exist_only_once_their_records_are_durable() {
    let log = Log::new();
    let open = log.open(16, LONG);
    open.store.set(Mood::Stuck);
    log.runtime.block_on(async {
        let mut allowed = std::pin::pin!(open.submit(allow()));
        let mut denied = std::pin::pin!(open.submit(deny()));
        assert!(tokio::time::timeout(SHORT, &mut allowed).await.is_err());
        open.store.until_stuck();
        assert!(tokio::time::timeout(SHORT, &mut denied).await.is_err());
        assert_eq!(open.journal.size(), 0, "published before it was durable");
        open.store.set(Mood::Well);
        let Ok(Recorded::Allow(permit)) = allowed.await else { panic!("no permit") };
        assert!(open.store.record(permit.passage.record.index).unwrap().is_some());
        let Ok(Recorded::Deny(denial)) = denied.await else { panic!("no denial") };
        assert!(open.store.record(denial.record.index).unwrap().is_some());
    });
    open.close();
}

#[test]
fn a_failed_commit_gives_no_permit_and_poisons_the_log() {
    let log = Log::new();
    let open = log.open(16, LONG);
    open.store.set(Mood::Fails);
    assert_eq!(open.record(allow()).err(), Some(Unrecorded::Failed));
    open.store.set(Mood::Well);
    assert_eq!(open.record(allow()).err(), Some(Unrecorded::Failed), "it took a record after a failed write");
    assert!(open.journal.has_failed());
    open.writer.join().unwrap();
}

#[test]
fn a_commit_that_failed_and_persisted_gives_no_permit_and_is_closed_as_unknown_once() {
    let log = Log::new();
    let open = log.open(16, LONG);
    open.store.set(Mood::FailsHavingPersisted);
    assert_eq!(open.record(allow()).err(), Some(Unrecorded::Failed));
    open.close();
    for _ in 0..3 {
        let records = log.open(16, LONG).close();
        assert_eq!(outcomes(&records), [(0, "unknown".to_owned())]);
    }
}

#[test]
fn an_allow_left_open_by_a_crash_is_closed_as_unknown_once() {
    let log = Log::new();
    let open = log.open(16, LONG);
    // A crash drops nothing: the permit never gets to write its outcome.
    std::mem::forget(open.permit());
    open.close();
    for _ in 0..2 {
        assert_eq!(outcomes(&log.open(16, LONG).close()), [(0, "unknown".to_owned())]);
    }
}

#[test]
fn a_permit_dropped_unused_is_recorded_as_not_forwarded() {
    let log = Log::new();
    let open = log.open(16, LONG);
    drop(open.permit());
    assert_eq!(outcomes(&open.close()), [(0, "not_forwarded".to_owned())]);
}

#[test]
fn what_was_submitted_commits_though_nobody_waits() {
    let log = Log::new();
    let open = log.open(16, LONG);
    open.store.set(Mood::Stuck);
    log.runtime.block_on(async {
        let gone = tokio::time::timeout(SHORT, open.submit(allow())).await;
        assert!(gone.is_err());
    });
    open.store.set(Mood::Well);
    let records = open.close();
    assert_eq!(records[0]["decision"], "allow");
    assert_eq!(outcomes(&records), [(0, "not_forwarded".to_owned())]);
}

#[test]
fn a_decision_not_durable_in_time_is_not_carried_out() {
    let log = Log::new();
    let open = log.open(16, SHORT);
    open.store.set(Mood::Stuck);
    assert_eq!(open.record(allow()).err(), Some(Unrecorded::TimedOut));
    open.store.set(Mood::Well);
    assert_eq!(outcomes(&open.close()), [(0, "not_forwarded".to_owned())]);
}

#[test]
fn the_queue_is_bounded_and_refuses_what_is_over() {
    let log = Log::new();
    let open = log.open(2, LONG);
    open.store.set(Mood::Stuck);
    log.runtime.block_on(async {
        let mut first = std::pin::pin!(open.submit(deny()));
        assert!(tokio::time::timeout(SHORT, &mut first).await.is_err());
        open.store.until_stuck();
        let (mut second, mut third) =
            (std::pin::pin!(open.submit(deny())), std::pin::pin!(open.submit(deny())));
        assert!(tokio::time::timeout(SHORT, &mut second).await.is_err());
        assert!(tokio::time::timeout(SHORT, &mut third).await.is_err());
        assert_eq!(open.submit(deny()).await.err(), Some(Unrecorded::QueueFull));
        open.store.set(Mood::Well);
        for waiting in [first.await, second.await, third.await] {
            assert!(matches!(waiting, Ok(Recorded::Deny(_))));
        }
    });
    assert_eq!(open.close().len(), 3);
}

#[test]
fn a_paused_journal_takes_outcomes_and_events_and_no_decision_until_it_goes_on() {
    let log = Log::new();
    let open = log.open(16, LONG);
    let permit = open.permit();
    open.journal.pause(true);
    assert_eq!(open.record(allow()).err(), Some(Unrecorded::DiskFull));
    assert_eq!(open.record(deny()).err(), Some(Unrecorded::DiskFull));
    drop(permit);
    open.journal.note(EPOCHS, &Event::Disk { room: Room::Full, free_bytes: 1 }).unwrap();
    open.journal.pause(false);
    open.record(deny()).unwrap();
    let records = open.close();
    let kinds: Vec<_> = records.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!((kinds.len(), kinds[0], kinds[3]), (4, "decision", "decision"));
    assert!(kinds[1..3].contains(&"outcome") && kinds[1..3].contains(&"lifecycle"), "{kinds:?}");
}

#[test]
fn a_log_that_has_failed_says_so_though_it_is_paused() {
    let log = Log::new();
    let open = log.open(16, LONG);
    open.store.set(Mood::Fails);
    assert_eq!(open.record(allow()).err(), Some(Unrecorded::Failed));
    open.journal.pause(true);
    assert_eq!(open.record(allow()).err(), Some(Unrecorded::Failed));
    open.writer.join().unwrap();
}

#[test]
fn an_outcome_waits_for_no_decision_longer_than_it_must() {
    let log = Log::new();
    let open = log.open(16, LONG);
    let until = |so: &dyn Fn() -> bool, what: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !so() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    };
    // The writer has just committed; and then it has been quiet for so long that it sleeps until it is woken.
    let (first, second) = (open.permit(), open.permit());
    drop(first);
    until(&|| open.journal.size() == 3, "the outcome never went");
    until(&|| open.journal.0.queue.has_fallen_asleep(), "the writer never sleeps");
    drop(second);
    until(&|| open.journal.size() == 4, "the outcome woke nobody");
    assert_eq!(open.close().len(), 4);
}

#[test]
fn another_origin_or_key_may_not_take_up_the_log() {
    let log = Log::new();
    let open = log.open(16, LONG);
    open.record(deny()).unwrap();
    open.close();
    let take_up = |key: SigningKey| {
        let store = Arc::new(RocksStore::open(log.dir.path(), RocksOptions::default()).unwrap());
        let options = JournalOptions { queue: 1, timeout: LONG, denial_bytes: None };
        Journal::open(store, key, Clock::system(), options, EPOCHS).err()
    };
    let origin = |text| Origin::parse(text).unwrap();
    let other_origin = SigningKey::from_seed(origin("gate.example/2"), &[7; 32]);
    assert!(matches!(take_up(other_origin), Some(ReconcileError::Origin { .. })));
    let other_key = SigningKey::from_seed(origin("gate.example/1"), &[8; 32]);
    assert!(matches!(take_up(other_key), Some(ReconcileError::Key { .. })));
}

#[test]
fn a_clock_that_jumps_back_never_takes_a_records_time_with_it() {
    let log = Log::new();
    let at = |secs: i64| Timestamp::from_micros(secs * 1_000_000);
    let clock = Clock::manual(at(1_000));
    let store = Arc::new(RocksStore::open(log.dir.path(), RocksOptions::default()).unwrap());
    let options = JournalOptions { queue: 16, timeout: LONG, denial_bytes: None };
    let (journal, writer) = Journal::open(store, key(), clock.clone(), options, EPOCHS).unwrap();
    let record =
        || log.runtime.block_on(journal.record(attempt(), Identity::Anonymous, deny(), EPOCHS)).unwrap();
    record();
    clock.set(at(400));
    record();
    record();
    clock.set(at(5_000));
    record();
    journal.close();
    writer.join().unwrap();
    drop(journal);
    let records = log.verified();
    let seen: Vec<_> = records
        .iter()
        .map(|record| {
            (record["kind"].as_str().unwrap(), record["time"].as_str().unwrap().get(11..19).unwrap())
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("decision", "00:16:40"),
            ("lifecycle", "00:16:40"),
            ("decision", "00:16:40"),
            ("decision", "00:16:40"),
            ("lifecycle", "01:23:20"),
            ("decision", "01:23:20"),
        ]
    );
}

#[test]
fn records_read_back_as_they_were_decided() {
    let log = Log::new();
    let open = log.open(16, LONG);
    open.record(deny()).unwrap();
    let bytes = open.store.record(0).unwrap().unwrap();
    let record = Record::parse(&bytes).unwrap();
    assert_eq!(record.text(&["request", "path"]), Some("/x"));
    assert_eq!(record.text(&["reason"]), Some("no_match"));
    open.close();
}
