//! The path of a request: attempt, identity, decision, record, and only then the service.
//!
//! | file | what is there |
//! |---|---|
//! | this one | the path, on one screen |
//! | [`live`] | the snapshot of configuration that a request sees |
//! | [`gate`] | the decision |
//! | [`deciding`] | calls that are not decided yet, counted |
//! | [`rates`] | how often callers may call |
//! | [`room`] | calls in flight, shared between services and callers |
//! | [`forward`], [`upstream`] | carrying out what was allowed; kept connections |
//! | [`headers`], [`body`], [`cors`] | what crosses, and how it is followed |
//! | [`assertion`] | what the gate vouches for to a service that asks for it |
//! | [`respond`] | the gate's own answers |
//! | `figures` | what is counted |

pub mod assertion;
pub mod body;
pub mod cors;
pub mod deciding;
mod figures;
pub mod forward;
pub mod gate;
pub mod headers;
pub mod live;
pub mod rates;
pub mod respond;
pub mod room;
pub mod upstream;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use self::body::Body;
use self::deciding::Deciding;
use self::forward::Upstreams;
use self::live::Live;
use self::rates::{Exceeded, Rates};
use self::room::Place;
use crate::access::attempt::Unreadable;
use crate::access::{Attempt, Connection, Decision, Identity, Reason};
use crate::audit::journal::{Held, Journal, Recorded};

/// Which services a listener leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Those behind the gate.
    Front,
    /// The admin API.
    Admin,
}

/// A call, apart from what it says.
#[derive(Clone)]
pub struct Call {
    /// The connection it came in on.
    pub connection: Connection,
    /// A number no other call has.
    pub fresh: u128,
    /// Why its head was not handed on, if it was not: then the request only stands in its place.
    pub unreadable: Option<Unreadable>,
    /// Its place among the calls in flight.
    pub place: Arc<Place>,
    /// Turns for records of this connection that are not durable yet.
    pub turns: Arc<Semaphore>,
}

/// One worker's gate: three collaborators and nothing else.
#[derive(Clone)]
pub struct Proxy {
    journal: Journal,
    upstreams: Upstreams,
    deciding: Deciding,
    face: Face,
}

impl Proxy {
    /// A gate for the listeners of one face on one worker.
    pub fn new(journal: Journal, deciding: Deciding, face: Face) -> Self {
        Self { journal, upstreams: Upstreams::default(), deciding, face }
    }

    /// Which services it leads to.
    pub const fn face(&self) -> Face {
        self.face
    }

    /// One call by one snapshot, from its head to the head of its answer. Where its head could not be read, `request` only
    /// stands in its place.
    pub async fn handle(&self, live: &Live, request: Request<Incoming>, call: &Call) -> Response<Body> {
        let undecided = self.deciding.begin();
        let (head, body) = request.into_parts();

        let rules = live.read_rules(self.face);
        let attempt = match call.unreadable.clone() {
            None => Attempt::read(&head, &call.connection, &rules, call.fresh),
            Some(unreadable) => Attempt::unreadable(unreadable, &call.connection, &rules, call.fresh),
        };
        let service = attempt.access.as_ref().ok().map(|access| Arc::clone(&access.route.service));
        if let Err(whose) = call.place.claim(service, attempt.client.ip) {
            figures::crowded(whose);
            return respond::shed();
        }
        let cors = live.backends.cors_of(&attempt);
        let judged = AssertUnwindSafe(judge(live, &attempt, live.rates(self.face))).catch_unwind().await;
        let (identity, decision, exceeded) = judged.unwrap_or_else(|_| {
            // Whoever it was, nothing goes on from here, and that is on record.
            figures::panicked();
            (attempt.unchecked(), Decision::deny(Reason::Internal, None), None)
        });
        figures::decided(&attempt, &decision);
        if let Some(exceeded) = &exceeded {
            figures::exceeded(&attempt, exceeded);
        }
        let turn = call.turn();
        let recorded = match self.journal.record_in_turn(attempt, identity, decision, live.epochs, turn).await
        {
            Ok(recorded) => recorded,
            Err(cause) => {
                figures::unrecorded(cause);
                return respond::unrecorded(cause);
            }
        };
        drop(undecided);
        match recorded {
            Recorded::Allow(permit) => {
                let request = Request::from_parts(head, body);
                self.upstreams.forward(permit, &live.backends, request).await
            }
            Recorded::Deny(denial) => respond::denied(&denial, exceeded.as_ref(), cors, &head.headers),
        }
    }
}

/// Who makes the call, and whether it may go through; if not since there were too many, by which rate.
async fn judge(live: &Live, attempt: &Attempt, rates: &Rates) -> (Identity, Decision, Option<Exceeded>) {
    let within = rates.address(attempt);
    let identity = match within {
        Ok(()) => live.identify(attempt).await,
        Err(_) => attempt.unchecked(),
    };
    let within = within.and_then(|()| rates.caller(attempt, &identity));
    let decision = match within {
        Ok(()) => live.gate.decide(attempt, &identity).await,
        Err(_) => Decision::deny(Reason::RateLimited, None),
    };
    match within.and_then(|()| rates.total(attempt, &decision)) {
        Ok(()) => (identity, decision, None),
        Err(exceeded) => (identity, Decision::deny(Reason::RateLimited, None), Some(exceeded)),
    }
}

impl Call {
    /// Waits until few enough records of this connection are on their way to the log. A place among them, and the call's
    /// own place, are kept until the record is durable: a caller that goes away at once gains nothing by it.
    async fn turn(&self) -> Held {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        Held::new((turn, Arc::clone(&self.place)))
    }
}

/// Records of one connection that may be on their way to the log at once; other streams of it wait.
pub const TURNS: usize = 32;
