//! Everything that can be wrong with a configuration. Each message says what is wrong and what to write.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::access::Malformed;

/// All that is wrong with a configuration, ordered by place; at least one.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One fault, and where it is. Prints on one line: `config/portcullis.toml:3:10: log.origin: <fault>`.
#[derive(Debug)]
pub struct ConfigError {
    /// Where to look.
    pub place: Place,
    /// The key, e.g. `service[0].upstreams[1]`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, and what to write.
    pub fault: Fault,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)?;
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.source()
    }
}

/// Where a setting stands. The order of the variants is the order in which faults are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The config file as a whole.
    File(Arc<Path>),
    /// A line and column of the config file, each from 1; columns count characters.
    Line(Arc<Path>, usize, usize),
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Line(path, line, column) => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// What can be wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum Fault {
    // The file and its shape
    #[error("cannot be read: {0}; name a file that can be")]
    Unreadable(#[source] std::io::Error),
    #[error("not TOML: {0}")]
    Syntax(String),
    #[error("unknown key; did you mean `{near}`?")]
    UnknownKey { near: String },
    #[error("unknown key; the keys here are {known}")]
    UnknownKeyAmong { known: String },
    #[error("is {found}; write {wanted}")]
    Type { found: &'static str, wanted: &'static str },
    #[error("missing; write {write}")]
    Missing { write: &'static str },
    #[error("is empty; write {write}")]
    Empty { write: &'static str },
    #[error("{value:?} stands here twice; write it once")]
    Twice { value: String },
    #[error("{found:?} is none of {choices}; write one of those")]
    Choice { found: String, choices: String },
    #[error("{found:?} is none of {choices}; did you mean {near:?}?")]
    ChoiceNear { found: String, choices: String, near: String },
    #[error("{found} is out of bounds; write a number from {least} to {most}")]
    Number { found: i128, least: u64, most: u64 },

    // Variables
    #[error("names no setting; did you mean {near}?")]
    UnknownVariable { near: String },
    #[error("names no setting; write for example PORTCULLIS__LOG__ORIGIN for `log.origin`")]
    VariableName,
    #[error("is not UTF-8; write it in UTF-8")]
    VariableText,
    #[error("names the same setting as {other}; set one of them only")]
    VariableTwice { other: String },
    #[error("has no element before this one; write {next} for the next new element")]
    VariableIndex { next: String },
    #[error("has no number; write {first} for the first element")]
    VariableNumber { first: String },
    #[error("names a part of {whole}, which has no parts; set {whole} itself")]
    VariablePart { whole: String },

    // Durations and sizes
    #[error(
        "{found:?} is not a duration; write a whole number and a unit, like \"250ms\", \"5s\", \"10m\" or \"24h\""
    )]
    Duration { found: String },
    #[error(
        "{found:?} is not a rate; write how many in a second, minute or hour, like \"100/s\" or \"600/m\", at most a \
         million, and perhaps how many at once: \"100/s burst 200\""
    )]
    Rate { found: String },
    #[error("{found:?} is out of bounds; write a duration from {least:?} to {most:?}")]
    DurationBounds { found: String, least: &'static str, most: &'static str },
    #[error("{found:?} has parts of a second; write whole seconds")]
    WholeSeconds { found: String },
    #[error(
        "{found:?} is not a size; write bytes as a number, or a whole number and a unit, like \"64KiB\" or \"10MiB\""
    )]
    Size { found: String },
    #[error("{found} bytes is out of bounds; write a size from {least:?} to {most:?}")]
    SizeBounds { found: i128, least: &'static str, most: &'static str },

    // Listeners and networks
    #[error("{found:?} is not an address and a port; write for example \"127.0.0.1:8080\" or \"[::1]:8080\"")]
    Address { found: String },
    #[error("{found} is already taken by {other}; give each listener an address of its own")]
    ListenerTaken { found: std::net::SocketAddr, other: String },
    #[error(
        "{found} is open to other machines, which send tokens and read the log over it in plain text; write a loopback address, or `tls = {{ cert = \"…\", key = \"…\" }}` in [admin]"
    )]
    AdminInTheOpen { found: std::net::SocketAddr },
    #[error("{found:?} is not a network; write for example \"10.0.0.0/8\", \"192.0.2.1\" or \"fd00::/8\"")]
    Network { found: String },
    #[error("{found:?} has bits set beyond its prefix; write {network:?}")]
    NetworkBits { found: String, network: String },

    #[error(
        "{target} bytes is more than a whole head of {head} may have; write a smaller target or a greater head"
    )]
    TargetBeyondHead { target: u64, head: u64 },

    // The log
    #[error("{found:?} has a scheme; write it without, like \"portcullis.example.com/gate-1\"")]
    OriginScheme { found: String },
    #[error(
        "{found:?} has {bad:?} in it; write visible ASCII without '+', like \"portcullis.example.com/gate-1\""
    )]
    OriginCharacter { found: String, bad: char },
    #[error("is {len} bytes long; write at most 255")]
    OriginLength { len: usize },
    #[error(
        "{found:?} does not begin with a host; write a host and perhaps a path, like \"portcullis.example.com/gate-1\""
    )]
    OriginHost { found: String },
    #[error(
        "{found:?} has an empty, `.` or `..` part; write it without, like \"portcullis.example.com/gate-1\""
    )]
    OriginPath { found: String },
    #[error(
        "lies within `log.dir`; write a directory outside it, so that a log lost or replaced can be told"
    )]
    StateWithinLog,
    #[error(
        "lies within `log.state_dir`; write a directory outside it, so that a log lost or replaced can be told"
    )]
    LogWithinState,

    #[error(
        "lies within `log.dir`; write a file outside it, best on another disk, so that a log cut or replaced can be told"
    )]
    MarkWithinLog,
    #[error(
        "{low} bytes is less than the {reserve} of `reserve`; write more, so that the alarm comes before the stop"
    )]
    LowBelowReserve { low: u64, reserve: u64 },

    #[error("has no use without a witness; write `[[witness]]` with name, url and vkey, or remove it")]
    NoWitnesses,
    #[error("is not an http or https URL without query; write for example \"https://witness.example.com\"")]
    WitnessUrl,
    #[error("{0}")]
    WitnessKey(#[source] crate::audit::checkpoint::CosignerKeyError),
    #[error("is the key of {other} too; a witness counts once, so write it once")]
    WitnessTwice { other: String },
    #[error("has no use here, the witness is not asked over https; remove it, or write an https `url`")]
    WitnessAuthorities,

    // Names
    #[error(
        "{found:?} is not a name; write at most 64 lower-case letters, digits, '-', '_' and '.', \
         beginning with a letter or a digit"
    )]
    Name { found: String },
    #[error("\"admin\" is the admin API's own name; write another")]
    NameReserved,
    #[error("{found:?} is the name of {other} too; give each its own")]
    NameTaken { found: String, other: String },

    // Client certificates
    #[error(
        "has no use without TLS; write `tls = {{ cert = \"…\", key = \"…\" }}` for the listener that asks, or remove it"
    )]
    CertificatesWithoutTls,
    #[error(
        "asks for certificates, but nobody says whose are good; write `client_certs = {{ … }}` in [server], or remove it"
    )]
    CertificatesUnasked,
    #[error("{found:?} is not a trust domain; write it without \"spiffe://\", like \"example.org\"")]
    TrustDomain { found: String },
    #[error("has no use here, `subject` has no \"spiffe\"; remove it, or write \"spiffe\"")]
    TrustDomainUnused,
    #[error(
        "has no use here, this service asks for no certificate; remove it, or write `client_cert = \"optional\"` or \"required\""
    )]
    SubjectFromUnused,

    // Services
    #[error("{found:?} is not a host; write a name, an address, \"*.example.com\" or \"*\"")]
    Host { found: String },
    #[error("{found:?} has a port; write the host alone, {host:?}")]
    HostPort { found: String, host: String },
    #[error(
        "{host:?} with prefix {prefix:?} leads to {other} too; give each service its own hosts or prefix"
    )]
    RouteTaken { host: String, prefix: String, other: String },
    #[error("{found:?} cannot be a prefix: {why}; write one like \"/api\"")]
    Prefix { found: String, why: Malformed },
    #[error("{found:?} is not in canonical form; write {canonical:?}")]
    PrefixForm { found: String, canonical: String },
    #[error("cannot stand beside `strip_prefix = true`; write one of the two")]
    RewriteTwice,
    #[error("does nothing for the prefix \"/\"; remove it, or write a `path_prefix`")]
    StripNothing,
    #[error("is not a URL; write for example \"http://127.0.0.1:9000\" or \"https://app.internal\"")]
    Upstream,
    #[error("has a user or a password; write it without, upstreams are not given credentials")]
    UpstreamUser,
    #[error(
        "has a path, a query or a fragment; write scheme, host and port only, without a slash at the end"
    )]
    UpstreamPath,
    #[error("has no use here, no upstream is https; remove it, or write https upstreams")]
    UpstreamAuthorities,

    #[error(
        "has no key to sign with; write `[assertion]` with key_file = \"../data/keys/assertion.pem\", as `portcullis keygen --assertion` makes it"
    )]
    AssertionWithoutKey,
    #[error("{found:?} is not a path: {why}; write one like \"/healthz\"")]
    Path { found: String, why: Malformed },
    #[error(
        "{found:?} has a `*` before its end; write the beginning of the agent's name, like \"kube-probe/*\""
    )]
    UserAgent { found: String },
    #[error(
        "{found:?} is not a pattern; write whole segments, `{{}}` for those that are secrets, like \"/invite/{{}}/accept\" or \"/reset/{{}}/**\""
    )]
    Redaction { found: String },

    // CORS
    #[error("has no effect unless `mode = \"answer\"`; remove it, or write that mode")]
    CorsUnused,
    #[error(
        "{found:?} is not a web origin; write for example \"https://app.example.com\", or \"*\" alone for all"
    )]
    CorsOrigin { found: String },
    #[error(
        "lets every origin send credentials, which browsers refuse; list the origins, or remove `credentials`"
    )]
    CorsCredentials,

    // Issuers
    #[error("{found:?} is the `iss` of {other} too; write one issuer for it")]
    IssuerTaken { found: String, other: String },
    #[error(
        "{found:?} is no proof: whoever can check it can make it; write an asymmetric algorithm, like \"ES256\""
    )]
    AlgorithmSymmetric { found: String },
    #[error("has no keys; write `jwks_file = \"…\"` or `jwks_url = \"https://…\"`")]
    KeysMissing,
    #[error("cannot stand beside `jwks_file`; write one of the two")]
    KeysTwice,
    #[error("is not an http or https URL; write for example \"https://id.example.com/keys.json\"")]
    KeysUrl,
    #[error("has a user, a password or a fragment; write it without")]
    KeysUrlParts,
    #[error(
        "sends keys over plain http, where anybody between could swap them; write an https URL, or set `allow_http_jwks = true`"
    )]
    KeysPlain,
    #[error("has no use here, keys do not come over https; remove it, or write an https `jwks_url`")]
    KeysAuthorities,
    #[error("is shorter than `refresh`; write at least {refresh:?}")]
    StaleBeforeRefresh { refresh: String },
    #[error(
        "{found:?} is not a claim; write for example \"sub\", \"realm_access.roles\" or [\"https://example.com/roles\"]"
    )]
    Claim { found: String },
    #[error("{found:?} is not a role; write it without \"role:\", commas, spaces and control characters")]
    Role { found: String },
    #[error("is one of several issuers, none of them primary; write `primary = true` in one")]
    PrimaryMissing,
    #[error("{other} is primary already; write `primary = true` in one issuer only")]
    PrimaryTaken { other: String },

    // Headers
    #[error("{found:?} is not a header name; write letters, digits and '-', like \"X-Auth-Subject\"")]
    Header { found: String },
    #[error("{found:?} belongs to HTTP or to the gate; write another, like \"X-Auth-Subject\"")]
    HeaderReserved { found: String },
    #[error("{found:?} is `identity.headers.subject` too; write another")]
    HeaderTaken { found: String },
}
