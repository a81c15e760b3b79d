//! How long a gate takes from its start until it is ready and has answered a first call, after a crash that left the largest
//! log: by default 10 million records, 10,000 open allows spread over all of it, and as much in the write-ahead log as
//! its bound lets it hold. The gate is the real binary, killed before with SIGKILL, and, as root, with nothing in the
//! page cache. Beside it, in the same run: the same gate on a log of a few records.
//!
//! `COLD_START_RECORDS` and `COLD_START_OPEN` make it smaller. The log takes about 2 GB beside the target directory for
//! 10 million, and is removed.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and ends when something is wrong"
)]

mod common;
mod filled;

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use filled::{Writer, decision, outcome};
use portcullis::app::log::signing_key;
use portcullis::audit::rocks::{RocksOptions, RocksStore};
use portcullis::audit::storage::{Durability, Store as _};
use portcullis::config::{Environment, Settings};

fn main() {
    let number =
        |name: &str, otherwise: u64| std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap());
    let (records, open) = (number("COLD_START_RECORDS", 10_000_000), number("COLD_START_OPEN", 10_000));
    let dir = common::on_disk();
    let small = init(&dir.path().join("small"));
    let large = init(&dir.path().join("large"));
    let grown = grow(&large, records, open);
    println!(
        "cold_start: {records} records, {open} allows open, {} MB in all, {} MB of it in the write-ahead log; grown in \
         {:.0} s; page cache dropped before each cold start: {}\n",
        size(&large.join("log"), "") >> 20,
        size(&large.join("log"), ".log") >> 20,
        grown.as_secs_f64(),
        if drop_page_cache() { "yes" } else { "no, it takes root" },
    );
    println!("| log | start | ready ms | first call answered ms |");
    println!("|---|---|---:|---:|");
    for turn in 0..3 {
        for (name, site, closing) in [("a few records", &small, 0), ("large", &large, open)] {
            for cold in [true, false] {
                let copy = copy(site, &dir.path().join("copy"));
                if cold {
                    drop_page_cache();
                }
                let started = start(&copy, closing);
                println!(
                    "| {name} | {}, run {} | {} | {} |",
                    if cold { "cold" } else { "warm" },
                    turn + 1,
                    common::ms(started.ready),
                    common::ms(started.answered),
                );
                std::fs::remove_dir_all(copy).unwrap();
            }
        }
    }
}

/// A gate's directory as `portcullis init` makes it.
fn init(dir: &Path) -> PathBuf {
    let init = Command::new(BINARY).arg("init").arg(dir).stdout(Stdio::null()).status().unwrap();
    assert!(init.success());
    dir.to_owned()
}

/// Writes records as a busy gate does, and stops in the midst of it. Returns how long that took.
fn grow(site: &Path, records: u64, open: u64) -> Duration {
    let began = Instant::now();
    let settings = Settings::load(&site.join("portcullis.toml"), &Environment::empty()).unwrap();
    let options = RocksOptions { durability: Durability::Os, ..RocksOptions::default() };
    let dir = site.join("log");
    let store = RocksStore::open(&dir, options).unwrap();
    let mut writer = Writer::new(&store, signing_key(&settings.log).unwrap());
    // Of the calls, these never end.
    let every = (records / 2).checked_div(open).unwrap_or(u64::MAX).max(1);
    let (mut in_flight, mut calls, mut left) = (VecDeque::new(), 0_u64, open);
    let (mut most_waiting, mut enough) = (0, false);
    while writer.size() < records || !enough {
        for _ in 0..64 {
            let index = writer.push(&decision(calls));
            writer.batch.opened.push(index);
            if left > 0 && calls % every == every - 1 {
                left -= 1;
            } else {
                in_flight.push_back(index);
            }
            calls += 1;
        }
        while in_flight.len() > 512 {
            let index = in_flight.pop_front().unwrap();
            writer.push(&outcome(index));
            writer.batch.closed.push(index);
        }
        if writer.size() >= records {
            // The crash comes when the write-ahead log is as long as it gets.
            while let Some(index) = in_flight.pop_front() {
                writer.push(&outcome(index));
                writer.batch.closed.push(index);
            }
            let waiting = size(&dir, ".log");
            enough = waiting * 10 >= most_waiting * 9;
            most_waiting = most_waiting.max(waiting);
        } else if calls.is_multiple_of(64 * 64) {
            most_waiting = most_waiting.max(size(&dir, ".log"));
        }
        writer.commit();
    }
    began.elapsed()
}

struct Started {
    ready: Duration,
    answered: Duration,
}

/// Starts the gate, and kills it once it has been ready and has answered; by then it has closed `closing` allows.
fn start(site: &Path, closing: u64) -> Started {
    let [front, admin, health] = free_addresses();
    let began = Instant::now();
    let gate = Killed(
        Command::new(BINARY)
            .args(["serve", "--config"])
            .arg(site.join("portcullis.toml"))
            .env("PORTCULLIS__SERVER__LISTEN", front.to_string())
            .env("PORTCULLIS__ADMIN__LISTEN", admin.to_string())
            .env("PORTCULLIS__HEALTH__LISTEN", health.to_string())
            .env("PORTCULLIS__LOGGING__LEVEL", "error")
            .spawn()
            .unwrap(),
    );
    until_answered(health, "/readyz", "200");
    let ready = began.elapsed();
    until_answered(front, "/", "401");
    let answered = began.elapsed();
    drop(gate);
    let settings = Settings::load(&site.join("portcullis.toml"), &Environment::empty()).unwrap();
    let store = RocksStore::open_read_only(&settings.log.dir).unwrap();
    // A gate is ready once they are closed, so the crash that has just ended it reopens none.
    assert_eq!(store.open_allows().unwrap().len(), 0, "all {closing} are closed");
    Started { ready, answered }
}

/// Calls until there is an answer of this status.
fn until_answered(address: SocketAddr, path: &str, status: &str) {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        if let Ok(mut stream) = TcpStream::connect(address) {
            let mut answer = String::new();
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n");
            let read = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
            if read.is_ok() && answer.split(' ').nth(1) == Some(status) {
                return;
            }
        }
        assert!(Instant::now() < deadline, "no answer to {path}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn free_addresses() -> [SocketAddr; 3] {
    let taken = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    taken.each_ref().map(|listener| listener.local_addr().unwrap())
}

/// A copy of a gate's directory, as a crash would have left it. Table files never change, so they are shared.
fn copy(from: &Path, to: &Path) -> PathBuf {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.path().extension().is_some_and(|extension| extension == "sst") {
            std::fs::hard_link(entry.path(), target).unwrap();
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
    to.to_owned()
}

/// Bytes in the files of `dir` whose names end so.
fn size(dir: &Path, end: &str) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let of = |entry: std::fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.len());
    entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(end)).map(of).sum()
}

/// Whether nothing of any file is in memory any more (proc_sys_vm(5)).
fn drop_page_cache() -> bool {
    // What is not written yet cannot be dropped.
    let _ = Command::new("sync").status();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// A process that is ended as a crash would.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
