//! What the process tells of itself: its own log, and figures.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::watch_clock;
use crate::config::settings::{Format, Logging};

/// Sends the process's own log to stderr.
pub(super) fn log_to_stderr(logging: Logging) {
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

/// Installs the recorder of figures, once per process; another gate in the same process shares it.
pub(super) fn install_metrics() -> Option<PrometheusHandle> {
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

/// Installs the recorder of a monitor's figures, which are no gate's.
pub(super) fn install_monitor_metrics() -> Option<PrometheusHandle> {
    let handle = PrometheusBuilder::new().install_recorder().ok()?;
    for kind in crate::monitor::KINDS {
        metrics::gauge!("portcullis_monitor_fault", "kind" => kind).set(0.0);
        metrics::counter!("portcullis_monitor_faults_total", "kind" => kind).absolute(0);
    }
    metrics::counter!("portcullis_monitor_looks_total").absolute(0);
    Some(handle)
}

/// Figures that alarms watch are there from the start: a rate over one that appears with its first event misses that.
fn begin_at_zero() {
    watch_clock::begin_at_zero();
    for kind in ["http2_flood", "too_many_of_address"] {
        metrics::counter!("portcullis_connection_faults_total", "kind" => kind).absolute(0);
    }
    for gauge in [
        "portcullis_disk_full",
        "portcullis_disk_low",
        "portcullis_log_failed",
        "portcullis_log_stopped",
        "portcullis_mark_failed",
        "portcullis_witness_denying",
    ] {
        metrics::gauge!(gauge).set(0.0);
    }
    metrics::counter!("portcullis_panics_total").absolute(0);
    metrics::gauge!("portcullis_verify_mismatch").set(0.0);
    metrics::counter!("portcullis_verify_passes_total").absolute(0);
    for result in ["loaded", "refused"] {
        metrics::counter!("portcullis_policy_loads_total", "result" => result).absolute(0);
        metrics::counter!("portcullis_config_loads_total", "result" => result).absolute(0);
        metrics::counter!("portcullis_certificate_loads_total", "result" => result).absolute(0);
    }
}
