//! The one thread that owns chain, tree and store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram};

use super::keys::{LogKeys, Signers};
use super::queue::{Effect, Queue, Submission};
use super::reconcile::LogState;
use super::{Committed, Journal, OpenAllow};
use crate::audit::hash::Hash;
use crate::audit::merkle::Frontier;
use crate::audit::record::{self, Body, Epochs, Event};
use crate::audit::storage::{Batch, Store, StoreError};
use crate::clock::{Clock, Moment, Timestamp};

/// Takes what waits, never waits for more, and writes it as one batch.
pub struct Writer {
    store: Arc<dyn Store>,
    signers: Signers,
    clock: Clock,
    journal: Journal,
    frontier: Frontier,
    prev: Hash,
    epochs: Epochs,
    /// No record's time lies before this.
    floor: Timestamp,
    /// What the clocks said last.
    last: Moment,
    kept: Option<Instant>,
    batch: Batch,
    figures: Figures,
}

/// What each commit is counted by.
struct Figures {
    seconds: Histogram,
    records: Counter,
    commits: Counter,
    size: Gauge,
}

impl Figures {
    fn new() -> Self {
        Self {
            seconds: metrics::histogram!("portcullis_log_commit_seconds"),
            records: metrics::counter!("portcullis_log_records_total"),
            commits: metrics::counter!("portcullis_log_commits_total"),
            size: metrics::gauge!("portcullis_log_size"),
        }
    }
}

impl Writer {
    /// A writer that goes on from a log's state, under the epochs that its own records name.
    pub fn new(
        store: Arc<dyn Store>,
        keys: LogKeys,
        clock: Clock,
        (state, epochs): (LogState, Epochs),
        journal: Journal,
    ) -> Self {
        // A clock that is behind the log is a jump; one that is ahead of it is time gone by.
        let now = clock.moment();
        let last = Moment { wall: now.wall.max(state.last_time), ..now };
        Self {
            store,
            signers: Signers::new(keys, state.signing),
            clock,
            journal,
            frontier: state.frontier,
            prev: state.prev,
            epochs,
            floor: state.last_time,
            last,
            kept: None,
            batch: Batch::default(),
            figures: Figures::new(),
        }
    }

    /// Serves until the queue is closed and drained, or a commit fails.
    pub fn run(mut self) {
        let mut taken = Vec::new();
        let journal = self.journal.clone();
        let queue = &journal.0.queue;
        // A panic leaves the log in a state nobody has thought of: it counts as a failed commit.
        let _fail = FailOnPanic(queue);
        while queue.take(&mut taken) {
            let began = Instant::now();
            if let Err(error) = self.commit(&mut taken) {
                // Whether the batch persisted is unknown. Nothing more may be chained to it, so nothing more is taken;
                // all who wait are told, by their wakers being dropped, that nothing was recorded.
                queue.fail();
                taken.clear();
                metrics::gauge!("portcullis_log_failed").set(1.0);
                tracing::error!(%error, "the log failed: the gate answers 503 until it is restarted");
                return;
            }
            self.figures.seconds.record(began.elapsed());
        }
    }

