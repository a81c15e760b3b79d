//! Gives the space of spent write-ahead logs back a little at a time.
//!
//! RocksDB removes a write-ahead log whole, once all its records are in tables. Where the file system tells the device at
//! once which blocks are free (`discard`), or has many extents to free, the disk is busy for as long as that takes, and
//! each commit's sync waits behind it: for 64 MiB 14 ms were measured, and several logs go at once. So this keeps each
//! of these files open. Its name goes when RocksDB takes it away; its blocks go from here, in steps that hold up nobody.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Follows the write-ahead logs of one store, until dropped.
#[derive(Debug)]
pub(super) struct Spent {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes written since the directory was looked at.
    written: AtomicUsize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Look,
    End,
}

impl Spent {
    /// Begins to follow the logs in `dir`.
    ///
    /// # Errors
    /// What keeps a thread from being started.
    pub(super) fn follow(dir: &Path) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (dir, told) = (dir.to_owned(), Arc::clone(&shared));
        let mut kept = Vec::new();
        // What cannot be looked at goes as RocksDB has it go.
        let _ = take_up(&dir, &mut kept);
        let follow = move || {
            while told.wait() != State::End {
                let _ = take_up(&dir, &mut kept);
                kept.retain(|log: &Log| {
                    let there = log.is_there();
                    if !there {
                        log.give_back(&told);
                    }
                    there
                });
            }
        };
        let thread = std::thread::Builder::new().name("spent-logs".into()).spawn(follow)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// So many bytes were written: now and then there is a new log.
    pub(super) fn wrote(&self, bytes: usize) {
        if self.shared.written.fetch_add(bytes, Ordering::Relaxed) + bytes >= LOOK_EVERY {
            self.shared.written.store(0, Ordering::Relaxed);
            self.shared.tell(State::Look);
        }
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        self.shared.tell(State::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn tell(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changed.notify_one();
    }

    /// Waits until there is something to look at, but not for ever: a log may go while nothing is written.
    fn wait(&self) -> State {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, IDLE, |state| *state == State::Idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let seen = *state;
        if seen == State::Look {
            *state = State::Idle;
        }
        seen
    }

    /// Waits for `pause`, or until the end.
    fn ends_within(&self, pause: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, pause, |state| *state != State::End);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == State::End
    }
}

/// A write-ahead log, kept open.
struct Log {
    path: PathBuf,
    file: File,
    inode: (u64, u64),
}

impl Log {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::options().write(true).open(&path)?;
        let inode = inode(&file.metadata()?);
        Ok(Self { path, file, inode })
    }

    /// Whether RocksDB has it still, as far as can be told.
    fn is_there(&self) -> bool {
        match self.path.symlink_metadata() {
            Ok(there) => inode(&there) == self.inode,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Gives its blocks back, unless it has another name by which somebody keeps it, a backup it may be. A file without a
    /// name cannot get one again.
    fn give_back(&self, told: &Shared) {
        let Ok(metadata) = self.file.metadata() else { return };
        if metadata.nlink() != 0 {
            return;
        }
        let mut left = metadata.len();
        while left > 0 {
            left = left.saturating_sub(STEP);
            // Closed, it goes at once.
            if self.file.set_len(left).is_err() || told.ends_within(PAUSE) {
                break;
            }
        }
    }
}

fn inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Adds those logs in `dir` to `kept` that it has not.
fn take_up(dir: &Path, kept: &mut Vec<Log>) -> io::Result<()> {
    for entry in dir.read_dir()? {
        let path = entry?.path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if is_log && kept.iter().all(|log| log.path != path) {
            kept.extend(Log::open(path));
        }
    }
    Ok(())
}

/// How much is written between two looks; a log has several times that.
const LOOK_EVERY: usize = 4 << 20;

/// How long it takes to see that a log has gone while nothing is written.
const IDLE: Duration = Duration::from_secs(1);

/// How much is given back at once: a fraction of a millisecond's work for a disk.
const STEP: u64 = 1 << 20;

/// Between two steps: faster than a gate can write, and slow enough for syncs to come between.
const PAUSE: Duration = Duration::from_millis(4);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A second's steps and more.
    const LEN: u64 = 256 << 20;

    fn log(dir: &Path, name: &str) -> (PathBuf, File) {
        let path = dir.join(name);
        let file = File::create(&path).unwrap();
        file.set_len(LEN).unwrap();
        (path, file)
    }

    fn len(file: &File) -> u64 {
        file.metadata().unwrap().len()
    }

    #[test]
    fn a_log_that_was_removed_goes_step_by_step_and_no_other_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let (path, removed) = log(dir.path(), "000004.log");
        let (kept_path, kept) = log(dir.path(), "000005.log");
        let (linked_path, linked) = log(dir.path(), "000006.log");
        let (table_path, table) = log(dir.path(), "000007.sst");
        std::fs::hard_link(&linked_path, dir.path().join("backup")).unwrap();
        let spent = Spent::follow(dir.path()).unwrap();
        for path in [&path, &linked_path, &table_path] {
            std::fs::remove_file(path).unwrap();
        }
        let mut seen = Vec::new();
        let began = Instant::now();
        while seen.last() != Some(&0) {
            assert!(began.elapsed() < Duration::from_secs(20), "{seen:?}");
            spent.wrote(LOOK_EVERY);
            let now = len(&removed);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        assert!(seen.len() > 3, "in steps, not at once: {seen:?}");
        assert_eq!([&kept, &linked, &table].map(len), [LEN; 3]);
        drop(spent);
        assert_eq!(len(&kept), LEN);
        assert!(kept_path.exists());
    }

    #[test]
    fn one_whose_number_was_given_to_another_file_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = log(dir.path(), "000004.log");
        let mut kept = Vec::new();
        take_up(dir.path(), &mut kept).unwrap();
        std::fs::rename(&path, dir.path().join("away")).unwrap();
        let (_, new) = log(dir.path(), "000004.log");
        assert!(!kept[0].is_there());
        kept[0].give_back(&Shared::default());
        assert_eq!([&old, &new].map(len), [LEN; 2]);
    }

    #[test]
    fn it_ends_in_the_middle_when_the_store_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _file) = log(dir.path(), "000004.log");
        let spent = Spent::follow(dir.path()).unwrap();
        std::fs::remove_file(path).unwrap();
        spent.wrote(LOOK_EVERY);
        let began = Instant::now();
        drop(spent);
        assert!(began.elapsed() < IDLE, "{:?}", began.elapsed());
    }
}
