//! Tables of cases: a line a case, fields between tabs, `#` before what is said about them.

use std::fmt;

/// A case, and where it stands.
pub struct Row {
    line: usize,
    text: &'static str,
}

/// The cases of a table.
pub fn rows(table: &'static str) -> impl Iterator<Item = Row> {
    let lines = table.lines().enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, text)| Row { line: number + 1, text })
}

impl Row {
    /// The fields, their escapes read: `\r`, `\n`, `\t`, `\\` and `\xNN`.
    pub fn bytes<const N: usize>(&self) -> [Vec<u8>; N] {
        let fields: Vec<Vec<u8>> = self.text.split('\t').map(|field| self.unescaped(field)).collect();
        let count = fields.len();
        fields.try_into().unwrap_or_else(|_| panic!("{self}: {count} fields in place of {N}"))
    }

    /// As [`Row::bytes`], where they are text.
    pub fn fields<const N: usize>(&self) -> [String; N] {
        self.bytes::<N>().map(|field| String::from_utf8(field).unwrap_or_else(|_| panic!("{self}: no text")))
    }

    fn unescaped(&self, field: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut bytes = field.bytes();
        while let Some(byte) = bytes.next() {
            out.push(match byte {
                b'\\' => match bytes.next() {
                    Some(b'r') => b'\r',
                    Some(b'n') => b'\n',
                    Some(b't') => b'\t',
                    Some(b'\\') => b'\\',
                    Some(b'x') => {
                        let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                        u8::from_str_radix(&digits, 16).unwrap_or_else(|_| panic!("{self}: \\x{digits}"))
                    }
                    _ => panic!("{self}: an escape that is none"),
                },
                byte => byte,
            });
        }
        out
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}
