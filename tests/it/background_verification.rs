//! A gate that serves walks its own log, and tells what does not hold.

use std::path::Path;
use std::sync::Arc;

use portcullis::audit::checkpoint::{Origin, SigningKey};
use portcullis::audit::hash::Hash;
use rocksdb::{ColumnFamilyDescriptor, DB, DBCompressionType, Options};
use serde_json::Value;

use crate::support::gate::ORIGIN;
use crate::support::{Act, Gate, Setup, Signer, Site, Upstream, until};

/// As fast as can be, one pass after the other.
const EAGER: &str = "[verify]\nrate = 1000000\npause = \"1s\"";

/// A stopped log of some length.
fn stopped_log(upstream: &Upstream, verify: &str) -> Arc<Site> {
    let gate = Setup::new(upstream).tables(verify).start();
    let mut wire = gate.wire();
    for n in 0..60 {
        wire.send(format!("GET /public/{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(wire.answer().unwrap().status, 200);
    }
    drop(wire);
    gate.stop()
}

/// Opens the stopped log as its owner can who has the disk but not the key.
fn tamper(site: &Site, change: impl FnOnce(&DB)) {
    let names = DB::list_cf(&Options::default(), site.log_dir()).unwrap();
    let mut plain = Options::default();
    plain.set_compression_type(DBCompressionType::None);
    let families = names.iter().map(|name| ColumnFamilyDescriptor::new(name, plain.clone()));
    let db = DB::open_cf_descriptors(&Options::default(), site.log_dir(), families).unwrap();
    change(&db);
    for name in &names {
        db.flush_cf(db.cf_handle(name).unwrap()).unwrap();
    }
}

/// Changes a byte of the stored record: it is one still.
fn edit(site: &Site, index: u64) {
    tamper(site, |db| {
        let records = db.cf_handle("records").unwrap();
        let mut bytes = db.get_cf(records, index.to_be_bytes()).unwrap().unwrap();
        let at = find(&bytes, b"\"config\":\"") + 12;
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        db.put_cf(records, index.to_be_bytes(), bytes).unwrap();
    });
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).unwrap()
}

fn figure(gate: &Gate, name: &str) -> f64 {
    let text = gate.health().get("/metrics", None).text().to_owned();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.map_or(f64::NAN, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn status(gate: &Gate) -> Value {
    let token = Signer::usual().token("carol", &["auditor"]);
    gate.admin().get("/v1/status", Some(&token)).json()["verification"].clone()
}

/// Waits until the gate has found that its log does not hold; what it says of it in `/v1/status`.
fn mismatch(gate: &Gate) -> Value {
    until("the figure", || figure(gate, "portcullis_verify_mismatch") == 1.0);
    let ready = gate.health().get("/readyz", None).json();
    let status = status(gate);
    assert_eq!(status["state"], "mismatch", "{status}");
    assert_eq!(ready["verification"]["first_bad_index"], status["mismatch"]["first_bad_index"], "{ready}");
    until("a word on stderr", || gate.said().contains("the log does not hold"));
    status["mismatch"].clone()
}

/// The one record that says so.
fn recorded(site: &Site) -> Value {
    let records = site.records();
    let mut found = records.iter().filter(|record| record["event"] == "verification_failed");
    let first = found.next().unwrap().clone();
    assert!(found.next().is_none(), "it is recorded once");
    first
}

#[test]
fn passes_follow_each_other_while_the_log_grows_and_show_in_status_and_figures() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).tables(EAGER).start();
    assert_eq!(figure(&gate, "portcullis_verify_mismatch"), 0.0, "there from the start");
    let mut last = 0;
    for passes in [1, 2, 3] {
        until("another pass", || {
            gate.client().get("/public/x", None);
            figure(&gate, "portcullis_verify_passes_total") >= f64::from(passes)
        });
        let status = status(&gate);
        assert!(status["passes"].as_u64() >= Some(u64::from(passes as u32)), "{status}");
        let records = status["last_pass"]["records"].as_u64().unwrap();
        assert!(records > last, "{status}");
        last = records;
        assert!(status["last_pass"]["root"].is_string() && status["last_pass"]["at"].is_string());
        assert_eq!(status["mismatch"], Value::Null);
    }
    assert!(figure(&gate, "portcullis_verify_position") > 0.0);
    assert!(figure(&gate, "portcullis_verify_last_pass_timestamp_seconds") > 0.0);
    let site = gate.stop();
    site.verify();
}

#[test]
fn it_is_off_where_it_was_turned_off() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).tables("[verify]\nenabled = false").start();
    assert_eq!(status(&gate)["state"], "off");
    gate.stop();
}

