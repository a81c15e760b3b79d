//! What decisions, outcomes and events say of themselves. Keys are written here in the order of the format.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::fields::{Fields, budget};
use super::text::{self, number};
use super::{Body, Kind, Room};
use crate::access::certificate::ClientCertificate;
use crate::access::recording::Detail;
use crate::access::{Decision, Identity};
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
    /// How much of it is told.
    pub detail: Detail,
    /// Whether, if it is an allow, a record of its outcome will follow.
    pub outcome_follows: bool,
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
    pub path: Option<Shown<'a>>,
    /// The target as it arrived, where there is no canonical path, and only there. Only what is before `?` or `#` is
    /// written, and user information is left out: the rest can be secret.
    pub target: Option<Shown<'a>>,
    /// The names of the query's parameters, undecoded, in order; never their values.
    pub query: &'a [&'a [u8]],
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The trace ID of `traceparent`, carried or begun (32 hex digits).
    pub trace_id: Option<&'a str>,
    /// What else the head says; written at full detail.
    pub head: Option<HeadEntry<'a>>,
    /// What marks it out, as one word: `health_check`.
    pub tag: Option<&'a str>,
}

/// A path or target as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown<'a> {
    /// As it is.
    Whole(&'a [u8]),
    /// With `{}` in the place of what is secret in it, or a pattern in the place of all of it.
    Redacted(&'a str),
}

impl<'a> Shown<'a> {
    /// `redacted` where there is such, else `whole`.
    pub const fn of(whole: &'a [u8], redacted: Option<&'a str>) -> Self {
        match redacted {
            Some(redacted) => Self::Redacted(redacted),
            None => Self::Whole(whole),
        }
    }
}

/// What a head says beside what it asks for.
#[derive(Clone, Copy, Debug)]
pub struct HeadEntry<'a> {
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub version: &'a str,
    /// The names of its fields.
    pub fields: &'a [&'a [u8]],
    /// `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// `Content-Length`.
    pub content_length: Option<u64>,
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
    /// The mark of its decision, if that has one.
    pub tag: Option<&'a str>,
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
    /// The gate closes the log and hands it to the process that takes its place.
    HandedOver,
    /// The clock moved by more than a second otherwise than by passing.
    ClockJumped {
        /// Microseconds; negative if it was set back.
        by_us: i64,
    },
    /// The room on the log's disk became more or less.
    Disk {
        /// What it is now.
        room: Room,
        /// Bytes free, less those held back.
        free_bytes: u64,
    },
    /// The log was verified while it was in use, and does not hold.
    VerificationFailed {
        /// The first bad index.
        first_bad_index: u64,
        /// What is wrong with it.
        fault: &'a str,
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
    /// The log's key changed: from the commit that holds this record on, another one signs. The texts are those of
    /// [`Rotation`](crate::audit::checkpoint::Rotation).
    KeyRotated {
        /// The new verifier key.
        vkey: &'a str,
        /// The one before.
        old_vkey: &'a str,
        /// The old key's signature, base64.
        old_signature: &'a str,
        /// The new key's, base64.
        new_signature: &'a str,
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
    /// Denials like one that is on record, and not recorded themselves.
    Collapsed {
        /// The index of that one.
        decision: u64,
        /// How many.
        count: u64,
        /// When the first of these came; the last came before the record's time.
        since: Timestamp,
    },
    /// Denials of callers who proved nothing, beyond what those may add to the log.
    Folded {
        /// The index of one of them, which is on record.
        decision: u64,
        /// How many more.
        count: u64,
        /// When the first of these came; the last came before the record's time.
        since: Timestamp,
        /// Where all of them came from; `None` is anywhere.
        network: Option<IpNet>,
    },
    /// Reads of the log as tiles, by the caller of one that is on record, and not recorded themselves.
    Reads {
        /// The index of that one.
        decision: u64,
        /// How many.
        count: u64,
        /// How many of these were of records, in bundles.
        bundles: u64,
        /// When the first of these came; the last came before the record's time.
        since: Timestamp,
    },
}

impl Event<'_> {
    const fn kind(&self) -> Kind {
        match self {
            Self::Created { .. }
            | Self::Started { .. }
            | Self::Stopped
            | Self::HandedOver
            | Self::ClockJumped { .. }
            | Self::Disk { .. }
            | Self::VerificationFailed { .. } => Kind::Lifecycle,
            Self::PolicyLoaded { .. } | Self::PolicyRefused { .. } => Kind::Policy,
            Self::ConfigLoaded | Self::ConfigRefused { .. } | Self::CertificatesLoaded { .. } => Kind::Config,
            Self::KeyRotated { .. } => Kind::Key,
            Self::Sum { .. } | Self::Collapsed { .. } | Self::Folded { .. } | Self::Reads { .. } => {
                Kind::Summary
            }
        }
    }

    const fn word(&self) -> &str {
        match self {
            Self::Created { .. } => "created",
            Self::Started { .. } => "started",
            Self::Stopped => "stopped",
            Self::HandedOver => "handed_over",
            Self::ClockJumped { .. } => "clock_jumped",
            Self::Disk { room, .. } => room.event(),
            Self::VerificationFailed { .. } => "verification_failed",
            Self::PolicyLoaded { .. } | Self::ConfigLoaded => "loaded",
            Self::PolicyRefused { .. } | Self::ConfigRefused { .. } => "refused",
            Self::CertificatesLoaded { .. } => "certificates_loaded",
            Self::KeyRotated { .. } => "rotated",
            Self::Sum { what, .. } => what,
            Self::Collapsed { .. } => "collapsed",
            Self::Folded { .. } => "folded",
            Self::Reads { .. } => "reads",
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
            w.object("rule", |w| w.rule(rule, entry.detail));
        }
        w.object("identity", |w| w.identity(entry.identity, entry.certificate, entry.detail));
        w.object("client", |w| w.client(&entry.client));
        w.object("request", |w| w.request(&entry.request, entry.detail));
        if matches!(entry.decision, Decision::Allow(_)) && !entry.outcome_follows {
            w.text("outcome", b"none", budget::WORD);
        }
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
        w.some_text("tag", entry.tag, budget::WORD);
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
            Event::Disk { free_bytes, .. } => w.number("free_bytes", *free_bytes),
            Event::VerificationFailed { first_bad_index, fault } => {
                w.number("first_bad_index", *first_bad_index);
                w.text("fault", fault.as_bytes(), budget::ERROR);
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
            Event::KeyRotated { vkey, old_vkey, old_signature, new_signature } => {
                w.text("vkey", vkey.as_bytes(), budget::VKEY);
                w.text("old_vkey", old_vkey.as_bytes(), budget::VKEY);
                w.text("old_signature", old_signature.as_bytes(), budget::WORD);
                w.text("new_signature", new_signature.as_bytes(), budget::WORD);
            }
            Event::Sum { count, since, .. } => {
                w.number("count", *count);
                w.time("since", *since);
            }
            Event::Collapsed { decision, count, since } => {
                w.number("decision_index", *decision);
                w.number("count", *count);
                w.time("since", *since);
            }
            Event::Folded { decision, count, since, network } => {
                w.number("decision_index", *decision);
                w.number("count", *count);
                w.time("since", *since);
                w.some_text("network", network.map(|network| network.to_string()), budget::WORD);
            }
            Event::Reads { decision, count, bundles, since } => {
                w.number("decision_index", *decision);
                w.number("count", *count);
                w.number("bundles", *bundles);
                w.time("since", *since);
            }
            Event::Stopped | Event::HandedOver | Event::ConfigLoaded => {}
        }
        w.end()
    }
}

#[cfg(test)]
mod tests;
