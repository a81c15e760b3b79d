//! Files made once: never over another, secrets for the owner only.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Makes `path` with `content`, readable by its owner only. Refuses if something is there.
pub(crate) fn write_secret(path: &Path, content: &[u8]) -> Result<()> {
    write_new(path, content, 0o600)
}

/// Makes `path` with `content`. Refuses if something is there.
pub(crate) fn write_public(path: &Path, content: &[u8]) -> Result<()> {
    write_new(path, content, 0o644)
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} is there already and is not overwritten; name another file", path.display())
        }
        opened => opened.with_context(|| format!("{} cannot be made", path.display()))?,
    };
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// Makes the directory `path` and its parents, for its owner only.
pub(crate) fn make_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("{} cannot be made", path.display()))
}

/// Makes `path` a directory that is empty: a new one, or one that is there and holds nothing.
pub(crate) fn claim_dir(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        let mut entries = std::fs::read_dir(path)
            .with_context(|| format!("{} is no directory that can be read", path.display()))?;
        if entries.next().is_some() {
            bail!("{} is not empty; name a directory that is new or empty", path.display());
        }
    }
    make_private_dir(path)
}

/// A directory of our own under the system's temporary one; it goes when it is dropped.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Result<Self> {
        let mut salt = [0; 8];
        getrandom::fill(&mut salt).context("no random bytes from the operating system")?;
        let path = std::env::temp_dir().join(format!("portcullis-{:016x}", u64::from_ne_bytes(salt)));
        make_private_dir(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What cannot be removed here, the system's cleaning of temporary files will.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_are_for_their_owner_and_nothing_is_overwritten() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("key.pem");
        write_secret(&file, b"one").unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_secret(&file, b"two").unwrap_err().to_string().contains("not overwritten"));
        assert_eq!(std::fs::read(&file).unwrap(), b"one");
    }

    #[test]
    fn only_an_empty_directory_is_claimed() {
        let dir = TempDir::new().unwrap();
        let target = dir.path().join("gate");
        claim_dir(&target).unwrap();
        claim_dir(&target).unwrap();
        std::fs::write(target.join("file"), "").unwrap();
        assert!(claim_dir(&target).unwrap_err().to_string().contains("not empty"));
        assert!(claim_dir(&target.join("file")).is_err());
    }

    #[test]
    fn a_temporary_directory_goes_when_dropped() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(dir);
        assert!(!path.exists());
    }
}
