//! Patterns that no canonical path can match: a row that holds one would never apply, which its author cannot mean.
//!
//! The check is one-sided. It speaks up only where it is sure; what it cannot see through, such as most regular
//! expressions, it lets pass.

use super::patterns::{Function, Step, steps};
use crate::access::path::Tolerance;

/// Forms of path beyond the canonical ones that some service has opted in to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathForms {
    /// `%2F` and `%5C`.
    pub encoded_slash: bool,
    /// `%25`.
    pub encoded_percent: bool,
    /// `;` and `%3B`.
    pub semicolon: bool,
    /// `%23`.
    pub fragment: bool,
    /// `\`.
    pub backslash: bool,
    /// `//`.
    pub empty_segment: bool,
}

impl PathForms {
    /// What paths may look like over all services, by what each of them allows.
    pub fn granted(by: impl IntoIterator<Item = Tolerance>) -> Self {
        let all = by.into_iter().fold(Tolerance::default(), Tolerance::with);
        Self {
            encoded_slash: all.covers(Tolerance::ENCODED_SLASH),
            encoded_percent: all.covers(Tolerance::ENCODED_PERCENT),
            semicolon: all.covers(Tolerance::SEMICOLON),
            ..Self::default()
        }
    }
}

/// Why no canonical path can match a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmatchable {
    /// Does not begin with `/`.
    #[error("a path begins with /")]
    NotAbsolute,
    /// Has `//`.
    #[error("a path has no empty segment (//)")]
    EmptySegment,
    /// Has `.` or `..` as a segment.
    #[error("a path has no segment . or ..")]
    DotSegment,
    /// Has `%` without two hex digits.
    #[error("in a path, % is followed by two hex digits")]
    PercentEncoding,
    /// Has lower-case hex digits.
    #[error("in a path, the digits after % are upper-case")]
    LowerCaseHex,
    /// Encodes a byte that needs no encoding.
    #[error("a path has letters, digits and - . _ ~ decoded; write the character itself")]
    EncodedUnreserved,
    /// Has `%25`.
    #[error("a path has no %25 unless a service allows encoded_percent")]
    EncodedPercent,
    /// Has `%2F` or `%5C`.
    #[error("a path has no %2F or %5C unless a service allows encoded_slash")]
    EncodedSlash,
    /// Has `;` or `%3B`.
    #[error("a path has no semicolon unless a service allows semicolon")]
    Semicolon,
    /// Has `%23`.
    #[error("a path has no %23 unless a service allows it")]
    Fragment,
    /// Has an encoded control byte.
    #[error("a path has no control byte")]
    ControlByte,
    /// Has `?`.
    #[error("the query is no part of the path; leave out ? and what follows")]
    Query,
    /// Has a character that stands encoded in a path.
    #[error("a path has this character percent-encoded: {0}")]
    RawCharacter(char),
}

/// How a pattern is compared with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `r.obj == p.obj`.
    Equal,
    /// `function(r.obj, p.obj)`.
    Call(Function),
}

/// Checks that some canonical path can match `pattern`, as far as can be told.
///
/// # Errors
/// Why none can.
pub fn matchable(comparison: Comparison, pattern: &str, forms: PathForms) -> Result<(), Unmatchable> {
    use Function as F;
    let mut path = Path::new(forms);
    match comparison {
        Comparison::Equal => path.exactly(pattern),
        Comparison::Call(F::KeyMatch) => match pattern.split_once('*') {
            Some((prefix, _)) => path.literal(prefix),
            None => path.exactly(pattern),
        },
        Comparison::Call(function @ (F::KeyMatch2 | F::KeyMatch3 | F::KeyMatch5)) => {
            match steps(function, pattern) {
                Some(steps) => {
                    for step in &steps {
                        match step {
                            Step::Literal(text) => path.literal(text)?,
                            Step::Segment => path.wildcard()?,
                            Step::Rest => return Ok(()),
                        }
                    }
                    path.end()
                }
                None => regex_prefix(&mut path, pattern),
            }
        }
        Comparison::Call(F::KeyMatch4) => regex_prefix(&mut path, pattern),
        Comparison::Call(F::RegexMatch) => match pattern.strip_prefix('^') {
            Some(anchored) => regex_prefix(&mut path, anchored),
            None => Ok(()),
        },
        Comparison::Call(F::GlobMatch) => {
            let end = pattern.find(['*', '?', '[', '{', '\\']);
            match end.and_then(|end| pattern.get(..end)) {
                Some(prefix) => path.literal(prefix),
                None => path.exactly(pattern),
            }
        }
        Comparison::Call(F::KeyGet | F::KeyGet2 | F::KeyGet3 | F::IpMatch) => Ok(()),
    }
}

