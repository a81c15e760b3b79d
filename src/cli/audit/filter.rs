//! Which records are meant: the words of commands that choose among them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::audit::query::{Filter, HealthChecks};
use crate::audit::record::Kind;
use crate::cli::token::parse_duration;
use crate::clock::{Clock, Timestamp};

/// Filters; they add up.
#[derive(Debug, clap::Args)]
pub(super) struct FilterArgs {
    /// Of this caller: `alice`, `user:alice`, `role:viewer` or `anonymous`
    #[arg(long, value_name = "WHO")]
    subject: Option<String>,
    /// At this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// With this decision
    #[arg(long, value_parser = ["allow", "deny"])]
    decision: Option<String>,
    /// With this reason, e.g. `no_match`
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// Of this kind, e.g. `decision`, `outcome`, `lifecycle`
    #[arg(long, value_name = "WORD", value_parser = parse_kind)]
    kind: Option<Kind>,
    /// Not before this: RFC 3339, a date (UTC), or how long ago
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<Timestamp>,
    /// Before this: RFC 3339, a date (UTC), or how long ago
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Option<Timestamp>,
    /// Whose path begins with this
    #[arg(long, value_name = "PATH")]
    path_prefix: Option<String>,
    /// Calls that only ask whether a service is alive: exclude (as `list` does), include (as `bundle` does), or only
    #[arg(long, value_name = "WORD", value_parser = parse_health_checks)]
    health_checks: Option<HealthChecks>,
}

impl FilterArgs {
    /// The filter; what becomes of health checks if nothing is said is the command's.
    pub(super) fn filter(&self, health_checks: HealthChecks) -> Filter {
        Filter {
            kind: self.kind,
            subject: self.subject.clone(),
            service: self.service.clone(),
            decision: self.decision.clone(),
            reason: self.reason.clone(),
            from: self.from,
            to: self.to,
            path_prefix: self.path_prefix.clone(),
            health_checks: self.health_checks.unwrap_or(health_checks),
        }
    }

    /// What was said, by the options' names.
    pub(super) fn said(&self) -> BTreeMap<String, String> {
        let Self { subject, service, decision, reason, kind, from, to, path_prefix, health_checks } = self;
        let time = |time: &Option<Timestamp>| time.map(|time| time.to_string());
        [
            ("subject", subject.clone()),
            ("service", service.clone()),
            ("decision", decision.clone()),
            ("reason", reason.clone()),
            ("kind", kind.map(|kind| kind.as_str().to_owned())),
            ("from", time(from)),
            ("to", time(to)),
            ("path_prefix", path_prefix.clone()),
            ("health_checks", health_checks.map(|word| word.as_str().to_owned())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }
}

fn parse_kind(word: &str) -> Result<Kind, String> {
    Kind::parse(word).ok_or_else(|| {
        format!("{word:?} is no kind; write decision, outcome, policy, config, lifecycle or another of the record format")
    })
}

fn parse_health_checks(word: &str) -> Result<HealthChecks, String> {
    HealthChecks::parse(word).ok_or_else(|| format!("{word:?} is none of exclude, include and only"))
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    parse_time_at(text, Clock::system().now())
}

/// Reads RFC 3339, a date, or how long before `now`.
fn parse_time_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let ago =
        |by: Duration| Timestamp::from_micros(now.as_micros() - i64::try_from(by.as_micros()).unwrap_or(0));
    let date = || Timestamp::parse(&format!("{text}T00:00:00Z"));
    Timestamp::parse(text).or_else(date).or_else(|| parse_duration(text).ok().map(ago)).ok_or_else(|| {
        format!(
            "{text:?} is no time; write 2026-01-31T12:00:00Z, 2026-01-31, or how long ago, like 15m or 24h"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600_000_000;

    #[test]
    fn a_time_is_a_moment_a_date_or_how_long_ago() {
        let now = Timestamp::from_micros(NOW);
        for (text, micros) in [
            ("2026-01-01T00:00:00Z", NOW),
            ("2026-01-01T01:00:00+01:00", NOW),
            ("2026-01-01", NOW),
            ("90s", NOW - 90_000_000),
            ("24h", NOW - 86_400_000_000),
        ] {
            assert_eq!(parse_time_at(text, now), Ok(Timestamp::from_micros(micros)), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "10", "-5m"] {
            assert!(parse_time_at(text, now).is_err(), "{text}");
        }
    }
}
