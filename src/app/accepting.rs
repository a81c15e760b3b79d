//! What accepts connections, and can stop and begin again: the sockets themselves stay open meanwhile.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::sockets::{Place, Sockets};
use crate::proxy::Face;
use crate::proxy::live::Live;
use crate::server::drain::Drain;
use crate::server::faults::Faults;
use crate::server::health::{self, Health};
use crate::server::listen::Listener;
use crate::server::worker::Worker;

/// The gate's sockets and whoever accepts on them.
pub(super) struct Accepting {
    pub(super) sockets: Sockets,
    pub(super) workers: Vec<Worker>,
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) drain: Drain,
    pub(super) faults: Faults,
    pub(super) health: Health,
    pub(super) at_work: AtWork,
}

/// Who accepts just now.
#[derive(Default)]
pub(super) struct AtWork {
    acceptors: Vec<JoinHandle<()>>,
    health: Vec<oneshot::Sender<()>>,
}

impl Accepting {
    /// Begins to accept on each socket that nobody accepts on. To be called within the control thread's runtime.
    pub(super) fn begin(&mut self) -> std::io::Result<()> {
        let listen = |socket: &std::net::TcpListener| TcpListener::from_std(socket.try_clone()?);
        if self.at_work.acceptors.is_empty() {
            for (place, face) in [(Place::Front, Face::Front), (Place::Admin, Face::Admin)] {
                for socket in self.sockets.of(place) {
                    let accept = Listener::new(listen(socket)?, face).accept(
                        self.workers.clone(),
                        Arc::clone(&self.live),
                        (self.drain.clone(), self.faults.clone()),
                    );
                    self.at_work.acceptors.push(tokio::task::spawn_local(accept));
                }
            }
        }
        if self.at_work.health.is_empty() {
            for socket in self.sockets.of(Place::Health) {
                let (stop, stopped) = oneshot::channel::<()>();
                let serve = axum::serve(listen(socket)?, health::router(self.health.clone()))
                    .with_graceful_shutdown(async {
                        let _ = stopped.await;
                    });
                tokio::spawn(async move { serve.await });
                self.at_work.health.push(stop);
            }
        }
        Ok(())
    }

    /// Returns once nobody accepts calls any more; the drain has told them to stop.
    pub(super) async fn ended(&mut self) {
        for acceptor in self.at_work.acceptors.drain(..) {
            // A panic there has been told of.
            let _ = acceptor.await;
        }
    }

    /// Answers no more on the health listener.
    pub(super) fn end_health(&mut self) {
        self.at_work.health.clear();
    }
}
