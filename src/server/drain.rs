//! Going down in order: kept connections are told to close while calls are still decided; then no new connections; then
//! no new decisions; what is in flight finishes, and the log closes. Up to the last step the way back is open.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::proxy::deciding::Deciding;

/// How far the gate is on its way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    Serving = 0,
    /// It serves, and lets each connection go after the call it carries.
    Closing = 1,
    /// The same, and accepts no more connections: those wait in the kernel for who accepts next.
    Holding = 2,
    /// No new call is decided.
    Draining = 3,
}

/// Tells everyone how far the gate is on its way down, and waits for connections to end. Clones are one.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    /// The same for who only looks: every call does, and a lock that all cores take for it is slow.
    at: Arc<AtomicU8>,
    open: Arc<Open>,
    /// Calls that are not decided yet.
    pub deciding: Deciding,
}

#[derive(Debug, Default)]
struct Open {
    connections: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    /// Those that may still bring a new call.
    unsettled: AtomicUsize,
    changed: Notify,
}

/// An open connection; it counts until dropped.
#[derive(Debug)]
pub struct OpenConnection {
    open: Arc<Open>,
    settled: bool,
    address: Option<IpAddr>,
}

/// Why a connection is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// Of all.
    #[error("there are as many connections as may be")]
    InAll,
    /// Of its address.
    #[error("its address has as many connections as it may")]
    OfAddress,
}

impl Default for Drain {
    fn default() -> Self {
        let phase = watch::Sender::new(Phase::Serving);
        Self { phase, at: Arc::default(), open: Arc::default(), deciding: Deciding::default() }
    }
}

impl Drain {
    /// Goes to `phase`.
    pub fn enter(&self, phase: Phase) {
        // Under the watch's lock, so that both say the same however many go to one at once.
        self.phase.send_modify(|now| {
            *now = phase;
            self.at.store(phase as u8, Ordering::Release);
        });
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        match self.at.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Closing,
            2 => Phase::Holding,
            _ => Phase::Draining,
        }
    }

    /// Waits until it is at `phase` or beyond.
    pub async fn reached(&self, phase: Phase) {
        let mut watched = self.phase.subscribe();
        // The sender is in `self`, so waiting cannot fail.
        let _ = watched.wait_for(|now| *now >= phase).await;
    }

    /// Begins to drain.
    pub fn begin(&self) {
        self.enter(Phase::Draining);
    }

    /// Whether it has begun to drain.
    pub fn has_begun(&self) -> bool {
        self.phase() == Phase::Draining
    }

    /// Waits until it begins to drain.
    pub async fn begun(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Counts a connection; and as one of an address that may have so many, if one is given.
    ///
    /// # Errors
    /// [`TooMany`]: there are `limit` already, or the address has all it may.
    pub fn connection(
        &self,
        limit: usize,
        of_address: Option<(IpAddr, usize)>,
    ) -> Result<OpenConnection, TooMany> {
        let counted = self
            .open
            .connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < limit).then_some(open + 1));
        counted.map_err(|_| TooMany::InAll)?;
        self.open.unsettled.fetch_add(1, Ordering::AcqRel);
        // From here on it is counted, and dropping it undoes that.
        let mut connection = OpenConnection { open: Arc::clone(&self.open), settled: false, address: None };
        if let Some((address, most)) = of_address {
            let mut by_address = self.open.by_address();
            let held = by_address.entry(address).or_default();
            if *held >= most {
                drop(by_address);
                return Err(TooMany::OfAddress);
            }
            *held += 1;
            connection.address = Some(address);
        }
        Ok(connection)
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.open.connections.load(Ordering::Acquire)
    }

    /// Waits until no connection is open, at most for `limit`; how many still were.
    pub async fn finished(&self, limit: Duration) -> usize {
        self.none_of(&self.open.connections, limit).await
    }

    /// Waits until no connection can bring a new call and no call waits for its decision, at most for `limit`; how many
    /// connections still could.
    pub async fn settled(&self, limit: Duration) -> usize {
        let settled = async {
            self.none_of(&self.open.unsettled, Duration::MAX).await;
            self.deciding.none().await;
        };
        let _ = tokio::time::timeout(limit, settled).await;
        self.open.unsettled.load(Ordering::Acquire)
    }

    async fn none_of(&self, count: &AtomicUsize, limit: Duration) -> usize {
        let none = async {
            loop {
                let mut changed = std::pin::pin!(self.open.changed.notified());
                changed.as_mut().enable();
                if count.load(Ordering::Acquire) == 0 {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(limit, none).await;
        count.load(Ordering::Acquire)
    }
}

impl OpenConnection {
    /// It brings no new call: it ends after those it carries.
    pub fn settle(&mut self) {
        if !std::mem::replace(&mut self.settled, true) {
            self.open.unsettled.fetch_sub(1, Ordering::AcqRel);
            self.open.changed.notify_waiters();
        }
    }
}

impl Open {
    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // No change under the lock can panic halfway.
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(address) = self.address
            && let Entry::Occupied(mut held) = self.open.by_address().entry(address)
        {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
        self.settle();
        self.open.connections.fetch_sub(1, Ordering::AcqRel);
        self.open.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_bound_and_leaves_nothing_behind() {
        let drain = Drain::default();
        let [a, b] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let first: Vec<_> = (0..3).map(|_| drain.connection(6, Some((a, 3))).unwrap()).collect();
        assert_eq!(drain.connection(6, Some((a, 3))).unwrap_err(), TooMany::OfAddress);
        assert_eq!(drain.connections(), 3, "one that is turned away does not count");
        let other = drain.connection(6, Some((b, 3))).unwrap();
        let trusted: Vec<_> = (0..2).map(|_| drain.connection(6, None).unwrap()).collect();
        assert_eq!(drain.connection(6, Some((b, 3))).unwrap_err(), TooMany::InAll);
        drop((first, trusted));
        assert!(drain.connection(6, Some((a, 3))).is_ok());
        drop(other);
        assert_eq!((drain.connections(), drain.open.by_address().len()), (0, 0));
    }
}
