//! One way for the matcher to hold: tests that all hold, and the rows they can hold for.

use std::ops::Range;

use hashbrown::HashMap;

use super::Hits;
use super::finders::{Scratch, Tests, numbered};
use crate::policy::decide::Question;
use crate::policy::expression::{Expression, Term, Test};
use crate::policy::model::RequestName;
use crate::policy::rows::Row;

/// More ways than these for a matcher to hold, and casbin evaluates it.
const MOST_ALTERNATIVES: usize = 16;
/// How many columns that equal a value of the request group the rows; further ones are compared row by row.
const KEYS: usize = 3;

/// The number of a pattern, and those of the values of [`KEYS`] columns.
type Key = [u32; KEYS + 1];

/// A question, and what it is asked of.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) tests: &'a Tests,
    /// By row.
    pub(super) denies: &'a [bool],
    pub(super) rows: &'a [Row],
    pub(super) question: &'a Question<'a>,
}

/// One way for the matcher to hold.
#[derive(Debug)]
pub(super) struct Clause {
    /// What must hold whatever the row.
    guards: Vec<Guard>,
    /// Columns that equal a value of the request, and the numbers of their values.
    keys: Vec<(RequestName, HashMap<Box<str>, u32>)>,
    /// The patterns that group the rows.
    patterns: Option<usize>,
    /// The roles that order the rows of a group.
    roles: Option<usize>,
    /// What is left to be asked of a row.
    rest: Vec<Rest>,
    groups: HashMap<Key, Range<u32>>,
    /// Group by group, each sorted by role and position.
    entries: Vec<Entry>,
    /// For each entry, the numbers that `rest` asks about.
    columns: Vec<u32>,
}

/// A row in its group.
#[derive(Clone, Copy, Debug)]
struct Entry {
    role: u32,
    row: u32,
}

#[derive(Debug)]
enum Guard {
    /// The caller has the only role there is.
    Role(usize),
    Other(Test),
}

#[derive(Debug)]
enum Rest {
    /// The value matches the pattern with the row's number.
    Pattern(usize),
    /// The caller has the role with the row's number.
    Role(usize),
    Other(Test),
}

/// The ways for `expression` to hold, each a list of tests that all hold; `None` if there are too many.
pub(super) fn alternatives(expression: &Expression) -> Option<Vec<Vec<&Test>>> {
    let found = match expression {
        Expression::Test(test) => vec![vec![test]],
        Expression::Any(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(alternatives(part)?);
            }
            all
        }
        Expression::All(parts) => {
            let mut all: Vec<Vec<&Test>> = vec![Vec::new()];
            for part in parts {
                let more = alternatives(part)?;
                all = all
                    .iter()
                    .flat_map(|so_far| more.iter().map(|tests| [so_far.as_slice(), tests].concat()))
                    .collect();
                if all.len() > MOST_ALTERNATIVES {
                    return None;
                }
            }
            all
        }
    };
    (found.len() <= MOST_ALTERNATIVES).then_some(found)
}

/// A clause being compiled: what is known of each row.
struct Draft {
    clause: Clause,
    /// The rows that can match at all.
    rows: Vec<u32>,
    /// For each row, the number of each key's value.
    keys: Vec<Vec<u32>>,
    patterns: Vec<u32>,
    roles: Vec<u32>,
    /// For each of `clause.rest`, the number each row has for it; none for what has no numbers.
    rest: Vec<Vec<u32>>,
}

impl Clause {
    /// Compiles `alternative` over `rows`; `None` if one of its patterns might have no answer.
    pub(super) fn compile(alternative: &[&Test], rows: &[Row], tests: &mut Tests) -> Option<Self> {
        let mut draft = Draft {
            clause: Self {
                guards: Vec::new(),
                keys: Vec::new(),
                patterns: None,
                roles: None,
                rest: Vec::new(),
                groups: HashMap::new(),
                entries: Vec::new(),
                columns: Vec::new(),
            },
            rows: (0..u32::try_from(rows.len()).ok()?).collect(),
            keys: Vec::new(),
            patterns: Vec::new(),
            roles: Vec::new(),
            rest: Vec::new(),
        };
        let known = in_terms_of_the_request(alternative);
        let mut patterns = Vec::new();
        for test in &known {
            if matches!(test, Test::Matches { value: Term::Request(_), pattern: Term::Column(_), .. }) {
                patterns.push((test, tests.add_pattern(test, rows)?));
            } else {
                draft.add(test, rows, tests)?;
            }
        }
        // The paths tell most rows apart; else whatever has most patterns.
        patterns.sort_by_key(|(test, (number, _))| {
            let is_path = matches!(test, Test::Matches { value: Term::Request(RequestName::Obj), .. });
            std::cmp::Reverse((is_path, tests.distinct(*number)))
        });
        for (_, (number, by_row)) in patterns {
            if draft.clause.patterns.is_none() {
                draft.clause.patterns = Some(number);
                draft.patterns = by_row;
            } else {
                draft.clause.rest.push(Rest::Pattern(number));
                draft.rest.push(by_row);
            }
        }
        Some(draft.grouped())
    }

