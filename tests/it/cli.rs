//! The command line, as it is typed: from an empty directory to a verified log.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::gate::BINARY;
use crate::support::{Act, Client, Setup, Upstream, poll};

/// A directory that `portcullis init` made.
struct Init {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Init {
    fn new(upstream: &Upstream) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate");
        let url = format!("http://{}", upstream.address);
        let output = run(&["init", path.to_str().unwrap(), "--upstream", &url]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("portcullis serve --config"), "it says what to type next");
        Self { _dir: dir, path }
    }

    fn file(&self, name: &str) -> String {
        self.path.join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path.join(name)).unwrap().trim().to_owned()
    }

    fn config(&self) -> String {
        self.file("portcullis.toml")
    }

    /// Serves while `during` is at it, then stops.
    fn serve(&self, during: impl FnOnce(&Client)) {
        let ready = self.path.join("ready.json");
        let mut process = Command::new(BINARY)
            .args(["serve", "--config", &self.config(), "--ready-file", ready.to_str().unwrap()])
            .env("PORTCULLIS__SERVER__LISTEN", "127.0.0.1:0")
            .env("PORTCULLIS__ADMIN__LISTEN", "127.0.0.1:0")
            .env("PORTCULLIS__HEALTH__LISTEN", "127.0.0.1:0")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let addresses = poll("the gate to be ready", || {
            assert_eq!(process.try_wait().unwrap(), None, "it did not start");
            std::fs::read(&ready).ok()
        });
        let addresses: Value = serde_json::from_slice(&addresses).unwrap();
        during(&Client::http1(addresses["front"][0].as_str().unwrap().parse().unwrap()));
        let pid = process.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
        let status = poll("the gate to stop", || process.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
        std::fs::remove_file(ready).unwrap();
    }
}

pub fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The output of a command that must end with `code`.
fn ends(code: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    let (said, complaint) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{said}{complaint}");
    said
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn init_check_serve_call_verify_list_show_export_all_fit_together() {
    let upstream = Upstream::start(Act::Answer);
    let init = Init::new(&upstream);
    let (config, vkey) = (init.config(), init.read("keys/log.vkey"));
    assert!(ends(0, &["check", "--config", &config]).contains("holds"));

    let mut denied = 0;
    init.serve(|client| {
        let alice = init.read("tokens/alice.jwt");
        assert_eq!(client.get("/docs/intro", Some(&alice)).status, 200);
        let answer = client.get("/admin/users", Some(&alice));
        assert_eq!(answer.status, 403);
        denied = answer.record();
        let key = init.file("keys/dev.pem");
        let dana = ends(0, &["token", "--dev", "--key", &key, "--subject", "dana", "--roles", "editor"]);
        assert_eq!(client.get("/docs/intro", Some(dana.trim())).status, 200);

        // On a log that is being written to.
        assert!(ends(0, &["audit", "verify", "--config", &config]).contains("holds"));
    });

    let verified: Value =
        serde_json::from_str(&ends(0, &["audit", "verify", "--config", &config, "--json"])).unwrap();
    assert_eq!(verified["holds"], true);
    let records = verified["records"].as_u64().unwrap();

    let listed = ends(0, &["audit", "list", "--config", &config, "--subject", "alice", "--json"]);
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["index"].as_u64(), Some(denied), "newest first");
    let table = ends(0, &["audit", "list", "--config", &config, "--decision", "deny"]);
    assert!(table.contains("/admin/users") && !table.contains("/docs/intro"), "{table}");

    let shown = ends(0, &["audit", "show", &denied.to_string(), "--config", &config, "--raw"]);
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["reason"], "no_match");
    let shown = ends(0, &["audit", "show", &denied.to_string(), "--config", &config]);
    assert!(shown.contains("/admin/users") && shown.contains("user:alice"), "{shown}");

    let export = init.file("export.jsonl");
    ends(0, &["audit", "export", "--config", &config, "--out", &export]);
    let exported = std::fs::read_to_string(&export).unwrap();
    assert_eq!(exported.lines().count() as u64, records);
    let stored = crate::support::log::stored(&init.path.join("log"));
    assert!(
        exported.lines().map(str::as_bytes).eq(stored.iter().map(Vec::as_slice)),
        "exactly the stored bytes"
    );
    assert!(ends(0, &["audit", "verify", &export, "--vkey", &vkey]).contains("holds"));

    // An export that was tampered with does not hold, and the record is named.
    std::fs::write(&export, exported.replacen("\"decision\":\"deny\"", "\"decision\":\"allow\"", 1)).unwrap();
    let said: Value =
        serde_json::from_str(&ends(1, &["audit", "verify", &export, "--vkey", &vkey, "--json"])).unwrap();
    assert_eq!(
        (&said["holds"], said["first_bad_index"].as_u64()),
        (&Value::Bool(false), Some(denied)),
        "{said}"
    );
}

