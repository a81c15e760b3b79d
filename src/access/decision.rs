//! Allow or deny, and why.

use std::sync::Arc;

use super::identity::CredentialFault;
use super::malformed::Malformed;

/// The gate's answer to one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The call may go through once this is recorded.
    Allow(Grounds),
    /// The call may not go through.
    Deny(Grounds),
}

/// Why a decision is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grounds {
    /// The cause, as one word of a closed list.
    pub reason: Reason,
    /// The policy row that decided, where one did.
    pub rule: Option<Arc<Rule>>,
}

/// A policy row, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The row as loaded, fields joined by `, `, e.g. `p, role:viewer, app, /docs/*, GET, allow`.
    pub text: String,
    /// The file it came from, as the config names it.
    pub file: String,
    /// Its line there, from 1.
    pub line: u32,
}

/// The closed list of causes. [`Reason::code`] is what records, metrics and the audit API say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Policy allows it.
    PolicyAllow,
    /// The service answers or forwards CORS preflights, and this is one.
    CorsPreflight,
    /// A policy row denies it.
    PolicyDeny,
    /// No policy row allows it.
    NoMatch,
    /// The request has more than one reading, or none.
    Malformed(Malformed),
    /// No service is configured for this host and path.
    NoService,
    /// The connection was made for a host that asks otherwise for client certificates than the one the call names.
    Misdirected,
    /// A method the gate does not forward.
    MethodNotAllowed,
    /// The credential presented does not hold.
    Credential(CredentialFault),
    /// The caller, its address or the service has had more calls than its rate allows.
    RateLimited,
    /// The policy could not be evaluated for this request.
    PolicyError,
    /// The policy did not answer within its deadline.
    PolicyTimeout,
    /// The gate itself failed while deciding.
    Internal,
}

impl Reason {
    /// The word for it in records, metrics and the audit API.
    pub const fn code(self) -> &'static str {
        match self {
            Self::PolicyAllow => "policy_allow",
            Self::CorsPreflight => "cors_preflight",
            Self::PolicyDeny => "policy_deny",
            Self::NoMatch => "no_match",
            Self::Malformed(m) => m.as_str(),
            Self::NoService => "no_service",
            Self::Misdirected => "misdirected",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Credential(f) => f.as_str(),
            Self::RateLimited => "rate_limited",
            Self::PolicyError => "policy_error",
            Self::PolicyTimeout => "policy_timeout",
            Self::Internal => "internal_error",
        }
    }
}

impl Decision {
    /// An allow for `reason`, by `rule`.
    pub const fn allow(reason: Reason, rule: Option<Arc<Rule>>) -> Self {
        Self::Allow(Grounds { reason, rule })
    }

    /// A deny for `reason`, by `rule`.
    pub const fn deny(reason: Reason, rule: Option<Arc<Rule>>) -> Self {
        Self::Deny(Grounds { reason, rule })
    }

    /// Why.
    pub const fn grounds(&self) -> &Grounds {
        match self {
            Self::Allow(grounds) | Self::Deny(grounds) => grounds,
        }
    }

    /// The word for it in a record: `allow` or `deny`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow(_) => "allow",
            Self::Deny(_) => "deny",
        }
    }
}
