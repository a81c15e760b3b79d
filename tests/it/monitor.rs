//! A monitor follows a gate's log from outside: it sees a fork, a rollback, a stall, and whatever does not hold on the way; and
//! what it has seen it does not forget.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis::audit::checkpoint::{Checkpoint, CosigningKey, Note, Origin, SigningKey, VerifierKey};
use portcullis::audit::hash::Hash;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::gate::{BINARY, ORIGIN, POLICY, Tls};
use crate::support::mutual::{Authority, Says};
use crate::support::{Act, Client, Gate, Setup, Signer, Site, Upstream, poll, until};

/// Somebody who follows a log: the key, the token, the state.
struct Watch {
    dir: TempDir,
    vkey: String,
}

/// What came of one look.
struct Look {
    code: Option<i32>,
    json: Value,
    said: String,
}

impl Watch {
    fn of(site: &Site) -> Self {
        let watch = Self { dir: TempDir::new().unwrap(), vkey: site.vkey.clone() };
        watch.show("carol", &["auditor"]);
        watch
    }

    /// Puts another caller's token into the file.
    fn show(&self, subject: &str, roles: &[&str]) {
        std::fs::write(self.path("token"), Signer::usual().token(subject, roles) + "\n").unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn state(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    fn command(&self, url: &str, more: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["monitor", url, "--vkey", &self.vkey, "--json"]).args(more);
        command.arg("--state").arg(self.path("state")).arg("--token-file").arg(self.path("token"));
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    fn look_at(&self, url: &str, more: &[&str]) -> Look {
        let Output { status, stdout, stderr } = self.command(url, more).output().unwrap();
        let json = serde_json::from_slice(&stdout).unwrap_or(Value::Null);
        Look { code: status.code(), json, said: String::from_utf8(stderr).unwrap() }
    }

    fn look(&self, at: SocketAddr) -> Look {
        self.look_at(&format!("http://{at}"), &[])
    }

    /// The note that is believed.
    fn kept(&self) -> Vec<u8> {
        std::fs::read(self.state("checkpoint")).unwrap()
    }

    fn kept_size(&self) -> u64 {
        Checkpoint::stated(&self.kept()).unwrap().0
    }

    /// Lets it have seen its last checkpoint an hour ago.
    fn an_hour_passes(&self) {
        let file = std::fs::File::options().write(true).open(self.state("checkpoint")).unwrap();
        let seen = file.metadata().unwrap().modified().unwrap();
        file.set_modified(seen - Duration::from_secs(3600)).unwrap();
    }
}

impl Look {
    fn holds(&self) -> &Self {
        assert_eq!((self.code, &self.json["holds"]), (Some(0), &true.into()), "{} {}", self.json, self.said);
        self
    }

    fn finds(&self, code: i32, faults: &[&str]) -> &Self {
        let found: Vec<_> = self.json["faults"].as_array().unwrap_or(&Vec::new()).clone();
        assert_eq!(
            (self.code, found),
            (Some(code), faults.iter().map(|word| (*word).into()).collect()),
            "{} {}",
            self.json,
            self.said
        );
        assert!(!self.said.is_empty(), "it is said, too");
        self
    }
}

fn call(gate: &Gate, calls: usize, path: &str) {
    for n in 0..calls {
        assert_eq!(gate.client().get(&format!("/public/{path}/{n}"), None).status, 200);
    }
}

/// What a [`Middleman`] does with an answer: the path, the status and the body that came; the status and the body that go on.
type Meddle = dyn Fn(&str, u16, Vec<u8>) -> (u16, Vec<u8>) + Send + Sync;

/// Stands between a monitor and a gate.
struct Middleman {
    address: SocketAddr,
    meddle: Arc<Mutex<Arc<Meddle>>>,
}

impl Middleman {
    fn before(gate: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let honest: Arc<Meddle> = Arc::new(|_, status, body| (status, body));
        let meddle = Arc::new(Mutex::new(honest));
        let shared = Arc::clone(&meddle);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let meddle = Arc::clone(&shared.lock().unwrap());
                std::thread::spawn(move || pass(stream, gate, &*meddle));
            }
        });
        Self { address, meddle }
    }

    fn does(&self, meddle: impl Fn(&str, u16, Vec<u8>) -> (u16, Vec<u8>) + Send + Sync + 'static) {
        *self.meddle.lock().unwrap() = Arc::new(meddle);
    }

    fn does_nothing(&self) {
        self.does(|_, status, body| (status, body));
    }
}

