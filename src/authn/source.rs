//! A key set read once from where it is published. No redirect is followed, nothing is retried, and what is read is
//! bounded in size and time.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::issuer::{Issuer, KeySource, SetupError, SetupFault};
use super::keys::KeySetError;
use crate::net::{ClientTls, DialError, Dialer, Endpoint, Roots};

/// The largest key set that is read.
pub(super) const MAX_KEY_SET_BYTES: usize = 1024 * 1024;

/// Where to read, ready to.
#[derive(Clone, Debug)]
pub(super) enum Source {
    File(PathBuf),
    Url { url: Uri, dialer: Dialer, timeout: Duration },
}

impl Source {
    /// Reads the trusted roots that the issuer's URL needs; `timeout` bounds one fetch from first to last.
    pub(super) fn new(issuer: &Issuer, timeout: Duration) -> Result<Self, SetupError> {
        let (url, ca_file) = match &issuer.keys {
            KeySource::File(path) => return Ok(Self::File(path.clone())),
            KeySource::Url { url, ca_file } => (url, ca_file),
        };
        let misnamed = |source| issuer.wrong(SetupFault::Url { url: url.clone(), source });
        let endpoint = Endpoint::of(url).map_err(misnamed)?;
        let tls = if endpoint.is_tls() {
            let roots = ca_file.as_deref().map_or(Roots::Native, Roots::File);
            Some(ClientTls::new(roots, &[b"http/1.1"]).map_err(|source| issuer.wrong(source))?)
        } else {
            None
        };
        let dialer = Dialer::new(endpoint, tls.as_ref(), timeout).map_err(misnamed)?;
        Ok(Self::Url { url: url.clone(), dialer, timeout })
    }

    /// Reads what is published now.
    pub(super) async fn read(&self) -> Result<Vec<u8>, SourceError> {
        match self {
            Self::File(path) => {
                let path = path.clone();
                let reading = tokio::task::spawn_blocking(move || read_file(&path));
                reading.await.unwrap_or(Err(SourceError::Interrupted))
            }
            Self::Url { url, dialer, timeout } => tokio::time::timeout(*timeout, fetch(url, dialer))
                .await
                .unwrap_or(Err(SourceError::Timeout { after: *timeout })),
        }
    }
}

/// Why a key set could not be read. Does not say where; whoever reports it does.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    File(#[source] io::Error),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The exchange broke.
    #[error("the exchange failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// An answer to go elsewhere, which is not done: whoever can redirect could choose the keys.
    #[error("answered {status}, a redirect; redirects are not followed, so write the final URL")]
    Redirect {
        /// The status.
        status: StatusCode,
    },
    /// An answer other than 200.
    #[error("answered {status} instead of 200")]
    Status {
        /// The status.
        status: StatusCode,
    },
    /// A compressed answer, though none was asked for.
    #[error("answered with a Content-Encoding that was not asked for")]
    Encoding,
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// More than a key set ever is.
    #[error("larger than {} KiB", MAX_KEY_SET_BYTES / 1024)]
    TooLarge,
    /// The whole took too long.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// What was read is no key set.
    #[error(transparent)]
    KeySet(#[from] KeySetError),
    /// A file without a key that could verify a token of its issuer.
    #[error("no key in it can verify a token (RSA of 2048 bits or more, P-256, P-384, Ed25519)")]
    NoKeys,
    /// The process is shutting down.
    #[error("interrupted")]
    Interrupted,
}

/// Reads a file of bounded size; blocks.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, SourceError> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(SourceError::File)?;
    file.take(MAX_KEY_SET_BYTES as u64 + 1).read_to_end(&mut text).map_err(SourceError::File)?;
    if text.len() > MAX_KEY_SET_BYTES { Err(SourceError::TooLarge) } else { Ok(text) }
}

/// One GET on a connection of its own: fetches are minutes apart, so there is nothing to keep it for.
async fn fetch(url: &Uri, dialer: &Dialer) -> Result<Vec<u8>, SourceError> {
    let stream = dialer.dial().await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await?;
    let mut connection = pin!(connection);
    let mut exchange = pin!(async {
        let response = sender.send_request(request(url)).await?;
        read_response(response).await
    });
    tokio::select! {
        biased;
        read = &mut exchange => return read,
        // The peer may close as soon as it has answered; what it sent is still to be read.
        closed = &mut connection => closed?,
    }
    exchange.await
}

fn request(url: &Uri) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    if let Ok(target) = target.parse() {
        *request.uri_mut() = target;
    }
    let headers = request.headers_mut();
    if let Some(host) = url.authority().and_then(|authority| authority.as_str().parse().ok()) {
        headers.insert(HOST, host);
    }
    headers.insert(ACCEPT, http::HeaderValue::from_static("application/jwk-set+json, application/json"));
    headers.insert(USER_AGENT, http::HeaderValue::from_static("portcullis"));
    headers.insert(CONNECTION, http::HeaderValue::from_static("close"));
    request
}

async fn read_response(response: http::Response<hyper::body::Incoming>) -> Result<Vec<u8>, SourceError> {
    match response.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => return Err(SourceError::Redirect { status }),
        status => return Err(SourceError::Status { status }),
    }
    let encoding = response.headers().get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(SourceError::Encoding);
    }
    match Limited::new(response.into_body(), MAX_KEY_SET_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(SourceError::TooLarge),
        Err(error) => Err(SourceError::Body(error)),
    }
}
