//! The claim on an origin: while a process has it, no other that shares its state directory serves under that name.
//!
//! It is an advisory lock (`flock`) on a file beside the origin's mark, so it ends with the process, however that ends. A
//! process that takes over is handed the locked file itself: the claim is at no moment free.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::audit::marker::Marker;

/// The right to serve under an origin; let go when dropped.
#[derive(Debug)]
pub struct Claim(File);

/// An origin could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process has it.
    #[error(
        "another gate{} serves origin {origin:?} already: one origin has one writer. To put this one in its place \
         without a failed request, add --take-over; a replica needs an origin, a log.dir and a log.state_dir of its own",
        .pid.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Held {
        /// The origin.
        origin: String,
        /// Who has it, as far as it said so.
        pid: Option<String>,
    },
    /// The file could not be made, locked or written.
    #[error("{path} (in log.state_dir): {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Claim {
    /// Claims `origin`.
    ///
    /// # Errors
    /// [`ClaimError::Held`] if another process has it.
    pub fn new(state_dir: &Path, origin: &str) -> Result<Self, ClaimError> {
        let path = Marker::of(state_dir, origin).path().with_extension("lock");
        let io = |source| ClaimError::Io { path: path.clone(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(io)?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Only for the message.
                let _ = file.read_to_string(&mut pid);
                let pid = Some(pid.trim().to_owned()).filter(|pid| !pid.is_empty());
                return Err(ClaimError::Held { origin: origin.to_owned(), pid });
            }
            Err(error) => return Err(io(error.into())),
        }
        let claim = Self(file);
        claim.sign().map_err(io)?;
        Ok(claim)
    }

    /// The claim of a process whose place this one takes.
    pub fn inherit(file: OwnedFd) -> Self {
        Self(file.into())
    }

    /// Writes this process's number into it, for messages.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sign(&self) -> std::io::Result<()> {
        let mut file = &self.0;
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        writeln!(file, "{}", std::process::id())
    }
}

impl AsFd for Claim {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_claimed_once_and_free_when_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let claim = Claim::new(dir.path(), "gate.example/1").unwrap();
        let held = Claim::new(dir.path(), "gate.example/1").unwrap_err().to_string();
        assert!(held.contains(&format!("(pid {})", std::process::id())), "{held}");
        Claim::new(dir.path(), "gate.example/2").unwrap();
        let inherited = Claim::inherit(claim.as_fd().try_clone_to_owned().unwrap());
        drop(claim);
        assert!(Claim::new(dir.path(), "gate.example/1").is_err(), "it was handed on");
        drop(inherited);
        Claim::new(dir.path(), "gate.example/1").unwrap();
    }
}