/// One request on a connection of its own.
fn pass(mut stream: TcpStream, gate: SocketAddr, meddle: &Meddle) -> std::io::Result<()> {
    let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&chunk[..read]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let token = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
    let answer = Client::http1(gate).get(path, token);
    let (status, body) = meddle(path, answer.status, answer.body);
    let location = if status == 302 { format!("Location: http://{gate}{path}\r\n") } else { String::new() };
    write!(
        stream,
        "HTTP/1.1 {status} X\r\n{location}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}

#[test]
fn a_growing_log_is_followed_over_restarts_and_the_first_look_says_that_it_trusts() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let watch = Watch::of(&gate);
    call(&gate, 1, "a");
    let plain = Command::new(BINARY)
        .args(["monitor", &format!("http://{}", gate.admin), "--vkey", &gate.vkey, "--state"])
        .arg(watch.path("other"))
        .arg("--token-file")
        .arg(watch.path("token"))
        .output()
        .unwrap();
    assert!(String::from_utf8(plain.stdout).unwrap().contains("trusted on first use"));
    let first = watch.look(gate.admin);
    assert_eq!(first.holds().json["first_use"], true);
    let mut gate = gate;
    // Over the end of tiles, in large steps and small ones.
    for calls in [1, 2, 120, 140, 5, 0] {
        let before = watch.kept_size();
        call(&gate, calls, "b");
        // What is shown grows even when nobody calls: the restart is recorded, and the look itself.
        gate = gate.stop().start();
        let look = watch.look(gate.admin);
        assert_eq!(look.holds().json["first_use"], false);
        assert_eq!(look.json["before"], before);
        assert!(watch.kept_size() > before);
        assert_eq!(look.json["size"], watch.kept_size());
    }
    assert!(watch.kept_size() > 512, "there are full tiles and partial ones");
    // What it keeps are notes as they were signed, for every other tool.
    let kept = watch.kept();
    Checkpoint::open(&kept, &VerifierKey::parse(&gate.vkey).unwrap()).unwrap();
    let site = gate.stop();
    std::fs::write(site.path("kept"), kept).unwrap();
    let verified = site.command(&["audit", "verify", "--config", "gate.toml", "--against", "kept"]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[test]
fn a_log_that_was_forked_is_found_said_again_and_never_moved_on_from_until_somebody_has_looked() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    call(&gate, 3, "both");
    let one = gate.stop();
    let other = one.copy();
    let (one, other) = (one.start(), other.start());
    call(&one, 5, "one");
    call(&other, 40, "other");
    let watch = Watch::of(&one);
    watch.look(one.admin).holds();
    let kept = watch.kept();
    let found = watch.look(other.admin);
    found.finds(1, &["fork"]);
    // Both notes are kept, both signed by the log's key, and where they are is said.
    let key = VerifierKey::parse(&one.vkey).unwrap();
    let read = |name| Checkpoint::open(&std::fs::read(watch.state(name)).unwrap(), &key).unwrap();
    let (before, shown) = (read("evidence.kept"), read("evidence.shown"));
    assert_eq!(std::fs::read(watch.state("evidence.kept")).unwrap(), kept);
    assert!(shown.size() > before.size());
    for name in ["evidence.json", "evidence.kept", "evidence.shown"] {
        let path = watch.state(name).display().to_string();
        assert!(found.said.contains(&path), "{path} in {}", found.said);
        assert!(found.json["evidence"].as_array().unwrap().contains(&path.into()));
    }
    assert_eq!(watch.kept(), kept, "it did not move on");
    // Neither log makes it forget; nor does it take another one.
    for at in [other.admin, one.admin] {
        watch.look(at).finds(1, &["fork"]);
        assert_eq!(watch.kept(), kept);
    }
    // Nor does it when the gate is gone: what it has found is worse.
    let (one, other) = (one.stop(), other);
    watch.look(other.admin).finds(1, &["fork"]);
    let one = one.start();
    std::fs::remove_file(watch.state("evidence.json")).unwrap();
    watch.look(one.admin).holds();
    watch.look(other.admin).finds(1, &["fork"]);
}

#[test]
fn two_roots_of_one_size_are_a_fork() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let middleman = Middleman::before(gate.admin);
    let watch = Watch::of(&gate);
    watch.look(middleman.address).holds();
    let pem = std::fs::read_to_string(gate.path("log.pem")).unwrap();
    let key = SigningKey::from_pkcs8_pem(Origin::parse(ORIGIN).unwrap(), &pem).unwrap();
    let size = watch.kept_size();
    // A line that nothing signs, as if another key did, and nothing else answered, does not hide it.
    let unknown = SigningKey::generate(Origin::parse(ORIGIN).unwrap()).unwrap();
    middleman.does(move |path, _, body| match path {
        "/checkpoint" => (200, key.sign_beside(Some(&unknown), size, &Hash::of(b"another")).into_bytes()),
        _ => (503, body),
    });
    watch.look(middleman.address).finds(1, &["fork"]);
    assert!(watch.state("evidence.json").exists());
}

#[test]
fn a_log_that_was_set_back_to_an_old_copy_is_found() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).start().stop();
    let backup = site.copy();
    let gate = site.start();
    call(&gate, 30, "lost");
    let watch = Watch::of(&gate);
    watch.look(gate.admin).holds();
    let kept = watch.kept();
    gate.stop();
    let gate = backup.start();
    let found = watch.look(gate.admin);
    found.finds(1, &["rollback"]);
    assert!(found.json["evidence"][0].as_str().unwrap().ends_with("evidence.json"));
    // Nor is it forgotten once the log has outgrown what was lost.
    call(&gate, 40, "new");
    watch.look(gate.admin).finds(1, &["rollback"]);
    assert_eq!(watch.kept(), kept);
    // Then it is what such a log has become: a fork.
    std::fs::remove_file(watch.state("evidence.json")).unwrap();
    watch.look(gate.admin).finds(1, &["fork"]);
}

