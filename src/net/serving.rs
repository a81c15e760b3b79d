//! The server's side of TLS: our certificate, and whom we believe a client certificate of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};

use super::pem::{self, PemError};
use super::tls::{TlsError, file_roots};

/// TLS 1.2 and 1.3 for connections that come in, with HTTP/2 and HTTP/1.1 by ALPN.
#[derive(Clone, Debug)]
pub struct ServerTls {
    silent: Arc<ServerConfig>,
    asking: Option<Arc<ServerConfig>>,
}

/// Why the server's side of TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// A certificate, key or list of revocations does not hold.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The clients' authorities cannot be trusted.
    #[error(transparent)]
    Authorities(#[from] TlsError),
    /// A list of revocations cannot be used.
    #[error("{}: {source}", .files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", "))]
    Verifier {
        /// The clients' authorities and lists of revocations.
        files: Vec<PathBuf>,
        /// What is wrong.
        source: VerifierBuilderError,
    },
    /// rustls accepts none of our settings.
    #[error("TLS could not be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl ServerTls {
    /// Shows the certificate of `cert`; clients can be asked for theirs, if `verifier` says whose are good.
    ///
    /// # Errors
    /// [`ServingError`].
    pub fn new(
        cert: &Path,
        key: &Path,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<Self, ServingError> {
        let certified = Arc::new(SingleCertAndKey::from(pem::certified_key(cert, key)?));
        let config = |verifier: Option<Arc<dyn ClientCertVerifier>>| -> Result<_, rustls::Error> {
            let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?;
            let asks = verifier.is_some();
            let builder = match verifier {
                Some(verifier) => builder.with_client_cert_verifier(verifier),
                None => builder.with_no_client_auth(),
            };
            let mut config = builder.with_cert_resolver(certified.clone());
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            if asks {
                // A resumed session brings its certificate along unverified, from before whatever changed since.
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
            Ok(Arc::new(config))
        };
        Ok(Self { silent: config(None)?, asking: verifier.map(|v| config(Some(v))).transpose()? })
    }

    /// How to shake hands with a client that shall be asked for its certificate, or not; and whether it is.
    pub fn config(&self, ask: bool) -> (Arc<ServerConfig>, bool) {
        match self.asking.as_ref().filter(|_| ask) {
            Some(asking) => (Arc::clone(asking), true),
            None => (Arc::clone(&self.silent), false),
        }
    }
}

/// Believes client certificates that the authorities of `ca_file` signed. Nobody has to show one. With `crl_files`, no
/// certificate of a chain may stand on them, and each must be covered by one that has not run out.
///
/// # Errors
/// [`ServingError`].
pub fn client_verifier(
    ca_file: &Path,
    crl_files: &[PathBuf],
) -> Result<Arc<dyn ClientCertVerifier>, ServingError> {
    let roots: RootCertStore = file_roots(ca_file)?;
    let mut lists = Vec::new();
    for file in crl_files {
        lists.extend(pem::revocation_lists(file)?);
    }
    WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::new(aws_lc_rs::default_provider()))
        .with_crls(lists)
        .enforce_revocation_expiration()
        .allow_unauthenticated()
        .build()
        .map_err(|source| {
            let files = std::iter::once(ca_file).chain(crl_files.iter().map(PathBuf::as_path));
            ServingError::Verifier { files: files.map(Path::to_owned).collect(), source }
        })
}
