//! The journal: decisions go in, and come out as permits and denials once they are durable.
//!
//! | file | what is there |
//! |---|---|
//! | this one | the handle the request path holds |
//! | [`permit`] | [`Permit`], [`Denial`], [`OpenAllow`]: what a durable decision is worth |
//! | [`noise`] | denials, and reads of the log, that are counted, not recorded one by one |
//! | [`keys`] | the keys that it is signed with, and how one follows another |
//! | [`queue`] | what waits for the writer, bounded |
//! | [`writer`] | the one thread that owns chain, tree and store |
//! | [`mod@reconcile`] | what a log must satisfy before it may grow again |
//!
//! Invariants:
//! 1. A [`Permit`] exists only if its allow is durable. Nothing outside this module can make one, and it is not `Clone`.
//! 2. What was submitted commits, whether or not anyone still waits for it.
//! 3. Every allow gets exactly one outcome record: from its [`OpenAllow`], or at the next start.
//! 4. After a commit failed nothing is accepted until a restart has reconciled the log.
//! 5. After [`Journal::stop`] no decision is accepted until a restart.

pub mod keys;
pub mod noise;
pub mod permit;
pub mod queue;
pub mod reconcile;
pub mod writer;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::oneshot;

use self::keys::LogKeys;
use self::noise::{Count, Lean, Noise, Told};
use self::permit::Outcome;
pub use self::permit::{Denial, OpenAllow, Passage, Permit, RecordRef, Recorded};
pub use self::queue::Held;
use self::queue::{Effect, Opening, Queue, Refused, Submission};
use self::reconcile::{LogState, ReconcileError, reconcile};
use self::writer::Writer;
use super::checkpoint::Checkpoint;
use super::record::{
    Body, ClientEntry, DecisionEntry, Epochs, Event, HeadEntry, OutcomeResult, RequestEntry, Shown,
};
use super::release::Release;
use super::storage::Store;
use crate::access::recording::Recording;
use crate::access::{Attempt, Client, Decision, Identity};
use crate::clock::{Clock, Timestamp};

/// A handle on the log that takes records. Clones share one log.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    origin: Arc<str>,
    queue: Queue,
    published: Published,
    timeout: Duration,
    noise: Noise,
    release: Arc<Release>,
}

/// How much the journal takes on, and how long it may take over it.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// Most decisions waiting for the writer; more are refused.
    pub queue: usize,
    /// The longest a decision waits to be durable.
    pub timeout: Duration,
    /// What denials of callers who proved nothing may add to the log, bytes per second; `None` is unlimited.
    pub denial_bytes: Option<u64>,
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
    /// The disk has room only for what must still be said; the log takes decisions again once it has more.
    #[error("the log's disk is full")]
    DiskFull,
    /// A write failed; the log takes nothing until a restart.
    #[error("the log has failed and takes no records until the gate is restarted")]
    Failed,
    /// The log was found not to be what it must be, and takes no decisions until a restart.
    #[error("the log was stopped, for it does not hold, and takes no decisions until the gate is restarted")]
    Stopped,
    /// A record has waited too long for its cosignatures; decisions are taken again once it has them.
    #[error("witnesses have not cosigned the log for too long")]
    Unwitnessed,
    /// The gate is shutting down.
    #[error("the log is closed")]
    Closed,
}

impl From<Refused> for Unrecorded {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::QueueFull,
            Refused::Failed => Self::Failed,
            Refused::NoRoom => Self::DiskFull,
            Refused::Stopped => Self::Stopped,
            Refused::Closed => Self::Closed,
        }
    }
}

impl Journal {
    /// Takes up the log in `store`: reconciles it, closes the allows a crash left open, and starts the writer's thread,
    /// which ends after [`Journal::close`] or a failed write. If the log's key changes, its first commit says so. `epochs` stand on the records it makes of its own.
    ///
    /// # Errors
    /// What makes the log unfit to grow; see [`ReconcileError`].
    pub fn open(
        store: Arc<dyn Store>,
        keys: impl Into<LogKeys>,
        clock: Clock,
        options: JournalOptions,
        epochs: Epochs,
    ) -> Result<(Self, JoinHandle<()>), ReconcileError> {
        let keys = keys.into();
        let state = reconcile(&*store, &keys)?;
        let shared = Arc::new(Shared {
            origin: keys.origin().as_str().into(),
            queue: Queue::new(options.queue),
            published: Published::default(),
            timeout: options.timeout,
            noise: Noise::new(options.denial_bytes, clock.clone()),
            release: Arc::default(),
        });
        let journal = Self(Arc::clone(&shared));
        for index in &state.open {
            shared.queue.outcome(
                *index,
                Outcome::new(OutcomeResult::Unknown).body(*index, epochs, Duration::ZERO, None),
            );
        }
        shared.published.last_time.store(state.last_time.as_micros(), Ordering::Relaxed);
        shared.published.set(state.frontier.size(), state.checkpoint.as_deref().unwrap_or_default());
        let thread = journal.start_writer(store, keys, clock, (state, epochs))?;
        Ok((journal, thread))
    }

