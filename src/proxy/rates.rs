//! How often callers may call.
//!
//! Counts are this process's, all workers together. A reload keeps the counts of every rate that stays as it was.
//!
//! Invariants:
//! 1. A rate's memory is bounded, whoever calls: beyond `MOST` that have called lately, callers share counts.
//! 2. What a stranger can use up is counted by address. Only calls that are allowed count towards a service's total, so
//!    that those who are refused do not keep others out.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::room::caller;
use crate::access::rate::{Rate, ServiceRates};
use crate::access::{Attempt, Decision, Identity};

/// All rates in force.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    per_address: Option<Arc<Limiter>>,
    services: HashMap<Arc<str>, Service>,
}

#[derive(Clone, Debug, Default)]
struct Service {
    per_principal: Option<Arc<Limiter>>,
    per_address: Option<Arc<Limiter>>,
    total: Option<Arc<Limiter>>,
}

/// A rate was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose.
    pub whose: Whose,
    /// The rate.
    pub rate: Rate,
    /// How long until one more call is within it.
    pub wait: Duration,
}

/// Whose rate it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The address's.
    Address,
    /// The caller's.
    Principal,
    /// All callers' together.
    Total,
}

impl Whose {
    /// The word for it in figures.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Principal => "principal",
            Self::Total => "total",
        }
    }
}

impl Rates {
    /// What an address may ask for of all services together, and what each service allows.
    pub fn new(
        per_address: Option<Rate>,
        services: impl IntoIterator<Item = (Arc<str>, ServiceRates)>,
    ) -> Self {
        let services = services.into_iter().map(|(name, rates)| {
            let ServiceRates { per_principal, per_address, total } = rates;
            let service = Service {
                per_principal: per_principal.map(Limiter::shared),
                per_address: per_address.map(Limiter::shared),
                total: total.map(Limiter::shared),
            };
            (name, service)
        });
        Self { per_address: per_address.map(Limiter::shared), services: services.collect() }
    }

    /// With the counts of `old` for every rate that is the same.
    #[must_use]
    pub fn going_on_from(mut self, old: &Self) -> Self {
        go_on(&mut self.per_address, old.per_address.as_ref());
        for (name, service) in &mut self.services {
            if let Some(old) = old.services.get(name) {
                go_on(&mut service.per_principal, old.per_principal.as_ref());
                go_on(&mut service.per_address, old.per_address.as_ref());
                go_on(&mut service.total, old.total.as_ref());
            }
        }
        self
    }

    /// Counts a call that has just come in, by its address.
    ///
    /// # Errors
    /// [`Exceeded`]: nothing more is to be done for it than to say so.
    pub fn address(&self, attempt: &Attempt) -> Result<(), Exceeded> {
        let key = caller(attempt.client.ip);
        let of_service = self.service(attempt).and_then(|service| service.per_address.as_ref());
        for limiter in [self.per_address.as_ref(), of_service].into_iter().flatten() {
            limiter.check(key, Whose::Address)?;
        }
        Ok(())
    }

    /// Counts a call by who makes it: by its address, if nothing was proved.
    ///
    /// # Errors
    /// [`Exceeded`]: the call is to be refused.
    pub fn caller(&self, attempt: &Attempt, identity: &Identity) -> Result<(), Exceeded> {
        let Some(limiter) = self.service(attempt).and_then(|service| service.per_principal.as_ref()) else {
            return Ok(());
        };
        match identity {
            Identity::Proved(caller) => limiter.check(&caller.user, Whose::Principal),
            Identity::Anonymous | Identity::Failed(_) => {
                limiter.check(caller(attempt.client.ip), Whose::Address)
            }
        }
    }

    /// Counts a call that is about to be let through.
    ///
    /// # Errors
    /// [`Exceeded`]: the call is to be refused after all.
    pub fn total(&self, attempt: &Attempt, decision: &Decision) -> Result<(), Exceeded> {
        match (decision, self.service(attempt).and_then(|service| service.total.as_ref())) {
            (Decision::Allow(_), Some(limiter)) => limiter.check((), Whose::Total),
            (Decision::Allow(_) | Decision::Deny(_), _) => Ok(()),
        }
    }

    fn service(&self, attempt: &Attempt) -> Option<&Service> {
        if self.services.is_empty() {
            return None;
        }
        self.services.get(attempt.service()?)
    }
}

fn go_on(new: &mut Option<Arc<Limiter>>, old: Option<&Arc<Limiter>>) {
    if let (Some(new), Some(old)) = (new, old)
        && new.rate == old.rate
    {
        *new = Arc::clone(old);
    }
}

