//! How things look: colour where it helps, columns, words for sizes and times.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

/// Colours what is printed, or leaves it plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint {
    colour: bool,
}

impl Paint {
    /// Coloured on a terminal, unless `NO_COLOR` says otherwise (<https://no-color.org>).
    pub(crate) fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: io::stdout().is_terminal() && !refused }
    }

    /// Never coloured.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { colour: false }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.sgr("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.sgr("2", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.sgr("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.sgr("31", text)
    }

    pub(crate) fn accent(self, text: &str) -> String {
        self.sgr("36", text)
    }

    fn sgr(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Makes `text` safe to show: what could steer a terminal or break a line is replaced.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `text` in exactly `width` columns, cut with `~` where it is longer. Counts characters.
pub(crate) fn column(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return format!("{text:width$}");
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('~');
    cut
}

/// This program, as it was called: what a person can type again.
pub(crate) fn program() -> String {
    let called = std::env::args_os().next().and_then(|word| word.into_string().ok());
    called.map_or_else(|| "portcullis".to_owned(), |word| shell_word(&word))
}

/// `word` as a POSIX shell must be given it.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A number with its digits in threes: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 record`, `2 records`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A short time in the unit that suits it: `850 us`, `12.3 ms`, `1.25 s`.
pub(crate) fn short(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_keep_their_width() {
        assert_eq!(column("abc", 5), "abc  ");
        assert_eq!(column("abcde", 5), "abcde");
        assert_eq!(column("abcdef", 5), "abcd~");
        assert_eq!(column("äöüäöü", 5), "äöüä~");
        assert_eq!(column("", 2), "  ");
    }

    #[test]
    fn words_reach_a_shell_whole() {
        assert_eq!(shell_word("a/b-c.toml"), "a/b-c.toml");
        assert_eq!(shell_word("my gate"), "'my gate'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn numbers_are_grouped_in_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(count(1, "record"), "1 record");
        assert_eq!(count(2_000, "record"), "2,000 records");
    }

    #[test]
    fn what_could_steer_a_terminal_is_not_printed() {
        assert_eq!(printable("a\u{1b}[31mb\nc\u{9b}"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}");
    }

    #[test]
    fn plain_text_has_no_escapes() {
        assert_eq!(Paint::plain().bad("no"), "no");
        assert_eq!(Paint { colour: true }.bad("no"), "\u{1b}[31mno\u{1b}[0m");
    }

    #[test]
    fn short_times_pick_their_unit() {
        assert_eq!(short(Duration::from_micros(850)), "850 us");
        assert_eq!(short(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(short(Duration::from_millis(1_250)), "1.25 s");
    }
}
