//! The pieces of a call on their own: its bytes filtered, the path made canonical, the head read, the record encoded and sealed, the headers
//! passed on; and a log verified. Each beside the least that something must take which looks at as many bytes: a copy of
//! them, httparse reading them, SHA-256 of them alone, a scan of the same store.
//!
//! `PIECES_RECORDS` is how many records are verified, a million by default: 160 MB beside the target directory.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and ends when something is wrong"
)]

mod common;
mod filled;

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use http::header::HeaderName;
use http::request::Parts;
use portcullis::access::attempt::{ReadRules, TrustedProxies};
use portcullis::access::framing::{Bounds, Framer, Segment};
use portcullis::access::path::{Reading, Tolerance};
use portcullis::access::recording::Recording;
use portcullis::access::route::{HostPattern, Preflights, Route, Routes};
use portcullis::access::{Attempt, Caller, Connection, Identity, ProofMethod, Reason};
use portcullis::audit::checkpoint::{Origin, SigningKey, VerifierKey};
use portcullis::audit::hash::Hash;
use portcullis::audit::journal::{Passage, RecordRef};
use portcullis::audit::record::seal;
use portcullis::audit::rocks::{RocksOptions, RocksStore};
use portcullis::audit::storage::{Durability, LogIdentity, Store as _, Walk};
use portcullis::audit::verify::Verifier;
use portcullis::clock::{Clock, Timestamp};
use portcullis::proxy::assertion::{AssertionKey, Assertions};
use portcullis::proxy::headers::{IdentityHeaders, for_upstream};
use rocksdb::{DB, Options, ReadOptions};
use sha2::{Digest as _, Sha256};

fn main() {
    println!("pieces: nanoseconds of the processor\n");
    println!("| piece | ns | beside it | ns | x |");
    println!("|---|---:|---|---:|---:|");
    filter();
    canonicalize();
    read_head();
    record();
    headers();
    signatures();
    verify();
}

