//! What decisions, outcomes and events say of themselves. Keys are written here in the order of the format.
//!
//! Budgets (encoded bytes) are at the end of this file, with the check that they cannot add up to more than a record.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use super::text::{self, number};
use super::{Body, Kind, MAX_HEAD_BYTES, MAX_RECORD_BYTES};
use crate::access::certificate::ClientCertificate;
use crate::access::{Caller, Decision, Identity, Rule};
use crate::audit::hash::Hash;
use crate::clock::Timestamp;

/// Policy and config in force when a record was made; [`Hash::ZERO`] for one that was not loaded yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// SHA-256 over model and policy as loaded.
    pub policy: Hash,
    /// SHA-256 over the checked settings without secrets.
    pub config: Hash,
}

/// An attempt and what was decided.
#[derive(Clone, Copy, Debug)]
pub struct DecisionEntry<'a> {
    /// Allow or deny, and why.
    pub decision: &'a Decision,
    /// What it was decided by.
    pub epochs: Epochs,
    /// Who called, as proved.
    pub identity: &'a Identity,
    /// The client certificate that was shown and looked at.
    pub certificate: Option<&'a ClientCertificate>,
    /// Where the call came from.
    pub client: ClientEntry<'a>,
    /// What was asked for.
    pub request: RequestEntry<'a>,
}

/// Where a call came from.
#[derive(Clone, Copy, Debug)]
pub struct ClientEntry<'a> {
    /// The client's address: the connection's, or the one that a trusted proxy named.
    pub ip: IpAddr,
    /// The port of the connection's other end.
    pub port: u16,
    /// The address of the trusted proxy, where `ip` is its word.
    pub via: Option<IpAddr>,
    /// The version of TLS, e.g. `TLSv1.3`; `None` on a plain connection.
    pub tls: Option<&'a str>,
}

/// What was asked for. The bytes are the client's; any will do.
#[derive(Clone, Copy, Debug)]
pub struct RequestEntry<'a> {
    /// The request's ID, as the response names it.
    pub id: &'a str,
    /// The service it was routed to, if it was.
    pub service: Option<&'a str>,
    /// The method, as sent.
    pub method: &'a str,
    /// The canonical host, or what stood in its place; if that has user information (`name:secret@`), it is left out.
    pub host: Option<&'a [u8]>,
    /// The canonical path that was decided; `None` if there is none.
    pub path: Option<&'a str>,
    /// The target as it arrived, where there is no canonical path. Only what is before `?` or `#` is written, and
    /// user information is left out: the rest can be secret.
    pub target: Option<&'a [u8]>,
    /// The names of the query's parameters, undecoded, in order; never their values.
    pub query: &'a [&'a [u8]],
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The trace ID of `traceparent`, carried or begun (32 hex digits).
    pub trace_id: Option<&'a str>,
}

/// What became of an allowed call.
#[derive(Clone, Copy, Debug)]
pub struct OutcomeEntry<'a> {
    /// The index of the decision's record.
    pub decision: u64,
    /// The epochs of the decision; of the gate that closes it, if the result is [`OutcomeResult::Unknown`].
    pub epochs: Epochs,
    /// How it ended.
    pub result: OutcomeResult,
    /// What went wrong, as one word of the forwarder's closed list.
    pub detail: Option<&'a str>,
    /// The status sent to the client.
    pub status: Option<u16>,
    /// Bytes of the request's body that went to the upstream.
    pub request_bytes: u64,
    /// Bytes of the response's body that went to the client.
    pub response_bytes: u64,
    /// From the decision's release to the end of the response.
    pub duration: Duration,
    /// The upstream that answered, or that was tried last.
    pub upstream: Option<&'a str>,
}

/// How an allowed call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutcomeResult {
    /// The whole response was sent.
    Completed,
    /// The permit was dropped unused: nothing reached an upstream.
    NotForwarded,
    /// The upstream could not be reached, or failed before its response was complete.
    UpstreamError,
    /// The client went away before the response was complete.
    Aborted,
    /// The gate went away; whether anything reached the upstream is not known.
    Unknown,
}

