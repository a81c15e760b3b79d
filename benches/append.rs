//! How many records a second the journal makes durable, and how long each waits: with 1, 16, 64 and 256 callers waiting at
//! once, synced and unsynced. Beside it, in the same run, what RocksDB alone does with batches of that many records.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and ends when something is wrong"
)]

mod common;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use portcullis::access::attempt::{ReadRules, TrustedProxies};
use portcullis::access::path::Tolerance;
use portcullis::access::recording::Recording;
use portcullis::access::route::{HostPattern, Preflights, Route, Routes};
use portcullis::access::{Attempt, Connection, Decision, Identity, Reason};
use portcullis::audit::checkpoint::{Origin, SigningKey};
use portcullis::audit::hash::Hash;
use portcullis::audit::journal::{Journal, JournalOptions};
use portcullis::audit::record::Epochs;
use portcullis::audit::rocks::{RocksOptions, RocksStore};
use portcullis::audit::storage::{Durability, LogIdentity, Store};
use portcullis::clock::Clock;
use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use tokio::task::LocalSet;

fn main() {
    let figures = PrometheusBuilder::new().install_recorder().unwrap();
    println!("append: records a second, and how long a caller waits for one (ms)\n");
    println!(
        "| sync | waiting | journal/s | records a commit | p50 | p99 | RocksDB alone/s | journal to RocksDB |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for durability in [Durability::Fsync, Durability::Os] {
        for waiting in [1, 16, 64, 256] {
            let journal = journal(durability, waiting, &figures);
            let alone = rocksdb_alone(durability, waiting, journal.record_bytes);
            println!(
                "| {durability:?} | {waiting} | {:.0} | {:.1} | {} | {} | {alone:.0} | {:.2} |",
                journal.rate,
                journal.records_a_commit,
                common::ms(common::percentile(&journal.waits, 0.5)),
                common::ms(common::percentile(&journal.waits, 0.99)),
                journal.rate / alone,
            );
        }
    }
}

struct Measured {
    rate: f64,
    records_a_commit: f64,
    record_bytes: usize,
    waits: Vec<Duration>,
}

/// `waiting` callers, each recording one denial after another, on one thread; the journal's own is beside it.
fn journal(durability: Durability, waiting: usize, figures: &PrometheusHandle) -> Measured {
    let dir = common::on_disk();
    let clock = Clock::system();
    let key = SigningKey::generate(Origin::parse("bench.example.com/log").unwrap()).unwrap();
    let identity = LogIdentity { origin: key.origin().as_str().into(), vkey: key.verifier().to_string() };
    let options = RocksOptions { durability, ..RocksOptions::default() };
    let store: Arc<dyn Store> = Arc::new(RocksStore::create(dir.path(), &identity, options).unwrap());
    let epochs = Epochs { policy: Hash::of(b"policy"), config: Hash::of(b"config") };
    let journal_options = JournalOptions { queue: 4096, timeout: Duration::from_secs(5), denial_bytes: None };
    let (journal, writer) = Journal::open(Arc::clone(&store), key, clock, journal_options, epochs).unwrap();

    let calls = Rc::new(Calls::new());
    let (commits, began) = (commits(figures), Instant::now());
    let until = began + common::measured_for();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut waits: Vec<Duration> = LocalSet::new().block_on(&runtime, async {
        let callers: Vec<_> = (0..waiting)
            .map(|_| {
                let (journal, calls) = (journal.clone(), Rc::clone(&calls));
                tokio::task::spawn_local(async move {
                    let mut waits = Vec::new();
                    while Instant::now() < until {
                        let began = Instant::now();
                        let denial = Decision::deny(Reason::NoMatch, None);
                        journal.record(calls.attempt(), Identity::Anonymous, denial, epochs).await.unwrap();
                        waits.push(began.elapsed());
                    }
                    waits
                })
            })
            .collect();
        let mut all = Vec::new();
        for caller in callers {
            all.append(&mut caller.await.unwrap());
        }
        all
    });
    let took = began.elapsed();
    journal.close();
    writer.join().unwrap();
    let commits = self::commits(figures) - commits;
    waits.sort_unstable();
    Measured {
        rate: waits.len() as f64 / took.as_secs_f64(),
        records_a_commit: waits.len() as f64 / commits,
        record_bytes: store.record(0).unwrap().unwrap().len(),
        waits,
    }
}

/// How many batches this process's journals have written.
fn commits(figures: &PrometheusHandle) -> f64 {
    let shown = figures.render();
    let line = shown.lines().find_map(|line| line.strip_prefix("portcullis_log_commits_total "));
    line.map_or(0.0, |count| count.parse().unwrap())
}

/// RocksDB with batches of `records` values of `bytes` bytes, one batch after another.
fn rocksdb_alone(durability: Durability, records: usize, bytes: usize) -> f64 {
    let dir = common::on_disk();
    let mut options = Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, dir.path()).unwrap();
    let mut write = WriteOptions::default();
    write.set_sync(durability == Durability::Fsync);
    let value = vec![b'x'; bytes];
    let (began, mut next) = (Instant::now(), 0_u64);
    while began.elapsed() < common::measured_for() {
        let mut batch = WriteBatch::default();
        for _ in 0..records {
            batch.put(next.to_be_bytes(), &value);
            next += 1;
        }
        db.write_opt(batch, &write).unwrap();
    }
    next as f64 / began.elapsed().as_secs_f64()
}

/// Calls like those that a gate gets.
struct Calls {
    head: http::request::Parts,
    routes: Routes,
    trusted: TrustedProxies,
    connection: Connection,
}

impl Calls {
    fn new() -> Self {
        let request = http::Request::get("/docs/intro?page=3")
            .header("host", "app.example.com")
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0");
        let routes = Routes::new([Route {
            service: "app".into(),
            hosts: vec![HostPattern::Any],
            prefix: "/".into(),
            rewrite: None,
            tolerance: Tolerance::default(),
            preflights: Preflights::Off,
            certificates: Default::default(),
            // What is measured is records.
            recording: Recording { collapse: false, ..Recording::default() },
        }]);
        Self {
            head: request.body(()).unwrap().into_parts().0,
            routes,
            trusted: TrustedProxies::new(Vec::new()),
            connection: Connection::without_certificate("192.0.2.1:50000".parse().unwrap(), Some("TLSv1.3")),
        }
    }

    fn attempt(&self) -> Attempt {
        let rules = ReadRules { routes: &self.routes, trusted: &self.trusted, target_bytes: 8192 };
        Attempt::read(&self.head, &self.connection, &rules, 7)
    }
}
