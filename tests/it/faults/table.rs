//! The table of what fails while the gate runs, and its two runners.

use std::sync::Arc;

use serde_json::Value;

use super::UNBOUNDED;
use super::ledger::{self, Closed, Told, judge};
use crate::support::client::{Answer, Client, empty};
use crate::support::faulty::Fault;
use crate::support::shim::{Do, EIO, ENOSPC, Strike, file, op};
use crate::support::{Act, Setup, Shim, Site, Upstream, log, until};

/// One fault, and all that must follow from it.
struct Row {
    name: &'static str,
    /// How it is made beneath the real binary.
    real: Option<Real>,
    /// How it is made in the faulty store.
    store: Option<Fault>,
    /// What the caller of the struck call sees.
    client: Sees,
    /// Whether the struck call, had it been an allow, has reached the upstream.
    upstream: Reached,
    /// The gate, from then on.
    gate: Then,
    /// The struck call's record, after a restart.
    held: Held,
}

/// A fault beneath the real binary.
#[derive(Clone, Copy)]
struct Real {
    strike: Strike,
    /// Whether the power goes as well, once the gate has ended.
    power: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    /// Its answer, as ever.
    Served,
    /// 503, without a record's number.
    Unrecorded,
    /// The connection's end.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Serves on.
    GoesOn,
    /// Answers 503 to everything until it is restarted, whether or not the disk is well again.
    Stands,
    /// Is dead.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    There,
    Gone,
    /// There or gone: an orderly end cuts off what the store believes it has not written, a crash does not.
    Either,
}

use Held::{Either, Gone, There};
use Reached::{No, Yes};
use Sees::{Broken, Served, Unrecorded};
use Then::{Dead, GoesOn, Stands};

/// At the commit's write to the write-ahead log.
const fn write(act: Do) -> Real {
    Real { strike: on(op::WRITE, 1, act, EIO), power: false }
}

/// At the commit's sync.
const fn sync(act: Do) -> Real {
    Real { strike: on(op::SYNC, 1, act, EIO), power: false }
}

/// The same, and whatever was not synced is gone.
const fn and_power(real: Real) -> Real {
    Real { power: true, ..real }
}

const fn on(ops: u64, nth: u64, act: Do, errno: u64) -> Strike {
    Strike { ops, files: file::WAL, nth, act, errno, sticky: false }
}

const FULL: Strike =
    Strike { files: file::ANY, sticky: true, ..on(op::WRITE | op::CREATE, 1, Do::Fail, ENOSPC) };

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Errors.
    row("a write that is short and then goes on", Some(write(Do::Half)), Some(Fault::None), (Served, Yes, GoesOn, There)),
    row("EIO on write", Some(write(Do::Fail)), Some(Fault::Fail), (Unrecorded, No, Stands, Gone)),
    row("a write that is short and then EIO", Some(write(Do::HalfThenFail)), Some(Fault::Fail), (Unrecorded, No, Stands, Gone)),
    row("EIO on a write that was whole", Some(write(Do::WholeThenFail)), None, (Unrecorded, No, Stands, Either)),
    row("EIO on fsync, and it did not persist", Some(and_power(sync(Do::Fail))), Some(Fault::Fail), (Unrecorded, No, Stands, Gone)),
    row("EIO on fsync, but it persisted", Some(sync(Do::WholeThenFail)), Some(Fault::FailPersisted), (Unrecorded, No, Stands, There)),
    row("EIO on fsync, it persisted, then the power goes", Some(and_power(sync(Do::WholeThenFail))), None, (Unrecorded, No, Stands, There)),
    row("ENOSPC on everything", Some(Real { strike: FULL, power: false }), Some(Fault::Fail), (Unrecorded, No, Stands, Gone)),
    row("the writer's thread panics before it wrote", None, Some(Fault::Panic), (Unrecorded, No, Stands, Gone)),
    row("the writer's thread panics after it wrote", None, Some(Fault::PanicPersisted), (Unrecorded, No, Stands, There)),
    // Killed at every step of a commit; then the same with the power gone.
    row("killed before the write", Some(write(Do::KillBefore)), None, (Broken, No, Dead, Gone)),
    row("killed amid the write: a torn tail", Some(write(Do::KillHalfway)), None, (Broken, No, Dead, Gone)),
    row("killed between write and sync", Some(write(Do::KillAfter)), None, (Broken, No, Dead, There)),
    row("killed as the sync begins", Some(sync(Do::KillBefore)), None, (Broken, No, Dead, There)),
    row("killed after the sync, before anybody is told", Some(sync(Do::KillAfter)), None, (Broken, No, Dead, There)),
    row("power cut before the write", Some(and_power(write(Do::KillBefore))), None, (Broken, No, Dead, Gone)),
    row("power cut amid the write", Some(and_power(write(Do::KillHalfway))), None, (Broken, No, Dead, Gone)),
    row("power cut between write and sync", Some(and_power(write(Do::KillAfter))), None, (Broken, No, Dead, Gone)),
    row("power cut after the sync, before anybody is told", Some(and_power(sync(Do::KillAfter))), None, (Broken, No, Dead, There)),
];

