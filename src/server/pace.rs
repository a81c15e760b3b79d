//! How long a connection may keep the gate waiting: for the first byte of a request, and from there for the end of its
//! head.
//!
//! hyper has one timer for both, which would either cut kept connections short or give slow heads all the time in the
//! world.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::stream::Watch;
use crate::net::poll_write_pieces;
use crate::proxy::body::{Body, BodyError};
use crate::proxy::room::Place;

/// What one connection is doing, shared by its socket, its calls and its watch.
#[derive(Debug)]
pub struct Pace {
    doing: Cell<Doing>,
    calls: Cell<usize>,
    /// HTTP/2 has frames between requests; once it is spoken, only the time since the last call counts.
    framed: Cell<bool>,
    /// HTTP/2 has been begun, or not; `None` before the first byte.
    preface: Cell<Option<bool>>,
    /// Since when the peer has taken nothing of what is to be sent.
    stalled: Cell<Option<Instant>>,
    /// How long it may take nothing.
    patience: Cell<Duration>,
    /// It has taken nothing for too long, and the connection ends for it.
    given_up: Cell<bool>,
    head: Duration,
    idle: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Doing {
    /// Nothing, since.
    Idle(Instant),
    /// A head is arriving, since.
    Head(Instant),
    /// A call is being served.
    Serving,
}

/// A call being served; it counts until its answer's body is dropped.
#[derive(Debug)]
pub struct Call(Rc<Pace>);

/// A socket that tells the pace when a head begins.
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    pace: Rc<Pace>,
}

impl Pace {
    /// A connection that has just begun. A head may take `head` from its first byte, and a connection may lie `idle`.
    pub fn new(head: Duration, idle: Duration) -> Rc<Self> {
        let doing = Cell::new(Doing::Idle(Instant::now()));
        let (calls, framed, preface, stalled) =
            (Cell::new(0), Cell::new(false), Cell::new(None), Cell::new(None));
        let (patience, given_up) = (Cell::new(idle), Cell::new(false));
        Rc::new(Self { doing, calls, framed, preface, stalled, patience, given_up, head, idle })
    }

    /// A head has arrived whole. `framed`: by HTTP/2.
    pub fn begin(self: &Rc<Self>, framed: bool) -> Call {
        self.framed.set(framed);
        self.patience.set(self.idle);
        self.calls.set(self.calls.get() + 1);
        self.doing.set(Doing::Serving);
        Call(Rc::clone(self))
    }

    /// Whether the connection may be told to end now, without cutting off a call that is on its way in: HTTP/2 can say
    /// which streams it still takes; HTTP/1 ends after the call it serves; and what has been silent for `linger` has
    /// hardly just sent a call. RFC 9112 section 9.5 leaves the rest to the client.
    pub fn may_end(&self, linger: Duration) -> bool {
        self.preface.get() == Some(true)
            || match self.doing.get() {
                Doing::Idle(since) => since.elapsed() >= linger,
                Doing::Head(_) => false,
                Doing::Serving => true,
            }
    }

    /// Returns once the connection has kept the gate waiting for too long.
    pub async fn overrun(&self) {
        loop {
            let now = Instant::now();
            let next = match self.doing.get() {
                Doing::Idle(since) if now >= since + self.idle => return,
                Doing::Head(since) if now >= since + self.head => return,
                Doing::Serving
                    if self.stalled.get().is_some_and(|since| now >= since + self.patience.get()) =>
                {
                    self.given_up.set(true);
                    return;
                }
                Doing::Idle(since) => since + self.idle,
                Doing::Head(since) => since + self.head,
                Doing::Serving => now + self.head.min(self.patience.get()),
            };
            // What it does may change meanwhile: look often enough that a slow head overruns by no more than half.
            let often = now + self.head / 2;
            tokio::time::sleep_until(next.min(often).max(now + LEAST)).await;
        }
    }

    fn heard(&self, first: &[u8]) {
        if self.preface.get().is_none() {
            self.preface.set(Some(first.starts_with(PREFACE)));
        }
        match self.doing.get() {
            Doing::Idle(_) if !self.framed.get() => self.doing.set(Doing::Head(Instant::now())),
            Doing::Idle(_) | Doing::Head(_) | Doing::Serving => {}
        }
    }

    /// Notes whether the peer took what was to be sent.
    fn sent<T>(&self, polled: Poll<T>) -> Poll<T> {
        match (&polled, self.stalled.get()) {
            (Poll::Ready(_), Some(_)) => self.stalled.set(None),
            (Poll::Pending, None) => self.stalled.set(Some(Instant::now())),
            (Poll::Ready(_), None) | (Poll::Pending, Some(_)) => {}
        }
        polled
    }
}

