//! The fields of one record, written in the order of the format, each within its budget.

use std::borrow::Cow;
use std::net::IpAddr;

use super::entry::{ClientEntry, Epochs, HeadEntry, RequestEntry, Shown};
use super::text::{self, number};
use super::{Body, Kind, MAX_HEAD_BYTES, MAX_RECORD_BYTES};
use crate::access::address::write_ip;
use crate::access::certificate::ClientCertificate;
use crate::access::recording::Detail;
use crate::access::{Caller, Identity, Rule};
use crate::clock::Timestamp;

/// Writes the fields of one record, in order.
pub(super) struct Fields {
    kind: Kind,
    pub(super) out: Vec<u8>,
}

impl Fields {
    pub(super) fn begin(kind: Kind, epochs: &Epochs, capacity: usize) -> Self {
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

    pub(super) fn end(mut self) -> Body {
        self.out.push(b'}');
        Body { kind: self.kind, bytes: self.out }
    }

    pub(super) fn key(&mut self, key: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(br#"":"#);
    }

    pub(super) fn object(&mut self, key: &str, fields: impl FnOnce(&mut Self)) {
        self.key(key);
        self.out.push(b'{');
        fields(self);
        self.out.push(b'}');
    }

    pub(super) fn text(&mut self, key: &str, value: &[u8], budget: usize) {
        self.key(key);
        text::text(&mut self.out, value, budget);
    }

    pub(super) fn some_text<T: AsRef<[u8]>>(&mut self, key: &str, value: Option<T>, budget: usize) {
        if let Some(value) = value {
            self.text(key, value.as_ref(), budget);
        }
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        number(&mut self.out, value);
    }

    fn ip(&mut self, key: &str, ip: IpAddr) {
        self.key(key);
        self.out.push(b'"');
        write_ip(ip, &mut self.out);
        self.out.push(b'"');
    }

    pub(super) fn rule(&mut self, rule: &Rule, detail: Detail) {
        if detail != Detail::Minimal {
            self.text("text", rule.text.as_bytes(), budget::RULE_TEXT);
        }
        self.text("file", rule.file.as_bytes(), budget::RULE_FILE);
        self.number("line", u64::from(rule.line));
    }

    pub(super) fn identity(
        &mut self,
        identity: &Identity,
        certificate: Option<&ClientCertificate>,
        detail: Detail,
    ) {
        match identity {
            Identity::Anonymous => {
                self.text("state", b"anonymous", budget::WORD);
                self.text("user", b"anonymous", budget::USER);
            }
            Identity::Proved(caller) => {
                self.text("state", b"proved", budget::WORD);
                self.caller(caller, detail);
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

    fn caller(&mut self, caller: &Caller, detail: Detail) {
        self.text("user", caller.user.as_bytes(), budget::USER);
        if detail != Detail::Minimal {
            self.key("roles");
            text::list(&mut self.out, &caller.roles, budget::ROLES);
        }
        self.text("issuer", caller.issuer.as_bytes(), budget::WORD);
        self.text("method", caller.method.as_str().as_bytes(), budget::WORD);
        if detail != Detail::Minimal {
            self.some_text("jti", caller.token_id.as_ref(), budget::TOKEN_ID);
            self.some_text("kid", caller.key_id.as_ref(), budget::TOKEN_ID);
        }
        if let Some(also) = &caller.also {
            self.object("also", |w| {
                w.text("user", also.user.as_bytes(), budget::USER);
                w.text("issuer", also.issuer.as_bytes(), budget::WORD);
                w.text("method", also.method.as_str().as_bytes(), budget::WORD);
                if detail != Detail::Minimal {
                    w.some_text("jti", also.token_id.as_ref(), budget::TOKEN_ID);
                    w.some_text("kid", also.key_id.as_ref(), budget::TOKEN_ID);
                }
            });
        }
    }

    pub(super) fn client(&mut self, client: &ClientEntry<'_>) {
        self.ip("ip", client.ip);
        self.number("port", u64::from(client.port));
        if let Some(via) = client.via {
            self.ip("via", via);
        }
        self.some_text("tls", client.tls, budget::WORD);
    }

    pub(super) fn request(&mut self, request: &RequestEntry<'_>, detail: Detail) {
        self.text("id", request.id.as_bytes(), budget::WORD);
        self.some_text("service", request.service, budget::WORD);
        self.text("method", request.method.as_bytes(), budget::WORD);
        self.some_text("host", request.host.map(without_user_information), budget::HOST);
        self.shown("path", request.path, budget::PATH);
        match request.target.filter(|_| request.path.is_none()) {
            Some(Shown::Whole(target)) => self.text("target", &without_secrets(target), budget::TARGET),
            redacted => self.shown("target", redacted, budget::TARGET),
        }
        if detail != Detail::Minimal {
            if !request.query.is_empty() {
                self.key("query");
                text::list(&mut self.out, request.query, budget::QUERY);
            }
            self.some_text("user_agent", request.user_agent, budget::USER_AGENT);
            self.some_text("trace_id", request.trace_id, budget::WORD);
        }
        if let Some(head) = &request.head {
            self.head(head);
        }
        self.some_text("tag", request.tag, budget::WORD);
    }

    fn head(&mut self, head: &HeadEntry<'_>) {
        self.text("version", head.version.as_bytes(), budget::WORD);
        self.key("fields");
        text::list(&mut self.out, head.fields, budget::FIELDS);
        self.some_text("content_type", head.content_type, budget::WORD);
        if let Some(length) = head.content_length {
            self.number("content_length", length);
        }
    }

    fn shown(&mut self, key: &str, value: Option<Shown<'_>>, budget: usize) {
        match value {
            None => {}
            Some(Shown::Whole(bytes)) => self.text(key, bytes, budget),
            Some(Shown::Redacted(text)) => {
                self.key(key);
                text::redacted(&mut self.out, text, budget);
            }
        }
    }

    pub(super) fn time(&mut self, key: &str, time: Timestamp) {
        self.key(key);
        self.out.push(b'"');
        super::head::write_time(time, &mut self.out);
        self.out.push(b'"');
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
pub(super) mod budget {
    /// Words of closed lists, and names from the config.
    pub(in super::super) const WORD: usize = 256;
    pub(in super::super) const RULE_TEXT: usize = 2_048;
    pub(in super::super) const RULE_FILE: usize = 512;
    pub(in super::super) const USER: usize = 1_024;
    pub(in super::super) const ROLES: usize = 8_192;
    pub(in super::super) const TOKEN_ID: usize = 512;
    pub(in super::super) const HOST: usize = 1_024;
    pub(in super::super) const PATH: usize = 16_384;
    pub(in super::super) const TARGET: usize = 12_288;
    pub(in super::super) const QUERY: usize = 8_192;
    pub(in super::super) const USER_AGENT: usize = 1_024;
    /// The names of a head's fields.
    pub(in super::super) const FIELDS: usize = 8_192;
    pub(in super::super) const UPSTREAM: usize = 512;
    pub(in super::super) const VKEY: usize = 512;
    pub(in super::super) const FILES: usize = 8_192;
    pub(in super::super) const ERROR: usize = 8_192;

    /// Words in a decision: decision, reason, state, issuer, method, tls, id, service, method, trace_id, version,
    /// content_type, tag, outcome; issuer and method of the other credential; fingerprint and serial of the certificate;
    /// one spare.
    const WORDS: usize = 19 * WORD;
    /// Keys, braces, numbers, epochs and addresses.
    const FIXED: usize = 1_024;
    pub(in super::super) const DECISION: usize = FIXED
        + WORDS
        + RULE_TEXT
        + RULE_FILE
        + 2 * USER
        + ROLES
        + 4 * TOKEN_ID
        + HOST
        // There is never both.
        + if PATH > TARGET { PATH } else { TARGET }
        + QUERY
        + USER_AGENT
        + FIELDS;
}

const _: () = assert!(MAX_HEAD_BYTES + budget::DECISION <= MAX_RECORD_BYTES);
const _: () = assert!(budget::WORD >= text::CUT_MAX && text::ITEM_BUDGET >= text::CUT_MAX);
const _: () = assert!(budget::QUERY >= text::CUT_LIST_MAX && budget::ROLES >= text::CUT_LIST_MAX);
const _: () = assert!(budget::FILES >= text::CUT_LIST_MAX && budget::FIELDS >= text::CUT_LIST_MAX);
