//! The keys of assertions, from the config's words.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::privileges;
use crate::clock::Clock;
use crate::config::settings;
use crate::proxy::assertion::{AssertionKey, AssertionKeyError, Assertions, key_set};

/// Why no assertions can be made.
#[derive(Debug, thiserror::Error)]
pub enum AssertionSetupError {
    /// A key file cannot be read.
    #[error("{key} {path}: {source}; `portcullis keygen --assertion` makes one")]
    KeyFile {
        /// The config's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than the owner can use the key.
    #[error(
        "{key} {path}: others than its owner can read or replace it, and pass for the gate; run `chmod 600 {path}`"
    )]
    KeyExposed {
        /// The config's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The key file holds no usable key.
    #[error("{key} {path}: {source}")]
    Key {
        /// The config's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: AssertionKeyError,
    },
    /// The log's key serves one purpose only.
    #[error("{key} {path}: this is a key of the log; make another with `portcullis keygen --assertion`")]
    KeyOfLog {
        /// The config's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
}

/// What is needed to make assertions, and to check them.
#[derive(Debug)]
pub(super) struct Asserting {
    /// Makes them.
    pub(super) assertions: Arc<Assertions>,
    /// What checks them: a JWK Set.
    pub(super) key_set: Bytes,
}

/// Reads the keys.
///
/// # Errors
/// [`AssertionSetupError`]: the first key that cannot be used.
pub(super) fn setup(
    assertion: &settings::Assertion,
    log: &settings::Log,
    clock: &Clock,
) -> Result<Asserting, AssertionSetupError> {
    let settings::Assertion { key_file, also_publish, lifetime } = assertion;
    let signing = read_key("assertion.key_file", key_file, log)?;
    let others = also_publish
        .iter()
        .map(|path| read_key("assertion.also_publish", path, log))
        .collect::<Result<Vec<_>, _>>()?;
    let key_set = key_set(std::iter::once(&signing).chain(&others));
    let assertions = Assertions::new(signing, *lifetime, clock.clone());
    Ok(Asserting { assertions: Arc::new(assertions), key_set: key_set.into() })
}

fn read_key(
    key: &'static str,
    file: &Path,
    log: &settings::Log,
) -> Result<AssertionKey, AssertionSetupError> {
    let path = || file.to_owned();
    if std::fs::metadata(file).is_ok_and(|metadata| privileges::is_exposed(&metadata)) {
        return Err(AssertionSetupError::KeyExposed { key, path: path() });
    }
    let read = read_pem(file).map_err(|source| AssertionSetupError::KeyFile { key, path: path(), source })?;
    let read = AssertionKey::from_pkcs8_pem(&read).map_err(|source| AssertionSetupError::Key {
        key,
        path: path(),
        source,
    })?;
    // Whether the log's keys can be read at all is told where they are needed.
    let of_log = std::iter::once(&log.key_file)
        .chain(&log.retiring_key_file)
        .filter_map(|file| AssertionKey::from_pkcs8_pem(&read_pem(file).ok()?).ok())
        .any(|other| other.kid() == read.kid());
    if of_log { Err(AssertionSetupError::KeyOfLog { key, path: path() }) } else { Ok(read) }
}

fn read_pem(file: &Path) -> std::io::Result<zeroize::Zeroizing<String>> {
    std::fs::read_to_string(file).map(zeroize::Zeroizing::new)
}
