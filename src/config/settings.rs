//! The checked meaning of a configuration. Only `app` reads it, and hands on plain values.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, Method, Uri};
use ipnet::IpNet;

use super::env::Environment;
use super::error::{ConfigErrors, Place};
use super::{check, epoch};
use crate::access::certificate::Certificates;
use crate::access::rate::{Rate, ServiceRates};
use crate::access::route::Route;
use crate::audit::checkpoint::CosignerKey;
use crate::audit::hash::Hash;

/// A configuration that has passed every check. Paths are as written, joined to the directory of the config file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The public listeners.
    pub server: Server,
    /// The admin API's listener.
    pub admin: Admin,
    /// The health listener.
    pub health: Health,
    /// The audit log.
    pub log: Log,
    /// The policy.
    pub policy: Policy,
    /// What holds for all issuers.
    pub identity: Identity,
    /// Who vouches for callers; at most one of them is primary, exactly one where there are several.
    pub issuers: Vec<Issuer>,
    /// What stands behind the gate; at least one.
    pub services: Vec<Service>,
    /// How calls are vouched for to services; `Some` where any service asks for it.
    pub assertion: Option<Assertion>,
    /// Bounds on what a stranger controls.
    pub limits: Limits,
    /// The log's verification in the background.
    pub verify: Verify,
    /// The process's own log on stderr.
    pub logging: Logging,
    /// Every file named, in a fixed order. None has been looked at.
    pub files: Vec<NamedFile>,
    /// The directory of the config file, which relative paths start from.
    pub dir: PathBuf,
}

impl Settings {
    /// Reads the file at `path`, lays the environment's settings over it, and checks the whole.
    ///
    /// # Errors
    /// Everything that is wrong with it, by place.
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, ConfigErrors> {
        check::load(path, environment)
    }

    /// As [`Settings::load`], from the `text` of a file that is, or will be, at `path`.
    ///
    /// # Errors
    /// Everything that is wrong with it, by place.
    pub fn read(text: &str, path: &Path, environment: &Environment) -> Result<Self, ConfigErrors> {
        check::read(text, path, environment)
    }

    /// The config epoch: SHA-256 over the settings in canonical form. Two configurations have the same epoch if and
    /// only if they mean the same; comments, layout, the order of keys, ways to write a value and where a value came
    /// from make no difference. What stands in the named files takes no part.
    pub fn epoch(&self) -> Hash {
        Hash::of(epoch::canonical(self).as_bytes())
    }
}

/// The keys whose change from `old` to `new` needs a restart, in a fixed order; everything else can be swapped in by
/// a reload.
pub fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let Log {
        dir,
        state_dir,
        origin,
        key_file,
        retiring_key_file,
        key_overlap,
        durability,
        timeout,
        queue,
        write_buffer,
        block_cache,
        mark_file,
        disk,
        witnessing,
    } = &old.log;
    [
        ("server.listen", old.server.listen == new.server.listen),
        ("server.workers", old.server.workers == new.server.workers),
        ("admin.listen", old.admin.listen == new.admin.listen),
        ("health", old.health == new.health),
        ("log.dir", *dir == new.log.dir),
        ("log.state_dir", *state_dir == new.log.state_dir),
        ("log.origin", *origin == new.log.origin),
        ("log.key_file", *key_file == new.log.key_file),
        ("log.retiring_key_file", *retiring_key_file == new.log.retiring_key_file),
        ("log.key_overlap", *key_overlap == new.log.key_overlap),
        ("log.durability", *durability == new.log.durability),
        ("log.timeout", *timeout == new.log.timeout),
        ("log.queue", *queue == new.log.queue),
        ("log.memory", (*write_buffer, *block_cache) == (new.log.write_buffer, new.log.block_cache)),
        ("log.mark_file", *mark_file == new.log.mark_file),
        ("log.disk", *disk == new.log.disk),
        ("log.witnesses", *witnessing == new.log.witnessing),
        ("verify", old.verify == new.verify),
        ("logging", old.logging == new.logging),
    ]
    .into_iter()
    .filter_map(|(key, same)| (!same).then_some(key))
    .collect()
}

