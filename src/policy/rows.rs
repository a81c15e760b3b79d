//! Policy rows, read strictly: one row a line, fields parted by commas, blank lines and lines beginning with `#`
//! passed over. What casbin's own adapters would drop or misread in silence is a fault with its line.

use super::error::{Faults, Problem};
use super::load::Text;

/// The longest line that is read, in bytes.
pub const LINE_BYTES: usize = 16 * 1024;

/// One row as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its definition: `p`, `g`, `g2`, …
    pub ptype: String,
    /// The fields after it.
    pub fields: Vec<String>,
    /// Its file, as the config names it.
    pub file: String,
    /// Its line there, from 1.
    pub line: u32,
}

impl Row {
    /// The row as one line, fields joined by `, `.
    pub fn text(&self) -> String {
        let mut text = self.ptype.clone();
        for field in &self.fields {
            text.push_str(", ");
            text.push_str(field);
        }
        text
    }
}

/// Reads the rows of one file, noting what is wrong with any of them.
pub fn read(text: &Text, rows: &mut Vec<Row>, faults: &mut Faults) {
    for (line, content) in lines(&text.text) {
        match split(content) {
            Ok(None) => {}
            Ok(Some(fields)) => {
                let mut fields = fields.into_iter();
                let Some(ptype) = fields.next() else { continue };
                rows.push(Row { ptype, fields: fields.collect(), file: text.name.clone(), line });
            }
            Err(problem) => {
                if !faults.note(&text.name, Some(line), problem) {
                    return;
                }
            }
        }
    }
}

/// The lines of a text with their numbers from 1, without a byte order mark (which some editors put before the
/// first line, and which would otherwise become part of its first field).
pub fn lines(text: &str) -> impl Iterator<Item = (u32, &str)> {
    text.strip_prefix('\u{feff}').unwrap_or(text).lines().zip(1u32..).map(|(content, line)| (line, content))
}

/// The fields of one line; `None` for a blank line or a comment.
fn split(line: &str) -> Result<Option<Vec<String>>, Problem> {
    if line.len() > LINE_BYTES {
        return Err(Problem::LineTooLong(line.len()));
    }
    let mut rest = line.trim();
    if rest.is_empty() || rest.starts_with('#') {
        return Ok(None);
    }
    let mut fields = Vec::new();
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => plain_field(rest, fields.len())?,
        };
        fields.push(field);
        match after {
            Some(after) => rest = after.trim_start(),
            None => return Ok(Some(fields)),
        }
    }
}

/// A field after its opening quote, and what follows the comma after it, if there is one. `""` is a quote.
fn quoted_field(text: &str) -> Result<(String, Option<&str>), Problem> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (head, tail) = rest.split_once('"').ok_or(Problem::OpenQuote)?;
        field.push_str(head);
        match tail.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => {
                let tail = tail.trim_start();
                return match tail.strip_prefix(',') {
                    Some(after) => Ok((field, Some(after))),
                    None if tail.is_empty() => Ok((field, None)),
                    None if tail.starts_with('#') => Err(Problem::TrailingComment),
                    None => Err(Problem::AfterQuote),
                };
            }
        }
    }
}

/// An unquoted field: up to the next comma, without the blanks around it.
fn plain_field(text: &str, index: usize) -> Result<(String, Option<&str>), Problem> {
    let (field, after) = match text.split_once(',') {
        Some((field, after)) => (field, Some(after)),
        None => (text, None),
    };
    let field = field.trim();
    if field.is_empty() {
        return Err(Problem::EmptyField(index));
    }
    let comment = field.starts_with('#')
        || field.char_indices().any(|(i, c)| {
            c == '#' && field.get(..i).is_some_and(|before| before.ends_with(char::is_whitespace))
        });
    if comment { Err(Problem::TrailingComment) } else { Ok((field.to_owned(), after)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Vec<String> {
        split(line).unwrap().unwrap()
    }

    #[test]
    fn fields_are_parted_by_commas_and_trimmed() {
        for (line, expected) in [
            ("p, alice, /docs/*, GET", vec!["p", "alice", "/docs/*", "GET"]),
            ("  p,alice ,\t/docs/* , GET  ", vec!["p", "alice", "/docs/*", "GET"]),
            ("p, \"a, b\", c", vec!["p", "a, b", "c"]),
            ("p, \"say \"\"hi\"\"\", c", vec!["p", "say \"hi\"", "c"]),
            ("p, r.sub == \"root\", c", vec!["p", "r.sub == \"root\"", "c"]),
            ("p, \"\", c", vec!["p", "", "c"]),
            ("p, /a#b, c", vec!["p", "/a#b", "c"]),
            ("p, \" # kept\", c", vec!["p", " # kept", "c"]),
        ] {
            assert_eq!(fields(line), expected, "{line}");
        }
    }

    #[test]
    fn blank_lines_and_comment_lines_are_passed_over() {
        for line in ["", "   ", "# p, alice", "   # p, alice", "#"] {
            assert!(split(line).unwrap().is_none(), "{line:?}");
        }
    }

    #[test]
    fn what_would_be_misread_is_a_fault() {
        for (line, expected) in [
            ("p, alice, GET # why", "a comment must have a line of its own"),
            ("p, alice, # why", "a comment must have a line of its own"),
            ("p, \"alice\" # why", "a comment must have a line of its own"),
            ("p, \"alice", "does not end"),
            ("p, \"a\"b, c", "a comma must follow"),
            ("p, , GET", "field 1 is empty"),
            ("p, alice,", "field 2 is empty"),
            (",p", "field 0 is empty"),
        ] {
            let problem = split(line).unwrap_err().to_string();
            assert!(problem.contains(expected), "{line:?}: {problem}");
        }
        assert!(matches!(split(&"x".repeat(LINE_BYTES + 1)), Err(Problem::LineTooLong(_))));
    }

    #[test]
    fn a_byte_order_mark_does_not_swallow_the_first_row() {
        let text = Text { name: "p.csv".into(), text: "\u{feff}p, a, b\r\n\r\n# c\r\np, c, d\r\n".into() };
        let (mut rows, mut faults) = (Vec::new(), Faults::default());
        read(&text, &mut rows, &mut faults);
        assert!(faults.none_or_error().is_ok());
        assert_eq!(rows.iter().map(Row::text).collect::<Vec<_>>(), ["p, a, b", "p, c, d"]);
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 4]);
    }
}
