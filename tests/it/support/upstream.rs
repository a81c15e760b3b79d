//! A service behind the gate. It keeps a list of every request that reached it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;

use super::gate::Tls;

/// What a service does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Reads the body, then answers 200 with `hello`.
    Answer,
    /// Answers only once [`Upstream::release`] was called.
    Hold,
    /// Answers with the request's own body and trailers, frame by frame.
    Echo,
    /// Closes the connection without an answer.
    Hang,
    /// Promises 100 bytes, sends 5, and closes the connection once released.
    Cut,
    /// Answers with a trailer `x-checksum: 7`.
    Trailers,
    /// Sends 64 KiB chunks without end, as fast as they are taken.
    Flood,
    /// Sends a first chunk, and the rest once released.
    HoldBody,
    /// Answers with headers that only the gate may set.
    Spoof,
    /// Sends the caller elsewhere.
    Redirect(SocketAddr),
}

/// A request that reached the service.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query, as they were on the wire.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

/// A running service. It ends when dropped.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    release: watch::Sender<bool>,
    stop: Option<oneshot::Sender<()>>,
}

struct Shared {
    act: Act,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    chunks: AtomicUsize,
    released: watch::Receiver<bool>,
}

impl Upstream {
    pub fn start(act: Act) -> Self {
        Self::start_with(act, None)
    }

    /// Over TLS, with the certificate of the tests.
    pub fn start_tls(act: Act) -> Self {
        Self::start_with(act, Some(TlsAcceptor::from(Tls::shared().server_config(&[b"http/1.1"]))))
    }

    fn start_with(act: Act, tls: Option<TlsAcceptor>) -> Self {
        let (release, released) = watch::channel(false);
        let shared = Arc::new(Shared {
            act,
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            chunks: AtomicUsize::new(0),
            released,
        });
        let (stop, stopped) = oneshot::channel();
        let (ready, address) = std::sync::mpsc::channel();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = accept(listener, tls, serving) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address: address.recv().unwrap(), shared, release, stop: Some(stop) }
    }

    /// Everything that has reached it.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many requests have reached it.
    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// The only request that has reached it.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.into_iter().next().unwrap()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many of its connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many chunks of a flood were taken from it.
    pub fn chunks(&self) -> usize {
        self.shared.chunks.load(Ordering::SeqCst)
    }

    /// Lets go of what it holds.
    pub fn release(&self) {
        self.release.send(true).unwrap();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        match tls.clone() {
            None => drop(tokio::spawn(serve(stream, shared))),
            Some(tls) => drop(tokio::spawn(async move {
                if let Ok(stream) = tls.accept(stream).await {
                    serve(stream, shared).await;
                }
            })),
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    shared.open.fetch_add(1, Ordering::SeqCst);
    let service = service_fn(|request| answer(request, Arc::clone(&shared)));
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Answer, std::io::Error> {
    let (head, mut body) = request.into_parts();
    let at = {
        let mut seen = shared.seen.lock().unwrap();
        seen.push(Seen {
            method: head.method.to_string(),
            target: head.uri.to_string(),
            headers: head.headers,
            body: Vec::new(),
            trailers: None,
        });
        seen.len() - 1
    };
    let broken = || std::io::Error::other("closed on purpose");
    match shared.act {
        Act::Echo => {
            let note = Arc::clone(&shared);
            let echoed = body.map_frame(move |frame| {
                note.keep(at, &frame);
                frame
            });
            return Ok(Response::new(echoed.map_err(std::io::Error::other).boxed_unsync()));
        }
        Act::Hang => return Err(broken()),
        _ => {}
    }
    while let Some(frame) = body.frame().await {
        shared.keep(at, &frame.map_err(std::io::Error::other)?);
    }
    Ok(match shared.act {
        Act::Answer | Act::Echo | Act::Hang => full("hello"),
        Act::Hold => {
            shared.released().await;
            full("held")
        }
        Act::Cut => {
            let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"hello")))]);
            let end = futures_util::stream::once(async move {
                shared.released().await;
                Err(broken())
            });
            let cut = StreamBody::new(first.chain(end));
            Response::builder().header("content-length", "100").body(cut.boxed_unsync()).unwrap()
        }
        Act::Trailers => {
            let trailers = HeaderMap::from_iter([("x-checksum".parse().unwrap(), "7".parse().unwrap())]);
            let body = StreamBody::new(futures_util::stream::iter([
                Ok(Frame::data(Bytes::from_static(b"hello"))),
                Ok(Frame::trailers(trailers)),
            ]));
            Response::builder().header("trailer", "x-checksum").body(body.boxed_unsync()).unwrap()
        }
        Act::Flood => Response::new(Flood(shared).boxed_unsync()),
        Act::HoldBody => {
            let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"first ")))]);
            let second = futures_util::stream::once(async move {
                shared.released().await;
                Ok(Frame::data(Bytes::from_static(b"second")))
            });
            Response::new(StreamBody::new(first.chain(second)).boxed_unsync())
        }
        Act::Redirect(to) => Response::builder()
            .status(302)
            .header("location", format!("http://{to}/elsewhere"))
            .body(full("elsewhere").into_body())
            .unwrap(),
        Act::Spoof => Response::builder()
            .header("portcullis-record", "spoof/1")
            .header("x-request-id", "spoof")
            .header("portcullis-assertion", "spoof")
            .header("connection", "x-secret")
            .header("x-secret", "1")
            .body(full("hello").into_body())
            .unwrap(),
    })
}

impl Shared {
    fn keep(&self, at: usize, frame: &Frame<Bytes>) {
        let mut seen = self.seen.lock().unwrap();
        if let Some(data) = frame.data_ref() {
            seen[at].body.extend_from_slice(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            seen[at].trailers = Some(trailers.clone());
        }
    }

    async fn released(&self) {
        let mut released = self.released.clone();
        // The service going away releases as well.
        let _ = released.wait_for(|released| *released).await;
    }
}

fn full(text: &'static str) -> Answer {
    let never = |never: Infallible| match never {};
    Response::new(Full::new(Bytes::from_static(text.as_bytes())).map_err(never).boxed_unsync())
}

struct Flood(Arc<Shared>);

impl Body for Flood {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        static CHUNK: [u8; 65_536] = [b'x'; 65_536];
        self.0.chunks.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK)))))
    }
}
