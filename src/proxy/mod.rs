//! The path of a request: attempt, identity, decision, record, and only then the service.
//!
//! | file | what is there |
//! |---|---|
//! | this one | the path, on one screen |
//! | [`live`] | the snapshot of configuration that a request sees |
//! | [`gate`] | the decision |
//! | [`forward`], [`upstream`] | carrying out what was allowed; kept connections |
//! | [`headers`], [`body`], [`cors`] | what crosses, and how it is followed |
//! | [`respond`] | the gate's own answers |
//! | `figures` | what is counted |

pub mod body;
pub mod cors;
mod figures;
pub mod forward;
pub mod gate;
pub mod headers;
pub mod live;
pub mod respond;
pub mod upstream;

use http::{Request, Response};
use hyper::body::Incoming;

use self::body::Body;
use self::forward::Upstreams;
use self::live::Live;
use crate::access::attempt::Unreadable;
use crate::access::{Attempt, Connection};
use crate::audit::journal::{Journal, Recorded};

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
    journal: Journal,
    upstreams: Upstreams,
    face: Face,
}

impl Proxy {
    /// A gate for the listeners of one face on one worker.
    pub fn new(journal: Journal, face: Face) -> Self {
        Self { journal, upstreams: Upstreams::default(), face }
    }

    /// Which services its listeners lead to.
    pub const fn face(&self) -> Face {
        self.face
    }

    /// One call by one snapshot, from its head to the head of its answer. Where its head could not be read, `request` only
    /// stands in its place. `fresh` is a number no other call has.
    pub async fn handle(
        &self,
        live: &Live,
        request: Request<Incoming>,
        unreadable: Option<Unreadable>,
        connection: &Connection,
        fresh: u128,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();

        let attempt = match unreadable {
            None => Attempt::read(&head, connection, &live.read_rules(self.face), fresh),
            Some(unreadable) => Attempt::unreadable(unreadable, connection, fresh),
        };
        let cors = live.backends.cors_of(&attempt);
        let identity = live.identify(&attempt).await;
        let decision = live.gate.decide(&attempt, &identity).await;
        figures::decided(&attempt, &decision);
        let recorded = match self.journal.record(attempt, identity, decision, live.epochs).await {
            Ok(recorded) => recorded,
            Err(cause) => {
                figures::unrecorded(cause);
                return respond::unrecorded(cause);
            }
        };
        match recorded {
            Recorded::Allow(permit) => {
                let request = Request::from_parts(head, body);
                self.upstreams.forward(permit, &live.backends, request).await
            }
            Recorded::Deny(denial) => respond::denied(&denial, cors, &head.headers),
        }
    }
}
