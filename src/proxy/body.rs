//! Bodies on their way through: counted, bounded, and followed to their end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::upstream::Borrowed;
use crate::audit::journal::OpenAllow;

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
}

/// A caller's body on its way to a service: no longer than `limit`, never still for longer than `idle`.
pub struct RequestBody {
    incoming: Incoming,
    left: u64,
    sent: Arc<AtomicU64>,
    idle: IdleTimer,
    ended: Arc<RequestEnd>,
}

/// How a request's body ended, for whoever waits for the response to it.
#[derive(Debug, Default)]
pub struct RequestEnd(std::sync::atomic::AtomicU8);

impl RequestEnd {
    const WHOLE: u8 = 1;
    const TOO_LARGE: u8 = 2;
    const IDLE: u8 = 3;
    const BROKEN: u8 = 4;

    fn set(&self, end: u8) {
        self.0.store(end, Ordering::Release);
    }

    /// Whether all of it was passed on.
    pub fn is_whole(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::WHOLE
    }

    /// The fault on the caller's side, if there was one: a word for the outcome, and the status to answer.
    pub fn fault(&self) -> Option<(&'static str, http::StatusCode)> {
        match self.0.load(Ordering::Acquire) {
            Self::TOO_LARGE => Some(("request_body_too_large", http::StatusCode::PAYLOAD_TOO_LARGE)),
            Self::IDLE => Some(("request_body_idle", http::StatusCode::REQUEST_TIMEOUT)),
            Self::BROKEN => Some(("request_body_broken", http::StatusCode::BAD_REQUEST)),
            _ => None,
        }
    }
}

impl RequestBody {
    /// Passes `incoming` on, adding what went through to `sent`.
    pub fn new(incoming: Incoming, limit: u64, idle: Duration, sent: Arc<AtomicU64>) -> Self {
        let ended = Arc::new(RequestEnd::default());
        if incoming.is_end_stream() {
            ended.set(RequestEnd::WHOLE);
        }
        Self { incoming, left: limit, sent, idle: IdleTimer::new(idle), ended }
    }

    /// Where to look for how it ended.
    pub fn end(&self) -> Arc<RequestEnd> {
        Arc::clone(&self.ended)
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
        let frame = match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(this.idle.poll_expired(cx));
                this.ended.set(RequestEnd::IDLE);
                return Poll::Ready(Some(Err(BodyError::Idle)));
            }
        };
        this.idle.rest();
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = this.left.checked_sub(length) else {
                    this.ended.set(RequestEnd::TOO_LARGE);
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                };
                this.left = left;
                this.sent.fetch_add(length, Ordering::Relaxed);
                if this.incoming.is_end_stream() {
                    this.ended.set(RequestEnd::WHOLE);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                this.ended.set(RequestEnd::BROKEN);
                Some(Err(error.into()))
            }
            None => {
                this.ended.set(RequestEnd::WHOLE);
                None
            }
        })
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
    connection: Option<(Borrowed, Arc<RequestEnd>)>,
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

    /// An answer to HEAD: a body of the gate's own is left out. What a service sends has none by itself.
    pub fn left_out(self) -> Self {
        match self.0 {
            Kind::Full(_) => Self::full(Bytes::new()),
            relayed @ Kind::Relayed(_) => Self(relayed),
        }
    }

    /// An upstream's body. `connection` goes back to its pool when both bodies have passed whole.
    pub fn relayed(
        incoming: Incoming,
        open: OpenAllow,
        idle: Duration,
        connection: Borrowed,
        request: Arc<RequestEnd>,
    ) -> Self {
        let connection = Some((connection, request));
        Self::following(Source::Upstream(incoming), open, idle, connection)
    }

    /// The admin API's body.
    pub fn local(body: axum::body::Body, open: OpenAllow, idle: Duration) -> Self {
        Self::following(Source::Local(body), open, idle, None)
    }

    fn following(
        source: Source,
        open: OpenAllow,
        idle: Duration,
        connection: Option<(Borrowed, Arc<RequestEnd>)>,
    ) -> Self {
        let idle = IdleTimer::new(idle);
        Self(Kind::Relayed(Box::new(Relayed { source, open: Some(open), idle, ended: false, connection })))
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
            Kind::Relayed(relayed) => relayed.poll_frame(cx),
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
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match self.source.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.idle.poll_expired(cx));
                self.explain("response_body_idle");
                return Poll::Ready(Some(Err(BodyError::Idle)));
            }
        };
        self.idle.rest();
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(open), Some(data)) = (&mut self.open, frame.data_ref()) {
                    open.outcome().response_bytes += data.remaining() as u64;
                }
            }
            Some(Err(_)) => self.explain("response_body_broken"),
            None => self.ended = true,
        }
        Poll::Ready(frame)
    }

    fn explain(&mut self, detail: &'static str) {
        if let Some(open) = &mut self.open {
            open.outcome().detail = Some(detail);
        }
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        // A body whose length is known is dropped at its last byte, without a last look.
        if self.ended || self.source.is_end_stream() {
            open.completed();
            if let Some((connection, request)) = self.connection.take()
                && request.is_whole()
            {
                connection.give_back();
            }
        } else {
            // Aborted; if the upstream is not to blame, the caller went away.
            open.outcome().detail.get_or_insert("client_gone");
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
