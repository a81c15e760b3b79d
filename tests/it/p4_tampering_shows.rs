//! P4: an edit, deletion, insertion, reordering or truncation is found by `audit verify`, which names the first bad
//! index.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{ColumnFamilyDescriptor, DB, IteratorMode, Options};
use serde_json::Value;

use crate::support::{Act, Setup, Site, Upstream};

/// Records by index.
type Records = Vec<(u64, Vec<u8>)>;

/// A stopped log with a few records of each kind.
fn stopped_log() -> Arc<Site> {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    for n in 0..6 {
        gate.client().get(&format!("/public/{n}"), None);
        gate.client().get("/admin/x", None);
    }
    let site = gate.stop();
    assert!(site.verify() > 16);
    site
}

/// A copy of a log that can be tampered with.
struct Copy {
    dir: tempfile::TempDir,
    vkey: String,
}

impl Copy {
    fn of(site: &Site) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(site.log_dir()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        Self { dir, vkey: site.vkey.clone() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Changes the records as their owner can who has the disk but not the key.
    fn tamper(&self, change: impl FnOnce(&mut Records)) {
        let names = DB::list_cf(&Options::default(), self.path()).unwrap();
        let families = names.iter().map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
        let db = DB::open_cf_descriptors(&Options::default(), self.path(), families).unwrap();
        let family = db.cf_handle("records").unwrap();
        let stored: Records = db
            .iterator_cf(family, IteratorMode::Start)
            .map(|entry| {
                let (key, value) = entry.unwrap();
                (u64::from_be_bytes((*key).try_into().unwrap()), value.into_vec())
            })
            .collect();
        let mut changed = stored.clone();
        change(&mut changed);
        assert_ne!(stored, changed);
        for (index, _) in stored {
            db.delete_cf(family, index.to_be_bytes()).unwrap();
        }
        for (index, bytes) in changed {
            db.put_cf(family, index.to_be_bytes(), bytes).unwrap();
        }
        db.flush_wal(true).unwrap();
    }

    /// What `audit verify --json` says, and how it ends.
    fn verify(&self, more: &[&str]) -> (i32, Value) {
        let log = self.path().to_str().unwrap().to_owned();
        let mut arguments = vec!["audit", "verify", "--json", "--log", &log, "--vkey", &self.vkey];
        arguments.extend(more);
        let output =
            std::process::Command::new(crate::support::gate::BINARY).args(arguments).output().unwrap();
        let said = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), said)
    }

    fn first_bad(&self) -> u64 {
        let (code, said) = self.verify(&[]);
        assert_eq!((code, said["holds"].as_bool()), (1, Some(false)), "{said}");
        said["first_bad_index"].as_u64().unwrap()
    }
}

