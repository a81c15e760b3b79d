//! Answers that are there before the request's body is: they reach their caller, who may still be sending.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use crate::support::gate::Gate;
use crate::support::{Act, Setup, Upstream, Wire, until};

/// What socket buffers on the way may just hold, and more.
const BODIES: [usize; 2] = [1 << 20, 8 << 20];

/// Sends a head and a body of `length`, whole if the gate takes it, and only then listens.
fn told(mut wire: Wire, path: &str, length: usize) -> Option<u16> {
    wire.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"));
    let _ = wire.try_send(vec![b'x'; length]);
    wire.answer().map(|answer| answer.status)
}

fn all_told(gate: &Gate, path: &str, status: u16) {
    for (length, round) in BODIES.into_iter().flat_map(|length| (0..20).map(move |round| (length, round))) {
        assert_eq!(told(gate.wire(), path, length), Some(status), "{path}, {length} bytes, round {round}");
    }
}

#[test]
fn a_denial_reaches_a_caller_that_is_still_sending() {
    let upstream = Upstream::start(Act::Answer);
    for gate in [Setup::new(&upstream).start(), Setup::new(&upstream).tls().start()] {
        all_told(&gate, "/admin/x", 401);
    }
}

#[test]
fn so_does_the_answer_that_a_body_is_too_large() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).service("max_body = \"1KiB\"").start();
    all_told(&gate, "/public/x", 413);
}

#[test]
fn so_does_that_of_a_service_which_has_not_read_the_body() {
    for keeps in [true, false] {
        let gate = Setup::at(&format!("http://{}", hasty(keeps))).start();
        all_told(&gate, "/public/x", 200);
    }
}

#[test]
fn a_caller_that_goes_on_sending_for_ever_is_let_go() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let mut wire = gate.wire();
    wire.send("POST /admin/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    until("the gate has had enough", || wire.try_send("1\r\nx\r\n").is_err());
}

/// A service that answers every head at once, reads what follows of the body, and keeps the connection or closes it.
fn hasty(keeps: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap(), keeps));
        }
    });
    address
}

fn answer(mut stream: TcpStream, keeps: bool) {
    let (mut heard, mut some) = (Vec::new(), [0; 65_536]);
    loop {
        let head = loop {
            if let Some(end) = heard.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break heard.drain(..end + 4).collect::<Vec<u8>>();
            }
            match stream.read(&mut some) {
                Ok(count @ 1..) => heard.extend_from_slice(&some[..count]),
                _ => return,
            }
        };
        let close = if keeps { "" } else { "Connection: close\r\n" };
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n{close}Content-Length: 2\r\n\r\nok");
        if !keeps {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
        let mut left: usize = length.parse().unwrap();
        while left > heard.len() {
            left -= std::mem::take(&mut heard).len();
            match stream.read(&mut some) {
                Ok(count @ 1..) => heard.extend_from_slice(&some[..count]),
                _ => return,
            }
        }
        heard.drain(..left);
    }
}