#[test]
fn a_log_that_shows_nothing_new_is_a_stall_and_an_idle_gate_is_none() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let middleman = Middleman::before(gate.admin);
    let watch = Watch::of(&gate);
    watch.look(middleman.address).holds();
    // Nobody calls; but that somebody looks is on record.
    watch.an_hour_passes();
    watch.show("dave", &["auditor"]);
    watch.look(middleman.address).holds();
    // Old answers, for ever.
    let old = watch.kept();
    middleman.does(move |path, status, body| match path {
        "/checkpoint" => (200, old.clone()),
        _ => (status, body),
    });
    call(&gate, 3, "unseen");
    watch.look(middleman.address).holds();
    watch.an_hour_passes();
    watch.look(middleman.address).finds(1, &["stall"]);
    assert_eq!(
        watch.look_at(&format!("http://{}", middleman.address), &["--stall-after", "2h"]).code,
        Some(0)
    );
    // It is over with the first new record.
    middleman.does_nothing();
    watch.look(middleman.address).holds();
    // A gate that is away is first that, and after a while no longer only that.
    let (admin, _site) = (gate.admin, gate.stop());
    watch.look(admin).finds(2, &["unreachable"]);
    watch.an_hour_passes();
    watch.look(admin).finds(1, &["unreachable", "stall"]);
    assert!(!watch.state("evidence.json").exists());
}

