//! An issuer's current keys: looked at by one task, read by all threads without a lock, waited for by whoever needs
//! newer ones.
//!
//! Invariants:
//! 1. Only [`Keyring::keep_fresh`] looks at the source, so looks never overlap and belong to no caller.
//! 2. Keys are published before the look that found them counts as finished.
//! 3. A failed look changes no key: the old ones serve until they are older than `max_stale`.
//! 4. Between the beginnings of two looks that callers cause lies at least `gap`, whatever they ask for.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::AuthnLimits;
use super::issuer::{Issuer, KeySource, SetupError, SetupFault};
use super::keys::KeySet;
use super::source::{Source, SourceError, read_file};
use crate::clock::{Clock, Timestamp};

pub(super) struct Keyring {
    name: String,
    /// The source, for messages.
    place: String,
    source: Source,
    current: ArcSwapOption<KeySet>,
    progress: watch::Sender<Progress>,
    /// The latest look that a caller asks for, counted as in [`Progress::started`].
    wanted: watch::Sender<u64>,
    last_failure: Mutex<Option<String>>,
    refresh: Duration,
    max_stale: Duration,
    gap: Duration,
    clock: Clock,
}

/// What is known of an issuer's keys, for those who watch the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysStatus {
    /// The issuer's configured name.
    pub issuer: String,
    /// The file or URL where they are published.
    pub place: String,
    /// How many keys can be used; 0 also if none are trusted now.
    pub keys: usize,
    /// When they were last seen to be published.
    pub seen: Option<Timestamp>,
    /// Whether tokens can be verified now: the keys are there and not too old.
    pub usable: bool,
    /// Why the last look failed; `None` if it did not.
    pub last_failure: Option<String>,
}

/// How far the looking has come. `started` and `finished` count looks.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    started: u64,
    finished: u64,
    /// When the last look that a caller caused began. One on schedule does not count: keys that an issuer changes just
    /// after it must not have to wait.
    wished: Option<Timestamp>,
    /// Whether anyone looks, or is about to.
    kept: bool,
}

impl Keyring {
    /// A key file is read here, so that a gate with a bad one does not start; a URL is first fetched by
    /// [`Keyring::keep_fresh`].
    pub(super) fn new(issuer: &Issuer, limits: &AuthnLimits, clock: Clock) -> Result<Self, SetupError> {
        let first = match &issuer.keys {
            KeySource::Url { .. } => None,
            KeySource::File(path) => {
                let keys = first_keys(path, clock.steady());
                let failed = |source| issuer.wrong(SetupFault::Keys { path: path.clone(), source });
                Some(Arc::new(keys.map_err(failed)?))
            }
        };
        Ok(Self {
            name: issuer.name.clone(),
            place: issuer.keys.to_string(),
            source: Source::new(issuer, limits.fetch_timeout)?,
            current: ArcSwapOption::new(first),
            progress: watch::Sender::new(Progress::default()),
            wanted: watch::Sender::new(0),
            last_failure: Mutex::new(None),
            refresh: issuer.refresh,
            max_stale: issuer.max_stale,
            gap: limits.refresh_gap,
            clock,
        })
    }

    /// The keys, unless there are none yet or they are too old to be trusted at `now`.
    pub(super) fn usable(&self, now: Timestamp) -> Option<Arc<KeySet>> {
        self.current.load_full().filter(|keys| self.trusted(keys, now))
    }

    /// The generation of the keys that [`Keyring::usable`] gives. Threads that ask at once share no counter, so this
    /// is what each call with a remembered token asks.
    pub(super) fn usable_generation(&self, now: Timestamp) -> Option<u64> {
        self.current.load().as_ref().filter(|keys| self.trusted(keys, now)).map(|keys| keys.generation())
    }

    fn trusted(&self, keys: &KeySet, now: Timestamp) -> bool {
        now < keys.seen().plus(self.max_stale)
    }

    /// Takes over `other`'s keys if they are newer than ours.
    pub(super) fn adopt(&self, other: &Self) {
        let ours = self.current.load().as_ref().map(|keys| keys.seen());
        let theirs = other.current.load_full();
        if theirs.as_ref().map(|keys| keys.seen()) > ours {
            self.current.store(theirs);
        }
    }