#[test]
fn an_edited_record_is_named_recorded_and_by_itself_stops_no_call() {
    let upstream = Upstream::start(Act::Answer);
    let site = stopped_log(&upstream, EAGER);
    edit(&site, 17);
    let gate = site.start();
    let found = mismatch(&gate);
    assert_eq!((found["first_bad_index"].as_u64(), found["fault"].is_string()), (Some(17), true), "{found}");
    let record = gate.record_where("the record", |record| record["event"] == "verification_failed");
    assert_eq!((&record["kind"], &record["first_bad_index"]), (&"lifecycle".into(), &17.into()), "{record}");
    assert_eq!(record["fault"], found["fault"]);
    assert_eq!(gate.health().get("/readyz", None).status, 200);
    assert_eq!(gate.client().get("/public/x", None).status, 200);
    recorded(&gate.stop());
}

#[test]
fn on_mismatch_stop_refuses_every_call_until_a_restart_and_goes_on_to_the_last_record() {
    let upstream = Upstream::start(Act::Answer);
    let site = stopped_log(&upstream, &format!("{EAGER}\non_mismatch = \"stop\""));
    edit(&site, 17);
    let gate = site.start();
    // The first pass may be over before the first call: what counts is that it stays so.
    until("calls to be refused", || gate.client().get("/public/x", None).status == 503);
    assert_eq!(figure(&gate, "portcullis_log_stopped"), 1.0);
    assert_eq!(figure(&gate, "portcullis_log_failed"), 0.0, "no write has failed");
    let ready = gate.health().get("/readyz", None);
    assert_eq!((ready.status, ready.json()["log"]["stopped"].as_bool()), (503, Some(true)));
    let arrived = upstream.count();
    let refused = gate.client().get("/public/x", None);
    assert_eq!((refused.status, refused.header("portcullis-record")), (503, None));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(upstream.count(), arrived);
    until("the record", || gate.records().iter().any(|record| record["event"] == "verification_failed"));
    let site = gate.stop();
    recorded(&site);
    assert_eq!(site.records().last().unwrap()["event"], "stopped");
}

#[test]
fn a_missing_record_and_a_bad_kept_checkpoint_are_found() {
    let upstream = Upstream::start(Act::Answer);
    let site = stopped_log(&upstream, EAGER);
    tamper(&site, |db| db.delete_cf(db.cf_handle("records").unwrap(), 9u64.to_be_bytes()).unwrap());
    let gate = site.start();
    let found = mismatch(&gate);
    assert_eq!(found["first_bad_index"], 9, "{found}");
    gate.stop();

    let site = stopped_log(&upstream, EAGER);
    let key = SigningKey::generate(Origin::parse(ORIGIN).unwrap()).unwrap();
    tamper(&site, |db| {
        let checkpoints = db.cf_handle("checkpoints").unwrap();
        db.put_cf(checkpoints, 40u64.to_be_bytes(), key.sign(40, &Hash::ZERO)).unwrap();
    });
    let gate = site.start();
    let found = mismatch(&gate);
    assert!(found["fault"].as_str().unwrap().contains("checkpoint"), "{found}");
    gate.stop();
}

#[test]
fn a_flipped_byte_in_a_file_of_the_store_is_found() {
    let upstream = Upstream::start(Act::Answer);
    let site = stopped_log(&upstream, EAGER);
    // Everything goes from the write-ahead log into tables, as it does with time.
    tamper(&site, |_| ());
    let stored = crate::support::log::stored(&site.log_dir());
    flip(&site.log_dir(), &stored[20]);
    let gate = site.start();
    let found = mismatch(&gate);
    let index = found["first_bad_index"].as_u64().unwrap();
    assert!(index <= 20, "the first record of its block: {found}");
    assert!(found["fault"].as_str().unwrap().contains("cannot be read"), "{found}");
    assert_eq!(gate.client().get("/public/x", None).status, 200);
    gate.stop();
}

/// Flips a bit in the midst of these bytes, in whichever table they are.
fn flip(dir: &Path, record: &[u8]) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sst") {
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(record.len()).position(|window| window == record) {
            bytes[at + record.len() / 2] ^= 0x10;
            return std::fs::write(&path, bytes).unwrap();
        }
    }
    panic!("the record is in no table");
}
