//! Certificates and private keys from PEM files (RFC 7468). Errors name the file and what is in it instead.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

/// The certificates of a PEM file, at least one, in the file's order (a server's own certificate first).
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = read(path)?;
    let found = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|problem| PemError::syntax(path, problem))?;
    if found.is_empty() {
        return Err(PemError::NoCertificate { path: path.to_owned(), instead: Contents::of(&text) });
    }
    Ok(found)
}

/// The lists of revoked certificates in a PEM file (RFC 5280 §5), at least one.
pub fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    let text = read(path)?;
    let found = CertificateRevocationListDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|problem| PemError::syntax(path, problem))?;
    if found.is_empty() {
        return Err(PemError::NoRevocations { path: path.to_owned(), instead: Contents::of(&text) });
    }
    Ok(found)
}

/// The first private key of a PEM file: PKCS#8, PKCS#1 or SEC1.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let text = read(path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            Err(PemError::NoPrivateKey { path: path.to_owned(), instead: Contents::of(&text) })
        }
        Err(problem) => Err(PemError::syntax(path, problem)),
    }
}

/// A certificate chain and its private key, checked to belong together.
pub fn certified_key(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, PemError> {
    let chain = certificates(cert)?;
    let private = private_key(key)?;
    match CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()) {
        Ok(certified) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(PemError::KeyMismatch { cert: cert.to_owned(), key: key.to_owned() })
        }
        Err(source @ rustls::Error::InvalidCertificate(_)) => {
            Err(PemError::BadCertificate { path: cert.to_owned(), source })
        }
        Err(source) => Err(PemError::BadKey { path: key.to_owned(), source }),
    }
}

/// Why a PEM file does not give what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file is too large to be a PEM file.
    #[error("{}: larger than {} KiB; a PEM file is expected", path.display(), MAX_FILE_BYTES / 1024)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A section begins but does not hold.
    #[error("{}: not valid PEM: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: pem::Error,
    },
    /// No certificate in it.
    #[error("{}: {instead}, where a certificate (BEGIN CERTIFICATE) is needed", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What is there instead.
        instead: Contents,
    },
    /// No list of revocations in it.
    #[error("{}: {instead}, where a list of revocations (BEGIN X509 CRL) is needed", path.display())]
    NoRevocations {
        /// The file.
        path: PathBuf,
        /// What is there instead.
        instead: Contents,
    },
    /// No private key in it.
    #[error("{}: {instead}, where a private key (BEGIN PRIVATE KEY) is needed", path.display())]
    NoPrivateKey {
        /// The file.
        path: PathBuf,
        /// What is there instead.
        instead: Contents,
    },
    /// The certificate is not one.
    #[error("{}: the certificate cannot be used: {source}", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The private key is not one, or of a kind TLS has no use for.
    #[error("{}: the private key cannot be used: {source}", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// Certificate and key are not a pair.
    #[error("{}: this private key does not belong to the certificate in {}", key.display(), cert.display())]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

impl PemError {
    fn syntax(path: &Path, problem: pem::Error) -> Self {
        Self::Syntax { path: path.to_owned(), problem }
    }
}

/// What a PEM file holds, as far as it helps to say what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contents {
    /// Nothing at all.
    #[error("the file is empty")]
    Empty,
    /// Text or bytes without a PEM section.
    #[error("no PEM section is in the file")]
    NotPem,
    /// A certificate.
    #[error("the file holds a certificate")]
    Certificate,
    /// A private key.
    #[error("the file holds a private key")]
    PrivateKey,
    /// A private key under a passphrase.
    #[error("the private key is encrypted; decrypt it with `openssl pkey -in FILE -out FILE`")]
    EncryptedKey,
    /// A bare public key.
    #[error("the file holds a public key")]
    PublicKey,
    /// A section of another kind.
    #[error("the file holds another kind of PEM section")]
    Other,
}

impl Contents {
    fn of(text: &[u8]) -> Self {
        const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
        const BEGIN: &[u8] = b"-----BEGIN ";
        let holds = |needle: &[u8]| text.windows(needle.len()).any(|window| window == needle);
        if text.is_empty() {
            return Self::Empty;
        }
        if holds(ENCRYPTED) {
            return Self::EncryptedKey;
        }
        match <(SectionKind, Vec<u8>)>::from_pem_slice(text) {
            Ok((SectionKind::Certificate, _)) => Self::Certificate,
            Ok((SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey, _)) => {
                Self::PrivateKey
            }
            Ok((SectionKind::PublicKey, _)) => Self::PublicKey,
            Ok(_) => Self::Other,
            Err(_) if holds(BEGIN) => Self::Other,
            Err(_) => Self::NotPem,
        }
    }
}

/// Reads a file of bounded size; the copy is wiped when dropped, since it may be a private key.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let failed = |source| PemError::Read { path: path.to_owned(), source };
    // Room for the whole of it from the start, so that growing leaves no copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(64 * 1024));
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(PemError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

/// Bundles of all public roots are about 230 KiB.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn pair() -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        (cert.pem(), key)
    }

    #[test]
    fn a_certificate_and_its_key_load_together_and_others_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = pair();
        let (other_cert, _) = pair();
        let cert = file(&dir, "cert.pem", &cert);
        let other = file(&dir, "other.pem", &other_cert);
        let key = file(&dir, "key.pem", &key.serialize_pem());
        assert_eq!(certified_key(&cert, &key).unwrap().cert.len(), 1);
        let error = certified_key(&other, &key).unwrap_err();
        assert!(matches!(error, PemError::KeyMismatch { .. }), "{error}");
        assert!(error.to_string().contains("key.pem") && error.to_string().contains("other.pem"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = pair();
        let cert = file(&dir, "cert.pem", &cert);
        let key = file(&dir, "key.pem", &key.serialize_pem());
        let empty = file(&dir, "empty.pem", "");
        let prose = file(&dir, "prose.pem", "see the vault\n");
        let encrypted = file(
            &dir,
            "locked.pem",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let torn = file(&dir, "torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
        let huge = file(&dir, "huge.pem", &"x".repeat(5 * 1024 * 1024));
        let cases: [(String, &str); 9] = [
            (certificates(&key).unwrap_err().to_string(), "key.pem: the file holds a private key, where"),
            (private_key(&cert).unwrap_err().to_string(), "cert.pem: the file holds a certificate, where"),
            (private_key(&empty).unwrap_err().to_string(), "empty.pem: the file is empty"),
            (certificates(&prose).unwrap_err().to_string(), "prose.pem: no PEM section"),
            (private_key(&encrypted).unwrap_err().to_string(), "locked.pem: the private key is encrypted"),
            (certificates(&torn).unwrap_err().to_string(), "torn.pem: not valid PEM"),
            (certificates(&huge).unwrap_err().to_string(), "huge.pem: larger than"),
            (certificates(&dir.path().join("none.pem")).unwrap_err().to_string(), "none.pem: cannot be read"),
            (private_key(dir.path()).unwrap_err().to_string(), "cannot be read"),
        ];
        for (said, expected) in cases {
            assert!(said.contains(expected), "{said:?} should say {expected:?}");
        }
    }
}
