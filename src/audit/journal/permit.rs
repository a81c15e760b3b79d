//! What a durable decision is worth: a permit or a denial, and what became of an allowed call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Journal;
use super::queue::Opening;
use crate::access::attempt::{RequestId, TraceContext};
use crate::access::{Access, Client, Identity, Reason};
use crate::audit::record::{Body, Epochs, OutcomeEntry, OutcomeResult};

/// A decision that is durable.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once, from here to the forwarding; a box would cost more"
)]
pub enum Recorded {
    /// The call may go through.
    Allow(Permit),
    /// The call may not.
    Deny(Denial),
}

/// Proof that an allow was recorded, and the call it was recorded for. Forwarding consumes it.
#[derive(Debug)]
pub struct Permit {
    pub(super) passage: Passage,
    open: OpenAllow,
}

/// What was decided, as the record has it: forwarding works from this and not from the request.
#[derive(Debug)]
pub struct Passage {
    /// Service, method, host, path.
    pub access: Access,
    /// Who calls.
    pub identity: Identity,
    /// From where.
    pub client: Client,
    /// The request's id.
    pub id: RequestId,
    /// The request's trace.
    pub trace: TraceContext,
    /// Why it was allowed.
    pub reason: Reason,
    /// Its record.
    pub record: RecordRef,
}

/// A deny that is durable.
#[derive(Debug)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// Whether the caller had proved who it is.
    pub proved: bool,
    /// The request's id.
    pub id: RequestId,
    /// Its record.
    pub record: RecordRef,
}

/// The number of a record: `<origin>/<index>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRef {
    /// The log's name.
    pub origin: Arc<str>,
    /// The record's position, from 0.
    pub index: u64,
}

impl RecordRef {
    /// As it is shown: `<origin>/<index>`.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.origin.len() + 21);
        text.push_str(&self.origin);
        text.push('/');
        let (mut digits, mut at, mut left) = ([b'0'; 20], 20, self.index);
        for digit in digits.iter_mut().rev() {
            *digit += (left % 10) as u8;
            left /= 10;
            at -= 1;
            if left == 0 {
                break;
            }
        }
        text.extend(digits.iter().skip(at).map(|digit| char::from(*digit)));
        text
    }
}

impl std::fmt::Display for RecordRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

impl Permit {
    pub(super) const fn new(passage: Passage, open: OpenAllow) -> Self {
        Self { passage, open }
    }

    /// Gives up the permit for the call it stands for, and the duty to say what became of it.
    pub fn spend(self) -> (Passage, OpenAllow) {
        (self.passage, self.open)
    }
}

/// An allow whose outcome is not known yet. Dropping it writes the outcome, where its service has them written, whatever it is by then; until
/// [`OpenAllow::forwarding`] is called that is `not_forwarded`.
#[derive(Debug)]
pub struct OpenAllow {
    journal: Journal,
    index: u64,
    opening: Opening,
    started: Instant,
    outcome: Outcome,
}

/// What became of an allowed call, so far.
#[derive(Debug)]
pub struct Outcome {
    result: OutcomeResult,
    /// What went wrong, as one word.
    pub detail: Option<&'static str>,
    /// The status the caller was sent.
    pub status: Option<u16>,
    /// Bytes of the request's body that were sent on.
    pub request_bytes: Arc<AtomicU64>,
    /// Bytes of the response's body that were sent on.
    pub response_bytes: u64,
    /// Where it was sent, or was to be.
    pub upstream: Option<Arc<str>>,
}

impl Outcome {
    pub(super) fn new(result: OutcomeResult) -> Self {
        Self {
            result,
            detail: None,
            status: None,
            request_bytes: Arc::default(),
            response_bytes: 0,
            upstream: None,
        }
    }

    pub(super) fn body(&self, decision: u64, epochs: Epochs, duration: Duration, tag: Option<&str>) -> Body {
        Body::outcome(&OutcomeEntry {
            decision,
            epochs,
            result: self.result,
            detail: self.detail,
            status: self.status,
            request_bytes: self.request_bytes.load(Ordering::Relaxed),
            response_bytes: self.response_bytes,
            duration,
            upstream: self.upstream.as_deref(),
            tag,
        })
    }
}

impl OpenAllow {
    pub(super) fn new(journal: Journal, index: u64, opening: Opening) -> Self {
        Self {
            journal,
            index,
            opening,
            started: Instant::now(),
            outcome: Outcome::new(OutcomeResult::NotForwarded),
        }
    }

    /// The call goes out now: from here on it is `aborted`, since its caller went away, unless it ends otherwise.
    pub fn forwarding(&mut self) {
        self.outcome.result = OutcomeResult::Aborted;
        self.outcome.detail = Some("client_gone");
    }

    /// The upstream could not be reached, or did not answer as it must; the caller was sent `status`, if that could
    /// still be said.
    pub fn upstream_failed(mut self, detail: &'static str, status: Option<u16>) {
        self.outcome.result = OutcomeResult::UpstreamError;
        self.fault(detail, status);
    }

    /// The call could not be carried out, and not by the upstream's fault: `not_forwarded` or `aborted`, as far as it
    /// had come.
    pub fn given_up(mut self, detail: &'static str, status: u16) {
        self.fault(detail, Some(status));
    }

    /// The gate itself failed over the answer, whose head had gone out.
    pub fn gate_failed(mut self) {
        self.outcome.detail = Some(Reason::Internal.code());
    }

    fn fault(&mut self, detail: &'static str, status: Option<u16>) {
        self.outcome.detail = Some(detail);
        self.outcome.status = status.or(self.outcome.status);
    }

    /// The response went out whole.
    pub fn completed(mut self) {
        self.outcome.result = OutcomeResult::Completed;
        self.outcome.detail = None;
    }

    /// Policy and config by which it was allowed.
    pub const fn epochs(&self) -> &Epochs {
        &self.opening.epochs
    }

    /// What is known so far, to be added to.
    pub fn outcome(&mut self) -> &mut Outcome {
        &mut self.outcome
    }
}

impl Drop for OpenAllow {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Not its caller's doing, then, who is answered 500 unless a head has gone out.
            self.outcome.detail = Some(Reason::Internal.code());
            self.outcome.status.get_or_insert(500);
        }
        let Opening { epochs, follows, tag } = self.opening;
        if follows {
            let body = self.outcome.body(self.index, epochs, self.started.elapsed(), tag);
            self.journal.0.queue.outcome(self.index, body);
        }
    }
}
