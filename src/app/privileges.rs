//! What the process gives up, so that what it holds stays its own: the log's key in memory, the log's files on disk.

use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit, umask};

/// From now on, what the process makes on disk is for its owner only, whatever the umask it was started with. RocksDB
/// makes its files by that.
pub(super) fn keep_files_private() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Leaves no core file behind, and lets no other process of the same user look into this one: its memory holds keys.
/// Warns if the process runs as root. What the system refuses is told, and is no reason not to serve.
pub(super) fn keep_memory_private() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core files cannot be turned off: they would hold keys");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "other processes of the same user can read this one's memory, which holds keys");
    }
    if geteuid().is_root() {
        tracing::warn!("running as root, which the gate needs for nothing: give it a user of its own");
    }
}

/// Takes away what others than the owner may do with the files in `dir`, which an older gate may have made otherwise.
///
/// # Errors
/// The directory cannot be read, or a file in it not be changed.
pub(super) fn tighten(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let mode = metadata.permissions().mode();
        if metadata.is_file() && mode & OTHERS != 0 {
            std::fs::set_permissions(entry.path(), Permissions::from_mode(mode & 0o700))?;
        }
    }
    Ok(())
}

/// Whether a file that holds a secret is open to more than it has to be. Its owner alone may use it; where that is not
/// the process's own user (a secret mounted for a group, say), the group may read it.
pub(super) fn is_exposed(secret: &Metadata) -> bool {
    let own = secret.uid() == geteuid().as_raw();
    secret.permissions().mode() & if own { OTHERS } else { OTHERS & !GROUP_READ } != 0
}

const OTHERS: u32 = 0o077;
const GROUP_READ: u32 = 0o040;

#[cfg(test)]
mod tests {
    use super::*;

    fn exposed(path: &Path, mode: u32) -> bool {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        is_exposed(&path.metadata().unwrap())
    }

    #[test]
    fn a_secret_of_ours_is_for_us_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, expected) in
            [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o620, true), (0o644, true)]
        {
            assert_eq!(exposed(file.path(), mode), expected, "{mode:o}");
        }
    }

    #[test]
    fn no_core_file_is_left_and_no_other_process_looks_in() {
        keep_memory_private();
        assert_eq!(rustix::process::getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }

    #[test]
    fn files_of_a_log_are_taken_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("000001.sst");
        std::fs::write(&file, "x").unwrap();
        assert!(exposed(&file, 0o644));
        tighten(dir.path()).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