impl OutcomeResult {
    /// The word for it in a record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::NotForwarded => "not_forwarded",
            Self::UpstreamError => "upstream_error",
            Self::Aborted => "aborted",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that happened to the gate itself.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The log begins: the record at index 0.
    Created {
        /// The log's name.
        origin: &'a str,
        /// The verifier key it begins with.
        vkey: &'a str,
        /// The version of Portcullis.
        version: &'a str,
    },
    /// The gate serves, with the epochs named.
    Started {
        /// The version of Portcullis.
        version: &'a str,
    },
    /// The gate has drained and closes the log.
    Stopped,
    /// The clock moved by more than a second otherwise than by passing.
    ClockJumped {
        /// Microseconds; negative if it was set back.
        by_us: i64,
    },
    /// A policy was loaded; its epoch is the record's.
    PolicyLoaded {
        /// How many rows it has.
        rows: u64,
        /// The files it came from, as the config names them.
        files: &'a [&'a str],
    },
    /// A policy was refused; the epoch is that of the one that serves on.
    PolicyRefused {
        /// What is wrong, and where.
        error: &'a str,
    },
    /// A config was loaded; its epoch is the record's.
    ConfigLoaded,
    /// A config was refused; the epoch is that of the one that serves on.
    ConfigRefused {
        /// What is wrong, and where.
        error: &'a str,
    },
    /// Certificates, keys, authorities or lists of revocations were loaded anew.
    CertificatesLoaded {
        /// The files they came from, as the config names them.
        files: &'a [&'a str],
    },
    /// How often something happened that is not recorded one by one.
    Sum {
        /// What, as one word.
        what: &'a str,
        /// How often.
        count: u64,
        /// When counting began; it ended at the record's time.
        since: Timestamp,
    },
}

impl Event<'_> {
    const fn kind(&self) -> Kind {
        match self {
            Self::Created { .. } | Self::Started { .. } | Self::Stopped | Self::ClockJumped { .. } => {
                Kind::Lifecycle
            }
            Self::PolicyLoaded { .. } | Self::PolicyRefused { .. } => Kind::Policy,
            Self::ConfigLoaded | Self::ConfigRefused { .. } | Self::CertificatesLoaded { .. } => Kind::Config,
            Self::Sum { .. } => Kind::Summary,
        }
    }

    const fn word(&self) -> &str {
        match self {
            Self::Created { .. } => "created",
            Self::Started { .. } => "started",
            Self::Stopped => "stopped",
            Self::ClockJumped { .. } => "clock_jumped",
            Self::PolicyLoaded { .. } | Self::ConfigLoaded => "loaded",
            Self::PolicyRefused { .. } | Self::ConfigRefused { .. } => "refused",
            Self::CertificatesLoaded { .. } => "certificates_loaded",
            Self::Sum { what, .. } => what,
        }
    }
}

impl Body {
    /// The body of a decision's record.
    pub fn decision(entry: &DecisionEntry<'_>) -> Self {
        let mut w = Fields::begin(Kind::Decision, &entry.epochs, 1_024);
        w.text("decision", entry.decision.as_str().as_bytes(), budget::WORD);
        let grounds = entry.decision.grounds();
        w.text("reason", grounds.reason.code().as_bytes(), budget::WORD);
        if let Some(rule) = &grounds.rule {
            w.object("rule", |w| w.rule(rule));
        }
        w.object("identity", |w| w.identity(entry.identity, entry.certificate));
        w.object("client", |w| w.client(&entry.client));
        w.object("request", |w| w.request(&entry.request));
        w.end()
    }

    /// The body of an outcome's record.
    pub fn outcome(entry: &OutcomeEntry<'_>) -> Self {
        let mut w = Fields::begin(Kind::Outcome, &entry.epochs, 512);
        w.number("decision_index", entry.decision);
        w.text("result", entry.result.as_str().as_bytes(), budget::WORD);
        w.some_text("detail", entry.detail, budget::WORD);
        if let Some(status) = entry.status {
            w.number("status", u64::from(status));
        }
        w.number("request_bytes", entry.request_bytes);
        w.number("response_bytes", entry.response_bytes);
        w.number("duration_us", u64::try_from(entry.duration.as_micros()).unwrap_or(u64::MAX));
        w.some_text("upstream", entry.upstream, budget::UPSTREAM);
        w.end()
    }

