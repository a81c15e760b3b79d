//! How often something may be asked for.

use std::num::NonZeroU32;
use std::time::Duration;

/// So many in so long, and so many at once by whoever has held back before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In how long: a second, a minute or an hour.
    pub per: Per,
    /// How many at once.
    pub burst: NonZeroU32,
}

/// A span that rates are told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// `s`
    Second,
    /// `m`
    Minute,
    /// `h`
    Hour,
}

/// A service's rates; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceRates {
    /// Of one proved caller; one who proved nothing is the address it comes from.
    pub per_principal: Option<Rate>,
    /// Of one address.
    pub per_address: Option<Rate>,
    /// Of all calls that are allowed.
    pub total: Option<Rate>,
}

impl Rate {
    /// Reads `100/s`, `600/m` or `1000/h`, perhaps followed by ` burst 20`; without that a whole span's calls may come at
    /// once. `None` if `text` is no rate, or more than [`MOST`] a second.
    pub fn read(text: &str) -> Option<Self> {
        let (rate, burst) = match text.split_once(" burst ") {
            Some((rate, burst)) => (rate, Some(number(burst)?)),
            None => (text, None),
        };
        let (count, per) = rate.split_once('/')?;
        let count = number(count)?;
        let per = match per {
            "s" => Per::Second,
            "m" => Per::Minute,
            "h" => Per::Hour,
            _ => return None,
        };
        Some(Self { count, per, burst: burst.unwrap_or(count) })
    }

    /// How long one more takes to be allowed, for whoever has asked for all there was.
    pub fn interval(&self) -> Duration {
        self.per.duration() / self.count.get()
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let per = match self.per {
            Per::Second => 's',
            Per::Minute => 'm',
            Per::Hour => 'h',
        };
        write!(f, "{}/{per} burst {}", self.count, self.burst)
    }
}

impl Per {
    /// How long it is.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        })
    }
}

fn number(text: &str) -> Option<NonZeroU32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number: &NonZeroU32| plain && number.get() <= MOST)
}

/// The greatest number in a rate.
pub const MOST: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_says_how_many_in_how_long_and_how_many_at_once() {
        for (text, means) in [
            ("100/s", "100/s burst 100"),
            ("600/m", "600/m burst 600"),
            ("1/h", "1/h burst 1"),
            ("50/s burst 200", "50/s burst 200"),
            ("1000000/s burst 1", "1000000/s burst 1"),
        ] {
            let rate = Rate::read(text).unwrap();
            assert_eq!(rate.to_string(), means);
            assert_eq!(Rate::read(means), Some(rate));
            assert!(rate.interval() > Duration::ZERO);
        }
        for bad in [
            "",
            "100",
            "100/",
            "/s",
            "0/s",
            "1/d",
            "1/s burst 0",
            "1/sburst 2",
            "+1/s",
            "1000001/s",
            " 1/s",
            "1 /s",
        ] {
            assert_eq!(Rate::read(bad), None, "{bad}");
        }
        assert_eq!(Rate::read("600/m").map(|rate| rate.interval()), Some(Duration::from_millis(100)));
    }
}
