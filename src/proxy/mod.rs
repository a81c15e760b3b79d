//! The path of a request: attempt, identity, decision, record, and only then the service.
//!
//! | file | what is there |
//! |---|---|
//! | this one | the path, on one screen |
//! | [`gate`] | the decision |
//! | [`forward`], [`upstream`] | carrying out what was allowed; kept connections |
//! | [`headers`], [`body`], [`cors`] | what crosses, and how it is followed |
//! | [`respond`] | the gate's own answers |

pub mod body;
pub mod cors;
pub mod forward;
pub mod gate;
pub mod headers;
pub mod respond;
pub mod upstream;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;

use self::body::Body;
use self::forward::{Backends, Upstreams};
use self::gate::Gate;
use crate::access::attempt::{ReadRules, TrustedProxies};
use crate::access::route::Routes;
use crate::access::{Attempt, Connection, Credential, CredentialFault, Identity};
use crate::audit::journal::{Epochs, Journal, Recorded};
use crate::authn::Authn;

/// All of the configuration that a request depends on, as one snapshot: a request sees one of these, whole.
pub struct Live {
    /// The services behind the gate.
    pub front: Routes,
    /// The admin API's own service.
    pub admin: Routes,
    /// What stands behind them.
    pub backends: Backends,
    /// Who may speak for a client.
    pub trusted: TrustedProxies,
    /// The longest request target, bytes.
    pub target_bytes: usize,
    /// Proves callers.
    pub authn: Arc<Authn>,
    /// Decides.
    pub gate: Gate,
    /// What every decision names.
    pub epochs: Epochs,
}

/// Which services a listener leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Those behind the gate.
    Front,
    /// The admin API.
    Admin,
}

/// One worker's gate: three collaborators and nothing else.
#[derive(Clone)]
pub struct Proxy {
    live: Arc<ArcSwap<Live>>,
    journal: Journal,
    upstreams: Upstreams,
    face: Face,
}

impl Proxy {
    /// A gate for the listeners of one face on one worker.
    pub fn new(live: Arc<ArcSwap<Live>>, journal: Journal, face: Face) -> Self {
        Self { live, journal, upstreams: Upstreams::default(), face }
    }

    /// One call, from its head to the head of its answer. `fresh` is a number no other call has.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
        fresh: u128,
    ) -> Response<Body> {
        let live = self.live.load_full();
        let (head, body) = request.into_parts();

        let attempt = Attempt::read(&head, connection, &live.read_rules(self.face), fresh);
        let identity = live.identify(&attempt).await;
        let decision = live.gate.decide(&attempt, &identity).await;
        let recorded = match self.journal.record(attempt, identity, decision, live.epochs).await {
            Ok(recorded) => recorded,
            Err(cause) => return respond::unrecorded(cause),
        };
        match recorded {
            Recorded::Allow(permit) => {
                let request = Request::from_parts(head, body);
                self.upstreams.forward(permit, &live.backends, request).await
            }
            Recorded::Deny(denial) => respond::denied(&denial),
        }
    }
}

impl Live {
    fn read_rules(&self, face: Face) -> ReadRules<'_> {
        let routes = match face {
            Face::Front => &self.front,
            Face::Admin => &self.admin,
        };
        ReadRules { routes, trusted: &self.trusted, target_bytes: self.target_bytes }
    }

    async fn identify(&self, attempt: &Attempt) -> Identity {
        match &attempt.credential {
            Credential::None => Identity::Anonymous,
            Credential::Bearer(token) => self.authn.identify_token(token.as_str()).await,
            Credential::Unsupported => Identity::Failed(CredentialFault::UnsupportedScheme),
            Credential::Malformed => Identity::Failed(CredentialFault::Malformed),
        }
    }
}
