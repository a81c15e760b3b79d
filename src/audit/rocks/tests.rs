use std::time::{Duration, Instant};

use rocksdb::ErrorKind;
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

use super::*;

/// What the next start has to look at must not grow with all the calls there ever were.
#[test]
fn finding_the_open_allows_does_not_walk_over_all_that_were_ever_closed() {
    let dir = tempfile::tempdir().unwrap();
    let identity = LogIdentity { origin: "gate.example/1".into(), vkey: "none".into() };
    let options =
        RocksOptions { durability: Durability::Os, write_buffer: 1 << 20, ..RocksOptions::default() };
    let store = RocksStore::create(&dir.path().join("log"), &identity, options).unwrap();
    let (calls, in_flight) = (400_000, 1_000);
    let mut batch = Batch::default();
    let mut stay = Vec::new();
    for first in (0..calls).step_by(500) {
        batch.restart(0);
        batch.opened.extend(first..first + 500);
        // A thousand later they end, but for a few that never do.
        let ended = first.saturating_sub(in_flight)..(first + 500).saturating_sub(in_flight);
        batch.closed.extend(ended.filter(|index| index % 10_000 != 7));
        store.commit(&batch).unwrap();
    }
    stay.extend((7..calls - in_flight).step_by(10_000));
    stay.extend(calls - in_flight..calls);
    // What is due in the background is done after a while; a machine that is busy otherwise takes longer.
    let due = |property| store.db.property_int_value_cf(store.family(OPEN).unwrap(), property).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while [Some(0), Some(0)] != ["rocksdb.compaction-pending", "rocksdb.mem-table-flush-pending"].map(due) {
        assert!(Instant::now() < deadline, "compaction never ends");
        std::thread::yield_now();
    }
    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut counted = PerfContext::default();
    counted.reset();
    assert_eq!(store.open_allows().unwrap(), stay);
    let looked_at = counted.metric(PerfMetric::InternalKeySkippedCount)
        + counted.metric(PerfMetric::InternalDeleteSkippedCount);
    set_perf_stats(PerfStatsLevel::Disable);
    assert!(looked_at < 100_000, "{looked_at} keys were looked at for {}", stay.len());
}

#[test]
fn only_a_held_lock_is_taken_for_one() {
    let held = [
        "IO error: While lock file: /var/log/LOCK: Resource temporarily unavailable",
        "IO error: lock hold by current process, acquire time 1 acquiring thread 2: /log/LOCK: No locks available",
    ];
    for text in held {
        assert!(is_locked(ErrorKind::IOError, text), "{text}");
    }
    for (kind, text) in [
        (
            ErrorKind::Corruption,
            "Corruption: block checksum mismatch: stored = 1, computed = 2, in /log/1.sst",
        ),
        (ErrorKind::IOError, "IO error: While open a file for lock: /log/LOCK: Permission denied"),
        (ErrorKind::IOError, "IO error: While lock file: /log/LOCK: No locks available"),
        (ErrorKind::IOError, "IO error: While open a file for random read: /block/1.sst: Input/output error"),
        (ErrorKind::Corruption, "Corruption: IO error: While lock file: Resource temporarily unavailable"),
    ] {
        assert!(!is_locked(kind, text), "{text}");
    }
}

#[test]
fn a_store_that_is_open_is_locked_and_one_that_is_damaged_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("block-lock");
    let identity = LogIdentity { origin: "gate.example/1".into(), vkey: "v".into() };
    let store = RocksStore::create(&dir, &identity, RocksOptions::default()).unwrap();
    let second = RocksStore::open(&dir, RocksOptions::default());
    assert!(matches!(second, Err(OpenError::Locked { pid: None, .. })));
    drop(store);
    std::fs::write(dir.join("CURRENT"), "no manifest").unwrap();
    let damaged = RocksStore::open(&dir, RocksOptions::default());
    assert!(matches!(damaged, Err(OpenError::Engine { .. })));
}

fn new_log(dir: &Path) -> RocksStore {
    let identity = LogIdentity { origin: "gate.example/1".into(), vkey: "none".into() };
    RocksStore::create(dir, &identity, RocksOptions::default()).unwrap()
}

#[test]
fn a_policy_is_kept_under_its_epoch_and_one_that_was_damaged_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let store = new_log(&dir.path().join("log"));
    let (text, epoch) = (b"policy", Hash::of(b"policy"));
    assert_eq!(store.policy(epoch).unwrap(), None);
    store.keep_policy(epoch, text).unwrap();
    store.keep_policy(epoch, text).unwrap();
    assert_eq!(store.policy(epoch).unwrap().as_deref(), Some(&text[..]));
    store.db.put_cf(store.family(POLICIES).unwrap(), epoch.0, b"another").unwrap();
    store.keep_policy(epoch, text).unwrap();
    assert_eq!(store.policy(epoch).unwrap().as_deref(), Some(&text[..]));
}

#[test]
fn a_log_to_which_a_later_version_has_added_something_is_opened_and_that_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut store = new_log(&log);
    store.db.create_cf("of a later version", &Options::default()).unwrap();
    drop(store);
    let store = RocksStore::open(&log, RocksOptions::default()).unwrap();
    assert_eq!(store.identity().unwrap().origin, "gate.example/1");
    drop(store);
    assert!(RocksStore::open_read_only(&log).is_ok());
}
