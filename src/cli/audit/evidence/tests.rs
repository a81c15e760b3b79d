//! Logs on disk, damaged in one place each.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use super::*;
use crate::audit::checkpoint::{Origin, SigningKey};
use crate::audit::hash::Hash;
use crate::audit::merkle::Frontier;
use crate::audit::record::{Body, Epochs, Event, seal};
use crate::audit::rocks::RocksOptions;
use crate::audit::storage::{Batch, LogIdentity};
use crate::cli::files::TempDir;
use crate::clock::Timestamp;

const RECORDS: u64 = 400;

fn key() -> SigningKey {
    SigningKey::from_seed(Origin::parse("log.example/1").unwrap(), &[7; 32])
}

/// A log of [`RECORDS`] records in commits of ten, every tenth of whose checkpoints is kept.
fn write_log(dir: &Path) {
    let identity = LogIdentity { origin: "log.example/1".into(), vkey: key().verifier().to_string() };
    let store = RocksStore::create(dir, &identity, RocksOptions::default()).unwrap();
    let (mut tree, mut prev, mut batch) = (Frontier::new(), Hash::ZERO, Batch::default());
    for first in (0..RECORDS).step_by(10) {
        batch.restart(first);
        for index in first..first + 10 {
            let body = body(index);
            let at = Timestamp::from_micros(1_767_225_600_000_000 + i64::try_from(index).unwrap());
            batch.push(|out| {
                seal(index, &prev, at, &body, out);
            });
            prev = Hash::leaf(batch.records().last().unwrap().1);
            tree.push(prev, |id, hash| batch.nodes.push((id, hash)));
        }
        batch.checkpoint = key().sign(first + 10, &tree.root());
        batch.keep = first.is_multiple_of(100).then_some(first + 10);
        batch.tip = Some(prev);
        store.commit(&batch).unwrap();
    }
}

/// A body that no compression makes small, so that records fill blocks of the store.
fn body(index: u64) -> Body {
    let epochs = Epochs { policy: Hash::ZERO, config: Hash::ZERO };
    let noise: String = (0..16).map(|n| Hash::of(format!("{index} {n}").as_bytes()).to_string()).collect();
    Body::event(&epochs, &Event::PolicyRefused { error: &noise })
}

/// Moves all records from the write-ahead log to a table file, and returns that.
fn flush(dir: &Path) -> PathBuf {
    let mut options = rocksdb::Options::default();
    options.set_compression_type(rocksdb::DBCompressionType::None);
    let families = rocksdb::DB::list_cf(&options, dir).unwrap();
    let families = families.iter().map(|name| (name.as_str(), options.clone()));
    let db = rocksdb::DB::open_cf_with_opts(&rocksdb::Options::default(), dir, families).unwrap();
    db.flush_cf(db.cf_handle("records").unwrap()).unwrap();
    drop(db);
    let tables = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let largest = |path: &PathBuf| path.metadata().unwrap().len();
    tables.filter(|path| path.extension().is_some_and(|end| end == "sst")).max_by_key(largest).unwrap()
}

fn put(dir: &Path, family: &str, key: &[u8], value: &[u8]) {
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, dir).unwrap();
    let db = rocksdb::DB::open_cf(&options, dir, families).unwrap();
    db.put_cf(db.cf_handle(family).unwrap(), key, value).unwrap();
}

fn verify(evidence: &Evidence) -> Verdict {
    evidence.verify(key().verifier(), evidence.notes().unwrap(), None, &mut |_, _| ()).unwrap()
}

fn verify_dir(dir: &Path) -> Verdict {
    verify(&Evidence::Log(RocksStore::open_read_only(dir).unwrap()))
}

fn failure(verdict: Verdict) -> Failure {
    match verdict {
        Verdict::Fails(failure) => failure,
        Verdict::Holds(report) => panic!("holds: {report:?}"),
    }
}

#[test]
fn a_log_on_disk_holds() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("log");
    write_log(&dir);
    assert!(matches!(verify_dir(&dir), Verdict::Holds(Report { records: RECORDS, checkpoints: 5, .. })));
    flush(&dir);
    assert!(matches!(verify_dir(&dir), Verdict::Holds(_)));
}

