//! What a monitor remembers: a directory of files, held by one process.
//!
//! | file | what is there |
//! |---|---|
//! | `lock` | held while a monitor runs |
//! | `checkpoint` | the last checkpoint whose consistency was shown, the note as it came; its time of change is when it was first seen |
//! | `keys.jsonl` | the records that lead from the pinned key to the current one |
//! | `evidence.kept`, `evidence.shown` | the two notes of a fork or rollback |
//! | `evidence.json` | what was found, and when; while it is there, it stands |
//!
//! Each file is replaced whole: written beside, synced, renamed, and the directory synced.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::keys::Keys;
use crate::audit::checkpoint::{Checkpoint, VerifierKey};
use crate::audit::hash::Hash;
use crate::audit::record::Head;
use crate::clock::Timestamp;

/// The directory, held by this process alone.
#[derive(Debug)]
pub struct State {
    dir: PathBuf,
    _lock: File,
}

/// The last checkpoint that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The note, as it came.
    pub note: Vec<u8>,
    /// How many records it covers.
    pub size: u64,
    /// Their root.
    pub root: Hash,
    /// When it was first seen, by this machine's clock.
    pub since: Timestamp,
}

/// That the log was forked or set back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Which of the two.
    pub kind: EvidenceKind,
    /// When it was found, RFC 3339.
    pub time: String,
    /// What was found, for people.
    pub what: String,
    /// The file to remove when it has been looked into; the notes lie beside it.
    pub path: PathBuf,
}

