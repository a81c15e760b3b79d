//! Watching the machine's clock.

use std::time::Duration;

use crate::audit::journal::Journal;
use crate::clock::{Clock, Timestamp};

/// Tells how far the machine's clock is from the steady time, and how far behind the log. Looking is also what lets the
/// steady time follow the clock while nobody calls. Never returns.
pub(super) async fn watch_clock(clock: Clock, journal: Journal) {
    let mut apart_before = 0.0;
    loop {
        let (now, steady) = (clock.now(), clock.steady());
        let apart = seconds_between(steady, now);
        metrics::gauge!(OFFSET).set(apart);
        metrics::gauge!(BEHIND_LOG).set(seconds_between(now, journal.last_time()).max(0.0));
        if apart.abs() > JUMP && apart_before < JUMP {
            tracing::warn!(
                seconds = apart,
                "the machine's clock was set: tokens expire by the time it would have shown, and follow it slowly. \
                 If it is right now, restart the gate"
            );
        }
        apart_before = apart.abs();
        tokio::time::sleep(EVERY).await;
    }
}

/// The figures are there from the start.
pub(super) fn begin_at_zero() {
    metrics::gauge!(OFFSET).set(0.0);
    metrics::gauge!(BEHIND_LOG).set(0.0);
}

fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.as_micros().saturating_sub(from.as_micros()) as f64 / 1e6
}

const OFFSET: &str = "portcullis_clock_offset_seconds";
const BEHIND_LOG: &str = "portcullis_clock_behind_log_seconds";

const EVERY: Duration = Duration::from_secs(10);

/// Seconds by which clocks may be apart without anyone having set one.
const JUMP: f64 = 1.0;