    /// Notes the first rows of each effect that match `question`.
    pub(super) fn ask(&self, asked: &Asked<'_>, scratch: &mut Scratch, hits: &mut Hits) {
        let Asked { tests, rows, question, .. } = *asked;
        if !self.guards.iter().all(|guard| guard.holds(tests, question, scratch)) {
            return;
        }
        let mut key = Key::default();
        for (slot, (name, values)) in key.iter_mut().skip(1).zip(&self.keys) {
            match question.with(*name, |value| values.get(value).copied()) {
                Some(number) => *slot = number,
                None => return,
            }
        }
        if let Some(patterns) = self.patterns {
            tests.find_patterns(patterns, question, scratch);
            if scratch.patterns(patterns).is_empty() {
                return;
            }
        }
        let further = self.rest.iter().filter_map(|rest| match rest {
            Rest::Role(test) => Some(*test),
            Rest::Pattern(_) | Rest::Other(_) => None,
        });
        for test in self.roles.into_iter().chain(further) {
            tests.find_roles(test, question, scratch);
            if scratch.roles(test).is_empty() {
                return;
            }
        }
        let scratch = &*scratch;
        let patterns = self.patterns.map_or(&[0][..], |test| scratch.patterns(test));
        let roles = self.roles.map_or(&[0][..], |test| scratch.roles(test));
        let mut note = |at: usize, entry: Entry| {
            let row = entry.row as usize;
            let denies = asked.denies.get(row).copied().unwrap_or(true);
            if hits.wants(row, denies) && self.rest_holds(at, rows.get(row), asked, scratch) {
                hits.note(row, denies);
            }
        };
        for pattern in patterns {
            key[0] = *pattern;
            let Some(group) = self.groups.get(&key) else { continue };
            self.scan(group.start as usize..group.end as usize, roles, &mut note);
        }
    }

    /// Calls `note` with the entries of a group whose role is among `roles`.
    fn scan(&self, group: Range<usize>, roles: &[u32], note: &mut impl FnMut(usize, Entry)) {
        let entries = self.entries.get(group.clone()).unwrap_or_default();
        // Going through a few is quicker than looking for each role.
        if entries.len() <= 4 * roles.len() {
            for (at, entry) in (group.start..).zip(entries) {
                if has(roles, entry.role) {
                    note(at, *entry);
                }
            }
            return;
        }
        for &role in roles {
            let first = entries.partition_point(|entry| entry.role < role);
            let of_role = entries.iter().skip(first).take_while(|entry| entry.role == role);
            for (at, entry) in (group.start + first..).zip(of_role) {
                note(at, *entry);
            }
        }
    }

    fn rest_holds(&self, at: usize, row: Option<&Row>, asked: &Asked<'_>, scratch: &Scratch) -> bool {
        let Asked { tests, question, .. } = *asked;
        let columns = self.columns.iter().skip(at * self.rest.len());
        self.rest.iter().zip(columns).all(|(rest, &number)| match rest {
            Rest::Pattern(test) => tests.matches(*test, number, question, scratch),
            Rest::Role(test) => has(scratch.roles(*test), number),
            Rest::Other(test) => {
                row.is_some_and(|row| tests.tables.holds(test, row, question).unwrap_or(false))
            }
        })
    }
}

/// Whether `number` is among the sorted `numbers`.
fn has(numbers: &[u32], number: u32) -> bool {
    if numbers.len() <= 8 { numbers.contains(&number) } else { numbers.binary_search(&number).is_ok() }
}

impl Guard {
    fn holds(&self, tests: &Tests, question: &Question<'_>, scratch: &mut Scratch) -> bool {
        match self {
            Self::Role(test) => {
                tests.find_roles(*test, question, scratch);
                !scratch.roles(*test).is_empty()
            }
            Self::Other(test) => tests.tables.holds(test, &Row::default(), question).unwrap_or(false),
        }
    }
}

