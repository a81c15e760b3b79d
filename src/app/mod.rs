//! Settings become a running gate.
//!
//! | file | what is there |
//! |---|---|
//! | this one | [`start`], [`serve`], [`Running`] |
//! | [`mod@assemble`] | settings to the objects that serve |
//! | `assertion` | the keys of what the gate vouches for |
//! | `disk` | room on the log's disk |
//! | [`log`] | creating and opening the configured log |
//! | [`reload`] | a new policy or config while serving |
//! | `certificates` | the listeners' certificates and those of callers, loaded and loaded anew |
//! | `privileges` | what the process gives up |
//! | [`sockets`] | what is listened on: bound here, or given by another |
//! | `accepting`, `addresses` | who accepts on them; who is told where |
//! | [`claim`], `entry` | one process for an origin; how it gets there |
//! | [`handover`] | a new process takes the place of a running one |
//! | `notify` | what systemd is told |
//! | `signals` | what the process is told |
//! | `telling` | what it tells of itself: its own log, and figures |
//! | `open_files` | as many as the system lets it have |
//! | `watch_clock` | what is told of the machine's clock |
//! | `watch` | what watches over the log: its outside mark, its verification |
//! | [`witness`] | a witness as a process |
//! | [`witnessing`] | the witnesses of the gate's own log |
//! | [`mod@check`] | everything proved, nothing started |

mod accepting;
mod addresses;
pub mod assemble;
mod assertion;
mod certificates;
pub mod check;
pub mod claim;
mod disk;
mod entry;
pub mod handover;
pub mod log;
pub mod monitor;
mod notify;
mod open_files;
mod privileges;
pub mod reload;
mod signals;
pub mod sockets;
mod telling;
mod watch;
mod watch_clock;
pub mod witness;
pub mod witnessing;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

pub use self::check::{CheckError, Proof, check};
pub use self::log::create_log;

use self::accepting::{Accepting, AtWork};
use self::addresses::Addresses;
use self::assemble::{AssembleError, assemble};
use self::claim::{Claim, ClaimError};
use self::entry::Entry;
use self::handover::give::{Threshold, Visitor};
use self::handover::order::Place;
use self::handover::take::{Successor, TakeOverError};
use self::log::LogError;
use self::reload::Reloader;
use self::signals::until_signalled;
use self::sockets::SocketError;
use self::telling::{install_metrics, log_to_stderr};
use self::watch::{Served, Watch};
use crate::admin::Views;
use crate::audit::journal::reconcile::ReconcileError;
use crate::audit::journal::{Journal, JournalOptions, Unrecorded};
use crate::audit::lent::LentStore;
use crate::audit::record::Event;
use crate::audit::space::Space;
use crate::audit::storage::Store;
use crate::clock::Clock;
use crate::config::settings;
use crate::config::{ConfigErrors, Environment, Settings};
use crate::proxy::live::{Live, Refusals};
use crate::server::drain::{Drain, Phase};
use crate::server::faults::Faults;
use crate::server::health::Health;
use crate::server::worker::{Worker, WorkerParts};

/// Why the gate did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The config does not hold.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// Something it names does not hold.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log may not grow.
    #[error("the log cannot be taken up: {0}")]
    Reconcile(#[from] ReconcileError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Another process serves this origin.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The gate that serves this origin was not replaced.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// The first record could not be written.
    #[error("the log did not take the gate's own record: {0}")]
    Unrecorded(#[from] Unrecorded),
    /// A thread or runtime could not be had, or a file not be written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The gate's thread panicked.
    #[error("the gate's own thread panicked")]
    Panicked,
}

/// A gate that serves.
pub struct Running {
    /// Where it listens for calls.
    pub front: Vec<SocketAddr>,
    /// Where it listens for the admin API.
    pub admin: SocketAddr,
    /// Where it listens for health checks.
    pub health: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), StartError>>,
}

impl Running {
    /// Drains, closes the log, and returns when all is down.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub fn stop(self) -> Result<(), StartError> {
        // Should the gate be down already, its thread says why.
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| StartError::Panicked)?
    }
}

/// Starts a gate in this process, on threads of its own. `store` stands in for the configured log.
///
/// # Errors
/// [`StartError`]; then nothing listens.
pub fn start(settings: Settings, store: Option<Arc<dyn Store>>) -> Result<Running, StartError> {
    let (ready, started) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let told = move |addresses: &Addresses| {
                // Whoever started the gate may have stopped waiting; it serves all the same.
                let _ = ready.send(addresses.clone());
                Ok(())
            };
            let until = async {
                let _ = stopped.await;
            };
            let source = Source { config_path: None, store, take_over: false };
            control(settings, source, told, |_| until)
        })
        .map_err(|source| StartError::Io { what: "the control thread", source })?;
    match started.recv() {
        Ok(Addresses { front, admin, health }) => Ok(Running { front, admin, health, stop, thread }),
        Err(_) => match thread.join() {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) | Err(_) => Err(StartError::Panicked),
        },
    }
}

