//! Paths to ask about, made from patterns: what stands there as it stands, and a word that no pattern has wherever
//! anything may stand, one segment and several deep.

use std::collections::{BTreeSet, HashSet};

use regex_syntax::hir::{Class, Hir, HirKind};

use super::language::{Plain, Symbol, meet, plain};
use super::shape::{Column, How};
use crate::policy::Policy;
use crate::policy::patterns::regex_source;

/// How many ways a pattern that is not plain is filled in.
const WAYS: usize = 6;
/// The longest path that is made, in bytes.
const MOST_BYTES: usize = 8 * 1024;

/// Makes paths for the patterns of a column.
#[derive(Debug)]
pub struct Witnesses<'p> {
    policy: &'p Policy,
    column: Option<&'p Column>,
    word: String,
}

impl<'p> Witnesses<'p> {
    /// For the path column of `policy`; `word` is one that occurs in no pattern: see [`fresh_word`].
    pub fn of(policy: &'p Policy, column: Option<&'p Column>, word: &str) -> Self {
        Self { policy, column, word: word.to_owned() }
    }

    /// Paths that `field` matches; none if none could be made. The most general comes first.
    pub fn of_field(&self, field: &str) -> Vec<String> {
        let Some(column) = self.column else { return vec![format!("/{}", self.word)] };
        if column.is_free(field) {
            return self.fill(&[Symbol::Char('/'), Symbol::Rest]);
        }
        let mut paths = Vec::new();
        for how in &column.hows {
            match plain(how, field) {
                Some(symbols) => paths.extend(self.fill(&symbols)),
                None => paths.extend(self.odd(how, field)),
            }
        }
        let mut seen = HashSet::new();
        paths.retain(|path| {
            path.starts_with('/') && column.matches(self.policy, field, path) && seen.insert(path.clone())
        });
        paths
    }

    /// Paths that both fields match, as far as any could be made.
    pub fn of_both(&self, a: &str, b: &str) -> Vec<String> {
        let Some(column) = self.column else { return self.of_field(a) };
        let symbols = |field: &str| self.symbols(field);
        let mut paths = match (symbols(a), symbols(b)) {
            (Some(a), Some(b)) => meet(&a, &b).map(|both| self.fill(&both)).unwrap_or_default(),
            _ => self.of_field(a).into_iter().chain(self.of_field(b)).collect(),
        };
        let both = |path: &String| {
            [a, b].iter().all(|field| column.is_free(field) || column.matches(self.policy, field, path))
        };
        paths.retain(|path| path.starts_with('/') && both(path));
        paths
    }

    /// A field as a plain pattern, if it is compared in one way, or free.
    pub fn symbols(&self, field: &str) -> Option<Plain> {
        let column = self.column?;
        if column.is_free(field) {
            return Some(vec![Symbol::Char('/'), Symbol::Rest]);
        }
        match column.hows.iter().filter(|how| !matches!(how, How::Literal(_))).collect::<Vec<_>>().as_slice()
        {
            [how] => plain(how, field),
            // A pattern matches itself where it has no wildcards, so that the other way adds nothing to it.
            [How::Equal, how] | [how, How::Equal] => plain(how, field),
            _ => None,
        }
    }

    /// A plain pattern with each wildcard filled: the rest one segment deep, several, and empty.
    fn fill(&self, symbols: &[Symbol]) -> Vec<String> {
        let word = &self.word;
        let ends: &[String] = match symbols.last() {
            Some(Symbol::Rest) => &[word.clone(), format!("{word}/{word}/{word}"), String::new()],
            _ => &[String::new()],
        };
        let mut stem = String::new();
        for symbol in symbols {
            match symbol {
                Symbol::Char(c) => stem.push(*c),
                Symbol::Segment => stem.push_str(word),
                Symbol::Rest => {}
            }
        }
        // A rest that is everything lacks its slash.
        let slash = if stem.is_empty() { "/" } else { "" };
        ends.iter().map(|end| format!("{slash}{stem}{end}")).collect()
    }

    /// Candidates for a pattern that is not plain; not all of them need match.
    fn odd(&self, how: &How, field: &str) -> Vec<String> {
        let How::Pattern(function) = how else {
            // Roles of paths: the names that have this one.
            let linked = |from: &&str| how.matches(self.policy, field, from);
            let names = self.policy.links().iter().filter_map(|link| Some(link.fields.first()?.as_str()));
            return names.filter(linked).map(str::to_owned).take(WAYS).chain([field.to_owned()]).collect();
        };
        let Some(source) = regex_source(*function, field) else { return Vec::new() };
        let parsed = regex_syntax::ParserBuilder::new().utf8(false).build().parse(&source);
        let Ok(tree) = parsed else { return Vec::new() };
        let mut paths = Vec::new();
        for way in 0..WAYS {
            let mut path = Vec::new();
            self.write(&tree, way, &mut path);
            if let Ok(path) = String::from_utf8(path)
                && path.len() <= MOST_BYTES
            {
                paths.push(format!("/{}", path.trim_start_matches('/')));
            }
        }
        paths
    }

    /// Writes one text that `tree` matches, apart from look-arounds; `way` chooses among alternatives and lengths.
    fn write(&self, tree: &Hir, way: usize, out: &mut Vec<u8>) {
        if out.len() > MOST_BYTES {
            return;
        }
        match tree.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => out.extend_from_slice(&literal.0),
            HirKind::Class(class) => out.extend(one_of(class)),
            HirKind::Capture(capture) => self.write(&capture.sub, way, out),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.write(part, way, out)),
            HirKind::Alternation(parts) => {
                if let Some(part) = parts.get(way % parts.len().max(1)) {
                    self.write(part, way / parts.len().max(1), out);
                }
            }
            HirKind::Repetition(repetition) => {
                let word_fits = repetition.max.is_none() && takes_words(&repetition.sub);
                if word_fits && usize::try_from(repetition.min).is_ok_and(|min| min <= self.word.len()) {
                    out.extend_from_slice(self.word.as_bytes());
                    return;
                }
                let most = repetition.max.unwrap_or(u32::MAX);
                let times = repetition.min.saturating_add(u32::from(way.is_multiple_of(2))).min(most).min(64);
                (0..times).for_each(|_| self.write(&repetition.sub, way, out));
            }
        }
    }
}

