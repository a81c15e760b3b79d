//! Callers that never stop, and keep a ledger of what was answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::client::{HOST, empty, whole};
use crate::support::{Client, Wire};

/// Callers of every kind at work.
pub(super) struct Callers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    number: AtomicU64,
    stop: AtomicBool,
    count: AtomicUsize,
    answered: Mutex<Vec<String>>,
}

impl Callers {
    pub(super) fn start(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            address,
            number: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            count: AtomicUsize::new(0),
            answered: Mutex::default(),
        });
        let kinds: [fn(&Shared); 3] = [fresh, kept, multiplexed];
        let threads = (0..9)
            .map(|n| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || kinds[n % 3](&shared))
            })
            .collect();
        Self { shared, threads }
    }

    pub(super) fn answered(&self) -> usize {
        assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a caller has given up");
        self.shared.count.load(Ordering::SeqCst)
    }

    /// Ends them; the paths of all calls that were answered.
    pub(super) fn stop(self) -> Vec<String> {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        std::mem::take(&mut self.shared.answered.lock().unwrap())
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    fn path(&self) -> String {
        format!("/public/{}", self.number.fetch_add(1, Ordering::SeqCst))
    }

    fn note(&self, path: String, status: u16) {
        assert_eq!(status, 200, "{path}");
        self.answered.lock().unwrap().push(path);
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connection a call: none may fail.
fn fresh(shared: &Shared) {
    let client = Client::http1(shared.address);
    while shared.goes_on() {
        let path = shared.path();
        let answer = client.get(&path, None);
        shared.note(path, answer.status);
    }
}

/// One connection for as long as it is kept. A call on one that ends before a byte of its answer is made again on
/// another, as RFC 9112 section 9.5 asks of clients; one whose end was announced is not used again.
fn kept(shared: &Shared) {
    let mut wire = Wire::open(shared.address);
    while shared.goes_on() {
        let path = shared.path();
        let sent = wire.try_send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        match sent.ok().and_then(|()| wire.answer()) {
            Some(answer) => {
                if answer.header("connection") == Some("close") {
                    assert!(wire.ends());
                    wire = Wire::open(shared.address);
                }
                shared.note(path, answer.status);
            }
            None => wire = Wire::open(shared.address),
        }
    }
}

/// HTTP/2, several streams at once. A connection that has said GOAWAY is not used again; calls on it are answered.
fn multiplexed(shared: &Shared) {
    crate::support::block_on(async {
        while shared.goes_on() {
            let stream = TcpStream::connect(shared.address).await.unwrap();
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            let streams = (0..4).map(|_| {
                let mut sender = sender.clone();
                async move {
                    let client = Client::http2(shared.address);
                    while shared.goes_on() && sender.ready().await.is_ok() {
                        let path = shared.path();
                        let request = client.request("GET", &path, None, &[], empty());
                        match sender.try_send_request(request).await {
                            Ok(response) => {
                                let answer = whole(response).await.unwrap();
                                shared.note(path, answer.status);
                            }
                            Err(mut error) => {
                                let unsent = error.take_message().is_some();
                                assert!(unsent, "{path}: {:?}", error.into_error());
                                return;
                            }
                        }
                    }
                }
            });
            futures_util::future::join_all(streams).await;
        }
    });
}
