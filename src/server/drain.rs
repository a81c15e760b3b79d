//! Going down in order: kept connections are told to close while calls are still decided; then no new connections; then
//! no new decisions; what is in flight finishes, and the log closes. Up to the last step the way back is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::proxy::deciding::Deciding;

/// How far the gate is on its way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It serves, and lets each connection go after the call it carries.
    Closing,
    /// The same, and accepts no more connections: those wait in the kernel for who accepts next.
    Holding,
    /// No new call is decided.
    Draining,
}

/// Tells everyone how far the gate is on its way down, and waits for connections to end. Clones are one.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    open: Arc<Open>,
    /// Calls that are not decided yet.
    pub deciding: Deciding,
}

#[derive(Debug, Default)]
struct Open {
    connections: AtomicUsize,
    /// Those that may still bring a new call.
    unsettled: AtomicUsize,
    changed: Notify,
}

/// An open connection; it counts until dropped.
#[derive(Debug)]
pub struct OpenConnection {
    open: Arc<Open>,
    settled: bool,
}

impl Default for Drain {
    fn default() -> Self {
        let phase = watch::Sender::new(Phase::Serving);
        Self { phase, open: Arc::default(), deciding: Deciding::default() }
    }
}

impl Drain {
    /// Goes to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until it is at `phase` or beyond.
    pub async fn reached(&self, phase: Phase) {
        let mut watched = self.phase.subscribe();
        // The sender is in `self`, so waiting cannot fail.
        let _ = watched.wait_for(|now| *now >= phase).await;
    }

    /// Begins to drain.
    pub fn begin(&self) {
        self.enter(Phase::Draining);
    }

    /// Whether it has begun to drain.
    pub fn has_begun(&self) -> bool {
        self.phase() == Phase::Draining
    }

    /// Waits until it begins to drain.
    pub async fn begun(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Counts a connection; `None` if there are `limit` already.
    pub fn connection(&self, limit: usize) -> Option<OpenConnection> {
        let counted = self
            .open
            .connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < limit).then_some(open + 1));
        counted.ok()?;
        self.open.unsettled.fetch_add(1, Ordering::AcqRel);
        Some(OpenConnection { open: Arc::clone(&self.open), settled: false })
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.open.connections.load(Ordering::Acquire)
    }

    /// Waits until no connection is open, at most for `limit`; how many still were.
    pub async fn finished(&self, limit: Duration) -> usize {
        self.none_of(&self.open.connections, limit).await
    }

    /// Waits until no connection can bring a new call and no call waits for its decision, at most for `limit`; how many
    /// connections still could.
    pub async fn settled(&self, limit: Duration) -> usize {
        let settled = async {
            self.none_of(&self.open.unsettled, Duration::MAX).await;
            self.deciding.none().await;
        };
        let _ = tokio::time::timeout(limit, settled).await;
        self.open.unsettled.load(Ordering::Acquire)
    }

    async fn none_of(&self, count: &AtomicUsize, limit: Duration) -> usize {
        let none = async {
            loop {
                let mut changed = std::pin::pin!(self.open.changed.notified());
                changed.as_mut().enable();
                if count.load(Ordering::Acquire) == 0 {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(limit, none).await;
        count.load(Ordering::Acquire)
    }
}

impl OpenConnection {
    /// It brings no new call: it ends after those it carries.
    pub fn settle(&mut self) {
        if !std::mem::replace(&mut self.settled, true) {
            self.open.unsettled.fetch_sub(1, Ordering::AcqRel);
            self.open.changed.notify_waiters();
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.settle();
        self.open.connections.fetch_sub(1, Ordering::AcqRel);
        self.open.changed.notify_waiters();
    }
}
