//! A small file system of its own, that a test can fill: ext4 in a file, mounted on a loop device. Takes root.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tempfile::TempDir;

/// A mounted file system. It goes when it is dropped, whoever still uses it.
pub struct Mounted {
    at: PathBuf,
    _image: TempDir,
}

impl Mounted {
    /// Mounts one of `mib` MiB at `at`. Where that cannot be done, says why past the harness, and there is none.
    pub fn at(at: &Path, mib: u64) -> Option<Self> {
        let image = tempfile::tempdir().unwrap();
        let file = image.path().join("ext4");
        File::create(&file).unwrap().set_len(mib << 20).unwrap();
        std::fs::create_dir_all(at).unwrap();
        let tried = run("mkfs.ext4", &["-q", "-F", "-m", "0", path(&file)])
            .and_then(|()| run("mount", &["-o", "loop", path(&file), path(at)]));
        if let Err(why) = tried {
            // The harness keeps what is printed by a test that passes; this is to be seen.
            let _ = writeln!(std::io::stderr(), "SKIPPED, for want of a file system to fill: {why}");
            return None;
        }
        Some(Self { at: at.to_owned(), _image: image })
    }

    /// Bytes free.
    pub fn free(&self) -> u64 {
        let figures = statvfs(&self.at).unwrap();
        figures.f_bavail * figures.f_frsize
    }

    /// Takes all but `leave` bytes of what is free.
    pub fn leave(&self, leave: u64) {
        let file = self.ballast();
        let taken = file.metadata().unwrap().len();
        let more = self.free().checked_sub(leave).expect("less is free than is to be left");
        fallocate(&file, FallocateFlags::empty(), taken, more).unwrap();
        file.sync_all().unwrap();
    }

    /// Takes all there is, to the last block.
    pub fn fill(&self) {
        let mut file = self.ballast();
        for piece in [1 << 20, 4096] {
            while file.write_all(&vec![b'x'; piece]).and_then(|()| file.sync_data()).is_ok() {}
        }
    }

    /// Gives back what was taken.
    pub fn clear(&self) {
        let file = self.ballast();
        file.set_len(0).unwrap();
        file.sync_all().unwrap();
    }

    fn ballast(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.at.join("ballast")).unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(why) = run("umount", &["--lazy", path(&self.at)]) {
            let _ = writeln!(std::io::stderr(), "left mounted: {why}");
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
