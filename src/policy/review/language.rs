//! What a path pattern matches, where it is plain: letters, whole segments and a rest; and whether another pattern
//! matches all of that. One-sided: [`covers`] is sure of its yes, and says no where it cannot tell.

use super::shape::How;
use crate::policy::patterns::{Function, Step, steps};

/// A part of a plain pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// This character.
    Char(char),
    /// One character or more, up to the next slash or the end.
    Segment,
    /// Whatever follows.
    Rest,
}

/// A plain pattern: [`Symbol::Rest`] only at its end, [`Symbol::Segment`] only before a slash or at its end.
pub type Plain = Vec<Symbol>;

/// `pattern` compared in this way, if it is plain.
pub fn plain(how: &How, pattern: &str) -> Option<Plain> {
    match how {
        How::Equal => Some(chars(pattern).collect()),
        How::Literal(_) | How::Linked(_) => None,
        How::Pattern(Function::KeyMatch) => Some(match pattern.split_once('*') {
            Some((before, _)) => chars(before).chain([Symbol::Rest]).collect(),
            None => chars(pattern).collect(),
        }),
        How::Pattern(function @ (Function::KeyMatch2 | Function::KeyMatch3 | Function::KeyMatch5)) => {
            steps(*function, pattern).map(|steps| from_steps(&steps))
        }
        // Names that come twice must be equal, which is no longer plain.
        How::Pattern(Function::KeyMatch4) if !repeats_a_name(pattern) => {
            steps(Function::KeyMatch4, pattern).map(|steps| from_steps(&steps))
        }
        How::Pattern(Function::RegexMatch) => regex(pattern),
        How::Pattern(_) => None,
    }
}

/// Whether `wide` matches all that `narrow` matches.
pub fn covers(wide: &[Symbol], narrow: &[Symbol]) -> bool {
    use Symbol::{Char, Rest, Segment};
    match (wide, narrow) {
        ([Rest], _) | ([], []) => true,
        ([Char(a), wide @ ..], [Char(b), narrow @ ..]) => a == b && covers(wide, narrow),
        ([Segment, wide @ ..], [Char(_) | Segment, ..]) => {
            let (taken, rest) = segment(narrow);
            taken > 0 && rest.first() != Some(&Rest) && covers(wide, rest)
        }
        _ => false,
    }
}

/// A pattern all of whose paths both match, if there is any: not all that both match, but some of it.
pub fn meet(a: &[Symbol], b: &[Symbol]) -> Option<Plain> {
    use Symbol::{Char, Rest, Segment};
    let (head, a, b) = match (a, b) {
        ([], []) => return Some(Vec::new()),
        ([Rest], other) | (other, [Rest]) => return Some(other.to_vec()),
        ([Char(x), a @ ..], [Char(y), b @ ..]) if x == y => (vec![Char(*x)], a, b),
        ([Segment, wide @ ..], narrow @ [Char(_) | Segment, ..])
        | (narrow @ [Char(_), ..], [Segment, wide @ ..]) => {
            let (taken, rest) = segment(narrow);
            let head = narrow.get(..taken).filter(|head| !head.is_empty())?.to_vec();
            (head, wide, rest)
        }
        _ => return None,
    };
    let mut whole = head;
    whole.extend(meet(a, b)?);
    Some(whole)
}

/// Whether a plain pattern matches every path.
pub fn is_everything(pattern: &[Symbol]) -> bool {
    matches!(pattern, [Symbol::Rest] | [Symbol::Char('/'), Symbol::Rest])
}

/// How many symbols stand before the next slash, rest or end; and what follows.
fn segment(symbols: &[Symbol]) -> (usize, &[Symbol]) {
    let inside = |symbol: &Symbol| !matches!(symbol, Symbol::Char('/') | Symbol::Rest);
    let taken = symbols.iter().take_while(|symbol| inside(symbol)).count();
    (taken, symbols.get(taken..).unwrap_or_default())
}

fn chars(text: &str) -> impl Iterator<Item = Symbol> + '_ {
    text.chars().map(Symbol::Char)
}

fn from_steps(steps: &[Step]) -> Plain {
    let mut plain = Vec::new();
    for step in steps {
        match step {
            Step::Literal(text) => plain.extend(chars(text)),
            Step::Segment => plain.push(Symbol::Segment),
            Step::Rest => plain.push(Symbol::Rest),
        }
    }
    plain
}

fn repeats_a_name(pattern: &str) -> bool {
    let names: Vec<&str> = pattern.split('/').filter(|segment| segment.starts_with('{')).collect();
    names.iter().enumerate().any(|(at, name)| names.iter().skip(at + 1).any(|other| other == name))
}

