//! Bodies on their way through: counted, bounded, and followed to their end.

mod pace;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use self::pace::BodyPace;
use super::figures;
use super::headers::{self, IdentityHeaders};
use super::upstream::Borrowed;
use crate::audit::journal::OpenAllow;

pub use self::pace::BodyBounds;

/// Why a body did not pass whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Its sender broke off, or did not keep to the protocol.
    #[error(transparent)]
    Transport(#[from] hyper::Error),
    /// The admin API's own body failed.
    #[error(transparent)]
    Local(#[from] axum::Error),
    /// It is longer than the service takes.
    #[error("the body is longer than the service takes")]
    TooLarge,
    /// Nothing came for too long.
    #[error("the body stood still for too long")]
    Idle,
    /// Too little came for too long.
    #[error("the body came too slowly")]
    Slow,
    /// The answer was over before it was.
    #[error("the body was not wanted any more")]
    Unwanted,
    /// The gate panicked over it.
    #[error("the gate failed over the body")]
    Panicked,
}

/// A caller's body on its way to a service: no longer than its limit, never still for too long, and with no trailers
/// that could pass for the gate's word.
pub struct RequestBody {
    incoming: Incoming,
    left: u64,
    sent: Arc<AtomicU64>,
    idle: IdleTimer,
    pace: BodyPace,
    names: Arc<IdentityHeaders>,
    progress: Arc<RequestProgress>,
}

/// How far a request's body has come, for whoever has the answer to it.
#[derive(Debug, Default)]
pub struct RequestProgress(Mutex<Progress>);

#[derive(Debug, Default)]
struct Progress {
    end: Option<RequestEnd>,
    /// Whoever polls the body, to be told that it is not wanted any more.
    waker: Option<Waker>,
}

/// How a request's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEnd {
    /// All of it was passed on.
    Whole,
    /// It is longer than the service takes.
    TooLarge,
    /// Nothing came for too long.
    Idle,
    /// Too little came for too long.
    Slow,
    /// The caller broke off.
    Broken,
    /// The answer was over before it was.
    Unwanted,
}

impl RequestEnd {
    /// The fault on the caller's side, if it is one: a word for the outcome, and the status to answer.
    pub const fn fault(self) -> Option<(&'static str, StatusCode)> {
        match self {
            Self::Whole | Self::Unwanted => None,
            Self::TooLarge => Some(("request_body_too_large", StatusCode::PAYLOAD_TOO_LARGE)),
            Self::Idle => Some(("request_body_idle", StatusCode::REQUEST_TIMEOUT)),
            Self::Slow => Some(("request_body_slow", StatusCode::REQUEST_TIMEOUT)),
            Self::Broken => Some(("request_body_broken", StatusCode::BAD_REQUEST)),
        }
    }
}

impl RequestProgress {
    /// How the body ended, if it has.
    pub fn end(&self) -> Option<RequestEnd> {
        self.lock().end
    }

    /// The answer is over: what is left of the body goes nowhere. Returns whether nothing was left.
    pub fn stop(&self) -> bool {
        let mut progress = self.lock();
        let whole = *progress.end.get_or_insert(RequestEnd::Unwanted) == RequestEnd::Whole;
        if let Some(waker) = progress.waker.take() {
            waker.wake();
        }
        whole
    }

