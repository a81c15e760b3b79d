//! Calls that are not decided yet: a gate that hands its log over first decides what it has begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts calls from their heads to their decisions' records. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Deciding(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    calls: AtomicUsize,
    none: Notify,
}

/// A call that is not decided yet; it counts until dropped.
#[derive(Debug)]
pub struct Undecided<'a>(&'a Count);

impl Deciding {
    /// A call has come in.
    pub fn begin(&self) -> Undecided<'_> {
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        Undecided(&self.0)
    }

    /// Waits until all are decided.
    pub async fn none(&self) {
        loop {
            let mut none = std::pin::pin!(self.0.none.notified());
            none.as_mut().enable();
            if self.0.calls.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
