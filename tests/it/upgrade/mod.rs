//! A new process takes the place of a running one with no failed call; nobody serves an origin twice.

mod activation;
mod callers;
mod dying;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use http_body_util::BodyExt as _;
use serde_json::Value;

use self::callers::Callers;
use crate::support::gate::{BINARY, ORIGIN};
use crate::support::{Act, Gate, Setup, Site, Upstream, block_on, log, poll, until};

/// A process that would take over, with a ready file and an output of its own.
struct Successor {
    process: Child,
    name: String,
}

impl Successor {
    fn spawn(site: &Site, name: &str) -> Self {
        Self::spawn_with(site, name, &[])
    }

    fn spawn_with(site: &Site, name: &str, environment: &[(&str, &Path)]) -> Self {
        let said = std::fs::File::create(site.path(&format!("{name}.stderr"))).unwrap();
        let process = Command::new(BINARY)
            .args(["serve", "--take-over", "--config"])
            .arg(site.config())
            .arg("--ready-file")
            .arg(site.path(&format!("{name}.json")))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap();
        Self { process, name: name.to_owned() }
    }

    fn said(&self, site: &Site) -> String {
        std::fs::read_to_string(site.path(&format!("{}.stderr", self.name))).unwrap()
    }

    fn serves(self, site: &Arc<Site>) -> Gate {
        let ready = site.path(&format!("{}.json", self.name));
        site.adopt(self.process, &ready)
    }

    /// Waits until it has ended in error; what it said.
    fn fails(mut self, site: &Site) -> String {
        let status = poll("the successor to give up", || self.process.try_wait().unwrap());
        let said = self.said(site);
        assert_eq!(status.code(), Some(2), "{said}");
        said
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Starts a second gate of the same config, which must not come up.
fn second(site: &Site, arguments: &[&str]) -> (Output, String) {
    let config = site.config();
    let mut all = vec!["serve", "--config", config.to_str().unwrap()];
    all.extend(arguments);
    let output = site.command(&all);
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    (output, said)
}

fn events(site: &Site) -> Vec<String> {
    let events = site.records().into_iter().filter(|record| record["kind"] == "lifecycle");
    events.map(|record| record["event"].as_str().unwrap().to_owned()).collect()
}

/// Each call that was answered is on the log once.
fn each_has_one_record(answered: &[String], records: &[Value]) {
    let mut decisions: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records.iter().filter(|record| record["kind"] == "decision") {
        *decisions.entry(record["request"]["path"].as_str().unwrap()).or_default() += 1;
    }
    for path in answered {
        assert_eq!(decisions.get(path.as_str()), Some(&1), "{path} was answered");
    }
}

#[test]
fn a_take_over_can_change_the_logs_key() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let gate = site.start();
    let callers = Callers::start(gate.front);
    until("some load", || callers.answered() >= 200);
    let made = site.command(&["keygen", "--origin", ORIGIN, "--out", "new.pem"]);
    assert!(made.status.success());
    let new = String::from_utf8(made.stdout).unwrap();
    site.edit_config("key_file = \"log.pem\"", "key_file = \"new.pem\"\nretiring_key_file = \"log.pem\"");
    let next = Successor::spawn(&site, "next").serves(&site);
    gate.wait();
    let before = callers.answered();
    until("some load on the next", || callers.answered() >= before + 200);
    let answered = callers.stop();
    next.stop();
    each_has_one_record(&answered, &site.records());
    for vkey in [&site.vkey, new.trim()] {
        assert_eq!(log::verify(&site.log_dir(), vkey).unwrap().keys.all().count(), 2);
    }
}

#[test]
fn take_overs_under_load_fail_no_call_and_lose_no_record() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let mut gate = site.start();
    let callers = Callers::start(gate.front);
    for round in 0..4 {
        let before = callers.answered();
        until("some load", || callers.answered() >= before + 200);
        let next = Successor::spawn(&site, &format!("next-{round}")).serves(&site);
        assert_eq!((next.front, next.admin, next.health), (gate.front, gate.admin, gate.health));
        // It ends well by itself.
        gate.wait();
        gate = next;
    }
    let before = callers.answered();
    until("some load on the last", || callers.answered() >= before + 200);
    let answered = callers.stop();
    gate.stop();

    let records = site.records();
    each_has_one_record(&answered, &records);
    let allows = records.iter().filter(|record| record["decision"] == "allow").count();
    assert_eq!(log::outcomes(&records).len(), allows, "each allow has its outcome");
    assert_eq!(upstream.count(), answered.len(), "each call reached the service once");
    let expected = ["created", "started"].into_iter().chain(["handed_over", "started"].repeat(4));
    assert_eq!(events(&site), expected.chain(["stopped"]).collect::<Vec<_>>());
    site.verify();
}

