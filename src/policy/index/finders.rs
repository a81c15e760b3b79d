//! The matcher's tests, each with what finds the columns that satisfy it.

use std::sync::Arc;

use hashbrown::HashMap;

use super::closure::Closures;
use super::networks::Networks;
use super::trie::{self, Trie};
use crate::policy::asking::Tables;
use crate::policy::decide::Question;
use crate::policy::expression::{Term, Test};
use crate::policy::model::RequestName;
use crate::policy::patterns::{Function, Pattern, Shape, Step};
use crate::policy::roles::Overlay;
use crate::policy::rows::Row;

/// The methods whose answers are known beforehand.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The tests that are more than a comparison of two strings, by number.
#[derive(Debug)]
pub(super) struct Tests {
    pub(super) tables: Arc<Tables>,
    roles: Vec<RoleTest>,
    patterns: Vec<PatternTest>,
}

/// `g(r.x, p.y)`, or with a literal in place of the column.
#[derive(Debug)]
struct RoleTest {
    definition: usize,
    from: RequestName,
    domain: Option<Term>,
    closures: Closures,
}

/// `function(r.x, p.y)`.
#[derive(Debug)]
struct PatternTest {
    function: Function,
    value: RequestName,
    /// The distinct patterns of the column, by number.
    patterns: Vec<Arc<Pattern>>,
    finder: Finder,
    /// Of each of [`METHODS`], which patterns it matches, where methods are matched.
    methods: Vec<Vec<bool>>,
}

#[derive(Debug)]
enum Finder {
    Trie(Trie),
    Networks(Networks),
}

/// What has been found for the question at hand. Its room is used again by the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    roles: Vec<Found>,
    patterns: Vec<Found>,
    method: Option<usize>,
}

#[derive(Debug, Default)]
struct Found {
    done: bool,
    ids: Vec<u32>,
}

impl Scratch {
    /// Forgets the question before.
    pub(super) fn clear(&mut self, tests: &Tests, question: &Question<'_>) {
        self.roles.resize_with(tests.roles.len().max(self.roles.len()), Found::default);
        self.patterns.resize_with(tests.patterns.len().max(self.patterns.len()), Found::default);
        self.roles.iter_mut().chain(&mut self.patterns).for_each(|found| found.done = false);
        self.method = METHODS.iter().position(|method| *method == question.method);
    }

    /// The numbers of the roles that the caller has, sorted.
    pub(super) fn roles(&self, test: usize) -> &[u32] {
        self.roles.get(test).map_or(&[], |found| &found.ids)
    }

    /// The numbers of the patterns that the value matches.
    pub(super) fn patterns(&self, test: usize) -> &[u32] {
        self.patterns.get(test).map_or(&[], |found| &found.ids)
    }
}

/// A column's distinct values, and the number of each row's.
pub(super) struct Numbered<'a> {
    pub(super) values: HashMap<&'a str, u32>,
    pub(super) by_row: Vec<u32>,
}

/// Numbers the values of `term`, a column or a literal.
pub(super) fn numbered<'a>(term: &'a Term, rows: &'a [Row]) -> Option<Numbered<'a>> {
    let mut numbered = Numbered { values: HashMap::new(), by_row: Vec::with_capacity(rows.len()) };
    for row in rows {
        let value = match term {
            Term::Column(column) => row.fields.get(*column)?.as_str(),
            Term::Literal(text) => text.as_str(),
            Term::Request(_) => return None,
        };
        let next = u32::try_from(numbered.values.len()).ok()?;
        numbered.by_row.push(*numbered.values.entry(value).or_insert(next));
    }
    Some(numbered)
}

impl Tests {
    pub(super) fn new(tables: Arc<Tables>) -> Self {
        Self { tables, roles: Vec::new(), patterns: Vec::new() }
    }

    /// Takes up a test of roles, and numbers its column. `None` if it cannot be answered by sets.
    pub(super) fn add_role(&mut self, test: &Test, rows: &[Row]) -> Option<(usize, Vec<u32>)> {
        let Test::Linked { definition, from: Term::Request(from), to, domain } = test else { return None };
        // What a request's roles are, they are the caller's.
        if (*definition == 0 && *from != RequestName::Sub) || matches!(domain, Some(Term::Column(_))) {
            return None;
        }
        let Numbered { values, by_row } = numbered(to, rows)?;
        let names = values.into_iter().map(|(name, id)| (Box::from(name), id)).collect();
        let closures = Closures::new(names, self.tables.roles.get(*definition)?);
        self.roles.push(RoleTest { definition: *definition, from: *from, domain: domain.clone(), closures });
        Some((self.roles.len() - 1, by_row))
    }

