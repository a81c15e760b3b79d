//! The log's key changes by a restart, without a gap: whoever was given one key follows to the next.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use portcullis::app;
use portcullis::audit::checkpoint::{Note, Origin, Rotation, SigningKey, VerifierKey};
use portcullis::audit::rocks::{RocksOptions, RocksStore};
use portcullis::audit::storage::Store;
use rocksdb::{ColumnFamilyDescriptor, DB, Options};
use serde_json::Value;

use crate::support::faulty::{Fault, FaultyStore};
use crate::support::gate::{BINARY, ORIGIN};
use crate::support::{Act, Gate, Setup, Signer, Site, Upstream, log, until};

/// A site whose log has some records.
fn used_site(setup: Setup) -> Arc<Site> {
    let gate = setup.start();
    call(&gate, 3);
    gate.stop()
}

fn call(gate: &Gate, calls: usize) {
    for n in 0..calls {
        assert_eq!(gate.client().get(&format!("/public/{n}"), None).status, 200);
    }
}

/// Makes a key as an operator would; its vkey.
fn keygen(site: &Site, file: &str) -> String {
    let made = site.command(&["keygen", "--origin", ORIGIN, "--out", file]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// Makes a new key and configures the change to it; the new vkey.
fn configure(site: &Site, old: &str, new: &str) -> String {
    let vkey = keygen(site, new);
    site.edit_config(
        &format!("\nkey_file = \"{old}\"\n"),
        &format!("\nkey_file = \"{new}\"\nretiring_key_file = \"{old}\"\n"),
    );
    vkey
}

/// Takes the retiring key out of the config.
fn forget(site: &Site, old: &str) {
    site.edit_config(&format!("retiring_key_file = \"{old}\"\n"), "");
}

fn key_records(site: &Site) -> Vec<Value> {
    site.records().into_iter().filter(|record| record["kind"] == "key").collect()
}

fn signed_by(note: &str, vkey: &str) -> bool {
    Note::parse(note.as_bytes()).unwrap().is_signed_by(&VerifierKey::parse(vkey).unwrap()).unwrap()
}

fn latest(site: &Site) -> String {
    RocksStore::open_read_only(&site.log_dir()).unwrap().latest_checkpoint().unwrap().unwrap()
}

/// What `audit verify --json` says, and how it ends.
fn verify(site: &Site, arguments: &[&str]) -> (i32, Value) {
    let output = site.command(&[&["audit", "verify", "--json"], arguments].concat());
    let said = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), said)
}

/// The log holds for who was given any of these keys, by its directory and by an export.
fn holds_by(site: &Site, vkeys: &[&str]) {
    let export = format!("export-{}.jsonl", site.records().len());
    let written = site.command(&["audit", "export", "--log", "log", "--out", &export]);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    for vkey in vkeys {
        for what in [&["--log", "log"][..], &[&export]] {
            let (code, said) = verify(site, &[what, &["--vkey", vkey]].concat());
            assert_eq!((code, said["holds"].as_bool()), (0, Some(true)), "{vkey}: {said}");
            let keys: Vec<_> = said["keys"].as_array().unwrap().iter().map(|key| &key["vkey"]).collect();
            assert_eq!(keys, vkeys.iter().collect::<Vec<_>>());
        }
    }
    std::fs::remove_file(site.path(&export)).unwrap();
    std::fs::remove_file(site.path(&format!("{export}.checkpoints"))).unwrap();
}