impl Call {
    /// `body`, with the call going on until it is dropped, and its `place` kept as long. To be called by the task that
    /// sends it.
    pub fn until_end_of(self, body: Body, place: Option<Arc<Place>>) -> Answering {
        let patience = body.patience().unwrap_or(self.0.idle);
        let stream = Watch::of_this_stream().map(|watch| (watch, patience));
        if stream.is_none() {
            // HTTP/1 has one answer at a time, and the connection's patience is that answer's.
            self.0.patience.set(patience);
        }
        let answering = Answering { body, stream, call: self, _place: place };
        answering.handed_over();
        answering
    }
}

/// The body of an answer, whose call goes on until it is dropped.
pub struct Answering {
    body: Body,
    /// Where it is sent on an HTTP/2 stream: the stream's watch, and how long the caller may take nothing.
    stream: Option<(Rc<Watch>, Duration)>,
    call: Call,
    _place: Option<Arc<Place>>,
}

impl Answering {
    /// The sender has something to send; it asks for more when the caller has room for more.
    fn handed_over(&self) {
        if let Some((watch, patience)) = &self.stream {
            watch.wait(*patience);
        }
    }
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match (&polled, &self.stream) {
            (Poll::Ready(Some(Ok(_))), _) => self.handed_over(),
            (_, Some((watch, _))) => watch.rest(),
            (_, None) => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let watch = self.stream.as_ref().map(|(watch, _)| watch);
        if self.call.0.given_up.get() || watch.is_some_and(|watch| watch.has_given_up()) {
            self.body.caller_stalled();
        }
        if let Some(watch) = watch {
            watch.rest();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let pace = &self.0;
        pace.calls.set(pace.calls.get().saturating_sub(1));
        if pace.calls.get() == 0 {
            pace.doing.set(Doing::Idle(Instant::now()));
        }
    }
}

impl<S> Paced<S> {
    /// Watches what `stream` hears.
    pub const fn new(stream: S, pace: Rc<Pace>) -> Self {
        Self { stream, pace }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() && buf.filled().len() > before {
            self.pace.heard(buf.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.pace.sent(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.pace.sent(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = poll_write_pieces(Pin::new(&mut self.stream), cx, bufs);
        self.pace.sent(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// How HTTP/2 begins (RFC 9113 section 3.4), as far as no HTTP/1 method does.
const PREFACE: &[u8] = b"PRI";

/// The watch never spins.
const LEAST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);

    fn run(claim: impl AsyncFnOnce()) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(claim());
    }

    async fn waited(pace: &Pace) -> u64 {
        let began = Instant::now();
        pace.overrun().await;
        began.elapsed().as_secs()
    }

    #[test]
    fn a_silent_connection_may_lie_idle_and_no_longer() {
        run(async || assert_eq!(waited(&Pace::new(HEAD, IDLE)).await, 75));
    }

    #[test]
    fn a_slow_head_is_cut_however_often_it_sends_a_byte() {
        run(async || {
            let pace = Pace::new(HEAD, IDLE);
            pace.heard(b"G");
            let dripping = async {
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    pace.heard(b"G");
                }
            };
            tokio::select! {
                secs = waited(&pace) => assert!((10..=15).contains(&secs), "{secs}"),
                () = dripping => {}
            }
        });
    }

    #[test]
    fn a_peer_that_takes_nothing_of_its_answer_is_let_go() {
        run(async || {
            let pace = Pace::new(HEAD, IDLE);
            let _call = pace.begin(false);
            let _ = pace.sent(Poll::<()>::Pending);
            tokio::time::sleep(Duration::from_secs(60)).await;
            let _ = pace.sent(Poll::Ready(()));
            let _ = pace.sent(Poll::<()>::Pending);
            assert!((75..=80).contains(&waited(&pace).await));
        });
    }

    #[test]
    fn a_connection_may_end_when_no_call_can_be_cut_off() {
        run(async || {
            let linger = Duration::from_secs(1);
            let pace = Pace::new(HEAD, IDLE);
            assert!(!pace.may_end(linger), "its first call may be on its way");
            tokio::time::sleep(linger).await;
            assert!(pace.may_end(linger));
            pace.heard(b"GET /");
            assert!(!pace.may_end(Duration::ZERO), "a head is arriving");
            let call = pace.begin(false);
            assert!(pace.may_end(linger), "it ends after this call");
            drop(call);
            assert!(!pace.may_end(linger));
            let http2 = Pace::new(HEAD, IDLE);
            http2.heard(b"PRI * HTTP/2.0");
            assert!(http2.may_end(linger), "it says which streams it still takes");
        });
    }

    #[test]
    fn a_call_may_take_its_time_and_idleness_begins_when_it_ends() {
        run(async || {
            let pace = Pace::new(HEAD, IDLE);
            pace.heard(b"G");
            let call = pace.begin(false);
            assert!(tokio::time::timeout(Duration::from_secs(1000), pace.overrun()).await.is_err());
            drop(call);
            assert_eq!(waited(&pace).await, 75);
        });
    }
}