#[test]
fn what_a_middleman_changes_is_named_and_changes_nothing() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    call(&gate, 140, "a");
    let middleman = Middleman::before(gate.admin);
    let watch = Watch::of(&gate);
    watch.look(middleman.address).holds();
    let kept = watch.kept();
    call(&gate, 140, "b");
    let look = |more: &[&str]| watch.look_at(&format!("http://{}", middleman.address), more);
    let flip = |mut body: Vec<u8>, at: usize| {
        body[at] ^= 1;
        body
    };
    let mut tiles = 0;
    for (prefix, more, word) in [
        ("/tile/0/001", &[][..], "bad_tile"),
        ("/tile/0/002.p", &[], "bad_tile"),
        ("/tile/1/", &[], "bad_tile"),
        ("/tile/entries/", &["--records"], "bad_record"),
    ] {
        for at in [0, 17, 31] {
            middleman.does(move |path, status, body| {
                (status, if path.starts_with(prefix) { flip(body, at) } else { body })
            });
            look(more).finds(1, &[word]);
            tiles += 1;
        }
        middleman.does(move |path, status, mut body| {
            if path.starts_with(prefix) {
                body.truncate(body.len() - 1);
            }
            (status, body)
        });
        look(more).finds(1, &[word]);
    }
    assert_eq!(tiles, 12);
    // A record that reads as well as before.
    middleman.does(move |path, status, body| {
        let word = body.windows(8).rposition(|bytes| bytes == b"/public/");
        (status, if path.starts_with("/tile/entries/") { flip(body, word.unwrap() + 1) } else { body })
    });
    look(&["--records"]).finds(1, &["bad_record"]);
    for (what, word, code) in [
        ("signature", "bad_signature", 1),
        ("origin", "wrong_origin", 1),
        ("words", "garbage", 1),
        ("nothing", "garbage", 1),
        ("flood", "garbage", 1),
        ("redirect", "garbage", 1),
        ("not there", "garbage", 1),
        ("later", "unreachable", 2),
        ("no token", "refused", 2),
        ("no right", "refused", 2),
    ] {
        middleman.does(move |path, status, body| {
            if path != "/checkpoint" {
                return (status, body);
            }
            match what {
                "signature" => {
                    let text = String::from_utf8(body).unwrap();
                    let size = text.lines().nth(1).unwrap().to_owned();
                    (status, text.replacen(&size, &format!("{size}0"), 1).into_bytes())
                }
                "origin" => {
                    (status, String::from_utf8(body).unwrap().replace(ORIGIN, "other.example").into_bytes())
                }
                "words" => (status, b"<html>Welcome</html>".to_vec()),
                "nothing" => (status, Vec::new()),
                "flood" => (status, vec![b'x'; 10 << 20]),
                "redirect" => (302, Vec::new()),
                "not there" => (404, Vec::new()),
                "later" => (503, Vec::new()),
                "no token" => (401, Vec::new()),
                _ => (403, Vec::new()),
            }
        });
        look(&[]).finds(code, &[word]);
    }
    assert_eq!(watch.kept(), kept, "nothing was believed");
    assert!(!watch.state("evidence.json").exists(), "and nothing of it is evidence against the log");
    middleman.does_nothing();
    let good = look(&["--records"]);
    assert!(good.holds().json["records_read"].as_u64().unwrap() > 256);
}

#[test]
fn tiles_and_checkpoint_are_all_that_a_monitor_need_be_let_read() {
    let upstream = Upstream::start(Act::Answer);
    let guide = include_str!("../../docs/monitor.md");
    let rows: Vec<&str> = guide
        .lines()
        .filter(|line| line.contains("role:monitor") && (line.ends_with("allow") || line.starts_with("g, ")))
        .collect();
    assert_eq!(rows.len(), 3, "the guide's");
    let rows = rows.join("\n") + "\n";
    let gate = Setup::new(&upstream).policy(&format!("{POLICY}{rows}")).start();
    let watch = Watch::of(&gate);
    for (subject, roles, code) in [("alice", &["viewer"][..], 2), ("mona", &[], 0)] {
        watch.show(subject, roles);
        let look = watch.look_at(&format!("http://{}", gate.admin), &["--records"]);
        match code {
            0 => drop(look.holds()),
            code => drop(look.finds(code, &["refused"])),
        }
    }
    let token = std::fs::read_to_string(watch.path("token")).unwrap();
    assert_eq!(gate.admin().get("/v1/status", Some(token.trim())).status, 403);
    std::fs::write(watch.path("token"), "no token\n").unwrap();
    watch.look(gate.admin).finds(2, &["refused"]);
    std::fs::remove_file(watch.path("token")).unwrap();
    watch.look(gate.admin).finds(2, &["state"]);
}

