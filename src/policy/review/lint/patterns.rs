//! Patterns of paths that mean something else than they look like.

use std::collections::BTreeMap;

use super::super::shape::{How, Ruling};
use super::{Code, Look};
use crate::policy::patterns::Function;
use crate::policy::rows::Row;

/// What is wrong with a pattern: its kind, what it does, and what to write.
type Trap = (Code, String, &'static str);

/// Looks at every path pattern.
pub(super) fn look(look: &mut Look<'_>) {
    let Some(path) = &look.shape.path else { return };
    let patterns = path.hows.iter().any(|how| matches!(how, How::Pattern(_)));
    let mut rows: BTreeMap<(&str, Ruling), Vec<&Row>> = BTreeMap::new();
    for row in look.policy.rows().iter().filter(|row| !path.is_free(path.field(row))) {
        rows.entry((path.field(row), look.shape.ruling(row))).or_default().push(row);
    }
    for ((field, ruling), rows) in rows {
        let mut found = Vec::new();
        for how in &path.hows {
            match how {
                How::Equal if !patterns => found.extend(of_literal(field, "==")),
                How::Pattern(function) => found.extend(traps(*function, field)),
                How::Equal | How::Literal(_) | How::Linked(_) => {}
            }
        }
        // What a denial misses is told where something allows it.
        if ruling == Ruling::Allow {
            found.extend(encoded_delimiter(field));
        }
        for (code, what, advice) in found {
            rows.iter().for_each(|row| look.find(code, row, what.clone(), advice));
        }
    }
}

/// What is wrong with `pattern` under `function`.
fn traps(function: Function, pattern: &str) -> Vec<Trap> {
    match function {
        Function::KeyMatch => of_prefix(pattern),
        Function::KeyMatch2 => of_key(pattern, ":name", |pattern| pattern.contains('{')),
        Function::KeyMatch3 | Function::KeyMatch4 | Function::KeyMatch5 => {
            of_key(pattern, "{name}", |pattern| pattern.contains("/:"))
        }
        Function::RegexMatch => of_regex(pattern),
        Function::GlobMatch => of_glob(pattern),
        Function::KeyGet | Function::KeyGet2 | Function::KeyGet3 | Function::IpMatch => Vec::new(),
    }
}

fn of_literal(pattern: &str, by: &str) -> Vec<Trap> {
    let looks = pattern.contains('*') || pattern.contains("/:") || pattern.contains('{');
    let found = format!("`{pattern}` is compared by {by}, letter by letter");
    let advice = "use a function with wildcards in the matcher, such as keyMatch2";
    if looks { vec![(Code::LiteralWildcard, found, advice)] } else { Vec::new() }
}

fn of_prefix(pattern: &str) -> Vec<Trap> {
    let mut traps = Vec::new();
    if pattern.contains("/:") || pattern.contains('{') {
        let found = format!("keyMatch has no names: in `{pattern}` they are letters like any other");
        traps.push((
            Code::LiteralWildcard,
            found,
            "use keyMatch2 (:name) or keyMatch3 ({name}) in the matcher",
        ));
    }
    let Some((before, after)) = pattern.split_once('*') else { return traps };
    if !after.is_empty() {
        let found = format!("keyMatch ends at the first *: `{pattern}` is `{before}*`");
        traps.push((
            Code::TextAfterStar,
            found,
            "use keyMatch2 in the matcher, or end the pattern at its first *",
        ));
    }
    if !before.is_empty() && !before.ends_with('/') {
        let last = before.rsplit('/').next().unwrap_or(before);
        let found = format!("`{before}*` matches names that begin with `{last}`, too, such as `{before}-x`");
        traps.push((Code::Unanchored, found, "two rows, one for the name and one for what is below it (/*)"));
    }
    traps
}

/// keyMatch2 to keyMatch5, which are regular expressions but for `/*` and their names.
fn of_key(pattern: &str, name: &str, others_names: fn(&str) -> bool) -> Vec<Trap> {
    let mut traps = Vec::new();
    if others_names(pattern) {
        let found = format!("`{pattern}` has names of another function; here they are written {name}");
        traps.push((Code::LiteralWildcard, found, "write names as the matcher's function has them"));
    }
    traps.extend(dots(pattern));
    let bytes = pattern.as_bytes();
    for (at, _) in pattern.match_indices(['*', '+', '?']) {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        let star = bytes.get(at) == Some(&b'*');
        if before == Some(&b'/') && star && at + 1 < pattern.len() {
            let found = format!("the * in `{pattern}` matches several segments, not one");
            let advice =
                if name == ":name" { "for one segment write :name" } else { "for one segment write {name}" };
            traps.push((Code::StarCrosses, found, advice));
        } else if before
            .is_none_or(|before| before.is_ascii_alphanumeric() || b"-_~%!@,=&';:".contains(before))
        {
            let sign = bytes.get(at).map_or('*', |byte| char::from(*byte));
            let found = format!("the {sign} in `{pattern}` repeats the character before it");
            traps.push((Code::StarRepeats, found, "a wildcard is /* at the end, or a name for one segment"));
        }
    }
    if loose_alternation(&format!("^{pattern}$")) {
        let found = format!(
            "the | in `{pattern}` parts all before it from all after it, which may begin or end anyhow"
        );
        traps.push((Code::Alternation, found, "a row for each, or brackets around the alternatives"));
    }
    traps
}

fn of_regex(pattern: &str) -> Vec<Trap> {
    let mut traps: Vec<Trap> = dots(pattern).into_iter().collect();
    if loose_alternation(pattern) {
        let found = format!("in `{pattern}` not every alternative is held by ^ and $");
        traps.push((Code::Alternation, found, "write ^(a|b)$, with brackets around the alternatives"));
        return traps;
    }
    let ends = pattern.ends_with('$')
        || [".*", ".+", "/"].iter().any(|end| pattern.ends_with(end))
        || (pattern.ends_with(')') && pattern.contains("(/"));
    if !pattern.starts_with('^') && !pattern.starts_with(".*") {
        let found = format!("`{pattern}` is looked for anywhere in the path");
        traps.push((Code::Unanchored, found, "begin it with ^, and end it with $ where nothing may follow"));
    } else if !ends {
        let found =
            format!("`{pattern}` matches longer names, too, as in `{}-x`", pattern.trim_start_matches('^'));
        traps.push((Code::Unanchored, found, "end it with $, or with / where all below is meant"));
    }
    traps
}

fn of_glob(pattern: &str) -> Vec<Trap> {
    let mut traps = Vec::new();
    if pattern.contains("/:") {
        let found = format!("globMatch has no names: in `{pattern}` they are letters like any other");
        traps.push((Code::LiteralWildcard, found, "for one segment write *"));
    }
    if pattern.ends_with("/*") {
        let found = format!("the * in `{pattern}` ends at the next slash");
        traps.push((Code::OneLevel, found, "for all below write **"));
    }
    traps
}

/// A `.` that is not escaped, not in brackets and not repeated, in a path that has text around it.
fn dots(pattern: &str) -> Option<Trap> {
    let (mut escaped, mut bracket) = (false, false);
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => bracket = true,
            ']' => bracket = false,
            '.' if !bracket && !matches!(chars.peek(), Some('*' | '+' | '?' | '{')) => {
                let found = format!("the . in `{pattern}` is any character");
                return Some((Code::DotIsAny, found, "write \\. where a dot is meant"));
            }
            _ => {}
        }
    }
    None
}

