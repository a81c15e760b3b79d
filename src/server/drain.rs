//! Going down in order: no new decisions, what is in flight finishes, then the log closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Tells everyone that the gate goes down, and waits for connections to end. Clones are one.
#[derive(Clone, Debug)]
pub struct Drain {
    draining: watch::Sender<bool>,
    open: Arc<Open>,
}

#[derive(Debug, Default)]
struct Open {
    connections: AtomicUsize,
    ended: Notify,
}

/// An open connection; it counts until dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<Open>);

impl Default for Drain {
    fn default() -> Self {
        Self { draining: watch::Sender::new(false), open: Arc::default() }
    }
}

impl Drain {
    /// Begins.
    pub fn begin(&self) {
        self.draining.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        let mut draining = self.draining.subscribe();
        // The sender is in `self`, so waiting cannot fail.
        let _ = draining.wait_for(|begun| *begun).await;
    }

    /// Counts a connection; `None` if there are `limit` already.
    pub fn connection(&self, limit: usize) -> Option<OpenConnection> {
        let counted = self
            .open
            .connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < limit).then_some(open + 1));
        counted.is_ok().then(|| OpenConnection(Arc::clone(&self.open)))
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.open.connections.load(Ordering::Acquire)
    }

    /// Waits until no connection is open, at most for `limit`; how many still were.
    pub async fn finished(&self, limit: Duration) -> usize {
        let all_ended = async {
            loop {
                let mut ended = std::pin::pin!(self.open.ended.notified());
                ended.as_mut().enable();
                if self.connections() == 0 {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(limit, all_ended).await;
        self.connections()
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_waiters();
    }
}
