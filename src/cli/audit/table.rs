//! Records as rows for people.

use std::time::Duration;

use serde_json::Value;

use crate::audit::record::{Kind, Record};
use crate::cli::out::{Paint, column, printable, short};

/// A table that grows downwards, page by page; columns are as wide as they have to be.
pub(super) struct Table {
    paint: Paint,
    widths: [usize; 5],
    begun: bool,
}

/// What stands in a row.
struct Row {
    kind: Kind,
    index: String,
    time: String,
    what: String,
    why: String,
    who: String,
    request: String,
}

impl Table {
    pub(super) fn new(paint: Paint) -> Self {
        Self { paint, widths: HEADING.map(str::len), begun: false }
    }

    /// The next rows; before the first ones, the heading.
    pub(super) fn lines(&mut self, records: &[Record<'_>]) -> Vec<String> {
        let rows: Vec<Row> = records.iter().map(Row::of).collect();
        for row in &rows {
            let cells = [&row.index, &row.time, &row.what, &row.why, &row.who];
            for (width, cell) in self.widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count()).min(MAX_WIDTH);
            }
        }
        let mut lines = Vec::with_capacity(rows.len() + 1);
        if !self.begun {
            self.begun = true;
            lines.push(self.heading());
        }
        lines.extend(rows.iter().map(|row| self.line(row)));
        lines
    }

    fn heading(&self) -> String {
        let [index, time, what, why, who] = HEADING;
        let [i, t, a, y, o] = self.widths;
        self.paint.dim(&format!("{index:>i$}  {time:t$}  {what:a$}  {why:y$}  {who:o$}  REQUEST"))
    }

    fn line(&self, row: &Row) -> String {
        let [i, t, a, y, o] = self.widths;
        let what = column(&row.what, a);
        let what = match (row.kind, row.what.as_str()) {
            (Kind::Decision, "allow") => self.paint.good(&what),
            (Kind::Decision, _) => self.paint.bad(&what),
            _ => what,
        };
        let (index, time) = (&row.index, &row.time);
        let (why, who) = (column(&row.why, y), column(&row.who, o));
        format!("{index:>i$}  {time:t$}  {what}  {why}  {who}  {}", row.request).trim_end().to_owned()
    }
}

impl Row {
    fn of(record: &Record<'_>) -> Self {
        let head = record.head();
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
        // To the second; the record itself says it to the microsecond.
        let time: String = head.time.to_string().replace('T', " ").chars().take(19).collect();
        Self { kind: head.kind, index: head.index.to_string(), time, what, why, who, request }
    }
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
    let counted = || {
        let count = of("count")?;
        Some(of("decision_index").map_or_else(|| count.clone(), |index| format!("{count} more like {index}")))
    };
    of("error")
        .or_else(|| of("origin"))
        .or_else(|| of("version"))
        .or_else(|| of("vkey"))
        .or_else(counted)
        .unwrap_or_default()
}

/// A value for people: a text as it is, anything that stands for a text as JSON.
fn shown(record: &Record<'_>, path: &[&str]) -> String {
    match record.value(path) {
        None => "-".to_owned(),
        Some(Value::String(text)) => printable(text),
        Some(Value::Object(fields)) if fields.contains_key("redacted") => {
            fields.get("redacted").and_then(Value::as_str).map(printable).unwrap_or_default()
        }
        Some(other) => other.to_string(),
    }
}

const HEADING: [&str; 5] = ["INDEX", "TIME (UTC)", "WHAT", "WHY", "WHO"];

/// A column gets no wider.
const MAX_WIDTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: &str) -> String {
        let bytes = format!(
            r#"{{"v":1,"index":7,"prev":"{}","time":"2026-01-31T12:00:00.123456Z",{fields}}}"#,
            crate::audit::hash::Hash::of(b"prev")
        );
        let record = Record::parse(bytes.as_bytes()).unwrap();
        Table::new(Paint::plain()).lines(&[record]).pop().unwrap()
    }

    #[test]
    fn a_decision_is_one_row() {
        let fields = r#""kind":"decision","decision":"deny","reason":"no_match","identity":{"state":"proved","user":"user:alice"},"request":{"service":"app","method":"PUT","path":"/docs/intro"}"#;
        assert_eq!(
            line(fields),
            "    7  2026-01-31 12:00:00  deny  no_match  user:alice  PUT app /docs/intro"
        );
    }

    #[test]
    fn what_has_no_canonical_path_shows_its_target() {
        let fields = r#""kind":"decision","decision":"deny","reason":"dot_segment","identity":{"state":"failed"},"request":{"method":"GET","target":"/a/../b"}"#;
        assert_eq!(
            line(fields),
            "    7  2026-01-31 12:00:00  deny  dot_segment  (not proved)  GET - /a/../b"
        );
    }

    #[test]
    fn an_outcome_names_its_decision() {
        let fields =
            r#""kind":"outcome","decision_index":6,"result":"completed","status":200,"duration_us":1200"#;
        assert_eq!(line(fields), "    7  2026-01-31 12:00:00  outcome  completed  -    of 6: 200, 1.2 ms");
    }

    #[test]
    fn nothing_in_a_record_steers_the_terminal() {
        let fields = r#""kind":"decision","decision":"deny","reason":"x","identity":{"state":"proved","user":"\u001b[2J"},"request":{"method":"GET","path":{"base64":"gA=="}}"#;
        let line = line(fields);
        assert!(!line.contains('\u{1b}') && line.ends_with(r#"{"base64":"gA=="}"#), "{line}");
    }
}
