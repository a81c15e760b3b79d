//! The order in which a running gate gives its place away, and takes it back.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::give::Visitor;
use crate::app::accepting::Accepting;
use crate::app::claim::Claim;
use crate::app::disk;
use crate::app::log::{self, LogError};
use crate::app::watch::{Served, Watch, Watching};
use crate::app::{LAST_WORDS, StartError};
use crate::audit::journal::{Journal, Unrecorded};
use crate::audit::lent::LentStore;
use crate::audit::record::Event;
use crate::audit::rocks::OpenError;
use crate::audit::space::{self, Space};
use crate::audit::storage::Store;
use crate::clock::Clock;
use crate::config::settings::{Log, Verify};
use crate::server::drain::Phase;

/// A running gate, as far as it can be given away.
pub(in crate::app) struct Place {
    pub(in crate::app) log: Log,
    pub(in crate::app) verify: Verify,
    pub(in crate::app) clock: Clock,
    pub(in crate::app) accepting: Accepting,
    pub(in crate::app) claim: Claim,
    pub(in crate::app) journal: Journal,
    pub(in crate::app) store: Arc<LentStore>,
    pub(in crate::app) writer: Option<JoinHandle<()>>,
    pub(in crate::app) watching: Option<Watching>,
    pub(in crate::app) room: Option<space::Watch>,
    pub(in crate::app) space: Space,
}

impl Place {
    /// Gives the place to `visitor`; whether it was taken. If it was not, the gate serves as before.
    ///
    /// # Errors
    /// The log could be neither given away nor taken up again: the gate must not go on.
    pub(in crate::app) async fn give_to(&mut self, mut visitor: Visitor) -> Result<bool, StartError> {
        let (pid, drain) = (visitor.pid, self.accepting.drain.clone());
        // 1., 2.
        let asked = match visitor.offer(&self.log.dir, &self.accepting.sockets, &self.claim).await {
            Ok(()) => visitor.released().await,
            Err(error) => Err(error),
        };
        if let Err(error) = asked {
            tracing::warn!(pid, %error, "the process that asked to take over gave up; this one goes on");
            return Ok(false);
        }
        tracing::info!(pid, "handing over: kept connections are let go");
        drain.enter(Phase::Closing);
        let gone = tokio::select! {
            _ = drain.settled(CLOSING) => false,
            () = visitor.gone() => true,
        };
        // 3.
        let gone = gone || {
            drain.enter(Phase::Holding);
            self.accepting.ended().await;
            tokio::select! {
                _ = drain.settled(HOLDING) => false,
                () = visitor.gone() => true,
            }
        };
        if gone {
            tracing::warn!(pid, "the process that asked to take over has gone; this one goes on");
            self.accept_again()?;
            return Ok(false);
        }
        // 4.
        match tokio::time::timeout(LAST_WORDS, self.let_go()).await {
            Ok(()) => {}
            // A disk that stands still lets nobody have the log.
            Err(_) => return Err(Unrecorded::TimedOut.into()),
        }
        // 5.
        match visitor.serves().await {
            Ok(()) => {
                tracing::info!(pid, "handed over: what is being answered is finished here");
                Ok(true)
            }
            Err(error) => {
                tracing::error!(pid, %error, "the process that took over does not serve; this one takes the log up again");
                drop(visitor);
                self.take_back().await?;
                Ok(false)
            }
        }
    }

    /// Writes the last record and lets the log go, with everything that stands on it: mark, verification, views.
    async fn let_go(&mut self) {
        let last = self.accepting.live.load_full();
        self.accepting.faults.record(&self.journal, &last).await;
        self.journal.write_counts().await;
        if let Err(error) = self.journal.event(last.epochs, &Event::HandedOver).await {
            // A log that has failed is taken up by the other as by any restart.
            tracing::error!(%error, "the log's last record could not be written");
        }
        self.journal.close();
        if let Some(writer) = self.writer.take() {
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
        if let Some(watching) = self.watching.take() {
            watching.end().await;
        }
        self.room = None;
        self.accepting.end_health();
        let store = Arc::clone(&self.store);
        // A panic while closing leaves the log locked, which the other is told.
        let _ = tokio::task::spawn_blocking(move || store.recall()).await;
    }

    /// Takes the log up again as a restart would, and serves on.
    async fn take_back(&mut self) -> Result<(), StartError> {
        let keys = log::log_keys(&self.log)?;
        let began = Instant::now();
        let store = loop {
            match log::open(&self.log, &keys) {
                // Who held it may be about to end; its files are closed one by one.
                Err(LogError::Open(OpenError::Locked { .. })) if began.elapsed() < MOMENT => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                opened => break opened?,
            }
        };
        let mut watch = Watch::take_up(&self.log, &keys, &*store)?;
        // Whoever looks at them looks at these.
        watch.mark = watch.mark.and(self.accepting.health.mark.clone());
        watch.verification = Arc::clone(&self.accepting.health.verification);
        self.store.lend(store);
        let store: Arc<dyn Store> = Arc::clone(&self.store) as _;
        let live = Arc::clone(&self.accepting.live);
        let epochs = live.load().epochs;
        self.writer = Some(self.journal.reopen(Arc::clone(&store), keys, self.clock.clone(), epochs)?);
        self.journal.event(epochs, &Event::Started { version: env!("CARGO_PKG_VERSION") }).await?;
        let served = Served { store: &store, journal: &self.journal, live: &live, clock: &self.clock };
        self.watching = Some(watch.begin(&served, self.verify)?);
        let room = disk::watch(&self.log, &self.journal, &live, &self.space)
            .map_err(|source| StartError::Io { what: "the log's disk, or the reserve on it", source })?;
        self.room = Some(room);
        if let Err(error) = self.claim.sign() {
            tracing::warn!(%error, "the claim does not name this process");
        }
        self.accept_again()
    }

    fn accept_again(&mut self) -> Result<(), StartError> {
        self.accepting.drain.enter(Phase::Serving);
        self.accepting.begin().map_err(|source| StartError::Io { what: "a listener", source })
    }
}

/// How long kept connections are let go one by one while new ones are still accepted.
const CLOSING: Duration = Duration::from_secs(1);

/// How long what has begun may take to be decided while new connections wait.
const HOLDING: Duration = Duration::from_secs(2);

/// How long a process that is about to end may hold the log's lock.
const MOMENT: Duration = Duration::from_secs(10);

/// How often the lock is tried.
const LOOK_EVERY: Duration = Duration::from_millis(50);
