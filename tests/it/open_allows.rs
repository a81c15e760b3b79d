//! Allows that a crash left without outcome: each is closed as `unknown`, once, whatever happens while that is done.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use portcullis::access::attempt::{ReadRules, TrustedProxies};
use portcullis::access::path::Tolerance;
use portcullis::access::route::{HostPattern, Preflights, Route, Routes};
use portcullis::access::{Attempt, Connection, Decision, Identity, Reason};
use portcullis::app;
use portcullis::audit::hash::Hash;
use portcullis::audit::journal::{Journal, JournalOptions, Recorded};
use portcullis::audit::record::Epochs;
use portcullis::audit::rocks::{RocksOptions, RocksStore};
use portcullis::audit::storage::Store;
use portcullis::clock::Clock;

use crate::support::faulty::{Fault, FaultyStore};
use crate::support::gate::BINARY;
use crate::support::{Act, Setup, Site, Upstream, block_on, log, until};

const OPEN: usize = 10_000;

/// Allows as many calls as [`OPEN`], and crashes: no outcome is ever told of them. Returns their indexes.
fn crash_with_calls_in_flight(site: &Site) -> BTreeSet<u64> {
    let settings = site.settings();
    let key = app::log::signing_key(&settings.log).unwrap();
    let store: Arc<dyn Store> = Arc::new(RocksStore::open(&site.log_dir(), RocksOptions::default()).unwrap());
    let options = JournalOptions { queue: OPEN, timeout: settings.log.timeout, denial_bytes: None };
    let epochs = Epochs { policy: Hash::of(b"policy"), config: Hash::of(b"config") };
    let (journal, writer) = Journal::open(store, key, Clock::system(), options, epochs).unwrap();
    let routes = Routes::new([Route {
        service: "app".into(),
        hosts: vec![HostPattern::Any],
        prefix: "/".into(),
        rewrite: None,
        tolerance: Tolerance::default(),
        preflights: Preflights::Off,
        certificates: Default::default(),
        recording: Default::default(),
    }]);
    let trusted = TrustedProxies::new(Vec::new());
    let rules = ReadRules { routes: &routes, trusted: &trusted, target_bytes: 8192 };
    let connection = Connection::without_certificate("192.0.2.1:50000".parse().unwrap(), None);
    let (head, ()) = http::Request::get("/x").header("host", "app").body(()).unwrap().into_parts();
    let indexes = block_on(async {
        let calls = (0..OPEN).map(|number| {
            let attempt = Attempt::read(&head, &connection, &rules, number as u128);
            let allow = Decision::allow(Reason::PolicyAllow, None);
            journal.record(attempt, Identity::Anonymous, allow, epochs)
        });
        let recorded = futures_util::future::join_all(calls).await;
        recorded
            .into_iter()
            .map(|recorded| match recorded.unwrap() {
                Recorded::Allow(permit) => {
                    let (passage, open) = permit.spend();
                    // A process that has crashed says nothing of what became of it.
                    std::mem::forget(open);
                    passage.record.index
                }
                Recorded::Deny(denial) => panic!("{denial:?}"),
            })
            .collect::<BTreeSet<_>>()
    });
    journal.close();
    writer.join().unwrap();
    drop(journal);
    assert_eq!(indexes.len(), OPEN);
    indexes
}

fn all_are_closed_once(site: &Site, open: &BTreeSet<u64>) {
    site.verify();
    let records = site.records();
    let outcomes = log::outcomes(&records);
    assert_eq!(outcomes.keys().copied().collect::<BTreeSet<_>>(), *open);
    assert!(outcomes.values().all(|outcome| outcome["result"] == "unknown"));
}

#[test]
fn ten_thousand_are_closed_once_though_the_closing_fails_or_seems_to() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let open = crash_with_calls_in_flight(&site);
    assert_eq!(site.open_allows().len(), OPEN);
    for (fault, left) in [(Fault::Fail, OPEN), (Fault::FailPersisted, 0)] {
        let store = RocksStore::open(&site.log_dir(), RocksOptions::default()).unwrap();
        let store = Arc::new(FaultyStore::new(store));
        store.set(fault);
        assert!(app::start(site.settings(), Some(Arc::clone(&store) as _)).is_err(), "{fault:?}");
        until("the store to be let go", || Arc::strong_count(&store) == 1);
        drop(store);
        assert_eq!(site.open_allows().len(), left, "{fault:?}");
    }
    let site = site.start().stop();
    all_are_closed_once(&site, &open);
}

#[test]
fn ten_thousand_are_closed_once_though_the_gate_is_killed_while_it_starts() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let open = crash_with_calls_in_flight(&site);
    let files = |end: &str| {
        let names = std::fs::read_dir(site.log_dir()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(end)).collect::<BTreeSet<_>>()
    };
    let written = || -> u64 {
        let entries = std::fs::read_dir(site.log_dir()).unwrap().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    };
    // Killed when it has begun with the log, when it has begun to write, if it has to, and when it is ready.
    for moment in 0..3 {
        let (manifest, before, ready) = (files("MANIFEST"), written(), site.path("killed.json"));
        let _ = std::fs::remove_file(&ready);
        let gate = Killed(
            Command::new(BINARY)
                .args(["serve", "--config"])
                .arg(site.config())
                .arg("--ready-file")
                .arg(&ready)
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let has_come = || match moment {
            0 => files("MANIFEST") != manifest,
            1 => written() > before + 1_000_000,
            _ => false,
        };
        until("the moment", || has_come() || ready.exists());
        drop(gate);
    }
    assert!(site.open_allows().is_empty());
    let site = site.start().stop();
    all_are_closed_once(&site, &open);
}

/// A process that ends as by a crash.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