/// Whether a `|` outside brackets parts a pattern into alternatives that are not all anchored at both ends.
fn loose_alternation(pattern: &str) -> bool {
    let (mut depth, mut escaped, mut class) = (0i32, false, false);
    let mut parts = vec![String::new()];
    for c in pattern.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            '(' if !class => depth += 1,
            ')' if !class => depth -= 1,
            '|' if !class && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    let held = |part: &String| part.starts_with('^') && (part.ends_with('$') || part.ends_with(".*"));
    parts.len() > 1 && !parts.iter().all(held)
}

/// An encoded byte that may stand in a path as it is: the two are different paths here, and one to most origins.
fn encoded_delimiter(pattern: &str) -> Option<Trap> {
    let (byte, raw) = super::slips::DELIMITERS.chars().find_map(|raw| {
        let encoded = format!("%{:02X}", u32::from(raw));
        pattern.contains(&encoded).then_some((encoded, raw))
    })?;
    let found = format!("`{pattern}` matches {byte} and not {raw}, which most origins take for the same");
    Some((Code::EncodedDelimiter, found, "add a row with the character itself, if that is meant as well"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::found_in;
    use super::*;
    use crate::policy::review::testing::{ALLOW_ONLY, paths_by, policy_of};

    fn codes(function: Function, pattern: &str) -> Vec<&'static str> {
        traps(function, pattern).iter().map(|(code, ..)| code.as_str()).collect()
    }

    #[test]
    fn patterns_that_mislead_are_told_and_those_beside_them_are_not() {
        use Function as F;
        let none: &[&str] = &[];
        for (function, pattern, expected) in [
            (F::KeyMatch, "/docs/*/edit", &["text-after-star"][..]),
            (F::KeyMatch, "/docs/*", none),
            (F::KeyMatch, "/docs*", &["unanchored"]),
            (F::KeyMatch, "*", none),
            (F::KeyMatch, "/users/:id", &["literal-wildcard"]),
            (F::KeyMatch, "/users/id", none),
            (F::KeyMatch2, "/favicon.ico", &["dot-is-any"]),
            (F::KeyMatch2, "/favicon\\.ico", none),
            (F::KeyMatch2, "/favicon[.]ico", none),
            (F::KeyMatch2, "/a/.*", none),
            (F::KeyMatch2, "/docs*", &["star-repeats"]),
            (F::KeyMatch2, "/docs/*", none),
            (F::KeyMatch2, "/c++", &["star-repeats"]),
            (F::KeyMatch2, "/docs/*/edit", &["star-crosses"]),
            (F::KeyMatch2, "/docs/:id/edit", none),
            (F::KeyMatch2, "/a|/b", &["alternation"]),
            (F::KeyMatch2, "/(a|b)", none),
            (F::KeyMatch2, "/users/{id}", &["literal-wildcard"]),
            (F::KeyMatch2, "/users/:id", none),
            (F::KeyMatch3, "/users/:id", &["literal-wildcard"]),
            (F::KeyMatch3, "/users/{id}", none),
            (F::KeyMatch4, "/v1.0/{id}", &["dot-is-any"]),
            (F::KeyMatch5, "/v1/{id}", none),
            (F::RegexMatch, "/docs/", &["unanchored"]),
            (F::RegexMatch, "^/docs", &["unanchored"]),
            (F::RegexMatch, "^/docs$", none),
            (F::RegexMatch, "^/docs/", none),
            (F::RegexMatch, "^/docs/.*", none),
            (F::RegexMatch, "^/docs(/.*)?$", none),
            (F::RegexMatch, "^/v1.0/", &["dot-is-any"]),
            (F::RegexMatch, "^/v1\\.0/", none),
            (F::RegexMatch, "^/a|/b$", &["alternation"]),
            (F::RegexMatch, "^(/a|/b)$", none),
            (F::RegexMatch, "^/a$|^/b$", none),
            (F::GlobMatch, "/docs/*", &["one-level"]),
            (F::GlobMatch, "/docs/**", none),
            (F::GlobMatch, "/users/:id", &["literal-wildcard"]),
        ] {
            assert_eq!(codes(function, pattern), expected, "{function} {pattern}");
        }
    }

    #[test]
    fn a_pattern_is_judged_by_the_function_of_its_column() {
        let rows = "p, role:a, app, /docs/*/edit, GET, allow\n";
        let of = |function: &str| found_in(&paths_by(function, rows), rows, None);
        assert_eq!(of("keyMatch"), [("text-after-star", 1)]);
        assert_eq!(of("keyMatch2"), [("star-crosses", 1)]);
        let rows = "p, user:a, /docs/*\np, user:a, /docs\n";
        let by = |matcher: &str| {
            let policy = policy_of("r = sub, obj", "p = sub, obj", ALLOW_ONLY, matcher, rows);
            found_in(&policy, rows, None)
        };
        assert_eq!(by("r.sub == p.sub && r.obj == p.obj"), [("literal-wildcard", 1)]);
        assert_eq!(by("r.sub == p.sub && (r.obj == p.obj || keyMatch(r.obj, p.obj))"), []);
    }

    #[test]
    fn an_encoded_delimiter_in_an_allow_is_noted() {
        let rows = "p, role:a, app, /a%3Ab, GET, allow\np, role:a, app, /a@b, GET, allow\n";
        assert_eq!(found_in(&paths_by("keyMatch2", rows), rows, None), [("encoded-delimiter", 1)]);
    }
}
