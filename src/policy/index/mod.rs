//! A policy compiled, so that a decision costs what matches and not how many rows there are.
//!
//! | file | what is there |
//! |---|---|
//! | this one | [`Index`]: compiling it, asking it |
//! | `clause` | one way for the matcher to hold, and the rows it can hold for, grouped |
//! | `finders` | the matcher's tests, each with what finds the columns that satisfy it |
//! | `trie` | which path patterns may match a value |
//! | `networks` | which networks hold an address |
//! | `closure` | which roles a caller has |
//!
//! A matcher of `&&` and `||` is the same as a few alternatives, each a list of tests that all hold. For each alternative
//! the rows are grouped by what the request can be compared with at once: columns that equal a value of the request, and the
//! pattern that its path matches. What is left of a group is sorted by principal, and looked up by the caller's roles.
//!
//! Invariants:
//! 1. The answer is the one casbin gives, row for row; `equality` holds both side by side.
//! 2. A finder yields at least the columns that satisfy its test. Each is asked before it counts.
//! 3. Deciding allocates nothing once a thread has decided a few times, unless a role graph is deeper than eight levels.
//! 4. Nothing here can fail: what might is no [`Expression`].

mod clause;
mod closure;
mod finders;
mod networks;
mod trie;

#[cfg(test)]
mod equality;

use std::cell::RefCell;
use std::sync::Arc;

use self::clause::{Asked, Clause, alternatives};
use self::finders::{Scratch, Tests};
use super::asking::Tables;
use super::decide::Question;
use super::expression::Expression;
use super::model::{Effect, ModelText};
use super::rows::Row;

/// A matcher and its rows, compiled.
#[derive(Debug)]
pub struct Index {
    effect: Effect,
    /// By row.
    denies: Vec<bool>,
    tests: Tests,
    clauses: Vec<Clause>,
}

/// The rows that decide, by position: the first that allows and the first that denies, of those that match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// The first matching row that allows.
    pub allow: Option<usize>,
    /// The first matching row that denies.
    pub deny: Option<usize>,
}

impl Hits {
    /// Whether a row of this effect at this position would change anything.
    fn wants(&self, row: usize, denies: bool) -> bool {
        let first = if denies { self.deny } else { self.allow };
        first.is_none_or(|first| row < first)
    }

    fn note(&mut self, row: usize, denies: bool) {
        *(if denies { &mut self.deny } else { &mut self.allow }) = Some(row);
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

impl Index {
    /// Compiles `expression` over `rows`; `None` if it has too many alternatives, or a pattern that might have no answer.
    pub fn compile(
        model: &ModelText,
        expression: &Expression,
        rows: &[Row],
        tables: &Arc<Tables>,
    ) -> Option<Self> {
        // Positions are kept in 32 bits.
        u32::try_from(rows.len()).ok()?;
        let effect_column = model.effect_column();
        let denies = |row: &Row| {
            effect_column.and_then(|column| row.fields.get(column)).is_some_and(|effect| effect == "deny")
        };
        let mut tests = Tests::new(Arc::clone(tables));
        let mut clauses = Vec::new();
        for alternative in alternatives(expression)? {
            clauses.push(Clause::compile(&alternative, rows, &mut tests)?);
        }
        Some(Self { effect: model.effect, denies: rows.iter().map(denies).collect(), tests, clauses })
    }

    /// Whether `question` is allowed, and the rows that match it first. `rows` are those it was compiled over.
    pub fn ask(&self, rows: &[Row], question: &Question<'_>) -> (bool, Hits) {
        let mut hits = Hits::default();
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear(&self.tests, question);
            let asked = Asked { tests: &self.tests, denies: &self.denies, rows, question };
            for clause in &self.clauses {
                clause.ask(&asked, scratch, &mut hits);
            }
        });
        (self.effect.of(hits.allow, hits.deny), hits)
    }
}
