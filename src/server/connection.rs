//! TLS and HTTP on one connection.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, Request, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::drain::{Drain, OpenConnection, Phase};
use super::faults::{Fault, Faults};
use super::filter::{Filtered, Findings};
use super::layers::{Arrival, serve};
use super::pace::{Pace, Paced};
use super::resets::Resets;
use super::stream::watched;
use crate::access::certificate::Need;
use crate::access::framing::Bounds;
use crate::access::route::Routes;
use crate::access::{self, Connection};
use crate::authn::certificate;
use crate::net::ServerTls;
use crate::proxy::live::{Limits, Live};
use crate::proxy::{Proxy, TURNS};

/// What serving connections takes, on one worker.
#[derive(Clone)]
pub struct Host {
    /// The gate.
    pub proxy: Proxy,
    /// The snapshot that calls see.
    pub live: Arc<ArcSwap<Live>>,
    /// Going down.
    pub drain: Drain,
    /// Where faults are counted.
    pub faults: Faults,
    /// Numbers for calls.
    pub numbers: Rc<Numbers>,
}

/// Serves `stream` until it ends, or until its calls in flight have ended after the drain began.
pub async fn serve_connection(host: Host, stream: TcpStream, peer: SocketAddr, open: OpenConnection) {
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let live = host.live.load_full();
    let face = host.proxy.face();
    let Some(tls) = live.tls(face) else {
        return serve_http(host, stream, (Connection::without_certificate(peer, None), open)).await;
    };
    let shaken = handshake(tls, live.routes(face), stream, peer);
    match tokio::time::timeout(live.limits.header_timeout, shaken).await {
        Ok(Some((stream, connection))) => {
            // The connection must not hold on to what a reload has replaced.
            drop(live);
            serve_http(host, stream, (connection, open)).await;
        }
        Ok(None) | Err(_) => {
            host.faults.count(Fault::TlsHandshake);
        }
    }
}

/// Shakes hands. The client is asked for its certificate if the host that it names has a service that wants to see one;
/// if it names none, if any service does. One that is shown and does not hold ends the connection here.
async fn handshake(
    tls: &ServerTls,
    routes: &Routes,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<(TlsStream<TcpStream>, Connection)> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()?;
    let sni = match hello.client_hello().server_name() {
        // rustls has checked that it is a name; ours is the same form as that of calls.
        Some(name) => Some(Arc::<str>::from(access::host::Host::read(name, true).ok()?.name())),
        None => None,
    };
    let (config, asked) = tls.config(routes.need(sni.as_deref()) != Need::Off);
    let stream = hello.into_stream(config).await.ok()?;
    let session = stream.get_ref().1;
    let certificate = match session.peer_certificates() {
        Some(chain) => Some(Arc::new(certificate::read(chain).ok()?)),
        None => None,
    };
    let version = session.protocol_version().and_then(|version| version.as_str());
    let version = version.map_or("TLS", tls_name);
    Some((stream, Connection { peer, tls: Some(version), sni, asked, certificate }))
}