/// Changes the log's key as an operator does; the new vkey.
fn rotate(site: &Site, old: &str, new: &str, overlap: &str) -> String {
    let made = site.command(&["keygen", "--origin", ORIGIN, "--out", new]);
    assert!(made.status.success());
    site.edit_config(
        &format!("\nkey_file = \"{old}\"\n"),
        &format!("\nkey_file = \"{new}\"\nretiring_key_file = \"{old}\"\nkey_overlap = \"{overlap}\"\n"),
    );
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_change_of_the_logs_key_is_followed_whenever_it_is_noticed() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    call(&gate, 150, "a");
    let [awake, asleep, late, new] = [(); 4].map(|()| Watch::of(&gate));
    awake.look(gate.admin).holds();
    asleep.look(gate.admin).holds();
    let site = gate.stop();
    let vkey = rotate(&site, "log.pem", "log-2.pem", "7d");
    let gate = site.start();
    call(&gate, 5, "b");
    // Both keys sign: the change is learnt of before it is needed.
    assert_eq!(awake.look(gate.admin).holds().json["vkey"], vkey);
    assert_eq!(late.look(gate.admin).holds().json["vkey"], vkey, "from its first look on");
    let site = gate.stop();
    site.edit_config("key_overlap = \"7d\"\n", "key_overlap = \"0s\"\n");
    let gate = site.start();
    call(&gate, 150, "c");
    let signed = String::from_utf8(
        gate.admin().get("/checkpoint", Some(&Signer::usual().token("carol", &["auditor"]))).body,
    )
    .unwrap();
    assert_eq!(
        signed.lines().filter(|line| line.starts_with('\u{2014}')).count(),
        1,
        "the new key signs alone"
    );
    let middleman = Middleman::before(gate.admin);
    middleman.does(|path, status, body| match path.starts_with("/tile/entries/") {
        true => (403, Vec::new()),
        false => (status, body),
    });
    for watch in [&awake, &asleep, &late, &new] {
        assert_eq!(watch.look(gate.admin).holds().json["vkey"], vkey);
        // And once more, by what is remembered of it: the records are not read again.
        call(&gate, 1, "d");
        watch.look(middleman.address).holds();
    }
    let stranger = SigningKey::generate(Origin::parse(ORIGIN).unwrap()).unwrap();
    let mut other = Watch::of(&gate);
    other.vkey = stranger.verifier().to_string();
    other.look(gate.admin).finds(1, &["bad_signature"]);
    assert!(!other.state("checkpoint").exists());
    other.vkey = vkey;
    other.look(gate.admin).holds();
}

#[test]
fn who_may_not_read_records_follows_until_the_new_key_signs_alone() {
    let upstream = Upstream::start(Act::Answer);
    let rows = "p, role:auditor, admin, /tile/entries/*, GET, deny\n";
    let gate = Setup::new(&upstream).policy(&format!("{POLICY}{rows}")).start();
    let mut watch = Watch::of(&gate);
    watch.look(gate.admin).holds();
    let site = gate.stop();
    let vkey = rotate(&site, "log.pem", "log-2.pem", "7d");
    let gate = site.start();
    let look = watch.look(gate.admin);
    assert_eq!(look.holds().json["vkey"], watch.vkey);
    assert!(look.said.contains("may not be read"), "{}", look.said);
    let site = gate.stop();
    site.edit_config("key_overlap = \"7d\"\n", "key_overlap = \"0s\"\n");
    let gate = site.start();
    call(&gate, 1, "a");
    watch.look(gate.admin).finds(2, &["refused"]);
    watch.vkey = vkey;
    watch.look(gate.admin).holds();
}

#[test]
fn a_change_of_keys_that_somebody_hid_while_both_signed_is_found_from_the_beginning() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let watch = Watch::of(&gate);
    watch.look(gate.admin).holds();
    let site = gate.stop();
    let vkey = rotate(&site, "log.pem", "log-2.pem", "7d");
    let gate = site.start();
    let middleman = Middleman::before(gate.admin);
    let old = VerifierKey::parse(&watch.vkey).unwrap();
    middleman.does(move |path, status, body| {
        if path != "/checkpoint" {
            return (status, body);
        }
        let text = String::from_utf8(body).unwrap();
        let (signed, lines) = text.split_once("\n\n").unwrap();
        let of_old = |line: &&str| {
            let alone = format!("{signed}\n\n{line}\n");
            Note::parse(alone.as_bytes()).unwrap().is_signed_by(&old) == Ok(true)
        };
        let line = lines.lines().find(of_old).unwrap();
        (status, format!("{signed}\n\n{line}\n").into_bytes())
    });
    assert_eq!(watch.look(middleman.address).holds().json["vkey"], watch.vkey);
    let site = gate.stop();
    site.edit_config("key_overlap = \"7d\"\n", "key_overlap = \"0s\"\n");
    let gate = site.start();
    call(&gate, 1, "b");
    assert_eq!(watch.look(gate.admin).holds().json["vkey"], vkey);
}

