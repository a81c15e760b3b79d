//! The canonical path: the one reading of a request's path that routing, policy, record and upstream all use.
//!
//! A path has a canonical form if every origin reads it alike. Percent-encoded bytes are decoded only where RFC 3986
//! §2.3 calls them unreserved, hex digits are upper-cased (§6.2.2.1), and nothing else is touched: letter case,
//! a trailing slash or a trailing dot name another object. What origins read in more than one way is refused,
//! except where a service says by a [`Tolerance`] that its origin reads it one way; such bytes stay as sent.

use super::malformed::Malformed;

/// A path in canonical form: begins with `/`, printable ASCII only, no query, no fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalPath(Box<str>);

/// Kinds of ambiguous byte that a service may opt into, as a set. By default it is letter case alone, since to most
/// origins `/Admin` and `/admin` are two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance(u8);

impl Default for Tolerance {
    fn default() -> Self {
        Self::LETTER_CASE
    }
}

impl Tolerance {
    /// `%2F` and `%5C` inside a segment.
    pub const ENCODED_SLASH: Self = Self(1);
    /// `%25`.
    pub const ENCODED_PERCENT: Self = Self(2);
    /// `;` and `%3B`.
    pub const SEMICOLON: Self = Self(4);
    /// Encoded characters that some origins fold into a dot, a slash, or another byte that means something in a path.
    pub const LOOK_ALIKE: Self = Self(8);
    /// Letters that change where case is folded.
    pub const LETTER_CASE: Self = Self(16);

    /// None of these, not even letter case.
    pub const NONE: Self = Self(0);

    /// Both sets together.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A canonical path and the tolerances it needs. It may be used only where those are granted: see [`Reading::under`].
#[derive(Debug)]
pub struct Reading {
    path: CanonicalPath,
    needs: Tolerance,
}

impl Reading {
    /// Reads the raw path of a request target (without query).
    ///
    /// # Errors
    /// The first byte or segment that has more than one reading, or none.
    pub fn of(raw: &str) -> Result<Self, Malformed> {
        if !raw.starts_with('/') {
            return Err(Malformed::Target);
        }
        let mut canonical = String::with_capacity(raw.len());
        let mut needs = Tolerance::NONE;
        let mut encoded_high = false;
        let mut bytes = raw.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => {
                    let value = hex_pair(bytes.next(), bytes.next()).ok_or(Malformed::PercentEncoding)?;
                    match value {
                        _ if is_unreserved(value) => {
                            needs = needs.with(case_of(value));
                            canonical.push(char::from(value));
                            continue;
                        }
                        b'/' | b'\\' => needs = needs.with(Tolerance::ENCODED_SLASH),
                        b'%' => needs = needs.with(Tolerance::ENCODED_PERCENT),
                        b';' => needs = needs.with(Tolerance::SEMICOLON),
                        b'#' => return Err(Malformed::Fragment),
                        0x00..=0x1f | 0x7f => return Err(Malformed::ControlByte),
                        0x80.. => encoded_high = true,
                        _ => {}
                    }
                    canonical.push('%');
                    canonical.push(char::from(upper_hex(value >> 4)));
                    canonical.push(char::from(upper_hex(value & 0x0f)));
                }
                b';' => {
                    needs = needs.with(Tolerance::SEMICOLON);
                    canonical.push(';');
                }
                b'\\' => return Err(Malformed::Backslash),
                b'#' => return Err(Malformed::Fragment),
                0x00..=0x20 | 0x7f => return Err(Malformed::ControlByte),
                _ if is_unreserved(byte) || is_path_delimiter(byte) => {
                    needs = needs.with(case_of(byte));
                    canonical.push(char::from(byte));
                }
                _ => return Err(Malformed::RawByte),
            }
        }
        if encoded_high {
            needs = needs.with(check_utf8(&canonical)?);
        }
        check_segments(&canonical, needs)?;
        Ok(Self { path: CanonicalPath(canonical.into_boxed_str()), needs })
    }

    /// The path as read so far, good for finding its service and nothing else.
    pub fn for_routing(&self) -> &str {
        &self.path.0
    }

    /// The path, for a service that grants `granted`.
    ///
    /// # Errors
    /// The first kind of ambiguity the service has not opted into.
    pub fn under(self, granted: Tolerance) -> Result<CanonicalPath, Malformed> {
        for (need, fault) in [
            (Tolerance::ENCODED_PERCENT, Malformed::EncodedPercent),
            (Tolerance::ENCODED_SLASH, Malformed::EncodedSlash),
            (Tolerance::SEMICOLON, Malformed::Semicolon),
            (Tolerance::LOOK_ALIKE, Malformed::LookAlike),
            (Tolerance::LETTER_CASE, Malformed::LetterCase),
        ] {
            if self.needs.covers(need) && !granted.covers(need) {
                return Err(fault);
            }
        }
        Ok(self.path)
    }
}

