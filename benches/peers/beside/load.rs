//! Calls over HTTP/1.1 connections that stay open, at a fixed rate or one after another.
//!
//! At a fixed rate each call has its time. One that could not go out in time, since its connection still waited for the answer
//! before, counts from the time it had (else a slow answer would hide the calls that it held up); one whose connection was
//! free counts from when it was sent, since tokio's timers may be late by a millisecond and that is not the proxy's doing.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// The bytes of each request, from lines of method, path and token.
pub(crate) fn requests(lines: &str, target: SocketAddr) -> Vec<Vec<u8>> {
    let request = |line: &str| {
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap().to_owned();
        let (method, path, token) = (next(), next(), next());
        format!("{method} {path} HTTP/1.1\r\nHost: {target}\r\nAuthorization: Bearer {token}\r\n\r\n")
            .into_bytes()
    };
    lines.lines().map(request).collect()
}

/// Calls for `time`; what it saw, as JSON.
pub(crate) fn run(
    target: SocketAddr,
    connections: usize,
    time: Duration,
    rate: f64,
    requests: Vec<Vec<u8>>,
) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let requests = Rc::new(requests);
    // Nobody calls before all are connected.
    let start = Instant::now() + Duration::from_millis(200);
    let interval = (rate > 0.0).then(|| Duration::from_secs_f64(connections as f64 / rate));
    let (mut waits, mut errors) = (Vec::new(), 0);
    LocalSet::new().block_on(&runtime, async {
        let callers: Vec<_> = (0..connections)
            .map(|number| {
                let share = number as f64 / connections as f64;
                let caller = Caller {
                    requests: Rc::clone(&requests),
                    next: number * requests.len() / connections,
                    first: start + interval.unwrap_or_default().mul_f64(share),
                    until: start + time,
                    interval,
                };
                tokio::task::spawn_local(caller.call(target))
            })
            .collect();
        for caller in callers {
            let (mut seen, failed) = caller.await.unwrap();
            waits.append(&mut seen);
            errors += failed;
        }
    });
    waits.sort_unstable();
    let at = |share: f64| {
        let index = (waits.len().saturating_sub(1) as f64 * share).round() as usize;
        waits.get(index).map_or(0, Duration::as_micros) as u64
    };
    json!({ "requests": waits.len(), "errors": errors, "rate": waits.len() as f64 / time.as_secs_f64(),
            "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": at(1.0) })
}

/// One connection.
struct Caller {
    requests: Rc<Vec<Vec<u8>>>,
    next: usize,
    first: Instant,
    until: Instant,
    interval: Option<Duration>,
}

impl Caller {
    /// How long each call took, and how many were answered by another status than 200, or not at all.
    async fn call(mut self, target: SocketAddr) -> (Vec<Duration>, u64) {
        let mut stream = TcpStream::connect(target).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut waits, mut errors, mut due, mut buffer) = (Vec::new(), 0, self.first, Vec::new());
        tokio::time::sleep_until(due.into()).await;
        loop {
            let began = match self.interval {
                None => Instant::now(),
                Some(_) if due <= Instant::now() => due,
                Some(_) => {
                    tokio::time::sleep_until(due.into()).await;
                    Instant::now()
                }
            };
            if Instant::now() >= self.until {
                return (waits, errors);
            }
            due += self.interval.unwrap_or_default();
            let request = self.requests.get(self.next).unwrap();
            self.next = (self.next + 1) % self.requests.len();
            match one(&mut stream, request, &mut buffer).await {
                Ok(200) => waits.push(began.elapsed()),
                Ok(_) => errors += 1,
                Err(_) => return (waits, errors + 1),
            }
        }
    }
}

/// Sends one request and reads its answer, whose length must be given; its status.
async fn one(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> std::io::Result<u16> {
    stream.write_all(request).await?;
    buffer.clear();
    let (status, whole) = loop {
        if let Some(head) = head(buffer) {
            break head;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    while buffer.len() < whole {
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(status)
}

/// The status, and how many bytes the whole answer has; `None` if the head is not whole yet.
fn head(bytes: &[u8]) -> Option<(u16, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes).unwrap() else { return None };
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(0, |field| std::str::from_utf8(field.value).unwrap().parse().unwrap());
    Some((response.code.unwrap(), head + length))
}
