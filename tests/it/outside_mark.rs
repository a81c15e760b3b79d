//! The outside mark: a log that is shorter than it was, or another one, is not served.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis::app;
use portcullis::audit::checkpoint::{Checkpoint, VerifierKey};
use portcullis::audit::rocks::RocksStore;
use portcullis::audit::storage::Store;

use crate::support::faulty::Fault;
use crate::support::{Act, Gate, Setup, Site, Upstream, until};

/// A gate's directory whose log has a mark, on a disk of its own.
fn marked_site(upstream: &Upstream) -> Arc<Site> {
    let site = Setup::new(upstream).log("mark_file = \"disk/gate.mark\"").site_without_log();
    std::fs::create_dir(disk(&site)).unwrap();
    app::create_log(&site.settings()).unwrap();
    site
}

fn disk(site: &Site) -> PathBuf {
    site.path("disk")
}

fn mark_file(site: &Site) -> PathBuf {
    disk(site).join("gate.mark")
}

fn mark(site: &Site) -> Checkpoint {
    let note = std::fs::read(mark_file(site)).unwrap();
    Checkpoint::open(&note, &VerifierKey::parse(&site.vkey).unwrap()).unwrap()
}

/// The latest checkpoint in the log's directory.
fn checkpoint(site: &Site) -> String {
    RocksStore::open_read_only(&site.log_dir()).unwrap().latest_checkpoint().unwrap().unwrap()
}

fn is_marked(site: &Site) -> bool {
    std::fs::read_to_string(mark_file(site)).is_ok_and(|note| note == checkpoint(site))
}

/// Calls, each of which is recorded.
fn call(gate: &Gate, calls: usize) {
    for n in 0..calls {
        assert_eq!(gate.client().get(&format!("/public/{n}"), None).status, 200);
    }
}

