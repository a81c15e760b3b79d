//! What says what a record says already: counted, not recorded one by one.
//!
//! Two kinds of denials. **Identical** ones: the same caller is denied the same for the same reason within [`WINDOW`].
//! **Folded** ones: callers who proved nothing may together add only so many bytes a second to the log; what goes beyond
//! that counts for the first of its network.
//!
//! And one of allows: **reads** of the log itself as tiles. Whoever follows it asks for its checkpoint and tiles again and
//! again, and each record of that would be one more to follow. The same caller's reads within [`READ_WINDOW`] count for
//! the first.
//!
//! Invariants:
//! 1. No other allow is ever here.
//! 2. Nobody is answered by a record that is not durable: who leans on a first record waits for it.
//! 3. What was counted is written within [`EVERY`] and a commit, reads when their window is over; all of it before the
//!    log is closed. A crash loses no more counts than that.
//! 4. What is held is bounded, whatever callers send.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::watch;

use crate::access::recording::LogRead;
use crate::access::{Attempt, Decision, Identity};
use crate::audit::hash::Hash;
use crate::audit::record::{Epochs, Event};
use crate::clock::{Clock, Timestamp};

/// The denials and reads of one log that are counted.
pub struct Noise {
    state: Mutex<State>,
    clock: Clock,
}

struct State {
    /// Bytes per second; `None` is unlimited.
    bound: Option<u64>,
    rows: HashMap<Key, Row>,
    /// Rows that newer ones took the place of, with what was counted for them.
    past: Vec<(Key, Row)>,
    /// What was taken, and could not be written.
    unwritten: Vec<(Epochs, Count)>,
    /// What is left of the bound, bytes; below zero where a fold's first record overdrew it.
    left: f64,
    filled: Instant,
}

/// What makes denials, or reads, alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// SHA-256 over everything that a record of them says, but its number, time and trace.
    Identical(Hash),
    /// They come from one network, and are too many; `None` stands for all networks beyond [`NETWORKS`].
    Folded(Option<IpNet>),
    /// SHA-256 over who reads, and the epochs.
    Reads(Hash),
}

/// A first record, and how many lean on it.
struct Row {
    first: FirstRecord,
    epochs: Epochs,
    opened: Instant,
    count: u64,
    /// How many of these were reads of records.
    bundles: u64,
    /// When the first that is not on record yet was counted.
    since: Timestamp,
}

/// The first record's index, once it is durable; its sender is gone if it never will be.
type FirstRecord = watch::Receiver<Option<u64>>;

/// What becomes of a denial, or of a read.
pub enum Told {
    /// It has a record of its own, which others may lean on where there is a sender.
    Alone(Option<watch::Sender<Option<u64>>>),
    /// It leans on another's.
    On(Lean),
}

/// A denial, or a read, that leans on another's record.
pub struct Lean {
    /// That record.
    pub first: FirstRecord,
    key: Key,
    read: Option<LogRead>,
}

impl Noise {
    /// Nothing counted yet; unproved callers may add `bound` bytes a second, or as many as they like.
    pub fn new(bound: Option<u64>, clock: Clock) -> Self {
        let left = bound.unwrap_or_default() as f64 * BURST_SECONDS;
        let (past, unwritten) = (Vec::new(), Vec::new());
        let state = State { bound, rows: HashMap::new(), past, unwritten, left, filled: Instant::now() };
        Self { state: Mutex::new(state), clock }
    }

    /// Whether a denial, whose record would take `bytes`, leans on another's.
    pub fn tell(
        &self,
        attempt: &Attempt,
        identity: &Identity,
        decision: &Decision,
        (epochs, bytes): (Epochs, usize),
    ) -> Told {
        let collapses = attempt.recording().is_none_or(|recording| recording.collapse);
        let identical = collapses.then(|| Key::Identical(identical(attempt, identity, decision, epochs)));
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(key) = identical
            && let Some(lean) = state.lean(key, None, now)
        {
            return Told::On(lean);
        }
        let bounded = state.bound.filter(|_| !matches!(identity, Identity::Proved(_)));
        if let Some(bound) = bounded
            && !state.spend(bytes + COUNT_BYTES, bound, now)
        {
            let key = state.fold_of(attempt.client.ip);
            if let Some(lean) = state.lean(key, None, now) {
                return Told::On(lean);
            }
            // The first of its fold is recorded whatever the bound says: folds are few, and last.
            state.left -= (bytes + COUNT_BYTES) as f64;
            return Told::Alone(Some(state.open(key, epochs, now)));
        }
        Told::Alone(identical.and_then(|key| state.has_room().then(|| state.open(key, epochs, now))))
    }

    /// Whether an allowed read of the log leans on an earlier one's record.
    pub fn tell_read(&self, attempt: &Attempt, identity: &Identity, read: LogRead, epochs: Epochs) -> Told {
        let key = Key::Reads(reader(attempt, identity, epochs));
        let now = Instant::now();
        let mut state = self.lock();
        match state.lean(key, Some(read), now) {
            Some(lean) => Told::On(lean),
            None => Told::Alone(state.has_room().then(|| state.open(key, epochs, now))),
        }
    }