#[test]
fn an_unreadable_block_is_found_at_its_first_index() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("log");
    write_log(&dir);
    let table = flush(&dir);
    // Somewhere in the middle of the records; which index stands there, the bytes before it tell.
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(&table).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    drop(file);
    let mut readable = 0;
    let store = RocksStore::open_read_only(&dir).unwrap();
    let scanned = store.scan(Walk::Up(0), &mut |_, _| {
        readable += 1;
        ControlFlow::Continue(())
    });
    assert!(scanned.is_err() && (1..RECORDS).contains(&readable), "{readable} records could be read");
    let failure = failure(verify_dir(&dir));
    assert_eq!(failure.index, readable);
    assert!(failure.what.contains("cannot be read"), "{}", failure.what);
    assert_eq!(failure.proven, readable / 100 * 100 + 10 - if readable % 100 < 10 { 100 } else { 0 });
}

#[test]
fn a_record_rewritten_within_the_store_is_found_at_its_index() {
    for index in [0, 1, 205, RECORDS - 2, RECORDS - 1] {
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("log");
        write_log(&dir);
        let mut bytes = RocksStore::open_read_only(&dir).unwrap().record(index).unwrap().unwrap();
        let near_the_end = bytes.len() - 5;
        bytes[near_the_end] ^= 1;
        put(&dir, "records", &index.to_be_bytes(), &bytes);
        assert_eq!(failure(verify_dir(&dir)).index, index);
    }
}

#[test]
fn a_record_beyond_the_latest_checkpoint_is_found() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("log");
    write_log(&dir);
    let store = RocksStore::open_read_only(&dir).unwrap();
    let last = store.record(RECORDS - 1).unwrap().unwrap();
    let mut more = Vec::new();
    seal(RECORDS, &Hash::leaf(&last), Timestamp::from_micros(i64::MAX / 2), &body(RECORDS), &mut more);
    put(&dir, "records", &RECORDS.to_be_bytes(), &more);
    assert_eq!(failure(verify_dir(&dir)).index, RECORDS);
}

#[test]
fn an_export_is_verified_line_by_line() {
    let temp = TempDir::new().unwrap();
    let dir = temp.path().join("log");
    write_log(&dir);
    let store = RocksStore::open_read_only(&dir).unwrap();
    let mut lines = Vec::new();
    store
        .scan(Walk::Up(0), &mut |_, bytes| {
            lines.push(bytes.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    let export = temp.path().join("log.jsonl");
    let notes: String =
        stored_notes(&store).unwrap().iter().map(|note| format!("{}\n", serde_json::json!(note))).collect();
    std::fs::write(checkpoints_path(&export), notes).unwrap();
    let write =
        |lines: &[Vec<u8>]| std::fs::write(&export, [lines.join(&b'\n'), vec![b'\n']].concat()).unwrap();

    write(&lines);
    assert!(matches!(
        verify(&Evidence::Export(export.clone())),
        Verdict::Holds(Report { records: RECORDS, .. })
    ));
    write(&lines[..300]);
    assert_eq!(failure(verify(&Evidence::Export(export.clone()))).index, 300);
    let mut swapped = lines.clone();
    swapped.swap(50, 51);
    write(&swapped);
    assert_eq!(failure(verify(&Evidence::Export(export.clone()))).index, 50);
    let mut without = lines.clone();
    without.remove(77);
    write(&without);
    assert_eq!(failure(verify(&Evidence::Export(export.clone()))).index, 77);
    write(&lines);
    std::fs::write(checkpoints_path(&export), "not a note\n").unwrap();
    assert_eq!(failure(verify(&Evidence::Export(export))).index, 0);
}

#[test]
fn lines_end_at_newlines_and_are_never_read_far_beyond_a_record() {
    let long = vec![b'x'; 2 * MAX_RECORD_BYTES];
    let text = [b"one\n\ntwo".as_slice(), b"\n", &long].concat();
    let (mut reader, mut line) = (text.as_slice(), Vec::new());
    let mut lines = Vec::new();
    for _ in 0..3 {
        next_line(&mut reader, &mut line).unwrap();
        lines.push(line.clone());
    }
    assert_eq!(lines, [b"one".as_slice(), b"", b"two"]);
    next_line(&mut reader, &mut line).unwrap();
    assert_eq!(line.len(), MAX_RECORD_BYTES + 2);
}

#[test]
fn the_checkpoints_of_an_export_lie_beside_it() {
    assert_eq!(checkpoints_path(Path::new("a/log.jsonl")), Path::new("a/log.jsonl.checkpoints"));
}
