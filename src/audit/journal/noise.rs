//! Denials that say what a record says already: counted, not recorded one by one.
//!
//! Two kinds. **Identical** ones: the same caller is denied the same for the same reason within [`WINDOW`]. **Folded**
//! ones: callers who proved nothing may together add only so many bytes a second to the log; what goes beyond that counts
//! for the first of its network.
//!
//! Invariants:
//! 1. An allow is never here.
//! 2. Nobody is answered by a record that is not durable: who leans on a first record waits for it.
//! 3. What was counted is written within [`EVERY`] and a commit, and before the log is closed. A crash loses no more
//!    counts than that.
//! 4. What is held is bounded, whatever callers send.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::watch;

use crate::access::{Attempt, Decision, Identity};
use crate::audit::hash::Hash;
use crate::audit::record::{Epochs, Event};
use crate::clock::{Clock, Timestamp};

/// The denials of one log that are counted.
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

/// What makes denials alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// SHA-256 over everything that a record of them says, but its number, time and trace.
    Identical(Hash),
    /// They come from one network, and are too many; `None` stands for all networks beyond [`NETWORKS`].
    Folded(Option<IpNet>),
}

/// A first record, and how many lean on it.
struct Row {
    first: FirstRecord,
    epochs: Epochs,
    opened: Instant,
    count: u64,
    /// When the first that is not on record yet was counted.
    since: Timestamp,
}

/// The first record's index, once it is durable; its sender is gone if it never will be.
type FirstRecord = watch::Receiver<Option<u64>>;

/// What becomes of a denial.
pub enum Told {
    /// It has a record of its own, which others may lean on where there is a sender.
    Alone(Option<watch::Sender<Option<u64>>>),
    /// It leans on another's.
    On(Lean),
}

