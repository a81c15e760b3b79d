//! Rows that do not match, the nearest first, and which of their conditions fail.

use std::cmp::Reverse;

use crate::access::Rule;
use crate::policy::decide::{Policy, Question};
use crate::policy::expression::{Expression, Term, Test};
use crate::policy::model::RequestName;
use crate::policy::rows::Row;

/// A row that does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    /// The row.
    pub rule: Rule,
    /// The conditions that fail; where one of several would do, those that come nearest.
    pub failed: Vec<Condition>,
}

/// A condition of a row, as it stands for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What of the request it is about, `sub`, `obj` and so on; empty if about nothing of it.
    pub about: &'static str,
    /// The request's value.
    pub value: String,
    /// What the row wants it to be.
    pub wanted: String,
    /// `==`, the role definition's name, or the function's.
    pub test: String,
    /// In words: `act: GET is not matched by POST|PUT`.
    pub text: String,
}

/// The nearest of `rows`, none of which matches: those that lack fewest conditions, at most `most`. Rows for which no
/// condition holds are not near.
pub fn nearest(
    policy: &Policy,
    expression: &Expression,
    rows: &[&Row],
    question: &Question<'_>,
    most: usize,
) -> Vec<Near> {
    let mut all = 0;
    expression.for_each_test(&mut |_| all += 1);
    let mut by_distance: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let failed = failed(policy, expression, row, question);
            (!failed.is_empty() && failed.len() < all.max(2))
                .then(|| (distance(&failed, row, question), *row, failed))
        })
        .collect();
    by_distance.sort_by_key(|(distance, ..)| *distance);
    // What is much further than the nearest is not what its author would look at.
    let (fewest, lightest) = by_distance.first().map_or((0, 0), |(distance, ..)| (distance.0, distance.1));
    by_distance
        .into_iter()
        .take_while(|(distance, ..)| distance.0 == fewest && distance.1 <= lightest + 1)
        .take(most)
        .map(|(_, row, failed)| Near {
            rule: row.rule(),
            failed: failed.into_iter().map(|test| Condition::of(policy, test, row, question)).collect(),
        })
        .collect()
}

/// The tests that would have to hold and do not; none if `expression` holds.
fn failed<'a>(
    policy: &Policy,
    expression: &'a Expression,
    row: &Row,
    question: &Question<'_>,
) -> Vec<&'a Test> {
    match expression {
        Expression::All(parts) => parts.iter().flat_map(|part| failed(policy, part, row, question)).collect(),
        Expression::Any(parts) => {
            let parts = parts.iter().map(|part| failed(policy, part, row, question));
            parts.min_by_key(Vec::len).unwrap_or_default()
        }
        Expression::Test(test) => {
            // A test without an answer does not hold.
            if policy.holds(test, row, question).unwrap_or(false) { Vec::new() } else { vec![test] }
        }
    }
}

/// How far from matching: how many tests fail, how much they weigh, and how much of the path is not the pattern's.
fn distance(failed: &[&Test], row: &Row, question: &Question<'_>) -> (usize, u32, Reverse<usize>) {
    let weight = failed.iter().map(|test| weight(about(test))).sum();
    let shared = failed.iter().filter(|test| about(test) == Some(RequestName::Obj)).map(|test| {
        let (_, wanted) = sides(test);
        wanted.with(row, question, |pattern| {
            pattern.bytes().zip(question.path.bytes()).take_while(|(a, b)| a == b).count()
        })
    });
    (failed.len(), weight, Reverse(shared.sum()))
}

/// What an author would think of as near: the right thing in the wrong way, before the wrong caller, before another
/// thing altogether.
const fn weight(about: Option<RequestName>) -> u32 {
    match about {
        Some(RequestName::Act) => 1,
        Some(RequestName::Sub) => 2,
        Some(RequestName::Host | RequestName::Ip) | None => 3,
        Some(RequestName::Obj) => 4,
        Some(RequestName::Dom) => 5,
    }
}

/// What is tested, and what it is tested against.
const fn sides(test: &Test) -> (&Term, &Term) {
    match test {
        Test::Equal(left @ Term::Request(_), right) | Test::Equal(right, left) => (left, right),
        Test::Linked { from, to, .. } => (from, to),
        Test::Matches { value, pattern, .. } => (value, pattern),
    }
}

const fn about(test: &Test) -> Option<RequestName> {
    match sides(test).0 {
        Term::Request(name) => Some(*name),
        Term::Column(_) | Term::Literal(_) => None,
    }
}

impl Condition {
    fn of(policy: &Policy, test: &Test, row: &Row, question: &Question<'_>) -> Self {
        let (value, wanted) = sides(test);
        let value = value.with(row, question, str::to_owned);
        let wanted = wanted.with(row, question, str::to_owned);
        let about = about(test).map_or("", RequestName::as_str);
        let (name, said) = match test {
            Test::Equal(..) => ("==".to_owned(), format!("{} is not {}", shown(&value), shown(&wanted))),
            Test::Linked { definition, domain, .. } => {
                let domain = domain.as_ref().map(|domain| domain.with(row, question, str::to_owned));
                let place = domain.map(|domain| format!(" in {}", shown(&domain))).unwrap_or_default();
                let name = policy
                    .model()
                    .roles
                    .get(*definition)
                    .map_or_else(String::new, |roles| roles.name.clone());
                (name, format!("{} neither is nor has {}{place}", shown(&value), shown(&wanted)))
            }
            Test::Matches { function, .. } => {
                let said = format!("{} is not matched by {} ({function})", shown(&value), shown(&wanted));
                (function.to_string(), said)
            }
        };
        let text = if about.is_empty() { said } else { format!("{about}: {said}") };
        Self { about, value, wanted, test: name, text }
    }
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "\"\"" } else { value }
}
