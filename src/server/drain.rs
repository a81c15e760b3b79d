//! Going down in order: no new decisions, what is in flight finishes, then the log closes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Tells everyone that the gate goes down, and waits for connections to end. Clones are one.
#[derive(Clone, Debug)]
pub struct Drain {
    draining: watch::Sender<bool>,
    open: Arc<Open>,
}

#[derive(Debug, Default)]
struct Open {
    connections: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    ended: Notify,
}

/// An open connection; it counts until dropped.
#[derive(Debug)]
pub struct OpenConnection {
    open: Arc<Open>,
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
        Self { draining: watch::Sender::new(false), open: Arc::default() }
    }
}

impl Drain {
    /// Begins.
    pub fn begin(&self) {
        self.draining.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        let mut draining = self.draining.subscribe();
        // The sender is in `self`, so waiting cannot fail.
        let _ = draining.wait_for(|begun| *begun).await;
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
        // From here on it is counted, and dropping it undoes that.
        let mut connection = OpenConnection { open: Arc::clone(&self.open), address: None };
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
        let all_ended = async {
            loop {
                let mut ended = std::pin::pin!(self.open.ended.notified());
                ended.as_mut().enable();
                if self.connections() == 0 {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(limit, all_ended).await;
        self.connections()
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
        self.open.connections.fetch_sub(1, Ordering::AcqRel);
        self.open.ended.notify_waiters();
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
