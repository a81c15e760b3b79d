//! The line that a fault is in, and where in it.

use std::fmt;

use super::Problem;

/// The longest excerpt, in characters.
const MOST: usize = 100;
/// How much of a long line stands before what is wrong.
const BEFORE: usize = 30;

/// A line with a mark. Prints as two lines: the text, or as much of it as is near, and `^^^` below what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Where it begins, in characters from 1.
    pub column: usize,
    /// How many characters are wrong; at least one.
    pub width: usize,
    line: String,
}

impl Excerpt {
    /// `line`, with a mark at `culprit` where that stands by itself in it, or else at the line's beginning.
    pub(super) fn of(line: &str, culprit: Option<&str>) -> Self {
        let place = culprit.and_then(|culprit| Some((by_itself(line, culprit)?, culprit)));
        let (at, width) = match place {
            Some((at, culprit)) => (at, culprit.chars().count()),
            None => (line.len() - line.trim_start().len(), line.trim().chars().count()),
        };
        let column = line.get(..at).unwrap_or_default().chars().count() + 1;
        Self { column, width: width.max(1), line: line.to_owned() }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.column - 1;
        let cut = if before > MOST - BEFORE { before - BEFORE } else { 0 };
        // A tab would move the mark, and control bytes more than that.
        let shown: String =
            self.line.chars().skip(cut).take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let width = self.width.min(MOST - (before - cut));
        write!(f, "    {}\n    {}{}", shown.trim_end(), " ".repeat(before - cut), "^".repeat(width))
    }
}

/// Where `culprit` stands in `line` with nothing that could be part of it on either side; the last such place, since what
/// comes first in a row is its type and its caller.
fn by_itself(line: &str, culprit: &str) -> Option<usize> {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | ':' | '*');
    line.rmatch_indices(culprit).map(|(at, _)| at).find(|at| {
        let (before, rest) = line.split_at_checked(*at).unwrap_or_default();
        let after = rest.get(culprit.len()..).unwrap_or_default();
        !culprit.is_empty() && !before.ends_with(part) && !after.starts_with(part)
    })
}

impl Problem {
    /// The text that is at fault, where the problem names one.
    pub(super) fn culprit(&self) -> Option<&str> {
        match self {
            Self::UnknownSection(text)
            | Self::UnknownKey(text, _)
            | Self::SecondDefinition(text)
            | Self::RoleGap(text, _)
            | Self::DefinedTwice(text, _)
            | Self::BadName(text)
            | Self::NameTwice(text)
            | Self::RequestName(text)
            | Self::Effect(text)
            | Self::RolePlaces(text)
            | Self::UnknownName(text, _)
            | Self::NotAnExpression(text)
            | Self::RowType(text, _)
            | Self::RowEffect(text)
            | Self::Pattern { pattern: text, .. }
            | Self::Unmatchable { pattern: text, .. } => Some(text),
            Self::TrailingComment => Some("#"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_below_what_is_wrong() {
        let excerpt = Excerpt::of("p, al, /docs/*, GET, al", Some("al"));
        assert_eq!(excerpt.column, 22);
        let told = "    p, al, /docs/*, GET, al\n                         ^^";
        assert_eq!(excerpt.to_string(), told);
    }

    #[test]
    fn what_cannot_be_placed_is_the_whole_line() {
        for culprit in [None, Some("x"), Some("doc")] {
            let excerpt = Excerpt::of("  p, /docs", culprit);
            assert_eq!((excerpt.column, excerpt.width), (3, 8), "{culprit:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_around_it() {
        let line = format!("p, {}, é\tbad, {}", "x".repeat(500), "y".repeat(500));
        let excerpt = Excerpt::of(&line, Some("bad"));
        let told = excerpt.to_string();
        let (text, mark) = told.split_once('\n').unwrap();
        assert!(text.chars().count() <= MOST + 4);
        let at = mark.find('^').unwrap();
        assert_eq!(text.chars().skip(at).take(3).collect::<String>(), "bad");
    }
}
