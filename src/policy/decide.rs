//! A loaded policy, and asking it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use casbin::error::ModelError;
use casbin::rhai::ImmutableString;
use casbin::{CoreApi, Enforcer};

use super::asking::{self, Tables};
use super::expression::Expression;
use super::index::{Hits, Index};
use super::model::{ModelText, RequestName};
use super::patterns::{Function, PatternError};
use super::rows::Row;
use super::text::PolicyText;
use crate::access::{Decision, Reason, Rule};
use crate::audit::hash::Hash;

/// What one caller wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The caller's principal: `user:<name>` or `anonymous`. `r.sub`.
    pub user: &'a str,
    /// The roles the caller's credential grants, each `role:<name>`.
    pub roles: &'a [String],
    /// The service's name. `r.dom`.
    pub service: &'a str,
    /// The canonical path. `r.obj`.
    pub path: &'a str,
    /// The method. `r.act`.
    pub method: &'a str,
    /// The host, lower-case, without a port. `r.host`.
    pub host: &'a str,
    /// The client's address. `r.ip`; an IPv4-mapped IPv6 address is its IPv4 address.
    pub ip: IpAddr,
}

/// The policy's answer.
#[derive(Debug)]
pub enum Verdict {
    /// Allowed, by this row; by no row under an effect that allows what no row denies.
    Allow {
        /// The row.
        rule: Option<Arc<Rule>>,
    },
    /// Denied by this row, or for want of one that allows.
    Deny {
        /// The row.
        rule: Option<Arc<Rule>>,
    },
    /// The policy has no answer for this question. A denial, with its own reason.
    Failed(EvaluationError),
}

/// Why the policy has no answer.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// casbin-rs ends the evaluation with an error.
    #[error("{}", plainly(.0))]
    Casbin(#[source] Box<casbin::Error>),
    /// A pattern that came about during evaluation does not hold, or was given a value it cannot match.
    #[error("{function}: {source}")]
    Pattern {
        /// The function that was called.
        function: Function,
        /// What is wrong.
        source: PatternError,
    },
    /// A role function was given something other than strings.
    #[error("a role function takes names, that is, strings")]
    RoleOfNoName,
    /// The evaluation panicked.
    #[error("the evaluation panicked")]
    Panicked,
}

/// casbin's message without the `Debug` form it wraps it in.
pub(super) fn plainly(error: &casbin::Error) -> String {
    match error {
        casbin::Error::RhaiError(inner) => inner.to_string(),
        casbin::Error::RhaiParseError(inner) => inner.to_string(),
        casbin::Error::ModelError(ModelError::M(text) | ModelError::Other(text)) => text.clone(),
        casbin::Error::ModelError(inner) => inner.to_string(),
        casbin::Error::PolicyError(inner) => inner.to_string(),
        casbin::Error::RequestError(inner) => inner.to_string(),
        casbin::Error::IoError(_) | casbin::Error::RbacError(_) | casbin::Error::AdapterError(_) => {
            error.to_string()
        }
    }
}

/// How much a policy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Distinct `p` rows.
    pub rules: usize,
    /// Distinct role links, over all role definitions.
    pub links: usize,
}

/// What works out the answers.
pub(super) enum Engine {
    /// Our index, for a matcher that it can hold.
    Index(Index),
    /// casbin itself, which looks at every row.
    Casbin(Box<Enforcer>),
}

/// A policy that loaded, was checked and probed. Immutable, and asked from any number of threads at once.
pub struct Policy {
    pub(super) engine: Engine,
    pub(super) tables: Arc<Tables>,
    pub(super) model: ModelText,
    /// The matcher as a tree, if it is of that shape.
    pub(super) expression: Option<Expression>,
    /// Distinct `p` rows in the order they are evaluated.
    pub(super) rows: Vec<Row>,
    /// The same rows as decisions name them.
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) links: Vec<Row>,
    pub(super) epoch: Hash,
    pub(super) text: PolicyText,
    /// The model's file, and those of the rows.
    pub(super) files: (String, Vec<String>),
    pub(super) counts: Counts,
    pub(super) probe_cost: Duration,
}