#[test]
fn a_monitor_that_is_killed_at_any_step_has_believed_the_old_checkpoint_or_the_new_one() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    call(&gate, 140, "a");
    let middleman = Middleman::before(gate.admin);
    let watch = Watch::of(&gate);
    watch.look(middleman.address).holds();
    let url = format!("http://{}", middleman.address);
    let mut killed = 0;
    for step in 0.. {
        call(&gate, 2, &format!("b{step}"));
        let kept = watch.kept();
        let (process, seen) = (Arc::new(Mutex::new(None::<Child>)), Arc::new(Mutex::new(0)));
        let (victim, count) = (Arc::clone(&process), Arc::clone(&seen));
        middleman.does(move |_, status, body| {
            let mut count = count.lock().unwrap();
            if *count == step {
                let mut victim = victim.lock().unwrap();
                victim.as_mut().unwrap().kill().unwrap();
            }
            *count += 1;
            (status, body)
        });
        {
            let mut place = process.lock().unwrap();
            *place = Some(watch.command(&url, &["--records"]).stdout(Stdio::null()).spawn().unwrap());
        }
        let status = poll("it to end", || process.lock().unwrap().as_mut().unwrap().try_wait().unwrap());
        middleman.does_nothing();
        if status.success() {
            break;
        }
        killed += 1;
        assert_eq!(watch.kept(), kept, "step {step}: it believed what it had not seen to the end");
        watch.look(middleman.address).holds();
    }
    assert!(killed >= 4, "checkpoint, tiles, entries: {killed}");
    watch.look(middleman.address).holds();
}

#[test]
fn what_a_crash_leaves_beside_does_no_harm_and_what_is_damaged_is_not_trusted_anew() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let watch = Watch::of(&gate);
    watch.look(gate.admin).holds();
    std::fs::write(watch.state("checkpoint.partial"), "half a no").unwrap();
    std::fs::write(watch.state("evidence.json.partial"), "{").unwrap();
    watch.look(gate.admin).holds();
    let kept = watch.kept();
    // One digit of its size another: it is not what the log showed, and no fork of the log's.
    let mut changed = kept.clone();
    let digit = changed.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    changed[digit] = if changed[digit] == b'9' { b'8' } else { b'9' };
    for (content, word) in
        [(&b"half a no"[..], "not a checkpoint"), (b"", "not a checkpoint"), (&changed, "not a checkpoint")]
    {
        std::fs::write(watch.state("checkpoint"), content).unwrap();
        let look = watch.look(gate.admin);
        assert_eq!(look.code, Some(2));
        assert!(look.said.contains(word), "{}", look.said);
        assert_eq!(watch.kept(), content);
    }
    let other = SigningKey::generate(Origin::parse("other.example").unwrap()).unwrap();
    std::fs::write(watch.state("checkpoint"), other.sign(1, &Hash::of(b"x"))).unwrap();
    assert!(watch.look(gate.admin).said.contains("is of another log"));
    std::fs::write(watch.state("checkpoint"), kept).unwrap();
    watch.look(gate.admin).holds();
    std::fs::write(watch.state("evidence.json"), "{").unwrap();
    assert_eq!(watch.look(gate.admin).code, Some(2));
}

/// A monitor that looks again and again.
struct Service {
    process: Child,
    figures: SocketAddr,
    dir: PathBuf,
}

