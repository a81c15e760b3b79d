//! How much room is ample, low, or none. Pure.

use crate::audit::record::Room;

/// What an operator asked for, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// With less free, room is low.
    pub low: u64,
    /// With less free beside the reserve of this size, there is none. 0 holds nothing back, and the disk is never full
    /// before a write fails.
    pub reserve: u64,
}

impl Levels {
    /// What `free` bytes beside a held reserve are, after it was `before`. A disk that was low is so until a sixteenth
    /// more is free: one that stands at the brink does not fill the log with saying so.
    pub fn judge(self, free: u64, before: Room) -> Room {
        let enough = match before {
            Room::Ample => self.low,
            Room::Low | Room::Full => self.low.saturating_add(self.low / 16),
        };
        if free < enough { Room::Low } else { Room::Ample }
    }

    /// Free bytes with which a gate may begin to hold the reserve: as much as it is left beside it.
    pub fn to_begin(self) -> u64 {
        self.reserve.saturating_mul(2)
    }

    /// Free bytes with which a full disk is one no longer: a quarter of the reserve more.
    pub fn to_return(self) -> u64 {
        self.to_begin().saturating_add(self.reserve / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_low_below_the_level_and_ample_a_sixteenth_above_it() {
        let levels = Levels { low: 1_600, reserve: 100 };
        for (free, before, room) in [
            (1_600, Room::Ample, Room::Ample),
            (1_599, Room::Ample, Room::Low),
            (1_600, Room::Low, Room::Low),
            (1_699, Room::Low, Room::Low),
            (1_700, Room::Low, Room::Ample),
            (1_699, Room::Full, Room::Low),
            (1_700, Room::Full, Room::Ample),
        ] {
            assert_eq!(levels.judge(free, before), room, "{free} after {before:?}");
        }
    }

    #[test]
    fn levels_of_zero_are_off() {
        let levels = Levels { low: 0, reserve: 0 };
        assert_eq!(levels.judge(0, Room::Ample), Room::Ample);
        assert_eq!((levels.to_begin(), levels.to_return()), (0, 0));
    }
}
