//! Whom we trust when we connect, and which protocols we offer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::pem::{self, PemError};

/// Where trusted root certificates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roots<'a> {
    /// The machine's own store (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
    Native,
    /// A PEM file, and nothing but it.
    File(&'a Path),
}

/// The client's side of TLS 1.2 and 1.3, by aws-lc. Cheap to clone; clones share resumable sessions.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Reads the roots, and offers `alpn` in this order, e.g. `[b"http/1.1"]`; empty offers no ALPN.
    pub fn new(roots: Roots<'_>, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        Self::showing(None, roots, alpn)
    }

    /// As [`ClientTls::new`]; shows the certificate of the first file, whose private key is in the second, to whoever
    /// asks for one.
    pub fn showing(
        certificate: Option<(&Path, &Path)>,
        roots: Roots<'_>,
        alpn: &[&[u8]],
    ) -> Result<Self, TlsError> {
        let store = match roots {
            Roots::Native => native_roots()?,
            Roots::File(path) => file_roots(path)?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store);
        let mut config = match certificate {
            Some((cert, key)) => {
                let certified = pem::certified_key(cert, key)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

/// Why the client's side of TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The machine trusts nobody.
    #[error(
        "this machine has no trusted root certificates; install them (Debian: ca-certificates) or name a ca_file"
    )]
    NoNativeRoots,
    /// The CA file cannot be used.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A certificate of the CA file cannot be a root.
    #[error("{}: certificate {position} cannot be a trusted root: {source}", path.display())]
    BadRoot {
        /// The CA file.
        path: PathBuf,
        /// Which certificate of the file, from 1.
        position: usize,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// rustls accepts none of our settings.
    #[error("TLS could not be set up: {0}")]
    Setup(#[from] rustls::Error),
}

fn native_roots() -> Result<RootCertStore, TlsError> {
    // Stores of real machines hold certificates that are not roots; what can be used is used.
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 { Err(TlsError::NoNativeRoots) } else { Ok(store) }
}

pub(super) fn file_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for (before, certificate) in pem::certificates(path)?.into_iter().enumerate() {
        store.add(certificate).map_err(|source| TlsError::BadRoot {
            path: path.to_owned(),
            position: before + 1,
            source,
        })?;
    }
    Ok(store)
}
