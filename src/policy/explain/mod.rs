//! One decision with all its reasons: who the caller is, which rows match, which of them decided, and what the nearest of
//! the others lack.
//!
//! | file | what is there |
//! |---|---|
//! | this one | [`Explanation`], and how it comes about |
//! | [`roles`] | how a name comes to its roles |
//! | [`near`] | rows that do not match, and the conditions that fail |
//! | `json` | an explanation for scripts |
//!
//! Invariants:
//! 1. The decision and the row that made it are the policy's own answer, never worked out again here.
//! 2. Nothing here changes a policy or reads a file.

mod json;
pub mod near;
pub mod roles;

pub use self::json::rule as rule_json;
use self::near::Near;
use self::roles::Reach;
use super::call::{Answer, Call};
use super::decide::{EvaluationError, Policy, Question};
use super::probe::Single;
use super::rows::Row;
use crate::access::path::Tolerance;
use crate::access::{Reason, Rule};

/// The most rows that casbin is asked about one by one, where a matcher cannot be seen through.
pub const ONE_BY_ONE: usize = 10_000;

/// Why a call is decided as it is.
#[derive(Debug)]
pub struct Explanation {
    /// The call, as it was given.
    pub call: Call,
    /// Its canonical path, or why a gate refuses it before any policy is asked.
    pub path: Result<String, Reason>,
    /// The decision.
    pub answer: Answer,
    /// The names that the caller, and whatever else has roles, goes by.
    pub names: Vec<Reach>,
    /// The distinct `p` rows of the policy.
    pub rows: usize,
    /// The rows whose every condition holds, in their order.
    pub matched: Vec<Matched>,
    /// Rows that would have changed the answer had they matched, nearest first.
    pub near: Vec<Near>,
    /// Whether the matcher can be seen through, so that conditions can be told.
    pub plain: bool,
    /// What else the asker should know.
    pub notes: Vec<String>,
}

/// A row that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// The row.
    pub rule: Rule,
    /// Whether it is one that allows.
    pub allows: bool,
}

impl Explanation {
    /// Explains what a gate decides by `policy`, where the service allows `granted` in its paths, with at most `nearest`
    /// rows that do not match. Looks at every row: some milliseconds for thousands.
    pub fn of(policy: &Policy, call: Call, granted: Tolerance, nearest: usize) -> Self {
        let path = call.read(granted);
        let answer = call.ask(policy, granted);
        let mut explained = Self {
            path: path.clone(),
            answer,
            names: Vec::new(),
            rows: policy.rows().len(),
            matched: Vec::new(),
            near: Vec::new(),
            plain: policy.expression().is_some(),
            notes: notes(&call),
            call,
        };
        let Ok(path) = path else { return explained };
        let call = explained.call.clone();
        let question = call.question(&path);
        explained.names = roles::reached(policy, &question);
        explained.look_at_rows(policy, &question, nearest);
        explained
    }

    /// Finds the rows that match, and the nearest of those that do not and that matter.
    fn look_at_rows(&mut self, policy: &Policy, question: &Question<'_>, nearest: usize) {
        let Rows { matched, others } = match Rows::matching(policy, question) {
            Ok(rows) => rows,
            Err(error) => {
                self.notes.push(format!("rows cannot be looked at one by one: {error}"));
                return;
            }
        };
        match policy.expression() {
            Some(expression) => {
                let turns = turns(policy, &matched);
                let mattering: Vec<&Row> = others.into_iter().filter(turns).map(|(_, row)| row).collect();
                self.near = near::nearest(policy, expression, &mattering, question, nearest);
            }
            None if policy.rows().len() > ONE_BY_ONE => self.notes.push(format!(
                "only the first {ONE_BY_ONE} rows were looked at, since each of them must be given to casbin"
            )),
            None => {}
        }
        let told = |(_, row): (usize, &Row)| Matched { rule: row.rule(), allows: allows(policy, row) };
        self.matched = matched.into_iter().map(told).collect();
    }
}

/// The rows of a policy, each with its position.
#[derive(Default)]
struct Rows<'a> {
    matched: Vec<(usize, &'a Row)>,
    others: Vec<(usize, &'a Row)>,
}

impl<'a> Rows<'a> {
    fn matching(policy: &'a Policy, question: &Question<'_>) -> Result<Self, EvaluationError> {
        let mut rows = Self::default();
        if let Some(expression) = policy.expression() {
            for (at, row) in policy.rows().iter().enumerate() {
                rows.add(at, row, policy.satisfies(expression, row, question)?);
            }
            return Ok(rows);
        }
        let Ok(mut single) = Single::new(policy.model(), &policy.model().matcher) else {
            return Err(EvaluationError::Panicked);
        };
        for (at, row) in policy.rows().iter().enumerate().take(ONE_BY_ONE) {
            rows.add(at, row, single.matches(policy, Some(row), question)?);
        }
        Ok(rows)
    }

    fn add(&mut self, at: usize, row: &'a Row, matches: bool) {
        let place = if matches { &mut self.matched } else { &mut self.others };
        place.push((at, row));
    }
}

/// Whether the answer would be the other one, if a row beside those that match did too.
fn turns<'a>(policy: &'a Policy, matched: &[(usize, &Row)]) -> impl Fn(&(usize, &'a Row)) -> bool {
    let first =
        |allowing: bool| matched.iter().find(|(_, row)| allows(policy, row) == allowing).map(|(at, _)| *at);
    let (allow, deny, effect) = (first(true), first(false), policy.model().effect);
    move |&(at, row)| {
        let sooner = |known: Option<usize>| Some(known.map_or(at, |known| known.min(at)));
        let with = if allows(policy, row) { (sooner(allow), deny) } else { (allow, sooner(deny)) };
        effect.of(allow, deny) != effect.of(with.0, with.1)
    }
}

/// Whether a row is one that allows.
fn allows(policy: &Policy, row: &Row) -> bool {
    let effect = policy.model().effect_column().and_then(|column| row.fields.get(column));
    effect.is_none_or(|effect| effect == "allow")
}

fn notes(call: &Call) -> Vec<String> {
    let mut notes = Vec::new();
    if call.user != "anonymous" && !call.user.starts_with("user:") {
        notes.push(format!("no caller is named {}: callers are user:NAME, or anonymous", call.user));
    }
    for role in call.roles.iter().filter(|role| !role.starts_with("role:")) {
        notes.push(format!("no credential grants {role}: its roles are role:NAME"));
    }
    if call.user == "anonymous" && !call.roles.is_empty() {
        notes.push("a caller without a credential has no roles".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests;
