//! A bare proxy: an acceptor, hyper on both sides, and nothing decided or written. What a proxy on hyper costs at least.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::uri::PathAndQuery;
use http::{Request, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Serves until ended: each connection goes to the one of `workers` runtimes, of one thread each, that has the fewest.
pub(crate) fn per_core<S, F>(listener: &TcpListener, workers: usize, serve: S)
where
    S: Fn(TcpStream) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let workers: Vec<_> = (0..workers).map(|_| worker(serve.clone())).collect();
    for stream in listener.incoming().flatten() {
        let (inbox, open) = workers.iter().min_by_key(|(_, open)| open.load(Ordering::Acquire)).unwrap();
        stream.set_nonblocking(true).unwrap();
        open.fetch_add(1, Ordering::AcqRel);
        inbox.send(stream).unwrap();
    }
}

/// The same on one runtime whose threads share their tasks.
#[allow(dead_code, reason = "not asked for by every bench")]
pub(crate) fn shared(listener: TcpListener, workers: usize, upstream: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    runtime.unwrap().block_on(async move {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(pass(stream, upstream));
        }
    });
}

type Worker = (mpsc::UnboundedSender<std::net::TcpStream>, Arc<AtomicUsize>);

fn worker<S, F>(serve: S) -> Worker
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (inbox, mut accepted) = mpsc::unbounded_channel::<std::net::TcpStream>();
    let open = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&open);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            while let Some(stream) = accepted.recv().await {
                let counted = Arc::clone(&counted);
                let served = serve(TcpStream::from_std(stream).unwrap());
                tokio::spawn(async move {
                    served.await;
                    counted.fetch_sub(1, Ordering::AcqRel);
                });
            }
        });
    });
    (inbox, open)
}

/// Passes the calls of one connection on; HTTP/1.1 or HTTP/2, as the caller begins.
pub(crate) async fn pass(stream: TcpStream, upstream: SocketAddr) {
    stream.set_nodelay(true).unwrap();
    let idle: Idle = Arc::default();
    let call = move |mut request: Request<Incoming>| {
        let idle = Arc::clone(&idle);
        async move {
            to_origin_form(&mut request);
            let ready = idle.lock().unwrap().pop();
            let mut sender = match ready {
                Some(sender) if sender.is_ready() => sender,
                _ => dial(upstream).await,
            };
            let response = sender.send_request(request).await;
            idle.lock().unwrap().push(sender);
            response
        }
    };
    // The caller may hang up at any time.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service_fn(call))
        .await;
}

/// Connections to the upstream of one connection's calls: cheaper than any pool for all could be.
type Idle = Arc<Mutex<Vec<SendRequest<Incoming>>>>;

async fn dial(address: SocketAddr) -> SendRequest<Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move {
        // It ends when its other end goes, or when the sender is dropped.
        let _ = connection.await;
    });
    sender
}

/// HTTP/2 names the host in the target, HTTP/1.1 beside it.
fn to_origin_form(request: &mut Request<Incoming>) {
    if let Some(authority) = request.uri().authority().cloned() {
        let host = authority.as_str().parse().unwrap();
        request.headers_mut().insert(header::HOST, host);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    }
}
