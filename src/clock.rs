//! Time, injected: everything that needs the wall clock is handed a [`Clock`], so tests can set it.
//!
//! A clock tells two times: [`Clock::now`], which jumps with the machine's, and [`Clock::steady`], which does not.

mod steady;

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::steady::{Moment, Steady};

/// A moment of wall time: whole microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment moved later by `by`, at most to the end of representable time.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Reads an RFC 3339 timestamp, e.g. `2026-01-31T12:00:00.000000Z`; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_microsecond()))
    }

    /// Appends the RFC 3339 form in UTC with six decimals, e.g. `2026-01-31T12:00:00.000000Z` (27 bytes).
    pub fn write_rfc3339(self, out: &mut Vec<u8>) {
        const PRINTER: jiff::fmt::temporal::DateTimePrinter =
            jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6));
        let clamped = jiff::Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        // Writing to a Vec cannot fail.
        let _ = PRINTER.print_timestamp(&clamped, jiff::fmt::StdIoWrite(out));
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(27);
        self.write_rfc3339(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// Where time comes from: the machine, or a hand-set value in tests. Clones are one clock.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Source,
    steady: Mutex<Steady>,
    /// What [`Steady`] adds to the time since boot, and until when that stays so, both in microseconds: what threads
    /// read without waiting for each other.
    offset: AtomicI64,
    holds_until: AtomicI64,
}

#[derive(Debug)]
enum Source {
    System,
    Manual(Mutex<Moment>),
}

impl Clock {
    /// The machine's clock; its steady time is anchored to wall time now.
    pub fn system() -> Self {
        Self::over(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::set`] or [`Clock::pass_to`] moves it, on a machine that booted a
    /// day before.
    pub fn manual(start: Timestamp) -> Self {
        let boot = Duration::from_secs(24 * 60 * 60);
        Self::over(Source::Manual(Mutex::new(Moment { wall: start, boot })))
    }

    fn over(source: Source) -> Self {
        let steady = Steady::new(source.moment());
        let (offset, holds_until) =
            (AtomicI64::new(steady.offset_us()), AtomicI64::new(steady.holds_until_us()));
        Self(Arc::new(Shared { source, steady: Mutex::new(steady), offset, holds_until }))
    }

    /// The present moment, as the machine has it: what records say. It may jump.
    pub fn now(&self) -> Timestamp {
        self.0.source.wall()
    }

    /// The present moment, as it would be had nobody set the clock: what expires, expires by this. See [`Steady`].
    pub fn steady(&self) -> Timestamp {
        let shared = &*self.0;
        let boot = micros(shared.source.boot());
        if boot >= shared.holds_until.load(Ordering::Acquire) {
            let mut steady = shared.steady.lock().unwrap_or_else(PoisonError::into_inner);
            steady.look(shared.source.moment());
            shared.offset.store(steady.offset_us(), Ordering::Release);
            shared.holds_until.store(steady.holds_until_us(), Ordering::Release);
        }
        Timestamp(boot.saturating_add(shared.offset.load(Ordering::Acquire)))
    }

    /// Wall time, and the time since boot that shows whether it jumped.
    pub fn moment(&self) -> Moment {
        self.0.source.moment()
    }

    /// Sets a manual clock to `to`, forward or back, in no time: it jumps. Does nothing to the machine's.
    pub fn set(&self, to: Timestamp) {
        self.0.source.change(|moment| moment.wall = to);
    }

    /// Lets time pass on a manual clock until it shows `to`. Does nothing to the machine's.
    pub fn pass_to(&self, to: Timestamp) {
        self.0.source.change(|moment| {
            let by = to.0.saturating_sub(moment.wall.0);
            let since_boot = micros(moment.boot).saturating_add(by);
            *moment = Moment { wall: to, boot: Duration::from_micros(since_boot.unsigned_abs()) };
        });
    }
}

impl Source {
    fn moment(&self) -> Moment {
        Moment { wall: self.wall(), boot: self.boot() }
    }

    #[allow(clippy::disallowed_methods)] // the one place that may read the machine's clock
    fn wall(&self) -> Timestamp {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(micros(since))
            }
            Self::Manual(moment) => moment.lock().unwrap_or_else(PoisonError::into_inner).wall,
        }
    }

    fn boot(&self) -> Duration {
        match self {
            Self::System => {
                let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Duration::try_from(since).unwrap_or_default()
            }
            Self::Manual(moment) => moment.lock().unwrap_or_else(PoisonError::into_inner).boot,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Moment)) {
        if let Self::Manual(moment) = self {
            change(&mut moment.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_six_decimals_in_utc_and_reads_back() {
        for micros in [0, 1, -1, 999_999, 1_700_000_000_123_456, 253_402_207_200_000_000] {
            let text = Timestamp::from_micros(micros).to_string();
            assert_eq!(text.len(), 27, "{text}");
            assert!(text.ends_with('Z'));
            assert_eq!(Timestamp::parse(&text), Some(Timestamp::from_micros(micros)));
        }
        assert_eq!(Timestamp::from_micros(1_700_000_000_000_001).to_string(), "2023-11-14T22:13:20.000001Z");
    }

    #[test]
    fn a_jump_moves_the_wall_and_not_the_steady_time() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let clock = Clock::manual(at(1_000_000));
        clock.set(at(2_000_000));
        assert_eq!((clock.now(), clock.steady()), (at(2_000_000), at(1_000_000)));
        clock.set(at(1));
        assert_eq!((clock.now(), clock.steady()), (at(1), at(1_000_000)));
        clock.set(at(1_000_000));
        clock.pass_to(at(1_000_100));
        assert_eq!((clock.now(), clock.clone().steady()), (at(1_000_100), at(1_000_100)));
    }

    #[test]
    fn the_machines_two_times_agree_while_nobody_sets_its_clock() {
        let clock = Clock::system();
        let (before, steady, after) = (clock.now(), clock.steady(), clock.now());
        let slack = Duration::from_secs(1);
        assert!(before <= steady.plus(slack) && steady <= after.plus(slack), "{before} {steady} {after}");
    }
}