#[test]
fn a_flipped_bit_is_found_at_its_index_whichever_record_it_is_in() {
    let site = stopped_log();
    let (code, said) = Copy::of(&site).verify(&[]);
    assert_eq!((code, said["holds"].as_bool()), (0, Some(true)), "an untouched copy holds: {said}");
    for index in 0..site.records().len() {
        let copy = Copy::of(&site);
        copy.tamper(|records| {
            // A byte of the body, so that it is still JSON: the last letter of the config's epoch.
            let bytes = &mut records[index].1;
            let at = find(bytes, b"\"config\":\"") + 12;
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        });
        assert_eq!(copy.first_bad(), index as u64);
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_record_is_found() {
    let site = stopped_log();
    let length = site_record_len(&site, 5);
    for at in (0..length).step_by(length / 12) {
        let copy = Copy::of(&site);
        copy.tamper(|records| records[5].1[at] ^= 0x01);
        let found = copy.first_bad();
        // A bit in `prev` speaks of the record before.
        assert!(found == 5 || found == 4, "byte {at}: {found}");
    }
}

#[test]
fn a_denial_turned_into_an_allow_is_found() {
    let site = stopped_log();
    let denied = site.records().iter().position(|record| record["decision"] == "deny").unwrap();
    let copy = Copy::of(&site);
    copy.tamper(|records| {
        let text = String::from_utf8(records[denied].1.clone()).unwrap();
        records[denied].1 = text.replace("\"decision\":\"deny\"", "\"decision\":\"allow\"").into_bytes();
    });
    assert_eq!(copy.first_bad(), denied as u64);
}

#[test]
fn a_deleted_record_is_found_at_its_index() {
    let site = stopped_log();
    for index in [0, 7] {
        let copy = Copy::of(&site);
        copy.tamper(|records| drop(records.remove(index)));
        assert_eq!(copy.first_bad(), index as u64, "left as a gap");

        let copy = Copy::of(&site);
        copy.tamper(|records| {
            records.remove(index);
            for (place, record) in records.iter_mut().enumerate() {
                record.0 = place as u64;
            }
        });
        assert_eq!(copy.first_bad(), index as u64, "closed up");
    }
}

#[test]
fn an_inserted_record_is_found_at_its_index() {
    let site = stopped_log();
    let copy = Copy::of(&site);
    copy.tamper(|records| {
        let twin = records[7].1.clone();
        records.insert(7, (7, twin));
        for (place, record) in records.iter_mut().enumerate() {
            record.0 = place as u64;
        }
    });
    let found = copy.first_bad();
    assert!(found == 7 || found == 8, "twins at 7 and 8 cannot be told apart: {found}");
}

#[test]
fn reordered_records_are_found_at_the_first_of_them() {
    let site = stopped_log();
    let copy = Copy::of(&site);
    copy.tamper(|records| {
        let earlier = std::mem::take(&mut records[6].1);
        let later = std::mem::replace(&mut records[9].1, earlier);
        records[6].1 = later;
    });
    assert_eq!(copy.first_bad(), 6);
}

#[test]
fn a_cut_tail_is_found_at_the_first_missing_index() {
    let site = stopped_log();
    let copy = Copy::of(&site);
    let left = site.records().len() - 3;
    copy.tamper(|records| records.truncate(left));
    assert_eq!(copy.first_bad(), left as u64);
}

#[test]
fn a_log_restored_from_before_is_found_by_a_checkpoint_kept_elsewhere() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    gate.client().get("/public/1", None);
    let site = gate.stop();
    let old = Copy::of(&site);
    let gate = site.start();
    gate.client().get("/public/2", None);
    let site = gate.stop();

    let kept: PathBuf = site.path("kept");
    let kept = kept.to_str().unwrap();
    let now = Copy::of(&site);
    assert_eq!(now.verify(&["--keep", kept]).0, 0);
    assert_eq!(now.verify(&["--against", kept]).0, 0);

    assert_eq!(old.verify(&[]).0, 0, "by itself the old log holds");
    let (code, said) = old.verify(&["--against", kept]);
    assert_eq!(code, 1, "{said}");
    let records = said_records(&old);
    assert_eq!(said["first_bad_index"].as_u64(), Some(records));
}

#[test]
fn a_gate_does_not_take_up_a_log_that_was_cut_or_altered() {
    let site = stopped_log();
    let last = site.records().len() - 1;
    let changes: [fn(&mut Records); 2] = [
        |records| drop(records.pop()),
        |records| {
            let bytes = &mut records.last_mut().unwrap().1;
            let at = bytes.len() - 3;
            bytes[at] ^= 1;
        },
    ];
    for change in changes {
        let copy = Copy::of(&site);
        copy.tamper(change);
        site.edit_config("dir = \"log\"", &format!("dir = {:?}", copy.path()));
        let (status, said) = site.refuses_to_start();
        assert_eq!(status.code(), Some(2), "{said}");
        site.edit_config(&format!("dir = {:?}", copy.path()), "dir = \"log\"");
    }
    assert_eq!(site.records().len(), last + 1, "the original is as it was");
    site.verify();
}

fn said_records(copy: &Copy) -> u64 {
    copy.verify(&[]).1["records"].as_u64().unwrap()
}

fn site_record_len(site: &Site, index: usize) -> usize {
    crate::support::log::stored(&site.log_dir())[index].len()
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).unwrap()
}
