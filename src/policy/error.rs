//! Why a policy was refused: what, where, and what to write instead.

mod excerpt;

use std::fmt;

pub use self::excerpt::Excerpt;
use super::load::Text;
use super::paths::Unmatchable;
use super::patterns::{Function, PatternError};
use super::rows::lines;

/// Why a policy was refused: at least one fault, in the order of the files, at most [`LoadError::MOST`].
#[derive(Debug)]
pub struct LoadError {
    faults: Vec<Fault>,
}

/// One thing wrong with a policy, and where. Prints as `file:line:column: what; what to write`; in the alternate form
/// (`{:#}`) with the line itself below, and a mark where it is.
#[derive(Debug)]
pub struct Fault {
    /// The file, as the config names it.
    pub file: String,
    /// The line there, from 1; `None` where the fault is the file's as a whole.
    pub line: Option<u32>,
    /// What is wrong.
    pub problem: Problem,
    /// The line, once it is known.
    pub excerpt: Option<Box<Excerpt>>,
}

/// What can be wrong with a policy.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] std::io::Error),
    /// The name of policy files is no pattern.
    #[error("is not a pattern of file names: {0}")]
    FilePattern(#[source] globset::Error),
    /// A directory without policy files, or a pattern that no file fits.
    #[error("no file here fits {0}")]
    NoFiles(String),
    /// The file is not UTF-8.
    #[error("is not UTF-8; save the file as UTF-8")]
    NotUtf8,
    /// A line longer than a row or definition can sensibly be.
    #[error("the line has {0} bytes, more than the {max} a line may have", max = super::rows::LINE_BYTES)]
    LineTooLong(usize),

    // The model.
    /// `[name]` is not a section of a model.
    #[error(
        "unknown section [{0}]; a model has [request_definition], [policy_definition], [role_definition], [policy_effect] and [matchers]"
    )]
    UnknownSection(String),
    /// A definition outside any section.
    #[error("a definition stands before any [section]")]
    OutsideSection,
    /// Not `key = value`.
    #[error("expected `key = value`")]
    NotADefinition,
    /// A key that its section does not have.
    #[error("unknown key `{0}`; this section has `{1}`")]
    UnknownKey(String, &'static str),
    /// `r2`, `p2`, `e2`, `m2` and the like.
    #[error("`{0}` is never consulted: decisions use r, p, e and m only; remove it, or fold it into them")]
    SecondDefinition(String),
    /// `g3` without `g2`: casbin stops reading at the gap.
    #[error("`{0}` is defined but `{1}` is not; number role definitions without a gap")]
    RoleGap(String, String),
    /// A `priority` column under an effect for which the order of rows counts.
    #[error(
        "casbin-rs does not order rows by a column `priority`, as Casbin for Go does; remove it, and put the rows in the order that they are to be asked in"
    )]
    PriorityColumn,
    /// The same key twice in a section.
    #[error("`{0}` is defined twice; it first stands at line {1}")]
    DefinedTwice(String, u32),
    /// A section or key that every model needs.
    #[error("the model lacks `{key}` in [{section}]")]
    Lacks {
        /// The key that is missing.
        key: &'static str,
        /// The section it belongs to.
        section: &'static str,
    },
    /// `key =` without a value.
    #[error("`{0}` has no value")]
    NoValue(String),
    /// A request name the gate cannot fill.
    #[error("the gate has no request value `{0}`; it has sub, dom, obj, act, host and ip")]
    RequestName(String),
    /// A name that is not an identifier.
    #[error("`{0}` is not a name: letters, digits and _, not beginning with a digit")]
    BadName(String),
    /// A name given twice in one definition.
    #[error("`{0}` is named twice")]
    NameTwice(String),
    /// A role definition that is neither `_, _` nor `_, _, _`.
    #[error("a role definition is `_, _` or `_, _, _`, not `{0}`")]
    RolePlaces(String),
    /// More role definitions than are supported.
    #[error("a model may have at most {max} role definitions", max = super::asking::ROLE_DEFINITIONS)]
    TooManyRoles,
    /// An effect casbin-rs does not implement.
    #[error(
        "unsupported effect `{0}`; write one of: some(where (p.eft == allow)) | some(where (p.eft == allow)) && !some(where (p.eft == deny)) | !some(where (p.eft == deny)) | priority(p.eft) || deny"
    )]
    Effect(String),
    /// An effect that only denies, over rows that cannot.
    #[error(
        "this effect allows all that no row denies, and without an `eft` column no row can deny; add `eft` to p"
    )]
    NeverDenies,
    /// `#` inside a quoted string of the model, which casbin takes for a comment.
    #[error("`#` inside a string of a model is read as the beginning of a comment; match it some other way")]
    HashInString,
    /// The matcher is longer, deeper or has more operators than is safe to evaluate.
    #[error("the expression has {0}; at most {1} can be evaluated safely")]
    TooComplex(&'static str, usize),
    /// A string or bracket is not closed.
    #[error("the expression has an unclosed {0}")]
    Unclosed(&'static str),
    /// `r.x` or `p.x` that the model does not define.
    #[error("the matcher uses `{0}`, which the model does not define; it has {1}")]
    UnknownName(String, String),
    /// `eval` of something other than a column of p.
    #[error(
        "eval takes one column of p, as in eval(p.rule): anything else would let a caller's words run as code"
    )]
    EvalArgument,
    /// A rule to be evaluated that is more than an expression.
    #[error("`{0}` may not stand in a rule that is evaluated; write a plain expression")]
    NotAnExpression(String),
    /// casbin-rs does not accept the model.
    #[error("casbin does not accept the model: {}", super::decide::plainly(.0))]
    Model(#[source] Box<casbin::Error>),
    /// casbin-rs panicked on the model.
    #[error("casbin panics on this model")]
    ModelPanics,

    // The rows.
    /// A quoted field that does not end on its line.
    #[error("a quoted field does not end on this line")]
    OpenQuote,
    /// Something other than a comma after a quoted field.
    #[error("a comma must follow the closing quote; inside a quoted field, write a quote as two")]
    AfterQuote,
    /// A field left empty by accident.
    #[error("field {0} is empty; write \"\" if it is meant to be")]
    EmptyField(usize),
    /// A comment after a row, which casbin would take for part of its last field.
    #[error("a comment must have a line of its own; if `#` belongs to the field, quote the field")]
    TrailingComment,
    /// A row that belongs to no definition of the model.
    #[error("unknown row type `{0}`; the model defines {1}")]
    RowType(String, String),
    /// A row with too few or too many fields.
    #[error("`{ptype}` takes {expected} fields ({names}), this row has {found}")]
    FieldCount {
        /// The row type.
        ptype: String,
        /// How many fields its definition has.
        expected: usize,
        /// Their names.
        names: String,
        /// How many the row has.
        found: usize,
    },
    /// An effect other than allow or deny.
    #[error("unknown effect `{0}`; write allow or deny")]
    RowEffect(String),
    /// No `p` row, where the model's answer rests on rows.
    #[error("there is no p row in any policy file; an empty or truncated policy is not loaded")]
    Empty,
    /// A pattern that cannot be compiled.
    #[error("`{pattern}` is not a pattern for {function}: {source}")]
    Pattern {
        /// The function it is given to.
        function: Function,
        /// The pattern.
        pattern: String,
        /// Why not.
        source: PatternError,
    },
    /// A pattern that no canonical path can match.
    #[error("no path can match `{pattern}`: {source}")]
    Unmatchable {
        /// The pattern.
        pattern: String,
        /// Why not.
        source: Unmatchable,
    },
    /// Evaluating the matcher fails.
    #[error("evaluating the matcher fails here: {0}")]
    Evaluation(#[source] super::decide::EvaluationError),
}

impl LoadError {
    /// The most faults that are collected before loading gives up.
    pub const MOST: usize = 20;

    /// The faults, at least one.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl LoadError {
    /// The same, each fault with its line as it stands in one of `texts`.
    #[must_use]
    pub fn quoting<'a>(mut self, texts: impl Iterator<Item = &'a Text> + Clone) -> Self {
        for fault in &mut self.faults {
            let text = texts.clone().find(|text| text.name == fault.file);
            let line = fault.line.and_then(|line| lines(&text?.text).find(|(number, _)| *number == line));
            fault.excerpt = line.map(|(_, line)| Box::new(Excerpt::of(line, fault.problem.culprit())));
        }
        self
    }
}

