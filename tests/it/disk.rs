//! A full disk: the gate stops while it can still write, says so beforehand, and comes back by itself. If a write failed
//! all the same, by a restart. The real binary on a real file system; what needs none is in `audit::space`.

use std::sync::Arc;

use serde_json::Value;

use portcullis::audit::rocks::{RocksOptions, RocksStore};
use portcullis::audit::storage::{Batch, LogIdentity, Store as _, StoreError};

use crate::support::gate::Gate;
use crate::support::mounted::Mounted;
use crate::support::{Act, Answer, Setup, Site, Upstream, log, until};

const MIB: u64 = 1 << 20;

/// A gate whose log is on a disk of its own, 128 MiB, with a service that answers and, at `/slow`, one that holds.
struct Scene {
    site: Arc<Site>,
    // Goes before the directory it is mounted in.
    disk: Mounted,
    upstream: Upstream,
    slow: Upstream,
}

impl Scene {
    fn new(levels: &str) -> Option<Self> {
        let (upstream, slow) = (Upstream::start(Act::Answer), Upstream::start(Act::Hold));
        let site = Setup::new(&upstream)
            .log(&format!("disk = {{ {levels} }}\nmemory = {{ write_buffer = \"4MiB\" }}"))
            .services(&format!(
                "[[service]]\nname = \"slow\"\nhosts = [\"*\"]\npath_prefix = \"/slow\"\nupstreams = [\"http://{}\"]\n",
                slow.address
            ))
            .policy("p, anonymous, app, /public/*, .*, allow\np, anonymous, slow, /slow/*, .*, allow\n")
            .site_without_log();
        let disk = Mounted::at(&site.log_dir(), 128)?;
        portcullis::app::create_log(&site.settings()).unwrap_or_else(|error| panic!("{error}"));
        Some(Self { site, disk, upstream, slow })
    }

    /// The usual levels: low at 48 MiB, 16 MiB in reserve.
    fn usual() -> Option<Self> {
        Self::new("low = \"48MiB\", reserve = \"16MiB\"")
    }
}

fn room(gate: &Gate) -> (u16, Value) {
    let answer = gate.health().get("/readyz", None);
    (answer.status, answer.json()["disk"]["room"].clone())
}

fn until_room(gate: &Gate, status: u16, word: &str) {
    until(word, || room(gate) == (status, word.into()));
}

