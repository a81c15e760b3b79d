//! One request to a witness, over a connection that is kept for the next. No redirect is followed, and what is read is
//! bounded in size and time.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;

use crate::net::{DialError, Dialer};

/// Where a witness takes checkpoints.
#[derive(Debug)]
pub struct Peer {
    target: Uri,
    host: HeaderValue,
    dialer: Dialer,
    timeout: Duration,
    kept: Option<SendRequest<Full<Bytes>>>,
}

/// What a witness answered.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Whether the body says that it is a tree's size.
    pub is_size: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The exchange broke.
    #[error("the exchange failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// The answer broke off, or is larger than any answer.
    #[error("the answer could not be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The whole took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl Peer {
    /// A witness with the submission prefix `url`, reached by `dialer`; `timeout` bounds one exchange. `None` if no
    /// path can be added to the URL.
    pub fn new(url: &Uri, dialer: Dialer, timeout: Duration) -> Option<Self> {
        let target = format!("{}/add-checkpoint", url.path().trim_end_matches('/')).parse().ok()?;
        let host = url.authority()?.as_str().parse().ok()?;
        Some(Self { target, host, dialer, timeout, kept: None })
    }

    /// Sends `body`; its answer, whatever it is.
    ///
    /// # Errors
    /// [`PostError`].
    pub async fn post(&mut self, body: Vec<u8>) -> Result<Reply, PostError> {
        let (timeout, body) = (self.timeout, Bytes::from(body));
        tokio::time::timeout(timeout, self.exchange(body)).await.unwrap_or(Err(PostError::Timeout(timeout)))
    }

    async fn exchange(&mut self, body: Bytes) -> Result<Reply, PostError> {
        // The other end may have closed a connection that was kept: then a new one is tried, once. A checkpoint may
        // come twice without harm.
        if let Some(mut kept) = self.kept.take()
            && kept.ready().await.is_ok()
            && let Ok(response) = kept.send_request(self.request(body.clone())).await
        {
            return self.read(response, kept).await;
        }
        let stream = self.dialer.dial().await?;
        let (mut sender, connection) =
            Builder::new().max_buf_size(16 * 1024).handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        let response = sender.send_request(self.request(body)).await?;
        self.read(response, sender).await
    }

    async fn read(
        &mut self,
        response: http::Response<hyper::body::Incoming>,
        sender: SendRequest<Full<Bytes>>,
    ) -> Result<Reply, PostError> {
        let status = response.status();
        let is_size = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "text/x.tlog.size");
        let body =
            Limited::new(response.into_body(), REPLY_BYTES).collect().await.map_err(PostError::Body)?;
        self.kept = Some(sender);
        Ok(Reply { status, is_size, body: body.to_bytes().to_vec() })
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("portcullis"));
        request
    }
}

/// More than a few signature lines is no answer.
const REPLY_BYTES: usize = 64 * 1024;
