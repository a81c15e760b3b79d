//! Who calls, as proved.

use std::sync::Arc;

use crate::clock::Timestamp;

/// What is known of the caller once its credential has been looked at. A failed proof is a value, not an error: it
/// is decided (always a deny) and recorded like any other, and never becomes [`Identity::Anonymous`].
#[derive(Clone, Debug)]
pub enum Identity {
    /// No credential was presented. Policy may still allow the principal `anonymous`.
    Anonymous,
    /// The credential was checked and holds.
    Proved(Arc<Caller>),
    /// A credential was presented and does not hold.
    Failed(CredentialFault),
}

/// A proved caller: the principals policy rows can match, and what the record says of the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The caller's own principal: `user:<sub>` for the primary issuer, `user:<issuer>:<sub>` for others.
    pub user: String,
    /// Principals granted by the credential, each `role:<name>`, in the credential's order, without repeats.
    pub roles: Vec<String>,
    /// The configured name of the issuer that vouches.
    pub issuer: String,
    /// How the proof was made.
    pub method: ProofMethod,
    /// The token's `jti`, if it has one.
    pub token_id: Option<String>,
    /// The `kid` of the key that signed the token, if the token names one.
    pub key_id: Option<String>,
    /// When the proof ceases to hold.
    pub expires: Timestamp,
    /// Whom the other credential proves, where a certificate and a token were both shown.
    pub also: Option<Arc<Self>>,
}

/// How a caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofMethod {
    /// A bearer JWT (RFC 6750, RFC 7519).
    Jwt,
    /// A client certificate (RFC 8705's sense of mutual TLS).
    Mtls,
}

impl ProofMethod {
    /// The word for it in a record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Mtls => "mtls",
        }
    }
}

/// Why a presented credential does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialFault {
    /// Not a well-formed credential of its scheme.
    Malformed,
    /// An `Authorization` scheme other than `Bearer`.
    UnsupportedScheme,
    /// No configured issuer has this `iss`.
    UnknownIssuer,
    /// The token's algorithm is not among those configured for its issuer.
    AlgorithmNotAllowed,
    /// No key of the issuer has this `kid`, or fits the algorithm.
    UnknownKey,
    /// The signature does not verify.
    BadSignature,
    /// `exp` lies in the past.
    Expired,
    /// `nbf` lies in the future.
    NotYetValid,
    /// `aud` does not name this gate.
    WrongAudience,
    /// A required claim is missing or of the wrong type.
    BadClaims,
    /// The issuer's keys could not be had, or are too old to be trusted.
    KeysUnavailable,
    /// Nobody looked at it, since its caller had asked too often.
    Unchecked,
    /// The service requires a client certificate, and none was shown.
    CertificateMissing,
    /// The client certificate was accepted when the connection began, and is not by the authorities and lists of
    /// revocations in force now.
    CertificateRejected,
    /// The client certificate names no caller, or more than one.
    CertificateSubject,
}

impl CredentialFault {
    /// The word for it in a record's `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "credential_malformed",
            Self::UnsupportedScheme => "credential_unsupported_scheme",
            Self::UnknownIssuer => "credential_unknown_issuer",
            Self::AlgorithmNotAllowed => "credential_algorithm_not_allowed",
            Self::UnknownKey => "credential_unknown_key",
            Self::BadSignature => "credential_bad_signature",
            Self::Expired => "credential_expired",
            Self::NotYetValid => "credential_not_yet_valid",
            Self::WrongAudience => "credential_wrong_audience",
            Self::BadClaims => "credential_bad_claims",
            Self::KeysUnavailable => "credential_keys_unavailable",
            Self::Unchecked => "credential_unchecked",
            Self::CertificateMissing => "credential_certificate_missing",
            Self::CertificateRejected => "credential_certificate_rejected",
            Self::CertificateSubject => "credential_certificate_subject",
        }
    }
}