/// A figure of the gate's, without labels.
fn figure(gate: &Gate, name: &str) -> f64 {
    let text = gate.health().get("/metrics", None).text().to_owned();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Puts the copy of a log in place of the log.
fn put_back(site: &Site, copied: &Path) {
    std::fs::remove_dir_all(site.log_dir()).unwrap();
    copy(copied, &site.log_dir());
}

/// The gate does not start, for this reason.
fn refused(site: &Site, words: &[&str]) {
    let (status, said) = site.refuses_to_start();
    assert_eq!(status.code(), Some(2), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
}

#[test]
fn the_mark_is_there_from_the_first_record_on_and_follows_the_log() {
    let upstream = Upstream::start(Act::Answer);
    let site = marked_site(&upstream);
    assert_eq!(mark(&site).size(), 1);
    assert!(is_marked(&site));
    let gate = site.start();
    assert!(mark(&gate).size() > 1, "it is written before the first call is decided");
    call(&gate, 20);
    until("the mark to be the log's checkpoint", || is_marked(&gate));
    until("the figures to say so", || {
        figure(&gate, "portcullis_mark_size") == figure(&gate, "portcullis_log_size")
    });
    assert_eq!(figure(&gate, "portcullis_mark_failed"), 0.0);
    let site = gate.stop();
    assert!(is_marked(&site), "it covers the last record, too");
    assert_eq!(mark(&site).size(), site.verify());
    site.start().stop();
}

#[test]
fn the_mark_never_covers_what_is_not_durable_yet() {
    let upstream = Upstream::start(Act::Answer);
    let gate = marked_site(&upstream).start_here();
    let answer = gate.client().get("/public/x", None);
    gate.outcome_of(answer.record());
    until("the mark to have settled", || is_marked(&gate));
    let before = std::fs::read(mark_file(&gate)).unwrap();
    gate.store.set(Fault::Block);
    std::thread::scope(|scope| {
        let client = gate.client();
        let call = scope.spawn(move || client.get("/public/y", None).status);
        gate.store.wait_blocked();
        // It is looked after though the log stands still: that it is there again shows that it was.
        std::fs::remove_file(mark_file(&gate)).unwrap();
        until("the mark to be there again", || mark_file(&gate).exists());
        assert_eq!(std::fs::read(mark_file(&gate)).unwrap(), before);
        gate.store.set(Fault::None);
        // It may have waited for too long; what counts is the mark.
        call.join().unwrap();
    });
    until("the mark to follow", || is_marked(&gate) && std::fs::read(mark_file(&gate)).unwrap() != before);
    gate.stop().verify();
}

#[test]
fn after_kill_9_under_load_the_log_is_never_behind_its_mark() {
    let upstream = Upstream::start(Act::Answer);
    let mut site = marked_site(&upstream);
    for round in 0..6 {
        let gate = site.start();
        let stop = AtomicBool::new(false);
        let (before, marked) = (upstream.count(), mark(&gate).size());
        site = std::thread::scope(|scope| {
            for _ in 0..4 {
                let (stop, client) = (&stop, gate.client());
                scope.spawn(move || {
                    while !stop.load(Ordering::SeqCst)
                        && client
                            .try_send(client.request(
                                "GET",
                                "/public/x",
                                None,
                                &[],
                                crate::support::client::empty(),
                            ))
                            .is_ok()
                    {}
                });
            }
            // At a commit here, at a write of the mark there.
            until("some load", || upstream.count() >= before + 50 * (round + 1));
            if round % 2 == 1 {
                until("a mark of it", || mark(&gate).size() > marked);
            }
            stop.store(true, Ordering::SeqCst);
            gate.kill()
        });
        let (marked, held) = (mark(&site).size(), site.verify());
        assert!(marked <= held, "the mark says {marked}, the log holds {held}");
    }
    site.start().stop().verify();
}

#[test]
fn a_log_set_back_to_a_snapshot_is_refused() {
    let upstream = Upstream::start(Act::Answer);
    let gate = marked_site(&upstream).start();
    call(&gate, 3);
    let site = gate.stop();
    let (snapshot, then) = (site.path("snapshot"), site.records().len());
    copy(&site.log_dir(), &snapshot);
    let gate = site.start();
    call(&gate, 3);
    let site = gate.stop();
    let (now, newer) = (site.records().len(), site.path("newer"));
    copy(&site.log_dir(), &newer);

    put_back(&site, &snapshot);
    let (holds, had) = (format!("the log holds {then} records"), format!("when it held {now}"));
    refused(&site, &[&holds, &had, "set back to a snapshot", "Bring back the newer log", "new origin"]);
    assert_eq!(site.records().len(), then, "nothing was added to it");
    let checked = site.command(&["check", "--config", "gate.toml"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stdout).contains(&holds));
    let marked = site.command(&["audit", "mark", "--config", "gate.toml"]);
    assert_eq!(marked.status.code(), Some(1), "nor is it marked anew");
    let verified = site.command(&["audit", "verify", "--config", "gate.toml", "--against", "disk/gate.mark"]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(verified.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("first bad index: {then}")) && said.contains("cut or set back"), "{said}");

    put_back(&site, &newer);
    site.start().stop();
}

#[test]
fn a_disk_that_lost_what_it_had_acknowledged_is_found_out() {
    let upstream = Upstream::start(Act::Answer);
    let gate = marked_site(&upstream).start();
    call(&gate, 10);
    until("the mark", || is_marked(&gate));
    let site = gate.kill();
    let marked = mark(&site).size();
    // The end of the write-ahead log never reached the disk, though every sync of it was said to be done.
    let written = std::fs::read_dir(site.log_dir()).unwrap().map(|entry| entry.unwrap().path());
    let newest = written.filter(|path| path.extension().is_some_and(|is| is == "log")).max().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(newest).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let left = site.verify();
    assert!(left < marked, "by itself the log holds, {left} records of {marked}");
    refused(&site, &[&format!("the log holds {left} records"), "its disk lost what it said it had written"]);
}

#[test]
fn another_history_under_the_same_key_is_refused_though_it_is_longer() {
    let upstream = Upstream::start(Act::Answer);
    let site = marked_site(&upstream);
    let fork = site.path("fork");
    copy(&site.log_dir(), &fork);
    let gate = site.start();
    call(&gate, 3);
    let site = gate.stop();
    let (held, true_log) = (site.records().len(), site.path("true"));
    copy(&site.log_dir(), &true_log);

    // The fork grows where nobody marks it.
    put_back(&site, &fork);
    site.edit_config("mark_file = \"disk/gate.mark\"", "");
    let gate = site.start();
    call(&gate, 9);
    let site = gate.stop();
    assert!(site.records().len() > held);
    site.verify();
    site.edit_config("state_dir = \"state\"", "state_dir = \"state\"\nmark_file = \"disk/gate.mark\"");
    refused(&site, &["another history under the same key", "new origin"]);
    let verified = site.command(&["audit", "verify", "--config", "gate.toml", "--against", "disk/gate.mark"]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(verified.status.code(), Some(1), "{said}");
    assert!(said.contains("this is not the log whose checkpoint was kept"), "{said}");

    put_back(&site, &true_log);
    site.start().stop();
}

#[test]
fn a_missing_mark_is_refused_until_it_is_made_from_the_log_as_it_stands() {
    let upstream = Upstream::start(Act::Answer);
    let gate = marked_site(&upstream).start();
    call(&gate, 2);
    let site = gate.stop();
    std::fs::remove_file(mark_file(&site)).unwrap();
    refused(&site, &["there is no mark", "mount it", "portcullis audit mark"]);
    let checked = site.command(&["check", "--config", "gate.toml"]);
    assert_eq!(checked.status.code(), Some(1));
    let made = site.command(&["audit", "mark", "--config", "gate.toml"]);
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{said}{}", String::from_utf8_lossy(&made.stderr));
    assert!(said.contains(&format!("{} records, root ", site.records().len())), "{said}");
    assert!(is_marked(&site));
    let checked = site.command(&["check", "--config", "gate.toml"]);
    assert!(String::from_utf8_lossy(&checked.stdout).contains("the log extends it"));
    let gate = site.start();
    let made = gate.command(&["audit", "mark", "--config", "gate.toml"]);
    assert_eq!(made.status.code(), Some(2), "a gate keeps its mark by itself");
    gate.stop();
}

#[test]
fn a_mark_of_another_log_is_refused_and_no_log_is_created_over_it() {
    let upstream = Upstream::start(Act::Answer);
    let site = marked_site(&upstream);
    let other = marked_site(&upstream);
    let theirs = std::fs::read(mark_file(&other)).unwrap();
    std::fs::write(mark_file(&site), &theirs).unwrap();
    refused(&site, &["is not a mark of this log", "name another file"]);
    std::fs::remove_dir_all(site.log_dir()).unwrap();
    std::fs::remove_dir_all(site.path("state")).unwrap();
    let created = site.command(&["audit", "create", "--config", "gate.toml"]);
    assert_eq!(created.status.code(), Some(2));
    assert!(!site.log_dir().exists(), "nothing was made");
    assert_eq!(std::fs::read(mark_file(&site)).unwrap(), theirs);
}

#[test]
fn the_mark_proves_while_the_gate_serves_that_the_log_extends_it_and_so_does_an_older_one() {
    let upstream = Upstream::start(Act::Answer);
    let gate = marked_site(&upstream).start();
    let older = gate.path("older");
    std::fs::copy(mark_file(&gate), &older).unwrap();
    call(&gate, 5);
    until("a newer mark", || mark(&gate).size() > 6);
    for against in [mark_file(&gate), older] {
        let against = against.to_str().unwrap();
        let output = gate.command(&["audit", "verify", "--config", "gate.toml", "--against", against]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("extends the kept checkpoint of"), "{said}");
    }
    gate.stop();
}

#[test]
fn a_mark_that_cannot_be_written_stops_no_call_is_told_and_comes_back_by_itself() {
    let upstream = Upstream::start(Act::Answer);
    let gate = marked_site(&upstream).start();
    let (disk, away) = (disk(&gate), gate.path("away"));
    std::fs::rename(&disk, &away).unwrap();
    std::fs::write(&disk, "no directory").unwrap();
    call(&gate, 5);
    until("the figure", || figure(&gate, "portcullis_mark_failed") == 1.0);
    call(&gate, 5);
    let ready = gate.health().get("/readyz", None);
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert!(ready.json()["mark"]["failed"].is_string(), "{}", ready.text());
    assert!(figure(&gate, "portcullis_mark_size") < figure(&gate, "portcullis_log_size"));
    until("a word on stderr", || gate.said().contains("the log's mark is not kept up to date"));

    std::fs::remove_file(&disk).unwrap();
    std::fs::rename(&away, &disk).unwrap();
    until("the figure", || figure(&gate, "portcullis_mark_failed") == 0.0);
    until("the mark", || is_marked(&gate));
    assert_eq!(gate.said().matches("is not kept up to date").count(), 1, "{}", gate.said());
    gate.stop();
}

#[test]
fn a_mark_whose_disk_hangs_holds_up_no_call_and_not_the_end() {
    let upstream = Upstream::start(Act::Answer);
    let gate = marked_site(&upstream).start();
    // Whoever opens a pipe that nobody writes to stands still.
    std::fs::remove_file(mark_file(&gate)).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(mark_file(&gate)).status().unwrap().success());
    call(&gate, 5);
    until("the figure", || figure(&gate, "portcullis_mark_failed") == 1.0);
    let ready = gate.health().get("/readyz", None).json();
    assert!(ready["mark"]["failed"].as_str().unwrap().contains("has not answered"), "{ready}");
    call(&gate, 5);
    let site = gate.stop();
    site.verify();
}

#[test]
fn two_gates_do_not_share_a_mark() {
    let upstream = Upstream::start(Act::Answer);
    let first = marked_site(&upstream).start();
    call(&first, 1);
    until("the mark", || is_marked(&first));
    // A replica with a copy of the log, and the same key.
    let second = marked_site(&upstream);
    std::fs::copy(first.path("log.pem"), second.path("log.pem")).unwrap();
    std::fs::remove_dir_all(second.path("state")).unwrap();
    std::fs::create_dir(second.path("state")).unwrap();
    for entry in std::fs::read_dir(first.path("state")).unwrap() {
        let entry = entry.unwrap();
        // Not the socket that the gate can be replaced through.
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), second.path("state").join(entry.file_name())).unwrap();
        }
    }
    put_back(&second, &first.log_dir());
    let shared = format!("mark_file = {:?}", mark_file(&first));
    second.edit_config("mark_file = \"disk/gate.mark\"", &shared);
    refused(&second, &["kept by another process", "two gates must not write under one origin"]);
    call(&first, 3);
    first.stop().verify();
}