    /// The body of an event's record.
    pub fn event(epochs: &Epochs, event: &Event<'_>) -> Self {
        let mut w = Fields::begin(event.kind(), epochs, 512);
        w.text("event", event.word().as_bytes(), budget::WORD);
        match event {
            Event::Created { origin, vkey, version } => {
                w.text("origin", origin.as_bytes(), budget::WORD);
                w.text("vkey", vkey.as_bytes(), budget::VKEY);
                w.text("version", version.as_bytes(), budget::WORD);
            }
            Event::Started { version } => w.text("version", version.as_bytes(), budget::WORD),
            Event::ClockJumped { by_us } => {
                w.key("by_us");
                if *by_us < 0 {
                    w.out.push(b'-');
                }
                number(&mut w.out, by_us.unsigned_abs());
            }
            Event::PolicyLoaded { rows, files } => {
                w.number("rows", *rows);
                w.key("files");
                text::list(&mut w.out, files, budget::FILES);
            }
            Event::CertificatesLoaded { files } => {
                w.key("files");
                text::list(&mut w.out, files, budget::FILES);
            }
            Event::PolicyRefused { error } | Event::ConfigRefused { error } => {
                w.text("error", error.as_bytes(), budget::ERROR);
            }
            Event::Sum { count, since, .. } => {
                w.number("count", *count);
                w.key("since");
                w.out.push(b'"');
                super::head::write_time(*since, &mut w.out);
                w.out.push(b'"');
            }
            Event::Stopped | Event::ConfigLoaded => {}
        }
        w.end()
    }
}

/// Writes the fields of one record, in order.
struct Fields {
    kind: Kind,
    out: Vec<u8>,
}

