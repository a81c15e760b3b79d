//! A monitor as a process.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{privileges, telling};
use crate::config::settings::{Format, Level, Logging};
use crate::monitor::{Follower, KINDS, Report, Verdict};

/// A monitor that looks again and again.
#[derive(Debug)]
pub struct Service {
    /// How long it rests between two looks.
    pub every: Duration,
    /// Where figures are served, if they are.
    pub metrics: Option<SocketAddr>,
    /// Once the first look is over, the address of the figures is written here; an empty line if there is none.
    pub ready_file: Option<PathBuf>,
}

/// What the system did not allow.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct MonitorError {
    what: String,
    source: std::io::Error,
}

/// Tells of what happens on stderr, and sees that what is written is its owner's alone.
pub fn prepare() {
    telling::log_to_stderr(Logging { level: Level::Info, format: Format::Text });
    privileges::keep_files_private();
}

/// Looks once.
///
/// # Errors
/// If the system has no runtime for it.
pub fn once(mut follower: Follower) -> Result<Report, MonitorError> {
    Ok(runtime()?.block_on(follower.look()))
}

/// Looks again and again until SIGTERM or SIGINT; each report is given to `told`, too.
///
/// # Errors
/// If there is something the system does not allow: an address, a file.
pub fn serve(
    mut follower: Follower,
    service: &Service,
    mut told: impl FnMut(&Report),
) -> Result<(), MonitorError> {
    let handle = telling::install_monitor_metrics();
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(failed("SIGTERM"))?;
        let mut int = signal(SignalKind::interrupt()).map_err(failed("SIGINT"))?;
        let address = match service.metrics {
            Some(address) => Some(listen(address, handle).await?),
            None => None,
        };
        let mut ready_file = service.ready_file.as_deref();
        loop {
            // A look that is broken off has believed nothing that it had not written down.
            let report = tokio::select! {
                report = follower.look() => report,
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
            };
            say(&report);
            count(&report);
            told(&report);
            if let Some(path) = ready_file.take() {
                ready(path, address).map_err(failed(&path.display().to_string()))?;
            }
            tokio::select! {
                () = tokio::time::sleep(service.every) => {}
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
            }
        }
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, MonitorError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed("the runtime"))
}

fn failed(what: &str) -> impl Fn(std::io::Error) -> MonitorError + use<> {
    let what = what.to_owned();
    move |source| MonitorError { what: what.clone(), source }
}

async fn listen(address: SocketAddr, handle: Option<PrometheusHandle>) -> Result<SocketAddr, MonitorError> {
    let listener = TcpListener::bind(address).await.map_err(failed(&address.to_string()))?;
    let bound = listener.local_addr().map_err(failed(&address.to_string()))?;
    let figures = move || {
        let text = handle.as_ref().map(PrometheusHandle::render).unwrap_or_default();
        async { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    let router = Router::new().route("/metrics", get(figures));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(bound)
}

/// A line for each thing to be said.
fn say(report: &Report) {
    for line in report.lines() {
        match report.verdict() {
            Verdict::Holds => tracing::info!("{line}"),
            Verdict::Unseen => tracing::warn!(log = report.origin, "{line}"),
            Verdict::DoesNotHold => tracing::error!(log = report.origin, "{line}"),
        }
    }
}

fn count(report: &Report) {
    let kinds = report.kinds();
    for kind in KINDS {
        let now = kinds.contains(&kind);
        metrics::gauge!("portcullis_monitor_fault", "kind" => kind).set(f64::from(u8::from(now)));
        if now {
            metrics::counter!("portcullis_monitor_faults_total", "kind" => kind).increment(1);
        }
    }
    metrics::counter!("portcullis_monitor_looks_total").increment(1);
    let seconds = |micros: i64| micros as f64 / 1e6;
    metrics::gauge!("portcullis_monitor_last_look_timestamp_seconds").set(seconds(report.time.as_micros()));
    if let Some((size, _, since)) = &report.kept {
        metrics::gauge!("portcullis_monitor_tree_size").set(*size as f64);
        metrics::gauge!("portcullis_monitor_last_growth_timestamp_seconds").set(seconds(since.as_micros()));
    }
}

/// Whole or not at all: who waits for the file reads it at once.
fn ready(path: &Path, address: Option<SocketAddr>) -> std::io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = std::fs::File::create(&partial)?;
    writeln!(file, "{}", address.map(|address| address.to_string()).unwrap_or_default())?;
    std::fs::rename(partial, path)
}
