//! `portcullis audit list`.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;

use super::source::Source;
use super::table::Table;
use crate::audit::query::{Filter, HealthChecks, Order, page};
use crate::audit::record::{Kind, Record};
use crate::audit::storage::Store;
use crate::cli::Outcome;
use crate::cli::out::Paint;
use crate::cli::token::parse_duration;
use crate::clock::{Clock, Timestamp};

/// Lists records.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    source: Source,
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
    /// Calls that only ask whether a service is alive: exclude, include, or only those
    #[arg(long, value_name = "WORD", default_value = "exclude", value_parser = parse_health_checks)]
    health_checks: HealthChecks,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// The stored records, one a line
    #[arg(long)]
    json: bool,
}

/// Prints the records, newest first.
///
/// # Errors
/// If the log cannot be read.
pub fn run(args: &Args) -> Result<Outcome> {
    let store = args.source.open()?;
    let mut out = std::io::stdout().lock();
    let mut table = Table::new(Paint::of_stdout());
    each_page(&store, &args.filter(), args.limit, &mut |records| {
        if args.json {
            for (_, bytes) in records {
                out.write_all(bytes)?;
                writeln!(out)?;
            }
            return Ok(());
        }
        let readable: Vec<_> = records.iter().filter_map(|(_, bytes)| Record::parse(bytes).ok()).collect();
        Ok(table.lines(&readable).iter().try_for_each(|line| writeln!(out, "{line}"))?)
    })?;
    Ok(Outcome::Fine)
}

impl Args {
    fn filter(&self) -> Filter {
        Filter {
            kind: self.kind,
            subject: self.subject.clone(),
            service: self.service.clone(),
            decision: self.decision.clone(),
            reason: self.reason.clone(),
            from: self.from,
            to: self.to,
            path_prefix: self.path_prefix.clone(),
            health_checks: self.health_checks,
        }
    }
}

/// What is called for each page: indexes and stored bytes.
type PageVisit<'a> = dyn FnMut(&[(u64, Vec<u8>)]) -> Result<()> + 'a;

/// Hands on up to `limit` records, page by page; at least one page, be it empty.
fn each_page(store: &dyn Store, filter: &Filter, limit: usize, visit: &mut PageVisit<'_>) -> Result<()> {
    let size = store.last_index()?.map_or(0, |last| last + 1);
    let (mut left, mut start) = (limit, None);
    loop {
        let found = page(store, size, filter, (Order::NewestFirst, start), left.min(PAGE))?;
        visit(&found.records)?;
        left -= found.records.len();
        start = found.next;
        if left == 0 || start.is_none() {
            return Ok(());
        }
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

const AFTER_HELP: &str = "\
Filters add up: a record is listed if all of them fit. --json prints the records exactly as stored.

Examples:
  portcullis audit list --config gate/portcullis.toml
  portcullis audit list --config gate/portcullis.toml --subject alice --decision deny --from 24h
  portcullis audit list --log gate/log --service app --path-prefix /docs/ --json | jq .request.path

Exit codes: 0 listed (perhaps nothing), 2 wrong use, or the log cannot be read.";

/// Most records fetched at once.
const PAGE: usize = 1_000;

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
