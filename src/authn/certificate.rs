//! From a client certificate to a proved caller (RFC 5280; SPIFFE X.509-SVID; RFC 9525 for DNS names).
//!
//! A certificate is read once, when its connection begins, and says for itself only what is in it. Whom it proves is
//! asked with each call, of those who vouch then: a certificate that has been revoked since, or whose authority is no
//! longer trusted, proves nobody on a connection that was there before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::principal;
use crate::access::certificate::{ClientCertificate, Names};
use crate::access::{Caller, CredentialFault, ProofMethod};
use crate::audit::hash::Hash;
use crate::clock::Timestamp;

/// What in a certificate names the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// The SPIFFE ID: its one URI.
    Spiffe,
    /// Its one DNS name.
    Dns,
    /// The one common name of its subject.
    CommonName,
}

/// Whose certificates prove callers, and what they are called by them.
#[derive(Clone, Debug)]
pub struct CertificateIssuer {
    /// The name in principals and records: `user:<name>:<subject>`.
    pub name: String,
    /// Whether callers are `user:<subject>` instead.
    pub primary: bool,
    /// What names the caller, tried in this order; the first kind that a certificate has is the one that counts.
    pub subject: Vec<SubjectKind>,
    /// The trust domain that SPIFFE IDs must be of.
    pub trust_domain: Option<String>,
    /// Whose certificates are believed now.
    pub verifier: Arc<dyn ClientCertVerifier>,
}

/// Proves callers by their certificates.
#[derive(Debug)]
pub(super) struct Certificates {
    issuer: CertificateIssuer,
    number: u64,
}

/// A certificate cannot be read, though TLS accepted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client certificate cannot be read")]
pub struct Unreadable;

/// Reads the certificate that a client showed: `chain`, its own first.
///
/// # Errors
/// [`Unreadable`].
pub fn read(chain: &[CertificateDer<'_>]) -> Result<ClientCertificate, Unreadable> {
    let own = chain.first().ok_or(Unreadable)?;
    let (rest, certificate) = X509Certificate::from_der(own).map_err(|_| Unreadable)?;
    if !rest.is_empty() {
        return Err(Unreadable);
    }
    let serial = certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
    let expires = certificate.validity().not_after.timestamp();
    Ok(ClientCertificate::new(
        chain.iter().map(|der| der.to_vec()).collect(),
        Hash::of(own),
        serial,
        names(&certificate)?,
        // The second that `notAfter` names is still within (RFC 5280 §4.1.2.5).
        Timestamp::from_micros(expires.saturating_add(1).saturating_mul(1_000_000)),
    ))
}

fn names(certificate: &X509Certificate<'_>) -> Result<Names, Unreadable> {
    let mut names = Names::default();
    for name in certificate.subject().iter_common_name() {
        names.common.push(name.as_str().map_err(|_| Unreadable)?.to_owned());
    }
    let alternatives = certificate.subject_alternative_name().map_err(|_| Unreadable)?;
    for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
            GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
            GeneralName::Invalid(..) => return Err(Unreadable),
            _ => {}
        }
    }
    Ok(names)
}

