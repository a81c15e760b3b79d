//! A service that reads requests to the letter, and keeps what it read and every fault it found.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it was on the wire.
#[derive(Clone, Debug)]
pub struct StrictRequest {
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl StrictRequest {
    /// The value of a field that is there once; `None` if it is not there.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice: {self:?}");
        value
    }
}

/// A running service. Its threads end with their connections.
pub struct StrictUpstream {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<StrictRequest>>>,
    faults: Arc<Mutex<Vec<String>>>,
}

impl StrictUpstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, faults) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let this = Self { address, requests: Arc::clone(&requests), faults: Arc::clone(&faults) };
        std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                let (requests, faults) = (Arc::clone(&requests), Arc::clone(&faults));
                std::thread::spawn(move || {
                    let mut reader = Reader { socket, buffer: Vec::new() };
                    loop {
                        match reader.request() {
                            Ok(Some(request)) => {
                                requests.lock().unwrap().push(request);
                                if reader
                                    .socket
                                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                                    .is_err()
                                {
                                    return;
                                }
                            }
                            Ok(None) => return,
                            Err(fault) => return faults.lock().unwrap().push(fault),
                        }
                    }
                });
            }
        });
        this
    }

    /// Every whole request that has reached it.
    pub fn requests(&self) -> Vec<StrictRequest> {
        self.requests.lock().unwrap().clone()
    }

    /// What was not to the letter. A request that breaks off is none.
    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }
}

struct Reader {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Reader {
    fn request(&mut self) -> Result<Option<StrictRequest>, String> {
        let Some(head) = self.until(b"\r\n\r\n") else { return Ok(None) };
        let head = String::from_utf8(head).map_err(|_| "a head that is no text".to_owned())?;
        let mut lines = head.strip_suffix("\r\n\r\n").unwrap().split("\r\n");
        let line = lines.next().unwrap();
        let [method, target, "HTTP/1.1"] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("request line {line:?}"));
        };
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or_else(|| format!("field line {line:?}"))?;
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) || value.bytes().any(|b| b < b' ' && b != b'\t') {
                return Err(format!("field line {line:?}"));
            }
            fields.push((name.to_owned(), value.to_owned()));
        }
        let mut request =
            StrictRequest { method: method.to_owned(), target: target.to_owned(), fields, body: Vec::new() };
        let hosts = request.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).count();
        let plain = target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if hosts != 1 || !plain {
            return Err(format!("{request:?}"));
        }
        let whole = match (request.field("content-length"), request.field("transfer-encoding")) {
            (None, None) => true,
            (Some(length), None) => {
                let length: usize = length.parse().map_err(|_| format!("length {length:?}"))?;
                self.exactly(length).map(|body| request.body = body).is_some()
            }
            (None, Some("chunked")) => self.chunks(&mut request.body)?,
            (length, coding) => return Err(format!("length {length:?} and coding {coding:?}")),
        };
        Ok(whole.then_some(request))
    }

    /// Whether the chunks came whole.
    fn chunks(&mut self, body: &mut Vec<u8>) -> Result<bool, String> {
        loop {
            let Some(line) = self.until(b"\r\n") else { return Ok(false) };
            let text = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
            let size = usize::from_str_radix(&text, 16).map_err(|_| format!("chunk size {text:?}"))?;
            let Some(data) = self.exactly(size) else { return Ok(false) };
            if size == 0 {
                // Trailers, as far as there are any, up to the empty line.
                while let Some(line) = self.until(b"\r\n") {
                    if line == b"\r\n" {
                        return Ok(true);
                    }
                }
                return Ok(false);
            }
            body.extend_from_slice(&data);
            match self.exactly(2).as_deref() {
                Some(b"\r\n") => {}
                Some(other) => return Err(format!("a chunk ends in {other:?}")),
                None => return Ok(false),
            }
        }
    }

    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.more()?;
        }
        Some(self.buffer.drain(..count).collect())
    }

    fn more(&mut self) -> Option<()> {
        let mut some = [0; 4096];
        match self.socket.read(&mut some) {
            Ok(count @ 1..) => {
                self.buffer.extend_from_slice(&some[..count]);
                Some(())
            }
            Ok(0) | Err(_) => None,
        }
    }
}