impl CanonicalPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This path with the leading `from` replaced by `to`; unchanged if it does not begin with `from` at a segment's
    /// border. Both are canonical prefixes as [`covers_prefix`] reads them.
    pub fn rewritten(self, from: &str, to: &str) -> Self {
        let Some(rest) = prefix_rest(from, &self.0) else { return self };
        let head = to.strip_suffix('/').unwrap_or(to);
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        if rest.is_empty() && !self.0.ends_with('/') && !head.is_empty() {
            return Self(head.into());
        }
        Self(format!("{head}/{rest}").into_boxed_str())
    }
}

/// Whether `path` lies at or under `prefix`, at a segment's border: `/a` covers `/a` and `/a/b`, not `/ab`.
pub fn covers_prefix(prefix: &str, path: &str) -> bool {
    prefix_rest(prefix, path).is_some()
}

fn prefix_rest<'p>(prefix: &str, path: &'p str) -> Option<&'p str> {
    let bare = prefix.strip_suffix('/').unwrap_or(prefix);
    let rest = path.strip_prefix(bare)?;
    (rest.is_empty() && !prefix.ends_with('/') || rest.starts_with('/')).then_some(rest)
}

/// Refuses empty and dot segments; where an encoded slash is tolerated it separates segments too, since the origin
/// that asked for it may decode it before it resolves dots.
fn check_segments(canonical: &str, needs: Tolerance) -> Result<(), Malformed> {
    let path = canonical.strip_prefix('/').unwrap_or(canonical);
    if path.is_empty() {
        return Ok(());
    }
    let decoded;
    let path = if needs.covers(Tolerance::ENCODED_SLASH) {
        decoded = path.replace("%2F", "/").replace("%5C", "/");
        decoded.as_str()
    } else {
        path
    };
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        // Path parameters are cut by the origins that know them: `/..;x/` is a dot segment to those.
        let name = segment.split(';').next().unwrap_or(segment);
        let name = name.split("%3B").next().unwrap_or(name);
        if name == "." || name == ".." {
            return Err(Malformed::DotSegment);
        }
        // `/;x/` is `//` to those.
        if name.is_empty() && (segments.peek().is_some() || !segment.is_empty()) {
            return Err(Malformed::EmptySegment);
        }
    }
    Ok(())
}

/// Refuses encoded bytes that do not make UTF-8 (overlong forms and surrogates among them), and C1 controls; returns
/// what the characters need.
fn check_utf8(canonical: &str) -> Result<Tolerance, Malformed> {
    let mut decoded = Vec::with_capacity(canonical.len());
    let mut bytes = canonical.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_pair(bytes.next(), bytes.next()).ok_or(Malformed::PercentEncoding)?,
            _ => byte,
        });
    }
    let text = std::str::from_utf8(&decoded).map_err(|_| Malformed::Utf8)?;
    if text.chars().any(char::is_control) {
        return Err(Malformed::ControlByte);
    }
    let mut needs = Tolerance::NONE;
    if text.chars().any(is_look_alike) {
        needs = needs.with(Tolerance::LOOK_ALIKE);
    }
    if text.chars().any(folds) {
        needs = needs.with(Tolerance::LETTER_CASE);
    }
    Ok(needs)
}

