//! Issuers as plain values, and what must hold among them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::source::SourceError;
use crate::net::{EndpointError, TlsError};

/// One issuer of tokens that the gate trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The name it has in principals and records: `user:<name>:<sub>`. No colon, no white space.
    pub name: String,
    /// The exact `iss` of its tokens.
    pub issuer: String,
    /// A token's `aud` must name one of these. At least one.
    pub audiences: Vec<String>,
    /// What its tokens may be signed with. At least one.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are published.
    pub keys: KeySource,
    /// How often they are looked at.
    pub refresh: Duration,
    /// How long keys are trusted after the last look that found them; at least `refresh`.
    pub max_stale: Duration,
    /// The claim that names the caller, e.g. `sub`. Either a member's literal name or a dotted path; the literal
    /// name is tried first.
    pub subject_claim: String,
    /// The claim that lists the caller's roles, e.g. `realm_access.roles`; likewise.
    pub roles_claim: String,
    /// The roles it may grant, as they stand in tokens. Others in a token count for nothing.
    pub roles: Vec<String>,
    /// Whether its callers are `user:<sub>` rather than `user:<name>:<sub>`. True for at most one issuer.
    pub primary: bool,
}

/// Where a key set (RFC 7517 §5) is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file on this machine.
    File(PathBuf),
    /// An `http` or `https` URL. Redirects are not followed.
    Url {
        /// The URL.
        url: Uri,
        /// A PEM file of the roots to trust there, instead of the machine's.
        ca_file: Option<PathBuf>,
    },
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url { url, .. } => url.fmt(f),
        }
    }
}

/// What a token may be signed with (RFC 7518 §3.1, RFC 8037 §3.1). Shared secrets (`HS256` and its kin) and `none`
/// are deliberately absent: a gate that can check such a token could also make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519. Also written `Ed25519` (RFC 9864 §2.2).
    EdDsa,
}

impl Algorithm {
    /// Every algorithm, for messages that list them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Reads the word used in `alg`, which is case sensitive; `None` for every other.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "Ed25519" => Some(Self::EdDsa),
            _ => Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == word),
        }
    }

    /// The word used in `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// What is wrong with one issuer as configured.
#[derive(Debug, thiserror::Error)]
#[error("issuer {name:?}: {fault}")]
pub struct SetupError {
    /// The issuer's configured name.
    pub name: String,
    /// What is wrong.
    #[source]
    pub fault: Box<SetupFault>,
}

/// The ways an issuer as configured can be wrong.
#[derive(Debug, thiserror::Error)]
pub enum SetupFault {
    /// A name that could not stand in a principal.
    #[error("a name must not be empty and must have no colon, white space or control character")]
    Name,
    /// Two issuers of one name.
    #[error("configured twice; give each issuer its own name")]
    RepeatedName,
    /// An empty `iss`.
    #[error("`issuer` must be the `iss` of its tokens")]
    NoIssuer,
    /// Two issuers for one `iss`: a token could not tell which it is from.
    #[error("the `iss` {issuer:?} belongs to another issuer already")]
    RepeatedIssuer {
        /// The `iss` of both.
        issuer: String,
    },
    /// No audience.
    #[error("name at least one audience, so that tokens made for others are refused")]
    NoAudience,
    /// No algorithm.
    #[error("name at least one algorithm, e.g. ES256")]
    NoAlgorithm,
    /// No claim to take the subject or the roles from.
    #[error("the claims for subject and roles must not be empty")]
    NoClaim,
    /// A role that could not stand in a principal.
    #[error("{role:?} is not a role; roles are not empty and have no control character")]
    Role {
        /// The role.
        role: String,
    },
    /// More than one primary issuer.
    #[error("another issuer is primary already")]
    SecondPrimary,
    /// Keys would grow too old before they are looked at again.
    #[error("max_stale ({max_stale:?}) must be at least refresh ({refresh:?})")]
    StaleBeforeRefresh {
        /// The configured time between looks.
        refresh: Duration,
        /// The configured age.
        max_stale: Duration,
    },
    /// The URL of the keys cannot be dialled.
    #[error("{url}: {source}")]
    Url {
        /// The URL.
        url: Uri,
        /// What is wrong with it.
        source: EndpointError,
    },
    /// The trust needed for the URL cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The key file cannot be used.
    #[error("{}: {source}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SourceError,
    },
}

impl Issuer {
    pub(super) fn wrong(&self, fault: impl Into<SetupFault>) -> SetupError {
        SetupError { name: self.name.clone(), fault: Box::new(fault.into()) }
    }
}

/// What must hold for each issuer, and among all.
pub(super) fn check(issuers: &[Issuer]) -> Result<(), SetupError> {
    for (index, issuer) in issuers.iter().enumerate() {
        let others = issuers.get(..index).unwrap_or_default();
        alone(issuer).and_then(|()| beside(issuer, others)).map_err(|fault| issuer.wrong(fault))?;
    }
    Ok(())
}

fn alone(issuer: &Issuer) -> Result<(), SetupFault> {
    let misnamed = |c: char| c == ':' || c.is_whitespace() || c.is_control();
    if issuer.name.is_empty() || issuer.name.contains(misnamed) {
        return Err(SetupFault::Name);
    }
    if issuer.issuer.is_empty() {
        return Err(SetupFault::NoIssuer);
    }
    if issuer.audiences.is_empty() || issuer.audiences.iter().any(String::is_empty) {
        return Err(SetupFault::NoAudience);
    }
    if issuer.algorithms.is_empty() {
        return Err(SetupFault::NoAlgorithm);
    }
    if issuer.subject_claim.is_empty() || issuer.roles_claim.is_empty() {
        return Err(SetupFault::NoClaim);
    }
    if let Some(role) = issuer.roles.iter().find(|role| role.is_empty() || role.contains(char::is_control)) {
        return Err(SetupFault::Role { role: role.clone() });
    }
    if issuer.max_stale < issuer.refresh {
        let (refresh, max_stale) = (issuer.refresh, issuer.max_stale);
        return Err(SetupFault::StaleBeforeRefresh { refresh, max_stale });
    }
    Ok(())
}

fn beside(issuer: &Issuer, others: &[Issuer]) -> Result<(), SetupFault> {
    if others.iter().any(|other| other.name == issuer.name) {
        return Err(SetupFault::RepeatedName);
    }
    if others.iter().any(|other| other.issuer == issuer.issuer) {
        return Err(SetupFault::RepeatedIssuer { issuer: issuer.issuer.clone() });
    }
    if issuer.primary && others.iter().any(|other| other.primary) {
        return Err(SetupFault::SecondPrimary);
    }
    Ok(())
}