/// What two notes show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvidenceKind {
    /// Two histories under one name.
    Fork,
    /// A log that is shorter than it was.
    Rollback,
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has it.
    #[error("{0} is in use by another monitor; each log that is followed has a directory of its own")]
    InUse(PathBuf),
    /// A file in it is not what was written there.
    #[error(
        "{path}: not {expected}; bring back the file that was there, or take it away to trust anew what the log shows"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
    },
    /// It is another log's.
    #[error("{path} is of another log than {origin:?}; each log that is followed has a directory of its own")]
    OtherLog {
        /// The file.
        path: PathBuf,
        /// The log that is followed.
        origin: String,
    },
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The path concerned.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl State {
    /// Opens the state in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// [`StateError::InUse`], [`StateError::Io`].
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let io = |source| StateError::Io { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(StateError::InUse(dir.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// The checkpoint that was believed last, if there is one: signed by one of `keys`, as when it was written.
    ///
    /// # Errors
    /// [`StateError`], but for [`StateError::InUse`].
    pub fn kept(&self, keys: &Keys) -> Result<Option<Kept>, StateError> {
        let path = self.dir.join(CHECKPOINT);
        let Some((note, since)) = read(&path)? else { return Ok(None) };
        let origin = keys.origin();
        if Checkpoint::stated(&note).is_some() && !note.starts_with(format!("{origin}\n").as_bytes()) {
            return Err(StateError::OtherLog { path, origin: origin.to_owned() });
        }
        // What changed on the disk is not to pass for what the log showed.
        let Ok(checkpoint) = keys.open(&note) else {
            return Err(StateError::Malformed {
                path,
                expected: "a checkpoint that the log's key has signed",
            });
        };
        Ok(Some(Kept { size: checkpoint.size(), root: checkpoint.root(), note, since }))
    }

    /// The keys that were followed from `pinned`.
    ///
    /// # Errors
    /// [`StateError::Malformed`], [`StateError::Io`].
    pub fn keys(&self, pinned: VerifierKey) -> Result<Keys, StateError> {
        let path = self.dir.join(KEYS);
        let mut keys = Keys::pinned(pinned);
        let Some((lines, _)) = read(&path)? else { return Ok(keys) };
        let malformed = || StateError::Malformed { path: path.clone(), expected: "key records" };
        for record in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let head = Head::parse(record).map_err(|_| malformed())?;
            keys.read(&head, record).map_err(|_| malformed())?;
        }
        Ok(keys)
    }

    /// Remembers a checkpoint whose consistency was shown, and the keys that it was opened by. Only when this has returned
    /// is it believed.
    ///
    /// 1. The keys are replaced. *A crash here leaves keys that later checkpoints will need, and harms nothing.*
    /// 2. The checkpoint is. *A crash here leaves the old one, or the new one.*
    ///
    /// # Errors
    /// [`StateError::Io`]; which checkpoint is there then, the next look tells.
    pub fn keep(&self, note: &[u8], keys: &Keys) -> Result<(), StateError> {
        if !keys.records().is_empty() {
            let mut lines = keys.records().join(&b'\n');
            lines.push(b'\n');
            self.replace(KEYS, &lines)?;
        }
        self.replace(CHECKPOINT, note)
    }

    /// Keeps two notes that show that the log was forked or set back. The file that says so comes last: when it is there,
    /// so are the notes.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn accuse(
        &self,
        kind: EvidenceKind,
        what: &str,
        (kept, shown): (&[u8], &[u8]),
        time: Timestamp,
    ) -> Result<Evidence, StateError> {
        self.replace(EVIDENCE_KEPT, kept)?;
        self.replace(EVIDENCE_SHOWN, shown)?;
        let told = json!({
            "kind": kind.as_str(),
            "time": time.to_string(),
            "what": what,
            "kept": EVIDENCE_KEPT,
            "shown": EVIDENCE_SHOWN,
        });
        self.replace(EVIDENCE, format!("{told}\n").as_bytes())?;
        Ok(Evidence { kind, time: time.to_string(), what: what.to_owned(), path: self.dir.join(EVIDENCE) })
    }

    /// What stands against the log.
    ///
    /// # Errors
    /// [`StateError::Malformed`], [`StateError::Io`].
    pub fn evidence(&self) -> Result<Option<Evidence>, StateError> {
        let path = self.dir.join(EVIDENCE);
        let Some((bytes, _)) = read(&path)? else { return Ok(None) };
        let told: Option<Value> = serde_json::from_slice(&bytes).ok();
        let text = |name: &str| Some(told.as_ref()?.get(name)?.as_str()?.to_owned());
        let known = || {
            let kind = EvidenceKind::parse(&text("kind")?)?;
            Some((kind, text("time")?, text("what")?))
        };
        match known() {
            Some((kind, time, what)) => Ok(Some(Evidence { kind, time, what, path })),
            None => Err(StateError::Malformed { path, expected: "what was found" }),
        }
    }

    /// The files of what was found, as far as they could be written: what it was, the kept note, the one that was shown.
    pub fn evidence_files(&self) -> Vec<PathBuf> {
        let files = [EVIDENCE, EVIDENCE_KEPT, EVIDENCE_SHOWN].map(|name| self.dir.join(name));
        files.into_iter().filter(|file| file.exists()).collect()
    }

    fn replace(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let path = self.dir.join(name);
        let partial = self.dir.join(format!("{name}.partial"));
        let write = || -> std::io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(content)?;
            file.sync_all()?;
            std::fs::rename(&partial, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|source| StateError::Io { path: path.clone(), source })
    }
}

impl EvidenceKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Rollback => "rollback",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Fork, Self::Rollback].into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for EvidenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A file's content and when it was changed; `None` if there is none.
fn read(path: &Path) -> Result<Option<(Vec<u8>, Timestamp)>, StateError> {
    let read = || -> std::io::Result<_> {
        let mut file = File::open(path)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let changed = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(changed.as_micros()).unwrap_or(i64::MAX);
        Ok((content, Timestamp::from_micros(micros)))
    };
    match read() {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Io { path: path.to_owned(), source }),
    }
}

const CHECKPOINT: &str = "checkpoint";
const KEYS: &str = "keys.jsonl";
const EVIDENCE: &str = "evidence.json";
const EVIDENCE_KEPT: &str = "evidence.kept";
const EVIDENCE_SHOWN: &str = "evidence.shown";
