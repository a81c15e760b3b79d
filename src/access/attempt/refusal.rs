//! Calls without a canonical form: what is known of them all the same.

use std::sync::Arc;

use http::Method;

use crate::access::decision::Reason;
use crate::access::host::Host;
use crate::access::malformed::Malformed;
use crate::access::route::{Route, Routes};

/// A call without canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The host it names, where that much was clear.
    pub host: Option<Host>,
    /// The service it would have reached, where that much was clear.
    pub route: Option<Arc<Route>>,
    /// The target as it arrived, where it is no URI; empty where none could be made out.
    pub target: Option<Vec<u8>>,
    /// The pattern of a path with a secret that the target may be of: then it is not shown.
    pub redacted: Option<String>,
}

/// A call whose head has no reading at all: what could be made out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Why.
    pub fault: Malformed,
    /// The method, or `-` where none could be made out.
    pub method: Method,
    /// The target as it arrived, as far as one could be made out; else empty.
    pub target: Vec<u8>,
}

impl Unreadable {
    /// Makes out what can be of the bytes of a head, for its record: its first line is taken apart at its spaces.
    pub fn salvage(fault: Malformed, head: &[u8]) -> Self {
        let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let method = words.next().filter(|word| word.len() <= LONGEST_METHOD);
        match method.and_then(|word| Method::from_bytes(word).ok()) {
            Some(method) => Self { fault, method, target: words.next().unwrap_or_default().to_vec() },
            // A line that does not begin like a request says nothing; `-` is a token.
            None => Self { fault, method: Method::from_bytes(b"-").unwrap_or_default(), target: Vec::new() },
        }
    }
}

impl Refusal {
    pub(super) const fn new(reason: Reason, host: Option<Host>, route: Option<Arc<Route>>) -> Self {
        Self { reason, host, route, target: None, redacted: None }
    }

    /// This refusal, of a target that is no URI.
    pub(super) fn of(self, target: Vec<u8>) -> Self {
        Self { target: Some(target), ..self }
    }

    /// This refusal, its target not to be shown if it may have a secret: what has no canonical form may have been meant for
    /// any service.
    pub(super) fn guarded(self, target: &[u8], routes: &Routes) -> Self {
        let mut patterns = routes.iter().flat_map(|route| &route.recording.redact);
        let redacted = patterns.find(|pattern| pattern.may_be(target)).map(ToString::to_string);
        Self { redacted, ..self }
    }
}

/// Of a method that a record should name, bytes.
const LONGEST_METHOD: usize = 32;
