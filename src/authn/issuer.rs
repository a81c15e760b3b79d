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

/// Why the issuers as configured cannot be trusted with anything. Each names the issuer by its configured name.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A name that would not stand in a principal.
    #[error(
        "issuer {name:?}: a name must not be empty and must have no colon, white space or control character"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Two issuers of one name.
    #[error("issuer {name:?} is configured twice; give each its own name")]
    RepeatedName {
        /// The name.
        name: String,
    },
    /// An empty `iss`.
    #[error("issuer {name:?}: `issuer` must be the `iss` of its tokens")]
    NoIssuer {
        /// The issuer's name.
        name: String,
    },
    /// Two issuers for one `iss`: a token could not tell which it is from.
    #[error("issuer {name:?}: the `iss` {issuer:?} belongs to another issuer already")]
    RepeatedIssuer {
        /// The second issuer's name.
        name: String,
        /// The `iss` of both.
        issuer: String,
    },
    /// No audience.
    #[error("issuer {name:?}: name at least one audience, so that tokens made for others are refused")]
    NoAudience {
        /// The issuer's name.
        name: String,
    },
    /// No algorithm.
    #[error("issuer {name:?}: name at least one algorithm, e.g. ES256")]
    NoAlgorithm {
        /// The issuer's name.
        name: String,
    },
    /// No claim to take the subject or the roles from.
    #[error("issuer {name:?}: the claims for subject and roles must not be empty")]
    NoClaim {
        /// The issuer's name.
        name: String,
    },
    /// A role that could not stand in a principal.
    #[error("issuer {name:?}: {role:?} is not a role; roles are not empty and have no control character")]
    Role {
        /// The issuer's name.
        name: String,
        /// The role.
        role: String,
    },
    /// More than one primary issuer.
    #[error("issuer {name:?}: another issuer is primary already")]
    SecondPrimary {
        /// The second one's name.
        name: String,
    },
    /// Keys would grow too old before they are looked at again.
    #[error("issuer {name:?}: max_stale ({max_stale:?}) must be at least refresh ({refresh:?})")]
    StaleBeforeRefresh {
        /// The issuer's name.
        name: String,
        /// The configured time between looks.
        refresh: Duration,
        /// The configured age.
        max_stale: Duration,
    },
    /// The URL of the keys cannot be dialled.
    #[error("issuer {name:?}: {url}: {source}")]
    Url {
        /// The issuer's name.
        name: String,
        /// The URL.
        url: Uri,
        /// What is wrong with it.
        source: EndpointError,
    },
    /// The trust needed for the URL cannot be set up.
    #[error("issuer {name:?}: {source}")]
    Tls {
        /// The issuer's name.
        name: String,
        /// What is wrong.
        source: TlsError,
    },
    /// The key file cannot be used.
    #[error("issuer {name:?}: {}: {source}", path.display())]
    Keys {
        /// The issuer's name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SourceError,
    },
}

/// What must hold for each issuer, and among all.
pub(super) fn check(issuers: &[Issuer]) -> Result<(), SetupError> {
    let mut before: &[Issuer] = &[];
    for (index, issuer) in issuers.iter().enumerate() {
        check_one(issuer)?;
        let name = || issuer.name.clone();
        if before.iter().any(|other| other.name == issuer.name) {
            return Err(SetupError::RepeatedName { name: name() });
        }
        if before.iter().any(|other| other.issuer == issuer.issuer) {
            return Err(SetupError::RepeatedIssuer { name: name(), issuer: issuer.issuer.clone() });
        }
        if issuer.primary && before.iter().any(|other| other.primary) {
            return Err(SetupError::SecondPrimary { name: name() });
        }
        before = issuers.get(..=index).unwrap_or(issuers);
    }
    Ok(())
}

fn check_one(issuer: &Issuer) -> Result<(), SetupError> {
    let name = || issuer.name.clone();
    let misnamed = |c: char| c == ':' || c.is_whitespace() || c.is_control();
    if issuer.name.is_empty() || issuer.name.contains(misnamed) {
        return Err(SetupError::Name { name: name() });
    }
    if issuer.issuer.is_empty() {
        return Err(SetupError::NoIssuer { name: name() });
    }
    if issuer.audiences.is_empty() || issuer.audiences.iter().any(String::is_empty) {
        return Err(SetupError::NoAudience { name: name() });
    }
    if issuer.algorithms.is_empty() {
        return Err(SetupError::NoAlgorithm { name: name() });
    }
    if issuer.subject_claim.is_empty() || issuer.roles_claim.is_empty() {
        return Err(SetupError::NoClaim { name: name() });
    }
    if let Some(role) = issuer.roles.iter().find(|role| role.is_empty() || role.contains(char::is_control)) {
        return Err(SetupError::Role { name: name(), role: role.clone() });
    }
    if issuer.max_stale < issuer.refresh {
        return Err(SetupError::StaleBeforeRefresh {
            name: name(),
            refresh: issuer.refresh,
            max_stale: issuer.max_stale,
        });
    }
    Ok(())
}
