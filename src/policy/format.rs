//! The canonical layout of policy files: rows that stand together have their columns under one another, fields are parted
//! by `, ` and quoted only where they must be. Comments, blank lines and the order of everything stay.
//!
//! Invariant: what is written reads back as the same rows at the same lines; [`format()`] checks that before it returns.

use super::error::{Faults, LoadError};
use super::load::Text;
use super::rows::{self, Row, lines};

/// Columns wider than this are not padded: one long field would push all others out of sight.
const WIDEST: usize = 48;

/// Why a file cannot be laid out. It is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It has rows that cannot be read.
    #[error(transparent)]
    Unreadable(#[from] LoadError),
    /// Laid out, its rows would not be the same; a line at its longest is a cause.
    #[error("{0}: cannot be laid out without changing its rows; is a line close to {max} bytes long?", max = rows::LINE_BYTES)]
    Changed(String),
}

/// The text of a policy file in canonical layout: LF at the end of each line, no byte order mark.
///
/// # Errors
/// If a row cannot be read.
pub fn format(text: &Text) -> Result<String, FormatError> {
    let rows = read(text)?;
    let mut out = String::with_capacity(text.text.len());
    let mut block: Vec<&Row> = Vec::new();
    let mut unread = rows.iter().peekable();
    for (line, content) in lines(&text.text) {
        match unread.next_if(|row| row.line == line) {
            Some(row) => {
                if block.last().is_some_and(|last| last.ptype != row.ptype) {
                    lay_out(&std::mem::take(&mut block), &mut out);
                }
                block.push(row);
            }
            None => {
                lay_out(&std::mem::take(&mut block), &mut out);
                out.push_str(content.trim());
                out.push('\n');
            }
        }
    }
    lay_out(&block, &mut out);
    let again = read(&Text { name: text.name.clone(), text: out.clone() });
    match again {
        Ok(again) if again == rows => Ok(out),
        Ok(_) | Err(_) => Err(FormatError::Changed(text.name.clone())),
    }
}

fn read(text: &Text) -> Result<Vec<Row>, LoadError> {
    let (mut rows, mut faults) = (Vec::new(), Faults::default());
    rows::read(text, &mut rows, &mut faults);
    faults.none_or_error().map_err(|error| error.quoting(std::iter::once(text))).map(|()| rows)
}

/// Writes rows of one type that stand together.
fn lay_out(block: &[&Row], out: &mut String) {
    let cells: Vec<Vec<String>> = block
        .iter()
        .map(|row| std::iter::once(&row.ptype).chain(&row.fields).map(|field| cell(field)).collect())
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &cells {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &cells {
        for (at, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            out.push_str(cell);
            if at + 1 < row.len() {
                let padded = if width > WIDEST { 0 } else { width.saturating_sub(cell.chars().count()) };
                out.push(',');
                out.extend(std::iter::repeat_n(' ', padded + 1));
            }
        }
        out.push('\n');
    }
}

/// A field as it must be written to be read back.
fn cell(field: &str) -> String {
    let blank_before_hash = field.char_indices().any(|(at, c)| {
        c == '#'
            && field
                .get(..at)
                .is_some_and(|before| before.is_empty() || before.ends_with(char::is_whitespace))
    });
    let must = field.is_empty()
        || field.contains(',')
        // A byte order mark at the beginning of a file is not part of its first field.
        || field.starts_with(['"', '\u{feff}'])
        || field.trim() != field
        || blank_before_hash;
    if must { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Text {
        Text { name: "policy.csv".into(), text: text.into() }
    }

    fn laid_out(before: &str) -> String {
        format(&text(before)).unwrap()
    }

    #[test]
    fn columns_of_rows_that_stand_together_are_under_one_another() {
        let before = "\u{feff}  # who\r\np,role:viewer ,app,\"/docs/*\",GET\r\np, anonymous, app, \"/a,b\", \"\"\r\n\
            g,user:a,role:b\ng, user:longer, role:c\n\n\n#end\np,role:viewer,app,/x,\"say \"\"hi\"\"\"";
        let after = "# who\n\
            p, role:viewer, app, /docs/*, GET\n\
            p, anonymous,   app, \"/a,b\",  \"\"\n\
            g, user:a,      role:b\n\
            g, user:longer, role:c\n\
            \n\n#end\n\
            p, role:viewer, app, /x, say \"hi\"\n";
        assert_eq!(laid_out(before), after);
        assert_eq!(laid_out(after), after);
        assert_eq!(laid_out(""), "");
    }

    #[test]
    fn a_long_field_does_not_push_the_others_out_of_sight() {
        let long = format!("/{}", "x".repeat(WIDEST));
        let before = format!("p, a, {long}, GET\np, bcd, /y, GET\n");
        assert_eq!(laid_out(&before), format!("p, a,   {long}, GET\np, bcd, /y, GET\n"));
    }

    #[test]
    fn the_shipped_policy_is_laid_out() {
        let shipped = include_str!("../../policies/policy.csv");
        assert_eq!(laid_out(shipped), shipped);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_laid_out() {
        let error = format(&text("p, a, b\np, \"a\n")).unwrap_err().to_string();
        assert!(error.contains("policy.csv:2:1: a quoted field does not end"), "{error}");
        let grows = format!("p{}", ",a".repeat(rows::LINE_BYTES / 2 - 1));
        assert!(matches!(format(&text(&grows)), Err(FormatError::Changed(_))));
    }

    fn line() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "a", "p", "g", ",", ", ", " ", "\t", "\"", "\"\"", "#", " #", "é", "\u{feff}", "\u{a0}",
            "/docs/*", "\r", ";",
        ]);
        let wild = prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
        let field = prop_oneof![
            "[a-z/*:|]{1,12}",
            Just(String::new()),
            wild.clone().prop_map(|text| text.replace(['\n', '\r'], "")),
        ];
        let row = prop::collection::vec(field, 1..6).prop_map(|fields| {
            let quoted = |field: String| format!("\"{}\"", field.replace('"', "\"\""));
            fields.into_iter().map(quoted).collect::<Vec<_>>().join(" ,")
        });
        prop_oneof![wild, row, Just("# a comment, kept ".to_owned())]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn layout_changes_no_row_no_comment_and_nothing_twice(
            lines in prop::collection::vec(line(), 0..8),
            end in prop::sample::select(vec!["\n", "\r\n"]),
        ) {
            // Lines that cannot be read would hide the others.
            let readable = |line: &String| read(&text(line)).is_ok();
            let before = text(&lines.iter().filter(|line| readable(line)).cloned().collect::<Vec<_>>().join(end));
            let Ok(rows) = read(&before) else { return Ok(()) };
            let after = text(&format(&before).unwrap());
            prop_assert_eq!(read(&after).unwrap(), rows);
            let comments = |text: &Text| -> Vec<(u32, String)> {
                let kept = |line: &str| line.trim().starts_with('#') || line.trim().is_empty();
                lines_of(text).into_iter().filter(|(_, line)| kept(line)).collect()
            };
            prop_assert_eq!(comments(&before), comments(&after));
            prop_assert_eq!(format(&after).unwrap(), after.text);
        }
    }

    fn lines_of(text: &Text) -> Vec<(u32, String)> {
        lines(&text.text).map(|(line, content)| (line, content.trim().to_owned())).collect()
    }
}
