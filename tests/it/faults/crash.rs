//! The crash loop: gates under load, crashed in every way there is, over and over.
//!
//! `make test` runs a few rounds; `make crash` as many as one likes. The seed decides what is done to the gate and when;
//! it does not decide how the threads fall. Rounds come in lives of a few each, a life being one log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::UNBOUNDED;
use super::ledger::{Closed, Findings, Told, judge};
use super::load::Load;
use super::power::{Disk, MARK};
use crate::support::shim::{Do, EIO, ENOSPC, Strike, file, op};
use crate::support::{Act, Gate, Setup, Shim, Site, Upstream, until};

#[test]
fn the_crash_loop_finds_nothing_lost_duplicated_or_unverifiable() {
    let plan = Plan::read();
    println!("crash loop: PORTCULLIS_CRASH_SEED={}", plan.seed);
    let mut dice = Dice(plan.seed);
    let mut tally = Tally::default();
    while plan.goes_on(&tally) {
        let mut life = Life::begin(tally.lives);
        for _ in 0..ROUNDS_IN_A_LIFE {
            if !tally.is_clean() || !plan.goes_on(&tally) {
                break;
            }
            let mut what = String::new();
            let done = life.round(&mut dice, &mut what);
            tally.rounds += 1;
            if plan.tells {
                println!("round {}: {what}", tally.rounds);
            }
            tally.unverifiable.extend(done.err());
            tally.found(judge(&life.site, &life.told, &life.upstream, Closed::NotYet));
        }
        if tally.is_clean() {
            match life.start() {
                Ok(gate) => drop(gate.stop()),
                Err(refused) => tally.unverifiable.push(refused),
            }
            tally.found(judge(&life.site, &life.told, &life.upstream, Closed::All));
        }
        tally.end(&life);
        if !tally.is_clean() {
            life.keep();
            break;
        }
    }
    println!("{tally}");
    assert!(tally.is_clean(), "seed {}: {tally:#?}", plan.seed);
}

/// How long to go on, from the environment.
struct Plan {
    seed: u64,
    rounds: Option<u64>,
    until: Option<Instant>,
    /// Whether each round is told of.
    tells: bool,
}

impl Plan {
    fn read() -> Self {
        let word = |name: &str| {
            let text = std::env::var(format!("PORTCULLIS_CRASH_{name}")).ok().filter(|text| !text.is_empty());
            text.map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
        };
        let (rounds, seconds) = (word("ROUNDS"), word("SECONDS"));
        Self {
            seed: word("SEED").unwrap_or_else(|| getrandom::u64().unwrap() >> 32),
            rounds: rounds.or(seconds.is_none().then_some(ROUNDS_OF_A_TEST)),
            until: seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            tells: rounds.is_some() || seconds.is_some(),
        }
    }

    fn goes_on(&self, tally: &Tally) -> bool {
        self.rounds.is_none_or(|rounds| tally.rounds < rounds)
            && self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// What the loop prints.
#[derive(Debug, Default)]
struct Tally {
    lives: u64,
    rounds: u64,
    requests: u64,
    records: u64,
    lost: Vec<String>,
    duplicated: Vec<String>,
    unverifiable: Vec<String>,
    /// Records of the life at hand.
    current: u64,
}

impl Tally {
    fn found(&mut self, findings: Findings) {
        self.current = findings.records;
        self.lost.extend(findings.lost);
        self.duplicated.extend(findings.duplicated);
        self.unverifiable.extend(findings.unverifiable);
    }

    fn end(&mut self, life: &Life) {
        self.lives += 1;
        self.requests += life.number.load(Ordering::SeqCst);
        self.records += std::mem::take(&mut self.current);
    }

    fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty() && self.unverifiable.is_empty()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rounds, requests, records, lost, duplicated, unverifiable, .. } = self;
        let (lost, duplicated, unverifiable) = (lost.len(), duplicated.len(), unverifiable.len());
        write!(
            f,
            "rounds {rounds}, requests {requests}, records {records}, lost {lost}, duplicated {duplicated}, \
             unverifiable {unverifiable}"
        )
    }
}

/// One log, and what was done and said to it.
struct Life {
    disk: Option<Disk>,
    shim: Shim,
    site: Arc<Site>,
    upstream: Upstream,
    told: Vec<Told>,
    number: Arc<AtomicU64>,
}

impl Life {
    /// Every other log lies on a file system of its own, where that can be had.
    fn begin(nth: u64) -> Self {
        let upstream = Upstream::start(Act::Answer);
        let site = Setup::new(&upstream).log(MARK).tables(UNBOUNDED).site_without_log();
        std::fs::create_dir(site.path("mark")).unwrap();
        let disk = (nth % 2 == 1).then(|| Disk::or_skip(Arc::clone(&site))).flatten();
        if disk.is_none() {
            portcullis::app::create_log(&site.settings()).unwrap_or_else(|error| panic!("{error}"));
        }
        let shim = Shim::under(&site);
        Self { disk, shim, site, upstream, told: Vec::new(), number: Arc::default() }
    }

