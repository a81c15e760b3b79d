//! Reads of a log over HTTP, on a connection that is kept for the next. No redirect is followed; what is read is bounded in
//! size and time.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;

use super::fault::Fault;
use crate::net::{DialError, Dialer};

/// Where a log's checkpoint and tiles are read.
#[derive(Debug)]
pub struct Source {
    prefix: String,
    host: HeaderValue,
    dialer: Dialer,
    timeout: Duration,
    token_file: Option<PathBuf>,
    token: Option<HeaderValue>,
    kept: Option<SendRequest<Empty<Bytes>>>,
}

/// Why something was not read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The exchange broke.
    #[error("the exchange failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// The whole took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Neither what was asked for nor a refusal.
    #[error("{path} was answered {status}")]
    Answer {
        /// What was asked for.
        path: String,
        /// What it was answered.
        status: StatusCode,
    },
    /// More bytes than this can have.
    #[error("{path} is longer than {most} bytes")]
    TooLong {
        /// What was asked for.
        path: String,
        /// The most that is read.
        most: usize,
    },
    /// The body broke off.
    #[error("{path} broke off: {source}")]
    Body {
        /// What was asked for.
        path: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<FetchError> for Fault {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Answer {
                path,
                status: status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
            } => Self::Refused { status, path },
            FetchError::Answer { status, .. } if !says_later(status) => Self::Garbage(error),
            FetchError::TooLong { .. } => Self::Garbage(error),
            FetchError::Dial(_)
            | FetchError::Exchange(_)
            | FetchError::Timeout(_)
            | FetchError::Answer { .. }
            | FetchError::Body { .. } => Self::Unreachable(error),
        }
    }
}

/// Whether a status says that there is no answer for now.
fn says_later(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

impl Source {
    /// The log at the prefix `url`, reached by `dialer`; `timeout` bounds each exchange. The token in `token_file`, if one is named, is
    /// shown. `None` if the URL names no host.
    pub fn new(url: &Uri, dialer: Dialer, timeout: Duration, token_file: Option<PathBuf>) -> Option<Self> {
        let prefix = url.path().trim_end_matches('/').to_owned();
        let host = url.authority()?.as_str().parse().ok()?;
        Some(Self { prefix, host, dialer, timeout, token_file, token: None, kept: None })
    }

    /// Begins a round: reads the token again, which may have been renewed.
    ///
    /// # Errors
    /// [`Fault::Token`].
    pub fn refresh(&mut self) -> Result<(), Fault> {
        let Some(path) = &self.token_file else { return Ok(()) };
        let fault = |source| Fault::Token { path: path.clone(), source };
        let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new).map_err(fault)?;
        let value = zeroize::Zeroizing::new(format!("Bearer {}", text.trim()));
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            fault(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "not a token: one line of visible ASCII",
            ))
        })?;
        value.set_sensitive(true);
        self.token = Some(value);
        Ok(())
    }

    /// The body of `path`, which begins with a slash; `most` bytes of it.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&mut self, path: &str, most: usize) -> Result<Vec<u8>, FetchError> {
        let timeout = self.timeout;
        let exchange = self.exchange(path, most);
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(FetchError::Timeout(timeout)))
    }

    async fn exchange(&mut self, path: &str, most: usize) -> Result<Vec<u8>, FetchError> {
        // The other end may have closed a connection that was kept: then a new one is tried, once.
        if let Some(mut kept) = self.kept.take()
            && kept.ready().await.is_ok()
            && let Ok(response) = kept.send_request(self.request(path)).await
        {
            return self.read(path, most, response, kept).await;
        }
        let stream = self.dialer.dial().await?;
        let (mut sender, connection) =
            Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender.send_request(self.request(path)).await?;
        self.read(path, most, response, sender).await
    }

    async fn read(
        &mut self,
        path: &str,
        most: usize,
        response: Response<Incoming>,
        sender: SendRequest<Empty<Bytes>>,
    ) -> Result<Vec<u8>, FetchError> {
        let status = response.status();
        if status != StatusCode::OK {
            return Err(FetchError::Answer { path: path.to_owned(), status });
        }
        match Limited::new(response.into_body(), most).collect().await {
            Ok(body) => {
                self.kept = Some(sender);
                Ok(body.to_bytes().to_vec())
            }
            Err(error) if error.is::<LengthLimitError>() => {
                Err(FetchError::TooLong { path: path.to_owned(), most })
            }
            Err(source) => Err(FetchError::Body { path: path.to_owned(), source }),
        }
    }

    fn request(&self, path: &str) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        // What is put together here is a path, digits and a few words; the URL's own part was one already.
        *request.uri_mut() = format!("{}{path}", self.prefix).parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static("portcullis-monitor"));
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        request
    }
}

/// Heads of answers are far below.
const HEAD_BYTES: usize = 16 * 1024;
