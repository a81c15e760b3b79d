//! Callers of all kinds at once, who write down what they were told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};

use super::ledger::Told;
use super::table::tell;
use crate::support::client::{Client, HOST, empty, whole};
use crate::support::{Gate, Signer, Wire};

/// Callers that go on until they are stopped or the gate is gone.
pub struct Load {
    shared: Arc<Shared>,
    callers: Vec<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    token: String,
    number: Arc<AtomicU64>,
    stop: AtomicBool,
    told: Mutex<Vec<Told>>,
}

impl Load {
    /// Begins calling. `number` makes each path unlike any other; it grows by one for each call.
    pub fn start(gate: &Gate, number: &Arc<AtomicU64>) -> Self {
        let shared = Arc::new(Shared {
            address: gate.front,
            token: Signer::usual().token("alice", &["viewer"]),
            number: Arc::clone(number),
            stop: AtomicBool::new(false),
            told: Mutex::default(),
        });
        let kinds: [fn(&Shared); 4] = [plain, plain, slow, http2];
        let callers = kinds
            .into_iter()
            .map(|kind| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || kind(&shared))
            })
            .collect();
        Self { shared, callers }
    }

    /// How many answers there have been.
    pub fn answers(&self) -> usize {
        self.shared.told.lock().unwrap().len()
    }

    /// Stops calling; what the callers were told.
    pub fn finish(self) -> Vec<Told> {
        self.shared.stop.store(true, Ordering::SeqCst);
        for caller in self.callers {
            caller.join().expect("a caller that is never confused");
        }
        std::mem::take(&mut *self.shared.told.lock().unwrap())
    }
}

impl Shared {
    fn next(&self) -> Option<u64> {
        let on = !self.stop.load(Ordering::SeqCst);
        on.then(|| self.number.fetch_add(1, Ordering::SeqCst))
    }

    fn write_down(&self, told: Told) {
        let stands = told.status == 503;
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(told);
        if stands {
            // A log that has failed answers as fast as it is asked.
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

/// HTTP/1.1: calls that are allowed, refused with and without credential, and malformed ones.
fn plain(shared: &Shared) {
    over_http1(shared, |n, token| match n % 8 {
        0 => (format!("/admin/{n}"), String::new(), ""),
        1 => (format!("/admin/{n}"), format!("Authorization: Bearer {token}\r\n"), ""),
        2 => (format!("/public/../{n}"), String::new(), ""),
        3 => (format!("/docs/{n}"), format!("Authorization: Bearer {token}\r\n"), ""),
        _ => (format!("/public/{n}"), String::new(), ""),
    });
}

/// HTTP/1.1 with a body that takes its time.
fn slow(shared: &Shared) {
    over_http1(shared, |n, _| (format!("/public/slow-{n}"), "Content-Length: 8\r\n".into(), "slow"));
}

/// What a caller asks for the `n`th time: target, headers, and half of the body.
type Ask = fn(u64, &str) -> (String, String, &'static str);

fn over_http1(shared: &Shared, ask: Ask) {
    let mut kept: Option<Wire> = None;
    while let Some(n) = shared.next() {
        let (path, headers, half) = ask(n, &shared.token);
        let method = if half.is_empty() { "GET" } else { "POST" };
        let Some(mut wire) = kept.take().or_else(|| Wire::try_open(shared.address).ok()) else { return };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n{half}");
        if wire.try_send(head).is_err() {
            continue;
        }
        if !half.is_empty() {
            std::thread::park_timeout(Duration::from_millis(1));
            // The gate may have answered by now, and closed.
            let _ = wire.try_send(half);
        }
        let Some(answer) = wire.answer() else { continue };
        let record = answer.header("portcullis-record").map(|_| answer.record());
        let close = answer.header("connection").is_some_and(|value| value == "close");
        shared.write_down(Told { path, status: answer.status, record });
        if !close {
            kept = Some(wire);
        }
    }
}

/// HTTP/2: several calls at a time on one connection.
fn http2(shared: &Shared) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Ok(stream) = tokio::net::TcpStream::connect(shared.address).await else { return };
        let Ok((sender, connection)) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await
        else {
            return;
        };
        tokio::spawn(connection);
        let client = Client::http2(shared.address);
        let caller = || async {
            let mut sender = sender.clone();
            while let Some(n) = shared.next() {
                let face = if n % 5 == 0 { "admin" } else { "public" };
                let path = format!("/{face}/h2-{n}");
                let request = client.request("GET", &path, None, &[], empty());
                let Ok(response) = sender.send_request(request).await else { return };
                let (status, headers) = (response.status().as_u16(), response.headers().clone());
                // Its head is its acknowledgement, whether or not its body still comes.
                let _ = whole(response).await;
                let answer = crate::support::Answer { status, headers, body: Vec::new(), trailers: None };
                shared.write_down(tell(&path, &answer));
            }
        };
        futures_util::future::join3(caller(), caller(), caller()).await;
    });
    runtime.shutdown_background();
}