/// The public listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where to listen; at least one, none twice. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Worker threads; 0 means one per core.
    pub workers: usize,
    /// TLS for all of `listen`; `None` is plain HTTP.
    pub tls: Option<Tls>,
    /// Whose client certificates prove callers; only with `tls`. `None` asks for none.
    pub client_certs: Option<ClientCerts>,
    /// The networks whose word on the client's address is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a drain waits for what is in flight.
    pub drain_timeout: Duration,
}

/// A certificate chain and its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Whose client certificates prove callers, and what callers are called by them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCerts {
    /// Its name in principals and records; no issuer has the same.
    pub name: String,
    /// The authorities, PEM.
    pub ca_file: PathBuf,
    /// Lists of revoked certificates, PEM; where there are any, each authority needs one.
    pub crl_files: Vec<PathBuf>,
    /// What names the caller, in the order in which it is looked for; at least one, none twice.
    pub subject: Vec<Subject>,
    /// The trust domain that SPIFFE IDs must be of; there if and only if `subject` has [`Subject::Spiffe`].
    pub trust_domain: Option<String>,
    /// Whether its subjects are `user:<subject>`, not `user:<name>:<subject>`; then no issuer is primary.
    pub primary: bool,
}

/// What in a certificate names the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Its SPIFFE ID.
    Spiffe,
    /// Its DNS name.
    Dns,
    /// Its common name.
    CommonName,
}

impl Subject {
    /// All of them, each with its word in the config.
    pub const ALL: [(&'static str, Self); 3] =
        [("spiffe", Self::Spiffe), ("dns", Self::Dns), ("cn", Self::CommonName)];

    /// Its word in the config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spiffe => "spiffe",
            Self::Dns => "dns",
            Self::CommonName => "cn",
        }
    }
}

/// The admin API's listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where to listen.
    pub listen: SocketAddr,
    /// TLS; `None` is plain HTTP.
    pub tls: Option<Tls>,
    /// Whether it asks for client certificates, of those whom `server.client_certs` vouches for.
    pub certificates: Certificates,
}

/// The health listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Where to listen.
    pub listen: SocketAddr,
}

/// The audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The store's directory.
    pub dir: PathBuf,
    /// Where marks about the log are kept; not within `dir`.
    pub state_dir: PathBuf,
    /// The log's name, valid as a C2SP signed-note key name: visible ASCII without `+`, at most 255 bytes, a host and
    /// perhaps a path.
    pub origin: String,
    /// The Ed25519 signing key: PKCS#8 PEM.
    pub key_file: PathBuf,
    /// The signing key before that one, while the log's key changes; likewise.
    pub retiring_key_file: Option<PathBuf>,
    /// How long the retiring key signs beside the new one.
    pub key_overlap: Duration,
    /// What a record must survive before it counts.
    pub durability: Durability,
    /// How long a decision may wait to be durable.
    pub timeout: Duration,
    /// How many records may wait for the writer.
    pub queue: usize,
    /// The store's write buffers, in bytes.
    pub write_buffer: u64,
    /// The store's block cache, in bytes.
    pub block_cache: u64,
    /// Where the high-water mark of the log is kept, outside `dir`; `None` keeps none.
    pub mark_file: Option<PathBuf>,
    /// Room on the disk that `dir` is on.
    pub disk: Disk,
    /// Who cosigns its checkpoints, and what waits for that.
    pub witnessing: Witnessing,
}

/// Who cosigns the log's checkpoints, and what waits for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessing {
    /// What waits for cosignatures.
    pub mode: WitnessMode,
    /// How many witnesses must have cosigned a checkpoint; 1 to as many as there are, 0 if there are none.
    pub quorum: usize,
    /// How old a record may become before enough have cosigned it.
    pub max_age: Duration,
    /// The witnesses; none has the name or the key of another.
    pub witnesses: Vec<Witness>,
}

