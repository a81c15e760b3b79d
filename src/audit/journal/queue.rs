//! What waits for the writer.
//!
//! Decisions and events wake the writer; outcomes do not. They ride with the next decision, or go once they have
//! waited [`OUTCOME_WAIT`]: an outcome never costs a sync that a decision would have to stand behind.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::Committed;
use crate::audit::record::{Body, Epochs};

/// One record to be.
#[derive(Debug)]
pub struct Submission {
    /// Everything but index, chain and time.
    pub body: Body,
    /// What it does to the set of open allows.
    pub effect: Effect,
    /// Who waits for it.
    pub wake: Option<oneshot::Sender<Committed>>,
    /// Who leans on it, and waits for its index.
    pub first: Option<watch::Sender<Option<u64>>>,
    /// What is let go once it is durable or refused, whether or not anyone still waits.
    pub held: Held,
}

/// Something kept until it is dropped; the journal does not look at it.
#[derive(Debug, Default)]
pub struct Held {
    _kept: Option<Box<dyn Any + Send>>,
}

impl Held {
    /// Keeps `what`.
    pub fn new(what: impl Any + Send) -> Self {
        Self { _kept: Some(Box::new(what)) }
    }
}

/// What a record does to the set of open allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// It is an allow: it opens one, if its outcome is to follow.
    Opens(Opening),
    /// It is the outcome of the decision at this index: it closes that one.
    Closes(u64),
}

/// What an allow's outcome will need of its decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What it was decided by.
    pub epochs: Epochs,
    /// Whether there will be one.
    pub follows: bool,
    /// The decision's mark.
    pub tag: Option<&'static str>,
}

/// Why the queue takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It holds as much as it may.
    Full,
    /// A commit failed.
    Failed,
    /// Decisions are refused for a while, since the disk has no room for them.
    NoRoom,
    /// Decisions are refused for good, though no commit failed.
    Stopped,
    /// It was closed.
    Closed,
}

/// Submissions in order, bounded in number and bytes.
///
/// Outcomes are not refused: there is at most one for each allow, and those were bounded.
pub struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    limit: usize,
    /// Whether decisions are refused for a while.
    paused: AtomicBool,
    closed: AtomicBool,
    /// Whether decisions are refused for good; events and outcomes are not.
    stopped: AtomicBool,
}

struct State {
    waiting: Vec<Submission>,
    /// How many of `waiting` are decisions or events.
    urgent: usize,
    bytes: usize,
    /// When the oldest waiting outcome came, if any waits.
    outcome_since: Option<Instant>,
    /// The writer sleeps until it is woken, by an outcome too.
    asleep: bool,
    stage: Stage,
    /// Allows below this index were closed when the log was taken up again: what comes of them later is dropped.
    settled: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Closed,
    Failed,
}

impl Stage {
    const fn takes(self) -> Result<(), Refused> {
        match self {
            Self::Open => Ok(()),
            Self::Closed => Err(Refused::Closed),
            Self::Failed => Err(Refused::Failed),
        }
    }
}

