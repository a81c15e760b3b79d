//! Behind the scenes, on a thread of its own: the service behind the gate, the issuer's key set, and signals.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};

/// What serves behind the scenes until the process ends.
pub(super) struct Backstage {
    /// Where the service is.
    pub(super) service: SocketAddr,
    /// Where the issuer publishes its keys.
    pub(super) keys: SocketAddr,
    reached: Arc<AtomicU64>,
    interrupted: Receiver<()>,
}

impl Backstage {
    /// Starts both servers. `dir` is where the key set will be.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let reached = Arc::new(AtomicU64::new(0));
        let (interrupt, interrupted) = channel();
        let (ready, started) = channel();
        let key_set = dir.join("keys").join("dev.jwks.json");
        let counter = Arc::clone(&reached);
        std::thread::Builder::new()
            .name("backstage".into())
            .spawn(move || serve(&ready, interrupt, key_set, counter))
            .context("no thread for the service behind the gate")?;
        let (service, keys) = started.recv().context("the service behind the gate did not start")??;
        Ok(Self { service, keys, reached, interrupted })
    }

    /// How many calls reached the service.
    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::SeqCst)
    }

    /// Waits for `time`, and fails at once if a signal says to stop.
    pub(super) fn pause(&self, time: Duration) -> Result<()> {
        match self.interrupted.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => bail!("interrupted"),
        }
    }

    /// Waits for Ctrl-C, SIGTERM or SIGHUP.
    pub(super) fn wait_for_interrupt(&self) {
        // If the thread is gone, so is whoever could say so: then it is time to stop, too.
        let _ = self.interrupted.recv();
    }
}

type Ready = Sender<Result<(SocketAddr, SocketAddr)>>;

fn serve(ready: &Ready, interrupt: Sender<()>, key_set: PathBuf, reached: Arc<AtomicU64>) {
    let ran = tokio::runtime::Builder::new_current_thread().enable_all().build().map(|runtime| {
        LocalSet::new().block_on(&runtime, async {
            match listen().await {
                Err(error) => drop(ready.send(Err(error))),
                Ok((service, keys, addresses)) => {
                    spawn_local(accept(service, Backend::Echo(reached)));
                    spawn_local(accept(keys, Backend::KeySet(key_set)));
                    // Signals from here on come to us: the story ends in good order.
                    spawn_local(signals(interrupt));
                    let _ = ready.send(Ok(addresses));
                    std::future::pending::<()>().await;
                }
            }
        });
    });
    if let Err(error) = ran {
        let _ = ready.send(Err(error.into()));
    }
}

async fn listen() -> Result<(TcpListener, TcpListener, (SocketAddr, SocketAddr))> {
    let service = TcpListener::bind(("127.0.0.1", 0)).await.context("no loopback port to be had")?;
    let keys = TcpListener::bind(("127.0.0.1", 0)).await.context("no loopback port to be had")?;
    let addresses = (service.local_addr()?, keys.local_addr()?);
    Ok((service, keys, addresses))
}

async fn signals(interrupt: Sender<()>) {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut int), Ok(mut term), Ok(mut hup)] = kinds.map(signal) else {
        return;
    };
    loop {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            // The terminal is gone; the gate, which only reloads at this, must not outlive it.
            _ = hup.recv() => {}
        }
        if interrupt.send(()).is_err() {
            return;
        }
    }
}

/// What answers on a listener.
#[derive(Clone)]
enum Backend {
    Echo(Arc<AtomicU64>),
    KeySet(PathBuf),
}

async fn accept(listener: TcpListener, backend: Backend) {
    while let Ok((stream, _)) = listener.accept().await {
        let backend = backend.clone();
        spawn_local(async move {
            let answer = service_fn(move |request| answer(backend.clone(), request));
            // A connection that breaks is the gate's to tell of.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn answer(backend: Backend, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match backend {
        Backend::Echo(reached) => {
            reached.fetch_add(1, Ordering::SeqCst);
            text(StatusCode::OK, echo(request).await)
        }
        Backend::KeySet(path) => match std::fs::read(path) {
            Ok(keys) => text(StatusCode::OK, keys),
            Err(_) => text(StatusCode::NOT_FOUND, "no keys yet\n"),
        },
    })
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

/// Tells the caller what arrived here.
async fn echo(request: Request<Incoming>) -> String {
    let mut told = format!("the service got: {} {}\n", request.method(), request.uri());
    for name in ["x-auth-subject", "x-auth-roles", "authorization"] {
        for value in request.headers().get_all(name) {
            told.push_str(&format!("  {name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        }
    }
    if let Ok(body) = Limited::new(request.into_body(), 1 << 16).collect().await {
        let body = body.to_bytes();
        if !body.is_empty() {
            told.push_str(&format!("  body: {}\n", String::from_utf8_lossy(&body)));
        }
    }
    told
}
