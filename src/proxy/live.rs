//! What a request depends on, as one snapshot, and what was refused since.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use super::forward::Backends;
use super::gate::Gate;
use super::rates::Rates;
use super::room::Room;
use crate::access::attempt::{ReadRules, TrustedProxies};
use crate::access::route::Routes;
use crate::access::{Attempt, Identity};
use crate::audit::hash::Hash;
use crate::audit::record::Epochs;
use crate::authn::Authn;
use crate::clock::Timestamp;
use crate::net::ServerTls;

use super::Face;

/// All of the configuration that a request depends on: a request sees one of these, whole.
#[derive(Clone)]
pub struct Live {
    /// The services behind the gate.
    pub front: Routes,
    /// The admin API's own service.
    pub admin: Routes,
    /// What stands behind them.
    pub backends: Arc<Backends>,
    /// Who may speak for a client.
    pub trusted: TrustedProxies,
    /// Bounds on what a stranger controls.
    pub limits: Limits,
    /// How often callers may call.
    pub rates: Rates,
    /// How often the admin API's callers may: the operator's own, who look while others attack.
    pub admin_rates: Rates,
    /// Proves callers.
    pub authn: Arc<Authn>,
    /// Decides.
    pub gate: Gate,
    /// What every decision names.
    pub epochs: Epochs,
    /// TLS on the front's listeners and on the admin API's; `None` is plain.
    pub tls: Listeners,
    /// The JWK Set by which services check assertions; `None` where there are none.
    pub assertion_keys: Option<Bytes>,
    /// When the policy was loaded.
    pub policy_loaded: Timestamp,
}

/// TLS on each kind of listener; `None` is plain HTTP.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// Those that lead to the services.
    pub front: Option<ServerTls>,
    /// The admin API's.
    pub admin: Option<ServerTls>,
    /// SHA-256 over the files that these, and whose certificates prove callers, were made from.
    pub files: Hash,
}

/// Bounds on what a stranger may make the gate hold. Those of a connection are what they were when it began.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most connections.
    pub connections: usize,
    /// Most connections of one address.
    pub connections_per_address: usize,
    /// Room for calls in flight to the services.
    pub in_flight: Arc<Room>,
    /// Room for calls in flight to the admin API: the operator's own.
    pub admin_in_flight: Arc<Room>,
    /// Longest request target, bytes.
    pub target_bytes: usize,
    /// Longest request head, bytes.
    pub header_bytes: usize,
    /// Most header fields.
    pub headers: usize,
    /// Longest TLS handshake, and longest a request's head may take from its first byte.
    pub header_timeout: Duration,
    /// Longest a connection may lie idle.
    pub idle_timeout: Duration,
    /// Most concurrent streams on an HTTP/2 connection.
    pub h2_streams: u32,
}

impl Limits {
    /// Room for calls that come in on a listener of `face`.
    pub const fn room(&self, face: Face) -> &Arc<Room> {
        match face {
            Face::Front => &self.in_flight,
            Face::Admin => &self.admin_in_flight,
        }
    }
}

/// The last loads that were refused while an older state went on serving; `None` once a load has succeeded since.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Of the policy.
    pub policy: ArcSwapOption<Refusal>,
    /// Of the config.
    pub config: ArcSwapOption<Refusal>,
    /// Of certificates, keys, authorities and lists of revocations.
    pub certificates: ArcSwapOption<Refusal>,
}

/// A load that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub at: Timestamp,
    /// What was wrong, for the operator.
    pub message: String,
}

impl Live {
    /// The services that a listener of `face` leads to.
    pub const fn routes(&self, face: Face) -> &Routes {
        match face {
            Face::Front => &self.front,
            Face::Admin => &self.admin,
        }
    }

    /// TLS on listeners of `face`.
    pub const fn tls(&self, face: Face) -> Option<&ServerTls> {
        match face {
            Face::Front => self.tls.front.as_ref(),
            Face::Admin => self.tls.admin.as_ref(),
        }
    }

    /// What reading a call on a listener of `face` needs.
    pub const fn read_rules(&self, face: Face) -> ReadRules<'_> {
        ReadRules {
            routes: self.routes(face),
            trusted: &self.trusted,
            target_bytes: self.limits.target_bytes,
        }
    }

    /// How often callers on a listener of `face` may call.
    pub const fn rates(&self, face: Face) -> &Rates {
        match face {
            Face::Front => &self.rates,
            Face::Admin => &self.admin_rates,
        }
    }

    /// Who makes the call: proved, anonymous, or failed.
    pub async fn identify(&self, attempt: &Attempt) -> Identity {
        self.authn.identify(attempt).await
    }
}
