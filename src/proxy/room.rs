//! Room for calls in flight, shared so that nobody takes all of it.
//!
//! Invariants:
//! 1. No more calls have a place than there is room for. A place is kept until the call's answer has been sent *and* its
//!    record is on the log or refused, whoever has gone away meanwhile.
//! 2. A service, and a caller, may take up to three times what is left free. One alone thus leaves a quarter of all
//!    for others, two a seventh, and so on: there is always some room for whoever has none yet. (Choudhury and Hahne,
//!    "Dynamic queue length thresholds for shared-memory packet switches", 1998.)
//! 3. Where there is one service only, nobody is there to share with, and it may take all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Room for so many calls.
#[derive(Debug)]
pub struct Room {
    limit: usize,
    services: usize,
    calls: AtomicUsize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_service: HashMap<Arc<str>, usize>,
    by_caller: HashMap<IpAddr, usize>,
}

/// A call's place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    claim: OnceLock<Claim>,
}

#[derive(Debug)]
struct Claim {
    service: Option<Arc<str>>,
    caller: IpAddr,
}

/// Whose share of the room is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Crowded {
    /// The service has as many calls as may be.
    #[error("the service holds its share of all calls")]
    Service,
    /// The caller has.
    #[error("the caller holds its share of all calls")]
    Caller,
}

impl Room {
    /// Room for `limit` calls to `services` services.
    pub fn new(limit: usize, services: usize) -> Arc<Self> {
        Arc::new(Self { limit, services, calls: AtomicUsize::new(0), taken: Mutex::default() })
    }

    /// A place for a call of which nothing is known yet; `None` if all are taken.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        let entered = self.calls.fetch_update(Ordering::AcqRel, Ordering::Acquire, |calls| {
            (calls < self.limit).then_some(calls + 1)
        });
        entered.is_ok().then(|| Place { room: Arc::clone(self), claim: OnceLock::new() })
    }

    /// How many calls have a place.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // No change under the lock can panic halfway.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts the call towards the share of its service and of its caller. To be asked once.
    ///
    /// # Errors
    /// [`Crowded`]: then it is not to go on.
    pub fn claim(&self, service: Option<Arc<str>>, ip: IpAddr) -> Result<(), Crowded> {
        let caller = caller(ip);
        let mut taken = self.room.taken();
        // This call's own place still counts as free.
        let free = (self.room.limit + 1).saturating_sub(self.room.calls());
        let most = free.saturating_mul(SHARE);
        let held = |held: Option<&usize>| held.copied().unwrap_or(0);
        if let Some(service) = &service
            && self.room.services > 1
            && held(taken.by_service.get(service)) >= most
        {
            return Err(Crowded::Service);
        }
        if held(taken.by_caller.get(&caller)) >= most {
            return Err(Crowded::Caller);
        }
        if let Ok(()) = self.claim.set(Claim { service: service.clone(), caller }) {
            if let Some(service) = service {
                *taken.by_service.entry(service).or_default() += 1;
            }
            *taken.by_caller.entry(caller).or_default() += 1;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(Claim { service, caller }) = self.claim.take() {
            let mut taken = self.room.taken();
            if let Some(service) = service {
                leave(taken.by_service.entry(service));
            }
            leave(taken.by_caller.entry(caller));
        }
        self.room.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

fn leave<K: Eq + Hash>(entry: Entry<'_, K, usize>) {
    if let Entry::Occupied(mut held) = entry {
        *held.get_mut() -= 1;
        if *held.get() == 0 {
            held.remove();
        }
    }
}

/// Whom an address stands for: an IPv6 host has all of its /64 (RFC 6177), so that is what counts.
fn caller(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// How many times what is free one service or caller may hold.
const SHARE: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// As many calls as get a place.
    fn fill(room: &Arc<Room>, service: &str, ip: impl Fn(usize) -> IpAddr) -> (Vec<Place>, Option<Crowded>) {
        let mut places = Vec::new();
        while let Some(place) = room.enter() {
            match place.claim(Some(service.into()), ip(places.len())) {
                Ok(()) => places.push(place),
                Err(crowded) => return (places, Some(crowded)),
            }
        }
        (places, None)
    }

    fn anyone(number: usize) -> IpAddr {
        IpAddr::from(u32::try_from(number).unwrap().to_be_bytes())
    }

    #[test]
    fn one_caller_leaves_room_for_others_and_so_do_two() {
        let room = Room::new(4096, 1);
        let (first, refused) = fill(&room, "app", |_| ip(1));
        assert_eq!((first.len(), refused), (3072, Some(Crowded::Caller)));
        let (second, refused) = fill(&room, "app", |_| ip(2));
        assert_eq!((second.len(), refused), (768, Some(Crowded::Caller)));
        // As calls end, it evens out.
        drop(first);
        assert!(fill(&room, "app", |_| ip(1)).0.len() > 2000);
        drop(second);
        assert_eq!(room.calls(), 0);
    }

    #[test]
    fn one_service_leaves_room_for_others_unless_there_are_none() {
        let room = Room::new(4096, 2);
        let (slow, refused) = fill(&room, "slow", anyone);
        assert_eq!((slow.len(), refused), (3072, Some(Crowded::Service)));
        let (other, _) = fill(&room, "other", anyone);
        assert!(other.len() >= 700);
        let alone = Room::new(4096, 1);
        let (all, refused) = fill(&alone, "app", anyone);
        assert_eq!((all.len(), refused), (4096, None));
        assert!(alone.enter().is_none());
    }

    #[test]
    fn a_small_room_can_be_used_too() {
        for (limit, one_caller) in [(1, 1), (2, 2), (3, 3), (4, 3), (16, 12)] {
            let room = Room::new(limit, 2);
            assert_eq!(fill(&room, "app", |_| ip(1)).0.len(), one_caller, "of {limit}");
        }
    }

    #[test]
    fn what_is_dropped_leaves_nothing_behind() {
        let room = Room::new(8, 2);
        drop(fill(&room, "app", |_| ip(1)));
        drop(room.enter());
        assert_eq!(room.calls(), 0);
        let taken = room.taken();
        assert!(taken.by_service.is_empty() && taken.by_caller.is_empty());
    }

    #[test]
    fn a_host_with_many_ipv6_addresses_is_one_caller() {
        let room = Room::new(16, 1);
        let (places, refused) =
            fill(&room, "app", |n| IpAddr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, u16::try_from(n).unwrap()]));
        assert_eq!((places.len(), refused), (12, Some(Crowded::Caller)));
        let other = room.enter().unwrap();
        assert_eq!(other.claim(None, "2001:db8:0:8::1".parse().unwrap()), Ok(()));
    }
}