/// A denial that leans on another's record.
pub struct Lean {
    /// That record.
    pub first: FirstRecord,
    key: Key,
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
            && let Some(lean) = state.lean(key, now)
        {
            return Told::On(lean);
        }
        let bounded = state.bound.filter(|_| !matches!(identity, Identity::Proved(_)));
        if let Some(bound) = bounded
            && !state.spend(bytes + COUNT_BYTES, bound, now)
        {
            let key = state.fold_of(attempt.client.ip);
            if let Some(lean) = state.lean(key, now) {
                return Told::On(lean);
            }
            // The first of its fold is recorded whatever the bound says: folds are few, and last.
            state.left -= (bytes + COUNT_BYTES) as f64;
            return Told::Alone(Some(state.open(key, epochs, now)));
        }
        Told::Alone(identical.and_then(|key| state.has_room().then(|| state.open(key, epochs, now))))
    }

    /// Counts a denial that was answered by the record it leant on, which is durable.
    pub fn count(&self, Lean { first, key }: Lean, epochs: Epochs) {
        let how = match key {
            Key::Identical(_) => "identical",
            Key::Folded(_) => "folded",
        };
        metrics::counter!("portcullis_collapsed_denials_total", "how" => how).increment(1);
        let now = self.clock.now();
        let mut state = self.lock();
        // Its row may have gone meanwhile, with all that was counted, or another may be in its place.
        let State { rows, past, .. } = &mut *state;
        let standing = rows.get_mut(&key).filter(|row| row.first.same_channel(&first));
        let leant_on = standing
            .or_else(|| past.iter_mut().map(|(_, row)| row).find(|row| row.first.same_channel(&first)));
        match leant_on {
            Some(row) => row.add(now),
            None => {
                let mut row = Row { first, epochs, opened: Instant::now(), count: 0, since: now };
                row.add(now);
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
        let now = Instant::now();
        let mut state = self.lock();
        let State { rows, past, unwritten, .. } = &mut *state;
        let mut counts = std::mem::take(unwritten);
        counts.extend(past.drain(..).filter_map(|(key, mut row)| Some((row.epochs, row.take(key)?))));
        rows.retain(|key, row| {
            counts.extend(row.take(*key).map(|count| (row.epochs, count)));
            // A first that is not durable yet holds its row.
            let stands = now.duration_since(row.opened) < key.lasts() || row.first.borrow().is_none();
            stands && !row.is_lost()
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

/// What is to be written of denials that leaned on a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    decision: u64,
    count: u64,
    since: Timestamp,
    network: Option<Option<IpNet>>,
}

impl Count {
    /// The record of it.
    pub const fn event(&self) -> Event<'static> {
        let Self { decision, count, since, network } = *self;
        match network {
            None => Event::Collapsed { decision, count, since },
            Some(network) => Event::Folded { decision, count, since, network },
        }
    }
}

impl State {
    /// The record to lean on, if there is one that still can be leant on.
    fn lean(&self, key: Key, now: Instant) -> Option<Lean> {
        let row = self.rows.get(&key)?;
        let stands = !row.is_lost() && now.duration_since(row.opened) < key.lasts();
        stands.then(|| Lean { first: row.first.clone(), key })
    }

    /// Begins a row whose first record is on its way.
    fn open(&mut self, key: Key, epochs: Epochs, now: Instant) -> watch::Sender<Option<u64>> {
        let (sender, first) = watch::channel(None);
        let row = Row { first, epochs, opened: now, count: 0, since: Timestamp::from_micros(0) };
        if let Some(old) = self.rows.insert(key, row).filter(|old| old.count > 0) {
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
    fn add(&mut self, now: Timestamp) {
        if self.count == 0 {
            self.since = now;
        }
        self.count += 1;
    }

    /// Takes what was counted, if anything was.
    fn take(&mut self, key: Key) -> Option<Count> {
        let decision = (*self.first.borrow())?;
        let count = std::mem::take(&mut self.count);
        let network = match key {
            Key::Identical(_) => None,
            Key::Folded(network) => Some(network),
        };
        (count > 0).then_some(Count { decision, count, since: self.since, network })
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
        }
    }
}

/// Everything that makes two denials the same to whoever reads their records.
fn identical(attempt: &Attempt, identity: &Identity, decision: &Decision, epochs: Epochs) -> Hash {
    let mut said = Vec::with_capacity(512);
    let mut add = |part: &[u8]| {
        said.extend_from_slice(&(part.len() as u64).to_le_bytes());
        said.extend_from_slice(part);
    };
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
    let grounds = decision.grounds();
    add(grounds.reason.code().as_bytes());
    if let Some(rule) = &grounds.rule {
        add(rule.file.as_bytes());
        add(&rule.line.to_le_bytes());
    }
    add(attempt.client.ip.to_string().as_bytes());
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

/// How long a record stands for what is identical to it.
pub const WINDOW: Duration = Duration::from_secs(1);

/// How long the first record of a fold stands for the others.
const FOLD_WINDOW: Duration = Duration::from_secs(10);

/// How often counts are written.
pub const EVERY: Duration = Duration::from_millis(500);

/// How many seconds' worth of the bound can be spent at once.
const BURST_SECONDS: f64 = 4.0;

/// What the record of a count takes, bytes: each first record is charged for one.
const COUNT_BYTES: usize = 512;

/// Most rows of identical denials; what comes beyond them is recorded one by one.
const ROWS: usize = 4_096;

/// Most networks that have a fold of their own.
const NETWORKS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCHS: Epochs = Epochs { policy: Hash::ZERO, config: Hash::ZERO };

    fn noise() -> Noise {
        Noise::new(Some(1), Clock::system())
    }

    fn key(n: u8) -> Key {
        Key::Identical(Hash([n; 32]))
    }

    #[test]
    fn a_first_that_never_came_to_be_is_leant_on_by_nobody() {
        let noise = noise();
        let now = Instant::now();
        let first = noise.lock().open(key(1), EPOCHS, now);
        assert!(noise.lock().lean(key(1), now).is_some());
        drop(first);
        assert!(noise.lock().lean(key(1), now).is_none());
        assert!(noise.take().is_empty() && noise.lock().rows.is_empty());
    }

    #[test]
    fn what_leant_on_a_first_is_counted_for_it_though_another_took_its_place() {
        let noise = noise();
        let now = Instant::now();
        let first = noise.lock().open(key(1), EPOCHS, now);
        first.send_replace(Some(7));
        let leans: Vec<Lean> = (0..3).filter_map(|_| noise.lock().lean(key(1), now)).collect();
        noise.lock().open(key(1), EPOCHS, now).send_replace(Some(9));
        leans.into_iter().for_each(|lean| noise.count(lean, EPOCHS));
        let counts: Vec<(u64, u64)> =
            noise.take().into_iter().map(|(_, count)| (count.decision, count.count)).collect();
        assert_eq!(counts, [(7, 3)]);
    }

    #[test]
    fn a_count_that_could_not_be_written_comes_again() {
        let noise = noise();
        let now = Instant::now();
        noise.lock().open(key(1), EPOCHS, now).send_replace(Some(7));
        let lean = noise.lock().lean(key(1), now).unwrap();
        noise.count(lean, EPOCHS);
        let taken = noise.take();
        assert_eq!((taken.len(), noise.take().len()), (1, 0));
        taken.into_iter().for_each(|(epochs, count)| noise.put_back(epochs, count));
        assert_eq!(noise.take().len(), 1);
    }

    #[test]
    fn few_networks_have_a_fold_of_their_own() {
        let noise = noise();
        for n in 0..100_u8 {
            let mut state = noise.lock();
            let key = state.fold_of(IpAddr::from([10, 0, 0, n]));
            state.open(key, EPOCHS, Instant::now());
        }
        assert_eq!(noise.lock().rows.len(), NETWORKS + 1);
    }
}