    /// Makes `taken` durable and releases it.
    ///
    /// 1. Chain, tree, signature and batch are built in memory; if the log's key changes, the record that says so comes
    ///    before all that was submitted. *A crash here loses what nobody was told of.*
    /// 2. The batch is written in one step. *A crash here leaves all of it or nothing; nobody was told of it. What is
    ///    there is signed, and allows among it are closed as `unknown` at the next start. A change of key is there or
    ///    not, with the checkpoint that both keys signed; the next start makes it if it is not.*
    /// 3. The new size and checkpoint are published. *A crash here loses nothing.*
    /// 4. Those who wait are woken. *A crash here leaves durable decisions that were never carried out: allows among
    ///    them are closed as `unknown` at the next start.*
    fn commit(&mut self, taken: &mut Vec<Submission>) -> Result<(), StoreError> {
        // 1.
        let first = self.frontier.size();
        self.batch.restart(first);
        let time = self.tell_time();
        if let Some(body) = self.signers.change(self.batch.next_index(), &self.epochs) {
            self.batch.rotated = Some(self.append(time, &body));
        }
        for submission in taken.iter() {
            let index = self.append(time, &submission.body);
            match submission.effect {
                Effect::None => {}
                Effect::Opens(opening) => {
                    self.epochs = opening.epochs;
                    if opening.follows {
                        self.batch.opened.push(index);
                    }
                }
                Effect::Closes(decision) => self.batch.closed.push(decision),
            }
        }
        let size = self.frontier.size();
        self.batch.tip = Some(self.prev);
        self.batch.checkpoint = self.signers.sign(size, &self.frontier.root(), time);
        let keep = self.batch.rotated.is_some() || self.kept.is_none_or(|kept| kept.elapsed() >= KEEP_EVERY);
        self.batch.keep = keep.then_some(size);

        // 2.
        self.store.commit(&self.batch)?;

        // 3.
        if let Some(index) = self.batch.rotated {
            tracing::info!(index, "the log's key has changed; the change is signed by both keys");
        }
        if keep {
            self.kept = Some(Instant::now());
        }
        self.journal.0.published.set(size, &self.batch.checkpoint);
        self.journal.0.published.last_time.store(self.floor.as_micros(), Ordering::Relaxed);
        self.journal.0.release.grew();
        self.figures.records.increment(size - first);
        self.figures.commits.increment(1);
        self.figures.size.set(size as f64);

        // 4. Events of the writer's own come before the submissions.
        let own = size - first - taken.len() as u64;
        for (index, submission) in (first + own..).zip(taken.drain(..)) {
            if let Some(first) = submission.first {
                first.send_replace(Some(index));
            }
            let Some(wake) = submission.wake else { continue };
            let open = match submission.effect {
                Effect::Opens(opening) => Some(OpenAllow::new(self.journal.clone(), index, opening)),
                Effect::None | Effect::Closes(_) => None,
            };
            // Nobody may be waiting any more: then the open allow drops here and says `not_forwarded`.
            let _ = wake.send(Committed { index, open });
        }
        Ok(())
    }

    /// Adds one record to batch, chain and tree; returns its index.
    fn append(&mut self, time: Timestamp, body: &Body) -> u64 {
        let index = self.batch.next_index();
        let prev = self.prev;
        let leaf = self.batch.push(|out| record::seal(index, &prev, time, body, out));
        self.prev = leaf;
        let nodes = &mut self.batch.nodes;
        self.frontier.push(leaf, |id, hash| nodes.push((id, hash)));
        index
    }

    /// The time of the batch: never before the last one's. A jump of the machine's clock is a record of its own.
    ///
    /// A clock that was once far ahead thus stops the log's time until it has been caught up with: order is worth more
    /// than a time that was wrong anyway. The record of the jump back says how far the log is ahead from there on.
    fn tell_time(&mut self) -> Timestamp {
        let now = self.clock.moment();
        let expected = self.last.wall.plus(now.boot.saturating_sub(self.last.boot));
        let jump_us = now.wall.as_micros() - expected.as_micros();
        let time = now.wall.max(self.floor);
        (self.floor, self.last) = (time, now);
        if jump_us.unsigned_abs() > JUMP_US {
            self.append(time, &Body::event(&self.epochs, &Event::ClockJumped { by_us: jump_us }));
        }
        time
    }
}

struct FailOnPanic<'a>(&'a Queue);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail();
            metrics::gauge!("portcullis_log_failed").set(1.0);
        }
    }
}

/// How often a checkpoint is kept for good.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// How far the wall clock may drift from the time since boot between two batches, microseconds.
const JUMP_US: u64 = 1_000_000;