/// Names of services for what stands in a service column.
#[derive(Debug)]
pub struct Services<'p> {
    policy: &'p Policy,
    column: Option<&'p Column>,
    /// Every field that is a name and no pattern.
    named: BTreeSet<&'p str>,
}

impl<'p> Services<'p> {
    /// For the service column of `policy`.
    pub fn of(policy: &'p Policy, column: Option<&'p Column>) -> Self {
        let fields = policy.rows().iter().filter_map(|row| Some(column?.field(row)));
        let named = fields.filter(|field| {
            column.is_some_and(|column| !column.is_free(field) && column.matches(policy, field, field))
        });
        Self { policy, column, named: named.collect() }
    }

    /// The names that rows have.
    pub fn named(&self) -> impl Iterator<Item = &'p str> {
        self.named.iter().copied()
    }

    /// A service that `field` matches: itself where it is a name, or else one that another row names.
    pub fn of_field(&self, field: &str) -> String {
        let Some(column) = self.column else { return field.to_owned() };
        let free = column.is_free(field);
        let fits = |name: &&&str| free || column.matches(self.policy, field, name);
        match self.named.get(field) {
            Some(name) => (*name).to_owned(),
            None => self.named.iter().find(fits).map_or_else(|| field.to_owned(), |name| (*name).to_owned()),
        }
    }
}

/// A word that is part of none of `texts`.
pub fn fresh_word<'t>(texts: impl Iterator<Item = &'t str> + Clone) -> String {
    let mut word = "any".to_owned();
    while texts.clone().any(|text| text.contains(&word)) {
        word.push('y');
    }
    word
}

/// Whether a class has all small letters.
fn takes_words(tree: &Hir) -> bool {
    match tree.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            class.iter().any(|range| range.start() <= 'a' && 'z' <= range.end())
        }
        HirKind::Class(Class::Bytes(class)) => {
            class.iter().any(|range| range.start() <= b'a' && b'z' <= range.end())
        }
        HirKind::Capture(capture) => takes_words(&capture.sub),
        _ => false,
    }
}

/// A character of a class that a path can have, where there is one.
fn one_of(class: &Class) -> Option<u8> {
    let has = |wanted: u8| match class {
        Class::Unicode(class) => {
            class.iter().any(|range| (range.start()..=range.end()).contains(&char::from(wanted)))
        }
        Class::Bytes(class) => class.iter().any(|range| (range.start()..=range.end()).contains(&wanted)),
    };
    let letters = b'a'..=b'z';
    letters.chain(b'A'..=b'Z').chain(b'0'..=b'9').chain(*b"-._~/!$&'()*+,=:@%").find(|byte| has(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::review::shape::Shape;
    use crate::policy::review::testing::paths_by;

    fn made(function: &str, field: &str) -> Vec<String> {
        let policy = paths_by(function, &format!("p, role:a, app, \"{field}\", GET, allow\n"));
        let shape = Shape::of(&policy);
        Witnesses::of(&policy, shape.path.as_ref(), "any").of_field(field)
    }

    #[test]
    fn wildcards_are_filled_one_and_several_deep() {
        assert_eq!(made("keyMatch2", "/docs/*"), ["/docs/any", "/docs/any/any/any", "/docs/"]);
        assert_eq!(made("keyMatch2", "/users/:id/x"), ["/users/any/x"]);
        assert_eq!(made("keyMatch", "*"), ["/any", "/any/any/any", "/"]);
    }

    #[test]
    fn a_pattern_of_any_kind_has_an_example() {
        for (function, field, example) in [
            ("keyMatch2", "/a.b/:id", "/aab/any"),
            ("keyMatch4", "/{a}/x/{a}", "/any/x/any"),
            ("regexMatch", "^/(docs|reports)/[0-9]+$", "/docs/00"),
            ("regexMatch", "^/(docs|reports)/[0-9]+$", "/reports/0"),
            ("regexMatch", "secret", "/secret"),
            ("globMatch", "/a/*/b", "/a/any/b"),
            ("globMatch", "/a/**", "/a/any"),
        ] {
            let paths = made(function, field);
            assert!(paths.iter().any(|path| path == example), "{function} {field}: {paths:?}");
        }
    }

    #[test]
    fn a_path_for_two_patterns_is_one_that_both_match() {
        let policy = paths_by(
            "keyMatch2",
            "p, role:a, app, /docs/*, GET, allow\np, role:a, app, /:x/secret, GET, allow\np, role:a, app, /b, GET, allow\n",
        );
        let shape = Shape::of(&policy);
        let witnesses = Witnesses::of(&policy, shape.path.as_ref(), "any");
        assert_eq!(witnesses.of_both("/docs/*", "/:x/secret"), ["/docs/secret"]);
        assert_eq!(witnesses.of_both("/docs/*", "/b"), Vec::<String>::new());
    }

    #[test]
    fn a_fresh_word_is_in_no_pattern() {
        assert_eq!(fresh_word(["/a", "/b"].into_iter()), "any");
        assert_eq!(fresh_word(["/company/*"].into_iter()), "anyy");
    }
}
