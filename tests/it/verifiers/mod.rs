//! Verifiers that share no code with the gate, on what a live gate has recorded: that of `docs/verify.md`, and the libraries
//! which Go's checksum database is checked with.

use std::path::Path;
use std::process::{Command, Output};

use portcullis::audit::checkpoint::{Origin, SigningKey};

use crate::support::gate::ORIGIN;
use crate::support::{Act, Setup, Signer, Site, Upstream, log};

const GUIDE: &str = include_str!("../../../docs/verify.md");

#[test]
fn the_verifier_in_the_docs_checks_a_live_log_and_finds_what_was_changed() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let token = Signer::usual().token("carol", &["auditor"]);
    for n in 0..20 {
        assert_eq!(gate.client().get(&format!("/public/{n}"), None).status, 200);
    }
    let proof = gate.admin().get("/v1/records/7/proof", Some(&token));
    let record = gate.admin().get("/v1/records/7", Some(&token));
    std::fs::write(gate.path("7.tlog-proof"), &proof.body).unwrap();
    std::fs::write(gate.path("7.record"), &record.body).unwrap();
    let vkey = gate.vkey.clone();
    let site = gate.stop();
    let whole = site.path("whole.jsonl");
    let exported = site.command(&["audit", "export", "--log", "log", "--out", whole.to_str().unwrap()]);
    assert!(exported.status.success(), "{exported:?}");

    let verifier = Verifier::write(&site, &vkey);
    let records = log::stored(&site.log_dir());
    verifier.proves("export", "whole.jsonl", &format!("all {} records are what ", records.len()));
    verifier.proves("proof", "7.record", "record 7 is in the log of ");

    let changed: [(&str, Vec<Vec<u8>>); 4] = [
        ("an edited record", with(&records, |all| edit(&mut all[9]))),
        ("a dropped record", with(&records, |all| drop(all.remove(9)))),
        ("swapped records", with(&records, |all| all.swap(9, 10))),
        ("a truncated tail", with(&records, |all| all.truncate(records.len() - 1))),
    ];
    let notes = std::fs::read(site.path("whole.jsonl.checkpoints")).unwrap();
    for (what, records) in changed {
        let lines: Vec<u8> = records.iter().flat_map(|record| [record, b"\n".as_slice()].concat()).collect();
        std::fs::write(site.path("changed.jsonl"), lines).unwrap();
        std::fs::write(site.path("changed.jsonl.checkpoints"), &notes).unwrap();
        verifier.refuses("export", "changed.jsonl", what);
    }
    let mut edited = record.body;
    edit(&mut edited);
    std::fs::write(site.path("7.record"), edited).unwrap();
    verifier.refuses("proof", "7.record", "a proof of an edited record");
}

#[test]
fn the_verifier_in_the_docs_has_fewer_than_80_lines_of_code() {
    assert!(code().lines().filter(|line| !line.trim().is_empty()).count() < 80);
}

#[test]
fn the_libraries_of_gos_checksum_database_follow_a_live_log() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    for n in 0..150 {
        assert_eq!(gate.client().get(&format!("/public/{n}"), None).status, 200);
    }
    let token = Signer::usual().token("carol", &["auditor"]);
    let follow = |vkey: &str| {
        // Debian's own, with Debian's golang.org/x/mod, which `make` installs.
        let mut go = Command::new("/usr/bin/go");
        go.arg("run").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/verifiers/follow.go"));
        go.args([&format!("http://{}", gate.admin), vkey, &token]);
        go.env("GOPATH", "/usr/share/gocode").env("GO111MODULE", "off").env("GOFLAGS", "");
        go.output().expect("`make test` installs Go")
    };
    let output = follow(&gate.vkey);
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    let records: u64 = told.strip_suffix(" records\n").unwrap().parse().unwrap();
    assert!(records > 256, "a whole tile and a part of one: {records}");

    let other = SigningKey::generate(Origin::parse(ORIGIN).unwrap()).unwrap().verifier().to_string();
    let output = follow(&other);
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("NOT PROVED"),
        "{output:?}"
    );
}

fn code() -> &'static str {
    GUIDE.split_once("```python\n").unwrap().1.split_once("```").unwrap().0
}

fn with(records: &[Vec<u8>], change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<Vec<u8>> {
    let mut all = records.to_vec();
    change(&mut all);
    all
}

/// Another time, as somebody would write it who wants the record to stay one.
fn edit(record: &mut [u8]) {
    let at = record.windows(8).position(|bytes| bytes == b"\"time\":\"").unwrap();
    let digit = &mut record[at + "\"time\":\"20".len()];
    *digit = if *digit == b'9' { b'8' } else { b'9' };
}

/// What a stranger has: the script and the key.
struct Verifier<'a> {
    site: &'a Site,
    vkey: &'a str,
}

impl<'a> Verifier<'a> {
    fn write(site: &'a Site, vkey: &'a str) -> Self {
        std::fs::write(site.path("verify.py"), code()).unwrap();
        Self { site, vkey }
    }

    fn run(&self, how: &str, first: &str) -> Output {
        let second = if how == "proof" { "7.tlog-proof".to_owned() } else { format!("{first}.checkpoints") };
        // Debian's own, which has the library that `make` installs.
        let python = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
        let mut command = Command::new(python);
        command.arg(self.site.path("verify.py")).arg(how);
        command.arg(self.site.path(first)).arg(self.site.path(&second)).arg(self.vkey);
        command.output().unwrap()
    }

    fn proves(&self, how: &str, first: &str, told: &str) {
        let output = self.run(how, first);
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(told), "{output:?}");
    }

    fn refuses(&self, how: &str, first: &str, what: &str) {
        let output = self.run(how, first);
        assert_eq!(output.status.code(), Some(1), "{what}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("NOT PROVED: "), "{what}: {output:?}");
    }
}
