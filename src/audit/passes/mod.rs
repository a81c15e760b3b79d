//! The whole log verified while it is in use, pass after pass.
//!
//! What `audit verify` would find tomorrow, this finds today: a block that has rotted on the disk, a record that somebody
//! has edited in place, a kept checkpoint that does not hold.
//!
//! | file | what is there |
//! |---|---|
//! | this one | the thread, its pauses, how it stands |
//! | [`pass`] | one walk from the first record to the checkpoint that was the latest as it began |
//!
//! Invariants:
//! 1. The log is only read, a slice at a time; between slices nothing of the store is held.
//! 2. Memory is bounded, however long the log.
//! 3. The first mismatch ends it. It stands until a restart, which begins again at the first record.

pub mod pass;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::pass::{Ended, Pass};
use super::checkpoint::VerifierKey;
use super::hash::Hash;
use super::storage::Store;
use super::verify::{BrokenOff, Fault};
use crate::clock::{Clock, Timestamp};

/// A thread that verifies a log, pass after pass, until [`Passes::stop`] or a mismatch.
#[derive(Debug)]
pub struct Passes {
    /// Dropped to end the thread.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// The log that is verified.
pub struct Walked {
    /// Where it is.
    pub store: Arc<dyn Store>,
    /// What its checkpoints are signed with.
    pub key: VerifierKey,
    /// Its latest durable checkpoint, as a note.
    pub latest: Box<dyn Fn() -> Arc<str> + Send>,
    /// Called with the first mismatch; that ends it.
    pub mismatched: Box<dyn FnOnce(&Mismatch) + Send>,
    /// The time.
    pub clock: Clock,
}

/// How fast it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Records per second, at most.
    pub rate: u32,
    /// From the end of a pass to the start of the next.
    pub pause: Duration,
}

/// A log that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The first bad index.
    pub index: u64,
    /// Records below this index are proven by a checkpoint of the log.
    pub proven: u64,
    /// What is wrong with it, for people.
    pub what: String,
    /// When it was found.
    pub at: Timestamp,
}

/// A pass that found nothing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastPass {
    /// When it ended.
    pub at: Timestamp,
    /// How many records it read.
    pub records: u64,
    /// The root over them, as signed.
    pub root: Hash,
}

/// What it is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Nothing: it was not asked to.
    #[default]
    Off,
    /// It reads.
    Walking,
    /// It waits for the next pass.
    Resting,
    /// It has found something, and stopped.
    Mismatch,
}

impl Stage {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Walking => "walking",
            Self::Resting => "resting",
            Self::Mismatch => "mismatch",
        }
    }
}

/// How the verification stands. Any thread may ask.
#[derive(Debug, Default)]
pub struct Status(Mutex<Standing>);

/// How the verification stands at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What it is doing.
    pub stage: Stage,
    /// The next record it reads.
    pub at: u64,
    /// Where this pass ends.
    pub of: u64,
    /// How many passes were finished since the start.
    pub passes: u64,
    /// The last of them.
    pub last_pass: Option<LastPass>,
    /// What was found.
    pub mismatch: Option<Mismatch>,
}

impl Status {
    /// How it stands now.
    pub fn standing(&self) -> Standing {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        // Every change under the lock is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passes {
    /// Begins the first pass, telling `status`.
    ///
    /// # Errors
    /// If the thread could not be started.
    pub fn start(log: Walked, pace: Pace, status: Arc<Status>) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("verify".into()).spawn(move || {
            // Of this thread alone, as Linux has it. Where it is not granted, the pace still holds.
            let _ = rustix::process::setpriority_process(None, NICE);
            run(log, pace, &status, &stopped);
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it, wherever it is, and waits for that.
    pub fn stop(self) {
        drop(self.stop);
        // A panic there has been told of; nothing of the gate stands on it.
        let _ = self.thread.join();
    }
}

fn run(log: Walked, pace: Pace, status: &Status, stopped: &Receiver<()>) {
    loop {
        let note = (log.latest)();
        match Pass::new(&log.store, &log.key, &note).walk(&mut Steps { pace, status, stopped }) {
            Ended::Stopped => return,
            Ended::Holds(report) => {
                let at = log.clock.now();
                let mut standing = status.lock();
                standing.stage = Stage::Resting;
                standing.passes += 1;
                standing.last_pass = Some(LastPass { at, records: report.records, root: report.root });
                drop(standing);
                metrics::counter!("portcullis_verify_passes_total").increment(1);
                metrics::gauge!("portcullis_verify_last_pass_timestamp_seconds").set(at.as_secs() as f64);
            }
            Ended::Fails(failure) => {
                let mismatch = failure.at(log.clock.now());
                let mut standing = status.lock();
                standing.stage = Stage::Mismatch;
                standing.mismatch = Some(mismatch.clone());
                drop(standing);
                metrics::gauge!("portcullis_verify_mismatch").set(1.0);
                (log.mismatched)(&mismatch);
                return;
            }
        }
        if stopped.recv_timeout(pace.pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// What a pass does between its steps: tell where it is, wait, hear that it shall end.
struct Steps<'a> {
    pace: Pace,
    status: &'a Status,
    stopped: &'a Receiver<()>,
}

impl pass::Steps for Steps<'_> {
    fn slice(&self) -> u64 {
        u64::from(self.pace.rate / SLICES_A_SECOND).clamp(1, MAX_SLICE)
    }

    fn at(&mut self, next: u64, of: u64) {
        let mut standing = self.status.lock();
        (standing.stage, standing.at, standing.of) = (Stage::Walking, next, of);
        metrics::gauge!("portcullis_verify_position").set(next as f64);
    }

    fn rest(&mut self, read: u64, began: Instant) -> bool {
        let due = Duration::from_secs_f64(read as f64 / f64::from(self.pace.rate.max(1)));
        self.wait(due.saturating_sub(began.elapsed()))
    }

    fn wait(&mut self, time: Duration) -> bool {
        self.stopped.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }
}

/// What a pass found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    index: u64,
    proven: u64,
    what: String,
}

impl Failure {
    fn at(self, at: Timestamp) -> Mismatch {
        let Self { index, proven, what } = self;
        Mismatch { index, proven, what, at }
    }

    fn unreadable(BrokenOff { index, proven }: BrokenOff, why: &impl std::fmt::Display) -> Self {
        Self { index, proven, what: format!("cannot be read: {why}") }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { index: fault.index, proven: fault.proven, what: fault.kind.to_string() }
    }
}

/// How little of a busy core it gets.
const NICE: i32 = 15;

/// A slice is read in one go; short ones spread the work, but each opens the store's files anew.
const SLICES_A_SECOND: u32 = 4;

/// Most records read in one go.
const MAX_SLICE: u64 = 4096;

#[cfg(test)]
mod tests;