#[test]
fn a_log_without_a_config_verifies_by_its_directory_and_key() {
    let upstream = Upstream::start(Act::Answer);
    let init = Init::new(&upstream);
    let (log, vkey) = (init.file("log"), init.read("keys/log.vkey"));
    ends(0, &["audit", "verify", "--log", &log, "--vkey", &vkey]);
    let stranger = ends(0, &["keygen", "--origin", "other.example.com", "--out", &init.file("other.pem")]);
    ends(1, &["audit", "verify", "--log", &log, "--vkey", stranger.trim()]);
    ends(2, &["audit", "verify", "--log", &log]);
    ends(2, &["audit", "verify", "--log", &init.file("nowhere"), "--vkey", &vkey]);
}

#[test]
fn secrets_are_for_their_owner_only_and_nothing_is_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let upstream = Upstream::start(Act::Answer);
    let init = Init::new(&upstream);
    for secret in ["keys/log.pem", "keys/dev.pem", "tokens/alice.jwt"] {
        let mode = std::fs::metadata(init.path.join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let before = init.read("keys/log.pem");
    ends(2, &["init", init.path.to_str().unwrap()]);
    ends(2, &["keygen", "--origin", "a.example.com", "--out", &init.file("keys/log.pem")]);
    assert_eq!(init.read("keys/log.pem"), before);
}

#[test]
fn exit_codes_tell_what_does_not_hold_from_what_cannot_be_read() {
    let upstream = Upstream::start(Act::Answer);
    let init = Init::new(&upstream);
    let config = init.config();
    ends(2, &["check", "--config", &init.file("nowhere.toml")]);
    ends(2, &["serve", "--config", &init.file("nowhere.toml")]);
    ends(2, &["nonsense"]);
    ends(2, &["audit", "show", "999999", "--config", &config]);
    ends(2, &["token", "--key", &init.file("keys/dev.pem"), "--subject", "x"]);
    ends(2, &["audit", "create", "--config", &config]);
    ends(0, &["--help"]);
    ends(0, &["--version"]);
    for command in ["init", "serve", "check", "keygen", "token", "audit"] {
        ends(0, &[command, "--help"]);
    }
}

#[test]
fn check_names_file_and_line_or_key_what_is_wrong_and_what_to_write() {
    let upstream = Upstream::start(Act::Answer);
    let cases: [(&str, &str, &str, &[&str]); 5] = [
        ("gate.toml", "workers = 2", "wrokers = 2", &["gate.toml", "wrokers", "workers"]),
        (
            "gate.toml",
            "key_file = \"log.pem\"",
            "key_file = \"nowhere.pem\"",
            &["log.key_file", "nowhere.pem", "keygen"],
        ),
        ("gate.toml", "jwks_file = \"jwks.json\"", "jwks_file = \"nowhere.json\"", &["nowhere.json"]),
        (
            "policy.csv",
            "p, role:viewer, app, /docs/*, GET|HEAD, allow",
            "p, role:viewer, app, /docs/*",
            &["policy.csv", "3"],
        ),
        ("cert.pem", "BEGIN", "BEGUN", &["cert.pem"]),
    ];
    for (file, from, to, named) in cases {
        let site = Setup::new(&upstream).tls().site();
        assert!(site.command(&["check", "--config", "gate.toml"]).status.success());
        let text = std::fs::read_to_string(site.path(file)).unwrap();
        assert!(text.contains(from));
        std::fs::write(site.path(file), text.replace(from, to)).unwrap();
        let output = site.command(&["check", "--config", "gate.toml"]);
        let said = self::text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for name in named {
            assert!(said.contains(name), "{name} is not in: {said}");
        }
        assert_eq!(site.refuses_to_start().0.code(), Some(2), "{file}: {to}");
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let check = |name: &str, value: &str| {
        Command::new(BINARY).args(["check", "--config"]).arg(site.config()).env(name, value).output().unwrap()
    };
    assert_eq!(check("PORTCULLIS__LOG__KEY_FILE", "log.pem").status.code(), Some(0));
    let output = check("PORTCULLIS__LOG__KEY_FILE", "nowhere.pem");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("nowhere.pem"));
    assert_eq!(
        check("PORTCULLIS__LOG__KEYFILE", "log.pem").status.code(),
        Some(1),
        "an unknown key is an error here too"
    );
}

#[test]
fn every_file_of_config_and_policies_loads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |dir: &str| {
        let mut names: Vec<String> = std::fs::read_dir(root.join(dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("config"), ["portcullis.toml"], "a new file needs a test that loads it");
    assert_eq!(
        names("policies"),
        ["cases.txt", "model.conf", "policy.csv"],
        "a new file needs a test that loads it"
    );
    // `init` writes exactly these, and `check` proves what it wrote.
    let upstream = Upstream::start(Act::Answer);
    let init = Init::new(&upstream);
    for name in names("policies") {
        let shipped = std::fs::read_to_string(root.join("policies").join(&name)).unwrap();
        assert_eq!(std::fs::read_to_string(init.path.join("policies").join(&name)).unwrap(), shipped);
    }
    ends(0, &["check", "--config", &init.config()]);
    let shipped = std::fs::read_to_string(root.join("config/portcullis.toml")).unwrap();
    let read = portcullis::config::Settings::read(
        &shipped,
        &root.join("config/portcullis.toml"),
        &portcullis::config::Environment::empty(),
    );
    let settings = read.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        settings.policy.model.canonicalize().unwrap(),
        root.join("policies/model.conf").canonicalize().unwrap()
    );
}
