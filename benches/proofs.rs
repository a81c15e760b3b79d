//! What proofs and tiles cost over a large log: by default 10 million records. Beside them, in the same run, what the same
//! store takes to hand out one record at a random place, and 256 in a row.
//!
//! Two rounds: with nothing in the page cache as it begins (as root), and once more on what is there by then.
//! `PROOFS_RECORDS` makes the log smaller. It takes about 2 GB beside the target directory for 10 million, and is removed.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and ends when something is wrong"
)]

mod common;
mod filled;

use std::cell::Cell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use filled::{Writer, decision, outcome};
use portcullis::audit::checkpoint::{Origin, SigningKey};
use portcullis::audit::merkle::proof;
use portcullis::audit::merkle::tile::{Content, FULL, Tile};
use portcullis::audit::rocks::{RocksOptions, RocksStore};
use portcullis::audit::storage::{Durability, LogIdentity, Store, Walk, leaf_or_node};
use portcullis::audit::tiles;

fn main() {
    let records = std::env::var("PROOFS_RECORDS").map_or(10_000_000, |text| text.parse::<u64>().unwrap());
    assert!(records >= 1 << 16, "there must be a full tile above level 0");
    let dir = common::on_disk();
    let log = dir.path().join("log");
    let grown = grow(&log, records);
    println!("proofs: {records} records, grown in {:.0} s\n", grown.as_secs_f64());
    let emptied = empty_page_cache();
    let store = RocksStore::open(&log, RocksOptions::default()).unwrap();
    let note = store.latest_checkpoint().unwrap().unwrap();
    let size = store.last_index().unwrap().unwrap() + 1;
    println!(
        "| page cache | what | median us | 99th us | reads, mean | times one record | times 256 in a row |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|");
    for cache in [if emptied { "empty at first" } else { "as it was (emptying it takes root)" }, "filled"] {
        round(&store, size, &note, cache);
    }
}

/// Each thing at random places; its latency, and what it is beside a bare read.
fn round(store: &RocksStore, size: u64, note: &str, cache: &str) {
    let one = latency(size, |at| drop(black_box(store.record(at).unwrap())));
    let row = latency(size - 256, |at| {
        let mut left = 256;
        let scanned = store.scan(Walk::Up(at), &mut |_, bytes| {
            black_box(bytes);
            left -= 1;
            if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        scanned.unwrap();
    });
    let reads = Cell::new(0_u64);
    let fetch = |id| {
        reads.set(reads.get() + 1);
        leaf_or_node(store, id)
    };
    let print = |what: &str, (median, most): (Duration, Duration), reads: Option<f64>| {
        let times = |than: (Duration, Duration)| median.as_secs_f64() / than.0.as_secs_f64();
        println!(
            "| {cache} | {what} | {:.1} | {:.1} | {} | {:.1} | {:.1} |",
            median.as_secs_f64() * 1e6,
            most.as_secs_f64() * 1e6,
            reads.map_or(String::new(), |reads| format!("{reads:.0}")),
            times(one),
            times(row),
        );
    };
    let mean = || Some(reads.replace(0) as f64 / SAMPLES as f64);
    print("one record, bare", one, None);
    print("256 records in a row, bare", row, None);
    let took = latency(size, |at| drop(black_box(proof::inclusion(at, size, fetch).unwrap())));
    print("inclusion proof", took, mean());
    let took =
        latency(size, |at| drop(black_box(tiles::prove(store, at, note.to_owned()).unwrap().to_text())));
    print("tlog-proof, checked and written", took, None);
    let took = latency(size, |at| drop(black_box(proof::consistency(at + 1, size, fetch).unwrap())));
    print("consistency proof up to the latest", took, mean());
    for (what, content, height) in [
        ("tile of level 0", Content::Hashes(0), 8),
        ("tile of level 1", Content::Hashes(1), 16),
        ("bundle of entries", Content::Entries, 8),
    ] {
        let took = latency(size >> height, |index| {
            let tile = Tile { content, index, width: FULL };
            drop(black_box(tiles::read(store, &tile).unwrap()));
        });
        print(&format!("{what}: {:.0} a second", 1.0 / took.0.as_secs_f64()), took, None);
    }
}

/// Median and 99th percentile over places below `end`.
fn latency(end: u64, mut once: impl FnMut(u64)) -> (Duration, Duration) {
    let mut took: Vec<Duration> = (1..=SAMPLES)
        .map(|n| {
            // Far apart, and the same in each run.
            let place = (u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(end)) >> 64;
            let began = Instant::now();
            once(place as u64);
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    (common::percentile(&took, 0.5), common::percentile(&took, 0.99))
}

/// Writes records as a busy gate does. Returns how long that took.
fn grow(dir: &Path, records: u64) -> Duration {
    let began = Instant::now();
    let key = SigningKey::from_seed(Origin::parse("gate.example.com/bench").unwrap(), &[7; 32]);
    let identity = LogIdentity { origin: key.origin().to_string(), vkey: key.verifier().to_string() };
    let options = RocksOptions { durability: Durability::Os, ..RocksOptions::default() };
    let store = RocksStore::create(dir, &identity, options).unwrap();
    let mut writer = Writer::new(&store, key);
    let (mut in_flight, mut calls) = (VecDeque::new(), 0);
    while writer.size() < records {
        for _ in 0..64 {
            in_flight.push_back(writer.push(&decision(calls)));
            calls += 1;
        }
        while in_flight.len() > 512 {
            writer.push(&outcome(in_flight.pop_front().unwrap()));
        }
        writer.commit();
    }
    began.elapsed()
}

/// Whether nothing is left in the page cache now.
fn empty_page_cache() -> bool {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

const SAMPLES: u64 = 2_000;
