use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::keeper::{Keeper, Marked, Standing, Status};
use super::*;
use crate::audit::testing::{MemoryStore, key};

/// A place for a mark.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.dir()).unwrap();
        place
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("disk")
    }

    fn file(&self) -> MarkFile {
        MarkFile::at(&self.dir().join("gate.mark"))
    }

    fn text(&self) -> Option<String> {
        std::fs::read_to_string(self.file().path()).ok()
    }

    /// The disk goes away: writes to it fail for whoever it is, root too.
    fn take_away(&self) {
        std::fs::rename(self.dir(), self.0.path().join("away")).unwrap();
        std::fs::write(self.dir(), "not a directory").unwrap();
    }

    fn bring_back(&self) {
        std::fs::remove_file(self.dir()).unwrap();
        std::fs::rename(self.0.path().join("away"), self.dir()).unwrap();
    }
}

/// A log whose mark is kept.
struct Kept {
    keeper: Keeper,
    status: Arc<Status>,
    forked: Arc<AtomicU32>,
}

impl Kept {
    fn start(place: &Place, log: &Arc<MemoryStore>) -> Self {
        let (status, forked) = (Arc::<Status>::default(), Arc::<AtomicU32>::default());
        let (store, counted) = (Arc::clone(log), Arc::clone(&forked));
        let marked = Marked {
            store: Arc::<MemoryStore>::clone(log),
            keys: key().verifier().into(),
            latest: Box::new(move || store.latest()),
            forked: Box::new(move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
            }),
        };
        let keeper = Keeper::start(take_up(place, log).unwrap(), marked, Arc::clone(&status)).unwrap();
        Self { keeper, status, forked }
    }

    fn until(&self, so: impl Fn(&Standing) -> bool) {
        until(|| so(&self.status.standing()));
    }
}

fn take_up(place: &Place, log: &Arc<MemoryStore>) -> Result<Taken, MarkError> {
    let held = log.held().records.len() as u64;
    place.file().take_up(&key().verifier().into(), &**log, held)
}

