//! One thread and one current-thread runtime per core: a connection lives and dies on one worker.

use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::connection::{Host, Numbers, serve_connection};
use super::drain::{Drain, OpenConnection};
use super::faults::Faults;
use crate::audit::journal::Journal;
use crate::proxy::live::Live;
use crate::proxy::{Face, Proxy};

/// What a worker is made of; cheap to clone.
#[derive(Clone)]
pub struct WorkerParts {
    /// The snapshot that requests see.
    pub live: Arc<ArcSwap<Live>>,
    /// The log.
    pub journal: Journal,
    /// Going down.
    pub drain: Drain,
    /// Where faults are counted.
    pub faults: Faults,
}

/// An accepted connection on its way to a worker.
pub struct Accepted {
    /// The socket, non-blocking.
    pub stream: TcpStream,
    /// Its other end.
    pub peer: SocketAddr,
    /// The listener's face.
    pub face: Face,
    /// Its place in the count.
    pub open: OpenConnection,
}

/// A worker as the acceptor sees it.
#[derive(Clone)]
pub struct Worker {
    inbox: mpsc::UnboundedSender<Accepted>,
    connections: Arc<AtomicUsize>,
}

impl Worker {
    /// Starts worker `number`. Its thread ends when the acceptor has dropped its side and all connections have ended.
    ///
    /// # Errors
    /// No thread, no runtime, or no randomness to be had.
    pub fn start(number: usize, parts: WorkerParts) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (inbox, accepted) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counted = Arc::clone(&connections);
        let numbers = Numbers::new().map_err(std::io::Error::other)?;
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            LocalSet::new().block_on(&runtime, run(parts, numbers, accepted, counted));
            // Lookups that a drain left behind hold nothing that anybody waits for.
            runtime.shutdown_background();
        })?;
        Ok((Self { inbox, connections }, thread))
    }

    /// How many connections it serves.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Hands it a connection; `false` if it has ended.
    pub fn take(&self, accepted: Accepted) -> bool {
        self.connections.fetch_add(1, Ordering::AcqRel);
        self.inbox.send(accepted).is_ok()
    }
}

async fn run(
    parts: WorkerParts,
    numbers: Numbers,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    connections: Arc<AtomicUsize>,
) {
    let numbers = Rc::new(numbers);
    let host = |face| Host {
        proxy: Proxy::new(parts.journal.clone(), parts.drain.deciding.clone(), face),
        live: Arc::clone(&parts.live),
        drain: parts.drain.clone(),
        faults: parts.faults.clone(),
        numbers: Rc::clone(&numbers),
    };
    let (front, admin) = (host(Face::Front), host(Face::Admin));
    while let Some(Accepted { stream, peer, face, open }) = accepted.recv().await {
        let host = match face {
            Face::Front => front.clone(),
            Face::Admin => admin.clone(),
        };
        let connections = Arc::clone(&connections);
        tokio::task::spawn_local(async move {
            // Counted off even by a panic, or this worker would seem ever busier than the others.
            let _served = CountedOff(connections);
            if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                serve_connection(host, stream, peer, open).await;
            }
        });
    }
    // The acceptor is gone; what is in flight has until the drain's bound, which ends the process.
    parts.drain.finished(std::time::Duration::MAX).await;
}

/// A connection among those a worker serves, until it is dropped.
struct CountedOff(Arc<AtomicUsize>);

impl Drop for CountedOff {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
