//! A disk that fails on demand beneath the real binary: `shim.c`, preloaded, with a file of words to tell it what to do.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};

use super::{Site, until};

/// Which calls are meant; a set.
pub mod op {
    pub const WRITE: u64 = 1;
    pub const SYNC: u64 = 2;
    pub const CREATE: u64 = 4;
    /// These, and renaming, removing and cutting.
    pub const ANY: u64 = 63;
}

/// On which files; a set.
pub mod file {
    pub const WAL: u64 = 1;
    pub const ANY: u64 = 15;
}

pub const EIO: u64 = 5;
pub const ENOSPC: u64 = 28;

/// What is done about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Do {
    /// It fails and has done nothing.
    Fail = 1,
    /// It writes half and says so.
    Half = 2,
    /// It writes half and says so; the next write fails.
    HalfThenFail = 3,
    /// It does all of it, and fails.
    WholeThenFail = 4,
    /// The process is killed before it.
    KillBefore = 5,
    /// The process is killed when half is written.
    KillHalfway = 6,
    /// The process is killed after it.
    KillAfter = 7,
}

/// A fault: at the `nth` call (from 1) of `ops` on `files` from now on, do this.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
    pub ops: u64,
    pub files: u64,
    pub nth: u64,
    pub act: Do,
    /// The error that failing calls give.
    pub errno: u64,
    /// All calls from the `nth` on, and not it alone.
    pub sticky: bool,
}

/// The shim of one site.
pub struct Shim {
    control: File,
    synced: PathBuf,
}

impl Shim {
    /// From its next start on, the site's gate has the shim beneath it, which does nothing yet.
    pub fn under(site: &Arc<Site>) -> Self {
        let (path, synced) = (site.path("shim.control"), site.path("shim.synced"));
        let control = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        control.set_len(4096).unwrap();
        std::fs::create_dir_all(site.log_dir()).unwrap();
        let dir = site.log_dir().canonicalize().unwrap();
        site.set_environment(vec![
            ("LD_PRELOAD".into(), LIBRARY.clone().into()),
            ("SHIM_CONTROL".into(), path.into()),
            ("SHIM_SYNCED".into(), synced.clone().into()),
            ("SHIM_DIR".into(), dir.into()),
        ]);
        Self { control, synced }
    }

    /// Arms it.
    pub fn strike(&self, strike: Strike) {
        let Strike { ops, files, nth, act, errno, sticky } = strike;
        self.clear();
        for (at, word) in [(OPS, ops), (FILES, files), (ACT, act as u64), (ERRNO, errno)] {
            self.set(at, word);
        }
        self.set(STICKY, u64::from(sticky));
        // Last, since it arms.
        self.set(NTH, nth);
    }

    /// Disarms it.
    pub fn clear(&self) {
        for word in [NTH, OPS, MATCHED, ACTED] {
            self.set(word, 0);
        }
    }

    /// How often it has struck.
    pub fn struck(&self) -> u64 {
        self.get(ACTED)
    }

    pub fn wait_struck(&self) {
        until("the disk to fail", || self.struck() > 0);
    }

    /// Syncs report success and do nothing, from now on.
    pub fn lie(&self, lie: bool) {
        self.set(LIE, u64::from(lie));
    }

    /// How far the machine's clock is off, seconds.
    pub fn clock(&self, seconds: i64) {
        self.set(CLOCK_NS, (seconds * 1_000_000_000).cast_unsigned());
    }

    /// Forgets what was synced until now: all that is there counts as synced. The gate must be down.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(&self.synced);
    }

    /// Takes away what the gate, which is dead, had not synced: each file is cut to its last synced length.
    ///
    /// What was renamed or removed stays so, as on a file system that keeps the order of its own changes.
    pub fn cut_power(&self) {
        let mut files: BTreeMap<&str, u64> = BTreeMap::new();
        let notes = std::fs::read_to_string(&self.synced).unwrap_or_default();
        for line in notes.lines() {
            let mut words = line.splitn(3, ' ');
            let (word, size, path) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match word {
                "renamed" => drop(files.remove(path)),
                _ => drop(files.insert(path, size.parse().unwrap())),
            }
        }
        for (path, synced) in files {
            let path = Path::new(path);
            if path.metadata().is_ok_and(|found| found.len() > synced) {
                File::options().write(true).open(path).unwrap().set_len(synced).unwrap();
            }
        }
    }

    fn set(&self, word: u64, value: u64) {
        self.control.write_all_at(&value.to_le_bytes(), word * 8).unwrap();
    }

    fn get(&self, word: u64) -> u64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, word * 8).unwrap();
        u64::from_le_bytes(bytes)
    }
}

/// The shim, compiled once for each run of the tests.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| compile("shim.c", &["-shared", "-fPIC", "-ldl"]));

/// Compiles a C source that stands beside this one.
pub fn compile(source: &str, flags: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support").join(source);
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(source.file_stem().unwrap());
    // Under a name of this process, then moved: other runs may be compiling too.
    let partial = built.with_extension(std::process::id().to_string());
    let compiled = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&partial, &source])
        .args(flags)
        .status()
        .expect("a C compiler, `cc`, to make the faulty disk with");
    assert!(compiled.success(), "{} does not compile", source.display());
    std::fs::rename(&partial, &built).unwrap();
    built
}

// The words of the control file, as in shim.c.
const OPS: u64 = 0;
const FILES: u64 = 1;
const NTH: u64 = 2;
const ACT: u64 = 3;
const ERRNO: u64 = 4;
const STICKY: u64 = 5;
const MATCHED: u64 = 6;
const ACTED: u64 = 7;
const CLOCK_NS: u64 = 8;
const LIE: u64 = 9;
