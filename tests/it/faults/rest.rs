//! The table of what is damaged while no gate runs: what `serve` does about it, and what it says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::Files;
use super::ledger::{Closed, Told, judge};
use super::load::Load;
use super::table::{calls, settle};
use crate::support::{Act, Setup, Signer, Site, Upstream, until};

/// One damage, and all that must follow from it.
struct Row {
    name: &'static str,
    /// How the gate ended before.
    ended: Ended,
    /// What is done to its files.
    damage: fn(&Site) -> Vec<PathBuf>,
    /// What the next start comes to.
    start: Start,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Well,
    /// Killed: what it wrote last is in the write-ahead log alone.
    Killed,
}

#[derive(Clone, Copy, Debug)]
enum Start {
    /// Nothing is lost, and it serves.
    Serves,
    /// It refuses, and says these words. With the damage undone it serves and nothing is lost: the refusal harmed
    /// nothing.
    Refuses(&'static [&'static str]),
}

use Ended::{Killed, Well};
use Start::{Refuses, Serves};

#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row { name: "garbage after the end of the write-ahead log", ended: Killed, damage: |site| append(&wal(site)), start: Serves },
    Row { name: "zeros after the end of the write-ahead log", ended: Killed, damage: |site| pad(&wal(site)), start: Serves },
    Row { name: "a flipped byte amid the write-ahead log", ended: Killed, damage: |site| flip(&wal(site), 2), start: Refuses(&["log cannot be opened", "orrupt"]) },
    Row { name: "the write-ahead log is missing after a crash", ended: Killed, damage: |site| remove(&[wal(site)]), start: Refuses(&["write-ahead log", "is missing"]) },
    Row { name: "the write-ahead log is missing after an orderly end", ended: Well, damage: |site| remove(&[wal(site)]), start: Refuses(&["write-ahead log", "is missing"]) },
    Row { name: "the table of the records is damaged where the log ends", ended: Well, damage: |site| flip_all(&tables(site)), start: Refuses(&["orrupt"]) },
    Row { name: "a table is missing", ended: Well, damage: |site| remove(&tables(site)[..1]), start: Refuses(&["cannot be opened", ".sst"]) },
    Row { name: "all tables are missing", ended: Well, damage: |site| remove(&tables(site)), start: Refuses(&["cannot be opened", ".sst"]) },
    Row { name: "a table was cut", ended: Well, damage: |site| halve(&tables(site)[0]), start: Refuses(&["cannot be opened", ".sst"]) },
    Row { name: "the manifest is missing", ended: Well, damage: |site| remove(&[named(site, "MANIFEST")]), start: Refuses(&["cannot be opened", "MANIFEST"]) },
    Row { name: "a flipped byte in the manifest", ended: Well, damage: |site| flip(&named(site, "MANIFEST"), 2), start: Refuses(&["cannot be opened", "orrupt"]) },
    Row { name: "the manifest was cut", ended: Well, damage: |site| halve(&named(site, "MANIFEST")), start: Refuses(&["the log"]) },
    Row { name: "CURRENT is missing", ended: Well, damage: |site| remove(&[named(site, "CURRENT")]), start: Refuses(&["there is no log", "has been used"]) },
    Row { name: "CURRENT is empty", ended: Well, damage: |site| replace(&named(site, "CURRENT"), b""), start: Refuses(&["cannot be opened", "CURRENT"]) },
    Row { name: "the whole log is missing", ended: Well, damage: |site| remove(&files(site)), start: Refuses(&["there is no log", "has been used"]) },
    Row { name: "the key is missing", ended: Well, damage: |site| remove(&[site.path("log.pem")]), start: Refuses(&["log.key_file", "log.pem", "keygen"]) },
    Row { name: "the key is not a key", ended: Well, damage: |site| halve(&site.path("log.pem")), start: Refuses(&["log.key_file", "log.pem"]) },
    Row { name: "the key is another one", ended: Well, damage: |site| replace(&site.path("log.pem"), another_key().as_bytes()), start: Refuses(&["not the key it was created with"]) },
];

#[test]
fn every_damage_at_rest_is_harmless_or_refused_by_name() {
    for row in TABLE {
        println!("{}", row.name);
        let (upstream, site, mut told) = ended(row.ended);
        let whole: Vec<_> = files(&site).into_iter().chain([site.path("log.pem")]).collect();
        let whole: Vec<_> = whole.into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect();
        let touched = (row.damage)(&site);
        assert!(!touched.is_empty(), "{}: there was nothing to damage", row.name);
        if let Refuses(words) = row.start {
            let (status, said) = site.refuses_to_start();
            assert_eq!(status.code(), Some(2), "{}: {said}", row.name);
            let last = said.lines().last().unwrap_or_default();
            assert!(!last.contains("another process"), "{}: {said}", row.name);
            for word in words {
                assert!(last.contains(word), "{}: no {word:?} in: {said}", row.name);
            }
            // The damage is undone, to the file; whatever else a refused start has left there stays.
            for (bytes, path) in whole.iter().filter(|(_, path)| touched.contains(path)) {
                std::fs::write(path, bytes).unwrap();
            }
        }
        let gate = site.start();
        told.extend(calls("after", &[gate.client()]));
        judge(&gate.stop(), &told, &upstream, Closed::All).assert_none(row.name);
    }
}

