//! Witnesses: a log's checkpoints are cosigned by others, who refuse what does not continue what they have seen; and
//! what a gate does while they do not answer, or answer what cannot be.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use portcullis::audit::checkpoint::{
    Checkpoint, CosignerKey, CosigningKey, Note, Origin, SigningKey, Submission, VerifierKey, WitnessPolicy,
};
use portcullis::audit::hash::Hash;
use portcullis::audit::merkle::proof::consistency;
use portcullis::audit::merkle::{Frontier, NodeId};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::gate::{BINARY, ORIGIN, Tls};
use crate::support::{Act, Answer, Client, Gate, Setup, Signer, Site, Upstream, poll, readiness, until};

/// A witness's place: its key, its state, an address; and its process, when it runs.
struct Witness {
    dir: TempDir,
    name: String,
    vkey: String,
    address: SocketAddr,
    process: Option<Child>,
}

impl Witness {
    /// One that does not run yet.
    fn place(name: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let name = format!("{name}.example.com/w");
        let out = Command::new(BINARY)
            .args(["witness", "keygen", "--name", &name, "--out"])
            .arg(dir.path().join("key.pem"))
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let vkey = String::from_utf8(out.stdout).unwrap().trim().to_owned();
        // Free a moment ago: whoever has to be found again after a restart needs an address that stays.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { dir, name, vkey, address, process: None }
    }

