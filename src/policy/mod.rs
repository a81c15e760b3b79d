//! What a caller may do: a Casbin model and its rows, loaded whole, checked, probed, and asked.
//!
//! | file | what is there |
//! |---|---|
//! | [`load`] | from sources to a [`Policy`]: read, check, assemble, probe |
//! | [`decide`] | [`Policy`], [`Question`], [`Verdict`] |
//! | [`model`] | the model file, read strictly |
//! | [`rows`] | policy rows, read strictly |
//! | [`matcher`] | what a matcher does with its names, as far as its tokens show |
//! | [`expression`] | a matcher as a tree, where it is of the plain shape that most have |
//! | [`index`] | such a matcher and its rows compiled, so that a decision costs what matches |
//! | [`patterns`] | keyMatch and its kin: compiled once, bounded, without panics |
//! | [`paths`] | patterns that no canonical path can match |
//! | [`roles`] | role graphs, and a request's own roles laid over them |
//! | [`asking`] | what one evaluation inside casbin sees and leaves behind, per thread |
//! | [`probe`] | evaluations at load, so that errors surface there |
//! | [`call`] | a call in words, asked as a gate would ask it |
//! | [`cases`] | a table of expected answers |
//! | [`files`] | the files that a config's words for policy files name |
//! | [`format`](mod@format) | the canonical layout of policy files |
//! | [`raw`] | casbin-rs as it is, for comparing |
//! | [`explain`] | one decision with all its reasons |
//! | [`review`] | who may do what, what changes, what was hardly meant |
//! | [`text`] | all of a policy's text in one piece: hashed, and kept |
//! | [`watch`] | when policy files may have changed |
//! | [`error`] | why a policy was refused |
//!
//! Invariants:
//! 1. The answer is the one `enforce` of casbin-rs gives for the same model and rows, with a row `g, <user>, <role>`
//!    added for every role of the request; `docs/policy.md` lists the few differences.
//! 2. Deciding is synchronous and total: an error or a panic is [`Verdict::Failed`], never an allow.
//! 3. A [`Policy`] never changes. Another policy is another value.
//! 4. What casbin-rs would drop or skip in silence is a load error.

pub mod asking;
pub mod call;
pub mod cases;
pub mod decide;
pub mod error;
pub mod explain;
pub mod expression;
pub mod files;
pub mod format;
pub mod index;
pub mod load;
pub mod matcher;
pub mod model;
pub mod paths;
pub mod patterns;
pub mod probe;
pub mod raw;
pub mod review;
pub mod roles;
pub mod rows;
pub mod text;
pub mod watch;

pub use call::{Answer, Call};
pub use cases::{Case, CasesError};
pub use decide::{Counts, EvaluationError, Policy, Question, Verdict};
pub use error::{Fault, LoadError, Problem};
pub use explain::Explanation;
pub use expression::{Expression, Term, Test};
pub use load::{Sources, Text};
pub use paths::PathForms;
pub use text::{PolicyText, Texts};
pub use watch::{WatchError, Watcher};

#[cfg(test)]
mod examples;
#[cfg(test)]
mod tests;
