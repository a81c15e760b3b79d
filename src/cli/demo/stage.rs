//! The stage: a directory as `init` makes it, certificates, and the gate as a process of its own.

use std::fs::File;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustix::process::{Pid, Signal, kill_process};
use zeroize::Zeroizing;

use super::backstage::Backstage;
use crate::cli::files;
use crate::cli::init::{Change, Directory, UPSTREAMS};
use crate::cli::out::{Paint, program, shell_word};
use crate::config::env::PREFIX;

/// Everything the story needs, and the gate once it runs.
pub(super) struct Stage {
    directory: Directory,
    gate: Option<Child>,
    addresses: Option<Addresses>,
}

/// Where the gate listens.
#[derive(Debug, serde::Deserialize)]
struct Addresses {
    front: Vec<SocketAddr>,
    admin: SocketAddr,
}

/// What a command of ours printed, and how it ended.
pub(super) struct Shown {
    pub(super) code: Option<i32>,
    pub(super) output: String,
}

impl Shown {
    /// Asks that it ended well.
    pub(super) fn holds(&self) -> Result<()> {
        ensure!(self.code == Some(0), "the command should end with exit code 0, not {:?}", self.code);
        Ok(())
    }
}

impl Stage {
    /// Makes the directory, in which nothing runs yet.
    pub(super) fn set(dir: &Path, backstage: &Backstage) -> Result<Self> {
        let mut salt = [0; 4];
        getrandom::fill(&mut salt)?;
        let origin = format!("demo.example/{:08x}", u32::from_be_bytes(salt));
        let tls = r#"tls = { cert = "keys/server.pem", key = "keys/server-key.pem" }"#;
        let changes = [
            Change::to_origin(&origin),
            Change::line(LISTEN, format!("listen = [\"{}\"]", front_address())),
            Change::line(tls, tls.to_owned()),
            Change::line(ADMIN_LISTEN, "listen = \"127.0.0.1:0\"".to_owned()),
            Change::line(HEALTH_LISTEN, "listen = \"127.0.0.1:0\"".to_owned()),
            Change::line(JWKS_FILE, format!("jwks_url = \"http://{}/jwks.json\"", backstage.keys)),
            Change::line(UPSTREAMS, format!("upstreams = [\"http://{}\"]", backstage.service)),
        ];
        let directory = Directory::make(dir, &origin, &changes)?;
        write_certificates(&directory.path.join("keys"))?;
        Ok(Self { directory, gate: None, addresses: None })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.directory.path
    }

    /// The certificate of the authority that signed the gate's.
    pub(super) fn authority(&self) -> PathBuf {
        self.dir().join("keys").join("ca.pem")
    }

    /// Where calls come in.
    pub(super) fn front(&self) -> Result<SocketAddr> {
        let addresses = self.addresses.as_ref().context("the gate does not run")?;
        addresses.front.first().copied().context("the gate listens nowhere")
    }

    /// Where the admin API is.
    pub(super) fn admin(&self) -> Result<SocketAddr> {
        self.addresses.as_ref().map(|addresses| addresses.admin).context("the gate does not run")
    }

    /// The token of `name`.
    pub(super) fn token(&self, name: &str) -> Result<String> {
        let path = self.directory.token(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    pub(super) fn introduce(&self, paint: Paint) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}\n", paint.bold("== The stage"))?;
        writeln!(out, "  DIR={}\n", shell_word(&self.dir().to_string_lossy()))?;
        writeln!(out, "A directory as `portcullis init` makes it, with a certificate for TLS; a small HTTP")?;
        writeln!(
            out,
            "service that says what it got; an issuer that publishes its keys; and the gate between"
        )?;
        writeln!(out, "them, a process of its own:\n")?;
        writeln!(out, "  {}", paint.accent("$ portcullis serve --config $DIR/portcullis.toml"))?;
        Ok(())
    }

    /// Starts the gate and waits until it is ready.
    pub(super) fn start(&mut self, backstage: &Backstage) -> Result<()> {
        let ready = self.dir().join("ready.json");
        let log = File::create(self.log_path())?;
        let gate = ours()?
            .args(["serve", "--config"])
            .arg(self.directory.config())
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("the gate could not be started")?;
        self.gate = Some(gate);
        self.addresses = Some(self.wait_until_ready(&ready, backstage)?);
        let (front, admin) = (self.front()?, self.admin()?);
        Ok(writeln!(std::io::stdout(), "\n  listening on https://{front}, admin API on https://{admin}\n")?)
    }