const fn row(
    name: &'static str,
    real: Option<Real>,
    store: Option<Fault>,
    (client, upstream, gate, held): (Sees, Reached, Then, Held),
) -> Row {
    Row { name, real, store, client, upstream, gate, held }
}

#[test]
fn every_row_of_the_table_holds_for_the_real_binary() {
    for row in TABLE {
        let Some(real) = row.real else { continue };
        for struck in ["/public/struck", "/admin/struck"] {
            println!("{}: {struck}", row.name);
            run_real(row, real, struck);
        }
    }
}

#[test]
fn every_row_of_the_table_holds_over_the_faulty_store() {
    for row in TABLE {
        let Some(fault) = row.store else { continue };
        for struck in ["/public/struck", "/admin/struck"] {
            println!("{}: {struck}", row.name);
            run_here(row, fault, struck);
        }
    }
}

/// An outcome that cannot be written: its call went through, on record, and is closed at the next start.
#[test]
fn a_call_whose_outcome_cannot_be_written_is_closed_as_unknown() {
    let upstream = Upstream::start(Act::Hold);
    let site = Setup::new(&upstream).site();
    let shim = Shim::under(&site);
    let gate = site.start();
    let client = gate.client();
    let calling = std::thread::spawn(move || tell("/public/open", &client.get("/public/open", None)));
    until("it to be forwarded", || upstream.count() == 1);
    shim.strike(sync(Do::Fail).strike);
    upstream.release();
    let mut told = vec![calling.join().unwrap()];
    shim.wait_struck();
    shim.clear();
    until("the log to have failed", || gate.health().get("/readyz", None).status == 503);
    let refused = tell("/public/after", &gate.client().get("/public/after", None));
    assert_eq!((told[0].status, refused.status, refused.record), (200, 503, None));
    told.push(refused);
    gate.kill();
    shim.cut_power();
    let site = site.start().stop();
    judge(&site, &told, &upstream, Closed::All).assert_none("an outcome that cannot be written");
    let outcome = site.outcome_of(told[0].record.unwrap());
    assert_eq!(outcome["result"], "unknown");
}

#[test]
fn a_clock_that_jumps_is_on_record_and_no_time_runs_back() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let shim = Shim::under(&site);
    let gate = site.start();
    let mut told = calls("straight", &[gate.client(), gate.client2()]);
    for (name, seconds) in [("ahead", 3600), ("behind", -3600), ("right", 0)] {
        shim.clock(seconds);
        told.extend(calls(name, &[gate.client(), gate.client2()]));
    }
    // Ahead once more, and a crash: the next start finds a log from the future.
    shim.clock(7200);
    told.extend(calls("future", &[gate.client()]));
    let site = gate.kill();
    shim.clock(0);
    let gate = site.start();
    told.extend(calls("present", &[gate.client()]));
    let site = gate.stop();
    assert!(told.iter().all(|told| told.record.is_some()), "{told:?}");
    judge(&site, &told, &upstream, Closed::All).assert_none("a clock that jumps");

    let records = site.records();
    let times: Vec<_> = records.iter().map(|record| record["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let jumps = records.iter().filter(|record| record["event"] == "clock_jumped");
    let hours: Vec<_> =
        jumps.map(|jump| (jump["by_us"].as_f64().unwrap() / 3_600_000_000.0).round()).collect();
    assert_eq!(hours, [1.0, -2.0, 1.0, 2.0, -2.0]);
}

fn run_real(row: &Row, real: Real, struck: &str) {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).tables(UNBOUNDED).site();
    let shim = Shim::under(&site);
    let gate = site.start();
    let mut told = calls("before", &[gate.client(), gate.client2()]);
    settle(&site);

    shim.strike(real.strike);
    told.extend(row.strike(gate.client(), struck));
    shim.wait_struck();
    shim.clear();
    if row.gate != Dead {
        told.extend(row.meanwhile(&[gate.client(), gate.client2()], gate.health()));
    }
    let (site, status) = match row.gate {
        // A gate whose log failed has no last words, and says so by its status.
        Stands | GoesOn => {
            gate.signal("TERM");
            gate.wait_end()
        }
        Dead => gate.wait_end(),
    };
    assert_eq!(status.success(), row.gate == GoesOn, "{}: {status}", row.name);
    if real.power {
        shim.cut_power();
    }
    row.after(&site, told, &upstream, struck);
}

