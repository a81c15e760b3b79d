//! Bytes on a socket, for what no HTTP client would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustls::pki_types::ServerName;

use super::DEADLINE;
use super::gate::Tls;

/// A connection to the gate.
pub struct Wire {
    socket: TcpStream,
    stream: Box<dyn ReadWrite>,
    buffer: Vec<u8>,
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// An answer off the wire.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Wire {
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap()
    }

    /// For when the other side may be gone.
    pub fn try_open(address: SocketAddr) -> std::io::Result<Self> {
        let socket = connect(address)?;
        Ok(Self { stream: Box::new(socket.try_clone()?), socket, buffer: Vec::new() })
    }

    pub fn open_tls(address: SocketAddr) -> Self {
        let socket = connect(address).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let client =
            rustls::ClientConnection::new(Tls::shared().client_config(&[b"http/1.1"]), name).unwrap();
        let stream = rustls::StreamOwned::new(client, socket.try_clone().unwrap());
        Self { stream: Box::new(stream), socket, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// For when the other side may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// The next answer; `None` if the connection ended instead.
    pub fn answer(&mut self) -> Option<RawAnswer> {
        let end = loop {
            match find(&self.buffer, b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if !self.more() => {
                    assert!(
                        self.buffer.is_empty(),
                        "half an answer: {:?}",
                        String::from_utf8_lossy(&self.buffer)
                    );
                    return None;
                }
                None => {}
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = RawAnswer { status, head, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < length && self.more() {}
        answer.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        Some(answer)
    }

    /// Everything until the other side closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the other side closes without another byte.
    pub fn ends(&mut self) -> bool {
        self.rest().is_empty()
    }

    /// Reads until these bytes have arrived.
    pub fn hears(&mut self, bytes: &[u8]) {
        while find(&self.buffer, bytes).is_none() {
            assert!(self.more(), "it ended without {:?}", String::from_utf8_lossy(bytes));
        }
    }

    /// Whether no byte has arrived. Only for plain connections.
    pub fn is_silent(&mut self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let peeked = self.socket.peek(&mut [0]);
        self.socket.set_nonblocking(false).unwrap();
        self.buffer.is_empty() && matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Reads some more; `false` at the end.
    fn more(&mut self) -> bool {
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                true
            }
            // A close with bytes unread, or without TLS's goodbye.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe
                ) =>
            {
                false
            }
            Err(error) => panic!("no answer within the deadline: {error}"),
        }
    }
}

impl RawAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The index of its record.
    pub fn record(&self) -> u64 {
        let record = self.header("portcullis-record").unwrap_or_else(|| panic!("no record: {}", self.head));
        record.rsplit('/').next().unwrap().parse().unwrap()
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.set_write_timeout(Some(DEADLINE))?;
    Ok(socket)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
