//! The journal: decisions go in, and come out as permits and denials once they are durable.
//!
//! | file | what is there |
//! |---|---|
//! | this one | the handle the request path holds; [`Permit`], [`Denial`], [`OpenAllow`] |
//! | [`queue`] | what waits for the writer, bounded |
//! | [`writer`] | the one thread that owns chain, tree and store |
//! | [`mod@reconcile`] | what a log must satisfy before it may grow again |
//!
//! Invariants:
//! 1. A [`Permit`] exists only if its allow is durable. Nothing outside this module can make one, and it is not `Clone`.
//! 2. What was submitted commits, whether or not anyone still waits for it.
//! 3. Every allow gets exactly one outcome record: from its [`OpenAllow`], or at the next start.
//! 4. After a commit failed nothing is accepted until a restart has reconciled the log.

pub mod queue;
pub mod reconcile;
pub mod writer;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::sync::oneshot;

use self::queue::{Effect, Queue, Refused, Submission};
use self::reconcile::{ReconcileError, reconcile};
use self::writer::Writer;
use super::checkpoint::SigningKey;
use super::record::{
    Body, ClientEntry, DecisionEntry, Epochs, Event, OutcomeEntry, OutcomeResult, RequestEntry,
};
use super::storage::Store;
use crate::access::attempt::{RequestId, TraceContext};
use crate::access::{Access, Attempt, Client, Decision, Identity, Reason};
use crate::clock::Clock;

/// A handle on the log that takes records. Clones share one log.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    origin: Arc<str>,
    queue: Queue,
    published: Published,
    timeout: Duration,
}

/// How much the journal takes on, and how long it may take over it.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// Most decisions waiting for the writer; more are refused.
    pub queue: usize,
    /// The longest a decision waits to be durable.
    pub timeout: Duration,
}

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
    passage: Passage,
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

impl std::fmt::Display for RecordRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.origin, self.index)
    }
}

/// Why a decision could not be recorded. The caller's answer is 503 and nothing is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrecorded {
    /// Too many decisions wait already.
    #[error("the log's queue is full")]
    QueueFull,
    /// It was not durable in time. It may still become so; then its outcome says it was not forwarded.
    #[error("the log did not take the record in time")]
    TimedOut,
    /// A write failed; the log takes nothing until a restart.
    #[error("the log has failed and takes no records until the gate is restarted")]
    Failed,
    /// The gate is shutting down.
    #[error("the log is closed")]
    Closed,
}

impl From<Refused> for Unrecorded {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::QueueFull,
            Refused::Failed => Self::Failed,
            Refused::Closed => Self::Closed,
        }
    }
}

