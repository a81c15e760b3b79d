//! Calls over TLS, byte for byte as given: what no client library would send must be sent, too.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::net::pem;

/// Calls one listener of the gate.
pub(super) struct Client {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) phrase: String,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Client {
    /// Will trust the authority in the PEM file `authority`, and nobody else.
    pub(super) fn new(address: SocketAddr, authority: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in pem::certificates(authority)? {
            roots.add(certificate)?;
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { address, tls: Arc::new(tls) })
    }

    /// Sends `request` on a connection of its own and reads until the gate closes it.
    pub(super) fn call(&self, request: &str) -> Result<Reply> {
        let socket =
            TcpStream::connect(self.address).with_context(|| format!("no connection to {}", self.address))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let connection = ClientConnection::new(Arc::clone(&self.tls), ServerName::from(self.address.ip()))?;
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            // A connection that ends without TLS's own farewell; what came before may be whole, and is looked at.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
            read => drop(read.context("no whole answer")?),
        }
        Reply::parse(&bytes)
    }
}

impl Reply {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            bail!("the answer has no end of its head: {:?}", text.chars().take(80).collect::<String>());
        };
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let mut words = first.splitn(3, ' ').skip(1);
        let status = words
            .next()
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("no status in {first:?}"))?;
        let phrase = words.next().unwrap_or_default().to_owned();
        let header = |line: &str| {
            line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers: Vec<_> = lines.filter_map(header).collect();
        let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body =
            if chunked { unchunk(body).context("the answer's chunks are broken")? } else { body.to_owned() };
        Ok(Self { status, phrase, headers, body })
    }

    /// The first header of this lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// The body within chunks (RFC 9112 section 7.1), without trailers.
fn unchunk(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(rest.get(..size)?);
        chunks = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}

const PATIENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_status_headers_and_body() {
        let reply = Reply::parse(b"HTTP/1.1 403 Forbidden\r\nPortcullis-Record: a/7\r\n\r\nno\n").unwrap();
        assert_eq!((reply.status, reply.phrase.as_str(), reply.body.as_str()), (403, "Forbidden", "no\n"));
        assert_eq!((reply.header("portcullis-record"), reply.header("x")), (Some("a/7"), None));
    }

    #[test]
    fn chunks_are_put_together() {
        let reply = Reply::parse(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        );
        assert_eq!(reply.unwrap().body, "abcde");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for bytes in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc\r\n",
        ] {
            assert!(Reply::parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