/// Serves by the config at `path` until SIGTERM or SIGINT; SIGHUP reloads. Once ready, the addresses listened on are
/// written to `ready_file` as JSON. With `take_over` a gate that serves the same log is replaced, without a failed call.
///
/// # Errors
/// [`StartError`].
pub fn serve(path: &Path, ready_file: Option<PathBuf>, take_over: bool) -> Result<(), StartError> {
    let settings = Settings::load(path, &Environment::of_process())?;
    log_to_stderr(settings.logging);
    privileges::keep_memory_private();
    let told = move |addresses: &Addresses| match &ready_file {
        Some(file) => {
            addresses.write(file).map_err(|source| StartError::Io { what: "the ready file", source })
        }
        None => Ok(()),
    };
    let source = Source { config_path: Some(path.to_owned()), store: None, take_over };
    control(settings, source, told, until_signalled)
}

/// What a gate begins with, besides its settings.
struct Source {
    config_path: Option<PathBuf>,
    /// Stands in for the configured log.
    store: Option<Arc<dyn Store>>,
    take_over: bool,
}

/// The gate's life on the control thread: everything but serving connections happens here.
fn control<U: Future<Output = ()>>(
    settings: Settings,
    source: Source,
    ready: impl FnOnce(&Addresses) -> Result<(), StartError>,
    until: impl FnOnce(Reloader) -> U,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::Io { what: "the control runtime", source })?;
    let done = LocalSet::new().block_on(&runtime, run(settings, source, ready, until));
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn run<U: Future<Output = ()>>(
    settings: Settings,
    source: Source,
    ready: impl FnOnce(&Addresses) -> Result<(), StartError>,
    until: impl FnOnce(Reloader) -> U,
) -> Result<(), StartError> {
    privileges::keep_files_private();
    let clock = Clock::system();
    let metrics = install_metrics();
    open_files::allow(&settings.limits);
    let parts = assemble(&settings, &clock)?;
    // Addresses are taken before the log is: a gate that cannot listen leaves no trace in it.
    let Entry { claim, sockets, mut successor, activated } = Entry::new(&settings, source.take_over)?;

    let keys = log::log_keys(&settings.log)?;
    // All is proved: from here on the gate before this one, if there is one, lets go.
    if let Some(successor) = &mut successor {
        successor.release()?;
    }
    let lends = source.store.is_none();
    let store = match source.store {
        Some(store) => store,
        None => log::open(&settings.log, &keys)?,
    };
    let lent = Arc::new(LentStore::new(store));
    let store: Arc<dyn Store> = Arc::clone(&lent) as _;
    let watch = Watch::take_up(&settings.log, &keys, &*store)?;
    let options = JournalOptions {
        queue: settings.log.queue,
        timeout: settings.log.timeout,
        denial_bytes: settings.limits.denial_bytes,
    };
    let epochs = parts.epochs;
    // Before any record names it, those by which the journal takes up the log among them.
    store.keep_policy(epochs.policy, parts.policy().text().as_bytes()).map_err(ReconcileError::from)?;
    let (journal, writer) = Journal::open(Arc::clone(&store), keys, clock.clone(), options, epochs)?;
    journal.event(epochs, &Event::Started { version: env!("CARGO_PKG_VERSION") }).await?;

    let (refusals, space) = (Arc::new(Refusals::default()), Space::default());
    let live = Arc::new_cyclic(|live| {
        let views = Views {
            store: Arc::clone(&store),
            journal: journal.clone(),
            live: live.clone(),
            refusals: Arc::clone(&refusals),
            space: space.clone(),
            started: clock.now(),
            clock: clock.clone(),
            mark: watch.mark.clone(),
            verification: Arc::clone(&watch.verification),
            explaining: crate::admin::policy::Room::default(),
        };
        ArcSwap::from_pointee(parts.into_live(crate::admin::router(views)))
    });
    let room = disk::watch(&settings.log, &journal, &live, &space)
        .map_err(|source| StartError::Io { what: "the log's disk, or the reserve on it", source })?;
    let (mark, verification) = (watch.mark.clone(), Arc::clone(&watch.verification));
    let served = Served { store: &store, journal: &journal, live: &live, clock: &clock };
    let watching = watch.begin(&served, settings.verify)?;
    let drain = Drain::default();
    let faults = Faults::new(clock.clone());
    let (workers, threads) = start_workers(settings.server.workers, &live, &journal, (&drain, &faults))?;
    let summing = faults.clone().keep_sums(journal.clone(), Arc::clone(&live));
    tokio::task::spawn_local(summing);
    tokio::task::spawn_local(journal.clone().keep_counts());

    let addresses = Addresses::of(&sockets)
        .map_err(|source| StartError::Io { what: "the listeners' addresses", source })?;
    tokio::task::spawn_local(watch_clock::watch_clock(clock.clone(), journal.clone()));
    let health = Health {
        journal: journal.clone(),
        live: Arc::clone(&live),
        refusals: Arc::clone(&refusals),
        drain: drain.clone(),
        space: space.clone(),
        mark,
        verification,
        metrics,
    };
    let mut accepting = Accepting {
        sockets,
        workers,
        live: Arc::clone(&live),
        drain: drain.clone(),
        faults: faults.clone(),
        health,
        at_work: AtWork::default(),
    };
    accepting.begin().map_err(|source| StartError::Io { what: "a listener", source })?;
    let drain_timeout = settings.server.drain_timeout;
    let (log, verify) = (settings.log.clone(), settings.verify);
    let reloader = Reloader::start(
        Arc::clone(&live),
        refusals,
        (journal.clone(), Arc::clone(&store)),
        clock.clone(),
        (settings, source.config_path),
        drain.clone(),
    );

    // Who hears that the gate is ready may tell it to stop at once.
    let until = until(reloader);
    addresses.tell();
    // A store of the embedder's own is not this gate's to give away.
    let open = || if lends { threshold(&log) } else { None };
    let threshold = if let Some(successor) = successor {
        ready(&addresses)?;
        serving(successor, &claim);
        open()
    } else {
        // Who hears that the gate is ready may want its place at once.
        let threshold = open();
        ready(&addresses)?;
        notify::notify("READY=1");
        threshold
    };
    let writer = Some(writer);
    let watching = Some(watching);
    let mut place = Place {
        log,
        verify,
        clock,
        accepting,
        claim,
        journal: journal.clone(),
        store: lent,
        writer,
        watching,
        room: Some(room),
        space,
    };
    let mut until = std::pin::pin!(until);
    let handed_over = loop {
        tokio::select! {
            () = &mut until => break false,
            visitor = visited(threshold.as_ref()) => if place.give_to(visitor).await? { break true },
        }
    };
    // The claim goes with the process, not before.
    let Place { accepting, writer, watching, room, store: lent, claim: _claim, .. } = place;

    if activated && !handed_over {
        notify::notify("STOPPING=1");
        // Connections wait in sockets that others keep; those that are here are let go with a last call each.
        drain.enter(Phase::Holding);
        drain.settled(LETTING_GO).await;
    }
    tracing::info!("draining: no new calls are decided");
    drain.begin();
    // Health is told of until the end; who else would connect is refused, unless another process accepts.
    let Accepting { workers, sockets, at_work: _health, .. } = accepting;
    drop((workers, sockets));
    let left = drain.finished(drain_timeout).await;
    if left > 0 {
        tracing::warn!(
            connections = left,
            "closed with calls in flight: their outcomes follow at the next start"
        );
    }
    if handed_over {
        return Ok(());
    }
    if let Some(threshold) = threshold {
        threshold.remove();
    }
    let last = live.load_full();
    let last_words = async {
        faults.record(&journal, &last).await;
        journal.write_counts().await;
        let stopped = journal.event(last.epochs, &Event::Stopped).await;
        journal.close();
        if let Some(writer) = writer {
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
        if let Some(watching) = watching {
            watching.end().await;
        }
        drop(room);
        // Whoever still looks at it, its files are closed before the process ends.
        let _ = tokio::task::spawn_blocking(move || lent.recall()).await;
        stopped
    };
    // A disk that stands still must not keep the gate from ending; the next start reconciles.
    let stopped = tokio::time::timeout(LAST_WORDS, last_words).await.unwrap_or(Err(Unrecorded::TimedOut));
    if left == 0 {
        let _ = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|t| drop(t.join()))).await;
    }
    tracing::info!("the log is closed");
    Ok(stopped.map(drop)?)
}

