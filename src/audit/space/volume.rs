//! The file system that the log is on, and the reserve on it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::{Errno, retry_on_intr};

/// A file system with a reserve on it.
pub trait Volume: Send + 'static {
    /// Bytes that may be written, beside a reserve that is held.
    fn free(&self) -> io::Result<u64>;

    /// Whether the reserve is held: all of its blocks are allocated.
    fn is_held(&self) -> bool;

    /// Holds the reserve; `false` if there is no room for it, and then nothing of it is held. To be called with more free
    /// than the reserve takes: a file system that has less may give out all it has before it finds out.
    ///
    /// # Errors
    /// What the disk says, other than that it is full.
    fn hold(&mut self) -> io::Result<bool>;

    /// Gives the reserve back: when this returns, its bytes can be written by anyone.
    ///
    /// # Errors
    /// What the disk says; the reserve may be given back or not.
    fn give_back(&mut self) -> io::Result<()>;
}

/// The file system of a log's directory. The reserve is a file in it, whose blocks are allocated and hold nothing.
///
/// It stands among RocksDB's files so that it lies on their file system whatever is mounted where. RocksDB touches only
/// names that it knows for its own (`ParseFileName` in its `file/filename.cc`), in cleaning up as in repair.
#[derive(Debug)]
pub struct LogVolume {
    dir: PathBuf,
    reserve: u64,
}

impl LogVolume {
    /// The volume of the log in `dir`, with a reserve of `reserve` bytes, which stays as it is until it is touched.
    pub fn of(dir: &Path, reserve: u64) -> Self {
        Self { dir: dir.to_owned(), reserve }
    }

    /// To be called before a log is opened, which takes some room: gives the reserve back if little is free beside it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn make_way(&mut self) -> io::Result<()> {
        let too_large = self.file_size() > self.reserve;
        if too_large || (self.file_size() > 0 && self.free()? < self.reserve) {
            self.give_back()?;
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    fn file_size(&self) -> u64 {
        std::fs::metadata(self.path()).map_or(0, |metadata| metadata.len())
    }

    fn allocate(&self, file: &mut File) -> io::Result<()> {
        match retry_on_intr(|| fallocate(&*file, FallocateFlags::empty(), 0, self.reserve)) {
            Ok(()) if self.is_held() => {}
            // Not every file system can; some say so, some do nothing.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.fill(file)?,
            Err(error) => return Err(error.into()),
        }
        file.sync_all()
    }

    /// Writes the reserve in bytes that do not compress, on a file system that may do so.
    fn fill(&self, file: &mut File) -> io::Result<()> {
        let mut noise = vec![0; NOISE];
        getrandom::fill(&mut noise).map_err(io::Error::other)?;
        let mut left = self.reserve;
        while left > 0 {
            let piece = noise.get(..usize::try_from(left).unwrap_or(NOISE).min(NOISE)).unwrap_or_default();
            file.write_all(piece)?;
            left -= piece.len() as u64;
        }
        Ok(())
    }
}

impl Volume for LogVolume {
    fn free(&self) -> io::Result<u64> {
        let figures = statvfs(&self.dir)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }

    fn is_held(&self) -> bool {
        if self.reserve == 0 {
            return true;
        }
        let held = |metadata: std::fs::Metadata| {
            metadata.len() == self.reserve && metadata.blocks().saturating_mul(512) >= self.reserve
        };
        std::fs::metadata(self.path()).is_ok_and(held)
    }

    fn hold(&mut self) -> io::Result<bool> {
        if self.reserve == 0 {
            return Ok(true);
        }
        let full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        let opened = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(self.path());
        let mut file = match opened {
            Err(error) if full(&error) => return Ok(false),
            opened => opened?,
        };
        match self.allocate(&mut file) {
            Ok(()) => Ok(true),
            Err(error) => {
                // What was had of it is given back.
                file.set_len(0).and_then(|()| file.sync_all())?;
                if full(&error) { Ok(false) } else { Err(error) }
            }
        }
    }

    fn give_back(&mut self) -> io::Result<()> {
        match OpenOptions::new().write(true).truncate(true).open(self.path()) {
            // Journalling file systems free blocks for use only once that itself is on disk.
            Ok(file) => file.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The reserve's name in the log's directory.
const FILE: &str = "portcullis.reserve";

/// How much is written at once where blocks cannot be allocated otherwise, bytes.
const NOISE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_reserve_takes_blocks_and_gives_them_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut volume = LogVolume::of(dir.path(), 3 * MIB + 17);
        assert!(!volume.is_held());
        assert!(volume.hold().unwrap() && volume.is_held());
        let metadata = std::fs::metadata(volume.path()).unwrap();
        assert!(metadata.len() == 3 * MIB + 17 && metadata.blocks() * 512 >= metadata.len());
        assert!(LogVolume::of(dir.path(), 3 * MIB + 17).is_held(), "a restart does not find it");
        volume.give_back().unwrap();
        assert!(!volume.is_held());
        assert_eq!(std::fs::metadata(volume.path()).unwrap().blocks(), 0);
        volume.give_back().unwrap();
    }

    #[test]
    fn a_reserve_that_is_written_out_takes_as_many_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let volume = LogVolume::of(dir.path(), 2 * MIB + 17);
        let mut file = File::create(volume.path()).unwrap();
        volume.fill(&mut file).unwrap();
        file.sync_all().unwrap();
        assert!(volume.is_held());
    }

    #[test]
    fn a_reserve_of_another_size_makes_way_and_is_not_taken_for_the_one_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        assert!(LogVolume::of(dir.path(), 2 * MIB).hold().unwrap());
        for reserve in [0, MIB] {
            let mut smaller = LogVolume::of(dir.path(), reserve);
            smaller.make_way().unwrap();
            assert_eq!(smaller.file_size(), 0);
            assert!(smaller.hold().unwrap() && smaller.is_held());
            assert_eq!(smaller.file_size(), reserve);
        }
    }
}