    fn set(&self, end: RequestEnd) {
        self.lock().end.get_or_insert(end);
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestBody {
    /// Passes `incoming` on within `bounds`, adding what went through to `sent`. `names` are the identity headers.
    pub fn new(
        incoming: Incoming,
        bounds: BodyBounds,
        names: Arc<IdentityHeaders>,
        sent: Arc<AtomicU64>,
    ) -> Self {
        let progress = Arc::new(RequestProgress::default());
        if incoming.is_end_stream() {
            progress.set(RequestEnd::Whole);
        }
        let (idle, pace) = (IdleTimer::new(bounds.idle), BodyPace::new(bounds.idle, bounds.min_rate));
        Self { incoming, left: bounds.bytes, sent, idle, pace, names, progress }
    }

    /// Where to look for how it ends.
    pub fn progress(&self) -> Arc<RequestProgress> {
        Arc::clone(&self.progress)
    }

    fn fail(&self, end: RequestEnd, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.progress.set(end);
        Poll::Ready(Some(Err(error)))
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.progress.end() == Some(RequestEnd::Unwanted) {
            return Poll::Ready(Some(Err(BodyError::Unwanted)));
        }
        let mut frame = match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => return this.fail(RequestEnd::Broken, error.into()),
            Poll::Ready(None) => {
                this.progress.set(RequestEnd::Whole);
                return Poll::Ready(None);
            }
            Poll::Pending => {
                this.progress.lock().waker = Some(cx.waker().clone());
                this.pace.wait(Instant::now());
                ready!(this.idle.poll_expired(cx));
                return this.fail(RequestEnd::Idle, BodyError::Idle);
            }
        };
        this.idle.rest();
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = this.left.checked_sub(length) else {
            return this.fail(RequestEnd::TooLarge, BodyError::TooLarge);
        };
        this.left = left;
        if this.pace.came(length, Instant::now).is_err() {
            return this.fail(RequestEnd::Slow, BodyError::Slow);
        }
        this.sent.fetch_add(length, Ordering::Relaxed);
        if let Some(trailers) = frame.trailers_mut() {
            headers::strip_request_trailers(trailers, &this.names);
            this.progress.set(RequestEnd::Whole);
        } else if this.incoming.is_end_stream() {
            this.progress.set(RequestEnd::Whole);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// An answer's body: the gate's own, or one that is relayed and whose end closes the call's record.
pub struct Body(Kind);

enum Kind {
    Full(Bytes),
    Relayed(Box<Relayed>),
}

struct Relayed {
    source: Source,
    open: Option<OpenAllow>,
    idle: IdleTimer,
    ended: bool,
    // Given back to its pool when the body has ended.
    connection: Option<(Borrowed, Arc<RequestProgress>)>,
    /// What is the matter if it is dropped before its end.
    unwanted: &'static str,
}

enum Source {
    Upstream(Incoming),
    Local(axum::body::Body),
}

impl Body {
    /// A whole body, ready.
    pub const fn full(bytes: Bytes) -> Self {
        Self(Kind::Full(bytes))
    }

    /// An upstream's body. `connection` goes back to its pool when both bodies have passed whole.
    pub fn relayed(
        incoming: Incoming,
        open: OpenAllow,
        idle: Duration,
        connection: Borrowed,
        request: Arc<RequestProgress>,
    ) -> Self {
        let connection = Some((connection, request));
        Self::following(Source::Upstream(incoming), open, idle, connection)
    }

    /// The admin API's body.
    pub fn local(body: axum::body::Body, open: OpenAllow, idle: Duration) -> Self {
        Self::following(Source::Local(body), open, idle, None)
    }

    /// As the answer to HEAD (RFC 9110 §9.3.2), which HTTP/2 holds its sender to: the gate's own content is left out. An
    /// upstream's answer has none already.
    pub fn without_content(self) -> Self {
        match self.0 {
            Kind::Full(_) => Self::full(Bytes::new()),
            Kind::Relayed(mut relayed) if matches!(relayed.source, Source::Local(_)) => {
                relayed.ended = true;
                Self::full(Bytes::new())
            }
            Kind::Relayed(relayed) => Self(Kind::Relayed(relayed)),
        }
    }

    /// How long its caller may take nothing of it; `None` where no service has said so.
    pub const fn patience(&self) -> Option<Duration> {
        match &self.0 {
            Kind::Full(_) => None,
            Kind::Relayed(relayed) => Some(relayed.idle.after),
        }
    }

    /// Its caller has taken nothing of it for too long, and it is dropped for that.
    pub const fn caller_stalled(&mut self) {
        if let Kind::Relayed(relayed) = &mut self.0 {
            relayed.unwanted = "client_stalled";
        }
    }

    fn following(
        source: Source,
        open: OpenAllow,
        idle: Duration,
        connection: Option<(Borrowed, Arc<RequestProgress>)>,
    ) -> Self {
        let idle = IdleTimer::new(idle);
        let (open, unwanted) = (Some(open), "client_gone");
        Self(Kind::Relayed(Box::new(Relayed { source, open, idle, ended: false, connection, unwanted })))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Relayed(relayed) => relayed.poll_or_break_off(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Relayed(relayed) => relayed.source.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Relayed(relayed) => relayed.source.size_hint(),
        }
    }
}

impl Relayed {
    /// As [`Relayed::poll_frame`]. A panic breaks off this body, and nothing else that its caller's connection carries.
    fn poll_or_break_off(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        catch_unwind(AssertUnwindSafe(|| self.poll_frame(cx))).unwrap_or_else(|_| {
            figures::panicked();
            // What the panic left half done is not gone on with.
            if let Some((_closed, request)) = self.connection.take() {
                request.stop();
            }
            if let Some(open) = self.open.take() {
                open.gate_failed();
            }
            Poll::Ready(Some(Err(BodyError::Panicked)))
        })
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut frame = match self.source.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.idle.poll_expired(cx));
                self.upstream_failed("response_body_idle");
                return Poll::Ready(Some(Err(BodyError::Idle)));
            }
        };
        self.idle.rest();
        match &mut frame {
            Some(Ok(frame)) => {
                if let (Some(open), Some(data)) = (&mut self.open, frame.data_ref()) {
                    open.outcome().response_bytes += data.remaining() as u64;
                }
                if let Some(trailers) = frame.trailers_mut() {
                    headers::strip_answer_trailers(trailers);
                    // Nothing comes after trailers, and nobody asks.
                    self.ended = true;
                }
            }
            Some(Err(_)) => self.upstream_failed("response_body_broken"),
            None => self.ended = true,
        }
        Poll::Ready(frame)
    }

    fn upstream_failed(&mut self, detail: &'static str) {
        if let Some(open) = self.open.take() {
            open.upstream_failed(detail, None);
        }
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        // A body whose length is known is dropped at its last byte, without a last look.
        let ended = self.ended || self.source.is_end_stream();
        if let Some((connection, request)) = self.connection.take()
            && request.stop()
            && ended
        {
            connection.give_back();
        }
        match self.open.take() {
            Some(open) if ended => open.completed(),
            Some(mut open) => open.outcome().detail = Some(self.unwanted),
            None => {}
        }
    }
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Local(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream(body) => body.is_end_stream(),
            Self::Local(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream(body) => body.size_hint(),
            Self::Local(body) => body.size_hint(),
        }
    }
}

/// Counts only while nothing comes: a body that is always ready never arms it.
struct IdleTimer {
    after: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl IdleTimer {
    const fn new(after: Duration) -> Self {
        Self { after, sleep: None, running: false }
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.after)));
        if !self.running {
            self.running = true;
            sleep.as_mut().reset(Instant::now() + self.after);
        }
        sleep.as_mut().poll(cx)
    }

    const fn rest(&mut self) {
        self.running = false;
    }
}