/// A log with records in tables and in the write-ahead log, whose gate has ended.
fn ended(how: Ended) -> (Upstream, Arc<Site>, Vec<Told>) {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let mut told = Vec::new();
    // Each start puts what the last one wrote into tables.
    for run in ["first", "second", "third"] {
        let gate = site.start();
        told.extend(calls(run, &[gate.client(), gate.client2()]));
        settle(&site);
        match how {
            Well => drop(gate.stop()),
            Killed => drop(gate.kill()),
        }
    }
    (upstream, site, told)
}

fn files(site: &Site) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(site.log_dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The one file whose name has this in it.
fn named(site: &Site, part: &str) -> PathBuf {
    let mut found = files(site);
    found.retain(|path| path.file_name().unwrap().to_str().unwrap().contains(part));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// The newest write-ahead log.
fn wal(site: &Site) -> PathBuf {
    let of_wal = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    files(site).into_iter().rfind(of_wal).expect("a write-ahead log")
}

/// The tables, newest first.
fn tables(site: &Site) -> Vec<PathBuf> {
    let mut tables = files(site);
    tables.retain(|path| path.extension().is_some_and(|extension| extension == "sst"));
    tables.reverse();
    tables
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<PathBuf> {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    vec![path.to_owned()]
}

fn append(path: &Path) -> Vec<PathBuf> {
    change(path, |bytes| bytes.extend((0..200_u8).map(|n| n.wrapping_mul(37) ^ 0x5a)))
}

fn pad(path: &Path) -> Vec<PathBuf> {
    change(path, |bytes| bytes.resize(bytes.len() + 4096, 0))
}

/// Flips a byte at one `part`th of the file.
fn flip(path: &Path, part: usize) -> Vec<PathBuf> {
    change(path, |bytes| {
        let at = bytes.len() / part;
        bytes[at] ^= 0xff;
    })
}

/// Flips a byte early in each, where the data lies.
fn flip_all(paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().flat_map(|path| change(path, |bytes| bytes[20] ^= 0xff)).collect()
}

fn halve(path: &Path) -> Vec<PathBuf> {
    change(path, |bytes| bytes.truncate(bytes.len() / 2))
}

fn replace(path: &Path, with: &[u8]) -> Vec<PathBuf> {
    change(path, |bytes| *bytes = with.to_vec())
}

fn remove(paths: &[PathBuf]) -> Vec<PathBuf> {
    for path in paths {
        std::fs::remove_file(path).unwrap();
    }
    paths.to_vec()
}

fn another_key() -> String {
    use portcullis::audit::checkpoint::{Origin, SigningKey};
    let origin = Origin::parse(crate::support::gate::ORIGIN).unwrap();
    SigningKey::generate(origin).unwrap().to_pkcs8_pem().unwrap().to_string()
}

/// Reads never give what was not written: they say that they cannot, and `audit verify` names the file.
#[test]
fn a_damaged_table_never_becomes_a_wrong_answer() {
    let (upstream, site, _) = ended(Well);
    // Enough for a table of many blocks, of which a start reads only the last.
    let gate = site.start();
    let load = Load::start(&gate, &Arc::default());
    until("some load", || load.answers() > 250);
    load.finish();
    drop(gate.stop());
    drop(site.start().stop());
    let auditor = Signer::usual().token("eve", &["auditor"]);
    let whole = site.records();
    let log = site.log_dir().to_str().unwrap().to_owned();
    let (mut refused, mut unread) = (0, 0);
    let files = Files::of(&site);
    for table in tables(&site) {
        files.restore(&site);
        flip_all(std::slice::from_ref(&table));
        match site.try_start() {
            Err(_) => {
                assert!(
                    site.said().contains(table.file_name().unwrap().to_str().unwrap()),
                    "{}",
                    site.said()
                );
                refused += 1;
            }
            Ok(gate) => {
                let page = gate.admin().get("/v1/records?order=oldest&limit=500", Some(&auditor));
                let verified = site.command(&["audit", "verify", "--log", &log, "--vkey", &site.vkey]);
                let said = [verified.stdout, verified.stderr].concat();
                let said = String::from_utf8_lossy(&said);
                assert!(verified.status.success() || said.contains(".sst"), "{said}");
                if page.status == 200 {
                    let records = page.json();
                    assert_eq!(records["records"].as_array().unwrap()[..whole.len()], whole);
                } else {
                    assert_eq!(page.status, 500);
                    assert_eq!(page.header("content-type"), Some("application/problem+json"));
                    assert!(page.header("portcullis-record").is_some() && !verified.status.success());
                    unread += 1;
                }
                // It can still record: what is damaged is behind it.
                assert_eq!(gate.client().get("/public/still", None).status, 200);
                drop(gate.kill());
            }
        }
    }
    drop(upstream);
    assert!(refused > 0 && unread > 0, "{refused} tables were needed to start, {unread} to read");
}

/// The end of the write-ahead log, cut off, looks like a commit that a crash cut short, and is taken up as one. What is
/// left verifies; that there was more, only what lies outside the log can tell: the outside mark, if there is one.
#[test]
fn an_acknowledged_record_that_is_cut_off_shows_only_from_outside() {
    let (upstream, site, told) = ended(Killed);
    change(&wal(&site), |bytes| bytes.truncate(bytes.len() - 40));
    let gate = site.start();
    let findings = judge(&gate.stop(), &told, &upstream, Closed::All);
    assert!(findings.unverifiable.is_empty() && findings.lost.len() <= 2, "{findings:?}");
}
