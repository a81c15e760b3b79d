//! The outside mark: the log's latest checkpoint, kept in a second place.
//!
//! A log that was set back to a snapshot, cut, or lost by a disk that lied about syncing is whole in itself; only
//! somebody who has seen more of it can tell. The mark has: it is the signed note, byte for byte, as it was published
//! after a commit was durable. So the log is never behind its mark unless records that were acknowledged are gone.
//!
//! | file | what is there |
//! |---|---|
//! | this one | [`MarkFile`], [`Lock`]; a log held against its mark |
//! | [`keeper`] | the thread that keeps the mark up to date |
//!
//! Invariants:
//! 1. A mark is replaced whole, by renaming, and only by who holds the lock beside it.
//! 2. A mark never covers a record that was not durable before.
//! 3. What is there and is no checkpoint that this log extends is never overwritten.

pub mod keeper;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::checkpoint::{Checkpoint, CheckpointError, KeyChain};
use super::merkle::Frontier;
use super::storage::{Store, StoreError, leaf_or_node};

/// Where the mark of a log lies, or will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkFile(PathBuf);

/// The right to replace a mark; let go when dropped. An advisory lock (`flock`) on a file beside it, since the mark
/// itself is another file after each renaming.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// A mark that was taken up: its log was held against it, and it is this process's to replace.
#[derive(Debug)]
pub struct Taken {
    file: MarkFile,
    /// `None` if the place did not let itself be locked; that is tried again with each write.
    lock: Option<Lock>,
}