const fn case_of(byte: u8) -> Tolerance {
    if byte.is_ascii_uppercase() { Tolerance::LETTER_CASE } else { Tolerance::NONE }
}

/// Whether an origin that folds case, by either case, may read `c` as another character: capitals, and letters such as
/// the long s and the Kelvin sign whose other case is that of an ASCII letter.
fn folds(c: char) -> bool {
    !c.to_uppercase().flat_map(char::to_lowercase).eq([c])
}

/// Whether origins that fold characters may read `c` as one of `. / \ ; % # ?`: by Unicode's compatibility
/// decompositions (UAX #15, NFKC), or by the best-fit tables of Windows code pages.
const fn is_look_alike(c: char) -> bool {
    matches!(
        c,
        // Full stops and leaders.
        '\u{2024}'
            ..='\u{2026}' | '\u{fe19}' | '\u{fe52}' | '\u{ff0e}'
        // Solidi, and letters with one between.
        | '\u{2044}' | '\u{2215}' | '\u{ff0f}' | '\u{2100}' | '\u{2101}' | '\u{2105}' | '\u{2106}'
        // Reverse solidi.
        | '\u{2216}' | '\u{fe68}' | '\u{ff3c}'
        // Semicolons.
        | '\u{37e}' | '\u{fe14}' | '\u{fe54}' | '\u{ff1b}'
        // Percent, number and question signs.
        | '\u{fe6a}' | '\u{ff05}' | '\u{fe5f}' | '\u{ff03}' | '\u{fe16}' | '\u{fe56}' | '\u{ff1f}'
    )
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What RFC 3986 §3.3 allows raw in a path beside unreserved bytes, less `;`.
const fn is_path_delimiter(byte: u8) -> bool {
    matches!(byte, b'/' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high?)? << 4 | digit(low?)?)
}