/// A regular expression that begins with `^` and is made of letters, `[^/]+` as a whole segment, and `.*` at its end,
/// which is also what the lack of a `$` amounts to.
fn regex(pattern: &str) -> Option<Plain> {
    if matches!(pattern, ".*" | "^.*" | "^.*$" | ".*$") {
        return Some(vec![Symbol::Rest]);
    }
    let mut left = pattern.strip_prefix('^')?;
    let mut plain = Vec::new();
    while let Some(c) = left.chars().next() {
        if let Some(after) = left.strip_prefix("[^/]+") {
            if !matches!(after.chars().next(), None | Some('/' | '$')) || after.is_empty() {
                return None;
            }
            plain.push(Symbol::Segment);
            left = after;
        } else if matches!(left, ".*" | ".*$") {
            plain.push(Symbol::Rest);
            return Some(plain);
        } else if left == "$" {
            return Some(plain);
        } else if let Some(escaped) = left.strip_prefix('\\').and_then(|after| after.chars().next()) {
            if escaped.is_ascii_alphanumeric() {
                return None;
            }
            plain.push(Symbol::Char(escaped));
            left = left.get(1 + escaped.len_utf8()..)?;
        } else if c.is_ascii_alphanumeric() || "-_~/%!@,=&';:".contains(c) {
            plain.push(Symbol::Char(c));
            left = left.get(c.len_utf8()..)?;
        } else {
            return None;
        }
        if left.starts_with(['*', '+', '?', '{']) {
            return None;
        }
    }
    plain.push(Symbol::Rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(function: Function, text: &str) -> Plain {
        plain(&How::Pattern(function), text).unwrap()
    }

    #[test]
    fn a_pattern_covers_what_it_matches_all_of_and_nothing_else() {
        use Function::KeyMatch2 as F;
        for (wide, narrow, expected) in [
            ("/*", "/docs/*", true),
            ("/docs/*", "/docs/:id", true),
            ("/docs/*", "/docs/a/b", true),
            ("/docs/:id", "/docs/a", true),
            ("/docs/:id", "/docs/:name", true),
            ("/docs/:id/x", "/docs/a/x", true),
            ("/docs/:id", "/docs/*", false),
            ("/docs/:id", "/docs/a/b", false),
            ("/docs/:id", "/docs/", false),
            ("/docs/:id/x", "/docs/:id", false),
            ("/docs/*", "/docs", false),
            ("/docs/*", "/*", false),
            ("/docs/a", "/docs/:id", false),
            ("/docs/a", "/docs/ab", false),
        ] {
            assert_eq!(covers(&pattern(F, wide), &pattern(F, narrow)), expected, "{wide} over {narrow}");
        }
    }

    #[test]
    fn where_two_patterns_meet_both_match() {
        use Function::KeyMatch2 as F;
        for (a, b, expected) in [
            ("/docs/*", "/*", Some("/docs/*")),
            ("/docs/:id", "/:kind/a", Some("/docs/a")),
            ("/:a/x", "/docs/*", Some("/docs/x")),
            ("/:a/:b", "/docs/*", Some("/docs/:b")),
            ("/docs/*", "/reports/*", None),
            ("/docs", "/docs/*", None),
            ("/docs/a", "/docs/:id/x", None),
        ] {
            let expected = expected.map(|text| pattern(F, text));
            assert_eq!(meet(&pattern(F, a), &pattern(F, b)), expected, "{a} and {b}");
            assert_eq!(meet(&pattern(F, b), &pattern(F, a)).is_some(), expected.is_some(), "{b} and {a}");
        }
    }

    #[test]
    fn plain_patterns_are_told_from_others() {
        use Function as F;
        for (function, text, is_plain) in [
            (F::KeyMatch, "/a/*/ignored", true),
            (F::KeyMatch2, "/a/:id", true),
            (F::KeyMatch2, "/a.b", false),
            (F::KeyMatch3, "/a/{id}", true),
            (F::KeyMatch4, "/{a}/{b}", true),
            (F::KeyMatch4, "/{a}/{a}", false),
            (F::RegexMatch, "^/docs/.*$", true),
            (F::RegexMatch, "^/docs/[^/]+$", true),
            (F::RegexMatch, "^/v1\\.0/", true),
            (F::RegexMatch, "^/a+$", false),
            (F::RegexMatch, "^/(a|b)$", false),
            (F::RegexMatch, "/docs", false),
            (F::GlobMatch, "/docs/*", false),
        ] {
            assert_eq!(plain(&How::Pattern(function), text).is_some(), is_plain, "{function} {text}");
        }
        assert!(
            is_everything(&pattern(F::RegexMatch, "^.*$")) && is_everything(&pattern(F::KeyMatch2, "/*"))
        );
        assert_eq!(pattern(F::RegexMatch, "^/docs/"), pattern(F::KeyMatch2, "/docs/*"));
    }
}
