//! The listeners' certificates, and those of callers: loaded whole, so that a file that does not hold changes nothing.

use std::path::PathBuf;

use super::assemble::AssembleError;
use crate::authn::{CertificateIssuer, SubjectKind};
use crate::config::settings::{Admin, ClientCerts, Server, Subject, Tls};
use crate::net::{ServerTls, ServingError, client_verifier};
use crate::proxy::live::Listeners;

/// What the files of certificates give.
pub struct Loaded {
    /// TLS on the listeners.
    pub tls: Listeners,
    /// Who vouches for callers by certificates.
    pub issuer: Option<CertificateIssuer>,
}

/// Loads every certificate, key, authority and list of revocations that the listeners need. Reads files.
///
/// # Errors
/// [`AssembleError::Tls`]: the first that does not hold.
pub fn load(server: &Server, admin: &Admin) -> Result<Loaded, AssembleError> {
    let failed = |key| move |source| AssembleError::Tls { key, source: Box::new(source) };
    let issuer =
        server.client_certs.as_ref().map(issuer).transpose().map_err(failed("server.client_certs"))?;
    let verifier = issuer.as_ref().map(|issuer| issuer.verifier.clone());
    let tls = |tls: &Tls, verifier| ServerTls::new(&tls.cert, &tls.key, verifier);
    let front = server.tls.as_ref().map(|files| tls(files, verifier)).transpose();
    let admin = admin.tls.as_ref().map(|files| tls(files, None)).transpose();
    let tls =
        Listeners { front: front.map_err(failed("server.tls"))?, admin: admin.map_err(failed("admin.tls"))? };
    Ok(Loaded { tls, issuer })
}

fn issuer(words: &ClientCerts) -> Result<CertificateIssuer, ServingError> {
    let kind = |subject: &Subject| match subject {
        Subject::Spiffe => SubjectKind::Spiffe,
        Subject::Dns => SubjectKind::Dns,
        Subject::CommonName => SubjectKind::CommonName,
    };
    Ok(CertificateIssuer {
        name: words.name.clone(),
        primary: words.primary,
        subject: words.subject.iter().map(kind).collect(),
        trust_domain: words.trust_domain.clone(),
        verifier: client_verifier(&words.ca_file, &words.crl_files)?,
    })
}

/// The files that [`load`] reads.
pub fn files(server: &Server, admin: &Admin) -> Vec<PathBuf> {
    let tls = server.tls.iter().chain(&admin.tls).flat_map(|tls| [tls.cert.clone(), tls.key.clone()]);
    let callers = server
        .client_certs
        .iter()
        .flat_map(|words| std::iter::once(words.ca_file.clone()).chain(words.crl_files.iter().cloned()));
    tls.chain(callers).collect()
}
