//! The thread that keeps a mark up to date.
//!
//! Nothing waits for it but the gate's start and end, and those not for long: a mark's disk may hang for good.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Lock, MarkError, MarkFile, Taken, hold};
use crate::audit::checkpoint::KeyChain;
use crate::audit::storage::Store;

/// A mark that is kept up to date, until [`Keeper::finish`].
#[derive(Debug)]
pub struct Keeper {
    status: Arc<Status>,
    /// Dropped to end the thread.
    stop: Sender<()>,
    finished: Receiver<()>,
}

/// The log whose mark is kept.
pub struct Marked {
    /// Where it is.
    pub store: Arc<dyn Store>,
    /// What its checkpoints are and were signed with.
    pub keys: KeyChain,
    /// Its latest durable checkpoint, as a note.
    pub latest: Box<dyn Fn() -> Arc<str> + Send>,
    /// Called, once, when somebody else is found to write under the log's name.
    pub forked: Forked,
}

/// What is done about it that somebody else writes under a log's name.
pub type Forked = Box<dyn FnOnce(&MarkError) + Send>;

/// How a mark stands. Any thread may ask.
#[derive(Debug, Default)]
pub struct Status(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    size: u64,
    fault: Option<String>,
    /// Since when the mark's disk has been at work on one request.
    busy: Option<Instant>,
}

/// How a mark stands at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many records the mark covers, as far as is known to be durable.
    pub size: u64,
    /// Why it is not kept up to date, if it is not.
    pub failed: Option<String>,
}

impl Status {
    /// How it stands now.
    pub fn standing(&self) -> Standing {
        let state = self.lock();
        let stuck = state.busy.map(|since| since.elapsed()).filter(|busy| *busy >= STUCK);
        let failed = match stuck {
            Some(busy) => Some(format!("its disk has not answered for {} s", busy.as_secs())),
            None => state.fault.clone(),
        };
        Standing { size: state.size, failed }
    }

    fn begin(&self) {
        self.lock().busy = Some(Instant::now());
    }

    fn end(&self, done: Result<u64, String>) {
        let mut state = self.lock();
        state.busy = None;
        match done {
            Ok(size) => (state.size, state.fault) = (size, None),
            Err(fault) => state.fault = Some(fault),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Writes the mark and goes on to keep it up to date, telling `status`. Returns when it was written, or could not
    /// be, or its disk has not answered for a while.
    ///
    /// # Errors
    /// If the thread could not be started.
    pub fn start(taken: Taken, log: Marked, status: Arc<Status>) -> std::io::Result<Self> {
        let ((stop, stopped), (finish, finished), (first, written)) = (channel(), channel(), channel());
        let mut work = Work::new(taken, log, Arc::clone(&status));
        std::thread::Builder::new().name("mark".into()).spawn(move || {
            work.look();
            // Whoever starts the gate may have stopped waiting.
            let _ = first.send(());
            work.keep(&stopped);
            drop(work);
            let _ = finish.send(());
        })?;
        let _ = written.recv_timeout(STUCK);
        Ok(Self { status, stop, finished })
    }

    /// Writes the mark a last time and lets it go; to be called when the log takes no more. Returns how it stands
    /// then. If its disk does not answer, the thread is left behind, and its lock with it.
    pub fn finish(self) -> Standing {
        drop(self.stop);
        let _ = self.finished.recv_timeout(STUCK);
        self.status.standing()
    }
}

/// What the thread works with.
struct Work {
    file: MarkFile,
    lock: Option<Lock>,
    log: Marked,
    /// `None` once it was called.
    forked: Option<Forked>,
    status: Arc<Status>,
    /// The mark as it was written last.
    written: Option<Arc<str>>,
    looked: Instant,
}

/// Why the mark was not brought up to date.
enum Fault {
    /// It is tried again.
    Passing(MarkError),
    /// Somebody else writes under the log's name.
    Forked(MarkError),
}

impl From<MarkError> for Fault {
    fn from(error: MarkError) -> Self {
        match error {
            MarkError::Shorter { .. } | MarkError::Fork { .. } => Self::Forked(error),
            _ => Self::Passing(error),
        }
    }
}

impl Work {
    fn new(taken: Taken, mut log: Marked, status: Arc<Status>) -> Self {
        let forked = Some(std::mem::replace(&mut log.forked, Box::new(|_| ())));
        let Taken { file, lock } = taken;
        Self { file, lock, log, forked, status, written: None, looked: Instant::now() }
    }

    /// Keeps the mark until told to stop.
    fn keep(&mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            self.look();
        }
        self.look();
    }

    /// Writes the mark if the log has grown, and sees now and then whether it is still there.
    fn look(&mut self) {
        if self.forked.is_none() {
            return;
        }
        let note = (self.log.latest)();
        if note.is_empty() || (self.written.as_ref() == Some(&note) && self.looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Instant::now();
        self.status.begin();
        let done = self.bring_up(&note);
        if let Err(Fault::Forked(error)) = &done
            && let Some(forked) = self.forked.take()
        {
            forked(error);
        }
        self.status.end(done.map_err(|fault| match fault {
            Fault::Passing(error) => error.to_string(),
            Fault::Forked(error) => format!("another gate writes under this log's origin: {error}"),
        }));
    }

    /// Makes `note` the mark, if what is there may be replaced; returns its size.
    fn bring_up(&mut self, note: &Arc<str>) -> Result<u64, Fault> {
        let size = self.file.checked(note.as_bytes(), &self.log.keys)?.size();
        let there = self.file.read().map_err(|source| self.file.io(source))?;
        if let Some(there) = &there
            && self.written.as_ref().is_none_or(|written| written.as_bytes() != there)
        {
            // Not what was written last. An earlier one of this log may be put back, or left by a write that failed.
            let mark = self.file.checked(there, &self.log.keys)?;
            hold(&*self.log.store, size, &mark, &self.file)?;
        }
        if !self.lock.as_ref().is_some_and(Lock::stands) {
            self.lock = None;
            self.lock = Some(self.file.lock_now().map_err(|source| self.file.not_locked(source))?);
        }
        if there.as_deref() != Some(note.as_bytes()) {
            self.written = None;
            self.file.write(note).map_err(|source| self.file.io(source))?;
        }
        self.written = Some(Arc::clone(note));
        Ok(size)
    }
}

/// The longest between a commit and the beginning of the write of its mark.
const EVERY: Duration = Duration::from_millis(400);

/// How often it is seen whether a mark that need not be written is still there.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A disk that has not answered for so long counts as failed.
const STUCK: Duration = Duration::from_secs(5);
