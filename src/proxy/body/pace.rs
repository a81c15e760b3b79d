//! How slowly a caller may send a request's body.

use std::time::Duration;

use tokio::time::Instant;

/// Bounds on a caller's body.
#[derive(Clone, Copy, Debug)]
pub struct BodyBounds {
    /// How long it may be.
    pub bytes: u64,
    /// How long it may stand still.
    pub idle: Duration,
    /// Bytes a second that must come, on average over the time that the gate waited for them, after a first `idle`. 0 asks
    /// for none.
    pub min_rate: u64,
}

/// How long the gate has waited for a body in all, beside what came of it. Time in which nobody asked for more, since the
/// service had enough, is not the caller's.
#[derive(Debug)]
pub(super) struct BodyPace {
    left: Duration,
    min_rate: u64,
    since: Option<Instant>,
}

impl BodyPace {
    pub(super) const fn new(first: Duration, min_rate: u64) -> Self {
        Self { left: first, min_rate, since: None }
    }

    /// There is nothing yet.
    pub(super) fn wait(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// So many bytes have come.
    ///
    /// # Errors
    /// That took too long.
    pub(super) fn came(&mut self, bytes: u64, now: impl FnOnce() -> Instant) -> Result<(), TooSlow> {
        if self.min_rate == 0 {
            return Ok(());
        }
        if let Some(since) = self.since.take() {
            self.left = self.left.checked_sub(now().duration_since(since)).ok_or(TooSlow)?;
        }
        let earned = u128::from(bytes) * 1_000_000 / u128::from(self.min_rate);
        self.left =
            self.left.saturating_add(Duration::from_micros(u64::try_from(earned).unwrap_or(u64::MAX)));
        Ok(())
    }
}

/// The body came too slowly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    /// How many pieces of `bytes` each, `apart` from each other, are taken; at most 10,000.
    fn taken(bytes: u64, apart: Duration, min_rate: u64) -> usize {
        let (mut pace, mut now) = (BodyPace::new(IDLE, min_rate), Instant::now());
        (0..10_000)
            .take_while(|_| {
                pace.wait(now);
                now += apart;
                pace.came(bytes, || now).is_ok()
            })
            .count()
    }

    #[test]
    fn a_drip_is_cut_and_a_stream_at_the_rate_is_not() {
        assert_eq!(taken(1, Duration::from_secs(1), 256), 60);
        assert_eq!(taken(1, Duration::from_secs(59), 256), 1);
        assert_eq!(taken(256, Duration::from_secs(1), 256), 10_000);
        assert!((119..=121).contains(&taken(128, Duration::from_secs(1), 256)));
        assert_eq!(taken(1, Duration::from_secs(59), 0), 10_000);
    }

    #[test]
    fn time_in_which_nobody_asks_for_more_is_not_the_callers() {
        let (mut pace, now) = (BodyPace::new(IDLE, 256), Instant::now());
        assert_eq!(pace.came(1, || now + 100 * IDLE), Ok(()));
    }
}