    /// Takes the log in `store` up again after [`Journal::close`], as [`Journal::open`] does, for all clones of this
    /// handle. Allows that were open when it was closed are closed as `unknown`, those of calls still going on here, too.
    /// The writer must have ended.
    ///
    /// # Errors
    /// [`ReconcileError`]; then the journal stays closed.
    pub fn reopen(
        &self,
        store: Arc<dyn Store>,
        keys: impl Into<LogKeys>,
        clock: Clock,
        epochs: Epochs,
    ) -> Result<JoinHandle<()>, ReconcileError> {
        let keys = keys.into();
        let state = reconcile(&*store, &keys)?;
        let size = state.frontier.size();
        let unknown = |index: &u64| {
            (*index, Outcome::new(OutcomeResult::Unknown).body(*index, epochs, Duration::ZERO, None))
        };
        self.0.queue.reopen(size, state.open.iter().map(unknown));
        self.0.published.last_time.store(state.last_time.as_micros(), Ordering::Relaxed);
        self.0.published.set(size, state.checkpoint.as_deref().unwrap_or_default());
        self.start_writer(store, keys, clock, (state, epochs))
    }

    fn start_writer(
        &self,
        store: Arc<dyn Store>,
        keys: LogKeys,
        clock: Clock,
        state: (LogState, Epochs),
    ) -> Result<JoinHandle<()>, ReconcileError> {
        let writer = Writer::new(store, keys, clock, state, self.clone());
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run())
            .map_err(ReconcileError::Thread)
    }

    /// Records a decision and waits until it is durable; where the log's witnesses are waited for, until it is cosigned.
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
        self.record_in_turn(attempt, identity, decision, epochs, async { Held::default() }).await
    }

    /// As [`Journal::record`], once it is this call's `turn`; what that gives is held until the record is durable or
    /// refused. Nothing is submitted for a caller that goes away, or waits too long, before.
    ///
    /// # Errors
    /// [`Unrecorded`]: the decision is not known to be durable.
    pub async fn record_in_turn(
        &self,
        attempt: Attempt,
        identity: Identity,
        decision: Decision,
        epochs: Epochs,
        turn: impl Future<Output = Held>,
    ) -> Result<Recorded, Unrecorded> {
        if self.0.release.denies() {
            return Err(Unrecorded::Unwitnessed);
        }
        let body = decision_body(&attempt, &identity, &decision, epochs);
        let submit = async {
            let committed = loop {
                let first = match self.tell(&attempt, &identity, &decision, epochs, &body) {
                    Told::Alone(first) => first,
                    Told::On(lean) => match Box::pin(self.lean(lean, epochs)).await? {
                        Some(index) => break self.leaning(index, &decision, epochs),
                        // The first never came to be: this one may be it.
                        None => continue,
                    },
                };
                let effect = match &decision {
                    Decision::Allow(_) => Effect::Opens(opening(&attempt, epochs)),
                    Decision::Deny(_) => Effect::None,
                };
                let held = turn.await;
                let (wake, woken) = oneshot::channel();
                self.0.queue.decision(Submission { body, effect, wake: Some(wake), first, held })?;
                // If the writer drops the waiter, its commit has failed.
                break woken.await.map_err(|_| Unrecorded::Failed)?;
            };
            self.0.release.wait(committed.index).await;
            Ok(committed)
        };
        let committed =
            tokio::time::timeout(self.0.timeout, submit).await.unwrap_or(Err(Unrecorded::TimedOut))?;
        let record = RecordRef { origin: Arc::clone(&self.0.origin), index: committed.index };
        Ok(match (committed.open, attempt.access) {
            (Some(open), Ok(access)) => Recorded::Allow(Permit::new(
                Passage {
                    access,
                    identity,
                    client: attempt.client,
                    id: attempt.id,
                    trace: attempt.trace,
                    reason: decision.grounds().reason,
                    record,
                },
                open,
            )),
            // An allow of what has no canonical form cannot be: it would be a denial without a ground, so it is one.
            (_, _) => Recorded::Deny(Denial {
                reason: decision.grounds().reason,
                proved: matches!(identity, Identity::Proved(_)),
                id: attempt.id,
                record,
            }),
        })
    }

    /// Whether a decision has a record of its own: an allow has, unless it is one more read of the log.
    fn tell(
        &self,
        attempt: &Attempt,
        identity: &Identity,
        decision: &Decision,
        epochs: Epochs,
        body: &Body,
    ) -> Told {
        let noise = &self.0.noise;
        match decision {
            Decision::Allow(_) => match attempt.log_read() {
                Some(read) => noise.tell_read(attempt, identity, read, epochs),
                None => Told::Alone(None),
            },
            Decision::Deny(_) => noise.tell(attempt, identity, decision, (epochs, body.sealed_len())),
        }
    }

    /// A decision that leans on the durable record at `index`. What becomes of such an allow is not told.
    fn leaning(&self, index: u64, decision: &Decision, epochs: Epochs) -> Committed {
        let opening = Opening { epochs, follows: false, tag: None };
        let open = match decision {
            Decision::Allow(_) => Some(OpenAllow::new(self.clone(), index, opening)),
            Decision::Deny(_) => None,
        };
        Committed { index, open }
    }

    /// Whether a decision would be taken, but for room in the queue.
    ///
    /// # Errors
    /// [`Unrecorded`]: why not.
    pub fn admits(&self) -> Result<(), Unrecorded> {
        Ok(self.0.queue.admits()?)
    }

    /// Waits until the record leant on is durable; its index, or `None` if it never will be.
    async fn lean(&self, mut lean: Lean, epochs: Epochs) -> Result<Option<u64>, Unrecorded> {
        let Ok(index) = lean.first.wait_for(Option::is_some).await.map(|index| *index) else {
            return Ok(None);
        };
        // A log that takes nothing takes no counts either.
        self.0.queue.admits()?;
        self.0.noise.count(lean, epochs);
        Ok(index)
    }

    /// Writes down all that was counted until now.
    pub async fn write_counts(&self) {
        self.write_down(self.0.noise.take()).await;
    }

    async fn write_down(&self, counts: Vec<(Epochs, Count)>) {
        // So many at once as one commit takes beside the decisions: many counts are still written within a second.
        for counts in counts.chunks(queue::EVENT_ROOM / 2) {
            let writing =
                counts.iter().map(async |(epochs, count)| match self.event(*epochs, &count.event()).await {
                    Ok(_) => {}
                    Err(Unrecorded::QueueFull) => self.0.noise.put_back(*epochs, *count),
                    Err(error) => {
                        tracing::error!(%error, ?count, "a count could not be recorded");
                    }
                });
            futures_util::future::join_all(writing).await;
        }
    }

    /// Writes counts as they come, until dropped.
    pub async fn keep_counts(self) {
        loop {
            tokio::time::sleep(noise::EVERY).await;
            self.write_down(self.0.noise.take_due()).await;
        }
    }

    /// Sets what denials of callers who proved nothing may add to the log from now on, bytes per second.
    pub fn bound_denials(&self, bytes: Option<u64>) {
        self.0.noise.set_bound(bytes);
    }

    /// Records an event of the gate itself and waits, without bound, until it is durable.
    ///
    /// # Errors
    /// [`Unrecorded`], less the timeout.
    pub async fn event(&self, epochs: Epochs, event: &Event<'_>) -> Result<u64, Unrecorded> {
        let (wake, woken) = oneshot::channel();
        let body = Body::event(&epochs, event);
        self.0.queue.event(Submission {
            body,
            effect: Effect::None,
            wake: Some(wake),
            first: None,
            held: Held::default(),
        })?;
        woken.await.map(|committed| committed.index).map_err(|_| Unrecorded::Failed)
    }

    /// Submits an event of the gate itself, and waits for nothing.
    ///
    /// # Errors
    /// [`Unrecorded`]: it was not submitted.
    pub fn note(&self, epochs: Epochs, event: &Event<'_>) -> Result<(), Unrecorded> {
        let body = Body::event(&epochs, event);
        Ok(self.0.queue.event(Submission {
            body,
            effect: Effect::None,
            wake: None,
            first: None,
            held: Held::default(),
        })?)
    }

    /// Takes no decisions from now on, or takes them again. Events and outcomes are taken all the while.
    pub fn pause(&self, paused: bool) {
        self.0.queue.pause(paused);
    }

    /// Whether [`Journal::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.0.queue.is_closed()
    }

    /// The log's name.
    pub fn origin(&self) -> &Arc<str> {
        &self.0.origin
    }

    /// Whether a write has failed.
    pub fn has_failed(&self) -> bool {
        self.0.queue.has_failed()
    }

    /// Takes no decisions from now on, though no write failed: the log is not what it must be, or somebody else writes
    /// under its name. Events and the outcomes of open allows are still taken.
    pub fn stop(&self) {
        self.0.queue.stop();
        metrics::gauge!("portcullis_log_stopped").set(1.0);
    }

    /// Whether [`Journal::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.queue.is_stopped()
    }

    /// How many submissions wait for the writer.
    pub fn waiting(&self) -> usize {
        self.0.queue.len()
    }

    /// The number of records that are durable: what lies below it may be released to anyone.
    pub fn size(&self) -> u64 {
        self.0.published.size.load(Ordering::Acquire)
    }

    /// The time of the last record of this run: no later record's lies before it.
    pub fn last_time(&self) -> Timestamp {
        Timestamp::from_micros(self.0.published.last_time.load(Ordering::Relaxed))
    }

    /// How far the log is cosigned, and who waits for that.
    pub fn release(&self) -> &Arc<Release> {
        &self.0.release
    }

    /// The checkpoint to be shown to others: the latest one, or where there are witnesses, the latest that enough of
    /// them have cosigned.
    pub fn shown_checkpoint(&self) -> Arc<str> {
        let latest = self.checkpoint();
        let size = Checkpoint::stated(latest.as_bytes()).map_or(0, |(size, _)| size);
        self.0.release.shown(size, &latest)
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

fn opening(attempt: &Attempt, epochs: Epochs) -> Opening {
    let follows = attempt.recording().is_none_or(|recording| recording.outcomes);
    Opening { epochs, follows, tag: tag(attempt) }
}

/// The mark of what only asks whether a service is alive.
fn tag(attempt: &Attempt) -> Option<&'static str> {
    attempt.is_health_check().then_some(HEALTH_CHECK)
}

