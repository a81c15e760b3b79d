//! Room on the log's disk: what the gate does as it comes and goes.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::audit::journal::Journal;
use crate::audit::record::{Event, Room};
use crate::audit::space::levels::Levels;
use crate::audit::space::volume::LogVolume;
use crate::audit::space::{Log, Space, Watch};
use crate::config::settings;
use crate::proxy::live::Live;

/// To be called before the log is opened. Opening it takes some room: on a disk that is full, the reserve's.
pub(super) fn make_way(log: &settings::Log) {
    if let Err(error) = LogVolume::of(&log.dir, log.disk.reserve).make_way() {
        // If it matters, opening the log says more.
        tracing::warn!(%error, dir = %log.dir.display(), "the reserve on the log's disk cannot be given back");
    }
}

/// Watches the log's disk until the watch is dropped or the log closed. When this returns, the journal takes decisions
/// only if there is room for them.
///
/// # Errors
/// The disk cannot be looked at, or the reserve not be made.
pub(super) fn watch(
    log: &settings::Log,
    journal: &Journal,
    live: &Arc<ArcSwap<Live>>,
    space: &Space,
) -> io::Result<Watch> {
    let settings::Disk { low, reserve } = log.disk;
    if reserve > 0 && reserve < log.write_buffer {
        tracing::warn!(
            reserve,
            write_buffer = log.write_buffer,
            "log.disk.reserve is less than log.memory.write_buffer, which the store may have to write out on a full disk"
        );
    }
    let recorded = Recorded { journal: journal.clone(), live: Arc::clone(live) };
    Watch::begin(LogVolume::of(&log.dir, reserve), recorded, Levels { low, reserve }, space.clone())
}

/// The log, and the epochs that its records name.
struct Recorded {
    journal: Journal,
    live: Arc<ArcSwap<Live>>,
}

impl Log for Recorded {
    fn pause(&self, paused: bool) {
        self.journal.pause(paused);
    }

    fn note(&self, room: Room, free_bytes: u64) {
        let event = Event::Disk { room, free_bytes };
        if let Err(error) = self.journal.note(self.live.load().epochs, &event) {
            tracing::warn!(%error, "the room on the log's disk is not on the log");
        }
    }

    fn is_closed(&self) -> bool {
        self.journal.is_closed()
    }
}