    /// Counts what was answered by the record it leant on, which is durable.
    pub fn count(&self, Lean { first, key, read }: Lean, epochs: Epochs) {
        match key {
            Key::Identical(_) => {
                metrics::counter!("portcullis_collapsed_denials_total", "how" => "identical").increment(1);
            }
            Key::Folded(_) => {
                metrics::counter!("portcullis_collapsed_denials_total", "how" => "folded").increment(1);
            }
            Key::Reads(_) => metrics::counter!("portcullis_collapsed_reads_total").increment(1),
        }
        let now = self.clock.now();
        let mut state = self.lock();
        // Its row may have gone meanwhile, with all that was counted, or another may be in its place.
        let State { rows, past, .. } = &mut *state;
        let standing = rows.get_mut(&key).filter(|row| row.first.same_channel(&first));
        let leant_on = standing
            .or_else(|| past.iter_mut().map(|(_, row)| row).find(|row| row.first.same_channel(&first)));
        match leant_on {
            Some(row) => row.add(read, now),
            None => {
                let mut row = Row::new(first, epochs, Instant::now());
                row.add(read, now);
                past.push((key, row));
            }
        }
    }

    /// Sets the bound, bytes per second.
    pub fn set_bound(&self, bound: Option<u64>) {
        self.lock().bound = bound;
    }

    /// Takes what was counted and is not on record yet, and forgets what nothing more can lean on.
    pub fn take(&self) -> Vec<(Epochs, Count)> {
        self.gather(|_| true)
    }

    /// As [`Noise::take`], but leaves the reads of a window that is not over.
    pub fn take_due(&self) -> Vec<(Epochs, Count)> {
        self.gather(|key| !matches!(key, Key::Reads(_)))
    }

    fn gather(&self, at_once: impl Fn(&Key) -> bool) -> Vec<(Epochs, Count)> {
        let now = Instant::now();
        let mut state = self.lock();
        let State { rows, past, unwritten, .. } = &mut *state;
        let mut counts = std::mem::take(unwritten);
        counts.extend(past.drain(..).filter_map(|(key, mut row)| Some((row.epochs, row.take(key)?))));
        rows.retain(|key, row| {
            let over = now.duration_since(row.opened) >= key.lasts();
            if over || at_once(key) {
                counts.extend(row.take(*key).map(|count| (row.epochs, count)));
            }
            // A first that is not durable yet holds its row.
            (!over || row.first.borrow().is_none()) && !row.is_lost()
        });
        counts
    }

    /// Takes back what could not be written: the next [`Noise::take`] has it again.
    pub fn put_back(&self, epochs: Epochs, count: Count) {
        self.lock().unwritten.push((epochs, count));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be written of what leaned on a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    decision: u64,
    count: u64,
    since: Timestamp,
    what: Counted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Identical,
    Folded(Option<IpNet>),
    Reads { bundles: u64 },
}

impl Count {
    /// The record of it.
    pub const fn event(&self) -> Event<'static> {
        let Self { decision, count, since, what } = *self;
        match what {
            Counted::Identical => Event::Collapsed { decision, count, since },
            Counted::Folded(network) => Event::Folded { decision, count, since, network },
            Counted::Reads { bundles } => Event::Reads { decision, count, bundles, since },
        }
    }
}

impl State {
    /// The record to lean on, if there is one that still can be leant on.
    fn lean(&self, key: Key, read: Option<LogRead>, now: Instant) -> Option<Lean> {
        let row = self.rows.get(&key)?;
        let stands = !row.is_lost() && now.duration_since(row.opened) < key.lasts();
        stands.then(|| Lean { first: row.first.clone(), key, read })
    }

    /// Begins a row whose first record is on its way.
    fn open(&mut self, key: Key, epochs: Epochs, now: Instant) -> watch::Sender<Option<u64>> {
        let (sender, first) = watch::channel(None);
        if let Some(old) = self.rows.insert(key, Row::new(first, epochs, now)).filter(|old| old.count > 0) {
            self.past.push((key, old));
        }
        sender
    }

    fn has_room(&self) -> bool {
        self.rows.len() < ROWS
    }

    /// The fold of a caller's network, while there are few of them.
    fn fold_of(&self, ip: IpAddr) -> Key {
        let length = if ip.is_ipv4() { 32 } else { 64 };
        let network = IpNet::new(ip, length).ok().map(|network| network.trunc());
        let key = Key::Folded(network);
        let folds = || self.rows.keys().filter(|key| matches!(key, Key::Folded(Some(_))));
        if self.rows.contains_key(&key) || folds().count() < NETWORKS { key } else { Key::Folded(None) }
    }