impl Service {
    fn start(watch: &Watch, url: &str, more: &[&str]) -> Self {
        let ready = watch.path("ready");
        let _ = std::fs::remove_file(&ready);
        let more = [&["--every", "1s", "--metrics", "127.0.0.1:0", "--ready-file", "ready"], more].concat();
        let process = watch
            .command(url, &more)
            .stdout(std::fs::File::create(watch.path("stdout")).unwrap())
            .stderr(std::fs::File::create(watch.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        let figures = poll("the first look", || std::fs::read_to_string(&ready).ok());
        Self { process, figures: figures.trim().parse().unwrap(), dir: watch.dir.path().to_owned() }
    }

    fn figure(&self, name: &str) -> f64 {
        let text = Client::http1(self.figures).get("/metrics", None);
        let line = text
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .map(str::to_owned);
        line.unwrap_or_else(|| panic!("no {name} in {}", text.text())).parse().unwrap()
    }

    fn fault(&self, kind: &str) -> bool {
        self.figure(&format!("portcullis_monitor_fault{{kind=\"{kind}\"}}")) == 1.0
    }

    fn said(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.join(file)).unwrap()
    }

    fn stop(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        let status = poll("it to end", || self.process.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", self.said("stderr"));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn as_a_service_it_says_by_figures_and_lines_what_it_sees_and_ends_when_told_to() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let middleman = Middleman::before(gate.admin);
    let watch = Watch::of(&gate);
    let url = format!("http://{}", middleman.address);
    // It begins with a token that is no longer good, which is renewed in its file.
    std::fs::write(watch.path("token"), "old").unwrap();
    let service = Service::start(&watch, &url, &[]);
    assert!(service.fault("refused"));
    watch.show("carol", &["auditor"]);
    until("the new token to be shown", || !service.fault("refused"));
    let size = service.figure("portcullis_monitor_tree_size");
    call(&gate, 5, "a");
    until("the figure to grow", || service.figure("portcullis_monitor_tree_size") >= size + 10.0);
    assert!(service.figure("portcullis_monitor_last_look_timestamp_seconds") > 1e9);
    assert!(service.figure("portcullis_monitor_last_growth_timestamp_seconds") > 1e9);
    assert!(service.figure("portcullis_monitor_faults_total{kind=\"refused\"}") >= 1.0);
    assert_eq!(service.figure("portcullis_monitor_faults_total{kind=\"fork\"}"), 0.0);
    // One state, one monitor.
    let second = watch.look(middleman.address);
    assert_eq!(second.code, Some(2));
    assert!(second.said.contains("in use by another monitor"), "{}", second.said);
    // It goes on after what passes, and after what does not.
    middleman.does(|_, _, _| (503, Vec::new()));
    until("it to see that nobody answers", || service.fault("unreachable"));
    middleman.does_nothing();
    until("it to see that somebody does", || !service.fault("unreachable"));
    let pem = std::fs::read_to_string(gate.path("log.pem")).unwrap();
    let key = SigningKey::from_pkcs8_pem(Origin::parse(ORIGIN).unwrap(), &pem).unwrap();
    middleman.does(move |_, _, _| (200, key.sign(1, &Hash::of(b"x")).into_bytes()));
    until("the rollback to be seen", || service.fault("rollback"));
    middleman.does_nothing();
    let looks = service.figure("portcullis_monitor_looks_total");
    until("more looks", || service.figure("portcullis_monitor_looks_total") > looks + 2.0);
    assert!(service.fault("rollback"), "it stands");
    assert!(service.said("stderr").contains("ERROR") && service.said("stderr").contains("rollback"));
    let told: Vec<Value> =
        service.said("stdout").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told[0]["faults"][0], "refused");
    assert_eq!(told.last().unwrap()["faults"][0], "rollback");
    service.stop();
    watch.look(gate.admin).finds(1, &["rollback"]);
}

#[test]
fn a_service_that_is_killed_goes_on_from_what_it_had_believed() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let watch = Watch::of(&gate);
    let url = format!("http://{}", gate.admin);
    for round in 0..5 {
        let service = Service::start(&watch, &url, &[]);
        call(&gate, 3, &round.to_string());
        // Its end is a SIGKILL, wherever it is.
        drop(service);
        let size = watch.kept_size();
        assert_eq!(watch.look(gate.admin).holds().json["before"], size);
    }
    let other = gate.stop();
    let copy = other.copy();
    let gate = other.start();
    call(&gate, 2, "one");
    let service = Service::start(&watch, &format!("http://{}", gate.admin), &[]);
    drop(service);
    gate.stop();
    let gate = copy.start();
    call(&gate, 20, "other");
    let service = Service::start(&watch, &format!("http://{}", gate.admin), &[]);
    assert!(service.fault("fork"));
    drop(service);
    watch.look(gate.admin).finds(1, &["fork"]);
}

#[test]
fn by_a_policy_nothing_is_believed_that_witnesses_have_not_cosigned() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let middleman = Middleman::before(gate.admin);
    let watch = Watch::of(&gate);
    let key = |seed| CosigningKey::from_seed(Origin::parse("w.example.com").unwrap(), &[seed; 32]);
    let policy = format!("log {}\nwitness w {}\nquorum w\n", gate.vkey, key(1).verifier());
    std::fs::write(watch.path("policy"), policy).unwrap();
    let look = || watch.look_at(&format!("http://{}", middleman.address), &["--policy", "policy"]);
    let cosign = |by: CosigningKey, text: Option<&'static str>| {
        middleman.does(move |path, status, mut body| {
            if path == "/checkpoint" {
                let signed = Note::parse(&body).unwrap().text().to_owned();
                body.extend(by.cosign(text.unwrap_or(&signed), 1_700_000_000).into_bytes());
            }
            (status, body)
        });
    };
    look().finds(1, &["not_cosigned"]);
    cosign(key(2), None);
    look().finds(1, &["not_cosigned"]);
    cosign(key(1), Some("another text\n"));
    look().finds(1, &["bad_signature"]);
    assert!(!watch.state("checkpoint").exists());
    cosign(key(1), None);
    look().holds();
    middleman.does_nothing();
    call(&gate, 1, "a");
    let kept = watch.kept();
    look().finds(1, &["not_cosigned"]);
    assert_eq!(watch.kept(), kept);
    let stranger = format!("log other.example+{}\nquorum none\n", gate.vkey.split_once('+').unwrap().1);
    std::fs::write(watch.path("policy"), stranger).unwrap();
    assert_eq!(look().code, Some(2));
}