impl Policy {
    /// Whether `question` may go through. Total: errors and panics are [`Verdict::Failed`].
    pub fn decide(&self, question: &Question<'_>) -> Verdict {
        match &self.engine {
            Engine::Index(index) => {
                let (allowed, hits) = index.ask(&self.rows, question);
                self.verdict(allowed, hits)
            }
            Engine::Casbin(enforcer) => self.enforce(enforcer, question),
        }
    }

    fn enforce(&self, enforcer: &Enforcer, question: &Question<'_>) -> Verdict {
        let evaluate = || enforcer.enforce(self.values(question));
        let (answer, trace) = asking::ask(&self.tables, question, evaluate);
        if let Some(fault) = trace.fault {
            return Verdict::Failed(fault);
        }
        match answer {
            None => Verdict::Failed(EvaluationError::Panicked),
            Some(Err(error)) => Verdict::Failed(EvaluationError::Casbin(Box::new(error))),
            Some(Ok(allowed)) => {
                self.verdict(allowed, Hits { allow: trace.allowed_by, deny: trace.denied_by })
            }
        }
    }

    fn verdict(&self, allowed: bool, hits: Hits) -> Verdict {
        if allowed {
            Verdict::Allow { rule: self.rule(hits.allow) }
        } else {
            Verdict::Deny { rule: self.rule(hits.deny) }
        }
    }

    /// Whether an index was compiled for it. Without one, casbin evaluates every row for every request.
    pub fn is_compiled(&self) -> bool {
        matches!(self.engine, Engine::Index(_))
    }

    /// The policy's name: SHA-256 over model and policy files as loaded.
    pub fn epoch(&self) -> Hash {
        self.epoch
    }

    /// What it was loaded from, to be kept beside its decisions.
    pub const fn text(&self) -> &PolicyText {
        &self.text
    }

    /// The names of the model's file and of the policy files, in order, as loaded.
    pub fn files(&self) -> (&str, &[String]) {
        (&self.files.0, &self.files.1)
    }

    /// The model.
    pub fn model(&self) -> &ModelText {
        &self.model
    }

    /// The matcher as a tree, if it is of that shape.
    pub fn expression(&self) -> Option<&Expression> {
        self.expression.as_ref()
    }

    /// The distinct `p` rows, in the order they are evaluated: a row that comes twice has its last place.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The distinct rows of `g`, `g2`, …
    pub fn links(&self) -> &[Row] {
        &self.links
    }

    /// How much the policy holds.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What a costly denial took when the policy was loaded, so that a slow policy can be asked elsewhere than on a
    /// thread that serves connections.
    pub fn probe_cost(&self) -> Duration {
        self.probe_cost
    }

    fn rule(&self, position: Option<usize>) -> Option<Arc<Rule>> {
        // A model that needs no rows is evaluated once without any, at a position that has no row.
        position.and_then(|position| self.rules.get(position)).map(Arc::clone)
    }

    fn values(&self, question: &Question<'_>) -> Vec<ImmutableString> {
        self.model.request.iter().map(|name| question.value(*name)).collect()
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("epoch", &self.epoch)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Question<'_> {
    /// Gives `with` the value of a request name, as the matcher sees it.
    pub fn with<T>(&self, name: RequestName, with: impl FnOnce(&str) -> T) -> T {
        match name {
            RequestName::Sub => with(self.user),
            RequestName::Dom => with(self.service),
            RequestName::Obj => with(self.path),
            RequestName::Act => with(self.method),
            RequestName::Host => with(self.host),
            RequestName::Ip => with(&self.ip.to_canonical().to_string()),
        }
    }

    /// The value of a request name, as casbin takes it.
    pub(super) fn value(&self, name: RequestName) -> ImmutableString {
        self.with(name, |value| value.into())
    }
}

impl Verdict {
    /// The decision it amounts to. A failure is a denial; its error is for the process's own log.
    pub fn into_decision(self) -> Decision {
        match self {
            Self::Allow { rule } => Decision::allow(Reason::PolicyAllow, rule),
            Self::Deny { rule: Some(rule) } => Decision::deny(Reason::PolicyDeny, Some(rule)),
            Self::Deny { rule: None } => Decision::deny(Reason::NoMatch, None),
            Self::Failed(_) => Decision::deny(Reason::PolicyError, None),
        }
    }
}