/// What waits until witnesses have cosigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitnessMode {
    /// Nothing.
    Async,
    /// New calls are refused while a record older than `max_age` is not cosigned.
    Bounded,
    /// Each call, for its own record.
    Required,
}

impl WitnessMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Async, Self::Bounded, Self::Required];

    /// Its word in the config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Bounded => "bounded",
            Self::Required => "required",
        }
    }
}

/// A witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// What it is called in figures and messages.
    pub name: String,
    /// Its submission prefix, `http` or `https`, without a slash at the end (C2SP tlog-witness).
    pub url: Uri,
    /// What its cosignatures are checked by.
    pub key: CosignerKey,
    /// The authorities of its certificate, PEM; `None` trusts the system's.
    pub ca_file: Option<PathBuf>,
}

/// Room on the log's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// With less free than this the gate says that it is not ready, bytes; more than `reserve`.
    pub low: u64,
    /// Held back for the log's last words, bytes; with less free beside it no decision is taken. 0 holds nothing back.
    pub reserve: u64,
}

/// What a record must survive before it counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The machine's crash: synced to disk.
    Fsync,
    /// The process's crash: handed to the operating system.
    Os,
}

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The Casbin model.
    pub model: PathBuf,
    /// The policy files, in order; at least one, none twice.
    pub files: Vec<PathBuf>,
    /// Whether to reload when one of the files changes.
    pub watch: bool,
    /// How long one decision may take.
    pub timeout: Duration,
}

/// What holds for all issuers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// How far clocks may differ when `exp` and `nbf` are read.
    pub leeway: Duration,
    /// How many verified tokens to remember; 0 remembers none.
    pub remember: usize,
    /// The header that tells upstreams the caller.
    pub subject_header: HeaderName,
    /// The header that tells upstreams the caller's roles; another one than `subject_header`.
    pub roles_header: HeaderName,
}

/// One who vouches for callers by signed tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name here, unique: lower-case letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Its `iss`, unique.
    pub issuer: String,
    /// The values of `aud` that name this gate; at least one.
    pub audience: Vec<String>,
    /// The algorithms its tokens may be signed with; at least one.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// How often its keys are fetched anew.
    pub refresh: Duration,
    /// How long fetched keys are trusted when no newer ones can be had; at least `refresh`.
    pub max_stale: Duration,
    /// The claim that holds the subject, as the steps of a path into the token; at least one.
    pub subject_claim: Vec<String>,
    /// The claim that holds the roles, as the steps of a path into the token; at least one.
    pub roles_claim: Vec<String>,
    /// The roles it may grant, without `role:`; none grants none.
    pub roles: Vec<String>,
    /// Whether its subjects are `user:<sub>`, not `user:<name>:<sub>`.
    pub primary: bool,
}

/// Where an issuer's keys (a JWK Set, RFC 7517 §5) come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// A URL.
    Url {
        /// `https`, or `http` to a loopback address or where the operator allows it. Without userinfo or fragment.
        url: Uri,
        /// The authorities that may sign the server's certificate, PEM; `None` means the system's.
        ca_file: Option<PathBuf>,
    },
}

/// A signature algorithm for tokens (RFC 7518 §3.1, RFC 8037 §3.1); only asymmetric ones exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
    ];

    /// Its name in a token's `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }
}

/// A backend behind the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, hosts, prefix and reading of paths. Names are unique, and so is each pair of host and prefix.
    pub route: Route,
    /// Where its calls go; at least one, none twice.
    pub upstreams: Vec<Upstream>,
    /// The authorities that may sign its upstreams' certificates, PEM; `None` means the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether upstreams see `Authorization`.
    pub forward_authorization: bool,
    /// How the gate answers CORS preflights; `Some` if and only if `route.preflights` says that it does.
    pub cors: Option<Cors>,
    /// How long its upstreams may take.
    pub timeouts: Timeouts,
    /// The longest request body, in bytes; `None` is unlimited.
    pub max_body: Option<u64>,
    /// Bytes a second of a request's body, on average, that a caller must send; 0 asks for none.
    pub min_rate: u64,
    /// How often it may be called.
    pub rates: ServiceRates,
    /// Whether its upstreams are sent a signed assertion with each call.
    pub assertion: bool,
}