#[test]
fn a_response_that_streams_across_the_hand_over_arrives_whole() {
    let upstream = Upstream::start(Act::HoldBody);
    let site = Setup::new(&upstream).site();
    let mut old = site.start();
    let client = old.client();
    let (index, body) = block_on(async {
        let request = client.request("GET", "/public/long", None, &[], crate::support::client::empty());
        let mut response = client.exchange(request).await.unwrap();
        let record = response.headers()["portcullis-record"].to_str().unwrap().to_owned();
        let first = response.frame().await.unwrap().unwrap().into_data().unwrap();
        let mut body = first.to_vec();
        let successor = Successor::spawn(&site, "new");
        let new = tokio::task::spawn_blocking({
            let site = Arc::clone(&site);
            move || successor.serves(&site)
        });
        let new = new.await.unwrap();
        assert!(old.runs(), "the old one still answers");
        upstream.release();
        while let Some(frame) = response.frame().await {
            body.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        new.stop();
        (record.rsplit('/').next().unwrap().parse::<u64>().unwrap(), body)
    });
    assert_eq!(body, b"first second");
    let site = old.wait();
    let records = site.records();
    assert_eq!(log::outcomes(&records)[&index]["result"], "unknown", "closed by the new one");
    site.verify();
}

#[test]
fn a_successor_with_a_bad_config_or_policy_leaves_the_old_one_serving() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).policy_keys("watch = false").site();
    let gate = site.start();
    let policy = std::fs::read_to_string(site.path("policy.csv")).unwrap();
    let config = std::fs::read_to_string(site.config()).unwrap();

    std::fs::write(site.path("policy.csv"), "p, only, two\n").unwrap();
    assert!(Successor::spawn(&site, "policy").fails(&site).contains("policy.csv:1"));
    std::fs::write(site.path("policy.csv"), policy).unwrap();
    site.edit_config("workers = 2", "workers = 2\nwrokers = 2");
    assert!(Successor::spawn(&site, "config").fails(&site).contains("wrokers"));
    std::fs::write(site.config(), &config).unwrap();
    // An address that is taken.
    site.edit_config(
        "[health]\nlisten = \"127.0.0.1:0\"",
        &format!("[health]\nlisten = \"{}\"", upstream.address),
    );
    assert!(Successor::spawn(&site, "address").fails(&site).contains("cannot listen"));
    std::fs::write(site.config(), &config).unwrap();
    // A copy of the log is not the log.
    let copied = Command::new("cp").arg("-r").arg(site.log_dir()).arg(site.path("copy")).status().unwrap();
    assert!(copied.success());
    site.edit_config("dir = \"log\"", "dir = \"copy\"");
    assert!(Successor::spawn(&site, "copy").fails(&site).contains("on its own log"));
    std::fs::write(site.config(), &config).unwrap();

    assert_eq!(gate.client().get("/public/a", None).status, 200);
    let site = gate.stop();
    assert_eq!(events(&site), ["created", "started", "stopped"]);
    site.verify();
}

#[test]
fn a_new_config_comes_with_the_take_over_its_addresses_too() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let old = site.start();
    let (front, health) = (old.front, old.health);
    site.edit_config("[health]\nlisten = \"127.0.0.1:0\"", "[health]\nlisten = \"127.0.0.2:0\"");
    let new = Successor::spawn(&site, "new").serves(&site);
    old.wait();
    assert_eq!(new.front, front);
    assert_ne!(new.health.ip(), health.ip());
    assert_eq!(new.health().get("/readyz", None).status, 200);
    assert!(std::net::TcpStream::connect(health).is_err(), "nobody wants it any more");
    new.stop().verify();
}

#[test]
fn without_a_running_gate_a_take_over_is_a_start() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    // Its socket lies there yet, as after any crash.
    let site = site.start().kill();
    let gate = Successor::spawn(&site, "alone").serves(&site);
    assert_eq!(gate.client().get("/public/a", None).status, 200);
    gate.stop().verify();
}

#[test]
fn a_second_process_on_one_origin_is_refused_and_told_who_serves() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let gate = site.start();
    let pid = format!("(pid {})", gate.pid());

    let (_, said) = second(&site, &[]);
    assert!(said.contains("another gate") && said.contains(&pid) && said.contains("--take-over"), "{said}");

    // A replica with a log of its own, under the same name.
    let config = std::fs::read_to_string(site.config()).unwrap();
    site.edit_config("dir = \"log\"", "dir = \"other\"");
    assert!(second(&site, &[]).1.contains(&pid));
    std::fs::write(site.config(), &config).unwrap();

    // With a state directory of its own, the log's lock shows it.
    site.edit_config("state_dir = \"state\"", "state_dir = \"other-state\"");
    let (_, said) = second(&site, &[]);
    assert!(said.contains("in use by another process") && said.contains(&pid), "{said}");
    std::fs::write(site.config(), &config).unwrap();

    assert_eq!(gate.client().get("/public/a", None).status, 200);
    gate.stop().verify();
}

#[test]
fn a_gate_that_was_taken_over_can_be_taken_over_again_and_names_the_new_process() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let first = site.start();
    let new = Successor::spawn(&site, "second").serves(&site);
    first.wait();
    assert!(second(&site, &[]).1.contains(&format!("(pid {})", new.pid())));
    let last = Successor::spawn(&site, "third").serves(&site);
    new.wait();
    last.stop().verify();
}

#[test]
fn a_kept_connection_is_let_go_with_an_answer_that_says_so() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let old = site.start();
    let mut wire = old.wire();
    let call = "GET /public/kept HTTP/1.1\r\nHost: a\r\n\r\n";
    wire.send(call);
    assert!(wire.answer().unwrap().header("connection").is_none());
    // A head that has begun to arrive holds the hand-over up, for a while.
    wire.send(&call[..20]);
    let new = Successor::spawn(&site, "new");
    until("the hand-over", || site.said().contains("handing over"));
    wire.send(&call[20..]);
    let last = wire.answer().unwrap();
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(wire.ends());
    let new = new.serves(&site);
    old.wait();
    new.stop().verify();
}
