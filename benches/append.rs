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
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portcullis::access::attempt::{ReadRules, TrustedProxies};
use portcullis::access::path::Tolerance;
use portcullis::access::route::{HostPattern, Preflights, Route, Routes};
use portcullis::access::{Attempt, Connection, Decision, Identity, Reason};
use portcullis::audit::checkpoint::{Origin, SigningKey};
use portcullis::audit::hash::Hash;
use portcullis::audit::journal::{Journal, JournalOptions};
use portcullis::audit::merkle::NodeId;
use portcullis::audit::record::Epochs;
use portcullis::audit::rocks::{RocksOptions, RocksStore};
use portcullis::audit::storage::{Batch, Durability, LogIdentity, Store, StoreError, Visit, Walk};
use portcullis::clock::Clock;
use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use tokio::task::LocalSet;

fn main() {
    println!("append: records a second, and how long a caller waits for one (ms)\n");
    println!(
        "| sync | waiting | journal/s | records a commit | p50 | p99 | RocksDB alone/s | journal to RocksDB |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for durability in [Durability::Fsync, Durability::Os] {
        for waiting in [1, 16, 64, 256] {
            let journal = journal(durability, waiting);
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
fn journal(durability: Durability, waiting: usize) -> Measured {
    let dir = common::on_disk();
    let clock = Clock::system();
    let key = SigningKey::generate(Origin::parse("bench.example.com/log").unwrap()).unwrap();
    let identity = LogIdentity { origin: key.origin().as_str().into(), vkey: key.verifier().to_string() };
    let options = RocksOptions { durability, ..RocksOptions::default() };
    let store = RocksStore::create(dir.path(), &identity, options).unwrap();
    let store = Arc::new(Counting { store, commits: AtomicU64::new(0) });
    let epochs = Epochs { policy: Hash::of(b"policy"), config: Hash::of(b"config") };
    let journal_options = JournalOptions { queue: 4096, timeout: Duration::from_secs(5) };
    let (journal, writer) =
        Journal::open(Arc::clone(&store) as Arc<dyn Store>, key, clock, journal_options, epochs).unwrap();

    let calls = Rc::new(Calls::new());
    let began = Instant::now();
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
    let commits = store.commits.load(Ordering::Relaxed);
    waits.sort_unstable();
    Measured {
        rate: waits.len() as f64 / took.as_secs_f64(),
        records_a_commit: waits.len() as f64 / commits as f64,
        record_bytes: store.record(0).unwrap().unwrap().len(),
        waits,
    }
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
        }]);
        Self {
            head: request.body(()).unwrap().into_parts().0,
            routes,
            trusted: TrustedProxies::new(Vec::new()),
            connection: Connection { peer: "192.0.2.1:50000".parse().unwrap(), tls: Some("TLSv1.3") },
        }
    }

    fn attempt(&self) -> Attempt {
        let rules = ReadRules { routes: &self.routes, trusted: &self.trusted, target_bytes: 8192 };
        Attempt::read(&self.head, &self.connection, &rules, 7)
    }
}

/// A store that counts commits.
struct Counting {
    store: RocksStore,
    commits: AtomicU64,
}

impl Store for Counting {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.store.commit(batch)
    }

    fn identity(&self) -> Result<LogIdentity, StoreError> {
        self.store.identity()
    }

    fn last_index(&self) -> Result<Option<u64>, StoreError> {
        self.store.last_index()
    }

    fn record(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.record(index)
    }

    fn scan(&self, walk: Walk, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.store.scan(walk, visit)
    }

    fn latest_checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.store.latest_checkpoint()
    }

    fn kept_checkpoints(&self) -> Result<Vec<(u64, String)>, StoreError> {
        self.store.kept_checkpoints()
    }

    fn open_allows(&self) -> Result<Vec<u64>, StoreError> {
        self.store.open_allows()
    }

    fn node(&self, id: NodeId) -> Result<Option<Hash>, StoreError> {
        self.store.node(id)
    }
}
