//! Proofs: that a record is in the log, and that the log has only grown, made by a live gate and by the command line,
//! checked by what was not written here and by `audit check-proof` alone.

use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::audit::checkpoint::{Checkpoint, VerifierKey};
use portcullis::audit::hash::Hash;
use portcullis::audit::rocks::RocksStore;
use portcullis::audit::storage::Store as _;
use serde_json::Value;

use crate::support::{Act, Answer, Gate, Setup, Signer, Site, Upstream, log};

/// A gate with some records, and who may read them.
struct Reader {
    gate: Gate,
    token: String,
    _upstream: Upstream,
}

impl Reader {
    fn of(calls: usize) -> Self {
        let upstream = Upstream::start(Act::Answer);
        let gate = Setup::new(&upstream).start();
        for n in 0..calls {
            assert_eq!(gate.client().get(&format!("/public/{n}"), None).status, 200);
        }
        Self { gate, token: Signer::usual().token("carol", &["auditor"]), _upstream: upstream }
    }

    fn get(&self, path: &str) -> Answer {
        self.gate.admin().get(path, Some(&self.token))
    }

    fn key(&self) -> VerifierKey {
        VerifierKey::parse(&self.gate.vkey).unwrap()
    }

    fn open(&self, note: &str) -> Checkpoint {
        Checkpoint::open(note.as_bytes(), &self.key()).unwrap()
    }

    fn kept(&self, name: &str) -> Checkpoint {
        let answer = self.get("/checkpoint");
        std::fs::write(self.gate.path(name), &answer.body).unwrap();
        self.open(answer.text())
    }
}

/// A tlog-proof, read as C2SP tlog-proof says: index, hashes, checkpoint.
fn read_proof(text: &str) -> (u64, Vec<tlog_tiles::Hash>, &str) {
    let (head, note) = text.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("c2sp.org/tlog-proof@v1"));
    let index = lines.next().unwrap().strip_prefix("index ").unwrap().parse().unwrap();
    (index, lines.map(|line| tlog_tiles::Hash::parse_hash(line).unwrap()).collect(), note)
}

fn theirs(hash: Hash) -> tlog_tiles::Hash {
    tlog_tiles::Hash(hash.0)
}

/// The sizes of the checkpoints that are kept for good.
fn kept_sizes(site: &Site) -> Vec<u64> {
    let store = RocksStore::open_read_only(&site.log_dir()).unwrap();
    store.kept_checkpoints().unwrap().into_iter().map(|(size, _)| size).collect()
}

