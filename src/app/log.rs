//! Creating and opening the configured log.

use std::path::PathBuf;
use std::sync::Arc;

use super::assemble::assemble_unlistening;
use super::{StartError, privileges};
use crate::audit::checkpoint::{KeyError, Origin, OriginError, SigningKey};
use crate::audit::journal::reconcile::ReconcileError;
use crate::audit::journal::{Journal, JournalOptions, Unrecorded};
use crate::audit::marker::{Marker, MarkerError};
use crate::audit::record::{Epochs, Event};
use crate::audit::rocks::{OpenError, RocksOptions, RocksStore};
use crate::audit::storage::{Durability, LogIdentity, Store};
use crate::clock::Clock;
use crate::config::settings::{self, Settings};

/// Why a log cannot be created or opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The key file cannot be read.
    #[error("log.key_file {path}: {source}; `portcullis keygen` makes one")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than the owner can use the key.
    #[error(
        "log.key_file {path}: others than its owner can read or replace it, and sign a log of their own; \
         run `chmod 600 {path}`"
    )]
    KeyExposed {
        /// The file.
        path: PathBuf,
    },
    /// The key file holds no usable key.
    #[error("log.key_file {path}: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The origin cannot name a log.
    #[error("log.origin: {0}")]
    Origin(#[from] OriginError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The mark cannot be set.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// The log is gone, but it was there.
    #[error(
        "there is no log in {dir}, but {mark} says that origin {origin:?} has been used: its log was moved or lost. \
         Bring it back, or give the gate a new origin and run `portcullis audit create`"
    )]
    Gone {
        /// Where the log should be.
        dir: PathBuf,
        /// The mark.
        mark: PathBuf,
        /// The origin.
        origin: String,
    },
    /// The new log cannot be taken up.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// The first record was not written.
    #[error("the first record could not be written: {0}")]
    Unrecorded(#[from] Unrecorded),
    /// No runtime to be had.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Reads the configured signing key.
///
/// # Errors
/// [`LogError::KeyFile`], [`LogError::KeyExposed`], [`LogError::Key`], [`LogError::Origin`].
pub fn signing_key(log: &settings::Log) -> Result<SigningKey, LogError> {
    let path = || log.key_file.clone();
    if std::fs::metadata(&log.key_file).is_ok_and(|metadata| privileges::is_exposed(&metadata)) {
        return Err(LogError::KeyExposed { path: path() });
    }
    let pem = std::fs::read_to_string(&log.key_file)
        .map(zeroize::Zeroizing::new)
        .map_err(|source| LogError::KeyFile { path: path(), source })?;
    let origin = Origin::parse(&log.origin)?;
    SigningKey::from_pkcs8_pem(origin, &pem).map_err(|source| LogError::Key { path: path(), source })
}

/// Opens the configured log. A mark that is missing beside a log that is there is set again.
///
/// # Errors
/// [`LogError::Gone`] if there is none but there was one; [`LogError::Marker`]; [`LogError::Open`].
pub fn open(log: &settings::Log, key: &SigningKey) -> Result<Arc<dyn Store>, LogError> {
    if !RocksStore::is_at(&log.dir) {
        return Err(missing(log, key));
    }
    privileges::keep_files_private();
    for dir in [&log.dir, &log.state_dir] {
        if let Err(error) = privileges::tighten(dir) {
            tracing::warn!(dir = %dir.display(), %error, "others may be able to read files of the log");
        }
    }
    let store = RocksStore::open(&log.dir, rocks_options(log))?;
    let identity = LogIdentity { origin: key.origin().to_string(), vkey: key.verifier().to_string() };
    let marker = Marker::of(&log.state_dir, &identity.origin);
    // A log of another origin or key is for the journal to refuse, with a better word.
    if store.identity().is_ok_and(|held| held == identity) && !marker.names(&identity)? {
        tracing::warn!(mark = %marker.path().display(), "the mark that this log's origin is used was missing");
        marker.set(&identity, Clock::system().now())?;
    }
    Ok(Arc::new(store))
}

/// What to say of a log that is not there: [`LogError::Gone`] if it ever was, [`OpenError::Absent`] if not.
pub fn missing(log: &settings::Log, key: &SigningKey) -> LogError {
    let marker = Marker::of(&log.state_dir, key.origin().as_str());
    if marker.is_set() {
        let mark = marker.path().to_owned();
        return LogError::Gone { dir: log.dir.clone(), mark, origin: log.origin.clone() };
    }
    OpenError::Absent(log.dir.clone()).into()
}

/// Creates the configured log, once: marks its origin as used, makes the store, writes the first record. Returns the
/// verifier key. The config must hold, since the first record names its epochs.
///
/// # Errors
/// [`StartError`]; an origin that has been used stays so.
pub fn create_log(settings: &Settings) -> Result<String, StartError> {
    let epochs = assemble_unlistening(settings, &Clock::system())?.epochs;
    Ok(create(&settings.log, epochs)?)
}

fn create(log: &settings::Log, epochs: Epochs) -> Result<String, LogError> {
    privileges::keep_files_private();
    let clock = Clock::system();
    let key = signing_key(log)?;
    let identity = LogIdentity { origin: key.origin().to_string(), vkey: key.verifier().to_string() };
    if RocksStore::is_at(&log.dir) {
        return Err(OpenError::Present(log.dir.clone()).into());
    }
    Marker::of(&log.state_dir, key.origin().as_str()).set(&identity, clock.now())?;
    let store = Arc::new(RocksStore::create(&log.dir, &identity, rocks_options(log))?);
    let options = JournalOptions { queue: 1, timeout: log.timeout };
    let (journal, writer) = Journal::open(store, key, clock, options, epochs)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let created =
        Event::Created { version: env!("CARGO_PKG_VERSION"), origin: &identity.origin, vkey: &identity.vkey };
    let recorded = runtime.block_on(journal.event(epochs, &created));
    journal.close();
    // A writer that panicked has told whoever waited for it.
    let _ = writer.join();
    recorded?;
    Ok(identity.vkey)
}

fn rocks_options(log: &settings::Log) -> RocksOptions {
    RocksOptions {
        durability: match log.durability {
            settings::Durability::Fsync => Durability::Fsync,
            settings::Durability::Os => Durability::Os,
        },
        write_buffer: usize::try_from(log.write_buffer).unwrap_or(usize::MAX),
        block_cache: usize::try_from(log.block_cache).unwrap_or(usize::MAX),
    }
}