/// Checks what certainly stands at the beginning of an anchored regex: the literal before its first special
/// character, less the character a quantifier would make optional.
fn regex_prefix(path: &mut Path, pattern: &str) -> Result<(), Unmatchable> {
    if pattern.contains('|') {
        return Ok(());
    }
    let special = |c: char| !(c.is_ascii_alphanumeric() || "-_~/%!@,=&'".contains(c));
    let Some(end) = pattern.find(special) else { return path.literal(pattern) };
    let (prefix, rest) = pattern.split_at_checked(end).unwrap_or((pattern, ""));
    let sure = if rest.starts_with(['*', '?', '{', '+']) {
        prefix.char_indices().last().and_then(|(last, _)| prefix.get(..last)).unwrap_or_default()
    } else {
        prefix
    };
    if sure.is_empty() { Ok(()) } else { path.literal(sure) }
}

/// A path being spelt out from the left.
struct Path {
    forms: PathForms,
    /// Nothing has been spelt yet.
    at_start: bool,
    /// The literal text of the segment so far; `None` once a wildcard is part of it.
    segment: Option<String>,
}

impl Path {
    fn new(forms: PathForms) -> Self {
        Self { forms, at_start: true, segment: None }
    }

    fn exactly(&mut self, text: &str) -> Result<(), Unmatchable> {
        if text.is_empty() {
            return Err(Unmatchable::NotAbsolute);
        }
        self.literal(text)?;
        if ends_inside_escape(text) {
            return Err(Unmatchable::PercentEncoding);
        }
        self.end()
    }

    fn end(&mut self) -> Result<(), Unmatchable> {
        match self.segment.as_deref() {
            Some("." | "..") => Err(Unmatchable::DotSegment),
            _ => Ok(()),
        }
    }

    /// Something unknown, one character or more, that can be anything but a slash.
    fn wildcard(&mut self) -> Result<(), Unmatchable> {
        if self.at_start {
            return Err(Unmatchable::NotAbsolute);
        }
        self.segment = None;
        Ok(())
    }