#[test]
fn the_proof_of_every_record_holds_by_an_independent_implementation() {
    let reader = Reader::of(30);
    let size = reader.kept("kept").size();
    let mut sizes = Vec::new();
    for index in 0..size {
        let answer = reader.get(&format!("/v1/records/{index}/proof"));
        assert_eq!(answer.status, 200, "{index}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let record = reader.get(&format!("/v1/records/{index}")).body;
        let (stated, proof, note) = read_proof(answer.text());
        let checkpoint = reader.open(note);
        let (size, root) = (checkpoint.size(), theirs(checkpoint.root()));
        assert_eq!(stated, index);
        tlog_tiles::check_record(&proof, size, root, index, tlog_tiles::record_hash(&record)).unwrap();
        sizes.push(size);
    }
    assert!(sizes.is_sorted() && sizes[0] < *sizes.last().unwrap(), "each under the latest: {sizes:?}");
    reader.gate.stop().verify();
}

#[test]
fn a_proof_can_be_had_under_a_checkpoint_that_was_kept_and_under_no_other() {
    let reader = Reader::of(5);
    let kept = kept_sizes(&reader.gate);
    assert!(!kept.is_empty());
    for size in &kept {
        let answer = reader.get(&format!("/v1/records/0/proof?size={size}"));
        assert_eq!(answer.status, 200, "{size}: {}", answer.text());
        let (_, proof, note) = read_proof(answer.text());
        let checkpoint = reader.open(note);
        assert_eq!(checkpoint.size(), *size);
        let record = tlog_tiles::record_hash(&log::stored(&reader.gate.log_dir())[0]);
        tlog_tiles::check_record(&proof, *size, theirs(checkpoint.root()), 0, record).unwrap();
        let beyond = reader.get(&format!("/v1/records/{size}/proof?size={size}"));
        assert_eq!(beyond.status, 404, "{}", beyond.text());
    }
    let between = (3..).find(|size| !kept.contains(size)).unwrap();
    assert_eq!(reader.get(&format!("/v1/records/0/proof?size={between}")).status, 404);
    reader.gate.stop().verify();
}

#[test]
fn growth_between_any_two_sizes_is_proved_and_holds_by_an_independent_implementation() {
    let reader = Reader::of(30);
    let size = reader.kept("kept").size();
    let leaves: Vec<Hash> =
        log::stored(&reader.gate.log_dir()).iter().map(|record| Hash::leaf(record)).collect();
    for (from, to) in
        [(1, 2), (1, size), (2, 7), (31, 32), (32, 33), (33, size), (size - 1, size), (size, size)]
    {
        let answer = reader.get(&format!("/v1/consistency?from={from}&to={to}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!((&answer["from"], &answer["to"]), (&from.into(), &to.into()));
        let proof: Vec<tlog_tiles::Hash> = answer["proof"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hash| tlog_tiles::Hash::parse_hash(hash.as_str().unwrap()).unwrap())
            .collect();
        let root = |size: u64| theirs(log::mth(&leaves[..size as usize]));
        tlog_tiles::check_tree(&proof, to, root(to), from, root(from)).unwrap();
    }
    // Up to the latest, if nothing else is said; its checkpoint comes along.
    let latest = reader.get(&format!("/v1/consistency?from={size}")).json();
    let checkpoint = reader.open(latest["checkpoint"].as_str().unwrap());
    assert!(checkpoint.size() >= size && latest["to"] == checkpoint.size());
    assert_eq!(reader.get("/v1/consistency?from=0").json()["proof"], serde_json::json!([]));
    reader.gate.stop().verify();
}

#[test]
fn a_question_for_a_proof_that_cannot_be_is_a_problem_and_a_record() {
    let reader = Reader::of(3);
    for (path, status) in [
        ("/v1/records/x/proof", 400),
        ("/v1/records/-1/proof", 400),
        ("/v1/records/+1/proof", 400),
        ("/v1/records/18446744073709551616/proof", 400),
        ("/v1/records/100000/proof", 404),
        ("/v1/records/18446744073709551615/proof", 404),
        ("/v1/records/0/proof?size=x", 400),
        ("/v1/records/0/proof?size=", 400),
        ("/v1/records/0/proof?size=0", 404),
        ("/v1/records/0/proof?size=1&size=1", 400),
        ("/v1/records/0/proof?sise=1", 400),
        ("/v1/records/0/proof/", 404),
        ("/v1/consistency", 400),
        ("/v1/consistency?to=1", 400),
        ("/v1/consistency?from=x", 400),
        ("/v1/consistency?from=-1", 400),
        ("/v1/consistency?from=2&to=1", 400),
        ("/v1/consistency?from=1&to=100000", 400),
        ("/v1/consistency?from=100000", 400),
        ("/v1/consistency?from=1&from=1", 400),
        ("/v1/consistency?from=18446744073709551616", 400),
        ("/v1/consistency?from=1&up_to=2", 400),
    ] {
        let answer = reader.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        assert_eq!(reader.gate.record(answer.record())["decision"], "allow", "{path}");
    }
    let viewer = Signer::usual().token("alice", &["viewer"]);
    for path in ["/v1/records/0/proof", "/v1/consistency?from=1"] {
        assert_eq!(reader.gate.admin().get(path, Some(&viewer)).status, 403);
    }
    reader.gate.stop().verify();
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs a command and holds it to its exit code.
fn run(site: &Site, code: i32, arguments: &[&str]) -> String {
    let output = site.command(arguments);
    let told = stdout(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{told}\n{stderr}");
    if code == 2 { stderr.into_owned() } else { told }
}

/// Changes a file, keeping what it was under another name.
fn changed(site: &Site, name: &str, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(site.path(name)).unwrap();
    let before = bytes.clone();
    change(&mut bytes);
    assert_ne!(bytes, before, "{name}");
    std::fs::write(site.path("changed"), bytes).unwrap();
}

#[test]
fn a_record_is_proved_from_the_log_and_the_proof_is_checked_with_the_key_alone() {
    let reader = Reader::of(20);
    let site = &*reader.gate;
    let vkey = site.vkey.clone();
    // While the gate runs.
    let proof = run(site, 0, &["audit", "prove", "7", "--log", "log"]);
    std::fs::write(site.path("7.tlog-proof"), &proof).unwrap();
    std::fs::write(site.path("7.record"), run(site, 0, &["audit", "show", "7", "--raw", "--log", "log"]))
        .unwrap();
    let (index, hashes, note) = read_proof(&proof);
    let checkpoint = reader.open(note);
    let record = tlog_tiles::record_hash(&log::stored(&reader.gate.log_dir())[7]);
    tlog_tiles::check_record(&hashes, checkpoint.size(), theirs(checkpoint.root()), index, record).unwrap();

    // Without the log: somewhere else.
    let elsewhere = tempfile::tempdir().unwrap();
    for name in ["7.tlog-proof", "7.record"] {
        std::fs::copy(site.path(name), elsewhere.path().join(name)).unwrap();
    }
    let check = |record: &str, proof: &str, vkey: &str| {
        std::process::Command::new(crate::support::gate::BINARY)
            .args(["audit", "check-proof", record, proof, "--vkey", vkey])
            .current_dir(elsewhere.path())
            .output()
            .unwrap()
    };
    let told = check("7.record", "7.tlog-proof", &vkey);
    assert_eq!(told.status.code(), Some(0));
    for part in
        ["the proof holds: record 7 of gate.example.com/it", &format!("{} records", checkpoint.size()), &vkey]
    {
        assert!(stdout(&told).contains(part), "{part}: {}", stdout(&told));
    }
    let told = run(site, 0, &["audit", "check-proof", "7.record", "7.tlog-proof", "--vkey", &vkey, "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["holds"], &told["index"], &told["size"]),
        (&true.into(), &7.into(), &checkpoint.size().into())
    );
    assert_eq!(told["root"], STANDARD.encode(checkpoint.root().0));

    // What the gate gives is the same, and a line of an export will do.
    let line = [reader.get("/v1/records/7").body, b"\n".to_vec()].concat();
    std::fs::write(site.path("7.line"), line).unwrap();
    std::fs::write(site.path("gate.tlog-proof"), reader.get("/v1/records/7/proof").body).unwrap();
    run(site, 0, &["audit", "check-proof", "7.line", "gate.tlog-proof", "--vkey", &vkey]);
    reader.gate.stop().verify();
}

#[test]
fn a_changed_record_proof_or_checkpoint_is_refused_and_named() {
    let reader = Reader::of(20);
    let site = &*reader.gate;
    let vkey = site.vkey.clone();
    for index in ["7", "8"] {
        let proof = run(site, 0, &["audit", "prove", index, "--config", "gate.toml"]);
        std::fs::write(site.path(&format!("{index}.tlog-proof")), proof).unwrap();
        let record = run(site, 0, &["audit", "show", index, "--raw", "--log", "log"]);
        std::fs::write(site.path(&format!("{index}.record")), record).unwrap();
    }
    let refused = |record: &str, proof: &str, why: &str| {
        let told = run(site, 1, &["audit", "check-proof", record, proof, "--vkey", &vkey]);
        assert!(told.contains("the proof does not hold") && told.contains(why), "{why}: {told}");
        let told = run(site, 1, &["audit", "check-proof", record, proof, "--vkey", &vkey, "--json"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert!(told["holds"] == false && told["fault"].as_str().unwrap().contains(why), "{told}");
    };
    refused("8.record", "7.tlog-proof", "lead to the root");
    let line = |text: &[u8], at: usize| -> usize {
        text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(at).unwrap().0 + 1
    };
    changed(site, "7.record", |bytes| bytes[20] ^= 1);
    refused("changed", "7.tlog-proof", "lead to the root");
    changed(site, "7.tlog-proof", |bytes| {
        let at = line(bytes, 1);
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    });
    refused("7.record", "changed", "lead to the root");
    changed(site, "7.tlog-proof", |bytes| {
        let (first, second) = (line(bytes, 1), line(bytes, 2));
        bytes.drain(first..second);
    });
    refused("7.record", "changed", "ends too soon");
    changed(site, "7.tlog-proof", |bytes| {
        let again = bytes[line(bytes, 1)..line(bytes, 2)].to_vec();
        let at = line(bytes, 1);
        bytes.splice(at..at, again);
    });
    refused("7.record", "changed", "goes on beyond the root");
    changed(site, "7.tlog-proof", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap().replacen("index 7", "index 6", 1);
        *bytes = text.into_bytes();
    });
    refused("7.record", "changed", "lead to the root");
    changed(site, "7.tlog-proof", |bytes| {
        // The checkpoint's size.
        let at = bytes.windows(3).position(|window| window == b"it\n").unwrap() + 3;
        bytes[at] ^= 1;
    });
    refused("7.record", "changed", "signature");
    changed(site, "7.tlog-proof", |bytes| bytes[0] = b'C');
    refused("7.record", "changed", "first line");
    let other = "gate.example.com/it+b4946c39+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";
    assert!(
        run(site, 2, &["audit", "check-proof", "7.record", "7.tlog-proof", "--vkey", other])
            .contains("key ID")
    );
    let stranger = Setup::new(&Upstream::start(Act::Answer)).site().vkey.clone();
    let told = run(site, 1, &["audit", "check-proof", "7.record", "7.tlog-proof", "--vkey", &stranger]);
    assert!(told.contains("not signed by"), "{told}");
    assert!(
        run(site, 2, &["audit", "check-proof", "none", "7.tlog-proof", "--vkey", &vkey]).contains("none")
    );
    assert!(run(site, 2, &["audit", "prove", "100000", "--log", "log"]).contains("no record 100000"));
    let kept = kept_sizes(site);
    let size = (3..).find(|size| !kept.contains(size)).unwrap().to_string();
    let told = run(site, 2, &["audit", "prove", "0", "--size", &size, "--log", "log"]);
    assert!(told.contains(&format!("no checkpoint of {size}")), "{told}");
    reader.gate.stop().verify();
}

#[test]
fn growth_is_shown_between_two_kept_checkpoints_and_a_fork_a_rollback_and_a_changed_proof_are_not() {
    let reader = Reader::of(10);
    let site = &*reader.gate;
    let vkey = site.vkey.clone();
    let old = reader.kept("old");
    for n in 0..10 {
        reader.gate.client().get(&format!("/public/more/{n}"), None);
    }
    let new = reader.kept("new");
    let sizes = (old.size().to_string(), new.size().to_string());
    let growth =
        run(site, 0, &["audit", "consistency", "--from", &sizes.0, "--to", &sizes.1, "--log", "log"]);
    std::fs::write(site.path("growth"), &growth).unwrap();
    let from_gate = reader.get(&format!("/v1/consistency?from={}&to={}", sizes.0, sizes.1)).json();
    let made: Value = serde_json::from_str(&growth).unwrap();
    assert_eq!(from_gate["proof"], made["proof"]);
    fn check<'a>(old: &'a str, new: &'a str, how: [&'a str; 2], vkey: &'a str) -> Vec<&'a str> {
        [&["audit", "consistency", "--old", old, "--new", new, "--vkey", vkey][..], &how].concat()
    }
    for how in [["--proof", "growth"], ["--log", "log"], ["--config", "gate.toml"]] {
        let told = run(site, 0, &check("old", "new", how, &vkey));
        assert!(
            told.contains("the log has only grown") && told.contains(&sizes.0) && told.contains(&sizes.1),
            "{told}"
        );
    }
    let told = run(site, 0, &[&check("old", "new", ["--log", "log"], &vkey)[..], &["--json"]].concat());
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["holds"], true);

    let refused = |old: &str, new: &str, how: [&str; 2], why: &str| {
        let told = run(site, 1, &check(old, new, how, &vkey));
        assert!(told.contains("not shown") && told.contains(why), "{why}: {told}");
    };
    refused("new", "old", ["--proof", "growth"], "the proof goes from size");
    refused("new", "old", ["--log", "log"], "fewer than");
    changed(site, "growth", |bytes| {
        let at = bytes.windows(10).position(|window| window == b"\"proof\":[\"").unwrap() + 10;
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    });
    refused("old", "new", ["--proof", "changed"], "did not grow");
    changed(site, "growth", |bytes| bytes.truncate(20));
    refused("old", "new", ["--proof", "changed"], "not a proof of consistency");
    changed(site, "old", |bytes| {
        let at = bytes.len() - 10;
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    });
    refused("changed", "new", ["--proof", "growth"], "changed: ");
    // A log of the same name and key that went another way.
    let forked = {
        let pem = std::fs::read_to_string(site.path("log.pem")).unwrap();
        let origin = portcullis::audit::checkpoint::Origin::parse(old.origin()).unwrap();
        let key = portcullis::audit::checkpoint::SigningKey::from_pkcs8_pem(origin, &pem).unwrap();
        key.sign(old.size(), &Hash::of(b"another past"))
    };
    std::fs::write(site.path("forked"), forked).unwrap();
    refused("forked", "new", ["--proof", "growth"], "leads to the root");
    refused("forked", "new", ["--log", "log"], "leads to the root");
    assert!(run(site, 2, &["audit", "consistency", "--from", "100000", "--log", "log"]).contains("100000"));
    assert!(
        run(site, 2, &["audit", "consistency", "--from", "1", "--to", "100000", "--log", "log"])
            .contains("latest")
    );
    assert!(run(site, 2, &["audit", "consistency", "--log", "log"]).contains("--from"));
    reader.gate.stop().verify();
}
