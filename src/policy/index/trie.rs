//! Which path patterns may match a value: a tree of segments.
//!
//! A pattern goes in as the steps that every value it matches takes; what it asks beyond them, and whatever its steps
//! overlook, is for the pattern itself to say. So this may find too many patterns, but must never miss one.

use std::collections::BTreeMap;

use hashbrown::{Equivalent, HashMap};

use crate::policy::patterns::Step;

/// Patterns by number.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    /// Where a segment leads from a node.
    edges: HashMap<(u32, Box<str>), u32>,
}

/// A place between two segments.
#[derive(Debug, Default)]
struct Node {
    /// Where any segment leads that is not empty.
    any: Option<u32>,
    /// Where a segment leads that goes on after one of these.
    longer: Prefixes<u32>,
    /// Patterns that take everything that goes on like this.
    rest: Prefixes<Vec<u32>>,
    /// Patterns that end here.
    here: Vec<u32>,
}

/// An edge to look up without owning its segment.
#[derive(Hash)]
struct Edge<'a>(u32, &'a str);

impl Equivalent<(u32, Box<str>)> for Edge<'_> {
    fn equivalent(&self, key: &(u32, Box<str>)) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

/// A trie being built.
#[derive(Debug)]
pub(super) struct Builder {
    nodes: Vec<Draft>,
    edges: HashMap<(u32, Box<str>), u32>,
}

#[derive(Debug, Default)]
struct Draft {
    any: Option<u32>,
    longer: BTreeMap<Box<str>, u32>,
    rest: BTreeMap<Box<str>, Vec<u32>>,
    here: Vec<u32>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Draft::default()], edges: HashMap::new() }
    }

    /// Adds a pattern. A [`Step::Segment`] must end its segment: a literal after it begins with a slash.
    pub(super) fn add(&mut self, steps: &[Step], id: u32) {
        let mut node = 0;
        // What the segment begins with, until it ends; `None` once a wildcard has ended it.
        let mut begun = Some(String::new());
        for step in steps {
            match step {
                Step::Literal(text) => {
                    let mut segments = text.split('/');
                    if let (Some(begun), Some(more)) = (&mut begun, segments.next()) {
                        begun.push_str(more);
                    }
                    for segment in segments {
                        if let Some(begun) = begun.replace(segment.to_owned()) {
                            node = self.child(node, begun);
                        }
                    }
                }
                Step::Segment => {
                    let begun = begun.take().unwrap_or_default();
                    node = if begun.is_empty() { self.any(node) } else { self.longer(node, begun) };
                }
                Step::Rest => {
                    let begun = begun.unwrap_or_default().into_boxed_str();
                    if let Some(node) = self.nodes.get_mut(node as usize) {
                        node.rest.entry(begun).or_default().push(id);
                    }
                    return;
                }
            }
        }
        if let Some(begun) = begun {
            node = self.child(node, begun);
        }
        if let Some(node) = self.nodes.get_mut(node as usize) {
            node.here.push(id);
        }
    }

    fn child(&mut self, from: u32, segment: String) -> u32 {
        let fresh = self.fresh();
        let to = *self.edges.entry((from, segment.into_boxed_str())).or_insert(fresh);
        self.keep(fresh, to)
    }

    fn any(&mut self, from: u32) -> u32 {
        let fresh = self.fresh();
        let to = self.nodes.get_mut(from as usize).map_or(fresh, |node| *node.any.get_or_insert(fresh));
        self.keep(fresh, to)
    }

    fn longer(&mut self, from: u32, prefix: String) -> u32 {
        let fresh = self.fresh();
        let to = self
            .nodes
            .get_mut(from as usize)
            .map_or(fresh, |node| *node.longer.entry(prefix.into_boxed_str()).or_insert(fresh));
        self.keep(fresh, to)
    }

    /// The number of the next node. There are fewer than there are bytes of patterns, which are far below 2³².
    fn fresh(&self) -> u32 {
        u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    /// Makes the node `fresh` if `to` is it.
    fn keep(&mut self, fresh: u32, to: u32) -> u32 {
        if fresh == to {
            self.nodes.push(Draft::default());
        }
        to
    }

    pub(super) fn build(self) -> Trie {
        let mut edges = self.edges;
        edges.shrink_to_fit();
        let node = |draft: Draft| Node {
            any: draft.any,
            longer: Prefixes::of(draft.longer),
            rest: Prefixes::of(draft.rest),
            here: draft.here,
        };
        Trie { nodes: self.nodes.into_iter().map(node).collect(), edges }
    }
}

impl Trie {
    /// Calls `found` with every pattern that may match `value`.
    pub(super) fn find(&self, value: &str, found: &mut impl FnMut(u32)) {
        self.find_below(0, value, found);
    }

