//! Files made once: never over another, secrets for the owner only. And one that takes the place of another, whole.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
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

/// Puts `content` in the place of `path`, whole or not at all: owner and mode stay, and a link goes on leading there.
/// A crash leaves the old file, or the new one, and at worst a stray file beside it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let target = path.canonicalize().with_context(|| format!("{} cannot be found", path.display()))?;
    let known = target.metadata().with_context(|| format!("{} cannot be read", path.display()))?;
    let (Some(directory), Some(name)) = (target.parent(), target.file_name()) else {
        bail!("{} is no file", path.display())
    };
    let beside = directory.join(format!(".{}.{:016x}", name.display(), salt()?));
    let swap = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (known.uid(), known.gid()) {
            fchown(&file, Some(known.uid()), Some(known.gid()))?;
        }
        file.set_permissions(known.permissions())?;
        file.sync_all()?;
        std::fs::rename(&beside, &target)
    };
    swap().map_err(|error| {
        // What is left beside is of no use to anybody.
        let _ = std::fs::remove_file(&beside);
        anyhow::Error::from(error).context(format!("{} cannot be replaced", path.display()))
    })
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
        let path = std::env::temp_dir().join(format!("portcullis-{:016x}", salt()?));
        make_private_dir(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// A name nobody else has.
fn salt() -> Result<u64> {
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).context("no random bytes from the operating system")?;
    Ok(u64::from_ne_bytes(salt))
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
    fn a_file_is_replaced_whole_and_keeps_its_mode_and_its_links() {
        let dir = TempDir::new().unwrap();
        let (file, link) = (dir.path().join("policy.csv"), dir.path().join("link.csv"));
        write_public(&file, b"one").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, b"two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside");
        assert!(replace(&dir.path().join("absent"), b"").is_err());
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