    /// Takes `bytes` of what may be added; `false` if that is not there.
    fn spend(&mut self, bytes: usize, bound: u64, now: Instant) -> bool {
        let bound = bound as f64;
        let since = now.duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.left = (self.left + since * bound).min(bound * BURST_SECONDS);
        let enough = self.left >= bytes as f64;
        if enough {
            self.left -= bytes as f64;
        }
        enough
    }
}

impl Row {
    const fn new(first: FirstRecord, epochs: Epochs, opened: Instant) -> Self {
        Self { first, epochs, opened, count: 0, bundles: 0, since: Timestamp::from_micros(0) }
    }

    fn add(&mut self, read: Option<LogRead>, now: Timestamp) {
        if self.count == 0 {
            self.since = now;
        }
        self.count += 1;
        self.bundles += u64::from(read == Some(LogRead::Bundle));
    }

    /// Takes what was counted, if anything was.
    fn take(&mut self, key: Key) -> Option<Count> {
        let decision = (*self.first.borrow())?;
        let (count, bundles) = (std::mem::take(&mut self.count), std::mem::take(&mut self.bundles));
        let what = match key {
            Key::Identical(_) => Counted::Identical,
            Key::Folded(network) => Counted::Folded(network),
            Key::Reads(_) => Counted::Reads { bundles },
        };
        (count > 0).then_some(Count { decision, count, since: self.since, what })
    }

    /// Whether its first record never came to be.
    fn is_lost(&self) -> bool {
        // In this order: a sender that is gone has sent whatever it was to send.
        self.first.has_changed().is_err() && self.first.borrow().is_none()
    }
}

impl Key {
    const fn lasts(self) -> Duration {
        match self {
            Self::Identical(_) => WINDOW,
            Self::Folded(_) => FOLD_WINDOW,
            Self::Reads(_) => READ_WINDOW,
        }
    }
}

/// Everything that makes two denials the same to whoever reads their records.
fn identical(attempt: &Attempt, identity: &Identity, decision: &Decision, epochs: Epochs) -> Hash {
    let mut said = Vec::with_capacity(512);
    let mut add = |part: &[u8]| append(&mut said, part);
    caller(attempt, identity, &mut add);
    let grounds = decision.grounds();
    add(grounds.reason.code().as_bytes());
    if let Some(rule) = &grounds.rule {
        add(rule.file.as_bytes());
        add(&rule.line.to_le_bytes());
    }
    add(attempt.service().unwrap_or_default().as_bytes());
    add(attempt.method.as_str().as_bytes());
    add(attempt.host_bytes().unwrap_or_default());
    match &attempt.access {
        Ok(access) => add(access.path.as_str().as_bytes()),
        Err(_) => add(attempt.refused_target().unwrap_or_default()),
    }
    add(&epochs.policy.0);
    add(&epochs.config.0);
    Hash::of(&said)
}

/// Everything that makes two reads those of one reader.
fn reader(attempt: &Attempt, identity: &Identity, epochs: Epochs) -> Hash {
    let mut said = Vec::with_capacity(512);
    caller(attempt, identity, &mut |part| append(&mut said, part));
    append(&mut said, &epochs.policy.0);
    append(&mut said, &epochs.config.0);
    Hash::of(&said)
}

/// Who calls, and from where.
fn caller(attempt: &Attempt, identity: &Identity, add: &mut impl FnMut(&[u8])) {
    match identity {
        Identity::Anonymous => add(b"anonymous"),
        Identity::Failed(fault) => add(fault.as_str().as_bytes()),
        Identity::Proved(caller) => {
            add(b"proved");
            add(caller.user.as_bytes());
            caller.roles.iter().for_each(|role| add(role.as_bytes()));
            add(caller.also.as_ref().map_or("", |also| &also.user).as_bytes());
        }
    }
    // Two certificates are two callers, whatever came of them.
    add(attempt.certificate.as_ref().map_or(&[][..], |certificate| &certificate.fingerprint.0));
    add(attempt.client.ip.to_string().as_bytes());
}

/// Adds a part that cannot run into its neighbours.
fn append(said: &mut Vec<u8>, part: &[u8]) {
    said.extend_from_slice(&(part.len() as u64).to_le_bytes());
    said.extend_from_slice(part);
}

/// How long a record stands for what is identical to it.
pub const WINDOW: Duration = Duration::from_secs(1);

/// How long a record of a read of the log stands for its reader's others.
pub const READ_WINDOW: Duration = Duration::from_secs(60);

/// How long the first record of a fold stands for the others.
const FOLD_WINDOW: Duration = Duration::from_secs(10);

/// How often counts are written.
pub const EVERY: Duration = Duration::from_millis(500);

/// How many seconds' worth of the bound can be spent at once.
const BURST_SECONDS: f64 = 4.0;

/// What the record of a count takes, bytes: each first record is charged for one.
const COUNT_BYTES: usize = 512;

/// Most rows; what comes beyond them is recorded one by one, but for folds, which are few.
const ROWS: usize = 4_096;

/// Most networks that have a fold of their own.
const NETWORKS: usize = 16;

#[cfg(test)]
mod tests;