    fn find_below(&self, at: u32, left: &str, found: &mut impl FnMut(u32)) {
        let Some(node) = self.nodes.get(at as usize) else { return };
        node.rest.of_text(left, |_, ids| ids.iter().copied().for_each(&mut *found));
        let (segment, after) = match left.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (left, None),
        };
        if let Some(&to) = self.edges.get(&Edge(at, segment)) {
            self.go(to, after, found);
        }
        if segment.is_empty() {
            return;
        }
        if let Some(to) = node.any {
            self.go(to, after, found);
        }
        node.longer.of_text(segment, |prefix, &to| {
            if segment.len() > prefix.len() {
                self.go(to, after, found);
            }
        });
    }

    fn go(&self, to: u32, after: Option<&str>, found: &mut impl FnMut(u32)) {
        match after {
            Some(after) => self.find_below(to, after, found),
            None => {
                if let Some(node) = self.nodes.get(to as usize) {
                    node.here.iter().copied().for_each(found);
                }
            }
        }
    }
}

/// Texts, each with a value, to be found as the beginnings of another text.
#[derive(Debug)]
struct Prefixes<T> {
    /// Sorted by text.
    entries: Vec<Prefix<T>>,
}

#[derive(Debug)]
struct Prefix<T> {
    text: Box<str>,
    value: T,
    /// The longest other text that this one begins with.
    shorter: Option<u32>,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> Prefixes<T> {
    fn of(texts: BTreeMap<Box<str>, T>) -> Self {
        let mut entries: Vec<Prefix<T>> = Vec::with_capacity(texts.len());
        for (text, value) in texts {
            // Whatever this one begins with comes before it, and is a beginning of all between.
            let mut before = entries.len().checked_sub(1).and_then(|last| u32::try_from(last).ok());
            while let Some(entry) = before.and_then(|at| entries.get(at as usize)) {
                if text.starts_with(&*entry.text) {
                    break;
                }
                before = entry.shorter;
            }
            entries.push(Prefix { text, value, shorter: before });
        }
        Self { entries }
    }

    /// Calls `found` with every text that `text` begins with, and its value.
    fn of_text(&self, text: &str, mut found: impl FnMut(&str, &T)) {
        if self.entries.is_empty() {
            return;
        }
        let after = self.entries.partition_point(|entry| &*entry.text <= text);
        let mut at = after.checked_sub(1);
        while let Some(entry) = at.and_then(|at| self.entries.get(at)) {
            if text.starts_with(&*entry.text) {
                found(&entry.text, &entry.value);
            }
            at = entry.shorter.map(|at| at as usize);
        }
    }
}

#[cfg(test)]
mod checks {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_beginnings_of_a_text_are_found_among_many() {
        let texts = ["", "a", "ab", "abc", "abd", "b", "ba", "c"];
        let prefixes = Prefixes::of(texts.iter().map(|text| (Box::from(*text), ())).collect());
        for text in ["", "a", "abcd", "abd", "abe", "b", "bb", "bab", "d", "é"] {
            let mut found = Vec::new();
            prefixes.of_text(text, |prefix, _| found.push(prefix.to_owned()));
            found.sort_unstable();
            let expected: Vec<&str> = texts.into_iter().filter(|prefix| text.starts_with(prefix)).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => "[ab/]{1,4}".prop_map(Step::Literal),
            2 => Just(Step::Segment),
            1 => Just(Step::Rest),
        ]
    }

    /// What the steps take, one by one.
    fn takes(steps: &[Step], value: &str) -> bool {
        match steps.split_first() {
            None => value.is_empty(),
            Some((Step::Literal(text), rest)) => {
                value.strip_prefix(text.as_str()).is_some_and(|left| takes(rest, left))
            }
            Some((Step::Segment, rest)) => {
                let end = value.find('/').unwrap_or(value.len());
                end > 0 && takes(rest, &value[end..])
            }
            Some((Step::Rest, _)) => true,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn every_pattern_that_matches_is_found(
            patterns in prop::collection::vec(prop::collection::vec(step(), 1..6), 1..8),
            value in "[ab/]{0,8}",
        ) {
            // As patterns come: nothing but a slash after a wildcard.
            let patterns: Vec<Vec<Step>> = patterns.into_iter().filter(|steps| steps.windows(2).all(|pair| match pair {
                [Step::Segment, Step::Literal(text)] => text.starts_with('/'),
                [Step::Segment, _] => false,
                _ => true,
            })).collect();
            let mut builder = Builder::new();
            for (id, steps) in (0u32..).zip(&patterns) {
                builder.add(steps, id);
            }
            let mut found = Vec::new();
            builder.build().find(&value, &mut |id| found.push(id));
            for (id, steps) in (0u32..).zip(&patterns) {
                prop_assert_eq!(found.contains(&id), takes(steps, &value), "{:?} {}", steps, value);
            }
        }
    }
}