impl Journal {
    /// Takes up the log in `store`: reconciles it, closes the allows a crash left open, and starts the writer's thread,
    /// which ends after [`Journal::close`] or a failed write. `epochs` stand on the records it makes of its own.
    ///
    /// # Errors
    /// What makes the log unfit to grow; see [`ReconcileError`].
    pub fn open(
        store: Arc<dyn Store>,
        key: SigningKey,
        clock: Clock,
        options: JournalOptions,
        epochs: Epochs,
    ) -> Result<(Self, JoinHandle<()>), ReconcileError> {
        let state = reconcile(&*store, &key)?;
        let shared = Arc::new(Shared {
            origin: key.origin().as_str().into(),
            queue: Queue::new(options.queue),
            published: Published::default(),
            timeout: options.timeout,
        });
        let journal = Self(Arc::clone(&shared));
        for index in &state.open {
            shared
                .queue
                .outcome(*index, Outcome::new(OutcomeResult::Unknown).body(*index, epochs, Duration::ZERO));
        }
        shared.published.set(state.frontier.size(), state.checkpoint.as_deref().unwrap_or_default());
        let writer = Writer::new(store, key, clock, (state, epochs), journal.clone());
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run())
            .map_err(ReconcileError::Thread)?;
        Ok((journal, thread))
    }

    /// Records a decision and waits until it is durable.
    ///
    /// If the caller stops waiting, the record commits all the same, and an allow is followed by the outcome
    /// `not_forwarded`.
    ///
    /// # Errors
    /// [`Unrecorded`]: the decision is not known to be durable.
    pub async fn record(
        &self,
        attempt: Attempt,
        identity: Identity,
        decision: Decision,
        epochs: Epochs,
    ) -> Result<Recorded, Unrecorded> {
        let body = decision_body(&attempt, &identity, &decision, epochs);
        let effect = match decision {
            Decision::Allow(_) => Effect::Opens(epochs),
            Decision::Deny(_) => Effect::None,
        };
        let (wake, woken) = oneshot::channel();
        self.0.queue.decision(Submission { body, effect, wake: Some(wake) })?;
        let committed = match tokio::time::timeout(self.0.timeout, woken).await {
            Ok(Ok(committed)) => committed,
            // The writer dropped the waiter: its commit failed.
            Ok(Err(_)) => return Err(Unrecorded::Failed),
            Err(_) => return Err(Unrecorded::TimedOut),
        };
        let record = RecordRef { origin: Arc::clone(&self.0.origin), index: committed.index };
        Ok(match (committed.open, attempt.access) {
            (Some(open), Ok(access)) => Recorded::Allow(Permit {
                passage: Passage {
                    access,
                    identity,
                    client: attempt.client,
                    id: attempt.id,
                    trace: attempt.trace,
                    reason: decision.grounds().reason,
                    record,
                },
                open,
            }),
            // An allow of what has no canonical form cannot be: it would be a denial without a ground, so it is one.
            (_, _) => Recorded::Deny(Denial {
                reason: decision.grounds().reason,
                proved: matches!(identity, Identity::Proved(_)),
                id: attempt.id,
                record,
            }),
        })
    }

    /// Records an event of the gate itself and waits, without bound, until it is durable.
    ///
    /// # Errors
    /// [`Unrecorded`], less the timeout.
    pub async fn event(&self, epochs: Epochs, event: &Event<'_>) -> Result<u64, Unrecorded> {
        let (wake, woken) = oneshot::channel();
        let body = Body::event(&epochs, event);
        self.0.queue.event(Submission { body, effect: Effect::None, wake: Some(wake) })?;
        woken.await.map(|committed| committed.index).map_err(|_| Unrecorded::Failed)
    }

    /// The log's name.
    pub fn origin(&self) -> &Arc<str> {
        &self.0.origin
    }

    /// Whether a write has failed.
    pub fn has_failed(&self) -> bool {
        self.0.queue.has_failed()
    }

    /// How many submissions wait for the writer.
    pub fn waiting(&self) -> usize {
        self.0.queue.len()
    }

    /// The number of records that are durable: what lies below it may be released to anyone.
    pub fn size(&self) -> u64 {
        self.0.published.size.load(Ordering::Acquire)
    }

    /// The latest checkpoint, as a signed note; empty before the first.
    pub fn checkpoint(&self) -> Arc<str> {
        Arc::clone(&self.0.published.note.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes no more decisions; the writer commits what waits and ends. Allows whose outcome comes later are closed at
    /// the next start.
    pub fn close(&self) {
        self.0.queue.close();
    }
}

fn decision_body(attempt: &Attempt, identity: &Identity, decision: &Decision, epochs: Epochs) -> Body {
    let query: Vec<&[u8]> = attempt.query_names().map(str::as_bytes).collect();
    let access = attempt.access.as_ref().ok();
    let Client { ip, port, via, tls } = attempt.client;
    Body::decision(&DecisionEntry {
        decision,
        epochs,
        identity,
        certificate: attempt.certificate.as_deref(),
        client: ClientEntry { ip, port, via, tls },
        request: RequestEntry {
            id: attempt.id.as_str(),
            service: attempt.service(),
            method: attempt.method.as_str(),
            host: attempt.host_bytes(),
            path: access.map(|access| access.path.as_str()),
            target: attempt.refused_target(),
            query: &query,
            user_agent: attempt.user_agent.as_ref().map(HeaderValue::as_bytes),
            trace_id: Some(attempt.trace.trace_id()),
        },
    })
}

impl Permit {
    /// Gives up the permit for the call it stands for, and the duty to say what became of it.
    pub fn spend(self) -> (Passage, OpenAllow) {
        (self.passage, self.open)
    }
}

/// An allow whose outcome is not known yet. Dropping it writes the outcome, whatever it is by then; until
/// [`OpenAllow::forwarding`] is called that is `not_forwarded`.
#[derive(Debug)]
pub struct OpenAllow {
    journal: Journal,
    index: u64,
    epochs: Epochs,
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
    fn new(result: OutcomeResult) -> Self {
        Self {
            result,
            detail: None,
            status: None,
            request_bytes: Arc::default(),
            response_bytes: 0,
            upstream: None,
        }
    }

    fn body(&self, decision: u64, epochs: Epochs, duration: Duration) -> Body {
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
        })
    }
}

impl OpenAllow {
    fn new(journal: Journal, index: u64, epochs: Epochs) -> Self {
        Self {
            journal,
            index,
            epochs,
            started: Instant::now(),
            outcome: Outcome::new(OutcomeResult::NotForwarded),
        }
    }

    /// The call goes out now: from here on it is `aborted` unless it ends otherwise.
    pub fn forwarding(&mut self) {
        self.outcome.result = OutcomeResult::Aborted;
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

    fn fault(&mut self, detail: &'static str, status: Option<u16>) {
        self.outcome.detail = Some(detail);
        self.outcome.status = status.or(self.outcome.status);
    }

    /// The response went out whole.
    pub fn completed(mut self) {
        self.outcome.result = OutcomeResult::Completed;
    }

    /// What is known so far, to be added to.
    pub fn outcome(&mut self) -> &mut Outcome {
        &mut self.outcome
    }
}

impl Drop for OpenAllow {
    fn drop(&mut self) {
        let body = self.outcome.body(self.index, self.epochs, self.started.elapsed());
        self.journal.0.queue.outcome(self.index, body);
    }
}

/// A submission that has become durable, as the writer tells the one who waits.
#[derive(Debug)]
pub struct Committed {
    index: u64,
    open: Option<OpenAllow>,
}

/// What anyone may see of the log: never ahead of what is durable.
#[derive(Debug)]
struct Published {
    size: AtomicU64,
    note: Mutex<Arc<str>>,
}

impl Default for Published {
    fn default() -> Self {
        Self { size: AtomicU64::new(0), note: Mutex::new("".into()) }
    }
}

impl Published {
    fn set(&self, size: u64, note: &str) {
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = note.into();
        self.size.store(size, Ordering::Release);
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Journal").field(&self.0.origin).finish()
    }
}
