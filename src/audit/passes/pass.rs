//! One pass over a log.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Failure;
use crate::audit::checkpoint::{Checkpoint, VerifierKey};
use crate::audit::hash::Hash;
use crate::audit::record::Head;
use crate::audit::storage::{Store, StoreError, Walk};
use crate::audit::verify::{Report, Verifier};

/// A walk from the first record to the last that the latest checkpoint covered as it began. The log may grow meanwhile.
pub struct Pass<'a> {
    store: &'a Arc<dyn Store>,
    key: &'a VerifierKey,
    note: &'a str,
}

/// What a pass asks of who drives it.
pub trait Steps {
    /// How many records to read in one go.
    fn slice(&self) -> u64;

    /// The pass is about to read the record `next`, and will end at `of`.
    fn at(&mut self, next: u64, of: u64);

    /// `read` records were read since `began`: waits as long as that should have taken. `false` ends the pass.
    fn rest(&mut self, read: u64, began: Instant) -> bool;

    /// Waits. `false` ends the pass.
    fn wait(&mut self, time: Duration) -> bool;
}

/// How a pass ended.
#[derive(Debug)]
pub enum Ended {
    /// The log holds.
    Holds(Report),
    /// It does not.
    Fails(Failure),
    /// It was told to end.
    Stopped,
}

impl<'a> Pass<'a> {
    /// A pass up to the checkpoint `note`, which was published before.
    pub const fn new(store: &'a Arc<dyn Store>, key: &'a VerifierKey, note: &'a str) -> Self {
        Self { store, key, note }
    }

    /// Walks.
    pub fn walk(self, steps: &mut impl Steps) -> Ended {
        let size = match Checkpoint::open(self.note.as_bytes(), self.key) {
            Ok(checkpoint) => checkpoint.size(),
            Err(error) => {
                let what = format!("not covered by a valid checkpoint: {error}");
                return Ended::Fails(Failure { index: 0, proven: 0, what });
            }
        };
        let unread = Rc::new(RefCell::new(None));
        let notes = Notes::new(self.store, (self.note, size), Rc::clone(&unread));
        let ended = match Verifier::new(self.key.clone(), notes) {
            Ok(verifier) => self.feed_all(verifier, size, steps),
            Err(fault) => Ended::Fails(fault.into()),
        };
        match (unread.take(), ended) {
            // What came of it was made of too few checkpoints.
            (Some(Unread { from, error }), Ended::Holds(_) | Ended::Fails(_)) => Ended::Fails(Failure {
                index: from,
                proven: from,
                what: format!("the checkpoints from here on cannot be read: {error}"),
            }),
            (_, ended) => ended,
        }
    }

    fn feed_all(&self, mut verifier: Verifier<Notes>, size: u64, steps: &mut impl Steps) -> Ended {
        let mut failures = 0;
        loop {
            let next = verifier.next_index();
            steps.at(next, size);
            if next == size {
                return self.finish(verifier, size);
            }
            let began = Instant::now();
            match self.feed_slice(&mut verifier, size.min(next + steps.slice())) {
                Ok(ControlFlow::Continue(())) => failures = 0,
                Ok(ControlFlow::Break(failure)) => return Ended::Fails(failure),
                Err(error) if error.is_damage() || failures == RETRIES => {
                    return Ended::Fails(match verifier.break_off() {
                        Ok(broken_off) => Failure::unreadable(broken_off, &error),
                        Err(fault) => fault.into(),
                    });
                }
                // A disk may fail to read once and not again; nothing was fed of what it did not give.
                Err(_) => {
                    failures += 1;
                    if !steps.wait(RETRY_AFTER) {
                        return Ended::Stopped;
                    }
                    continue;
                }
            }
            let read = verifier.next_index() - next;
            if read == 0 {
                // There are no more, though there must be.
                return self.finish(verifier, size);
            }
            if !steps.rest(read, began) {
                return Ended::Stopped;
            }
        }
    }

    /// Reads up to the record `end`, without it.
    fn feed_slice(
        &self,
        verifier: &mut Verifier<Notes>,
        end: u64,
    ) -> Result<ControlFlow<Failure>, StoreError> {
        let mut fault = None;
        self.store.scan(Walk::Up(verifier.next_index()), &mut |index, bytes| match verifier
            .feed(index, bytes)
        {
            Ok(()) if verifier.next_index() < end => ControlFlow::Continue(()),
            Ok(()) => ControlFlow::Break(()),
            Err(found) => {
                fault = Some(found);
                ControlFlow::Break(())
            }
        })?;
        Ok(fault.map_or(ControlFlow::Continue(()), |fault| ControlFlow::Break(fault.into())))
    }

    fn finish(&self, verifier: Verifier<Notes>, size: u64) -> Ended {
        let verifier = match self.leaf_before(size) {
            Some(tip) => verifier.with_tip(tip),
            None => verifier,
        };
        verifier.finish().map_or_else(|fault| Ended::Fails(fault.into()), Ended::Holds)
    }

    /// What others than the last record say is its leaf hash: the record after it, or the store. It is not trusted, so
    /// what cannot be read is left out.
    fn leaf_before(&self, size: u64) -> Option<Hash> {
        match self.store.record(size) {
            Ok(Some(next)) => Head::parse(&next).ok().map(|head| head.prev),
            Ok(None) => self.store.tip().ok().flatten(),
            Err(_) => None,
        }
    }
}

/// The log's checkpoints up to one, read a page at a time.
struct Notes {
    store: Arc<dyn Store>,
    page: VecDeque<(u64, String)>,
    /// The size to read on from; `None` once all were read.
    from: Option<u64>,
    /// The one to end with.
    last: Option<(u64, String)>,
    unread: Rc<RefCell<Option<Unread>>>,
}

/// The checkpoints from a size on could not be read.
struct Unread {
    from: u64,
    error: StoreError,
}

impl Notes {
    fn new(store: &Arc<dyn Store>, (note, size): (&str, u64), unread: Rc<RefCell<Option<Unread>>>) -> Self {
        let last = Some((size, note.to_owned()));
        Self { store: Arc::clone(store), page: VecDeque::new(), from: Some(0), last, unread }
    }
}

impl Iterator for Notes {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if let Some(from) = self.from
            && self.page.is_empty()
        {
            match self.store.kept_checkpoints_from(from, PAGE) {
                Ok(page) => {
                    let more = page.len() == PAGE;
                    self.from = page.last().and_then(|(size, _)| size.checked_add(1)).filter(|_| more);
                    self.page = page.into();
                }
                Err(error) => {
                    self.unread.replace(Some(Unread { from, error }));
                    (self.from, self.last) = (None, None);
                    return None;
                }
            }
        }
        let end = self.last.as_ref()?.0;
        match self.page.pop_front() {
            // What was kept since this pass began is for the next.
            Some((size, note)) if size <= end => Some(note),
            _ => self.last.take().map(|(_, note)| note),
        }
    }
}

/// How often a slice that could not be read is tried again, unless the store knows that it is damaged.
const RETRIES: u32 = 3;

const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How many checkpoints are read in one go.
const PAGE: usize = 256;
