//! `portcullis audit list`.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::source::Source;
use crate::audit::query::{Filter, Order, page};
use crate::audit::record::{Kind, Record};
use crate::audit::storage::Store;
use crate::cli::Outcome;
use crate::cli::out::{Paint, column, printable, short};
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
    let paint = Paint::of_stdout();
    if !args.json {
        writeln!(out, "{}", paint.dim(&heading()))?;
    }
    for_each(&store, &args.filter(), args.limit, &mut |bytes| {
        if args.json {
            out.write_all(bytes)?;
            writeln!(out)?;
        } else if let Ok(record) = Record::parse(bytes) {
            writeln!(out, "{}", row(&record, paint))?;
        }
        Ok(())
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
        }
    }
}

/// Hands on up to `limit` records, page by page.
fn for_each(
    store: &dyn Store,
    filter: &Filter,
    limit: usize,
    visit: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let size = store.last_index()?.map_or(0, |last| last + 1);
    let (mut left, mut start) = (limit, None);
    while left > 0 {
        let found = page(store, size, filter, (Order::NewestFirst, start), left.min(PAGE))?;
        for (_, bytes) in &found.records {
            visit(bytes)?;
        }
        left -= found.records.len();
        start = found.next;
        if start.is_none() {
            break;
        }
    }
    Ok(())
}

fn heading() -> String {
    format!("{:>6}  {:<19}  {:<9}  {:<24}  {:<14}  REQUEST", "INDEX", "TIME (UTC)", "WHAT", "WHY", "WHO")
}

fn row(record: &Record<'_>, paint: Paint) -> String {
    let head = record.head();
    let time = head.time.to_string().replace('T', " ");
    let (what, why, who, request) = match head.kind {
        Kind::Decision => decision_columns(record),
        Kind::Outcome => outcome_columns(record),
        Kind::Admin
        | Kind::Policy
        | Kind::Config
        | Kind::Lifecycle
        | Kind::Retention
        | Kind::Key
        | Kind::Summary => {
            (head.kind.as_str().to_owned(), shown(record, &["event"]), "-".to_owned(), event_text(record))
        }
    };
    let what = match (head.kind, what.as_str()) {
        (Kind::Decision, "allow") => paint.good(&column(&what, 9)),
        (Kind::Decision, _) => paint.bad(&column(&what, 9)),
        _ => column(&what, 9),
    };
    let time = time.get(..19).unwrap_or(&time);
    let line =
        format!("{:>6}  {time}  {what}  {}  {}  {request}", head.index, column(&why, 24), column(&who, 14));
    line.trim_end().to_owned()
}

fn decision_columns(record: &Record<'_>) -> (String, String, String, String) {
    let who = match record.text(&["identity", "state"]) {
        Some("failed") => "(not proved)".to_owned(),
        _ => shown(record, &["identity", "user"]),
    };
    let path = if record.value(&["request", "path"]).is_some() { "path" } else { "target" };
    let request = [
        shown(record, &["request", "method"]),
        record.text(&["request", "service"]).map_or_else(|| "-".to_owned(), printable),
        shown(record, &["request", path]),
    ];
    (shown(record, &["decision"]), shown(record, &["reason"]), who, request.join(" "))
}

fn outcome_columns(record: &Record<'_>) -> (String, String, String, String) {
    let number = |key: &str| record.value(&[key]).and_then(Value::as_u64);
    let mut text =
        format!("of {}", number("decision_index").map_or_else(|| "?".to_owned(), |index| index.to_string()));
    if let Some(status) = number("status") {
        text.push_str(&format!(": {status}"));
    }
    if let Some(micros) = number("duration_us") {
        text.push_str(&format!(", {}", short(Duration::from_micros(micros))));
    }
    ("outcome".to_owned(), shown(record, &["result"]), "-".to_owned(), text)
}

fn event_text(record: &Record<'_>) -> String {
    let of = |key| record.value(&[key]).map(|_| shown(record, &[key]));
    of("error").or_else(|| of("origin")).or_else(|| of("version")).or_else(|| of("count")).unwrap_or_default()
}

/// A value for people: a text as it is, anything that stands for a text as JSON.
fn shown(record: &Record<'_>, path: &[&str]) -> String {
    match record.value(path) {
        None => "-".to_owned(),
        Some(Value::String(text)) => printable(text),
        Some(other) => other.to_string(),
    }
}

fn parse_kind(word: &str) -> Result<Kind, String> {
    Kind::parse(word).ok_or_else(|| {
        format!("{word:?} is no kind; write decision, outcome, policy, config, lifecycle or another of the record format")
    })
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

    fn line(fields: &str) -> String {
        let bytes = format!(
            r#"{{"v":1,"index":7,"prev":"{}","time":"2026-01-31T12:00:00.123456Z",{fields}}}"#,
            crate::audit::hash::Hash::of(b"prev")
        );
        row(&Record::parse(bytes.as_bytes()).unwrap(), Paint::plain())
    }

    #[test]
    fn a_decision_is_one_row() {
        let fields = r#""kind":"decision","decision":"deny","reason":"no_match","identity":{"state":"proved","user":"user:alice"},"request":{"service":"app","method":"PUT","path":"/docs/intro"}"#;
        assert_eq!(
            line(fields),
            "     7  2026-01-31 12:00:00  deny       no_match                  user:alice      PUT app /docs/intro"
        );
    }

    #[test]
    fn what_has_no_canonical_path_shows_its_target() {
        let fields = r#""kind":"decision","decision":"deny","reason":"dot_segment","identity":{"state":"failed"},"request":{"method":"GET","target":"/a/../b"}"#;
        assert_eq!(
            line(fields),
            "     7  2026-01-31 12:00:00  deny       dot_segment               (not proved)    GET - /a/../b"
        );
    }

    #[test]
    fn an_outcome_names_its_decision() {
        let fields =
            r#""kind":"outcome","decision_index":6,"result":"completed","status":200,"duration_us":1200"#;
        assert_eq!(
            line(fields),
            "     7  2026-01-31 12:00:00  outcome    completed                 -               of 6: 200, 1.2 ms"
        );
    }

    #[test]
    fn nothing_in_a_record_steers_the_terminal() {
        let fields = r#""kind":"decision","decision":"deny","reason":"x","identity":{"state":"proved","user":"\u001b[2J"},"request":{"method":"GET","path":{"base64":"gA=="}}"#;
        let line = line(fields);
        assert!(!line.contains('\u{1b}') && line.ends_with(r#"{"base64":"gA=="}"#), "{line}");
    }
}