/// One rate, and the counts of those who called lately, each under a keyed hash of who it is.
#[derive(Debug)]
struct Limiter<C: Clock = MonotonicClock> {
    rate: Rate,
    counts: RateLimiter<u64, HashMapStateStore<u64>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    hasher: RandomState,
    swept: Mutex<Instant>,
}

impl Limiter {
    fn shared(rate: Rate) -> Arc<Self> {
        Arc::new(Self::new(rate, MonotonicClock))
    }
}

impl<C: Clock + Clone> Limiter<C> {
    fn new(rate: Rate, clock: C) -> Self {
        // A rate's interval is never zero; were it, a call a second would be let through.
        let quota = Quota::with_period(rate.interval()).unwrap_or(Quota::per_second(rate.count));
        let counts = RateLimiter::hashmap_with_clock(quota.allow_burst(rate.burst), clock.clone());
        Self { rate, counts, clock, hasher: RandomState::new(), swept: Mutex::new(Instant::now()) }
    }

    fn check(&self, who: impl Hash, whose: Whose) -> Result<(), Exceeded> {
        let own = self.hasher.hash_one(who);
        let key = if self.has_room() { own } else { own % SHARED };
        self.counts.check_key(&key).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            Exceeded { whose, rate: self.rate, wait }
        })
    }

    /// Whether one more may be counted apart. Those who have not called lately are forgotten if need be.
    fn has_room(&self) -> bool {
        if self.counts.len() < MOST {
            return true;
        }
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.elapsed() >= SWEEP_EVERY {
            self.counts.retain_recent();
            *swept = Instant::now();
        }
        drop(swept);
        self.counts.len() < MOST
    }
}

/// How many callers a rate counts apart.
const MOST: usize = 1 << 17;

/// How many counts all others share.
const SHARED: u64 = 1 << 10;

/// Looking for callers to forget takes milliseconds, so it is not done more often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn limiter(rate: &str) -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limiter::new(Rate::read(rate).unwrap(), clock.clone()), clock)
    }

    fn allowed(limiter: &Limiter<FakeRelativeClock>, who: &str, tries: usize) -> usize {
        (0..tries).filter(|_| limiter.check(who, Whose::Principal).is_ok()).count()
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let (limiter, clock) = limiter("10/s burst 3");
        assert_eq!(allowed(&limiter, "a", 100), 3);
        assert_eq!(allowed(&limiter, "b", 1), 1, "another's count is another");
        let exceeded = limiter.check("a", Whose::Principal).unwrap_err();
        assert_eq!((exceeded.rate, exceeded.wait), (limiter.rate, Duration::from_millis(100)));
        clock.advance(Duration::from_millis(100));
        assert_eq!(allowed(&limiter, "a", 100), 1);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(allowed(&limiter, "a", 100), 3);
    }

    #[test]
    fn however_many_call_the_counts_are_bounded_and_still_bind() {
        let (limiter, clock) = limiter("1/h");
        for number in 0..2 * MOST {
            let _ = limiter.check(number, Whose::Address);
        }
        assert!(limiter.counts.len() <= MOST + SHARED as usize, "{}", limiter.counts.len());
        assert!((0..10_000).any(|number| limiter.check(("new", number), Whose::Address).is_err()));
        // Those who have held back long enough are forgotten, and there is room again.
        clock.advance(Duration::from_secs(7200));
        *limiter.swept.lock().unwrap() -= SWEEP_EVERY;
        assert_eq!(allowed(&limiter, "a", 1), 1);
        assert_eq!(limiter.counts.len(), 1);
    }

    #[test]
    fn a_reload_keeps_the_counts_of_what_stays_and_begins_anew_what_changed() {
        let rates = |total: &str| {
            let rates = ServiceRates {
                per_principal: Rate::read("1/h"),
                per_address: None,
                total: Rate::read(total),
            };
            Rates::new(Rate::read("5/s"), [("app".into(), rates)])
        };
        let old = rates("7/s");
        let (same, other) = (rates("7/s").going_on_from(&old), rates("8/s").going_on_from(&old));
        let of = |rates: &Rates| rates.services["app"].clone();
        let is = |a: &Option<Arc<Limiter>>, b: &Option<Arc<Limiter>>| {
            Arc::ptr_eq(a.as_ref().unwrap(), b.as_ref().unwrap())
        };
        assert!(is(&of(&same).total, &of(&old).total) && is(&same.per_address, &old.per_address));
        assert!(!is(&of(&other).total, &of(&old).total));
        assert!(is(&of(&other).per_principal, &of(&old).per_principal));
    }
}
