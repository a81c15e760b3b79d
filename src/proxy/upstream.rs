//! Kept connections to the services' upstreams, one pool per worker thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Sleep;

use super::body::RequestBody;
use crate::net::{DialError, Dialer};

/// The upstreams of one service.
#[derive(Debug)]
pub struct UpstreamSet {
    members: Vec<Arc<Upstream>>,
    next: AtomicUsize,
}

/// One upstream.
#[derive(Debug)]
pub struct Upstream {
    /// No other upstream in this process has it, not even one with the same URL: what a service trusts is its own.
    id: u64,
    /// Its URL, as records name it.
    pub name: Arc<str>,
    dialer: Dialer,
    keep: Duration,
}

impl Upstream {
    /// An upstream that `dialer` leads to. A kept connection lies unused for at most `keep`.
    pub fn new(name: Arc<str>, dialer: Dialer, keep: Duration) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), name, dialer, keep }
    }

    async fn dial(&self) -> Result<SendRequest<RequestBody>, ExchangeError> {
        let stream = self.dialer.dial().await?;
        let (sender, connection) = Builder::new().handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move {
            // How it ends is told to whoever uses it, through the sender and the body.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

impl UpstreamSet {
    /// A set of upstreams, used in turn.
    pub fn new(members: Vec<Arc<Upstream>>) -> Self {
        Self { members, next: AtomicUsize::new(0) }
    }

    /// The next one; `None` if there are none.
    pub fn choose(&self) -> Option<&Arc<Upstream>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.members.get(turn.checked_rem(self.members.len())?)
    }
}

/// A worker's kept connections, by upstream.
#[derive(Clone, Default)]
pub struct Pool(Rc<RefCell<Kept>>);

#[derive(Default)]
struct Kept {
    by_upstream: HashMap<u64, Vec<Idle>>,
    swept: Option<Instant>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    patience: Patience,
    until: Instant,
}

/// A timer that one answer after another is waited for with: to put off a timer that runs is cheaper than to begin one
/// and end it for every call.
#[derive(Default)]
struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// What `answer` gives, if it does so within `time`.
    async fn wait<T>(&mut self, time: Duration, mut answer: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let until = tokio::time::Instant::now() + time;
        let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        timer.as_mut().reset(until);
        poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
        })
        .await
    }
}

/// A connection in use. It is closed when dropped, unless given back.
pub struct Borrowed {
    pool: Pool,
    upstream: u64,
    keep: Duration,
    sender: SendRequest<RequestBody>,
    patience: Patience,
}

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No connection came about.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke, or its answer is not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// No answer's head in time.
    #[error("no answer within {0:?}")]
    HeadTimeout(Duration),
}

impl ExchangeError {
    /// The word for it in an outcome.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Dial(DialError::Resolve { .. } | DialError::NoAddress { .. }) => "resolve",
            Self::Dial(DialError::Refused { .. }) => "connect_refused",
            Self::Dial(DialError::Connect { .. }) => "connect",
            Self::Dial(DialError::Timeout { .. }) => "connect_timeout",
            Self::Dial(DialError::Tls { .. }) => "tls",
            Self::Http(_) => "broken_answer",
            Self::HeadTimeout(_) => "head_timeout",
        }
    }

    /// The status for the caller (RFC 9110 §15.6.3, §15.6.5).
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Dial(DialError::Timeout { .. }) | Self::HeadTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Dial(_) | Self::Http(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

impl Pool {
    /// A connection to `upstream`: a kept one, or a new one.
    ///
    /// # Errors
    /// [`DialError`] or the handshake's error, for a new one.
    pub async fn connect(&self, upstream: &Upstream) -> Result<Borrowed, ExchangeError> {
        let (sender, patience) = match self.take(upstream) {
            Some(kept) => kept,
            // Rare, and boxed: what it needs would else be room in every call's state, which is moved about.
            None => (Box::pin(upstream.dial()).await?, Patience::default()),
        };
        Ok(Borrowed { pool: self.clone(), upstream: upstream.id, keep: upstream.keep, sender, patience })
    }

    fn take(&self, upstream: &Upstream) -> Option<(SendRequest<RequestBody>, Patience)> {
        let mut kept = self.0.borrow_mut();
        let idle = kept.by_upstream.get_mut(&upstream.id)?;
        let now = Instant::now();
        // The last one given back is the likeliest to be alive.
        let ready = idle.iter().rposition(|idle| idle.is_fresh(now) && idle.sender.is_ready())?;
        let kept = idle.swap_remove(ready);
        Some((kept.sender, kept.patience))
    }
}

impl Idle {
    fn is_fresh(&self, now: Instant) -> bool {
        !self.sender.is_closed() && now < self.until
    }
}

impl Kept {
    /// Closes what has lain too long, now and then: also of upstreams that a reload took away.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now < swept + SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        self.by_upstream.retain(|_, idle| {
            idle.retain(|idle| idle.is_fresh(now));
            !idle.is_empty()
        });
    }
}

impl Borrowed {
    /// Sends a request and waits for the head of its answer, without retrying. `progress` counts what of the body
    /// went out: as long as it moves, `head_timeout` begins anew.
    ///
    /// # Errors
    /// [`ExchangeError::Http`], [`ExchangeError::HeadTimeout`].
    pub async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        head_timeout: Duration,
        progress: impl Fn() -> u64,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let mut answer = std::pin::pin!(self.sender.send_request(request));
        let mut seen = progress();
        loop {
            match self.patience.wait(head_timeout, answer.as_mut()).await {
                Some(answer) => return Ok(answer?),
                None if progress() != seen => seen = progress(),
                None => return Err(ExchangeError::HeadTimeout(head_timeout)),
            }
        }
    }

    /// Keeps the connection for the next request.
    pub fn give_back(self) {
        if self.sender.is_closed() {
            return;
        }
        let mut kept = self.pool.0.borrow_mut();
        let now = Instant::now();
        kept.sweep(now);
        let idle = kept.by_upstream.entry(self.upstream).or_default();
        if idle.len() < KEPT_PER_UPSTREAM {
            let Self { sender, patience, keep, .. } = self;
            idle.push(Idle { sender, patience, until: now + keep });
        }
    }
}

/// Most connections a worker keeps to one upstream.
const KEPT_PER_UPSTREAM: usize = 512;

const SWEEP_EVERY: Duration = Duration::from_secs(1);