    fn literal(&mut self, text: &str) -> Result<(), Unmatchable> {
        for (at, c) in text.char_indices() {
            if self.at_start {
                self.at_start = false;
                if c != '/' {
                    return Err(Unmatchable::NotAbsolute);
                }
                self.segment = Some(String::new());
                continue;
            }
            match c {
                '/' => self.slash()?,
                '%' => {
                    let after = text.get(at + 1..).unwrap_or_default();
                    let Some(digits) = after.get(..2) else {
                        // The rest of the escape is up to the wildcard that follows.
                        self.segment = None;
                        return if after.chars().all(|c| c.is_ascii_hexdigit()) {
                            Ok(())
                        } else {
                            Err(Unmatchable::PercentEncoding)
                        };
                    };
                    self.escape(digits)?;
                    self.push('%');
                }
                _ => {
                    self.raw(c)?;
                    self.push(c);
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, c: char) {
        if let Some(segment) = &mut self.segment {
            segment.push(c);
        }
    }

    fn slash(&mut self) -> Result<(), Unmatchable> {
        match self.segment.replace(String::new()).as_deref() {
            Some("") if !self.forms.empty_segment => Err(Unmatchable::EmptySegment),
            Some("." | "..") => Err(Unmatchable::DotSegment),
            _ => Ok(()),
        }
    }

    fn escape(&self, digits: &str) -> Result<(), Unmatchable> {
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Unmatchable::PercentEncoding);
        }
        if digits.bytes().any(|b| b.is_ascii_lowercase()) {
            return Err(Unmatchable::LowerCaseHex);
        }
        match u8::from_str_radix(digits, 16).unwrap_or_default() {
            b'%' if !self.forms.encoded_percent => Err(Unmatchable::EncodedPercent),
            b'/' | b'\\' if !self.forms.encoded_slash => Err(Unmatchable::EncodedSlash),
            b';' if !self.forms.semicolon => Err(Unmatchable::Semicolon),
            b'#' if !self.forms.fragment => Err(Unmatchable::Fragment),
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => Err(Unmatchable::EncodedUnreserved),
            b if b.is_ascii_control() => Err(Unmatchable::ControlByte),
            _ => Ok(()),
        }
    }

    fn raw(&self, c: char) -> Result<(), Unmatchable> {
        match c {
            ';' if self.forms.semicolon => Ok(()),
            ';' => Err(Unmatchable::Semicolon),
            '\\' if self.forms.backslash => Ok(()),
            '?' => Err(Unmatchable::Query),
            c if c.is_ascii_control() => Err(Unmatchable::ControlByte),
            c if c.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@".contains(c) => Ok(()),
            c => Err(Unmatchable::RawCharacter(c)),
        }
    }
}

/// Whether the last escape of `text` lacks digits.
fn ends_inside_escape(text: &str) -> bool {
    text.rfind('%').is_some_and(|at| text.len() - at < 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(function: Option<Function>, pattern: &str) -> Result<(), Unmatchable> {
        let comparison = function.map_or(Comparison::Equal, Comparison::Call);
        matchable(comparison, pattern, PathForms::default())
    }

    #[test]
    fn patterns_that_no_canonical_path_matches_are_named() {
        use Function as F;
        use Unmatchable as U;
        for (function, pattern, expected) in [
            (None, "docs", U::NotAbsolute),
            (None, "", U::NotAbsolute),
            (None, "/a//b", U::EmptySegment),
            (None, "/a/./b", U::DotSegment),
            (None, "/a/..", U::DotSegment),
            (None, "/a%", U::PercentEncoding),
            (None, "/a%2", U::PercentEncoding),
            (None, "/a%zz", U::PercentEncoding),
            (None, "/a%c3%a9", U::LowerCaseHex),
            (None, "/%41", U::EncodedUnreserved),
            (None, "/a%25b", U::EncodedPercent),
            (None, "/a%2Fb", U::EncodedSlash),
            (None, "/a%5Cb", U::EncodedSlash),
            (None, "/a;b", U::Semicolon),
            (None, "/a%3Bb", U::Semicolon),
            (None, "/a%23b", U::Fragment),
            (None, "/a%00b", U::ControlByte),
            (None, "/a?b=c", U::Query),
            (None, "/é", U::RawCharacter('é')),
            (None, "/a b", U::RawCharacter(' ')),
            (None, "/a#b", U::RawCharacter('#')),
            (Some(F::KeyMatch), "docs/*", U::NotAbsolute),
            (Some(F::KeyMatch), "/a//*", U::EmptySegment),
            (Some(F::KeyMatch), "/a/../*", U::DotSegment),
            (Some(F::KeyMatch2), "users/:id", U::NotAbsolute),
            (Some(F::KeyMatch2), ":id", U::NotAbsolute),
            (Some(F::KeyMatch2), "/a//:id", U::EmptySegment),
            (Some(F::KeyMatch3), "/%2fa/{id}", U::LowerCaseHex),
            (Some(F::KeyMatch4), "users/{id}", U::NotAbsolute),
            (Some(F::KeyMatch5), "/a%25/*", U::EncodedPercent),
            (Some(F::RegexMatch), "^docs/.*", U::NotAbsolute),
            (Some(F::RegexMatch), "^/a//b.*", U::EmptySegment),
            (Some(F::GlobMatch), "docs/*", U::NotAbsolute),
            (Some(F::GlobMatch), "/a/%2F/*", U::EncodedSlash),
        ] {
            assert_eq!(check(function, pattern), Err(expected), "{function:?} {pattern}");
        }
    }

    #[test]
    fn patterns_that_some_path_matches_pass() {
        use Function as F;
        for (function, pattern) in [
            (None, "/"),
            (None, "/a/"),
            (None, "/a/...b/c.d"),
            (None, "/%C3%A9/%20x"),
            (Some(F::KeyMatch), "*"),
            (Some(F::KeyMatch), "/a/.*"),
            (Some(F::KeyMatch), "/a/..*"),
            (Some(F::KeyMatch), "/a%*"),
            (Some(F::KeyMatch), "/a%C*"),
            (Some(F::KeyMatch2), "/*"),
            (Some(F::KeyMatch2), "/a/:x/../b"), // in a regex a dot is any character
            (Some(F::KeyMatch2), "/users/:id/*"),
            (Some(F::KeyMatch3), "/{a}-{b}"),
            (Some(F::RegexMatch), "docs"),
            (Some(F::RegexMatch), "^/a/?/b"),
            (Some(F::RegexMatch), "^(docs|/x)"),
            (Some(F::RegexMatch), "^x|^/y"),
            (Some(F::GlobMatch), "**/x"),
            (Some(F::GlobMatch), "/a/{b,c}"),
        ] {
            assert_eq!(check(function, pattern), Ok(()), "{function:?} {pattern}");
        }
    }

    #[test]
    fn what_a_service_opts_in_to_can_be_matched() {
        let forms = PathForms {
            encoded_slash: true,
            encoded_percent: true,
            semicolon: true,
            fragment: true,
            backslash: true,
            empty_segment: true,
        };
        for pattern in ["/a%2Fb", "/a%25b", "/a;b%3B", "/a%23", "/a\\b", "//a"] {
            assert_eq!(matchable(Comparison::Equal, pattern, forms), Ok(()), "{pattern}");
        }
    }
}
