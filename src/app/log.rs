//! Creating and opening the configured log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::assemble::assemble_unlistening;
use super::witnessing::WitnessSetupError;
use super::{StartError, disk, privileges};
use crate::audit::checkpoint::{KeyChain, KeyError, Origin, OriginError, SigningKey};
use crate::audit::hash::Hash;
use crate::audit::journal::keys::{self, LogKeys};
use crate::audit::journal::reconcile::{ReconcileError, reconcile};
use crate::audit::journal::{Journal, JournalOptions, Unrecorded};
use crate::audit::mark::{MarkError, MarkFile};
use crate::audit::marker::{Marker, MarkerError};
use crate::audit::record::{Epochs, Event};
use crate::audit::rocks::{OpenError, RocksOptions, RocksStore};
use crate::audit::storage::{Durability, LogIdentity, Store};
use crate::clock::Clock;
use crate::config::settings::{self, Settings};
use crate::policy::PolicyText;

/// Why a log cannot be created or opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The key file cannot be read.
    #[error("{key} {path}: {source}; `portcullis keygen` makes one")]
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
        "{key} {path}: others than its owner can read or replace it, and sign a log of their own; \
         run `chmod 600 {path}`"
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
        source: KeyError,
    },
    /// The origin cannot name a log.
    #[error("log.origin: {0}")]
    Origin(#[from] OriginError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The mark that the origin is used cannot be set.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// The log and its outside mark do not go together.
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// A witness cannot be asked.
    #[error(transparent)]
    Witness(#[from] WitnessSetupError),
    /// No mark is configured.
    #[error("the config names no log.mark_file, so this log has no mark")]
    NoMark,
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
    read_key(log, "log.key_file", &log.key_file)
}

/// Reads the configured keys: the signing one, and the retiring one if there is one.
///
/// # Errors
/// As [`signing_key`].
pub fn log_keys(log: &settings::Log) -> Result<LogKeys, LogError> {
    let retiring = log.retiring_key_file.as_deref();
    Ok(LogKeys {
        signing: signing_key(log)?,
        retiring: retiring.map(|path| read_key(log, "log.retiring_key_file", path)).transpose()?,
        overlap: log.key_overlap,
    })
}

fn read_key(log: &settings::Log, key: &'static str, file: &Path) -> Result<SigningKey, LogError> {
    let path = || file.to_owned();
    if std::fs::metadata(file).is_ok_and(|metadata| privileges::is_exposed(&metadata)) {
        return Err(LogError::KeyExposed { key, path: path() });
    }
    let pem = std::fs::read_to_string(file)
        .map(zeroize::Zeroizing::new)
        .map_err(|source| LogError::KeyFile { key, path: path(), source })?;
    let origin = Origin::parse(&log.origin)?;
    SigningKey::from_pkcs8_pem(origin, &pem).map_err(|source| LogError::Key { key, path: path(), source })
}

/// Opens the configured log. A mark that is missing beside a log that is there is set again.
///
/// # Errors
/// [`LogError::Gone`] if there is none but there was one; [`LogError::Marker`]; [`LogError::Open`].
pub fn open(log: &settings::Log, keys: &LogKeys) -> Result<Arc<dyn Store>, LogError> {
    if !RocksStore::is_at(&log.dir) {
        return Err(missing(log, keys));
    }
    privileges::keep_files_private();
    for dir in [&log.dir, &log.state_dir] {
        if let Err(error) = privileges::tighten(dir) {
            tracing::warn!(dir = %dir.display(), %error, "others may be able to read files of the log");
        }
    }
    disk::make_way(log);
    let store = RocksStore::open(&log.dir, rocks_options(log))?;
    // A log of another origin or key is for the journal to refuse, with a better word.
    if reconcile_keys(&store, keys).is_ok() {
        let identity = store.identity().map_err(ReconcileError::from)?;
        let marker = Marker::of(&log.state_dir, &identity.origin);
        if !marker.names(&identity)? {
            tracing::warn!(mark = %marker.path().display(), "the mark that this log's origin is used was missing");
            marker.set(&identity, Clock::system().now())?;
        }
    }
    Ok(Arc::new(store))
}

/// What to say of a log that is not there: [`LogError::Gone`] if it ever was, [`OpenError::Absent`] if not.
pub fn missing(log: &settings::Log, keys: &LogKeys) -> LogError {
    let marker = Marker::of(&log.state_dir, keys.origin().as_str());
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
    let parts = assemble_unlistening(settings, &Clock::system())?;
    Ok(create(&settings.log, parts.epochs, parts.policy().text())?)
}

fn create(log: &settings::Log, epochs: Epochs, policy: &PolicyText) -> Result<String, LogError> {
    privileges::keep_files_private();
    let clock = Clock::system();
    let key = signing_key(log)?;
    let identity = LogIdentity { origin: key.origin().to_string(), vkey: key.verifier().to_string() };
    if RocksStore::is_at(&log.dir) {
        return Err(OpenError::Present(log.dir.clone()).into());
    }
    let mark = mark_file(log);
    if let Some(mark) = &mark {
        // What stands there is another log's, or an older one's of this name. And a place that cannot be written shows
        // before the origin is used up.
        let _lock = mark.lock()?;
        if mark.open(&key.verifier().into())?.is_some() {
            return Err(MarkError::Present { path: mark.path().to_owned() }.into());
        }
    }
    let verifier = key.verifier();
    Marker::of(&log.state_dir, key.origin().as_str()).set(&identity, clock.now())?;
    let store = Arc::new(RocksStore::create(&log.dir, &identity, rocks_options(log))?);
    store.keep_policy(epochs.policy, policy.as_bytes()).map_err(ReconcileError::from)?;
    let options = JournalOptions { queue: 1, timeout: log.timeout, denial_bytes: None };
    let (journal, writer) = Journal::open(Arc::<RocksStore>::clone(&store), key, clock, options, epochs)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let created =
        Event::Created { version: env!("CARGO_PKG_VERSION"), origin: &identity.origin, vkey: &identity.vkey };
    let recorded = runtime.block_on(journal.event(epochs, &created));
    journal.close();
    // A writer that panicked has told whoever waited for it.
    let _ = writer.join();
    recorded?;
    if let Some(mark) = mark {
        mark.make(&verifier.into(), &*store, &journal.checkpoint())?;
    }
    Ok(identity.vkey)
}

/// A mark that was made.
#[derive(Clone, Copy, Debug)]
pub struct MarkMade {
    /// How many records it covers.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// How many the mark covered that was there before.
    pub before: Option<u64>,
}

/// Makes the configured log's mark from the log as it stands, or brings up one that the log extends.
///
/// # Errors
/// [`LogError::NoMark`]; [`LogError::Mark`] if the log does not go together with a mark that is there, or a gate keeps
/// it; [`LogError::Reconcile`] if the log's end does not hold.
pub fn make_mark(log: &settings::Log) -> Result<MarkMade, LogError> {
    let mark = mark_file(log).ok_or(LogError::NoMark)?;
    let configured = log_keys(log)?;
    let store = match RocksStore::open_read_only(&log.dir) {
        Err(OpenError::Absent(_)) => return Err(missing(log, &configured)),
        opened => opened?,
    };
    let state = reconcile(&store, &configured)?;
    let note = state.checkpoint.unwrap_or_default();
    let before = mark.make(&state.keys.expecting(configured.verifier()), &store, &note)?;
    Ok(MarkMade { size: state.frontier.size(), root: state.frontier.root(), before })
}

/// Where the log's outside mark is, if it has one.
pub fn mark_file(log: &settings::Log) -> Option<MarkFile> {
    log.mark_file.as_deref().map(MarkFile::at)
}

/// How many records the log in `store` holds, if its end is as its last commit left it, and the keys that its mark can
/// be signed with.
///
/// # Errors
/// [`ReconcileError`].
pub fn held(store: &dyn Store, configured: &LogKeys) -> Result<(u64, KeyChain), ReconcileError> {
    let state = reconcile(store, configured)?;
    // A log that was set back to before its key changed has a mark by the key it does not know yet.
    Ok((state.frontier.size(), state.keys.expecting(configured.verifier())))
}

/// Whether the log in `store` may be gone on with under the configured keys.
fn reconcile_keys(store: &dyn Store, configured: &LogKeys) -> Result<(), ReconcileError> {
    let chain = keys::chain(store)?;
    keys::plan(store, &chain, configured).map(drop)
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
