//! What watches over the log while it is served: its outside mark, its verification, and its witnesses.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::log::{self, LogError};
use super::{StartError, witnessing};
use crate::audit::checkpoint::VerifierKey;
use crate::audit::journal::Journal;
use crate::audit::journal::keys::{self, LogKeys};
use crate::audit::mark::Taken;
use crate::audit::mark::keeper::{self, Keeper, Marked};
use crate::audit::passes::{self, Mismatch, Pace, Passes, Walked};
use crate::audit::record::Event;
use crate::audit::storage::Store;
use crate::audit::witnesses::{Following, Setup, Witnessed};
use crate::clock::Clock;
use crate::config::settings::{self, OnMismatch, Verify};
use crate::proxy::live::Live;

/// A log that may be served: it was held against its mark.
pub(super) struct Watch {
    /// How its mark stands, if it has one.
    pub(super) mark: Option<Arc<keeper::Status>>,
    /// How its verification stands.
    pub(super) verification: Arc<passes::Status>,
    taken: Option<Taken>,
    witnesses: Option<Setup>,
    key: VerifierKey,
}

/// The log that is watched over, as it is served.
pub(super) struct Served<'a> {
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) journal: &'a Journal,
    pub(super) live: &'a Arc<ArcSwap<Live>>,
    pub(super) clock: &'a Clock,
}

/// What goes on while the log is served.
#[derive(Debug, Default)]
pub(super) struct Watching {
    keeper: Option<Keeper>,
    passes: Option<Passes>,
    witnesses: Option<Following>,
}

impl Watch {
    /// Holds the log against its mark, before anything is added to it.
    pub(super) fn take_up(
        log: &settings::Log,
        configured: &LogKeys,
        store: &dyn Store,
    ) -> Result<Self, StartError> {
        let taken = match log::mark_file(log) {
            None => None,
            Some(file) => {
                let (held, keys) = log::held(store, configured)?;
                Some(file.take_up(&keys, store, held).map_err(LogError::from)?)
            }
        };
        Ok(Self {
            mark: taken.is_some().then(Arc::default),
            verification: Arc::default(),
            taken,
            witnesses: witnessing::setup(&log.witnessing).map_err(LogError::from)?,
            key: configured.verifier(),
        })
    }

    /// Writes the first mark, and begins to verify. To be called within the control thread's runtime, once the log has
    /// taken a record.
    pub(super) fn begin(self, served: &Served<'_>, verify: Verify) -> Result<Watching, StartError> {
        let mut watching = Watching::default();
        if let (Some(taken), Some(status)) = (self.taken, self.mark) {
            let journal = served.journal.clone();
            let log = Marked {
                store: Arc::clone(served.store),
                keys: keys::chain(&**served.store)?,
                latest: latest(served.journal),
                forked: Box::new(move |error| {
                    tracing::error!(%error, "another gate writes under this log's origin: every call is answered 503 until a restart");
                    journal.stop();
                }),
            };
            let keeper = Keeper::start(taken, log, Arc::clone(&status))
                .map_err(|source| StartError::Io { what: "the mark's thread", source })?;
            watching.keeper = Some(keeper);
            tokio::task::spawn_local(tell_mark(status));
        }
        if let Some(setup) = self.witnesses {
            let log = Witnessed {
                store: Arc::clone(served.store),
                keys: keys::chain(&**served.store)?,
                latest: latest(served.journal),
                release: Arc::clone(served.journal.release()),
                clock: served.clock.clone(),
            };
            watching.witnesses = Some(Following::start(setup, log));
        }
        if verify.enabled {
            let log = Walked {
                store: Arc::clone(served.store),
                key: self.key,
                latest: latest(served.journal),
                mismatched: on_mismatch(served, verify.on_mismatch),
                clock: served.clock.clone(),
            };
            let pace = Pace { rate: verify.rate, pause: verify.pause };
            let passes = Passes::start(log, pace, self.verification)
                .map_err(|source| StartError::Io { what: "the verifying thread", source })?;
            watching.passes = Some(passes);
        }
        Ok(watching)
    }
}

impl Watching {
    /// Ends the verification, writes the mark a last time and lets it go. To be called once the log takes no more, and
    /// before it is let go itself: whoever takes it up next takes up its mark, too.
    pub(super) async fn end(self) {
        let Self { keeper, passes, witnesses } = self;
        drop(witnesses);
        let ended = tokio::task::spawn_blocking(move || {
            if let Some(passes) = passes {
                passes.stop();
            }
            keeper.map(Keeper::finish)
        });
        if let Ok(Some(keeper::Standing { failed: Some(fault), .. })) = ended.await {
            tracing::error!(%fault, "the log's last mark could not be written");
        }
    }
}

fn latest(journal: &Journal) -> Box<dyn Fn() -> Arc<str> + Send> {
    let journal = journal.clone();
    Box::new(move || journal.checkpoint())
}

/// What becomes of the first mismatch: an error here, a record, and a stop if that was asked for.
fn on_mismatch(served: &Served<'_>, then: OnMismatch) -> Box<dyn FnOnce(&Mismatch) + Send> {
    let (found, told) = oneshot::channel::<Mismatch>();
    let (journal, live) = (served.journal.clone(), Arc::clone(served.live));
    tokio::task::spawn_local(async move {
        // The gate may stop without a mismatch.
        let Ok(mismatch) = told.await else { return };
        let event = Event::VerificationFailed { first_bad_index: mismatch.index, fault: &mismatch.what };
        let epochs = live.load_full().epochs;
        if let Err(error) = journal.event(epochs, &event).await {
            tracing::error!(%error, "that the log does not hold could not be recorded");
        }
    });
    let journal = served.journal.clone();
    Box::new(move |mismatch| {
        let Mismatch { index, proven, what, .. } = mismatch;
        tracing::error!(first_bad_index = index, proven, fault = %what, "the log does not hold: run `portcullis audit verify`");
        match then {
            OnMismatch::Alert => {}
            OnMismatch::Stop => {
                tracing::error!("every call is answered 503 until a restart (verify.on_mismatch)");
                journal.stop();
            }
        }
        // The task goes with the gate.
        let _ = found.send(mismatch.clone());
    })
}

/// Tells how the mark stands, and when that changes.
async fn tell_mark(status: Arc<keeper::Status>) {
    let mut failed = false;
    loop {
        let standing = status.standing();
        metrics::gauge!("portcullis_mark_size").set(standing.size as f64);
        metrics::gauge!("portcullis_mark_failed").set(if standing.failed.is_some() { 1.0 } else { 0.0 });
        match (&standing.failed, failed) {
            (Some(fault), false) => {
                tracing::error!(%fault, "the log's mark is not kept up to date");
            }
            (None, true) => tracing::info!(size = standing.size, "the log's mark is kept up to date again"),
            _ => {}
        }
        failed = standing.failed.is_some();
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How often it is looked how the mark stands.
const LOOK_EVERY: Duration = Duration::from_millis(500);
