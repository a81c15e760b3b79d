//! What the benches share.

use std::time::Duration;

/// How long each figure is measured: `BENCH_SECONDS`, 3 if not set.
#[allow(dead_code, reason = "not every bench has rates")]
pub(crate) fn measured_for() -> Duration {
    let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(3.0))
}

/// A directory on the disk that the target directory is on, since one in memory would make every sync free.
#[allow(dead_code, reason = "not every bench writes")]
pub(crate) fn on_disk() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The value below which a share of `sorted` lies.
#[allow(dead_code, reason = "not every bench has latencies")]
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// Milliseconds, for tables.
#[allow(dead_code, reason = "not every bench has latencies")]
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}