impl Fields {
    fn begin(kind: Kind, epochs: &Epochs, capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        out.extend_from_slice(br#""kind":""#);
        out.extend_from_slice(kind.as_str().as_bytes());
        out.extend_from_slice(br#"","policy":""#);
        epochs.policy.write_hex(&mut out);
        out.extend_from_slice(br#"","config":""#);
        epochs.config.write_hex(&mut out);
        out.push(b'"');
        Self { kind, out }
    }

    fn end(mut self) -> Body {
        self.out.push(b'}');
        Body { kind: self.kind, bytes: self.out }
    }

    fn key(&mut self, key: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(br#"":"#);
    }

    fn object(&mut self, key: &str, fields: impl FnOnce(&mut Self)) {
        self.key(key);
        self.out.push(b'{');
        fields(self);
        self.out.push(b'}');
    }

    fn text(&mut self, key: &str, value: &[u8], budget: usize) {
        self.key(key);
        text::text(&mut self.out, value, budget);
    }

    fn some_text<T: AsRef<[u8]>>(&mut self, key: &str, value: Option<T>, budget: usize) {
        if let Some(value) = value {
            self.text(key, value.as_ref(), budget);
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        number(&mut self.out, value);
    }

    fn ip(&mut self, key: &str, ip: IpAddr) {
        self.key(key);
        // Writing to a Vec cannot fail.
        let _ = write!(self.out, "\"{ip}\"");
    }

    fn rule(&mut self, rule: &Rule) {
        self.text("text", rule.text.as_bytes(), budget::RULE_TEXT);
        self.text("file", rule.file.as_bytes(), budget::RULE_FILE);
        self.number("line", u64::from(rule.line));
    }

    fn identity(&mut self, identity: &Identity, certificate: Option<&ClientCertificate>) {
        match identity {
            Identity::Anonymous => {
                self.text("state", b"anonymous", budget::WORD);
                self.text("user", b"anonymous", budget::USER);
            }
            Identity::Proved(caller) => {
                self.text("state", b"proved", budget::WORD);
                self.caller(caller);
            }
            Identity::Failed(fault) => {
                self.text("state", b"failed", budget::WORD);
                self.text("fault", fault.as_str().as_bytes(), budget::WORD);
            }
        }
        if let Some(certificate) = certificate {
            self.object("certificate", |w| {
                w.text("sha256", certificate.fingerprint.to_string().as_bytes(), budget::WORD);
                w.text("serial", certificate.serial.as_bytes(), budget::WORD);
            });
        }
    }

    fn caller(&mut self, caller: &Caller) {
        self.text("user", caller.user.as_bytes(), budget::USER);
        self.key("roles");
        text::list(&mut self.out, &caller.roles, budget::ROLES);
        self.text("issuer", caller.issuer.as_bytes(), budget::WORD);
        self.text("method", caller.method.as_str().as_bytes(), budget::WORD);
        self.some_text("jti", caller.token_id.as_ref(), budget::TOKEN_ID);
        self.some_text("kid", caller.key_id.as_ref(), budget::TOKEN_ID);
        if let Some(also) = &caller.also {
            self.object("also", |w| {
                w.text("user", also.user.as_bytes(), budget::USER);
                w.text("issuer", also.issuer.as_bytes(), budget::WORD);
                w.text("method", also.method.as_str().as_bytes(), budget::WORD);
                w.some_text("jti", also.token_id.as_ref(), budget::TOKEN_ID);
                w.some_text("kid", also.key_id.as_ref(), budget::TOKEN_ID);
            });
        }
    }

    fn client(&mut self, client: &ClientEntry<'_>) {
        self.ip("ip", client.ip);
        self.number("port", u64::from(client.port));
        if let Some(via) = client.via {
            self.ip("via", via);
        }
        self.some_text("tls", client.tls, budget::WORD);
    }

    fn request(&mut self, request: &RequestEntry<'_>) {
        self.text("id", request.id.as_bytes(), budget::WORD);
        self.some_text("service", request.service, budget::WORD);
        self.text("method", request.method.as_bytes(), budget::WORD);
        self.some_text("host", request.host.map(without_user_information), budget::HOST);
        self.some_text("path", request.path, budget::PATH);
        self.some_text("target", request.target.map(without_secrets), budget::TARGET);
        if !request.query.is_empty() {
            self.key("query");
            text::list(&mut self.out, request.query, budget::QUERY);
        }
        self.some_text("user_agent", request.user_agent, budget::USER_AGENT);
        self.some_text("trace_id", request.trace_id, budget::WORD);
    }
}

/// A malformed target up to and with the first `?` or `#`; if it may have an authority, without user information.
fn without_secrets(target: &[u8]) -> Cow<'_, [u8]> {
    let end = target.iter().position(|b| matches!(b, b'?' | b'#')).map_or(target.len(), |at| at + 1);
    let public = target.get(..end).unwrap_or(target);
    let is_path = public.starts_with(b"/") && !public.starts_with(b"//") && !public.starts_with(br"/\");
    if is_path { Cow::Borrowed(public) } else { without_user_information(public) }
}

/// `name:secret@host` as `*@host`. Takes the last `@`: what stands before it may be read as user information.
fn without_user_information(authority: &[u8]) -> Cow<'_, [u8]> {
    match authority.iter().rposition(|b| *b == b'@').and_then(|at| authority.get(at..)) {
        Some(rest) => Cow::Owned([b"*", rest].concat()),
        None => Cow::Borrowed(authority),
    }
}

/// What each field may take, in encoded bytes.
mod budget {
    /// Words of closed lists, and names from the config.
    pub(super) const WORD: usize = 256;
    pub(super) const RULE_TEXT: usize = 2_048;
    pub(super) const RULE_FILE: usize = 512;
    pub(super) const USER: usize = 1_024;
    pub(super) const ROLES: usize = 8_192;
    pub(super) const TOKEN_ID: usize = 512;
    pub(super) const HOST: usize = 1_024;
    pub(super) const PATH: usize = 16_384;
    pub(super) const TARGET: usize = 12_288;
    pub(super) const QUERY: usize = 8_192;
    pub(super) const USER_AGENT: usize = 1_024;
    pub(super) const UPSTREAM: usize = 512;
    pub(super) const VKEY: usize = 512;
    pub(super) const FILES: usize = 8_192;
    pub(super) const ERROR: usize = 8_192;

    /// Words in a decision: decision, reason, state, issuer, method, tls, id, service, method, trace_id; issuer and method
    /// of the other credential; fingerprint and serial of the certificate; one spare.
    const WORDS: usize = 15 * WORD;
    /// Keys, braces, numbers, epochs and addresses.
    const FIXED: usize = 1_024;
    pub(super) const DECISION: usize = FIXED
        + WORDS
        + RULE_TEXT
        + RULE_FILE
        + 2 * USER
        + ROLES
        + 4 * TOKEN_ID
        + HOST
        + PATH
        + TARGET
        + QUERY
        + USER_AGENT;
}

const _: () = assert!(MAX_HEAD_BYTES + budget::DECISION <= MAX_RECORD_BYTES);
const _: () = assert!(budget::WORD >= text::CUT_MAX && text::ITEM_BUDGET >= text::CUT_MAX);
const _: () = assert!(budget::QUERY >= text::CUT_LIST_MAX && budget::ROLES >= text::CUT_LIST_MAX);
const _: () = assert!(budget::FILES >= text::CUT_LIST_MAX);

#[cfg(test)]
mod tests;