fn figure(gate: &Gate, name: &str) -> f64 {
    let text = gate.health().get("/metrics", None);
    let line = text.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

/// Refused for want of a record: nothing of it is anywhere.
fn assert_refused(answer: &Answer, retry_after: &str) {
    assert_eq!((answer.status, answer.header("portcullis-record")), (503, None));
    assert_eq!(answer.header("retry-after"), Some(retry_after));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

/// Events of the disk, in order.
fn events(records: &[Value]) -> Vec<&str> {
    let words = records.iter().filter_map(|record| record["event"].as_str());
    words.filter(|word| word.starts_with("disk_")).collect()
}

#[test]
fn a_disk_that_fills_turns_ready_off_then_refuses_calls_and_the_gate_comes_back_by_itself() {
    let Some(scene) = Scene::usual() else { return };
    let gate = scene.site.start();
    let client = gate.client();
    assert_eq!(room(&gate), (200, "ample".into()));
    assert_eq!((figure(&gate, "portcullis_disk_low"), figure(&gate, "portcullis_disk_full")), (0.0, 0.0));
    assert_eq!(client.get("/public/ample", None).status, 200);

    // Low: not ready, and serving.
    scene.disk.leave(32 * MIB);
    until_room(&gate, 503, "low");
    assert_eq!(figure(&gate, "portcullis_disk_low"), 1.0);
    assert_eq!(client.get("/public/low", None).status, 200);
    let held = std::thread::spawn(move || client.get("/slow/held", None));
    until("the call to be under way", || scene.slow.count() == 1);

    // Full, from one moment to the next.
    scene.disk.leave(MIB);
    until_room(&gate, 503, "full");
    assert_eq!(figure(&gate, "portcullis_disk_full"), 1.0);
    let seen = scene.upstream.count();
    for client in [client, gate.client2()] {
        assert_refused(&client.get("/public/full", None), "10");
        assert_refused(&client.get("/nothing/here", None), "10");
    }
    assert_refused(&gate.admin().get("/v1/status", None), "10");
    assert_eq!(gate.health().get("/livez", None).status, 200);

    // What is under way ends well, and is recorded.
    scene.slow.release();
    let held = held.join().unwrap();
    assert_eq!(held.status, 200);
    assert_eq!(gate.outcome_of(held.record())["result"], "completed");
    assert_eq!(room(&gate), (503, "full".into()));

    // Room again: no restart.
    scene.disk.clear();
    until_room(&gate, 200, "ample");
    assert_eq!(client.get("/public/after", None).status, 200);
    assert_eq!(scene.upstream.count(), seen + 1, "a call that was refused went through");
    let records = gate.stop().records();
    assert_eq!(events(&records), ["disk_low", "disk_full", "disk_ample"]);
    assert!(!records.iter().any(|record| record["request"]["path"] == "/public/full"));
    log::outcomes(&records);
    scene.site.verify();
}

#[test]
fn a_reserve_that_cannot_be_had_again_keeps_calls_out_and_a_little_room_is_not_enough() {
    let Some(scene) = Scene::usual() else { return };
    let gate = scene.site.start();
    scene.disk.leave(15 * MIB);
    until_room(&gate, 503, "full");
    // The reserve lies beside what was left: with 36 MiB the gate would hold it again.
    assert!(scene.disk.free() > 25 * MIB);
    assert_refused(&gate.client().get("/public/a", None), "10");
    scene.disk.clear();
    scene.disk.leave(40 * MIB);
    // 40 MiB less the reserve is low.
    until_room(&gate, 503, "low");
    assert_eq!(gate.client().get("/public/b", None).status, 200);
    gate.stop().verify();
}

#[test]
fn a_gate_that_starts_on_a_full_disk_refuses_calls_until_there_is_room() {
    let Some(scene) = Scene::usual() else { return };
    let gate = scene.site.start();
    let acknowledged = gate.client().get("/public/before", None).record();
    let client = gate.client();
    let _ = std::thread::spawn(move || {
        client.try_send(client.request("GET", "/slow/a", None, &[], crate::support::client::empty()))
    });
    until("the call to be under way", || scene.slow.count() == 1);
    gate.kill();
    scene.disk.fill();

    let gate = scene.site.start();
    assert_eq!(room(&gate), (503, "full".into()));
    assert_refused(&gate.client().get("/public/full", None), "10");
    assert_eq!(gate.record(acknowledged)["request"]["path"], "/public/before");
    // The allow that the crash left open was closed on the full disk.
    let open = gate.record_where("the open allow", |record| record["request"]["path"] == "/slow/a");
    assert_eq!(gate.outcome_of(open["index"].as_u64().unwrap())["result"], "unknown");

    // Once more, now with the reserve given back already.
    let site = gate.kill();
    let gate = site.start();
    assert_eq!(room(&gate), (503, "full".into()));
    scene.disk.clear();
    until_room(&gate, 200, "ample");
    assert_eq!(gate.client().get("/public/after", None).status, 200);
    gate.stop().verify();
}

#[test]
fn a_write_that_finds_no_room_stops_the_log_until_a_restart_and_nothing_acknowledged_is_lost() {
    // Nothing is held back and nobody warns: the disk is full in the middle of a commit.
    let Some(scene) = Scene::new("low = \"0B\", reserve = \"0B\"") else { return };
    let gate = scene.site.start();
    let client = gate.client();
    scene.disk.fill();
    let path = format!("/public/{}", "x".repeat(6_000));
    let mut acknowledged = Vec::new();
    let refused = loop {
        let answer = client.get(&path, None);
        if answer.status != 200 {
            break answer;
        }
        acknowledged.push(answer.record());
        assert!(acknowledged.len() < 20_000, "the disk never filled");
    };
    assert_refused(&refused, "30");
    until("the cause to be said", || gate.said().contains("No space left on device"));
    assert_eq!(scene.upstream.count(), acknowledged.len());
    assert_eq!(
        (figure(&gate, "portcullis_log_failed"), gate.health().get("/readyz", None).status),
        (1.0, 503)
    );

    // Room alone does not bring it back: what the disk holds is not known.
    scene.disk.clear();
    for _ in 0..20 {
        assert_refused(&client.get("/public/again", None), "30");
    }
    assert_eq!(scene.upstream.count(), acknowledged.len());
    let site = gate.kill();
    let gate = site.start();
    let records = gate.records();
    for index in &acknowledged {
        assert_eq!(records[usize::try_from(*index).unwrap()]["request"]["path"], *path);
    }
    assert_eq!(gate.client().get("/public/after", None).status, 200);
    let records = gate.stop().records();
    let outcomes = log::outcomes(&records);
    for record in records.iter().filter(|record| record["decision"] == "allow") {
        let index = record["index"].as_u64().unwrap();
        assert!(outcomes.contains_key(&index), "no outcome of {index}");
    }
    scene.site.verify();
}

#[test]
fn a_log_that_cannot_be_opened_for_want_of_room_says_what_to_do_and_loses_nothing() {
    let Some(scene) = Scene::new("low = \"0B\", reserve = \"0B\"") else { return };
    let gate = scene.site.start();
    for n in 0..20 {
        assert_eq!(gate.client().get(&format!("/public/{n}"), None).status, 200);
    }
    let site = gate.kill();
    scene.disk.fill();
    let (status, said) = site.refuses_to_start();
    assert!(!status.success(), "{said}");
    assert!(said.contains("its disk is full: make room"), "{said}");
    let before = site.verify();
    scene.disk.clear();
    let gate = site.start();
    assert_eq!(gate.client().get("/public/after", None).status, 200);
    assert!(gate.stop().verify() > before);
}

#[test]
fn a_store_that_found_no_room_takes_no_batch_though_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("log");
    let Some(disk) = Mounted::at(&at, 64) else { return };
    let identity = LogIdentity { origin: "gate.example.com/full".into(), vkey: "v".into() };
    let options = RocksOptions { write_buffer: 4 << 20, ..RocksOptions::default() };
    let store = RocksStore::create(&at, &identity, options).unwrap();
    disk.fill();
    let mut batch = Batch::default();
    let commit = |index: u64, batch: &mut Batch| {
        batch.restart(index);
        batch.push(|out| out.extend_from_slice(&vec![b'x'; 50_000]));
        store.commit(batch)
    };
    let written = (0..2_000).take_while(|index| commit(*index, &mut batch).is_ok()).count() as u64;
    assert!(written < 2_000, "the disk never filled");
    disk.clear();
    assert!(matches!(commit(written, &mut batch), Err(StoreError::Failed)));
    drop(store);
    let store = RocksStore::open(&at, options).unwrap();
    let held = store.last_index().unwrap().map_or(0, |last| last + 1);
    // What failed may be there or not; what succeeded is.
    assert!(held == written || held == written + 1, "{written} were written, {held} are there");
    assert!((0..held).all(|index| store.record(index).unwrap().unwrap().len() == 50_000));
}