impl Fault {
    /// A fault without its excerpt.
    pub fn new(file: impl Into<String>, line: Option<u32>, problem: Problem) -> Self {
        Self { file: file.into(), line, problem, excerpt: None }
    }
}

impl From<Fault> for LoadError {
    fn from(fault: Fault) -> Self {
        Self { faults: vec![fault] }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(fault, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(excerpt) = &self.excerpt {
            write!(f, ":{}", excerpt.column)?;
        }
        write!(f, ": {}", self.problem)?;
        match &self.excerpt {
            Some(excerpt) if f.alternate() => write!(f, "\n{excerpt}"),
            Some(_) | None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.problem)
    }
}

/// Faults found so far in a pass that goes on after the first.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault; `false` once there are enough of them and the pass should stop.
    pub fn note(&mut self, file: &str, line: Option<u32>, problem: Problem) -> bool {
        if self.0.len() < LoadError::MOST {
            self.0.push(Fault::new(file, line, problem));
        }
        self.0.len() < LoadError::MOST
    }

    /// `Ok` if nothing was noted.
    ///
    /// # Errors
    /// What was noted.
    pub fn none_or_error(self) -> Result<(), LoadError> {
        if self.0.is_empty() { Ok(()) } else { Err(LoadError { faults: self.0 }) }
    }
}
