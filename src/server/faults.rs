//! Faults below a request: they have no call to record, so they are counted, and recorded as sums.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::audit::journal::Journal;
use crate::audit::record::Event;
use crate::clock::{Clock, Timestamp};
use crate::proxy::live::Live;

/// What went wrong before there was a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A TLS handshake failed or took too long.
    TlsHandshake,
    /// A connection broke the rules of HTTP, or broke off.
    Http,
    /// An HTTP/2 stream was reset, or its connection ended, for breaking the rules.
    Http2,
    /// An HTTP/2 connection sent too many frames that bring no call further, and was ended.
    Flood,
    /// A connection kept the gate waiting for too long.
    Overrun,
    /// A connection could not be accepted.
    Accept,
    /// A connection was turned away, since there were too many.
    TooMany,
    /// A connection was turned away, since its address had too many.
    TooManyOfAddress,
}

/// Counts of faults since the last sum. Clones are one.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    by_fault: [AtomicU64; Fault::ALL.len()],
    since_us: AtomicI64,
    clock: Clock,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::TlsHandshake,
        Self::Http,
        Self::Http2,
        Self::Flood,
        Self::Overrun,
        Self::Accept,
        Self::TooMany,
        Self::TooManyOfAddress,
    ];

    /// The word for it in records and figures.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TlsHandshake => "tls_handshake",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Flood => "http2_flood",
            Self::Overrun => "overrun",
            Self::Accept => "accept",
            Self::TooMany => "too_many_connections",
            Self::TooManyOfAddress => "too_many_of_address",
        }
    }
}

impl Faults {
    /// Nothing counted yet.
    pub fn new(clock: Clock) -> Self {
        let since_us = AtomicI64::new(clock.now().as_micros());
        Self(Arc::new(Counts { by_fault: Default::default(), since_us, clock }))
    }

    /// Counts one.
    pub fn count(&self, fault: Fault) {
        metrics::counter!("portcullis_connection_faults_total", "kind" => fault.as_str()).increment(1);
        if let Some(counted) = self.0.by_fault.get(fault as usize) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were since the last sum.
    #[cfg(test)]
    pub fn since_last_sum(&self, fault: Fault) -> u64 {
        self.0.by_fault.get(fault as usize).map_or(0, |counted| counted.load(Ordering::Relaxed))
    }

    /// Records what was counted, a sum for each kind that occurred, every [`EVERY`] until dropped.
    pub async fn keep_sums(self, journal: Journal, live: Arc<ArcSwap<Live>>) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.record(&journal, &live.load_full()).await;
        }
    }

    /// Records what was counted since the last time.
    pub async fn record(&self, journal: &Journal, live: &Live) {
        let now = self.0.clock.now().as_micros();
        let since = Timestamp::from_micros(self.0.since_us.swap(now, Ordering::Relaxed));
        for fault in Fault::ALL {
            let count =
                self.0.by_fault.get(fault as usize).map_or(0, |counted| counted.swap(0, Ordering::Relaxed));
            if count == 0 {
                continue;
            }
            let sum = Event::Sum { what: fault.as_str(), count, since };
            if let Err(error) = journal.event(live.epochs, &sum).await {
                tracing::error!(%error, count, what = fault.as_str(), "a sum of faults could not be recorded");
            }
        }
    }
}

/// How often sums are recorded.
pub const EVERY: Duration = Duration::from_secs(60);