#[test]
fn it_speaks_tls_and_shows_a_certificate_where_the_listener_asks_for_one() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let site = Setup::new(&upstream)
        .tls()
        .server("client_certs = { name = \"mtls\", ca_file = \"clients.pem\", subject = [\"dns\"] }")
        .site_without_log();
    std::fs::write(site.path("clients.pem"), &authority.pem).unwrap();
    site.edit_config(
        "[admin]\n",
        "[admin]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\nclient_cert = \"required\"\n",
    );
    portcullis::app::create_log(&site.settings()).unwrap_or_else(|error| panic!("{error}"));
    let gate = site.start();
    let watch = Watch::of(&gate);
    let leaf = authority.sign(&Says { serial: 7, dns: &["monitor.example.com"], ..Says::default() });
    for (file, text) in [
        ("ca.pem", &Tls::shared().cert_pem),
        ("cert.pem", &leaf.pem),
        ("key.pem", &leaf.key_pem),
        ("other.pem", &authority.pem),
    ] {
        std::fs::write(watch.path(file), text).unwrap();
    }
    let url = format!("https://localhost:{}", gate.admin.port());
    let shown = ["--cert", "cert.pem", "--key", "key.pem"];
    let look = |more: &[&[&str]]| watch.look_at(&url, &more.concat());
    look(&[&["--ca-file", "ca.pem"], &shown]).holds();
    // Without a certificate, with nobody's authority, or in plain: no.
    assert_eq!(look(&[&["--ca-file", "ca.pem"]]).code, Some(2));
    look(&[&["--ca-file", "other.pem"], &shown]).finds(2, &["unreachable"]);
    watch.look(gate.admin).finds(2, &["unreachable"]);
    assert_eq!(look(&[&["--ca-file", "absent.pem"]]).code, Some(2));
}

#[test]
fn what_is_typed_wrongly_is_refused_before_anything_is_asked() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let watch = Watch::of(&gate);
    let good = format!("http://{}", gate.admin);
    for (url, more) in [
        ("ftp://gate.example.com", &[][..]),
        ("gate.example.com", &[]),
        (&good, &["--every", "soon"]),
        (&good, &["--stall-after", "30s"]),
        (&good, &["--metrics", "127.0.0.1:0"]),
        (&good, &["--cert", "cert.pem"]),
        (&good, &["--policy", "absent"]),
    ] {
        let look = watch.look_at(url, more);
        assert_eq!(look.code, Some(2), "{url} {more:?} {}", look.said);
        assert_eq!(look.json, Value::Null);
    }
    assert!(!watch.state("checkpoint").exists());
}