    pub(super) fn status(&self) -> KeysStatus {
        let keys = self.current.load_full();
        let usable = self.usable(self.clock.steady());
        KeysStatus {
            issuer: self.name.clone(),
            place: self.place.clone(),
            keys: usable.as_ref().map_or(0, |keys| keys.len()),
            seen: keys.map(|keys| keys.seen()),
            usable: usable.is_some(),
            last_failure: self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Begin before looking at [`Keyring::usable`], so that no news is missed between.
    pub(super) fn patience(&self, wait: Duration) -> Patience<'_> {
        let progress = self.progress.subscribe();
        let now = *progress.borrow();
        Patience {
            keyring: self,
            progress,
            seen: now.finished,
            enough: now.started + 1,
            deadline: Instant::now() + wait,
        }
    }

    /// From now on callers may wait for looks, even if [`Keyring::keep_fresh`] has yet to begin.
    pub(super) fn expect_looks(&self) {
        self.progress.send_modify(|progress| progress.kept = true);
    }

    /// Looks at the source at once, then every `refresh`, sooner when wanted or after a failure. Never returns;
    /// dropping it ends it, and lets go whoever waits.
    pub(super) async fn keep_fresh(&self) {
        self.expect_looks();
        let _kept = Kept(&self.progress);
        let mut wishes = self.wanted.subscribe();
        let mut failures = 0_u32;
        let mut wished = false;
        loop {
            failures = if self.look(wished).await { 0 } else { failures.saturating_add(1) };
            wished = self.rest(failures, &mut wishes).await;
        }
    }

    async fn rest(&self, failures: u32, wishes: &mut watch::Receiver<u64>) -> bool {
        let until = Instant::now() + pause(self.refresh, self.gap, failures);
        while let Ok(Ok(())) = timeout_at(until, wishes.changed()).await {
            // The last look may have granted the wish already, and the gap may forbid another.
            let wanted = *wishes.borrow_and_update();
            let progress = *self.progress.borrow();
            if wanted > progress.started && self.may_begin(&progress) {
                return true;
            }
        }
        false
    }

    /// One look; whether it succeeded.
    async fn look(&self, wished: bool) -> bool {
        let began = self.clock.steady();
        self.progress.send_modify(|progress| {
            progress.started += 1;
            if wished {
                progress.wished = Some(began);
            }
        });
        let read = self.source.read().await;
        let result = read.and_then(|text| self.publish(&text, began));
        let failure = result.as_ref().err().map(ToString::to_string);
        if let Some(failure) = &failure {
            tracing::warn!(
                issuer = self.name,
                place = self.place,
                failure,
                "the issuer's keys could not be refreshed"
            );
        }
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        self.progress.send_modify(|progress| progress.finished = progress.started);
        result.is_ok()
    }

    fn publish(&self, text: &[u8], seen: Timestamp) -> Result<(), SourceError> {
        let before = self.current.load_full();
        let keys = KeySet::parse(text, seen, before.as_deref())?;
        let changed = before.is_none_or(|before| before.generation() != keys.generation());
        if keys.len() == 0 {
            tracing::warn!(issuer = self.name, "the issuer publishes no key that can verify a token");
        } else if changed {
            tracing::info!(issuer = self.name, keys = keys.len(), "the issuer's keys have changed");
        }
        self.current.store(Some(Arc::new(keys)));
        Ok(())
    }

    /// Whether a caller may cause a look now.
    fn may_begin(&self, progress: &Progress) -> bool {
        let now = self.clock.steady();
        progress.wished.is_none_or(|began| now >= began.plus(self.gap))
    }
}

/// One caller waiting for newer keys: at most until its deadline, and for at most one look that began after it came
/// (a look already under way then may miss what the caller needs).
pub(super) struct Patience<'a> {
    keyring: &'a Keyring,
    progress: watch::Receiver<Progress>,
    /// The looks whose outcome the caller has seen.
    seen: u64,
    /// The first look to begin after the caller came.
    enough: u64,
    deadline: Instant,
}

impl Patience<'_> {
    /// Waits for a look to finish that the caller has not seen, and causes one if none is under way and the gap
    /// allows it. `false` if there is nothing more to wait for.
    pub(super) async fn newer_keys(&mut self) -> bool {
        loop {
            let now = *self.progress.borrow_and_update();
            if now.finished > self.seen {
                self.seen = now.finished;
                return true;
            }
            if now.finished >= self.enough || !now.kept {
                return false;
            }
            if now.started == now.finished {
                if !self.keyring.may_begin(&now) {
                    return false;
                }
                self.keyring.wanted.send_modify(|wanted| *wanted = self.enough.max(*wanted));
            }
            match timeout_at(self.deadline, self.progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    }
}

/// Lets go whoever waits once nobody looks any more, however that came about.
struct Kept<'a>(&'a watch::Sender<Progress>);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|progress| progress.kept = false);
    }
}

/// The keys of a file as the gate starts: there must be one at least, or the file is a mistake.
fn first_keys(path: &Path, now: Timestamp) -> Result<KeySet, SourceError> {
    let keys = KeySet::parse(&read_file(path)?, now, None)?;
    if keys.len() == 0 { Err(SourceError::NoKeys) } else { Ok(keys) }
}

/// How long to rest after a look: `refresh` after a good one; after failures from `gap` on, doubling, but never longer
/// than `refresh` nor shorter than a second.
fn pause(refresh: Duration, gap: Duration, failures: u32) -> Duration {
    const LEAST: Duration = Duration::from_secs(1);
    match failures.checked_sub(1) {
        None => refresh.max(LEAST),
        Some(doublings) => gap.max(LEAST).saturating_mul(1 << doublings.min(16)).min(refresh.max(LEAST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_looks_are_repeated_sooner_and_then_ever_later() {
        let pause = |failures| pause(Duration::from_secs(600), Duration::from_secs(10), failures).as_secs();
        assert_eq!([0, 1, 2, 3, 6, 7, 8, u32::MAX].map(pause), [600, 10, 20, 40, 320, 600, 600, 600]);
    }
}
