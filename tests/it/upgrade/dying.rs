//! A successor that dies on the way, at every step; a gate that hangs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::callers::Callers;
use super::{Successor, each_has_one_record, events};
use crate::support::{Act, Setup, Site, Upstream, log, until};

/// A successor of our own making, which goes as far as it is told to.
struct Pretender(BufReader<UnixStream>);

impl Pretender {
    fn knock(site: &Site) -> Self {
        let socket = std::fs::read_dir(site.path("state"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == "sock"))
            .unwrap();
        assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        Self(BufReader::new(UnixStream::connect(socket).unwrap()))
    }

    fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn hear(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }
}

#[test]
fn a_successor_that_dies_at_any_step_leaves_the_old_one_serving() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let gate = site.start();
    let callers = Callers::start(gate.front);
    type Step = fn(&mut Pretender);
    let ask: Step = |it| it.say(r#"{"say":"take_over","pid":1,"version":"x"}"#);
    let hear_offer: Step = |it| assert_eq!(it.hear()["sockets"].as_array().unwrap().len(), 3);
    let release: Step = |it| it.say(r#"{"say":"release"}"#);
    let hear_release: Step = |it| assert_eq!(it.hear()["say"], "released");
    let steps = [ask, hear_offer, release, hear_release];
    for last in 0..=steps.len() {
        let mut pretender = Pretender::knock(&site);
        steps[..last].iter().for_each(|step| step(&mut pretender));
        drop(pretender);
        let before = callers.answered();
        until("calls to be answered", || callers.answered() >= before + 100);
    }
    // Nor does nonsense do harm.
    for nonsense in ["", "{}", r#"{"say":"serving"}"#] {
        Pretender::knock(&site).say(nonsense);
    }
    let before = callers.answered();
    until("calls to be answered", || callers.answered() >= before + 100);
    let answered = callers.stop();
    gate.stop();
    let records = site.records();
    each_has_one_record(&answered, &records);
    let allows = records.iter().filter(|record| record["decision"] == "allow").count();
    assert_eq!(log::outcomes(&records).len(), allows);
    // The log was let go once, and taken up again.
    let last = ["created", "started", "handed_over", "started", "stopped"];
    assert_eq!(events(&site), last);
    site.verify();
}

#[test]
fn what_was_in_flight_when_the_log_was_taken_back_has_one_outcome() {
    let upstream = Upstream::start(Act::Hold);
    let gate = Setup::new(&upstream).start();
    let mut wire = gate.wire();
    wire.send("GET /public/held HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it to be forwarded", || upstream.count() == 1);
    let mut pretender = Pretender::knock(&gate);
    pretender.say(r#"{"say":"take_over","pid":1,"version":"x"}"#);
    pretender.hear();
    pretender.say(r#"{"say":"release"}"#);
    pretender.hear();
    drop(pretender);
    until("the gate to be back", || gate.client().call("PUT", "/nothing", None, &[]).status == 401);
    upstream.release();
    let answer = wire.answer().unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(gate.client().get("/public/later", None).status, 200);
    let site = gate.stop();
    let records = site.records();
    let outcomes = log::outcomes(&records);
    assert_eq!(outcomes[&answer.record()]["result"], "unknown");
    assert_eq!(outcomes.len(), 2);
    site.verify();
}

#[test]
fn real_successors_killed_on_the_way_fail_no_call() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let gate = site.start();
    let callers = Callers::start(gate.front);
    type Seen = fn(&Site, &Successor) -> bool;
    // Under load the gate lets connections go for a second after it has said so: the log is not released before.
    let asked: Seen = |site, it| it.said(site).contains("taking over from");
    let handing: Seen = |site, _| site.said().contains("handing over");
    for (n, seen) in [asked, handing].into_iter().enumerate() {
        let successor = Successor::spawn(&site, &format!("killed-{n}"));
        until("it to come so far", || seen(&site, &successor));
        successor.kill();
        let before = callers.answered();
        until("calls to be answered", || callers.answered() >= before + 100);
    }
    let answered = callers.stop();
    let site = gate.stop();
    assert_eq!(log::outcomes(&site.records()).len(), answered.len());
    site.verify();
}

#[test]
fn a_gate_that_hangs_is_not_replaced_and_nothing_is_changed() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let gate = site.start();
    gate.signal("STOP");
    let said = Successor::spawn(&site, "new").fails(&Arc::clone(&site));
    gate.signal("CONT");
    assert!(said.contains("did not answer") && said.contains("nothing was changed"), "{said}");
    assert_eq!(gate.client().get("/public/a", None).status, 200);
    let site = gate.stop();
    assert_eq!(events(&site), ["created", "started", "stopped"]);
    site.verify();
}