#[test]
fn a_gate_that_finds_another_ones_mark_takes_no_more_calls() {
    let upstream = Upstream::start(Act::Answer);
    let site = marked_site(&upstream);
    // Another gate on a copy of the log, on another machine: its lock is not seen here.
    let other = site.path("other");
    copy(&site.log_dir(), &other);
    let gate = site.start();
    call(&gate, 1);
    let key = {
        let settings = gate.settings();
        app::log::signing_key(&settings.log).unwrap()
    };
    let theirs = key.sign(500, &portcullis::audit::hash::Hash::of(b"another history"));
    std::fs::write(mark_file(&gate), &theirs).unwrap();
    until("calls to be refused", || {
        let answer = gate.client().get("/public/x", None);
        assert!(
            answer.status == 200 || (answer.status == 503 && answer.header("portcullis-record").is_none())
        );
        answer.status == 503
    });
    let arrived = upstream.count();
    let ready = gate.health().get("/readyz", None);
    assert_eq!((ready.status, ready.json()["log"]["stopped"].as_bool()), (503, Some(true)));
    assert_eq!(figure(&gate, "portcullis_log_stopped"), 1.0);
    until("a word on stderr", || gate.said().contains("another gate writes under this log's origin"));
    assert_eq!(gate.client().get("/public/x", None).status, 503);
    assert_eq!(upstream.count(), arrived);
    let site = gate.stop();
    assert_eq!(std::fs::read_to_string(mark_file(&site)).unwrap(), theirs, "it stays as they left it");
    // What was allowed before has its outcome, and the log says that the gate stopped.
    let records = site.records();
    assert_eq!(crate::support::log::outcomes(&records).len(), arrived);
    assert_eq!(records.last().unwrap()["event"], "stopped");
    site.verify();
}