impl Queue {
    /// A queue for at most `limit` decisions.
    pub fn new(limit: usize) -> Self {
        let state = State {
            waiting: Vec::new(),
            urgent: 0,
            bytes: 0,
            outcome_since: None,
            asleep: false,
            stage: Stage::Open,
            settled: 0,
        };
        Self {
            state: Mutex::new(state),
            ready: Condvar::new(),
            limit,
            stopped: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// Submits a decision.
    ///
    /// # Errors
    /// [`Refused`]: it was not submitted.
    pub fn decision(&self, submission: Submission) -> Result<(), Refused> {
        let state = self.lock();
        self.takes_decisions(&state)?;
        self.push(state, submission, self.limit)
    }

    /// Submits an event of the gate's own; these have room that decisions do not take from them.
    ///
    /// # Errors
    /// [`Refused`]: it was not submitted.
    pub fn event(&self, submission: Submission) -> Result<(), Refused> {
        let state = self.lock();
        state.stage.takes()?;
        self.push(state, submission, self.limit + EVENT_ROOM)
    }

    /// Submits the outcome of the decision at `index`. After a failed commit it is dropped: the next start closes
    /// the allow.
    pub fn outcome(&self, index: u64, body: Body) {
        let mut state = self.lock();
        if state.stage == Stage::Failed || index < state.settled {
            return;
        }
        state.bytes += body.sealed_len();
        state.waiting.push(Submission {
            body,
            effect: Effect::Closes(index),
            wake: None,
            first: None,
            held: Held::default(),
        });
        if state.outcome_since.is_none() {
            state.outcome_since = Some(Instant::now());
            if state.asleep {
                // It is to take up a deadline.
                self.ready.notify_one();
            }
        }
    }

    fn takes_decisions(&self, state: &State) -> Result<(), Refused> {
        if self.is_stopped() {
            return Err(Refused::Stopped);
        }
        // A failure and an end are final, and say more than a pause.
        state.stage.takes()?;
        if self.paused.load(Ordering::Acquire) { Err(Refused::NoRoom) } else { Ok(()) }
    }

    fn push(
        &self,
        mut state: MutexGuard<'_, State>,
        submission: Submission,
        limit: usize,
    ) -> Result<(), Refused> {
        if state.urgent >= limit || state.bytes + submission.body.sealed_len() > MAX_BYTES {
            return Err(Refused::Full);
        }
        state.bytes += submission.body.sealed_len();
        state.waiting.push(submission);
        state.urgent += 1;
        if state.urgent == 1 {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Waits for work and moves all of it into `taken`, which is empty; `false` once the queue is closed and drained.
    pub fn take(&self, taken: &mut Vec<Submission>) -> bool {
        let mut state = self.lock();
        // While calls come, an outcome follows soon: the writer looks for it by itself, and need not be woken for it.
        let mut quiet = false;
        loop {
            if state.urgent > 0 || (state.stage != Stage::Open && !state.waiting.is_empty()) {
                break;
            }
            if state.stage != Stage::Open {
                return false;
            }
            state = match state.outcome_since {
                None if quiet => {
                    state.asleep = true;
                    let mut state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.asleep = false;
                    state
                }
                None => {
                    let woken = self.ready.wait_timeout(state, OUTCOME_WAIT);
                    let (state, late) = woken.unwrap_or_else(PoisonError::into_inner);
                    quiet = late.timed_out();
                    state
                }
                Some(since) => {
                    let left = OUTCOME_WAIT.saturating_sub(since.elapsed());
                    if left.is_zero() {
                        break;
                    }
                    self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        std::mem::swap(&mut state.waiting, taken);
        state.urgent = 0;
        state.bytes = 0;
        state.outcome_since = None;
        true
    }

    /// Takes no more decisions; what waits is still to be committed.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let mut state = self.lock();
        if state.stage == Stage::Open {
            state.stage = Stage::Closed;
        }
        self.ready.notify_one();
    }

    /// Opens a queue whose writer has ended, for a log of `size` records whose open allows are being closed by
    /// `outcomes`. What their own calls say of them, before or after this, is dropped.
    pub fn reopen(&self, size: u64, outcomes: impl Iterator<Item = (u64, Body)>) {
        let mut state = self.lock();
        self.closed.store(false, Ordering::Release);
        (state.stage, state.settled) = (Stage::Open, size);
        (state.urgent, state.bytes) = (0, 0);
        state.waiting.clear();
        for (index, body) in outcomes {
            state.bytes += body.sealed_len();
            state.waiting.push(Submission {
                body,
                effect: Effect::Closes(index),
                wake: None,
                first: None,
                held: Held::default(),
            });
        }
        state.outcome_since = (!state.waiting.is_empty()).then(Instant::now);
    }

    /// Takes nothing any more and drops what waits: whoever waits for it learns that it failed.
    pub fn fail(&self) {
        let mut state = self.lock();
        state.stage = Stage::Failed;
        state.waiting.clear();
        state.urgent = 0;
        state.bytes = 0;
        state.outcome_since = None;
    }

    /// Whether a decision would be taken, but for the room in the queue.
    ///
    /// # Errors
    /// [`Refused`]: why not.
    pub fn admits(&self) -> Result<(), Refused> {
        self.takes_decisions(&self.lock())
    }

    /// Takes no decisions until told otherwise. What waits is committed; events and outcomes are still taken.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// Whether [`Queue::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes no more decisions, for good. What waits is committed; so are events, and the outcomes of allows that are
    /// open.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Whether [`Queue::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Whether [`Queue::fail`] was called.
    pub fn has_failed(&self) -> bool {
        self.lock().stage == Stage::Failed
    }

    /// Whether the writer sleeps until something comes.
    #[cfg(test)]
    pub fn has_fallen_asleep(&self) -> bool {
        self.lock().asleep
    }

    /// How many submissions wait.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest an outcome waits for a decision to ride with.
pub const OUTCOME_WAIT: Duration = Duration::from_millis(50);

/// Room kept for the gate's own events.
pub const EVENT_ROOM: usize = 64;

/// Most bytes waiting; with the batch being written, the log's part of the gate's memory is at most twice this.
const MAX_BYTES: usize = 32 << 20;