/// How calls are vouched for to services that ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// The Ed25519 key that signs: PKCS#8 PEM.
    pub key_file: PathBuf,
    /// Keys that are published beside it: the one that is to sign next, or that did before; none twice.
    pub also_publish: Vec<PathBuf>,
    /// How long an assertion holds; whole seconds.
    pub lifetime: Duration,
}

/// The log's verification in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verify {
    /// Whether it is done.
    pub enabled: bool,
    /// From the end of one pass to the start of the next.
    pub pause: Duration,
    /// Records per second.
    pub rate: u32,
    /// What a mismatch brings about.
    pub on_mismatch: OnMismatch,
}

/// What a mismatch in the log brings about, beside an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMismatch {
    /// Nothing: the gate goes on.
    Alert,
    /// The log takes no more records, so every call is refused.
    Stop,
}

/// One place a service's calls go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Name or address, lower-case; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Upstream {
    /// Host and port for `Host` headers and URLs: without the scheme's default port, IPv6 in brackets.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

/// How the gate answers CORS preflights itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Who may call.
    pub origins: CorsOrigins,
    /// With which methods.
    pub methods: Vec<Method>,
    /// With which headers beside the safelisted ones.
    pub headers: Vec<HeaderName>,
    /// How long browsers may remember the answer; whole seconds.
    pub max_age: Duration,
    /// Whether browsers may send credentials; never with [`CorsOrigins::Any`].
    pub credentials: bool,
}

/// The web origins that may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// All.
    Any,
    /// These, each as browsers send it: lower-case, without default port.
    Listed(Vec<String>),
}

/// How long an upstream may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To accept a connection, TLS included.
    pub connect: Duration,
    /// From the end of the request to the head of the response.
    pub head: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
}

/// Bounds on what a stranger controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Open connections of one address, or of one IPv6 /64.
    pub connections_per_address: usize,
    /// Calls of one address, to whatever service; `None` is no bound.
    pub rate_per_address: Option<Rate>,
    /// Requests being served.
    pub in_flight: usize,
    /// A request's head, in bytes.
    pub header_bytes: usize,
    /// Header fields in a request.
    pub headers: usize,
    /// A request target, in bytes; at most `header_bytes`.
    pub target_bytes: usize,
    /// How long a request's head may take to arrive.
    pub header_timeout: Duration,
    /// How long a kept connection may lie idle.
    pub idle_timeout: Duration,
    /// Concurrent streams of one HTTP/2 connection.
    pub h2_streams: u32,
    /// What denials of callers who proved nothing may add to the log, bytes per second; `None` is unlimited.
    pub denial_bytes: Option<u64>,
}

/// The process's own log on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The least severe level that is written.
    pub level: Level,
    /// In which form.
    pub format: Format,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// And what may fail soon.
    Warn,
    /// And what happened.
    Info,
    /// And how.
    Debug,
    /// And every step.
    Trace,
}

impl Level {
    /// Its name, as filters of `tracing` read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A file that the configuration names.
#[derive(Clone, Debug)]
pub struct NamedFile {
    /// The key that names it, e.g. `service[0].ca_file`.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// The file.
    pub path: PathBuf,
    /// What it should hold.
    pub holds: Holds,
}

/// What a named file should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A certificate chain, PEM.
    Certificates,
    /// The private key of a certificate, PEM.
    PrivateKey,
    /// Certificates of authorities, PEM.
    Authorities,
    /// Lists of revoked certificates, PEM.
    Revocations,
    /// The log's Ed25519 signing key, PKCS#8 PEM.
    SigningKey,
    /// An Ed25519 key for assertions, PKCS#8 PEM.
    AssertionKey,
    /// A JWK Set.
    KeySet,
    /// A Casbin model.
    Model,
    /// Casbin policy rows.
    Policy,
}
