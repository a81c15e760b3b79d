//! One TCP or TLS connection to a host and port.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::ClientTls;

/// A host, a port, and whether TLS is spoken there. Host names are resolved anew at each dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: String,
    port: u16,
    tls: bool,
}

impl Endpoint {
    /// The endpoint an `http` or `https` URL names; port 80 or 443 where it names none. Path and query are not
    /// looked at.
    pub fn of(url: &Uri) -> Result<Self, EndpointError> {
        let tls = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(EndpointError::Scheme),
        };
        let authority = url.authority().ok_or(EndpointError::Host)?;
        if authority.as_str().contains('@') {
            return Err(EndpointError::UserInfo);
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(EndpointError::Host);
        }
        let port = match (authority.port(), tls) {
            (Some(port), _) => port.as_u16(),
            (None, true) => 443,
            (None, false) => 80,
        };
        Ok(Self { host: host.to_owned(), port, tls })
    }

    /// The host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether TLS is spoken there.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a URL names no endpoint that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Another scheme, or none.
    #[error("the URL must begin with http:// or https://")]
    Scheme,
    /// No host.
    #[error("the URL names no host")]
    Host,
    /// `user:password@`.
    #[error("the URL carries a user name; write it without")]
    UserInfo,
    /// A host that no certificate can be checked against.
    #[error("{host:?} is not a host name or address that a certificate can name")]
    ServerName {
        /// The host of the URL.
        host: String,
    },
    /// `https` without a [`ClientTls`].
    #[error("the URL begins with https:// but no TLS trust was given for it")]
    NoTls,
}

/// Opens connections to one endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    endpoint: Endpoint,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    connect_timeout: Duration,
}

impl Dialer {
    /// A dialer for `endpoint`. `tls` must be given where the endpoint speaks TLS, and is ignored where it does
    /// not. `connect_timeout` bounds resolving, connecting and the TLS handshake together.
    pub fn new(
        endpoint: Endpoint,
        tls: Option<&ClientTls>,
        connect_timeout: Duration,
    ) -> Result<Self, EndpointError> {
        let tls = if endpoint.tls {
            let name = ServerName::try_from(endpoint.host.clone())
                .map_err(|_| EndpointError::ServerName { host: endpoint.host.clone() })?;
            let config = tls.ok_or(EndpointError::NoTls)?.config();
            Some((TlsConnector::from(config), name))
        } else {
            None
        };
        Ok(Self { endpoint, tls, connect_timeout })
    }

    /// Where this dialer connects to.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Opens a connection: resolves the host, tries its addresses in turn, and shakes hands where TLS is spoken.
    /// Small writes are sent at once (`TCP_NODELAY`).
    pub async fn dial(&self) -> Result<Stream, DialError> {
        let deadline = Instant::now() + self.connect_timeout;
        let tcp = self.connect(deadline).await?;
        let Some((connector, name)) = &self.tls else { return Ok(Stream::Plain(tcp)) };
        match timeout_at(deadline, connector.connect(name.clone(), tcp)).await {
            Err(_) => Err(self.timeout()),
            Ok(Err(source)) => Err(DialError::Tls { endpoint: self.endpoint.clone(), source }),
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
        }
    }

    async fn connect(&self, deadline: Instant) -> Result<TcpStream, DialError> {
        let lookup = lookup_host((self.endpoint.host.as_str(), self.endpoint.port));
        let addresses: Vec<SocketAddr> = match timeout_at(deadline, lookup).await {
            Err(_) => return Err(self.timeout()),
            Ok(Err(source)) => return Err(DialError::Resolve { host: self.endpoint.host.clone(), source }),
            Ok(Ok(addresses)) => addresses.collect(),
        };
        let mut failed = DialError::NoAddress { host: self.endpoint.host.clone() };
        for (tried, address) in addresses.iter().enumerate() {
            // An address that swallows packets may use up only its share of the time, so the next gets a turn.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = u32::try_from(addresses.len() - tried).map_or(left, |turns| left / turns);
            match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
                Err(_) => failed = self.timeout(),
                Ok(Err(source)) => failed = DialError::connect(*address, source),
                Ok(Ok(tcp)) => {
                    tcp.set_nodelay(true).map_err(|source| DialError::connect(*address, source))?;
                    return Ok(tcp);
                }
            }
        }
        Err(failed)
    }

    fn timeout(&self) -> DialError {
        DialError::Timeout { endpoint: self.endpoint.clone(), after: self.connect_timeout }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("endpoint", &self.endpoint)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name could not be resolved.
    #[error("could not resolve {host}: {source}")]
    Resolve {
        /// The host of the URL.
        host: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// The name resolves to nothing.
    #[error("{host} has no address")]
    NoAddress {
        /// The host of the URL.
        host: String,
    },
    /// Nobody listens there.
    #[error("{address} refused the connection")]
    Refused {
        /// The address tried last.
        address: SocketAddr,
    },
    /// No route, no permission, out of sockets.
    #[error("could not connect to {address}: {source}")]
    Connect {
        /// The address tried last.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// Resolving, connecting and shaking hands took too long.
    #[error("no connection to {endpoint} within {after:?}")]
    Timeout {
        /// Where to.
        endpoint: Endpoint,
        /// The limit.
        after: Duration,
    },
    /// The connection stands but TLS failed: a certificate that does not hold, or no TLS there at all.
    #[error("TLS with {endpoint} failed: {source}")]
    Tls {
        /// Where to.
        endpoint: Endpoint,
        /// The cause; rustls' own error lies within.
        source: io::Error,
    },
}

impl DialError {
    fn connect(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { address },
            _ => Self::Connect { address, source },
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub enum Stream {
    /// Bare TCP.
    Plain(TcpStream),
    /// TLS over TCP, the peer's certificate checked.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The protocol agreed by ALPN, e.g. `h2`; `None` where none was, or without TLS.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// The peer's address.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(stream) => stream.peer_addr(),
            Self::Tls(stream) => stream.get_ref().0.peer_addr(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => super::poll_write_pieces(Pin::new(stream), cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;