/// Why a log and its mark do not go together, or could not be held against each other.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// The log has fewer records than were there.
    #[error(
        "the log holds {held} records, but its mark {path} was signed when it held {marked}: records that were \
         acknowledged are gone. It was set back to a snapshot, or cut, or its disk lost what it said it had written, \
         and callers hold numbers of records that are not there. Bring back the newer log. If there is none, keep this \
         one to be read, and go on under a new origin, with another log.dir and log.mark_file"
    )]
    Shorter {
        /// The mark.
        path: PathBuf,
        /// By the log.
        held: u64,
        /// By the mark.
        marked: u64,
    },
    /// The log has another history.
    #[error(
        "the first {marked} records of the log do not have the root that its mark {path} states: this is another \
         history under the same key. The log was replaced or written anew, or two gates have written under this \
         origin. Keep both to be looked into (`portcullis audit verify --against {path}` reads all of it); bring back \
         the log that the mark was made from, or go on under a new origin, with another log.dir and log.mark_file",
        path = path.display()
    )]
    Fork {
        /// The mark.
        path: PathBuf,
        /// By the mark.
        marked: u64,
    },
    /// There is none, but there must have been one.
    #[error(
        "there is no mark at {path} (log.mark_file), but the log holds {held} records, so whether this is all of them \
         cannot be told. If the mark's disk is not there, mount it. If log.mark_file was just set or its disk is new, \
         run `portcullis audit mark --config F`, which makes the mark from the log as it stands"
    )]
    Absent {
        /// Where it should be.
        path: PathBuf,
        /// By the log.
        held: u64,
    },
    /// What is there is not this log's mark.
    #[error(
        "{path} (log.mark_file) is not a mark of this log: {source}. It is left as it is. If it is another log's, name \
         another file; each log has a mark of its own"
    )]
    NotOurs {
        /// The mark.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// Another process keeps it.
    #[error(
        "the mark {path} is kept by another process: two gates must not write under one origin. Let the other end, or \
         give this one an origin, a log.dir and a log.mark_file of its own"
    )]
    Kept {
        /// The mark.
        path: PathBuf,
    },
    /// It is there already.
    #[error("there is a mark at {path} already: origin or file have been used, choose others")]
    Present {
        /// The mark.
        path: PathBuf,
    },
    /// It could not be read or written.
    #[error("the mark {path} (log.mark_file): {source}")]
    Io {
        /// The mark.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Holds the log in `store`, the first `held` records of it, against a mark: it must be as long, and have the same root
/// at the mark's size. The tree is rebuilt from stored nodes; an edit of old records is for `audit verify` to find.
///
/// # Errors
/// [`MarkError::Shorter`], [`MarkError::Fork`], [`MarkError::Store`].
pub fn hold(store: &dyn Store, held: u64, mark: &Checkpoint, file: &MarkFile) -> Result<(), MarkError> {
    let marked = mark.size();
    if held < marked {
        return Err(MarkError::Shorter { path: file.0.clone(), held, marked });
    }
    let frontier = Frontier::rebuild(marked, |id| leaf_or_node(store, id))?;
    if frontier.root() != mark.root() {
        return Err(MarkError::Fork { path: file.0.clone(), marked });
    }
    Ok(())
}

impl MarkFile {
    /// The mark at `path`.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads the mark and checks that it is signed by the log's key of its time; `None` if there is none. A place that
    /// does not answer is given up.
    ///
    /// # Errors
    /// [`MarkError::NotOurs`], [`MarkError::Io`].
    pub fn open(&self, keys: &KeyChain) -> Result<Option<Checkpoint>, MarkError> {
        self.note()?.map(|note| self.checked(&note, keys)).transpose()
    }

    /// Reads the mark, and checks nothing; `None` if there is none.
    ///
    /// # Errors
    /// [`MarkError::Io`].
    pub fn note(&self) -> Result<Option<Vec<u8>>, MarkError> {
        let file = self.clone();
        in_time(move || file.read()).map_err(|source| self.io(source))
    }

    /// What a note that was read here states, if it is signed by the log's key of its time.
    ///
    /// # Errors
    /// [`MarkError::NotOurs`].
    pub fn checked(&self, note: &[u8], keys: &KeyChain) -> Result<Checkpoint, MarkError> {
        keys.open(note).map_err(|source| MarkError::NotOurs { path: self.0.clone(), source })
    }

    /// Takes up the mark of the log in `store`, which holds `held` records: locks it, and holds the log against it.
    /// None need be there for a log of at most one record: a crash can have come between its creation and its mark.
    ///
    /// # Errors
    /// [`MarkError`]: the log may not grow.
    pub fn take_up(self, keys: &KeyChain, store: &dyn Store, held: u64) -> Result<Taken, MarkError> {
        let lock = match self.lock() {
            Ok(lock) => Some(lock),
            Err(kept @ MarkError::Kept { .. }) => return Err(kept),
            // That it cannot be written is told as long as it is so; that it can be read is enough to serve by.
            Err(_) => None,
        };
        match self.open(keys)? {
            Some(mark) => hold(store, held, &mark, &self)?,
            None if held > 1 => return Err(MarkError::Absent { path: self.0, held }),
            None => {}
        }
        Ok(Taken { file: self, lock })
    }

    /// Locks the mark. One that is held is asked for again for a moment: who holds it may be about to end.
    ///
    /// # Errors
    /// [`MarkError::Kept`] if another process has it; [`MarkError::Io`].
    pub fn lock(&self) -> Result<Lock, MarkError> {
        let file = self.clone();
        let locked = in_time(move || {
            let began = Instant::now();
            loop {
                match file.lock_now() {
                    Err(error) if error.kind() == ErrorKind::WouldBlock && began.elapsed() < MOMENT => {
                        std::thread::park_timeout(MOMENT / 20);
                    }
                    locked => return locked,
                }
            }
        });
        locked.map_err(|source| self.not_locked(source))
    }

    /// Makes the mark of a log that is not served: of a new one, of one that had none, or of one that has grown since
    /// without. A mark that is there must be one that the log in `store`, whose latest checkpoint is `note`, extends.
    /// Returns how many records that one covered.
    ///
    /// # Errors
    /// [`MarkError`]; what was there is there still.
    pub fn make(&self, keys: &KeyChain, store: &dyn Store, note: &str) -> Result<Option<u64>, MarkError> {
        let _lock = self.lock()?;
        let held = self.checked(note.as_bytes(), keys)?.size();
        let before = self.open(keys)?;
        if let Some(mark) = &before {
            hold(store, held, mark, self)?;
        }
        self.write(note).map_err(|source| self.io(source))?;
        Ok(before.map(|mark| mark.size()))
    }

    fn lock_now(&self) -> std::io::Result<Lock> {
        let path = beside(&self.0, "lock");
        let writable = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        // A lock can be had on a disk that cannot be written, too.
        let file = writable.or_else(|error| File::open(&path).map_err(|_| error))?;
        file.try_lock()?;
        Ok(Lock { file, path })
    }

    fn not_locked(&self, source: std::io::Error) -> MarkError {
        match source.kind() {
            ErrorKind::WouldBlock => MarkError::Kept { path: self.0.clone() },
            _ => self.io(source),
        }
    }

    /// Replaces the mark by `note`, durably, or leaves it as it is. To be called by who holds the lock.
    ///
    /// 1. The new mark is written beside the old one, and synced. *A crash here leaves the old one.*
    /// 2. It takes the old one's name. *A crash here leaves one or the other; both are true.*
    /// 3. The directory is synced.
    ///
    /// # Errors
    /// Why it could not be; the old or the new mark is there then.
    pub fn write(&self, note: &str) -> std::io::Result<()> {
        let partial = beside(&self.0, "partial");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&partial)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&partial, &self.0)?;
        let dir = self.0.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match File::open(dir)?.sync_all() {
            // Some network file systems do not sync directories, and need not.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
            synced => synced,
        }
    }

    /// What is there; `None` if nothing is.
    fn read(&self) -> std::io::Result<Option<Vec<u8>>> {
        match File::open(&self.0) {
            Ok(file) => {
                let mut note = Vec::new();
                file.take(MAX_BYTES).read_to_end(&mut note)?;
                Ok(Some(note))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn io(&self, source: std::io::Error) -> MarkError {
        MarkError::Io { path: self.0.clone(), source }
    }
}

impl Lock {
    /// Whether what is locked is still what lies beside the mark: its disk can have been changed for another.
    fn stands(&self) -> bool {
        let same = |held: std::fs::Metadata, there: std::fs::Metadata| {
            (held.dev(), held.ino()) == (there.dev(), there.ino())
        };
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(held), Ok(there)) => same(held, there),
            _ => false,
        }
    }
}

/// Does `work` on a thread of its own, which is left behind if it takes too long: a dead network disk holds on to whoever
/// touches it.
fn in_time<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let (done, result) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("mark".into()).spawn(move || {
        // Nobody may be waiting any more.
        let _ = done.send(work());
    })?;
    result
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| Err(std::io::Error::new(ErrorKind::TimedOut, "its disk does not answer")))
}

fn beside(mark: &Path, extension: &str) -> PathBuf {
    let mut name = mark.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// How long the mark's disk may take to answer while the gate starts.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a process that ends may hold on to a mark.
const MOMENT: Duration = Duration::from_secs(1);

/// More than any checkpoint with its signatures.
const MAX_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests;