fn run_here(row: &Row, fault: Fault, struck: &str) {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).tables(UNBOUNDED).site();
    let gate = site.start_here();
    let mut told = calls("before", &[gate.client(), gate.client2()]);
    settle(&site);
    let commits = gate.store.commits();
    gate.store.set(fault);
    told.extend(row.strike(gate.client(), struck));
    gate.store.set(Fault::None);
    told.extend(row.meanwhile(&[gate.client(), gate.client2()], gate.health()));
    if row.gate == Stands {
        assert_eq!(gate.store.commits(), commits + 1, "{}: the store was asked again", row.name);
    }
    let site = gate.stop();
    row.after(&site, told, &upstream, struck);
}

impl Row {
    /// The call that the fault strikes.
    fn strike(&self, client: Client, path: &str) -> Option<Told> {
        let answer = client.try_send(client.request("GET", path, None, &[], empty()));
        let told = match (self.client, answer) {
            (Broken, Err(_)) => return None,
            (Served | Unrecorded, Ok(answer)) => tell(path, &answer),
            (_, other) => panic!("{}: {path}: {other:?}", self.name),
        };
        match self.client {
            Served => assert!(told.record.is_some(), "{}: {told:?}", self.name),
            Unrecorded => assert_eq!((told.status, told.record), (503, None), "{}", self.name),
            Broken => {}
        }
        Some(told)
    }

    /// Calls once the disk is well again.
    fn meanwhile(&self, clients: &[Client], health: Client) -> Vec<Told> {
        let told = calls("meanwhile", clients);
        if self.gate == Stands {
            for told in &told {
                assert_eq!((told.status, told.record), (503, None), "{}: {told:?}", self.name);
            }
            assert_eq!(health.get("/readyz", None).status, 503, "{}", self.name);
            assert_eq!(health.get("/livez", None).status, 200, "{}", self.name);
            assert_eq!(figure(health, "portcullis_log_failed "), Some(1.0), "{}", self.name);
        } else {
            assert_eq!(health.get("/readyz", None).status, 200, "{}", self.name);
        }
        told
    }

    /// As it lies there, and after a restart.
    fn after(&self, site: &Arc<Site>, mut told: Vec<Told>, upstream: &Upstream, struck: &str) {
        judge(site, &told, upstream, Closed::NotYet).assert_none(self.name);
        let gate = site.start();
        told.extend(calls("after", &[gate.client(), gate.client2()]));
        assert!(told.iter().rev().take(4).all(|told| told.record.is_some()), "{}", self.name);
        let site = gate.stop();
        judge(&site, &told, upstream, Closed::All).assert_none(self.name);

        let records = site.records();
        let held = ledger::decision(&records, struck);
        if self.held != Either {
            assert_eq!(held.is_some(), self.held == There, "{}: {held:?}", self.name);
        }
        let arrived = upstream.seen().iter().any(|seen| seen.target == struck);
        let allowed = struck.starts_with("/public/");
        assert_eq!(arrived, allowed && self.upstream == Yes, "{}: reached the upstream", self.name);
        if let Some(held) = held.filter(|held| held["decision"] == "allow") {
            let outcome = log::outcomes(&records)[&held["index"].as_u64().unwrap()].clone();
            let expected = if arrived { "completed" } else { "unknown" };
            assert_eq!(outcome["result"], expected, "{}: {outcome}", self.name);
        }
    }
}

/// An allowed and a denied call by each client, under a name of their own.
pub fn calls(name: &str, clients: &[Client]) -> Vec<Told> {
    let call = |at: usize, client: &Client, face: &str| {
        let path = format!("/{face}/{name}-{at}");
        tell(&path, &client.get(&path, None))
    };
    clients
        .iter()
        .enumerate()
        .flat_map(|(at, client)| [call(at, client, "public"), call(at, client, "admin")])
        .collect()
}

pub fn tell(path: &str, answer: &Answer) -> Told {
    let record = answer.header("portcullis-record").map(|_| answer.record());
    Told { path: path.to_owned(), status: answer.status, record }
}

/// Waits until no outcome is still to be written, so that the next commit is the next call's.
pub fn settle(site: &Site) {
    until("the outcomes", || {
        let records = site.records();
        let count = |is: &dyn Fn(&Value) -> bool| records.iter().filter(|record| is(record)).count();
        count(&|record| record["decision"] == "allow") == count(&|record| record["kind"] == "outcome")
    });
}

fn figure(health: Client, name: &str) -> Option<f64> {
    let metrics = health.get("/metrics", None);
    metrics.text().lines().find_map(|line| line.strip_prefix(name)?.parse().ok())
}
