//! Sockets, and the acceptor that deals connections to workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::drain::{Drain, OpenConnection, Phase, TooMany};
use super::faults::{Fault, Faults};
use super::worker::{Accepted, Worker};
use crate::proxy::Face;
use crate::proxy::live::Live;
use crate::proxy::room::caller;

/// A socket that connections come in on.
pub struct Listener {
    socket: TcpListener,
    face: Face,
}

/// A socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub source: std::io::Error,
}

/// Binds a listening socket, non-blocking.
///
/// # Errors
/// [`BindError`].
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, BindError> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for connections of the last run to time out.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bound().map_err(|source| BindError { address, source })
}

impl Listener {
    /// A listener of `face` on a bound socket.
    pub const fn new(socket: TcpListener, face: Face) -> Self {
        Self { socket, face }
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// The socket does not know.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Counts a connection, if there is room. Those who look at the gate have some to themselves, which strangers cannot
    /// take.
    fn count(&self, peer: SocketAddr, live: &Live, drain: &Drain) -> Result<OpenConnection, TooMany> {
        let limits = &live.limits;
        match self.face {
            Face::Admin => drain.connection(limits.connections.saturating_add(ADMIN_CONNECTIONS), None),
            Face::Front => {
                let known = live.trusted.contains(peer.ip());
                let address = (!known).then(|| (caller(peer.ip()), limits.connections_per_address));
                drain.connection(limits.connections, address)
            }
        }
    }

    /// Accepts until the drain holds connections back, and deals each connection to the worker that has the fewest: with few
    /// connections no core idles while another is full, which the kernel's hashing of ports to sockets does not give.
    pub async fn accept(
        self,
        workers: Vec<Worker>,
        live: Arc<ArcSwap<Live>>,
        (drain, faults): (Drain, Faults),
    ) {
        let mut begun = std::pin::pin!(drain.reached(Phase::Holding));
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = &mut begun => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The peer has gone already, or files have run out: in time they come back.
                    tracing::warn!(%error, "a connection could not be accepted");
                    faults.count(Fault::Accept);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let open = match self.count(peer, &live.load(), &drain) {
                Ok(open) => open,
                Err(too_many) => {
                    faults.count(match too_many {
                        TooMany::InAll => Fault::TooMany,
                        TooMany::OfAddress => Fault::TooManyOfAddress,
                    });
                    continue;
                }
            };
            let Ok(stream) = stream.into_std() else { continue };
            let accepted = Accepted { stream, peer, face: self.face, open };
            if let Some(worker) = workers.iter().min_by_key(|worker| worker.connections()) {
                worker.take(accepted);
            }
        }
    }
}

/// Connections to the admin API beyond those there may be in all.
const ADMIN_CONNECTIONS: usize = 64;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// How long the acceptor rests after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
