//! When policy files may have changed: told by the kernel, and by a look now and then where the kernel says nothing.
//!
//! Directories are watched, not files, so that editors' rename-over and Kubernetes' swap of the `..data` symlink show.
//! What is reported is a suspicion: whoever acts on it loads the files and compares epochs.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::files::{expand, listing};

/// Files are taken to be written out once nothing has happened to them for this long…
const QUIET: Duration = Duration::from_millis(100);
/// …or after this long in any case.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often files are looked at without being told to: network and overlay file systems may not tell.
const LOOK: Duration = Duration::from_secs(10);

/// Why files cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system refuses to watch a directory.
    #[error("cannot watch {directory} for changes: {source}; set policy.watch = false and reload by SIGHUP")]
    Refused {
        /// The directory.
        directory: String,
        /// Why.
        source: notify::Error,
    },
    /// The system refuses to watch anything.
    #[error("cannot watch files for changes: {0}; set policy.watch = false and reload by SIGHUP")]
    Unavailable(#[source] notify::Error),
}

/// Watches some files, and directories and patterns that name files.
#[derive(Debug)]
pub struct Watcher {
    files: Vec<PathBuf>,
    notifier: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    events: mpsc::Receiver<()>,
    seen: Vec<Option<Print>>,
}

/// What a look at a file's metadata shows: a file replaced or rewritten shows another print.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Watcher {
    /// Starts watching `files`, through symlinks. What happens to them from here on is reported, so load them after
    /// this, not before.
    ///
    /// # Errors
    /// If the system cannot watch one of their directories.
    pub fn new(files: Vec<PathBuf>) -> Result<Self, WatchError> {
        let (sender, events) = mpsc::channel(1);
        let notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error may mean lost events, so it is a suspicion, too. A full channel holds one already.
            if event.is_ok_and(|event| is_read(event.kind)) {
                return;
            }
            let _ = sender.try_send(());
        })
        .map_err(WatchError::Unavailable)?;
        let seen = prints(&files);
        let mut watcher = Self { files, notifier, watched: BTreeSet::new(), events, seen };
        watcher.watch_directories()?;
        Ok(watcher)
    }

    /// Waits until the files may have changed and have been at rest for a moment. Dropping the future loses nothing
    /// that the next one would not find.
    pub async fn changed(&mut self) {
        loop {
            tokio::select! {
                event = self.events.recv() => {
                    if event.is_some() {
                        self.rest().await;
                    }
                }
                () = sleep_until(Instant::now() + LOOK) => {}
            }
            // A swapped symlink leads to other directories. One that cannot be watched is looked at.
            let _ = self.watch_directories();
            let prints = prints(&self.files);
            if prints != self.seen {
                self.seen = prints;
                return;
            }
        }
    }

    /// Waits for a quiet moment.
    async fn rest(&mut self) {
        let patience = Instant::now() + PATIENCE;
        while let Ok(Some(())) = timeout_at(patience.min(Instant::now() + QUIET), self.events.recv()).await {}
    }

    fn watch_directories(&mut self) -> Result<(), WatchError> {
        let wanted: BTreeSet<PathBuf> = self.files.iter().flat_map(|file| directories(file)).collect();
        for gone in self.watched.difference(&wanted) {
            // It may be gone for good, and the watch with it.
            let _ = self.notifier.unwatch(gone);
        }
        let mut refused = None;
        for directory in &wanted {
            // A directory removed and made again has lost its watch without a word: watching again costs little.
            if let Err(source) = self.notifier.watch(directory, RecursiveMode::NonRecursive) {
                refused = Some(WatchError::Refused { directory: directory.display().to_string(), source });
            }
        }
        self.watched = wanted;
        refused.map_or(Ok(()), Err)
    }
}

/// Whether the event is only someone's reading, as our own loading is.
fn is_read(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// The directories in which a change can put another file in this one's place: its own, and those that the symlinks
/// on its way lead to.
fn directories(file: &Path) -> Vec<PathBuf> {
    if let Some((directory, _)) = listing(file) {
        let real = directory.canonicalize().ok();
        return std::iter::once(directory.to_owned()).chain(real).collect();
    }
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => PathBuf::from("/"),
    };
    let mut directories = vec![parent(file)];
    if let Ok(real) = file.canonicalize() {
        directories.push(parent(&real));
    }
    directories
}

fn prints(entries: &[PathBuf]) -> Vec<Option<Print>> {
    // Where a directory cannot be listed, loading says so; here it looks as one without files.
    let files: Vec<PathBuf> =
        entries.iter().flat_map(|entry| expand(std::slice::from_ref(entry)).unwrap_or_default()).collect();
    let print = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some(Print {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    };
    files.iter().map(print).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tokio::time::timeout;

    const DEADLINE: Duration = Duration::from_secs(30);

    async fn told(watcher: &mut Watcher) -> bool {
        timeout(DEADLINE, watcher.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_file_written_in_place_or_renamed_over_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policy.csv");
        fs::write(&file, "p, a").unwrap();
        let mut watcher = Watcher::new(vec![file.clone()]).unwrap();

        fs::write(&file, "p, a, b").unwrap();
        assert!(told(&mut watcher).await, "written in place");

        let other = directory.path().join("policy.csv~");
        fs::write(&other, "p, c").unwrap();
        fs::rename(&other, &file).unwrap();
        assert!(told(&mut watcher).await, "renamed over");
    }

    #[tokio::test]
    async fn a_file_that_comes_to_a_directory_or_goes_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("a.csv"), "p, a").unwrap();
        for entry in [directory.path().to_owned(), at("*.csv")] {
            let mut watcher = Watcher::new(vec![entry]).unwrap();
            fs::write(at("b.csv"), "p, b").unwrap();
            assert!(told(&mut watcher).await, "it came");
            fs::remove_file(at("b.csv")).unwrap();
            assert!(told(&mut watcher).await, "it went");
        }
    }

    #[tokio::test]
    async fn a_swapped_data_symlink_is_reported_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let version = |name: &str, text: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("policy.csv"), text).unwrap();
            std::os::unix::fs::symlink(name, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        version("..1", "p, a");
        std::os::unix::fs::symlink("..data/policy.csv", at("policy.csv")).unwrap();
        let mut watcher = Watcher::new(vec![at("policy.csv")]).unwrap();
        for (name, old) in [("..2", "..1"), ("..3", "..2"), ("..4", "..3")] {
            version(name, "p, b");
            fs::remove_dir_all(at(old)).unwrap();
            assert!(told(&mut watcher).await, "{name}");
        }
    }

    #[test]
    fn reading_the_files_is_no_suspicion() {
        use notify::event::{CreateKind, ModifyKind, RenameMode};
        for kind in [AccessKind::Read, AccessKind::Open(AccessMode::Any), AccessKind::Close(AccessMode::Read)]
        {
            assert!(is_read(EventKind::Access(kind)), "{kind:?}");
        }
        for kind in [
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            EventKind::Create(CreateKind::File),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)),
            EventKind::Any,
        ] {
            assert!(!is_read(kind), "{kind:?}");
        }
    }

    #[test]
    fn a_relative_file_is_watched_in_the_working_directory() {
        assert_eq!(directories(Path::new("policy.csv")).first(), Some(&PathBuf::from(".")));
    }
}
