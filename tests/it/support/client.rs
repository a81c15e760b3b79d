//! A caller: HTTP/1.1 or HTTP/2, plain or over TLS, a connection a call.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::block_on;
use super::gate::Tls;

/// The host that calls name.
pub const HOST: &str = "app.example.com";

/// How a caller speaks.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub address: SocketAddr,
    pub http2: bool,
    pub tls: bool,
}

/// A request's body.
pub type Sent = UnsyncBoxBody<Bytes, std::io::Error>;

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Client {
    pub fn http1(address: SocketAddr) -> Self {
        Self { address, http2: false, tls: false }
    }

    pub fn http2(address: SocketAddr) -> Self {
        Self { address, http2: true, tls: false }
    }

    pub fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.call("GET", path, token, &[])
    }

    /// A call without body, with `headers`.
    pub fn call(&self, method: &str, path: &str, token: Option<&str>, headers: &[(&str, &str)]) -> Answer {
        self.send(self.request(method, path, token, headers, empty()))
    }

    pub fn post(&self, path: &str, token: Option<&str>, body: impl Into<Bytes>) -> Answer {
        self.send(self.request("POST", path, token, &[], full(body)))
    }

    /// A request as this caller's protocol has it.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
        body: Sent,
    ) -> Request<Sent> {
        let mut request = Request::builder().method(method);
        if self.http2 {
            let scheme = if self.tls { "https" } else { "http" };
            request = request.uri(format!("{scheme}://{HOST}{path}"));
        } else {
            request = request.uri(path);
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
                request = request.header("host", HOST);
            }
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).unwrap()
    }

    /// Sends a request and reads the whole answer.
    pub fn send(&self, request: Request<Sent>) -> Answer {
        self.try_send(request).unwrap_or_else(|error| panic!("{self:?}: {error:?}"))
    }

    /// As [`Client::send`], for calls that may break.
    pub fn try_send(&self, request: Request<Sent>) -> Result<Answer, hyper::Error> {
        block_on(async {
            let response = self.exchange(request).await?;
            whole(response).await
        })
    }

    /// Sends a request and waits for the head of its answer. To be called within a runtime.
    pub async fn exchange(&self, request: Request<Sent>) -> Result<Response<Incoming>, hyper::Error> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        if !self.tls {
            return self.over(stream, request).await;
        }
        let alpn: &[u8] = if self.http2 { b"h2" } else { b"http/1.1" };
        let connector = TlsConnector::from(Tls::shared().client_config(&[alpn]));
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn));
        self.over(stream, request).await
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Sent>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let stream = TokioIo::new(stream);
        if self.http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            let answer = sender.send_request(request).await;
            // The connection ends with its last sender; the answer's body keeps it up until then.
            answer
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
            tokio::spawn(connection);
            sender.send_request(request).await
        }
    }
}

/// Reads an answer to its end.
pub async fn whole(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    let body = collected.to_bytes().to_vec();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, trailers })
}

pub fn empty() -> Sent {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub fn full(body: impl Into<Bytes>) -> Sent {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The index of its record.
    pub fn record(&self) -> u64 {
        let record = self.header("portcullis-record").unwrap_or_else(|| panic!("no record: {self:?}"));
        record.rsplit('/').next().unwrap().parse().unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