impl Draft {
    /// Takes up a test that is not one of a pattern in a column.
    fn add(&mut self, test: &Test, rows: &[Row], tests: &mut Tests) -> Option<()> {
        if let Test::Matches { function, pattern, .. } = test {
            let values = numbered(pattern, rows)?.values;
            let find = |text: &&str| tests.tables.patterns.find(*function, text)?.shape();
            values.keys().map(find).collect::<Option<Vec<_>>>()?;
        }
        let (of_request, of_row) = sides(test);
        let overlaid = matches!(test, Test::Linked { definition: 0, .. });
        match test {
            Test::Equal(Term::Request(name), column @ Term::Column(_))
            | Test::Equal(column @ Term::Column(_), Term::Request(name))
                if self.clause.keys.len() < KEYS =>
            {
                let numbered = numbered(column, rows)?;
                let values = numbered.values.into_iter().map(|(value, id)| (Box::from(value), id)).collect();
                self.clause.keys.push((*name, values));
                self.keys.push(numbered.by_row);
            }
            Test::Linked { to: Term::Column(_), .. } if of_request => match tests.add_role(test, rows) {
                Some((number, by_row)) if self.clause.roles.is_none() => {
                    self.clause.roles = Some(number);
                    self.roles = by_row;
                }
                Some((number, by_row)) => {
                    self.clause.rest.push(Rest::Role(number));
                    self.rest.push(by_row);
                }
                None => self.ask_each(test),
            },
            Test::Linked { to: Term::Literal(_), .. } if !of_row => {
                let guard = tests.add_role(test, rows).map(|(number, _)| Guard::Role(number));
                self.clause.guards.push(guard.unwrap_or_else(|| Guard::Other(test.clone())));
            }
            _ if !of_row => self.clause.guards.push(Guard::Other(test.clone())),
            _ if !of_request && !overlaid => {
                let nobody = nobody();
                let holds = |row: &u32| {
                    rows.get(*row as usize)
                        .is_some_and(|row| tests.tables.holds(test, row, &nobody).unwrap_or(false))
                };
                self.rows.retain(holds);
            }
            _ => self.ask_each(test),
        }
        Some(())
    }

    fn ask_each(&mut self, test: &Test) {
        self.clause.rest.push(Rest::Other(test.clone()));
        self.rest.push(Vec::new());
    }

    /// The rows sorted into their groups.
    fn grouped(self) -> Clause {
        let Self { mut clause, rows, keys, patterns, roles, rest } = self;
        let number = |numbers: &[u32], row: u32| numbers.get(row as usize).copied().unwrap_or_default();
        let mut placed: Vec<(Key, Entry)> = rows
            .into_iter()
            .map(|row| {
                let mut key = [number(&patterns, row), 0, 0, 0];
                for (slot, by_row) in key.iter_mut().skip(1).zip(&keys) {
                    *slot = number(by_row, row);
                }
                (key, Entry { role: number(&roles, row), row })
            })
            .collect();
        placed.sort_unstable_by_key(|(key, entry)| (*key, entry.role, entry.row));
        clause.columns.reserve_exact(placed.len() * rest.len());
        clause.entries.reserve_exact(placed.len());
        for (key, entry) in placed {
            // There are no more than 2³² rows.
            let at = u32::try_from(clause.entries.len()).unwrap_or(u32::MAX);
            clause.groups.entry(key).or_insert(at..at).end = at.saturating_add(1);
            clause.entries.push(entry);
            clause.columns.extend(rest.iter().map(|by_row| number(by_row, entry.row)));
        }
        clause.groups.shrink_to_fit();
        clause
    }
}

/// Whether a test looks at the request, and whether at the row.
fn sides(test: &Test) -> (bool, bool) {
    let terms: Vec<&Term> = match test {
        Test::Equal(left, right) => vec![left, right],
        Test::Linked { from, to, domain, .. } => {
            [Some(from), Some(to), domain.as_ref()].into_iter().flatten().collect()
        }
        Test::Matches { value, pattern, .. } => vec![value, pattern],
    };
    let of_request = terms.iter().any(|term| matches!(term, Term::Request(_)));
    let of_row = terms.iter().any(|term| matches!(term, Term::Column(_)));
    (of_request, of_row)
}

/// The tests, with a request's value in place of a column that equals it where a role's domain is a column: its graph
/// is then known before the row is.
fn in_terms_of_the_request(tests: &[&Test]) -> Vec<Test> {
    let equal = |column: usize| {
        tests.iter().find_map(|test| match test {
            Test::Equal(value @ Term::Request(_), Term::Column(other))
            | Test::Equal(Term::Column(other), value @ Term::Request(_))
                if *other == column =>
            {
                Some(value.clone())
            }
            _ => None,
        })
    };
    tests
        .iter()
        .map(|test| match test {
            Test::Linked { definition, from, to, domain: Some(Term::Column(column)) } => Test::Linked {
                definition: *definition,
                from: from.clone(),
                to: to.clone(),
                domain: Some(equal(*column).unwrap_or(Term::Column(*column))),
            },
            other => (*other).clone(),
        })
        .collect()
}

/// A question for tests that do not look at it.
fn nobody() -> Question<'static> {
    let ip = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    Question { user: "", roles: &[], service: "", path: "", method: "", host: "", ip }
}