const fn upper_hex(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(raw: &str) -> Result<String, Malformed> {
        read_under(raw, Tolerance::default())
    }

    fn read_under(raw: &str, granted: Tolerance) -> Result<String, Malformed> {
        Ok(Reading::of(raw)?.under(granted)?.as_str().to_owned())
    }

    #[test]
    fn a_path_with_one_reading_is_kept_or_normalized() {
        for (raw, canonical) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/%61dmin", "/admin"),
            ("/a%2db", "/a-b"),
            ("/a%20b", "/a%20b"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a%3fb", "/a%3Fb"),
            ("/ADMIN", "/ADMIN"),
            ("/admin.", "/admin."),
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
            ("/%7euser", "/~user"),
        ] {
            assert_eq!(read(raw).as_deref(), Ok(canonical), "{raw}");
        }
    }

    #[test]
    fn an_ambiguous_path_is_refused_by_name() {
        use Malformed as M;
        for (raw, fault) in [
            ("", M::Target),
            ("admin", M::Target),
            ("*", M::Target),
            ("/public/../admin", M::DotSegment),
            ("/public/%2e%2e/admin", M::DotSegment),
            ("/public/.%2E/admin", M::DotSegment),
            ("/a/.", M::DotSegment),
            ("/..", M::DotSegment),
            ("/public%2f..%2fadmin", M::DotSegment),
            ("/public%2fx", M::EncodedSlash),
            ("/public%5Cx", M::EncodedSlash),
            ("/a\\b", M::Backslash),
            ("/public/%252e%252e/admin", M::EncodedPercent),
            ("/admin;x=y/action", M::Semicolon),
            ("/admin%3bx", M::Semicolon),
            ("/public/..;x=y/admin", M::DotSegment),
            ("/admin#x", M::Fragment),
            ("/admin%23x", M::Fragment),
            ("//admin", M::EmptySegment),
            ("/a//b", M::EmptySegment),
            ("/a//", M::EmptySegment),
            ("/admin%00", M::ControlByte),
            ("/admin/a%0ab", M::ControlByte),
            ("/a b", M::ControlByte),
            ("/a%7f", M::ControlByte),
            ("/%c2%85", M::ControlByte),
            ("/%c0%ae", M::Utf8),
            ("/%ff", M::Utf8),
            ("/%ed%a0%80", M::Utf8),
            ("/a%zz", M::PercentEncoding),
            ("/%", M::PercentEncoding),
            ("/%4", M::PercentEncoding),
            ("/%+1", M::PercentEncoding),
            ("/é", M::RawByte),
            ("/a|b", M::RawByte),
            ("/a\"b", M::RawByte),
        ] {
            assert_eq!(read(raw), Err(fault), "{raw}");
        }
    }

    #[test]
    fn a_tolerated_byte_stays_as_sent_and_hides_no_dot_segment() {
        let slash = Tolerance::ENCODED_SLASH;
        assert_eq!(read_under("/a%2fb", slash).as_deref(), Ok("/a%2Fb"));
        assert_eq!(read_under("/a%2f..%2fb", slash), Err(Malformed::DotSegment));
        assert_eq!(read_under("/a%2f%2fb", slash), Err(Malformed::EmptySegment));
        assert_eq!(read_under("/a;b", Tolerance::SEMICOLON).as_deref(), Ok("/a;b"));
        assert_eq!(read_under("/..;b", Tolerance::SEMICOLON), Err(Malformed::DotSegment));
        assert_eq!(read_under("/;x/b", Tolerance::SEMICOLON), Err(Malformed::EmptySegment));
        assert_eq!(read_under("/a/;x", Tolerance::SEMICOLON), Err(Malformed::EmptySegment));
        assert_eq!(read_under("/..%3bb", Tolerance::SEMICOLON), Err(Malformed::DotSegment));
        assert_eq!(read_under("/a%25b", Tolerance::ENCODED_PERCENT).as_deref(), Ok("/a%25b"));
        assert_eq!(read_under("/a%25b", slash), Err(Malformed::EncodedPercent));
    }

    #[test]
    fn a_prefix_covers_at_segment_borders_only() {
        for (prefix, path, covers) in [
            ("/", "/", true),
            ("/", "/a", true),
            ("/a", "/a", true),
            ("/a", "/a/", true),
            ("/a", "/a/b", true),
            ("/a", "/ab", false),
            ("/a/", "/a", false),
            ("/a/", "/a/b", true),
        ] {
            assert_eq!(covers_prefix(prefix, path), covers, "{prefix} {path}");
        }
    }

    #[test]
    fn a_rewrite_leaves_a_canonical_path() {
        for (from, to, path, expect) in [
            ("/api", "/", "/api/x", "/x"),
            ("/api", "/", "/api", "/"),
            ("/api", "/", "/api/", "/"),
            ("/api", "/v2", "/api/x", "/v2/x"),
            ("/api", "/v2", "/api", "/v2"),
            ("/api", "/v2", "/api/", "/v2/"),
            ("/", "/v2", "/x", "/v2/x"),
            ("/api", "/v2", "/apix", "/apix"),
        ] {
            let path = Reading::of(path).unwrap().under(Tolerance::default()).unwrap();
            assert_eq!(path.rewritten(from, to).as_str(), expect);
        }
    }

    proptest! {
        #[test]
        fn a_canonical_path_reads_as_itself(raw in "/([a-zA-Z0-9./;%+:~-]|%[0-9a-fA-F]{2}){0,24}") {
            if let Ok(path) = read(&raw) {
                prop_assert_eq!(read(&path), Ok(path.clone()));
                prop_assert!(!path.contains("//") && !path.split('/').any(|s| s == "." || s == ".."));
            }
        }
    }
}
