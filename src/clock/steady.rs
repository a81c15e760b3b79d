//! Time that does not jump: for what expires.
//!
//! Invariant: nothing here reads a clock.

use std::time::Duration;

use super::{Timestamp, micros};

/// A moment on both of a machine's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Wall time, which jumps when somebody sets it.
    pub wall: Timestamp,
    /// Since boot, time asleep included (`CLOCK_BOOTTIME`). Nobody can set it.
    pub boot: Duration,
}

/// Wall time as it would be had nobody set the clock: the time since boot, added to when that was.
///
/// 1. When the machine booted is worked out once, from the wall clock as the gate finds it.
/// 2. A wall clock that says otherwise later has jumped. Nobody can tell a jump that corrects the clock from one that
///    spoils it, so it is followed, but slowly: by one part in 120, half a minute in an hour. A clock that is wrong for less
///    than an hour and set right again moves the steady time by no more than a token's leeway (30 s by default) covers.
/// 3. Within ten minutes of boot it is followed at once: a machine that has just booted often finds out only then
///    what time it is.
/// 4. Sleep is no jump. What the machine cannot know of is one: a virtual machine stopped from outside comes back
///    with both clocks behind, and a correction that follows is taken for a jump like any other.
#[derive(Debug)]
pub struct Steady {
    /// Wall time at boot, microseconds since the Unix epoch.
    offset_us: i64,
    /// Time since boot at the last look.
    looked: Duration,
}

impl Steady {
    /// Takes the wall clock's word for when the machine booted.
    pub fn new(now: Moment) -> Self {
        Self { offset_us: booted(now), looked: now.boot }
    }

    /// Looks at the clocks and follows the wall clock as far as it may. A look before [`Steady::holds_until_us`] changes
    /// nothing.
    pub fn look(&mut self, now: Moment) {
        let passed = now.boot.saturating_sub(self.looked);
        if passed < LOOK_EVERY {
            return;
        }
        self.looked = now.boot;
        let apart = booted(now).saturating_sub(self.offset_us);
        let most = if now.boot < SETTLING {
            i64::MAX
        } else {
            // Nobody looked meanwhile, so nobody knows how long the wall clock has been saying this.
            micros(passed.min(UNWATCHED)) / SLEW
        };
        self.offset_us = self.offset_us.saturating_add(apart.clamp(-most, most));
    }

    /// What the time since boot is added to, microseconds since the Unix epoch.
    pub const fn offset_us(&self) -> i64 {
        self.offset_us
    }

    /// The time since boot at which to look again, microseconds.
    pub fn holds_until_us(&self) -> i64 {
        micros(self.looked + LOOK_EVERY)
    }
}

/// When the machine booted, as `now` has it.
fn booted(now: Moment) -> i64 {
    now.wall.as_micros().saturating_sub(micros(now.boot))
}

/// The steady time goes at most one part in so many faster or slower than time.
const SLEW: i64 = 120;

/// How long after boot the wall clock is followed at once.
const SETTLING: Duration = Duration::from_secs(10 * 60);

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest time between two looks that counts as watched.
const UNWATCHED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// When the machine truly booted.
    const BOOT: i64 = 1_700_000_000_000_000;
    const LEEWAY: i64 = 30_000_000;

    /// The clocks `boot` seconds after boot, with the wall clock wrong by so many seconds.
    fn moment(boot: u64, wrong_by: i64) -> Moment {
        let wall = BOOT + micros(Duration::from_secs(boot)) + wrong_by * 1_000_000;
        Moment { wall: Timestamp::from_micros(wall), boot: Duration::from_secs(boot) }
    }

    fn wrong_by(steady: &Steady) -> i64 {
        steady.offset_us() - BOOT
    }

    proptest! {
        /// Whatever the wall clock does, however often anyone looks.
        #[test]
        fn no_jump_moves_it_by_more_than_the_leeway_within_an_hour(
            looks in prop::collection::vec((1_u64..400, -4_000_000_000_i64..4_000_000_000), 1..400),
        ) {
            let mut steady = Steady::new(moment(100_000, 0));
            let mut boot = 100_000;
            for (later, wrong) in looks {
                boot += later;
                if boot > 103_600 {
                    break;
                }
                steady.look(moment(boot, wrong));
                prop_assert!(wrong_by(&steady).abs() <= LEEWAY, "{}", wrong_by(&steady));
            }
        }

        #[test]
        fn it_never_runs_back_nor_faster_than_its_slew(
            looks in prop::collection::vec((0_u64..100_000, -4_000_000_000_i64..4_000_000_000), 1..100),
        ) {
            let mut steady = Steady::new(moment(100_000, 0));
            let (mut boot, mut last) = (100_000, 0);
            for (later, wrong) in looks {
                boot += later;
                steady.look(moment(boot, wrong));
                let moved = wrong_by(&steady) - last;
                let passed = micros(Duration::from_secs(later));
                prop_assert!(moved.abs() <= passed / SLEW, "{moved} in {passed}");
                last = wrong_by(&steady);
            }
        }
    }

    #[test]
    fn a_correction_that_stands_is_followed_in_hours() {
        for correction in [-60, 60] {
            let mut steady = Steady::new(moment(100_000, 0));
            for boot in (100_000..107_200).step_by(10) {
                steady.look(moment(boot, correction));
            }
            assert!((wrong_by(&steady) - correction * 1_000_000).abs() < 200_000, "after two hours");
            for boot in (107_200..107_300).step_by(10) {
                steady.look(moment(boot, correction));
            }
            assert_eq!(wrong_by(&steady), correction * 1_000_000);
        }
    }

    #[test]
    fn a_jump_while_nobody_looked_counts_for_no_more_than_a_minute() {
        let mut steady = Steady::new(moment(100_000, 0));
        steady.look(moment(200_000, 86_400));
        assert_eq!(wrong_by(&steady), 500_000);
    }

    #[test]
    fn a_machine_that_has_just_booted_may_find_out_what_time_it_is() {
        let mut steady = Steady::new(moment(5, -86_400 * 365));
        steady.look(moment(20, 0));
        assert_eq!(wrong_by(&steady), 0);
        steady.look(moment(600, 3_600));
        assert!(wrong_by(&steady) < 1_000_000, "and then it should know");
    }

    #[test]
    fn sleep_is_no_jump() {
        let mut steady = Steady::new(moment(100_000, 0));
        steady.look(moment(130_000, 0));
        assert_eq!(wrong_by(&steady), 0);
    }
}