    fn wait_until_ready(&mut self, ready: &Path, backstage: &Backstage) -> Result<Addresses> {
        let began = Instant::now();
        while began.elapsed() < START_PATIENCE {
            if let Ok(text) = std::fs::read_to_string(ready) {
                return serde_json::from_str(&text).context("the gate's ready file");
            }
            if let Some(status) = self.gate.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("the gate ended at once, with {status}");
            }
            backstage.pause(STEP)?;
        }
        bail!("the gate was not ready within {START_PATIENCE:?}")
    }

    /// Has the gate drain and end, as SIGTERM does.
    pub(super) fn stop(&mut self, backstage: &Backstage) -> Result<()> {
        let Some(mut gate) = self.gate.take() else { return Ok(()) };
        if gate.try_wait()?.is_none() {
            kill_process(Pid::from_child(&gate), Signal::TERM)?;
        }
        let began = Instant::now();
        while began.elapsed() < STOP_PATIENCE {
            if let Some(status) = gate.try_wait()? {
                ensure!(status.success(), "the gate ended with {status}");
                return Ok(());
            }
            // Another signal does not hasten what is being ended.
            let _ = backstage.pause(STEP);
        }
        gate.kill()?;
        gate.wait()?;
        bail!("the gate did not end within {STOP_PATIENCE:?}")
    }

    /// Runs a command of ours, `$DIR` and `$(cat …)` standing for what a shell would put there, and prints both.
    pub(super) fn show(&self, words: &[&str], paint: Paint) -> Result<Shown> {
        let mut command = ours()?;
        let mut typed = String::from("$ portcullis");
        for word in words {
            let quote = if word.contains(' ') { "\"" } else { "" };
            typed.push_str(&format!(" {quote}{word}{quote}"));
            command.arg(self.expand(word));
        }
        let ran = command.stdin(Stdio::null()).output().with_context(|| typed.clone())?;
        let output = String::from_utf8_lossy(&ran.stdout).into_owned();
        let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", paint.accent(&typed))?;
        for line in output.lines().chain(errors.lines()) {
            writeln!(out, "{line}")?;
        }
        let code = ran.status.code();
        if code != Some(0) {
            writeln!(out, "{}", paint.dim(&format!("exit code {}", code.unwrap_or(-1))))?;
        }
        writeln!(out)?;
        Ok(Shown { code, output })
    }

    fn expand(&self, word: &str) -> String {
        if word == "$(cat $DIR/keys/log.vkey)" {
            return self.directory.vkey.clone();
        }
        word.replace("$DIR", &self.dir().to_string_lossy())
    }

    /// What a person can try by hand.
    pub(super) fn suggest(&self, paint: Paint) -> Result<()> {
        let (front, admin) = (self.front()?, self.admin()?);
        let mut out = std::io::stdout().lock();
        writeln!(out, "  DIR={}", shell_word(&self.dir().to_string_lossy()))?;
        writeln!(out, "  alias portcullis={}\n", program())?;
        let curl = |token: &str, rest: String| {
            let bearer = "-H \"Authorization: Bearer $(cat $DIR/tokens/";
            format!("curl -i --cacert $DIR/keys/ca.pem {bearer}{token}.jwt)\" \\\n    {rest}")
        };
        for command in [
            curl("alice", format!("https://{front}/docs/intro")),
            curl("alice", format!("-X DELETE https://{front}/docs/intro")),
            curl("carol", format!("https://{admin}/v1/records?decision=deny")),
            "portcullis audit list --config $DIR/portcullis.toml".to_owned(),
            "$EDITOR $DIR/policies/policy.csv    # and call again: the gate loads it at once".to_owned(),
        ] {
            writeln!(out, "  {}", paint.accent(&command))?;
        }
        Ok(())
    }

    /// The last lines of the gate's own log.
    pub(super) fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
        tail.iter().map(|line| format!("  {line}\n")).collect()
    }

    fn log_path(&self) -> PathBuf {
        self.dir().join("gate.log")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Only if the story broke off: nobody is left to be told.
        if let Some(gate) = &mut self.gate {
            let _ = gate.kill();
            let _ = gate.wait();
        }
    }
}

/// This program, without what this shell says about other configs.
fn ours() -> Result<Command> {
    let program = std::env::current_exe().context("this program cannot be found")?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().to_ascii_uppercase().starts_with(PREFIX) {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// The usual address if a person is there to remember it and it is free, any other else: several demos may run at once.
fn front_address() -> &'static str {
    match TcpListener::bind(FRONT) {
        Ok(_) if std::io::stdout().is_terminal() => FRONT,
        Ok(_) | Err(_) => "127.0.0.1:0",
    }
}

/// An authority of our own, and the gate's certificate signed by it.
fn write_certificates(keys: &Path) -> Result<()> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(DnType::CommonName, "Portcullis demo authority");
    // Its key is dropped here: nothing else is ever signed by it.
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.distinguished_name.push(DnType::CommonName, "localhost");
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &authority)?;
    files::write_public(&keys.join("ca.pem"), authority.pem().as_bytes())?;
    files::write_public(&keys.join("server.pem"), certificate.pem().as_bytes())?;
    files::write_secret(&keys.join("server-key.pem"), Zeroizing::new(key.serialize_pem()).as_bytes())
}

const FRONT: &str = "127.0.0.1:8443";

/// The lines of the shipped config that are changed.
const LISTEN: &str = "listen = [\"127.0.0.1:8080\"]";
const ADMIN_LISTEN: &str = "listen = \"127.0.0.1:9901\"";
const HEALTH_LISTEN: &str = "listen = \"127.0.0.1:9902\"";
const JWKS_FILE: &str = "jwks_file = \"keys/dev.jwks.json\"";

const START_PATIENCE: Duration = Duration::from_secs(30);
const STOP_PATIENCE: Duration = Duration::from_secs(40);
const STEP: Duration = Duration::from_millis(20);