    /// Takes up a test of patterns, and numbers its column. `None` if one of them might have no answer.
    pub(super) fn add_pattern(&mut self, test: &Test, rows: &[Row]) -> Option<(usize, Vec<u32>)> {
        let Test::Matches { function, value: Term::Request(value), pattern } = test else { return None };
        let Numbered { values, by_row } = numbered(pattern, rows)?;
        let mut texts: Vec<(&str, u32)> = values.into_iter().collect();
        texts.sort_unstable_by_key(|(_, id)| *id);
        let patterns: Option<Vec<Arc<Pattern>>> = texts
            .iter()
            .map(|(text, _)| self.tables.patterns.find(*function, text).map(Arc::clone))
            .collect();
        let patterns = patterns?;
        let finder = Finder::of(*function, &patterns)?;
        let methods = if *value == RequestName::Act {
            let of = |method: &&str| patterns.iter().map(|pattern| pattern.is_match(method)).collect();
            METHODS.iter().map(of).collect()
        } else {
            Vec::new()
        };
        self.patterns.push(PatternTest { function: *function, value: *value, patterns, finder, methods });
        Some((self.patterns.len() - 1, by_row))
    }

    /// Whether a test of patterns has more distinct ones than another, and so tells more rows apart.
    pub(super) fn distinct(&self, test: usize) -> usize {
        self.patterns.get(test).map_or(0, |test| test.patterns.len())
    }

    /// Finds the roles that the caller has, for [`Scratch::roles`].
    pub(super) fn find_roles(&self, test: usize, question: &Question<'_>, scratch: &mut Scratch) {
        let (Some(test), Some(found)) = (self.roles.get(test), scratch.roles.get_mut(test)) else { return };
        if std::mem::replace(&mut found.done, true) {
            return;
        }
        found.ids.clear();
        let Some(graph) = self.tables.roles.get(test.definition) else { return };
        let mut collect = |domain: Option<&str>| {
            let overlay = Overlay::of(test.definition, domain, question);
            question.with(test.from, |from| {
                let domain = domain.unwrap_or_default();
                test.closures.collect(graph, from, domain, overlay, &mut found.ids);
            });
        };
        match &test.domain {
            None => collect(None),
            Some(domain) => domain.with(&Row::default(), question, |domain| collect(Some(domain))),
        }
    }

    /// Finds the patterns that the value matches, for [`Scratch::patterns`].
    pub(super) fn find_patterns(&self, test: usize, question: &Question<'_>, scratch: &mut Scratch) {
        let (Some(test), Some(found)) = (self.patterns.get(test), scratch.patterns.get_mut(test)) else {
            return;
        };
        if std::mem::replace(&mut found.done, true) {
            return;
        }
        found.ids.clear();
        let ids = &mut found.ids;
        match &test.finder {
            Finder::Networks(networks) => {
                networks.find(question.ip.to_canonical(), |id| ids.push(id));
                ids.retain(|id| test.has(*id, |pattern| pattern.covers(question.ip.to_canonical())));
            }
            Finder::Trie(trie) => question.with(test.value, |value| {
                // keyMatch5 overlooks a query.
                let looked_up = match test.function {
                    Function::KeyMatch5 => value.split('?').next().unwrap_or_default(),
                    _ => value,
                };
                trie.find(looked_up, &mut |id| ids.push(id));
                ids.retain(|id| test.has(*id, |pattern| pattern.is_match(value)));
            }),
        }
    }

    /// Whether the pattern with number `id` of a test holds.
    pub(super) fn matches(&self, test: usize, id: u32, question: &Question<'_>, scratch: &Scratch) -> bool {
        let Some(test) = self.patterns.get(test) else { return false };
        let known = scratch.method.and_then(|method| test.methods.get(method)?.get(id as usize));
        match known {
            Some(known) => *known,
            None if test.function == Function::IpMatch => {
                test.has(id, |pattern| pattern.covers(question.ip.to_canonical()))
            }
            None => test.has(id, |pattern| question.with(test.value, |value| pattern.is_match(value))),
        }
    }
}

impl PatternTest {
    fn has(&self, id: u32, matches: impl FnOnce(&Pattern) -> bool) -> bool {
        self.patterns.get(id as usize).is_some_and(|pattern| matches(pattern))
    }
}

impl Finder {
    fn of(function: Function, patterns: &[Arc<Pattern>]) -> Option<Self> {
        let mut builder = trie::Builder::new();
        let mut networks = Networks::default();
        for (id, pattern) in (0u32..).zip(patterns) {
            match pattern.shape()? {
                Shape::Steps(steps) => builder.add(&steps, id),
                Shape::Begins(texts) => {
                    for text in texts {
                        builder.add(&[Step::Literal(text), Step::Rest], id);
                    }
                }
                Shape::Networks(of_pattern) => {
                    of_pattern.into_iter().for_each(|network| networks.add(network, id));
                }
            }
        }
        Some(match function {
            Function::IpMatch => Self::Networks(networks),
            _ => Self::Trie(builder.build()),
        })
    }
}
