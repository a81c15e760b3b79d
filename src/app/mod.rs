//! Settings become a running gate.
//!
//! | file | what is there |
//! |---|---|
//! | this one | [`start`], [`serve`], [`Running`] |
//! | [`mod@assemble`] | settings to the objects that serve |
//! | [`log`] | creating and opening the configured log |
//! | [`reload`] | a new policy or config while serving |
//! | `certificates` | the listeners' certificates and those of callers, loaded and loaded anew |
//! | `privileges` | what the process gives up |
//! | [`mod@check`] | everything proved, nothing started |

pub mod assemble;
mod certificates;
pub mod check;
pub mod log;
mod privileges;
pub mod reload;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

pub use self::check::{CheckError, Proof, check};
pub use self::log::create_log;

use self::assemble::{AssembleError, assemble};
use self::log::LogError;
use self::reload::Reloader;
use crate::admin::Views;
use crate::audit::journal::reconcile::ReconcileError;
use crate::audit::journal::{Journal, JournalOptions, Unrecorded};
use crate::audit::record::Event;
use crate::audit::storage::Store;
use crate::clock::Clock;
use crate::config::settings::{Format, Logging};
use crate::config::{ConfigErrors, Environment, Settings};
use crate::proxy::Face;
use crate::proxy::live::{Live, Refusals};
use crate::server::drain::Drain;
use crate::server::faults::Faults;
use crate::server::health::{self, Health};
use crate::server::listen::{BindError, Listener, bind};
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
    Bind(#[from] BindError),
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
            control(settings, None, store, told, |_| until)
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
/// written to `ready_file` as JSON.
///
/// # Errors
/// [`StartError`].
pub fn serve(path: &Path, ready_file: Option<PathBuf>) -> Result<(), StartError> {
    let settings = Settings::load(path, &Environment::of_process())?;
    log_to_stderr(settings.logging);
    privileges::keep_memory_private();
    let told = move |addresses: &Addresses| match &ready_file {
        Some(file) => {
            addresses.write(file).map_err(|source| StartError::Io { what: "the ready file", source })
        }
        None => Ok(()),
    };
    control(settings, Some(path.to_owned()), None, told, until_signalled)
}

/// The gate's life on the control thread: everything but serving connections happens here.
fn control<U: Future<Output = ()>>(
    settings: Settings,
    config_path: Option<PathBuf>,
    store: Option<Arc<dyn Store>>,
    ready: impl FnOnce(&Addresses) -> Result<(), StartError>,
    until: impl FnOnce(Reloader) -> U,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::Io { what: "the control runtime", source })?;
    let done = LocalSet::new().block_on(&runtime, run(settings, config_path, store, ready, until));
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn run<U: Future<Output = ()>>(
    settings: Settings,
    config_path: Option<PathBuf>,
    store: Option<Arc<dyn Store>>,
    ready: impl FnOnce(&Addresses) -> Result<(), StartError>,
    until: impl FnOnce(Reloader) -> U,
) -> Result<(), StartError> {
    let clock = Clock::system();
    let metrics = install_metrics();
    let parts = assemble(&settings, &clock)?;
    // Addresses are taken before the log is: a gate that cannot listen leaves no trace in it.
    let front = settings.server.listen.iter().map(|a| bind(*a)).collect::<Result<Vec<_>, _>>()?;
    let admin = bind(settings.admin.listen)?;
    let health_socket = bind(settings.health.listen)?;

    let key = log::signing_key(&settings.log)?;
    let store = match store {
        Some(store) => store,
        None => log::open(&settings.log, &key)?,
    };
    let options = JournalOptions { queue: settings.log.queue, timeout: settings.log.timeout };
    let epochs = parts.epochs;
    let (journal, writer) = Journal::open(Arc::clone(&store), key, clock.clone(), options, epochs)?;
    journal.event(epochs, &Event::Started { version: env!("CARGO_PKG_VERSION") }).await?;

    let refusals = Arc::new(Refusals::default());
    let live = Arc::new_cyclic(|live| {
        let views = Views {
            store: Arc::clone(&store),
            journal: journal.clone(),
            live: live.clone(),
            refusals: Arc::clone(&refusals),
            started: clock.now(),
            clock: clock.clone(),
        };
        ArcSwap::from_pointee(parts.into_live(crate::admin::router(views)))
    });
    let drain = Drain::default();
    let faults = Faults::new(clock.clone());
    let (workers, threads) = start_workers(settings.server.workers, &live, &journal, (&drain, &faults))?;
    let summing = faults.clone().keep_sums(journal.clone(), Arc::clone(&live));
    tokio::task::spawn_local(summing);

    let addresses = Addresses::of(&front, &admin, &health_socket)
        .map_err(|source| StartError::Io { what: "the listeners' addresses", source })?;
    for socket in front {
        let listener = Listener::new(socket, Face::Front);
        tokio::task::spawn_local(listener.accept(
            workers.clone(),
            Arc::clone(&live),
            (drain.clone(), faults.clone()),
        ));
    }
    let listener = Listener::new(admin, Face::Admin);
    tokio::task::spawn_local(listener.accept(workers, Arc::clone(&live), (drain.clone(), faults.clone())));
    let health = Health {
        journal: journal.clone(),
        live: Arc::clone(&live),
        refusals: Arc::clone(&refusals),
        drain: drain.clone(),
        metrics,
    };
    tokio::spawn(async move { axum::serve(health_socket, health::router(health)).await });
    let drain_timeout = settings.server.drain_timeout;
    let reloader = Reloader::start(
        Arc::clone(&live),
        refusals,
        journal.clone(),
        clock,
        (settings, config_path),
        drain.clone(),
    );

    addresses.tell();
    ready(&addresses)?;
    until(reloader).await;

    tracing::info!("draining: no new calls are decided");
    drain.begin();
    let left = drain.finished(drain_timeout).await;
    if left > 0 {
        tracing::warn!(
            connections = left,
            "closed with calls in flight: their outcomes follow at the next start"
        );
    }
    let last = live.load_full();
    let last_words = async {
        faults.record(&journal, &last).await;
        let stopped = journal.event(last.epochs, &Event::Stopped).await;
        journal.close();
        let _ = tokio::task::spawn_blocking(move || writer.join()).await;
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

/// Waits for SIGTERM or SIGINT, reloading at each SIGHUP.
async fn until_signalled(reloader: Reloader) {
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        tracing::error!("signals cannot be listened for");
        return;
    };
    loop {
        tokio::select! {
            _ = term.recv() => return,
            _ = int.recv() => return,
            // On its own, so that a log that stands still does not keep the gate from hearing SIGTERM.
            _ = hup.recv() => {
                let reloader = reloader.clone();
                tokio::task::spawn_local(async move { reloader.reload_config().await });
            }
        }
    }
}

/// The addresses a gate listens on.
#[derive(Clone, Debug)]
struct Addresses {
    front: Vec<SocketAddr>,
    admin: SocketAddr,
    health: SocketAddr,
}

impl Addresses {
    fn of(
        front: &[tokio::net::TcpListener],
        admin: &tokio::net::TcpListener,
        health: &tokio::net::TcpListener,
    ) -> std::io::Result<Self> {
        Ok(Self {
            front: front.iter().map(|socket| socket.local_addr()).collect::<Result<_, _>>()?,
            admin: admin.local_addr()?,
            health: health.local_addr()?,
        })
    }

    fn tell(&self) {
        for address in &self.front {
            tracing::info!(face = "front", %address, "listening");
        }
        tracing::info!(face = "admin", address = %self.admin, "listening");
        tracing::info!(face = "health", address = %self.health, "listening");
    }

    /// Writes them as JSON, whole or not at all.
    fn write(&self, path: &Path) -> std::io::Result<()> {
        let json = serde_json::json!({
            "front": self.front.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "admin": self.admin.to_string(),
            "health": self.health.to_string(),
        });
        let partial = path.with_extension("partial");
        std::fs::write(&partial, format!("{json}\n"))?;
        std::fs::rename(partial, path)
    }
}

/// Sends the process's own log to stderr.
fn log_to_stderr(logging: Logging) {
    let level = logging.level.as_str();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A subscriber that is there already was set by whoever embeds the gate.
    let _ = match logging.format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
}

/// How long the log's last records may take.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Installs the recorder of figures, once per process; another gate in the same process shares it.
fn install_metrics() -> Option<PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let seconds =
                [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
            PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &seconds)
                .and_then(|builder| builder.install_recorder())
                .inspect(|_| begin_at_zero())
                .ok()
        })
        .clone()
}

/// Figures that alarms watch are there from the start: a rate over one that appears with its first event misses that.
fn begin_at_zero() {
    metrics::gauge!("portcullis_log_failed").set(0.0);
    for result in ["loaded", "refused"] {
        metrics::counter!("portcullis_policy_loads_total", "result" => result).absolute(0);
        metrics::counter!("portcullis_config_loads_total", "result" => result).absolute(0);
        metrics::counter!("portcullis_certificate_loads_total", "result" => result).absolute(0);
    }
}
