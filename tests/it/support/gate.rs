//! A gate's directory, and its process.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, LazyLock, Mutex};

use portcullis::app;
use portcullis::audit::checkpoint::{Origin, SigningKey};
use portcullis::audit::rocks::{RocksOptions, RocksStore};
use portcullis::audit::storage::Store as _;
use portcullis::config::{Environment, Settings};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tempfile::TempDir;

use super::faulty::FaultyStore;
use super::tokens::{AUDIENCE, ISSUER, key_set};
use super::{Client, Signer, Upstream, Wire, log, poll, until};

pub const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
pub const ORIGIN: &str = "gate.example.com/it";

/// The tests' policy: who may reach what, for the hostile tables too: all may reach `/public/`, admins `/admin/`.
pub const POLICY: &str = "\
p, anonymous, app, /public/*, .*, allow
p, role:viewer, app, /public/*, .*, allow
p, role:viewer, app, /docs/*, GET|HEAD, allow
p, role:admin, app, /admin/*, .*, allow
p, role:suspended, app, /*, .*, deny
p, role:auditor, admin, /v1/*, .*, allow
p, role:auditor, admin, /checkpoint, .*, allow
p, role:auditor, admin, /tile/*, .*, allow
g, role:admin, role:viewer
";

const MODEL: &str = include_str!("../../../policies/model.conf");

/// What a gate shall be like.
pub struct Setup {
    service: String,
    upstreams: Vec<String>,
    services: String,
    server: String,
    log: String,
    issuers: Option<String>,
    tables: String,
    tls: bool,
    policy: String,
    policy_keys: String,
    keys: String,
}

impl Setup {
    /// A gate in front of one service, `app`.
    pub fn new(upstream: &Upstream) -> Self {
        Self::at(&format!("http://{}", upstream.address))
    }

    /// The same, by the upstream's URL.
    pub fn at(url: &str) -> Self {
        Self {
            service: String::new(),
            upstreams: vec![url.to_owned()],
            services: String::new(),
            server: String::new(),
            log: String::new(),
            issuers: None,
            tables: String::new(),
            tls: false,
            policy: POLICY.to_owned(),
            policy_keys: String::new(),
            keys: key_set(&[Signer::usual()]),
        }
    }

    /// Another upstream of the same service.
    pub fn and_upstream(mut self, url: &str) -> Self {
        self.upstreams.push(url.to_owned());
        self
    }

    /// Lines for the service's table.
    pub fn service(mut self, lines: &str) -> Self {
        let _ = writeln!(self.service, "{lines}");
        self
    }

    /// Whole `[[service]]` tables beside the one there is.
    pub fn services(mut self, tables: &str) -> Self {
        self.services = tables.to_owned();
        self
    }

    /// Lines for `[server]`.
    pub fn server(mut self, lines: &str) -> Self {
        let _ = writeln!(self.server, "{lines}");
        self
    }

    /// Lines for `[log]`.
    pub fn log(mut self, lines: &str) -> Self {
        let _ = writeln!(self.log, "{lines}");
        self
    }

    /// Lines for `[policy]`.
    pub fn policy_keys(mut self, lines: &str) -> Self {
        let _ = writeln!(self.policy_keys, "{lines}");
        self
    }

    /// Issuers instead of the usual one.
    pub fn issuers(mut self, tables: &str) -> Self {
        self.issuers = Some(tables.to_owned());
        self
    }

    /// What the usual issuer publishes.
    pub fn keys(mut self, key_set: String) -> Self {
        self.keys = key_set;
        self
    }

    /// Other tables.
    pub fn tables(mut self, tables: &str) -> Self {
        let _ = writeln!(self.tables, "{tables}");
        self
    }

    /// Other rows.
    pub fn policy(mut self, rows: &str) -> Self {
        self.policy = rows.to_owned();
        self
    }

    /// TLS in front.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Makes the directory and creates the log.
    pub fn site(self) -> Arc<Site> {
        let site = self.site_without_log();
        app::create_log(&site.settings()).unwrap_or_else(|error| panic!("{error}"));
        site
    }

    /// Makes the directory.
    pub fn site_without_log(self) -> Arc<Site> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let key = SigningKey::generate(Origin::parse(ORIGIN).unwrap()).unwrap();
        let vkey = key.verifier().to_string();
        std::fs::write(path.join("log.pem"), key.to_pkcs8_pem().unwrap().as_bytes()).unwrap();
        private(&path.join("log.pem"));
        std::fs::write(path.join("jwks.json"), &self.keys).unwrap();
        std::fs::write(path.join("model.conf"), MODEL).unwrap();
        std::fs::write(path.join("policy.csv"), &self.policy).unwrap();
        std::fs::write(path.join("cert.pem"), &Tls::shared().cert_pem).unwrap();
        std::fs::write(path.join("key.pem"), &Tls::shared().key_pem).unwrap();
        std::fs::write(path.join("gate.toml"), self.toml()).unwrap();
        Arc::new(Site { dir, vkey, tls: self.tls, environment: Mutex::default() })
    }

    /// Makes all of it and starts the gate.
    pub fn start(self) -> Gate {
        self.site().start()
    }

    fn toml(&self) -> String {
        let Self { service, services, server, log, policy_keys, tables, .. } = self;
        let tls = if self.tls { "tls = { cert = \"cert.pem\", key = \"key.pem\" }" } else { "" };
        let issuers = self.issuers.clone().unwrap_or_else(|| {
            format!(
                "[[issuer]]\nname = \"main\"\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\n\
                 algorithms = [\"ES256\"]\njwks_file = \"jwks.json\"\n\
                 roles = [\"viewer\", \"admin\", \"auditor\", \"suspended\"]\n"
            )
        });
        let upstreams = serde_json::json!(self.upstreams);
        let hosts = if service.contains("hosts =") { "" } else { "hosts = [\"*\"]" };
        format!(
            r#"
[server]
listen = ["127.0.0.1:0"]
workers = 2
{tls}
{server}
[admin]
listen = "127.0.0.1:0"
[health]
listen = "127.0.0.1:0"
[log]
dir = "log"
state_dir = "state"
origin = "{ORIGIN}"
key_file = "log.pem"
{log}
[policy]
model = "model.conf"
files = ["policy.csv"]
{policy_keys}
{issuers}
[[service]]
name = "app"
{hosts}
upstreams = {upstreams}
{service}
{services}
{tables}
[logging]
level = "debug"
"#
        )
    }
}

/// A gate's directory: config, keys, policy, log.
pub struct Site {
    dir: TempDir,
    /// The log's verifier key.
    pub vkey: String,
    tls: bool,
    environment: Mutex<Vec<(OsString, OsString)>>,
}

impl Site {
    /// What the gate's process finds in its environment from its next start on.
    pub fn set_environment(&self, variables: Vec<(OsString, OsString)>) {
        *self.environment.lock().unwrap() = variables;
    }

    /// The allows that have no outcome yet, as of now.
    pub fn open_allows(&self) -> Vec<u64> {
        RocksStore::open_read_only(&self.log_dir()).unwrap().open_allows().unwrap()
    }

    /// A copy of the whole directory, log, marks and keys: what a backup, a snapshot or a thief has. The gate must not run.
    pub fn copy(&self) -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-a").arg(self.dir.path().join(".")).arg(dir.path()).status();
        assert!(copied.unwrap().success());
        Arc::new(Self { dir, vkey: self.vkey.clone(), tls: self.tls, environment: Mutex::default() })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("gate.toml")
    }

    pub fn log_dir(&self) -> PathBuf {
        self.path("log")
    }

    pub fn settings(&self) -> Settings {
        Settings::load(&self.config(), &Environment::empty()).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// Edits the config's text.
    pub fn edit_config(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "the config has no {from:?}");
        std::fs::write(self.config(), text.replace(from, to)).unwrap();
    }

    /// Starts the gate and waits until it is ready.
    pub fn start(self: &Arc<Self>) -> Gate {
        self.try_start().unwrap_or_else(|status| panic!("the gate did not start: {status}\n{}", self.said()))
    }

    /// Starts the gate and waits until it is ready, or has ended instead.
    pub fn try_start(self: &Arc<Self>) -> Result<Gate, ExitStatus> {
        let ready_file = self.path("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let process = self.spawn(&ready_file);
        self.try_adopt(process, &ready_file)
    }

    /// A gate of this site that runs as `process`, once it is ready.
    pub fn adopt(self: &Arc<Self>, process: Child, ready_file: &Path) -> Gate {
        self.try_adopt(process, ready_file)
            .unwrap_or_else(|status| panic!("the gate did not start: {status}\n{}", self.said()))
    }

    fn try_adopt(self: &Arc<Self>, mut process: Child, ready_file: &Path) -> Result<Gate, ExitStatus> {
        let ready = poll("the gate to be ready", || match std::fs::read(ready_file) {
            Ok(ready) => Some(Ok(ready)),
            Err(_) => process.try_wait().unwrap().map(Err),
        })?;
        let ready: Value = serde_json::from_slice(&ready).unwrap();
        let address = |value: &Value| -> SocketAddr { value.as_str().unwrap().parse().unwrap() };
        Ok(Gate {
            site: Arc::clone(self),
            process: Some(process),
            front: address(&ready["front"][0]),
            admin: address(&ready["admin"]),
            health: address(&ready["health"]),
        })
    }

    /// Starts the gate, which must not come up; its exit status, and what it said.
    pub fn refuses_to_start(&self) -> (ExitStatus, String) {
        let ready_file = self.path("never.json");
        let mut process = self.spawn(&ready_file);
        let status = poll("the gate to end", || process.try_wait().unwrap());
        assert!(!ready_file.exists(), "it was ready");
        (status, self.said())
    }

    fn spawn(&self, ready_file: &Path) -> Child {
        let said = std::fs::File::create(self.path("stderr")).unwrap();
        // A umask that keeps nothing from anybody: what is to be private, the gate must make so.
        Command::new("sh")
            .args(["-c", "umask 0 && exec \"$0\" \"$@\"", BINARY])
            .arg("serve")
            .arg("--config")
            .arg(self.config())
            .arg("--ready-file")
            .arg(ready_file)
            .envs(self.environment.lock().unwrap().iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap()
    }

    /// What the gate said on stderr.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// Starts the gate in this process, on a store with faults.
    pub fn start_here(self: &Arc<Self>) -> Here {
        let store = RocksStore::open(&self.log_dir(), RocksOptions::default()).unwrap();
        let store = Arc::new(FaultyStore::new(store));
        let running = app::start(self.settings(), Some(Arc::clone(&store) as _));
        Here { site: Arc::clone(self), store, running: running.unwrap_or_else(|error| panic!("{error}")) }
    }

    /// All records, as of now.
    pub fn records(&self) -> Vec<Value> {
        log::records(&self.log_dir())
    }

    pub fn record(&self, index: u64) -> Value {
        self.records().swap_remove(usize::try_from(index).unwrap())
    }

    /// Waits for a record.
    pub fn record_where(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        poll(what, || self.records().into_iter().find(|record| is(record)))
    }

    /// Waits for the outcome of the decision at `index`.
    pub fn outcome_of(&self, index: u64) -> Value {
        self.record_where("an outcome", |record| {
            record["kind"] == "outcome" && record["decision_index"] == index
        })
    }

    /// The whole log verifies, by the library and by the command.
    pub fn verify(&self) -> u64 {
        let report = log::verify(&self.log_dir(), &self.vkey).unwrap_or_else(|fault| panic!("{fault}"));
        report.records
    }

    /// Runs a command of the binary.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY).args(arguments).current_dir(self.dir.path()).output().unwrap()
    }
}

/// A gate that runs as a process of its own. It is killed when dropped.
pub struct Gate {
    site: Arc<Site>,
    process: Option<Child>,
    pub front: SocketAddr,
    pub admin: SocketAddr,
    pub health: SocketAddr,
}

impl Gate {
    pub fn client(&self) -> Client {
        Client { address: self.front, http2: false, tls: self.site.tls }
    }

    pub fn client2(&self) -> Client {
        Client { http2: true, ..self.client() }
    }

    pub fn wire(&self) -> Wire {
        if self.site.tls { Wire::open_tls(self.front) } else { Wire::open(self.front) }
    }

    /// Whether its front speaks TLS.
    pub fn front_tls(&self) -> bool {
        self.site.tls
    }

    pub fn admin(&self) -> Client {
        Client::http1(self.admin)
    }

    pub fn health(&self) -> Client {
        Client::http1(self.health)
    }

    /// Its process's id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Sends a signal by name, e.g. `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) -> Arc<Site> {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        Arc::clone(&self.site)
    }

    /// Asks it to stop, which it does well.
    pub fn stop(self) -> Arc<Site> {
        self.signal("TERM");
        self.wait()
    }

    /// Waits until it has ended, in whatever way.
    pub fn wait_end(mut self) -> (Arc<Site>, ExitStatus) {
        let mut process = self.process.take().unwrap();
        let status = poll("the gate to end", || process.try_wait().unwrap());
        (Arc::clone(&self.site), status)
    }

    /// Waits until it has ended well.
    pub fn wait(mut self) -> Arc<Site> {
        let mut process = self.process.take().unwrap();
        let status = poll("the gate to stop", || process.try_wait().unwrap());
        assert!(status.success(), "{status}\n{}", self.said());
        Arc::clone(&self.site)
    }
}

impl Deref for Gate {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
            if std::thread::panicking() {
                eprintln!("{}", self.said());
            }
        }
    }
}

/// A gate in this process, on a store with faults.
pub struct Here {
    site: Arc<Site>,
    pub store: Arc<FaultyStore>,
    running: app::Running,
}

impl Here {
    pub fn client(&self) -> Client {
        Client::http1(self.running.front[0])
    }

    pub fn client2(&self) -> Client {
        Client::http2(self.running.front[0])
    }

    pub fn front(&self) -> SocketAddr {
        self.running.front[0]
    }

    pub fn wire(&self) -> Wire {
        Wire::open(self.running.front[0])
    }

    pub fn admin_wire(&self) -> Wire {
        Wire::open(self.running.admin)
    }

    pub fn health(&self) -> Client {
        Client::http1(self.running.health)
    }

    /// Stops it, well or not, and closes the store.
    pub fn stop(self) -> Arc<Site> {
        let Self { site, store, running } = self;
        let _ = running.stop();
        until("the store to be let go", || Arc::strong_count(&store) == 1);
        site
    }
}

impl Deref for Here {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

/// The certificate that gates and upstreams of these tests show.
pub struct Tls {
    pub cert_pem: String,
    pub key_pem: String,
    cert: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Tls {
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Tls> = LazyLock::new(Tls::new);
        &SHARED
    }

    fn new() -> Self {
        let names = ["localhost", "app.example.com", "127.0.0.1"].map(str::to_owned).to_vec();
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
        Self {
            cert_pem: cert.pem(),
            key_pem: signing_key.serialize_pem(),
            cert: cert.der().clone(),
            key: signing_key.into(),
        }
    }

    pub fn server_config(&self, alpn: &[&[u8]]) -> Arc<rustls::ServerConfig> {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.cert.clone()], self.key.clone_key())
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    pub fn client_config(&self, alpn: &[&[u8]]) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.cert.clone()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

/// Makes a file its owner's alone.
pub fn private(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