    fn start(&mut self, log: &str) {
        let ready = self.dir.path().join("ready");
        let _ = std::fs::remove_file(&ready);
        let mut process = Command::new(BINARY)
            .args(["witness", "serve", "--name", &self.name, "--log", log])
            .args(["--listen", &self.address.to_string()])
            .arg("--key")
            .arg(self.dir.path().join("key.pem"))
            .arg("--state")
            .arg(self.dir.path().join("state"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.dir.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        poll("the witness to listen", || {
            if let Some(status) = process.try_wait().unwrap() {
                panic!("{status}: {}", std::fs::read_to_string(self.dir.path().join("stderr")).unwrap());
            }
            ready.exists().then_some(())
        });
        self.process = Some(process);
    }

    /// Ends it as a crash would.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn post(&self, body: &[u8]) -> Answer {
        Client::http1(self.address).post("/add-checkpoint", None, body.to_vec())
    }

    /// What it has cosigned last: its one state file.
    fn holds(&self) -> Option<(u64, Hash)> {
        let state = std::fs::read_dir(self.dir.path().join("state")).ok()?;
        let mut files = state.map(|entry| entry.unwrap().path());
        let file = files.find(|path| path.extension().is_some_and(|kind| kind == "checkpoint"))?;
        Checkpoint::stated(&std::fs::read(file).unwrap())
    }

    fn table(&self, name: &str) -> String {
        table(name, self.address, &self.vkey)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.kill();
    }
}

fn table(name: &str, address: SocketAddr, vkey: &str) -> String {
    format!("[[witness]]\nname = \"{name}\"\nurl = \"http://{address}\"\nvkey = \"{vkey}\"\n")
}

/// A gate whose log is witnessed by whoever `tables` name.
fn site(upstream: &Upstream, witnesses: &str, tables: &str) -> Arc<Site> {
    Setup::new(upstream).log(&format!("witnesses = {{ {witnesses} }}")).tables(tables).site()
}

/// A figure of the gate, by its name and labels; 0 where there is none yet.
fn figure(gate: &Gate, name: &str) -> f64 {
    let text = gate.health().get("/metrics", None);
    let line =
        text.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
    line.map_or(0.0, |value| value.parse().unwrap())
}

fn failures(gate: &Gate, witness: &str, cause: &str) -> f64 {
    // The order of labels is the recorder's.
    let name = "portcullis_witness_failures_total";
    figure(gate, &format!("{name}{{witness=\"{witness}\",cause=\"{cause}\"}}"))
        + figure(gate, &format!("{name}{{cause=\"{cause}\",witness=\"{witness}\"}}"))
}

fn alarm(gate: &Gate, witness: &str) -> bool {
    figure(gate, &format!("portcullis_witness_alarm{{witness=\"{witness}\"}}")) == 1.0
}

fn checkpoint(gate: &Gate) -> Vec<u8> {
    let token = Signer::usual().token("carol", &["auditor"]);
    let answer = gate.admin().get("/checkpoint", Some(&token));
    assert_eq!(answer.status, 200);
    answer.body
}

/// The size of a checkpoint of `site`'s log.
fn size(site: &Site, note: &[u8]) -> u64 {
    Checkpoint::open(note, &VerifierKey::parse(&site.vkey).unwrap()).unwrap().size()
}

/// Whether all of these have cosigned.
fn cosigned(note: &[u8], vkeys: &[&str]) -> bool {
    let keys: Vec<_> = vkeys.iter().map(|vkey| CosignerKey::parse(vkey).unwrap()).collect();
    let policy = WitnessPolicy::of(keys, vkeys.len());
    policy.judge(&Note::parse(note).unwrap()).unwrap().met
}

#[test]
fn checkpoints_are_cosigned_and_shown_and_verify_under_a_policy_in_every_mode() {
    for mode in ["async", "bounded", "required"] {
        let upstream = Upstream::start(Act::Answer);
        let (mut north, mut south) = (Witness::place("north"), Witness::place("south"));
        let tables = [north.table("north"), south.table("south")].concat();
        let site = site(&upstream, &format!("mode = \"{mode}\""), &tables);
        north.start(&site.vkey);
        south.start(&site.vkey);
        let gate = site.start();
        let index = gate.client().get("/public/a", None).record();
        let both = [north.vkey.as_str(), &south.vkey];
        until("a cosigned checkpoint over the call", || {
            let note = checkpoint(&gate);
            size(&gate, &note) > index && cosigned(&note, &both)
        });
        assert!(!alarm(&gate, "north") && !alarm(&gate, "south"));
        // Neither has lost its word over a restart.
        let gate = gate.stop().start();
        assert!(cosigned(&checkpoint(&gate), &both), "{mode}");
        let site = gate.stop();
        site.verify();
        let policy = |quorum: &str| {
            format!(
                "log {}\nwitness n {}\nwitness s {}\ngroup g all n s\nquorum {quorum}\n",
                site.vkey, north.vkey, south.vkey
            )
        };
        std::fs::write(site.path("good.policy"), policy("g")).unwrap();
        let stranger = Witness::place("stranger").vkey.clone();
        std::fs::write(
            site.path("bad.policy"),
            policy("x").replace("quorum x", &format!("witness x {stranger}\nquorum x")),
        )
        .unwrap();
        let verify = |policy: &str| {
            site.command(&["audit", "verify", "--config", "gate.toml", "--policy", policy, "--json"])
        };
        let good = verify("good.policy");
        assert_eq!(good.status.code(), Some(0), "{mode}: {}", String::from_utf8_lossy(&good.stderr));
        let told: Value = serde_json::from_slice(&good.stdout).unwrap();
        assert_eq!(
            (&told["cosigned"]["met"], &told["cosigned"]["by"][1]["name"]),
            (&true.into(), &"s".into())
        );
        assert_eq!(verify("bad.policy").status.code(), Some(1));
        // What they have said goes along with records that are given away.
        let of = ["audit", "bundle", "--path-prefix", "/public/", "--kind", "decision"];
        let made = site.command(&[&of[..], &["--log", "log", "--out", "case"]].concat());
        assert!(made.status.success(), "{mode}: {made:?}");
        let verify = |policy: &str| {
            let given = ["audit", "verify", "case", "--vkey", &site.vkey, "--policy", policy, "--json"];
            let output = site.command(&given);
            let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
            (output.status.code(), told["holds"].clone(), told["cosigned"]["met"].clone())
        };
        assert_eq!(verify("good.policy"), (Some(0), true.into(), true.into()), "{mode}");
        assert_eq!(verify("bad.policy"), (Some(1), true.into(), false.into()), "{mode}");
        // Without what one of them has said it still holds, and is cosigned no more.
        let mut find = Command::new("find");
        find.arg(site.path("case")).args(["-type", "f", "-exec", "sed", "-i"]);
        let dropped = find.args(["/^[^ ]* south.example.com/d", "{}", "+"]).status().unwrap();
        assert!(dropped.success());
        assert_eq!(verify("good.policy"), (Some(1), true.into(), false.into()), "{mode}");
    }
}

#[test]
fn a_witness_that_is_lost_holds_up_nobody_and_is_caught_up_with_when_it_returns() {
    let upstream = Upstream::start(Act::Answer);
    let mut north = Witness::place("north");
    let site = site(&upstream, "mode = \"async\"", &north.table("north"));
    north.start(&site.vkey);
    let gate = site.start();
    until("the first cosignature", || figure(&gate, "portcullis_witness_cosigned_size") > 0.0);
    north.kill();
    let before = figure(&gate, "portcullis_witness_cosigned_size");
    let mut last = 0;
    until("the lag to show", || {
        last = gate.client().get("/public/a", None).record();
        failures(&gate, "north", "unreachable") > 0.0 && figure(&gate, "portcullis_witness_lag_records") > 2.0
    });
    assert!(figure(&gate, "portcullis_witness_age_seconds") > 0.0);
    assert_eq!(readiness(gate.health())["ready"], true);
    assert!(figure(&gate, "portcullis_witness_cosigned_size") <= before + 3.0);
    assert!(!alarm(&gate, "north"), "to be away is no lie");
    north.start(&gate.vkey);
    until("it to be caught up with", || figure(&gate, "portcullis_witness_cosigned_size") > last as f64);
    assert!(north.holds().unwrap().0 > last);
    gate.stop().verify();
}

#[test]
fn a_bounded_gate_refuses_calls_once_a_record_is_too_old_and_recovers_by_itself() {
    let upstream = Upstream::start(Act::Answer);
    let mut north = Witness::place("north");
    let site = site(&upstream, "mode = \"bounded\", max_age = \"1s\"", &north.table("north"));
    let gate = site.start();
    let refused = poll("a refusal", || {
        let answer = gate.client().get("/public/a", None);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((refused.status, refused.header("portcullis-record")), (503, None));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(refused.header("retry-after"), Some("10"));
    assert_eq!(readiness(gate.health())["log"]["unwitnessed"], true);
    assert_eq!(figure(&gate, "portcullis_witness_denying"), 1.0);
    let seen = upstream.count();
    for _ in 0..20 {
        assert_eq!(gate.client().get("/public/b", None).status, 503);
    }
    assert_eq!(upstream.count(), seen, "a call went through");
    assert!(!gate.records().iter().any(|record| record["request"]["path"] == "/public/b"));
    north.start(&gate.vkey);
    until("calls to be decided again", || gate.client().get("/public/c", None).status == 200);
    assert_eq!(readiness(gate.health())["log"]["unwitnessed"], false);
    gate.stop().verify();
}

/// A witness in this process, that says what it is told to.
struct Fake {
    address: SocketAddr,
    vkey: String,
    held: Arc<AtomicBool>,
}

/// What a [`Fake`] answers to a submission: status, content type, body.
type Say = dyn Fn(&CosigningKey, &[u8]) -> (u16, &'static str, Vec<u8>) + Send + Sync;

impl Fake {
    fn start(
        say: impl Fn(&CosigningKey, &[u8]) -> (u16, &'static str, Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(None, say)
    }

    fn start_with(
        tls: Option<Arc<rustls::ServerConfig>>,
        say: impl Fn(&CosigningKey, &[u8]) -> (u16, &'static str, Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let key = Arc::new(CosigningKey::from_seed(Origin::parse("fake.example.com").unwrap(), &[5; 32]));
        let vkey = key.verifier().to_string();
        let held = Arc::new(AtomicBool::new(false));
        let (holds, say) = (Arc::clone(&held), Arc::new(say) as Arc<Say>);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (key, holds, say) = (Arc::clone(&key), Arc::clone(&holds), Arc::clone(&say));
                let tls = tls.clone();
                std::thread::spawn(move || {
                    let say = |body: &[u8]| {
                        while holds.load(Ordering::SeqCst) {
                            std::thread::yield_now();
                        }
                        say(&key, body)
                    };
                    let _ = match tls {
                        None => answer(stream, say),
                        Some(tls) => {
                            let session = rustls::ServerConnection::new(tls).unwrap();
                            answer(rustls::StreamOwned::new(session, stream), say)
                        }
                    };
                });
            }
        });
        Self { address, vkey, held }
    }

    fn table(&self) -> String {
        table("fake", self.address, &self.vkey)
    }
}

/// One request on a connection of its own.
fn answer(
    mut stream: impl Read + Write,
    say: impl Fn(&[u8]) -> (u16, &'static str, Vec<u8>),
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    let (head, length) = loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..read]);
        let Some(head) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        break (head + 4, length.parse::<usize>().unwrap());
    };
    while request.len() < head + length {
        let read = stream.read(&mut chunk)?;
        request.extend_from_slice(&chunk[..read]);
    }
    let (status, kind, body) = say(&request[head..]);
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    stream.flush()
}

/// Cosigns whatever comes.
fn cosign(key: &CosigningKey, body: &[u8]) -> (u16, &'static str, Vec<u8>) {
    let submission = Submission::parse(body).unwrap();
    let note = Note::parse(submission.note).unwrap();
    (200, "text/plain", key.cosign(note.text(), 1_700_000_000).into_bytes())
}

#[test]
fn where_cosignatures_are_required_nothing_reaches_the_upstream_before_a_quorum_has_cosigned_its_record() {
    let upstream = Upstream::start(Act::Answer);
    let fake = Fake::start(cosign);
    let mut north = Witness::place("north");
    let tables = [fake.table(), north.table("north")].concat();
    let site = Setup::new(&upstream)
        .log("timeout = \"1m\"\nwitnesses = { mode = \"required\", quorum = 2 }")
        .tables(&tables)
        .site();
    north.start(&site.vkey);
    let gate = site.start();
    let first = gate.client().get("/public/first", None);
    assert_eq!(first.status, 200);
    let seen = upstream.count();
    // What follows stands alone: nothing older is on its way to the witnesses.
    gate.outcome_of(first.record());
    until("all of it to be cosigned", || figure(&gate, "portcullis_witness_lag_records") == 0.0);

    fake.held.store(true, Ordering::SeqCst);
    let client = gate.client();
    let calling = std::thread::spawn(move || client.get("/public/waits", None));
    let record = gate.record_where("its record", |record| record["request"]["path"] == "/public/waits");
    let index = record["index"].as_u64().unwrap();
    // One of two has cosigned it, which is not a quorum.
    until("the other witness to have cosigned it", || north.holds().is_some_and(|(size, _)| size > index));
    assert!(figure(&gate, "portcullis_witness_cosigned_size") <= index as f64);
    let denied = std::thread::spawn(move || client.get("/elsewhere", None));
    gate.record_where("the denial's record", |record| record["request"]["path"] == "/elsewhere");
    assert_eq!(upstream.count(), seen, "it went through before a quorum had cosigned it");
    assert!(!calling.is_finished() && !denied.is_finished());
    fake.held.store(false, Ordering::SeqCst);
    let answer = calling.join().unwrap();
    assert_eq!((answer.status, answer.record(), upstream.count()), (200, index, seen + 1));
    assert_eq!(denied.join().unwrap().status, 401);
    assert!(figure(&gate, "portcullis_witness_cosigned_size") > index as f64);
    gate.stop().verify();
}

#[test]
fn where_cosignatures_are_required_and_do_not_come_the_answer_is_503_and_the_record_says_not_forwarded() {
    let upstream = Upstream::start(Act::Answer);
    let fake = Fake::start(cosign);
    let site = Setup::new(&upstream)
        .log("timeout = \"300ms\"\nwitnesses = { mode = \"required\", max_age = \"1h\" }")
        .tables(&fake.table())
        .site();
    let gate = site.start();
    assert_eq!(gate.client().get("/public/first", None).status, 200);
    fake.held.store(true, Ordering::SeqCst);
    let answer = gate.client().get("/public/waits", None);
    assert_eq!((answer.status, answer.header("portcullis-record"), upstream.count()), (503, None, 1));
    let record = gate.record_where("its record", |record| record["request"]["path"] == "/public/waits");
    let outcome = gate.outcome_of(record["index"].as_u64().unwrap());
    assert_eq!(outcome["result"], "not_forwarded", "{outcome}");
    fake.held.store(false, Ordering::SeqCst);
    until("calls to go through again", || gate.client().get("/public/again", None).status == 200);
    gate.stop().verify();
}

#[test]
fn a_witness_that_says_what_cannot_be_raises_an_alarm_and_releases_nothing() {
    let sized = |size: u64| (409, "text/x.tlog.size", format!("{size}\n").into_bytes());
    let turn = Arc::new(AtomicUsize::new(0));
    let once = Arc::clone(&turn);
    let others = CosigningKey::from_seed(Origin::parse("fake.example.com").unwrap(), &[6; 32]);
    let table: Vec<(&str, Box<Say>)> = vec![
        ("ahead", Box::new(move |_, _| sized(1_000_000))),
        (
            "forked",
            Box::new(|_, body| {
                let old = Submission::parse(body).unwrap().old;
                (409, "text/x.tlog.size", format!("{old}\n").into_bytes())
            }),
        ),
        ("forked", Box::new(|_, _| (422, "text/plain", b"no\n".to_vec()))),
        (
            "set_back",
            Box::new(
                move |key, body| {
                    if once.fetch_add(1, Ordering::SeqCst) == 0 { cosign(key, body) } else { sized(0) }
                },
            ),
        ),
        (
            "bad_cosignature",
            Box::new(|key, body| {
                let mut line = cosign(key, body).2;
                let at = line.len() - 4;
                line[at] = if line[at] == b'A' { b'B' } else { b'A' };
                (200, "text/plain", line)
            }),
        ),
        ("bad_cosignature", Box::new(move |_, body| cosign(&others, body))),
        (
            "bad_cosignature",
            Box::new(|key, _| (200, "text/plain", key.cosign("elsewhere\n1\nAAAA\n", 1).into_bytes())),
        ),
        ("bad_cosignature", Box::new(|_, _| (200, "text/plain", b"\n".to_vec()))),
        ("answer", Box::new(|_, _| (409, "text/plain", b"5\n".to_vec()))),
        ("answer", Box::new(|_, _| (409, "text/x.tlog.size", b"05\n".to_vec()))),
        ("answer", Box::new(|_, _| (500, "text/plain", b"\n".to_vec()))),
        ("unknown_log", Box::new(|_, _| (404, "text/plain", b"\n".to_vec()))),
        ("unknown_log", Box::new(|_, _| (403, "text/plain", b"\n".to_vec()))),
    ];
    for (number, (cause, say)) in table.into_iter().enumerate() {
        let upstream = Upstream::start(Act::Answer);
        let fake = Fake::start(say);
        let site = Setup::new(&upstream)
            .log("timeout = \"300ms\"\nwitnesses = { mode = \"required\", max_age = \"1h\" }")
            .tables(&fake.table())
            .site();
        let gate = site.start();
        if cause == "set_back" {
            until("the one good answer", || figure(&gate, "portcullis_witness_cosigned_size") > 0.0);
        }
        let before = figure(&gate, "portcullis_witness_cosigned_size");
        assert_eq!(gate.client().get("/public/a", None).status, 503, "{number}: {cause}");
        until(cause, || failures(&gate, "fake", cause) > 0.0);
        let alarms = matches!(cause, "ahead" | "forked" | "set_back" | "bad_cosignature");
        assert_eq!(alarm(&gate, "fake"), alarms, "{number}: {cause}");
        assert_eq!(upstream.count(), 0, "{number}: {cause} let a call through");
        assert_eq!(figure(&gate, "portcullis_witness_cosigned_size"), before, "{number}: {cause}");
        gate.stop().verify();
    }
}

#[test]
fn a_witness_behind_tls_is_asked_only_if_its_certificate_holds() {
    for (trusted, cause) in [("ca_file = \"cert.pem\"\n", None), ("", Some("unreachable"))] {
        let upstream = Upstream::start(Act::Answer);
        let fake = Fake::start_with(Some(Tls::shared().server_config(&[b"http/1.1"])), cosign);
        let table = fake.table().replace("http://", "https://") + trusted;
        let gate = site(&upstream, "mode = \"async\"", &table).start();
        match cause {
            None => until("a cosignature", || figure(&gate, "portcullis_witness_cosigned_size") > 0.0),
            Some(cause) => {
                until("its refusal", || failures(&gate, "fake", cause) > 0.0);
                assert_eq!(figure(&gate, "portcullis_witness_cosigned_size"), 0.0);
            }
        }
        gate.stop().verify();
    }
}

#[test]
fn a_fork_of_the_log_that_is_signed_with_its_own_key_is_cosigned_by_nobody_and_raises_an_alarm() {
    let upstream = Upstream::start(Act::Answer);
    let mut north = Witness::place("north");
    let site = site(&upstream, "mode = \"async\"", &north.table("north"));
    north.start(&site.vkey);
    let cosigned_past = |gate: &Gate, index: u64| {
        until("the cosignature", || figure(gate, "portcullis_witness_cosigned_size") > index as f64);
    };
    let gate = site.start();
    cosigned_past(&gate, gate.client().get("/public/both", None).record());
    let site = gate.stop();
    copy(&site.log_dir(), &site.path("fork"));
    // The log goes on, and is witnessed.
    let gate = site.start();
    cosigned_past(&gate, gate.client().get("/public/true", None).record());
    let site = gate.stop();
    let truth = north.holds().unwrap();
    // Somebody brings its copy in its place and goes on with that.
    std::fs::rename(site.log_dir(), site.path("true")).unwrap();
    std::fs::rename(site.path("fork"), site.log_dir()).unwrap();
    let gate = site.start();
    let shorter = figure(&gate, "portcullis_log_size") < truth.0 as f64;
    if shorter {
        until("a log that was set back to show", || failures(&gate, "north", "ahead") > 0.0);
    }
    until("the fork to be as long", || gate.client().get("/public/fork", None).record() > truth.0);
    until("the fork to show", || failures(&gate, "north", "forked") > 0.0);
    assert!(alarm(&gate, "north"));
    assert_eq!(north.holds(), Some(truth), "it has cosigned another history");
    let site = gate.stop();
    // By itself the fork is a good log.
    site.verify();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A log of small trees, that is like no other from leaf `forked` on.
#[derive(Clone, Copy)]
struct Tree {
    forked: u64,
    branch: u64,
}

const TRUE: Tree = Tree { forked: u64::MAX, branch: 0 };

impl Tree {
    fn leaf(self, index: u64) -> Hash {
        let branch = if index >= self.forked { self.branch } else { 0 };
        Hash::leaf(&[index, branch].map(u64::to_be_bytes).concat())
    }

    fn root_of(self, leaves: std::ops::Range<u64>) -> Hash {
        let mut tree = Frontier::new();
        leaves.for_each(|index| tree.push(self.leaf(index), |_, _| ()));
        tree.root()
    }

    fn body(self, old: u64, size: u64) -> Vec<u8> {
        let fetch = |id: NodeId| {
            Ok::<_, std::convert::Infallible>(self.root_of(id.index << id.level..(id.index + 1) << id.level))
        };
        let note = log_key().sign(size, &self.root_of(0..size));
        let proof = consistency(old, size, fetch).unwrap();
        Submission { old, proof, note: note.as_bytes() }.to_bytes()
    }
}

fn log_key() -> SigningKey {
    SigningKey::from_seed(Origin::parse(ORIGIN).unwrap(), &[3; 32])
}

#[test]
fn a_witness_killed_at_any_moment_never_cosigns_two_histories() {
    let mut witness = Witness::place("north");
    let vkey = log_key().verifier().to_string();
    witness.start(&vkey);
    // What it has cosigned, by size: there may be one root for each.
    let mut said = BTreeMap::<u64, Vec<u8>>::new();
    let mut held = 0;
    for round in 0..12u64 {
        let next = held + 1 + round % 3;
        let address = witness.address;
        let asking = std::thread::spawn(move || {
            let body = TRUE.body(held, next);
            let mut stream = TcpStream::connect(address).ok()?;
            let head =
                format!("POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).ok()?;
            let mut answer = vec![0; 12];
            stream.read_exact(&mut answer).ok()?;
            answer.ends_with(b"200").then_some(())
        });
        // Sometimes after it has answered, sometimes before.
        let answered = if round % 2 == 0 { asking.join().unwrap() } else { None };
        witness.kill();
        witness.start(&vkey);
        let now = witness.holds().map_or(0, |(size, _)| size);
        assert!(answered.is_none() || now == next, "it forgot what it had cosigned");
        for size in [now, now + 1, now + 5].into_iter().filter(|_| now > 0) {
            let fork = Tree { forked: now - 1, branch: 7 + round };
            let answer = witness.post(&fork.body(now, size));
            assert!(matches!(answer.status, 409 | 422), "round {round}: a fork at {size}: {}", answer.status);
        }
        let answer = witness.post(&TRUE.body(now, now + 1));
        assert_eq!(answer.status, 200, "{}", answer.text());
        said.insert(now + 1, answer.body);
        held = now + 1;
    }
    for (size, line) in said {
        let text = format!("{ORIGIN}\n{size}\n");
        let note = String::from_utf8(log_key().sign(size, &TRUE.root_of(0..size)).into_bytes()).unwrap();
        assert!(note.starts_with(&text));
        assert!(cosigned(&[note.as_bytes(), &line].concat(), &[&witness.vkey]));
    }
}

#[test]
fn of_many_at_once_that_continue_the_same_checkpoint_differently_one_is_cosigned() {
    let mut witness = Witness::place("north");
    witness.start(&log_key().verifier().to_string());
    let answers = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for branch in 1..17 {
            let (answers, witness) = (&answers, &witness);
            scope.spawn(move || {
                let answer = witness.post(&Tree { forked: 0, branch }.body(0, 4));
                answers.lock().unwrap().push((branch, answer));
            });
        }
    });
    let answers = answers.into_inner().unwrap();
    let good: Vec<_> = answers.iter().filter(|(_, answer)| answer.status == 200).collect();
    assert_eq!(good.len(), 1);
    for (_, answer) in answers.iter().filter(|(_, answer)| answer.status != 200) {
        assert_eq!((answer.status, answer.text()), (409, "4\n"));
        assert_eq!(answer.header("content-type"), Some("text/x.tlog.size"));
    }
    let base = Tree { forked: 0, branch: good[0].0 };
    assert_eq!(witness.holds(), Some((4, base.root_of(0..4))));
    assert_eq!(witness.post(&base.body(4, 9)).status, 200);
}

#[test]
fn a_witness_answers_as_the_specification_says_and_bounds_what_it_reads() {
    let mut witness = Witness::place("north");
    witness.start(&log_key().verifier().to_string());
    let client = Client::http1(witness.address);
    assert_eq!(client.get("/add-checkpoint", None).status, 405);
    assert_eq!(client.post("/elsewhere", None, "x").status, 404);
    assert_eq!(witness.post(b"nothing of the kind").status, 400);
    assert_eq!(witness.post(&vec![b'x'; 300_000]).status, 413);
    let other = SigningKey::from_seed(Origin::parse("other.example.com").unwrap(), &[3; 32]);
    let of = |key: &SigningKey| {
        let note = key.sign(4, &TRUE.root_of(0..4));
        Submission { old: 0, proof: Vec::new(), note: note.as_bytes() }.to_bytes()
    };
    assert_eq!(witness.post(&of(&other)).status, 404);
    assert_eq!(
        witness.post(&of(&SigningKey::from_seed(Origin::parse(ORIGIN).unwrap(), &[4; 32]))).status,
        403
    );
    assert_eq!(witness.post(&of(&log_key())).status, 200);
    assert_eq!(witness.post(&Tree { forked: 0, branch: 1 }.body(4, 6)).status, 422);
    // A second one has no business in the first one's state.
    let second = Command::new(BINARY)
        .args(["witness", "serve", "--name", &witness.name, "--listen", "127.0.0.1:0"])
        .args(["--log", &log_key().verifier().to_string()])
        .arg("--key")
        .arg(witness.dir.path().join("key.pem"))
        .arg("--state")
        .arg(witness.dir.path().join("state"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another witness"));
}