    fn start(&self) -> Result<Gate, String> {
        let refused = |status| format!("the gate did not start: {status}\n{}", self.site.said());
        self.site.try_start().map_err(refused)
    }

    /// Starts the gate, loads it, crashes it; says how in `what`.
    ///
    /// # Errors
    /// It did not start.
    fn round(&mut self, dice: &mut Dice, what: &mut String) -> Result<(), String> {
        if dice.one_in(3) {
            let nth = dice.within(1, 70);
            *what = format!("killed at step {nth} of a start; ");
            self.shim.strike(Strike { files: file::ANY, ..strike(op::ANY, nth, Do::KillBefore, EIO) });
            if let Ok(gate) = self.site.try_start() {
                drop(gate.kill());
            }
            self.power(dice, what);
        }
        let gate = self.start()?;
        let load = Load::start(&gate, &self.number);
        let crash = Crash::drawn(dice);
        let nth = dice.within(1, 40);
        *what += &crash.words(nth);
        match crash {
            Crash::Kill => {
                until("some load", || load.answers() as u64 >= nth * 4);
                drop(gate.kill());
            }
            Crash::Step(ops, act) => {
                self.shim.strike(strike(ops, nth, act, EIO));
                drop(gate.wait_end());
            }
            Crash::Error(ops, act, errno) => {
                self.shim.strike(strike(ops, nth, act, errno));
                self.shim.wait_struck();
                self.stand(gate, dice);
            }
        }
        self.told.extend(load.finish());
        self.power(dice, what);
        Ok(())
    }

    /// A gate whose log has failed stands for a while, and ends in one way or another.
    fn stand(&self, gate: Gate, dice: &mut Dice) {
        until("the log to have failed", || gate.health().get("/readyz", None).status == 503);
        if dice.one_in(2) {
            gate.signal("TERM");
            drop(gate.wait_end());
        } else {
            drop(gate.kill());
        }
    }

    /// The power goes as well, sometimes.
    fn power(&self, dice: &mut Dice, what: &mut String) {
        self.shim.clear();
        if dice.one_in(2) {
            return;
        }
        *what += "power cut; ";
        match &self.disk {
            Some(disk) => {
                disk.cut();
                disk.restore();
            }
            None => self.shim.cut_power(),
        }
    }

    /// Puts everything where it can be looked at.
    fn keep(&self) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crash-{}", std::process::id()));
        let copied = std::process::Command::new("cp").arg("-rL").arg(self.site.path("")).arg(&kept).status();
        assert!(copied.is_ok_and(|status| status.success()));
        let told: Vec<_> = self.told.iter().map(|told| format!("{told:?}\n")).collect();
        std::fs::write(kept.join("told"), told.concat()).unwrap();
        let seen: Vec<_> = self.upstream.seen().iter().map(|seen| format!("{}\n", seen.target)).collect();
        std::fs::write(kept.join("arrived"), seen.concat()).unwrap();
        eprintln!("the log, what callers were told and what arrived are kept in {}", kept.display());
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
        }
    }
}

/// How a gate ends.
#[derive(Clone, Copy)]
enum Crash {
    /// Killed at any moment.
    Kill,
    /// Killed at a step of a commit.
    Step(u64, Do),
    /// Its disk fails; it is killed or stopped later.
    Error(u64, Do, u64),
}

impl Crash {
    fn words(self, nth: u64) -> String {
        let call = |ops| if ops == op::WRITE { "write" } else { "sync" };
        match self {
            Self::Kill => format!("killed after {} answers; ", nth * 4),
            Self::Step(ops, act) => format!("{act:?} of {} {nth}; ", call(ops)),
            Self::Error(ops, act, errno) => format!("{act:?} with error {errno} of {} {nth}; ", call(ops)),
        }
    }

    fn drawn(dice: &mut Dice) -> Self {
        let ops = if dice.one_in(2) { op::WRITE } else { op::SYNC };
        match dice.within(0, 9) {
            0..=2 => Self::Kill,
            3..=4 => Self::Step(ops, Do::KillBefore),
            5 => Self::Step(op::WRITE, Do::KillHalfway),
            6..=7 => Self::Step(ops, Do::KillAfter),
            8 => Self::Error(op::WRITE, Do::HalfThenFail, if dice.one_in(2) { ENOSPC } else { EIO }),
            _ => Self::Error(ops, if dice.one_in(2) { Do::Fail } else { Do::WholeThenFail }, EIO),
        }
    }
}

fn strike(ops: u64, nth: u64, act: Do, errno: u64) -> Strike {
    Strike { ops, files: file::WAL, nth, act, errno, sticky: false }
}

/// Pseudo-random numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `least` to `most`, both included.
    fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.throw() % (most - least + 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.throw().is_multiple_of(n)
    }
}

const ROUNDS_IN_A_LIFE: u64 = 6;
const ROUNDS_OF_A_TEST: u64 = 12;