impl Certificates {
    pub(super) fn new(issuer: CertificateIssuer) -> Self {
        // Each load vouches anew, so that no proof outlives what it was made by.
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self { issuer, number: NUMBERS.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whom `certificate` proves at `now`.
    pub(super) fn prove(
        &self,
        certificate: &ClientCertificate,
        names: &principal::Names,
        now: Timestamp,
    ) -> Result<Arc<Caller>, CredentialFault> {
        if now >= certificate.expires {
            return Err(CredentialFault::Expired);
        }
        certificate.proof(self.number, now, || {
            self.verify(certificate, now)?;
            let caller = self.caller(certificate, names).ok_or(CredentialFault::CertificateSubject)?;
            Ok(Arc::new(caller))
        })
    }

    fn verify(&self, certificate: &ClientCertificate, now: Timestamp) -> Result<(), CredentialFault> {
        let chain: Vec<CertificateDer<'_>> =
            certificate.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let (own, between) = chain.split_first().ok_or(CredentialFault::CertificateRejected)?;
        let seconds = u64::try_from(now.as_secs()).map_err(|_| CredentialFault::CertificateRejected)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        match self.issuer.verifier.verify_client_cert(own, between, now) {
            Ok(_) => Ok(()),
            Err(_) => Err(CredentialFault::CertificateRejected),
        }
    }

    fn caller(&self, certificate: &ClientCertificate, names: &principal::Names) -> Option<Caller> {
        let CertificateIssuer { name, primary, subject, trust_domain, .. } = &self.issuer;
        let domain = trust_domain.as_deref();
        let subject = subject.iter().find_map(|kind| subject_of(&certificate.names, *kind, domain))??;
        Some(Caller {
            user: principal::named(&subject, name, *primary, names)?,
            roles: Vec::new(),
            issuer: name.clone(),
            method: ProofMethod::Mtls,
            token_id: None,
            key_id: None,
            expires: certificate.expires,
            also: None,
        })
    }
}

/// The subject by its `kind` of name. `None` if there is none of the kind, `Some(None)` if what there is names nobody, or
/// more than one.
fn subject_of(names: &Names, kind: SubjectKind, trust_domain: Option<&str>) -> Option<Option<String>> {
    let found = match kind {
        // Other URIs may stand in certificates that are no SVIDs; beside a SPIFFE ID none may (X.509-SVID §2).
        SubjectKind::Spiffe if !names.uris.iter().any(|uri| begins_with(uri, "spiffe:")) => return None,
        SubjectKind::Spiffe => &names.uris,
        SubjectKind::Dns => &names.dns,
        SubjectKind::CommonName => &names.common,
    };
    let only = match found.as_slice() {
        [] => return None,
        [only] => only,
        [_, _, ..] => return Some(None),
    };
    Some(match kind {
        SubjectKind::Spiffe => is_workload(only, trust_domain).then(|| only.clone()),
        SubjectKind::Dns => is_dns_name(only).then(|| only.to_ascii_lowercase()),
        // A common name is free text: it must not pass for a SPIFFE ID.
        SubjectKind::CommonName => (!only.contains("://")).then(|| only.clone()),
    })
}

/// Whether `id` is the SPIFFE ID of a workload in `domain` (SPIFFE-ID §2; X.509-SVID §5.2: a leaf has a path).
fn is_workload(id: &str, domain: Option<&str>) -> bool {
    let Some((authority, path)) = id.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
    };
    Some(authority) == domain && path.split('/').all(segment)
}

/// Whether `name` is one name and no pattern.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn begins_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(uris: &[&str], dns: &[&str], common: &[&str]) -> Names {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Names { uris: owned(uris), dns: owned(dns), common: owned(common) }
    }

    #[test]
    fn a_certificate_names_one_caller_or_none() {
        use SubjectKind::{CommonName, Dns, Spiffe};
        let id = "spiffe://example.org/ns/a/sa/web";
        for (kind, names, expected) in [
            (Spiffe, names(&[id], &[], &["web"]), Some(Some(id))),
            (Spiffe, names(&[id], &["web.example.org"], &[]), Some(Some(id))),
            (Spiffe, names(&[], &["web.example.org"], &[]), None),
            (Spiffe, names(&["https://example.org/web"], &[], &[]), None),
            (Spiffe, names(&[id, id], &[], &[]), Some(None)),
            (Spiffe, names(&[id, "https://example.org/web"], &[], &[]), Some(None)),
            (Spiffe, names(&["spiffe://other.org/ns/a/sa/web"], &[], &[]), Some(None)),
            (Spiffe, names(&["spiffe://example.org"], &[], &[]), Some(None)),
            (Spiffe, names(&["spiffe://example.org/"], &[], &[]), Some(None)),
            (Spiffe, names(&["spiffe://example.org/a/../b"], &[], &[]), Some(None)),
            (Spiffe, names(&["spiffe://example.org//b"], &[], &[]), Some(None)),
            (Spiffe, names(&["spiffe://example.org/a%2Fb"], &[], &[]), Some(None)),
            (Spiffe, names(&["spiffe://example.org/a?b"], &[], &[]), Some(None)),
            (Spiffe, names(&["SPIFFE://example.org/a"], &[], &[]), Some(None)),
            (Spiffe, names(&["spiffe://example.org:80/a"], &[], &[]), Some(None)),
            (Spiffe, names(&["spiffe://u@example.org/a"], &[], &[]), Some(None)),
            (Dns, names(&[], &["Web.Example.org"], &["other"]), Some(Some("web.example.org"))),
            (Dns, names(&[], &["a.example.org", "b.example.org"], &[]), Some(None)),
            (Dns, names(&[], &["*.example.org"], &[]), Some(None)),
            (Dns, names(&[], &["a..b"], &[]), Some(None)),
            (Dns, names(&[], &["a\0.b"], &[]), Some(None)),
            (Dns, names(&[], &[], &["a.example.org"]), None),
            (CommonName, names(&[], &["x"], &["batch job"]), Some(Some("batch job"))),
            (CommonName, names(&[], &[], &["a", "b"]), Some(None)),
            (CommonName, names(&[], &[], &[id]), Some(None)),
            (CommonName, names(&[], &["x"], &[]), None),
        ] {
            let found = subject_of(&names, kind, Some("example.org"));
            assert_eq!(found.as_ref().map(Option::as_deref), expected, "{kind:?} of {names:?}");
        }
    }
}
