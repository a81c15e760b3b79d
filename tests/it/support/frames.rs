//! HTTP/2 by hand (RFC 9113, RFC 7541), for what no client library would send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::DEADLINE;

/// An HTTP/2 connection, frame by frame.
pub struct Frames {
    socket: TcpStream,
}

impl Frames {
    /// Opens one. Streams may send at most `window` bytes before they are granted more.
    pub fn open(address: SocketAddr, window: u32) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let setting = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
        frame(&mut bytes, SETTINGS, 0, 0, &setting);
        let mut frames = Self { socket };
        frames.socket.write_all(&bytes).unwrap();
        frames
    }

    /// Begins a request; with a body to follow, if `body`.
    pub fn request(&mut self, stream: u32, fields: &[(&str, &str)], body: bool) {
        let end_of_stream = if body { 0 } else { END_STREAM };
        self.send(HEADERS, END_HEADERS | end_of_stream, stream, &block(fields));
    }

    /// Begins a head without its end.
    pub fn half_a_head(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.send(HEADERS, END_STREAM, stream, &block(fields));
    }

    /// Some of a request's body, not its end.
    pub fn data(&mut self, stream: u32, data: &[u8]) {
        self.send(DATA, 0, stream, data);
    }

    /// Resets a stream: the caller no longer wants it.
    pub fn reset(&mut self, stream: u32) {
        self.send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }

    /// Lets a stream send so much more.
    pub fn grant(&mut self, stream: u32, bytes: u32) {
        self.send(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    }

    /// Waits until the other side has looked at all that was sent.
    pub fn settle(&mut self) {
        for _ in 0..3 {
            self.send(PING, 0, 0, &[7; 8]);
            while self.next().is_some_and(|(kind, flags, ..)| (kind, flags) != (PING, ACK)) {}
        }
    }

    /// Reads frames up to a kind of a stream; its payload. `None` if the connection ends before.
    pub fn read(&mut self, wanted: u8, stream: u32) -> Option<Vec<u8>> {
        loop {
            let (kind, _, of, payload) = self.next()?;
            if (kind, of) == (wanted, stream) {
                return Some(payload);
            }
        }
    }

    /// The status of a stream's answer.
    pub fn status(&mut self, stream: u32) -> Option<u16> {
        status(&self.read(HEADERS, stream)?)
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame(&mut bytes, kind, flags, stream, payload);
        self.socket.write_all(&bytes).unwrap();
    }

    fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.socket.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], stream, payload))
    }
}

/// What came of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// An answer's head came; its `:status`, where it is an entry of the static table.
    Answered(Option<u16>),
    /// The stream was reset.
    Reset,
    /// The whole connection was closed.
    Closed,
}

/// Sends one request on stream 1 of a new connection: these fields, and this body.
pub fn send(address: SocketAddr, fields: &[(&str, &str)], body: Option<&[u8]>) -> Ended {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    let end_of_stream = if body.is_none() { END_STREAM } else { 0 };
    frame(&mut bytes, HEADERS, END_HEADERS | end_of_stream, 1, &block(fields));
    if let Some(body) = body {
        frame(&mut bytes, DATA, END_STREAM, 1, body);
    }
    socket.write_all(&bytes).unwrap();
    loop {
        let mut head = [0; 9];
        if socket.read_exact(&mut head).is_err() {
            return Ended::Closed;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        if socket.read_exact(&mut payload).is_err() {
            return Ended::Closed;
        }
        match head[3] {
            HEADERS => return Ended::Answered(status(&payload)),
            RST_STREAM => return Ended::Reset,
            GOAWAY => return Ended::Closed,
            _ => {}
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Literal fields without indexing, names and values as they are (RFC 7541 §6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a length of one byte");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The status, as far as it stands in the static table (RFC 7541 appendix A) or follows as a plain literal.
fn status(block: &[u8]) -> Option<u16> {
    // The encoder may say first how large its table is.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    match block[start] {
        0x88 => Some(200),
        0x8c => Some(400),
        0x8d => Some(404),
        0x8e => Some(500),
        _ => None,
    }
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
const CANCEL: u32 = 8;