async fn serve_http<S>(host: Host, stream: S, (connection, mut open): (Connection, OpenConnection))
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = host.live.load().limits.clone();
    let builder = http(&limits);
    let pace = Pace::new(limits.header_timeout, limits.idle_timeout);
    let findings = Rc::<Findings>::default();
    let service = {
        // What all workers share is counted once for a connection: a count that every core changes for every call is slow.
        let (host, pace, findings) = (Rc::new(host.clone()), Rc::clone(&pace), Rc::clone(&findings));
        let (calls, turns) = (Cell::new(0), Arc::new(Semaphore::new(TURNS)));
        service_fn(move |request: Request<Incoming>| {
            let call = pace.begin(request.version() == Version::HTTP_2);
            let arrival = Arrival {
                live: host.live.load_full(),
                connection: connection.clone(),
                fresh: host.numbers.next(),
                turns: Arc::clone(&turns),
                unreadable: findings.take(calls.replace(calls.get() + 1)),
            };
            let host = Rc::clone(&host);
            let framed = request.version() == Version::HTTP_2;
            async move {
                let (mut response, place) = serve(&host, arrival, request).await;
                if host.drain.phase() >= Phase::Closing && !framed {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response.map(|body| call.until_end_of(body, place)))
            }
        })
    };
    let bounds = Bounds { bytes: limits.header_bytes, fields: limits.headers };
    let stream = Paced::new(stream, Rc::clone(&pace));
    let stream = TokioIo::new(Filtered::new(stream, bounds, findings, Resets::new(host.faults.clone())));
    let mut serving = pin!(builder.serve_connection(stream, service));
    let mut overrun = pin!(pace.overrun());
    let mut ending = pin!(end_of_calls(&host.drain, &pace));
    let mut ended = false;
    let mut settle: Option<Pin<Box<tokio::time::Sleep>>> = None;
    loop {
        tokio::select! {
            // What has arrived is read before the connection is told to end.
            biased;
            ended = &mut serving => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended in error");
                    host.faults.count(Fault::Http);
                }
                return;
            }
            () = &mut overrun => return host.faults.count(Fault::Overrun),
            () = &mut ending, if !ended => {
                ended = true;
                serving.as_mut().graceful_shutdown();
                // Streams that a peer began before it heard of that are still taken.
                settle = Some(Box::pin(tokio::time::sleep(QUIET)));
            }
            () = async { if let Some(settle) = &mut settle { settle.await } }, if settle.is_some() => {
                settle = None;
                open.settle();
            }
        }
    }
}

/// Waits until the connection is to be told to end.
async fn end_of_calls(drain: &Drain, pace: &Pace) {
    loop {
        drain.reached(Phase::Closing).await;
        match drain.phase() {
            Phase::Draining => return,
            // The way back is open.
            Phase::Serving => {}
            Phase::Closing if pace.may_end(LONG_QUIET) => return,
            Phase::Holding if pace.may_end(QUIET) => return,
            Phase::Closing => {
                let _ = tokio::time::timeout(LONG_QUIET / 4, drain.reached(Phase::Holding)).await;
            }
            Phase::Holding => {
                let _ = tokio::time::timeout(QUIET / 4, drain.begun()).await;
            }
        }
    }
}

/// A TLS version as its RFC writes it.
fn tls_name(rustls: &'static str) -> &'static str {
    match rustls {
        "TLSv1_3" => "TLSv1.3",
        "TLSv1_2" => "TLSv1.2",
        other => other,
    }
}

fn http(limits: &Limits) -> auto::Builder<LocalExecutor> {
    let mut builder = auto::Builder::new(LocalExecutor);
    builder
        .http1()
        .timer(TokioTimer::new())
        // The pace bounds it.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes.max(SMALLEST_BUFFER))
        .max_headers(limits.headers);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.header_timeout);
    builder
}

/// Runs hyper's own tasks, which are HTTP/2 streams, on the worker they belong to.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(watched(future));
    }
}

/// Numbers that no other call gets: a keyed bijection over a counter, so they are spread like random ones.
#[derive(Debug)]
pub struct Numbers {
    keys: [u64; 2],
    count: Cell<u64>,
}

impl Numbers {
    /// Numbers under a fresh random key.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self { keys: [getrandom::u64()?, getrandom::u64()?], count: Cell::new(0) })
    }

    /// The next one.
    pub fn next(&self) -> u128 {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        let [high, low] = self.keys.map(|key| mix(key.wrapping_add(count)));
        u128::from(high) << 64 | u128::from(low)
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection on 64 bits.
const fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How long a connection must have been silent to be let go while new ones are still taken: most that are in use bring a
/// call within it, whose answer then says that it was the last.
const LONG_QUIET: Duration = Duration::from_secs(1);

/// The same once connections wait for who accepts next.
const QUIET: Duration = Duration::from_millis(200);

/// The least hyper takes for its buffer.
const SMALLEST_BUFFER: usize = 8192;

/// Resets a peer may cause before its connection is closed (CVE-2023-44487).
const MAX_RESETS: usize = 32;