/// Tells the gate whose place this one takes, and the service manager, that this one serves.
fn serving(successor: Successor, claim: &Claim) {
    successor.serving();
    if let Err(error) = claim.sign() {
        tracing::warn!(%error, "the claim does not name this process");
    }
    notify::notify(&format!("READY=1\nMAINPID={}", std::process::id()));
}

/// The place where a successor can ask for this gate's own.
fn threshold(log: &settings::Log) -> Option<Threshold> {
    Threshold::open(&log.state_dir, &log.origin)
        .inspect_err(|error| {
            tracing::error!(%error, "this gate cannot be replaced while it serves (serve --take-over)");
        })
        .ok()
}

/// The next process that wants this one's place.
async fn visited(threshold: Option<&Threshold>) -> Visitor {
    match threshold {
        Some(threshold) => threshold.next().await,
        None => std::future::pending().await,
    }
}

fn start_workers(
    wanted: usize,
    live: &Arc<ArcSwap<Live>>,
    journal: &Journal,
    (drain, faults): (&Drain, &Faults),
) -> Result<(Vec<Worker>, Vec<JoinHandle<()>>), StartError> {
    let parts = WorkerParts {
        live: Arc::clone(live),
        journal: journal.clone(),
        drain: drain.clone(),
        faults: faults.clone(),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = if wanted == 0 { cores } else { wanted };
    (0..count)
        .map(|number| Worker::start(number, parts.clone()))
        .collect::<std::io::Result<Vec<_>>>()
        .map(|started| started.into_iter().unzip())
        .map_err(|source| StartError::Io { what: "a worker", source })
}

/// How long a gate whose sockets outlive it lets its connections go before it drains.
const LETTING_GO: Duration = Duration::from_secs(2);

/// How long the log's last records may take.
const LAST_WORDS: Duration = Duration::from_secs(30);