fn until(mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// The mark of a log as it stands.
fn marked(place: &Place, log: &Arc<MemoryStore>) {
    place.file().make(&key().verifier().into(), &**log, &log.latest()).unwrap();
}

#[test]
fn a_log_extends_its_mark_at_every_size() {
    let (place, log) = (Place::new(), MemoryStore::of(1, "v"));
    for _ in 0..70 {
        marked(&place, &log);
        for _ in 0..3 {
            drop(take_up(&place, &log).unwrap());
            log.grow(1, "v");
        }
    }
}

#[test]
fn a_log_that_is_shorter_than_its_mark_is_refused() {
    let (place, log) = (Place::new(), MemoryStore::of(40, "v"));
    let before = log.copy();
    log.grow(1, "v");
    marked(&place, &log);
    assert!(matches!(take_up(&place, &before), Err(MarkError::Shorter { held: 40, marked: 41, .. })));
}

#[test]
fn a_log_of_another_history_under_the_same_key_is_refused_however_long() {
    let (place, log) = (Place::new(), MemoryStore::of(40, "v"));
    let other = log.copy();
    log.grow(1, "v");
    marked(&place, &log);
    other.grow(1, "w");
    assert!(matches!(take_up(&place, &other), Err(MarkError::Fork { marked: 41, .. })));
    other.grow(500, "w");
    assert!(matches!(take_up(&place, &other), Err(MarkError::Fork { marked: 41, .. })));
    let note = other.latest();
    let made = place.file().make(&key().verifier().into(), &*other, &note);
    assert!(matches!(made, Err(MarkError::Fork { .. })), "nor is it marked anew");
}

#[test]
fn a_missing_mark_is_refused_unless_the_log_is_new() {
    let (place, log) = (Place::new(), MemoryStore::of(1, "v"));
    drop(take_up(&place, &log).unwrap());
    log.grow(1, "v");
    assert!(matches!(take_up(&place, &log), Err(MarkError::Absent { held: 2, .. })));
    marked(&place, &log);
    drop(take_up(&place, &log).unwrap());
}

#[test]
fn what_is_no_mark_of_the_log_is_refused_and_left_as_it_is() {
    let (place, log) = (Place::new(), MemoryStore::of(3, "v"));
    let other_key = crate::audit::checkpoint::SigningKey::from_seed(key().origin().clone(), &[8; 32]);
    for text in ["", "nonsense", &other_key.sign(1, &crate::audit::hash::Hash::ZERO)] {
        std::fs::write(place.file().path(), text).unwrap();
        assert!(matches!(take_up(&place, &log), Err(MarkError::NotOurs { .. })), "{text:?}");
        let made = place.file().make(&key().verifier().into(), &*log, &log.latest());
        assert!(matches!(made, Err(MarkError::NotOurs { .. })));
        assert_eq!(place.text().as_deref(), Some(text));
    }
}

#[test]
fn one_process_keeps_a_mark_at_a_time() {
    let (place, log) = (Place::new(), MemoryStore::of(3, "v"));
    marked(&place, &log);
    let taken = take_up(&place, &log).unwrap();
    assert!(matches!(take_up(&place, &log), Err(MarkError::Kept { .. })));
    drop(taken);
    let kept = Kept::start(&place, &log);
    assert!(matches!(take_up(&place, &log), Err(MarkError::Kept { .. })));
    kept.keeper.finish();
    drop(take_up(&place, &log).unwrap());
}

#[test]
fn the_mark_follows_the_log_and_is_its_checkpoint_to_the_byte() {
    let (place, log) = (Place::new(), MemoryStore::of(1, "v"));
    let kept = Kept::start(&place, &log);
    assert_eq!(place.text().as_deref(), Some(&*log.latest()), "it is there before anything is decided");
    log.grow(5, "v");
    until(|| place.text().as_deref() == Some(&*log.latest()));
    kept.until(|standing| *standing == Standing { size: 6, failed: None });
    log.grow(5, "v");
    assert_eq!(kept.keeper.finish(), Standing { size: 11, failed: None });
    assert_eq!(place.text().as_deref(), Some(&*log.latest()), "the last one, too");
}

#[test]
fn a_mark_that_cannot_be_written_is_told_and_written_when_it_can_be() {
    let (place, log) = (Place::new(), MemoryStore::of(1, "v"));
    let kept = Kept::start(&place, &log);
    place.take_away();
    log.grow(3, "v");
    kept.until(|standing| standing.failed.is_some());
    assert_eq!(kept.status.standing().size, 1);
    place.bring_back();
    kept.until(|standing| *standing == Standing { size: 4, failed: None });
    // A new disk, without anything on it.
    place.take_away();
    std::fs::remove_file(place.dir()).unwrap();
    std::fs::create_dir(place.dir()).unwrap();
    log.grow(3, "v");
    kept.until(|standing| *standing == Standing { size: 7, failed: None });
    assert!(matches!(take_up(&place, &log), Err(MarkError::Kept { .. })), "it is locked there, too");
    assert_eq!(kept.forked.load(Ordering::SeqCst), 0);
    kept.keeper.finish();
}

#[test]
fn another_writer_under_the_same_name_is_noticed_and_not_written_over() {
    let (place, log) = (Place::new(), MemoryStore::of(5, "v"));
    marked(&place, &log);
    for more in [1, 100] {
        let (ours, theirs) = (log.copy(), log.copy());
        let kept = Kept::start(&place, &ours);
        theirs.grow(more, "theirs");
        place.file().write(&theirs.latest()).unwrap();
        ours.grow(2, "ours");
        until(|| kept.forked.load(Ordering::SeqCst) == 1);
        kept.until(|standing| standing.failed.is_some());
        ours.grow(2, "ours");
        assert!(kept.keeper.finish().failed.is_some());
        assert_eq!(place.text().as_deref(), Some(&*theirs.latest()), "it stays as they left it");
        place.file().write(&log.latest()).unwrap();
    }
}

#[test]
fn an_older_mark_put_back_is_brought_up_again() {
    let (place, log) = (Place::new(), MemoryStore::of(5, "v"));
    marked(&place, &log);
    let old = place.text().unwrap();
    let kept = Kept::start(&place, &log);
    log.grow(5, "v");
    kept.until(|standing| standing.size == 10);
    place.file().write(&old).unwrap();
    log.grow(1, "v");
    kept.until(|standing| *standing == Standing { size: 11, failed: None });
    assert_eq!(kept.forked.load(Ordering::SeqCst), 0);
    kept.keeper.finish();
}

#[test]
fn a_disk_that_hangs_holds_up_nobody_and_counts_as_failed() {
    let (place, log) = (Place::new(), MemoryStore::of(1, "v"));
    let kept = Kept::start(&place, &log);
    // Whoever opens a pipe that nobody writes to stands still.
    std::fs::remove_file(place.file().path()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(place.file().path()).status().unwrap().success());
    log.grow(1, "v");
    kept.until(|standing| standing.failed.as_deref().is_some_and(|fault| fault.contains("not answered")));
    assert_eq!(kept.status.standing().size, 1);
    assert!(kept.keeper.finish().failed.is_some(), "nor is the end waited for");
    std::fs::write(place.file().path(), "").unwrap();
}

#[test]
fn a_mark_whose_disk_hangs_at_the_start_is_refused_with_a_word() {
    let (place, log) = (Place::new(), MemoryStore::of(3, "v"));
    assert!(std::process::Command::new("mkfifo").arg(place.file().path()).status().unwrap().success());
    let refused = take_up(&place, &log).unwrap_err().to_string();
    assert!(refused.contains("does not answer"), "{refused}");
    std::fs::write(place.file().path(), "").unwrap();
}
