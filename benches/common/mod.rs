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

/// What `once` takes of the processor: the median of rounds, each long enough for the clock. Others on the machine do not
/// count, as far as they leave the caches alone.
#[allow(dead_code, reason = "not every bench has pieces")]
pub(crate) fn time(mut once: impl FnMut()) -> Duration {
    const ROUNDS: u32 = 15;
    // The first times are slow, so it is known only after some how many fit.
    let began = cpu_time();
    (0..100).for_each(|_| once());
    let each = ((cpu_time() - began) / 100).max(Duration::from_nanos(1));
    let fit = (measured_for() / ROUNDS).as_nanos() / each.as_nanos();
    let times = u32::try_from(fit.clamp(1, 1 << 24)).unwrap();
    let mut took: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = cpu_time();
            (0..times).for_each(|_| once());
            (cpu_time() - began) / times
        })
        .collect();
    took.sort_unstable();
    percentile(&took, 0.5)
}

/// What this thread has had of the processor.
#[allow(dead_code, reason = "not every bench has pieces")]
pub(crate) fn cpu_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap()
}
