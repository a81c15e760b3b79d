//! What a witness has cosigned last: one file for each log, `<SHA-256 of the origin, hex>.checkpoint`, that holds the
//! checkpoint as a signed note. Who removes or sets back one of them makes the witness forget.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::audit::checkpoint::Checkpoint;
use crate::audit::hash::Hash;

/// A directory of last checkpoints, held by this process alone.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    _lock: File,
}

/// Size and root that were cosigned last; of an empty tree, if nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How many records the tree had.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has it.
    #[error("{0} is in use by another witness; each has a directory of its own")]
    InUse(PathBuf),
    /// A file in it is not what was written there.
    #[error(
        "{0} is no checkpoint of the log it is named for: bring back the file that was there; without it the witness \
         would cosign a fork"
    )]
    Malformed(PathBuf),
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The path concerned.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl Ledger {
    /// Opens the ledger in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// [`LedgerError::InUse`], [`LedgerError::Io`].
    pub fn open(dir: &Path) -> Result<Self, LedgerError> {
        let io = |source| LedgerError::Io { path: dir.to_owned(), source };
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
            Err(std::fs::TryLockError::WouldBlock) => Err(LedgerError::InUse(dir.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// What was cosigned last of the log called `origin`.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`], [`LedgerError::Io`].
    pub fn held(&self, origin: &str) -> Result<Held, LedgerError> {
        let path = self.path(origin);
        let mut note = Vec::new();
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut note)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Held { size: 0, root: Hash::of(b"") });
            }
            read => read.map_err(|source| LedgerError::Io { path: path.clone(), source })?,
        };
        match Checkpoint::stated(&note) {
            Some((size, root)) if note.starts_with(format!("{origin}\n").as_bytes()) => {
                Ok(Held { size, root })
            }
            _ => Err(LedgerError::Malformed(path)),
        }
    }

    /// Puts `note` in the place of what was cosigned last, durably.
    ///
    /// 1. It is written beside the old one, and synced. *A crash here leaves the old one: nobody has a cosignature of
    ///    the new one.*
    /// 2. It takes the old one's name. *A crash here leaves one or the other; as above.*
    /// 3. The directory is synced. *From here on it may be cosigned.*
    ///
    /// # Errors
    /// [`LedgerError::Io`]; the old or the new one is there then, and which of them is known to a restart only.
    pub fn write(&self, origin: &str, note: &[u8]) -> Result<(), LedgerError> {
        let path = self.path(origin);
        let partial = path.with_extension("partial");
        let write = || -> std::io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(note)?;
            file.sync_all()?;
            std::fs::rename(&partial, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|source| LedgerError::Io { path: path.clone(), source })
    }

    fn path(&self, origin: &str) -> PathBuf {
        let name: String = Hash::of(origin.as_bytes()).0.iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(format!("{name}.checkpoint"))
    }
}