fn decision_body(attempt: &Attempt, identity: &Identity, decision: &Decision, epochs: Epochs) -> Body {
    let query: Vec<&[u8]> = attempt.query_names().map(str::as_bytes).collect();
    let standard = Recording::default();
    let recording = attempt.recording().unwrap_or(&standard);
    let path = attempt.access.as_ref().ok().map(|access| access.path.as_str());
    let redacted = path.and_then(|path| recording.redacted(path));
    let fields: Vec<&[u8]> = attempt.head.iter().flat_map(|head| &head.fields).map(AsRef::as_ref).collect();
    let head = attempt.head.as_ref().map(|head| HeadEntry {
        version: head.version,
        fields: &fields,
        content_type: head.content_type.as_ref().map(HeaderValue::as_bytes),
        content_length: head.content_length,
    });
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
            path: path.map(|path| Shown::of(path.as_bytes(), redacted.as_deref())),
            target: attempt.refused_target().map(|target| Shown::of(target, attempt.redacted_target())),
            query: &query,
            user_agent: attempt.user_agent.as_ref().map(HeaderValue::as_bytes),
            trace_id: Some(attempt.trace.trace_id()),
            head,
            // A refused call is not left out of anything, whatever it calls itself.
            tag: matches!(decision, Decision::Allow(_)).then(|| tag(attempt)).flatten(),
        },
        detail: recording.detail,
        outcome_follows: recording.outcomes,
    })
}

/// What a record of a health check, and of its outcome, is marked with.
pub const HEALTH_CHECK: &str = "health_check";

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
    last_time: AtomicI64,
    note: Mutex<Arc<str>>,
}

impl Default for Published {
    fn default() -> Self {
        Self { size: AtomicU64::new(0), last_time: AtomicI64::new(i64::MIN), note: Mutex::new("".into()) }
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