fn tell(piece: &str, ours: Duration, beside: &str, theirs: Duration) {
    let ns = |time: Duration| time.as_secs_f64() * 1e9;
    println!(
        "| {piece} | {:.0} | {beside} | {:.0} | {:.1} |",
        ns(ours),
        ns(theirs),
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
}

/// What a connection's bytes are followed with, call after call.
fn filter() {
    let post = format!(
        "{}content-length: 4096\r\n\r\n{}",
        HEAD.trim_end_matches("\r\n").to_owned() + "\r\n",
        "x".repeat(4096)
    )
    .replacen("GET", "POST", 1);
    let chunks = format!("400\r\n{}\r\n", "x".repeat(1024)).repeat(4) + "0\r\n\r\n";
    let chunked = format!(
        "{}transfer-encoding: chunked\r\n\r\n{chunks}",
        HEAD.trim_end_matches("\r\n").to_owned() + "\r\n"
    )
    .replacen("GET", "POST", 1);
    let beside = common::time(|| _ = black_box(parse()));
    for (name, bytes) in [("a GET", HEAD), ("a POST of 4 KiB", &post), ("a POST of 4 chunks", &chunked)] {
        let mut framer = Framer::new(Bounds { bytes: 32 << 10, fields: 100 });
        let ours = common::time(|| {
            let mut left = black_box(bytes.as_bytes());
            while !left.is_empty() {
                let read = match framer.read(left) {
                    Segment::Passing(read) | Segment::Head(read) | Segment::HeadEnd(read) => read,
                    refused @ Segment::Refused { .. } => panic!("{refused:?}"),
                };
                left = left.get(read..).unwrap_or_default();
            }
        });
        let name = format!("{name}, {} bytes, through the filter", bytes.len());
        tell(&name, ours, "its head parsed by httparse", beside);
    }
}

fn canonicalize() {
    for (name, path) in [
        ("a plain path of 26 bytes, canonical", "/orders/10042/items/kettle"),
        ("one with encoded letters, 44 bytes", "/orders/10042/items/%E8%8C%B6%E5%A3%BA/%7eann"),
    ] {
        let ours = common::time(|| {
            drop(black_box(Reading::of(black_box(path)).unwrap().under(Tolerance::default()).unwrap()));
        });
        tell(name, ours, "copied", common::time(|| drop(black_box(Box::<str>::from(black_box(path))))));
    }
}

/// A head like those that browsers send.
const HEAD: &str = "GET /docs/intro?page=3 HTTP/1.1\r\nhost: app.example.com\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\naccept-language: en-GB,en;q=0.5\r\n\
    accept-encoding: gzip, deflate, br, zstd\r\nauthorization: Bearer eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2lnbmF0dXJl\r\n\
    cookie: session=8d0c1f7e5b\r\nconnection: keep-alive\r\nsec-fetch-dest: document\r\nsec-fetch-mode: navigate\r\n\r\n";

fn parse() -> usize {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(black_box(HEAD.as_bytes())).unwrap().unwrap();
    black_box(request.headers.len()) + parsed
}

/// The same, as hyper hands it on.
fn head() -> Parts {
    let mut lines = HEAD.lines();
    let target = lines.next().unwrap().split(' ').nth(1).unwrap();
    let fields = lines.filter_map(|line| line.split_once(": "));
    let request =
        fields.fold(http::Request::get(target), |request, (name, value)| request.header(name, value));
    request.body(()).unwrap().into_parts().0
}

struct Rules {
    routes: Routes,
    trusted: TrustedProxies,
    connection: Connection,
}

impl Rules {
    fn new() -> Self {
        let route = Route {
            service: "app".into(),
            hosts: vec![HostPattern::Any],
            prefix: "/".into(),
            rewrite: None,
            tolerance: Tolerance::default(),
            preflights: Preflights::Off,
            certificates: Default::default(),
            recording: Recording::default(),
        };
        Self {
            routes: Routes::new([route]),
            trusted: TrustedProxies::default(),
            connection: Connection::without_certificate("192.0.2.1:50000".parse().unwrap(), Some("TLSv1.3")),
        }
    }

    fn read(&self, head: &Parts) -> Attempt {
        let rules = ReadRules { routes: &self.routes, trusted: &self.trusted, target_bytes: 8192 };
        Attempt::read(head, &self.connection, &rules, 7)
    }
}

fn read_head() {
    let (rules, head) = (Rules::new(), head());
    let ours = common::time(|| drop(black_box(rules.read(black_box(&head)))));
    let name = format!("a head of {} bytes, read as an attempt", HEAD.len());
    tell(&name, ours, "parsed by httparse", common::time(|| _ = black_box(parse())));
}

fn record() {
    let body = filled::decision(7);
    let mut record = Vec::new();
    let (index, prev, time) = (1_234_567, Hash::of(b"before"), Timestamp::from_micros(1_795_000_000_000_000));
    seal(index, &prev, time, &body, &mut record);
    let copied = common::time(|| drop(black_box(black_box(record.as_slice()).to_vec())));
    // What it is encoded from is made as well.
    let encoded = common::time(|| drop(black_box(filled::decision(black_box(7)))));
    tell(&format!("a record of {} bytes, encoded", record.len()), encoded, "copied", copied);
    let mut out = Vec::with_capacity(4096);
    let sealed = common::time(|| {
        out.clear();
        black_box(seal(index, &prev, time, black_box(&body), &mut out));
    });
    let hashed = common::time(|| _ = black_box(Sha256::digest(black_box(&record))));
    tell("the same, sealed (its place and its hash)", sealed, "SHA-256 of it", hashed);
}

/// A call that was allowed.
fn passage(head: &Parts) -> Passage {
    let attempt = Rules::new().read(head);
    Passage {
        access: attempt.access.unwrap(),
        identity: Identity::Proved(caller().into()),
        client: attempt.client,
        id: attempt.id,
        trace: attempt.trace,
        reason: Reason::PolicyAllow,
        record: RecordRef { origin: "bench.example.com/log".into(), index: 1_234_567 },
    }
}

fn headers() {
    let head = head();
    let passage = passage(&head);
    let names = IdentityHeaders {
        subject: HeaderName::from_static("x-auth-subject"),
        roles: HeaderName::from_static("x-auth-roles"),
    };
    let passed = common::time(|| {
        let mut headers = black_box(&head.headers).clone();
        for_upstream(&mut headers, &passage, &names, false);
        drop(black_box(headers));
    });
    let copied = common::time(|| drop(black_box(black_box(&head.headers).clone())));
    tell(&format!("{} fields, copied and passed on", head.headers.len()), passed, "copied", copied);
    tell("the same", passed, "parsed by httparse", common::time(|| _ = black_box(parse())));
}

/// What is signed: for a service with each call that it is sent, for the log with each commit.
fn signatures() {
    let passage = passage(&head());
    let key = AssertionKey::generate().unwrap();
    let assertions = Assertions::new(key, Duration::from_secs(30), Clock::system());
    let policy = Hash::of(b"policy");
    let length = assertions.assert(&passage, &policy).unwrap().len();
    let made = common::time(|| drop(black_box(assertions.assert(black_box(&passage), &policy))));
    let pair = Ed25519KeyPair::generate().unwrap();
    let signed = |length: usize| {
        let message = vec![b'x'; length];
        common::time(|| _ = black_box(pair.sign(black_box(&message))))
    };
    tell(&format!("an assertion of {length} bytes"), made, "Ed25519 over as many", signed(length));
    let key = SigningKey::generate(Origin::parse("bench.example.com/log").unwrap()).unwrap();
    let next = SigningKey::generate(Origin::parse("bench.example.com/log").unwrap()).unwrap();
    let made = common::time(|| drop(black_box(key.sign(black_box(1_234_567), &policy))));
    tell("a checkpoint, signed", made, "Ed25519 over 90 bytes", signed(90));
    let made = common::time(|| drop(black_box(key.sign_beside(Some(&next), black_box(1_234_567), &policy))));
    tell("the same by two keys, as while a key is changed", made, "Ed25519 over 90 bytes", signed(90));
}

fn caller() -> Caller {
    Caller {
        user: "user:employee-42".to_owned(),
        roles: vec!["role:viewer".to_owned(), "role:editor".to_owned()],
        issuer: "main".to_owned(),
        method: ProofMethod::Jwt,
        token_id: None,
        key_id: None,
        expires: Timestamp::from_micros(i64::MAX),
        also: None,
    }
}

/// What it takes of the processor, not what it waits for the disk.
fn verify() {
    let records: u64 = std::env::var("PIECES_RECORDS").ok().map_or(1_000_000, |text| text.parse().unwrap());
    let records = records.next_multiple_of(2);
    let dir = common::on_disk();
    let key = fill(dir.path(), records);
    scanned(dir.path());
    let (ours, theirs) = (verified(dir.path(), key, records), scanned(dir.path()));
    let each = |time: Duration| time / u32::try_from(records).unwrap();
    tell("a stored record, verified", each(ours), "read from RocksDB, and SHA-256", each(theirs));
    let rate = |time: Duration| records as f64 / time.as_secs_f64();
    println!(
        "\nrecords a second on one core: verified {:.0}, read and hashed {:.0}",
        rate(ours),
        rate(theirs)
    );
}

fn fill(dir: &Path, records: u64) -> VerifierKey {
    let key = SigningKey::generate(Origin::parse("bench.example.com/log").unwrap()).unwrap();
    let verifier = key.verifier();
    let identity = LogIdentity { origin: key.origin().as_str().into(), vkey: verifier.to_string() };
    let options = RocksOptions { durability: Durability::Os, ..RocksOptions::default() };
    let store = RocksStore::create(dir, &identity, options).unwrap();
    let mut writer = filled::Writer::new(&store, key);
    // In pairs, as calls leave them.
    while writer.size() < records {
        for _ in 0..64.min((records - writer.size()).div_ceil(2)) {
            let index = writer.push(&filled::decision(writer.size()));
            writer.push(&filled::outcome(index));
        }
        writer.commit();
    }
    verifier
}

/// As `audit verify` does.
fn verified(dir: &Path, key: VerifierKey, records: u64) -> Duration {
    let began = common::cpu_time();
    let store = RocksStore::open_read_only(dir).unwrap();
    let notes = store.latest_checkpoint().unwrap().into_iter().collect::<Vec<_>>();
    let mut verifier = Verifier::new(key, notes).unwrap();
    store
        .scan(Walk::Up(0), &mut |index, bytes| {
            verifier.feed(index, bytes).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(verifier.finish().unwrap().records, records);
    common::cpu_time() - began
}

/// Every record of the same store, with nothing but its hash.
fn scanned(dir: &Path) -> Duration {
    let began = common::cpu_time();
    let db = DB::open_cf_for_read_only(&Options::default(), dir, ["records"], false).unwrap();
    let mut read = ReadOptions::default();
    read.fill_cache(false);
    read.set_readahead_size(2 << 20);
    let mut records = db.raw_iterator_cf_opt(db.cf_handle("records").unwrap(), read);
    records.seek_to_first();
    while let Some(record) = records.value() {
        black_box(Sha256::digest(record));
        records.next();
    }
    records.status().unwrap();
    common::cpu_time() - began
}
