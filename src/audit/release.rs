//! How far the log is cosigned, and who waits for that.
//!
//! The journal asks it before it takes a decision and before it lets one go; what asks the witnesses tells it. The
//! log's writer only ever tells it that there is more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

/// Shared by the journal and what asks the witnesses.
#[derive(Debug)]
pub struct Release {
    /// Whether each decision waits until its own record is cosigned.
    waits: AtomicBool,
    /// Whether no decision is taken, since a record has waited too long for its cosignatures.
    denies: AtomicBool,
    /// How many records are cosigned by enough.
    cosigned: watch::Sender<u64>,
    grown: Notify,
    published: Mutex<Published>,
}

#[derive(Debug, Default)]
struct Published {
    /// The latest checkpoint that is cosigned, with its size.
    cosigned: Option<(u64, Arc<str>)>,
    /// The last one that was shown before any was cosigned, with its size.
    shown: Option<(u64, Arc<str>)>,
}

impl Default for Release {
    fn default() -> Self {
        Self {
            waits: AtomicBool::new(false),
            denies: AtomicBool::new(false),
            cosigned: watch::Sender::new(0),
            grown: Notify::new(),
            published: Mutex::default(),
        }
    }
}

impl Release {
    /// Lets each decision wait until its record is cosigned, or not.
    pub fn set_waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Release);
    }

    /// Refuses decisions from now on, or takes them again.
    pub fn set_denies(&self, denies: bool) {
        self.denies.store(denies, Ordering::Release);
    }

    /// Whether decisions are refused.
    pub fn denies(&self) -> bool {
        self.denies.load(Ordering::Acquire)
    }

    /// How many records are cosigned.
    pub fn cosigned(&self) -> u64 {
        *self.cosigned.borrow()
    }

    /// The first `size` records are cosigned, as `note` shows. It never goes back.
    pub fn set_cosigned(&self, size: u64, note: Arc<str>) {
        {
            let mut published = self.lock();
            if published.cosigned.as_ref().is_none_or(|(before, _)| *before <= size) {
                published.cosigned = Some((size, note));
            }
        }
        self.cosigned.send_if_modified(|cosigned| {
            let more = size > *cosigned;
            *cosigned = size.max(*cosigned);
            more
        });
    }

    /// Waits until the record at `index` may be let go.
    pub async fn wait(&self, index: u64) {
        if self.waits.load(Ordering::Acquire) {
            // The sender is here, so it cannot be gone.
            let _ = self.cosigned.subscribe().wait_for(|cosigned| *cosigned > index).await;
        }
    }

    /// The log has grown. Costs nothing unless somebody is in a hurry to know.
    pub fn grew(&self) {
        if self.waits.load(Ordering::Acquire) {
            self.grown.notify_one();
        }
    }

    /// Waits until the log has grown; forever, where nobody waits for cosignatures.
    pub async fn until_grown(&self) {
        self.grown.notified().await;
    }

    /// The checkpoint to be shown: the latest that is cosigned, or `latest`, of `size` records, where none is. It never
    /// goes back: until one as large is cosigned as was shown without, the one that was shown stays.
    pub fn shown(&self, size: u64, latest: &Arc<str>) -> Arc<str> {
        let mut published = self.lock();
        let Published { cosigned, shown } = &mut *published;
        match (cosigned, shown) {
            (None, shown) => {
                *shown = Some((size, Arc::clone(latest)));
                Arc::clone(latest)
            }
            (Some((cosigned, _)), Some((shown, note))) if *shown > *cosigned => Arc::clone(note),
            (Some((_, note)), shown) => {
                *shown = None;
                Arc::clone(note)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        // Every change under the lock is complete before anything can panic.
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Arc<str> {
        text.into()
    }

    #[test]
    fn what_is_shown_never_goes_back() {
        let release = Release::default();
        assert_eq!(release.shown(5, &note("five")), note("five"), "nothing is cosigned");
        release.set_cosigned(3, note("three, cosigned"));
        assert_eq!(release.shown(9, &note("nine")), note("five"));
        release.set_cosigned(7, note("seven, cosigned"));
        assert_eq!(release.shown(9, &note("nine")), note("seven, cosigned"));
        release.set_cosigned(6, note("six, cosigned"));
        assert_eq!(release.shown(9, &note("nine")), note("seven, cosigned"));
        assert_eq!(release.cosigned(), 7);
    }

    #[tokio::test]
    async fn only_what_is_cosigned_is_let_go_and_only_where_that_is_asked_for() {
        let release = Arc::new(Release::default());
        release.wait(100).await;
        release.set_waits(true);
        let mut waiting = tokio_test::task::spawn(release.wait(4));
        assert!(waiting.poll().is_pending());
        release.set_cosigned(4, note("records 0 to 3"));
        assert!(waiting.poll().is_pending());
        release.set_cosigned(5, note("records 0 to 4"));
        assert!(waiting.poll().is_ready());
    }
}
