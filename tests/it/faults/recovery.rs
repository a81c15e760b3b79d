//! Killed at every step of a start: the files of a crashed log, taken up, as far as it comes.

use std::sync::Arc;

use super::files::Files;
use super::ledger::{Closed, Told, judge};
use super::table::calls;
use crate::support::shim::{Do, EIO, Strike, file, op};
use crate::support::{Act, Setup, Shim, Site, Upstream};

#[test]
fn a_start_that_is_killed_at_any_step_is_taken_up_by_the_next() {
    each_step(1, 3, |_| {});
}

#[test]
fn a_start_that_loses_power_at_any_step_is_taken_up_by_the_next() {
    each_step(1, 1, |shim| shim.cut_power());
}

/// Kills starts of one crashed log before their call number `first`, `first + by`, and so on to the last.
fn each_step(first: u64, by: usize, then: impl Fn(&Shim)) {
    let (upstream, site, told) = crashed();
    let shim = Shim::under(&site);
    let crashed = Files::of(&site);
    let mut steps = 0;
    for nth in (first..).step_by(by) {
        crashed.restore(&site);
        shim.forget();
        shim.strike(Strike {
            ops: op::ANY,
            files: file::ANY,
            nth,
            act: Do::KillBefore,
            errno: EIO,
            sticky: false,
        });
        let started = site.try_start();
        // It may be ready, and be killed by what it does then.
        let killed = match started {
            Ok(gate) => {
                let done = shim.struck() == 0;
                drop(gate.kill());
                !done
            }
            Err(_) => true,
        };
        then(&shim);
        shim.clear();
        drop(site.start().stop());
        judge(&site, &told, &upstream, Closed::All).assert_none(&format!("killed at step {nth} of a start"));
        if !killed {
            break;
        }
        steps += 1;
    }
    assert!(steps * by > 30, "a start has more steps than {steps}");
}

/// A log whose gate was killed, with records in tables and in the write-ahead log.
fn crashed() -> (Upstream, Arc<Site>, Vec<Told>) {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let mut told = Vec::new();
    for run in ["first", "second"] {
        let gate = site.start();
        told.extend(calls(run, &[gate.client(), gate.client2()]));
        drop(gate.kill());
    }
    (upstream, site, told)
}
