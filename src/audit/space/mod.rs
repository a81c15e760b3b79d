//! Room on the log's disk: watched, and held back.
//!
//! | file | what is there |
//! |---|---|
//! | this one | [`Space`], what is known; [`Watch`], who looks, and what is done about it |
//! | [`levels`] | how much room is ample, low, or none |
//! | [`volume`] | the file system that the log is on, and the reserve on it |
//!
//! A log that finds its disk full in the middle of a write has failed, and takes nothing until a restart. So it stops
//! taking decisions while it can still write, and holds a reserve back: allocated blocks that are given to the file
//! system at that moment, so that there is room for the outcomes of calls in flight and the gate's own last words.
//!
//! | room | free beside the reserve | decisions | reserve |
//! |---|---|---|---|
//! | ample | `low` or more | taken | held |
//! | low | less than `low` | taken | held |
//! | full | less than the reserve | refused | given back |
//!
//! Invariants:
//! 1. Decisions are taken only while the reserve is held, from the first look on.
//! 2. On the way to full: decisions are paused, *then* the reserve is given back, *then* the event is submitted: it
//!    needs the room.
//! 3. On the way back: the reserve is held, *then* decisions are taken, *then* the event is submitted.
//! 4. Nothing here knows whether a write failed. If one did, the log has failed and stays so, whatever room there is.

pub mod levels;
pub mod volume;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use self::levels::Levels;
use self::volume::Volume;
use super::record::Room;

/// What is known of the room on the log's disk. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Space(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    room: AtomicU8,
    free: AtomicU64,
}

/// What is done to the log as room comes and goes.
pub trait Log: Send + 'static {
    /// Takes no decisions from now on, or takes them again; outcomes and events are taken all the while.
    fn pause(&self, paused: bool);

    /// Submits a record that says how much room there is now; waits for nothing.
    fn note(&self, room: Room, free_bytes: u64);

    /// Whether the log takes nothing any more: then the disk is no longer this gate's to watch.
    fn is_closed(&self) -> bool;
}

/// Looks at the log's disk several times a second until it is dropped or the log is closed.
#[derive(Debug)]
pub struct Watch {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Space {
    /// How much room there is.
    pub fn room(&self) -> Room {
        match self.0.room.load(Ordering::Acquire) {
            0 => Room::Ample,
            1 => Room::Low,
            _ => Room::Full,
        }
    }

    /// Bytes free at the last look, less the reserve.
    pub fn free(&self) -> u64 {
        self.0.free.load(Ordering::Acquire)
    }

    fn set(&self, room: Room, free: u64) {
        let code = match room {
            Room::Ample => 0,
            Room::Low => 1,
            Room::Full => 2,
        };
        self.saw(free);
        metrics::gauge!("portcullis_disk_low").set(if room == Room::Ample { 0.0 } else { 1.0 });
        metrics::gauge!("portcullis_disk_full").set(if room == Room::Full { 1.0 } else { 0.0 });
        self.0.room.store(code, Ordering::Release);
    }

    fn saw(&self, free: u64) {
        self.0.free.store(free, Ordering::Release);
        metrics::gauge!("portcullis_disk_free_bytes").set(free as f64);
    }
}

impl Watch {
    /// Takes the first look, so that no decision is taken that there is no room for, and goes on looking from a thread of
    /// its own. What is seen stands in `space`.
    ///
    /// # Errors
    /// The disk cannot be looked at, the reserve not be held for another reason than want of room, or no thread be had.
    pub fn begin(volume: impl Volume, log: impl Log, levels: Levels, space: Space) -> io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let mut looking = Looking::begin(volume, log, levels, space)?;
        let until = Arc::clone(&ended);
        let thread = std::thread::Builder::new().name("disk".into()).spawn(move || {
            while !until.load(Ordering::Acquire) && !looking.log.is_closed() {
                looking.look_again();
                std::thread::park_timeout(EVERY);
            }
        })?;
        Ok(Self { ended, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A disk that stands still may hold it for ever; nobody waits for that.
            thread.thread().unpark();
        }
    }
}

/// One who looks.
struct Looking<V, L> {
    volume: V,
    log: L,
    levels: Levels,
    space: Space,
    /// Whether the last look failed: that is said once.
    blind: bool,
}

impl<V: Volume, L: Log> Looking<V, L> {
    fn begin(volume: V, log: L, levels: Levels, space: Space) -> io::Result<Self> {
        let mut looking = Self { volume, log, levels, space, blind: false };
        let free = looking.volume.free()?;
        let beside = if looking.volume.is_held() {
            (free >= looking.levels.reserve).then_some(free)
        } else {
            looking.hold(free, looking.levels.to_begin())?
        };
        match beside {
            Some(free) => looking.settle(looking.levels.judge(free, Room::Ample), free),
            None => looking.fill_up()?,
        }
        Ok(looking)
    }

    fn look_again(&mut self) {
        match self.look() {
            Ok(()) => self.blind = false,
            Err(error) if !self.blind => {
                self.blind = true;
                tracing::error!(%error, "the log's disk cannot be watched, or its reserve not be held");
            }
            Err(_) => {}
        }
    }

    fn look(&mut self) -> io::Result<()> {
        let free = self.volume.free()?;
        self.space.saw(free);
        match self.space.room() {
            Room::Full => {
                if let Some(free) = self.hold(free, self.levels.to_return())? {
                    self.log.pause(false);
                    self.settle(self.levels.judge(free, Room::Full), free);
                }
            }
            Room::Ample | Room::Low if free < self.levels.reserve => self.fill_up()?,
            before @ (Room::Ample | Room::Low) => self.settle(self.levels.judge(free, before), free),
        }
        Ok(())
    }

    /// Holds the reserve, if `enough` is free; then returns what is free beside it, which is no less than it.
    fn hold(&mut self, free: u64, enough: u64) -> io::Result<Option<u64>> {
        if free < enough || !self.volume.hold()? {
            return Ok(None);
        }
        // Others write meanwhile.
        let beside = self.volume.free()?;
        if beside < self.levels.reserve {
            self.volume.give_back()?;
            return Ok(None);
        }
        Ok(Some(beside))
    }

    /// Stops decisions, and makes room for what must still be said.
    fn fill_up(&mut self) -> io::Result<()> {
        self.log.pause(true);
        self.space.set(Room::Full, self.space.free());
        let given = self.volume.give_back();
        self.space.saw(self.volume.free()?);
        self.note();
        given
    }

    /// Tells how it stands while the reserve is held; what has changed is noted.
    fn settle(&mut self, room: Room, free: u64) {
        let before = self.space.room();
        self.space.set(room, free);
        if room != before {
            self.note();
        }
    }

    fn note(&self) {
        let (room, free) = (self.space.room(), self.space.free());
        match room {
            Room::Ample => tracing::info!(free, "the log's disk has room again"),
            Room::Low => tracing::warn!(free, "the log's disk runs low: not ready, calls are served"),
            Room::Full => tracing::error!(
                free,
                "the log's disk is full: calls are refused until there is room, then served again without a restart"
            ),
        }
        self.log.note(room, free);
    }
}

/// How long from one look to the next.
const EVERY: Duration = Duration::from_millis(200);