fn refused(site: &Site, words: &[&str]) {
    let before = site.records().len();
    let (status, said) = site.refuses_to_start();
    assert_eq!(status.code(), Some(2), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    assert_eq!(site.records().len(), before, "it left the log as it was");
}

#[test]
fn a_restart_changes_the_key_and_whoever_has_either_key_follows() {
    let upstream = Upstream::start(Act::Answer);
    let site = used_site(Setup::new(&upstream));
    let (old, before) = (site.vkey.clone(), site.records().len());
    let new = configure(&site, "log.pem", "log-2.pem");
    assert_eq!(verify(&site, &["--config", "gate.toml"]).0, 0, "before the restart, by the config's keys");
    let checked = site.command(&["check", "--config", "gate.toml"]);
    assert!(
        String::from_utf8_lossy(&checked.stdout).contains(&format!("changes at the next start, to {new}"))
    );

    let gate = site.start();
    call(&gate, 3);
    let record = &key_records(&gate)[0];
    assert_eq!(record["index"].as_u64(), Some(before as u64), "it is the first thing recorded");
    assert_eq!((&record["vkey"], &record["old_vkey"]), (&new.as_str().into(), &old.as_str().into()));
    let token = Signer::usual().token("carol", &["auditor"]);
    let served = gate.admin().get("/checkpoint", Some(&token));
    assert!(signed_by(served.text(), &old) && signed_by(served.text(), &new));
    let live = verify(&gate, &["--config", "gate.toml"]);
    assert_eq!((live.0, &live.1["keys"][1]["since"]), (0, &before.into()), "{}", live.1);
    let site = gate.stop();
    holds_by(&site, &[&old, &new]);

    // The overlap is over: the new key signs alone, and the old one need not be there.
    site.edit_config("[log]\n", "[log]\nkey_overlap = \"0s\"\n");
    let gate = site.start();
    call(&gate, 1);
    assert!(signed_by(&latest(&gate), &new) && !signed_by(&latest(&gate), &old));
    let site = gate.stop();
    forget(&site, "log.pem");
    std::fs::remove_file(site.path("log.pem")).unwrap();
    let site = site.start().stop();
    assert_eq!(key_records(&site).len(), 1);
    holds_by(&site, &[&old, &new]);
    let store = RocksStore::open_read_only(&site.log_dir()).unwrap();
    let kept = store.kept_checkpoints().unwrap();
    let changing = kept.iter().find(|(size, _)| *size > before as u64).unwrap();
    assert!(signed_by(&changing.1, &old) && signed_by(&changing.1, &new), "kept for good");
}

#[test]
fn a_log_whose_key_changed_twice_is_followed_and_no_key_comes_back() {
    let upstream = Upstream::start(Act::Answer);
    let site = used_site(Setup::new(&upstream));
    let first = site.vkey.clone();
    let second = configure(&site, "log.pem", "log-2.pem");
    let site = site.start().stop();
    forget(&site, "log.pem");
    let third = configure(&site, "log-2.pem", "log-3.pem");
    let gate = site.start();
    call(&gate, 1);
    let site = gate.stop();
    holds_by(&site, &[&first, &second, &third]);
    let other = keygen(&site, "other.pem");
    let (code, said) = verify(&site, &["--log", "log", "--vkey", &other]);
    assert_eq!((code, said["first_bad_index"].as_u64()), (1, Some(0)), "{said}");

    for (key, retiring, words) in [
        ("log.pem", None, &["does not come back", "keygen"][..]),
        ("log.pem", Some("log-3.pem"), &["does not come back"]),
        ("log-2.pem", Some("log-3.pem"), &["does not come back"]),
        ("other.pem", None, &["log.retiring_key_file"]),
        ("other.pem", Some("log-2.pem"), &["not the key it was created with", &third]),
        ("log-3.pem", Some("log.pem"), &["log.retiring_key_file", "not the key that the log had before"]),
        ("log-3.pem", Some("log-3.pem"), &["log.retiring_key_file"]),
        ("log-3.pem", Some("absent.pem"), &["log.retiring_key_file", "absent.pem"]),
    ] {
        let old = "key_file = \"log-3.pem\"\nretiring_key_file = \"log-2.pem\"\n";
        let retiring = retiring.map(|file| format!("retiring_key_file = {file:?}\n")).unwrap_or_default();
        let new = format!("key_file = {key:?}\n{retiring}");
        site.edit_config(old, &new);
        refused(&site, words);
        site.edit_config(&new, old);
    }
    site.start().stop();
    assert_eq!(key_records(&site).len(), 2);
}

#[test]
fn a_change_of_key_holds_whatever_its_commit_does() {
    let upstream = Upstream::start(Act::Answer);
    for (fault, there) in [
        (Fault::Fail, false),
        (Fault::FailPersisted, true),
        (Fault::Panic, false),
        (Fault::PanicPersisted, true),
    ] {
        let site = used_site(Setup::new(&upstream));
        let old = site.vkey.clone();
        let new = configure(&site, "log.pem", "log-2.pem");
        let store = RocksStore::open(&site.log_dir(), RocksOptions::default()).unwrap();
        let store = Arc::new(FaultyStore::new(store));
        store.set(fault);
        let started = app::start(site.settings(), Some(Arc::clone(&store) as _));
        assert!(started.is_err(), "{fault:?}: its first record was not taken");
        until("the store to be let go", || Arc::strong_count(&store) == 1);
        drop(store);
        site.verify();
        assert_eq!(key_records(&site).len(), usize::from(there), "{fault:?}");

        let gate = site.start();
        call(&gate, 1);
        let site = gate.stop();
        assert_eq!(key_records(&site).len(), 1, "{fault:?}");
        holds_by(&site, &[&old, &new]);
    }
}

#[test]
fn kill_9_around_the_change_leaves_a_log_that_starts_again_and_verifies() {
    let upstream = Upstream::start(Act::Answer);
    let mut site = used_site(Setup::new(&upstream));
    let mut vkeys = vec![site.vkey.clone()];
    let files = ["log.pem", "log-2.pem", "log-3.pem", "log-4.pem", "log-5.pem"];
    type Due = fn(&Site, usize) -> bool;
    let moments: [(&str, Due); 4] = [
        ("at once", |_, _| true),
        ("as it has proved its config", |site, _| {
            site.path("said").metadata().is_ok_and(|said| said.len() > 0)
        }),
        ("as the change is there", |site, changed| key_records(site).len() == changed),
        ("as it serves", |site, _| site.path("killed.json").exists()),
    ];
    for (round, (when, due)) in moments.into_iter().enumerate() {
        if round > 0 {
            forget(&site, files[round - 1]);
        }
        vkeys.push(configure(&site, files[round], files[round + 1]));
        let _ = std::fs::remove_file(site.path("said"));
        let mut process = Command::new(BINARY)
            .args(["serve", "--config"])
            .arg(site.config())
            .arg("--ready-file")
            .arg(site.path("killed.json"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(site.path("said")).unwrap())
            .spawn()
            .unwrap();
        until(when, || due(&site, round + 1) || process.try_wait().unwrap().is_some());
        process.kill().unwrap();
        process.wait().unwrap();
        // As it lies there after the crash, it verifies.
        site.verify();
        let gate = site.start();
        call(&gate, 1);
        site = gate.stop();
        assert_eq!(key_records(&site).len(), round + 1, "{when}");
        holds_by(&site, &vkeys.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// Changes a stored value behind the log's back.
fn tamper(dir: &Path, family: &str, key: &[u8], change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
    let names = DB::list_cf(&Options::default(), dir).unwrap();
    let families = names.iter().map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    let db = DB::open_cf_descriptors(&Options::default(), dir, families).unwrap();
    let family = db.cf_handle(family).unwrap();
    let value = db.get_cf(family, key).unwrap().unwrap();
    match change(value) {
        Some(value) => db.put_cf(family, key, value).unwrap(),
        None => db.delete_cf(family, key).unwrap(),
    }
    db.flush_wal(true).unwrap();
}

/// A stopped log whose key has changed; where, and the keys.
fn rotated(upstream: &Upstream) -> (Arc<Site>, u64, [String; 2]) {
    let site = used_site(Setup::new(upstream));
    let new = configure(&site, "log.pem", "log-2.pem");
    let gate = site.start();
    call(&gate, 3);
    let site = gate.stop();
    let index = key_records(&site)[0]["index"].as_u64().unwrap();
    let keys = [site.vkey.clone(), new];
    (site, index, keys)
}

#[test]
fn a_key_record_that_was_tampered_with_is_named_and_the_gate_does_not_go_on() {
    let upstream = Upstream::start(Act::Answer);
    let (site, index, keys) = rotated(&upstream);
    let thief = SigningKey::from_seed(Origin::parse(ORIGIN).unwrap(), &[9; 32]);
    let forged = Rotation::sign(&thief, &thief, index);
    let original = log::stored(&site.log_dir()).swap_remove(usize::try_from(index).unwrap());
    let said: Value = serde_json::from_slice(&original).unwrap();
    let instead = |field: &str, with: &str| {
        let text = String::from_utf8(original.clone()).unwrap();
        Some(text.replace(said[field].as_str().unwrap(), with).into_bytes())
    };
    let changes = [
        instead("vkey", &thief.verifier().to_string()),
        instead("old_vkey", &thief.verifier().to_string()),
        instead("old_signature", &forged.old_signature),
        instead("new_signature", &forged.new_signature),
        None,
    ];
    for changed in changes {
        tamper(&site.log_dir(), "records", &index.to_be_bytes(), |_| changed);
        for vkey in &keys {
            let (code, said) = verify(&site, &["--log", "log", "--vkey", vkey]);
            assert_eq!((code, said["first_bad_index"].as_u64()), (1, Some(index)), "{said}");
        }
        let (status, _) = site.refuses_to_start();
        assert_eq!(status.code(), Some(2));
        put(&site.log_dir(), &index.to_be_bytes(), &original);
    }
    // The store's own list of key records, which nobody signs: without it the gate does not start, and no second
    // change is made; who verifies does not look at it.
    tamper(&site.log_dir(), "meta", b"keys", |_| None);
    refused(&site, &["tampered"]);
    holds_by(&site, &[&keys[0], &keys[1]]);
}

fn put(dir: &Path, key: &[u8], value: &[u8]) {
    let names = DB::list_cf(&Options::default(), dir).unwrap();
    let families = names.iter().map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    let db = DB::open_cf_descriptors(&Options::default(), dir, families).unwrap();
    db.put_cf(db.cf_handle("records").unwrap(), key, value).unwrap();
    db.flush_wal(true).unwrap();
}

#[test]
fn a_retired_key_signs_for_the_log_no_more() {
    let upstream = Upstream::start(Act::Answer);
    let (site, _, keys) = rotated(&upstream);
    // Its thief signs the log as it stands, and puts that in the latest checkpoint's place.
    let pem = std::fs::read_to_string(site.path("log.pem")).unwrap();
    let old = SigningKey::from_pkcs8_pem(Origin::parse(ORIGIN).unwrap(), &pem).unwrap();
    let both = latest(&site);
    let alone: String =
        both.lines().enumerate().filter(|(at, _)| *at != 4).map(|(_, line)| format!("{line}\n")).collect();
    assert!(signed_by(&alone, &old.verifier().to_string()) && !signed_by(&alone, &keys[1]));
    tamper(&site.log_dir(), "meta", b"latest", |_| Some(alone.into_bytes()));
    for vkey in &keys {
        let (code, said) = verify(&site, &["--log", "log", "--vkey", vkey]);
        assert_eq!(code, 1, "{said}");
        assert!(said["fault"].as_str().unwrap().contains("not signed by"), "{said}");
    }
    refused(&site, &["not signed by", &keys[1]]);
}

#[test]
fn the_outside_mark_follows_a_change_of_key() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).log("mark_file = \"disk/gate.mark\"").site_without_log();
    std::fs::create_dir(site.path("disk")).unwrap();
    app::create_log(&site.settings()).unwrap();
    let gate = site.start();
    call(&gate, 2);
    let site = gate.stop();
    let mark: PathBuf = site.path("disk/gate.mark");
    std::fs::copy(&mark, site.path("kept")).unwrap();
    let before = site.path("before");
    copy(&site.log_dir(), &before);

    let new = configure(&site, "log.pem", "log-2.pem");
    site.edit_config("[log]\n", "[log]\nkey_overlap = \"0s\"\n");
    let gate = site.start();
    call(&gate, 2);
    let site = gate.stop();
    let note = std::fs::read_to_string(&mark).unwrap();
    assert_eq!(note, latest(&site), "the mark is the log's last checkpoint");
    assert!(signed_by(&note, &new) && !signed_by(&note, &site.vkey));
    // Kept before the change and after it, for who has either key.
    for vkey in [&site.vkey, &new] {
        for kept in ["kept", "disk/gate.mark"] {
            let (code, said) = verify(&site, &["--log", "log", "--vkey", vkey, "--against", kept]);
            assert_eq!(code, 0, "{vkey} {kept}: {said}");
        }
    }
    // Set back to before the change, the log is shorter than its mark.
    std::fs::rename(site.log_dir(), site.path("after")).unwrap();
    copy(&before, &site.log_dir());
    refused(&site, &["are gone", "set back"]);
    let (code, said) = verify(&site, &["--log", "log", "--vkey", &new]);
    assert_eq!(code, 1, "a log that does not know the key yet: {said}");
    let against = ["audit", "verify", "--log", "log", "--vkey", &site.vkey, "--against", "disk/gate.mark"];
    let output = site.command(&against);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("signed by no key that this log names"));
    std::fs::remove_dir_all(site.log_dir()).unwrap();
    std::fs::rename(site.path("after"), site.log_dir()).unwrap();
    site.start().stop();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
