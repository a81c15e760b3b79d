//! Whatever bytes a caller sends: what reaches the service are whole requests, no more than there are allow records, and
//! each is the one that its record tells of.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::Setup;
use crate::support::strict::StrictUpstream;

#[test]
fn whatever_bytes_are_sent_the_service_gets_what_was_recorded_and_nothing_else() {
    let upstream = StrictUpstream::start();
    // What never becomes whole is soon given up.
    let gate = Setup::at(&format!("http://{}", upstream.address))
        .service("timeouts = { idle = \"200ms\" }")
        .tables("[limits]\nheader_timeout = \"200ms\"\nidle_timeout = \"200ms\"")
        .start();
    let mut runner = TestRunner::new(Config { cases: 1_500, failure_persistence: None, ..Config::default() });
    let streams = prop::collection::vec(piece(), 1..12).prop_map(|pieces| pieces.concat());
    runner
        .run(&streams, |bytes| {
            send(gate.front, bytes.as_bytes());
            prop_assert_eq!(upstream.faults(), Vec::<String>::new());
            Ok(())
        })
        .unwrap();
    let site = gate.stop();
    let records = site.records();
    let allows: BTreeMap<String, &serde_json::Value> = records
        .iter()
        .filter(|record| record["decision"] == "allow")
        .map(|record| (format!("{}/{}", crate::support::gate::ORIGIN, record["index"]), record))
        .collect();
    let requests = upstream.requests();
    assert!(requests.len() > 100, "most of it was refused: {}", requests.len());
    assert!(requests.len() <= allows.len());
    let mut seen = std::collections::BTreeSet::new();
    for request in &requests {
        let number = request.field("portcullis-record").unwrap();
        assert!(seen.insert(number.to_owned()), "{number} came twice");
        let record = allows.get(number).unwrap_or_else(|| panic!("{number} is no allow"));
        assert_eq!(record["request"]["method"], *request.method);
        assert_eq!(record["request"]["path"], *request.target.split('?').next().unwrap());
        assert_eq!(record["request"]["host"], *request.field("host").unwrap());
        assert!(!request.target.contains("admin"), "{request:?}");
    }
    site.verify();
}

/// What requests are made of, whole and in parts, and what they are smuggled with.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        2 => Just("POST /public/b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned()),
        2 => Just("POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned()),
        1 => Just("GET /admin/x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        2 => head(),
        1 => prop::sample::select(vec![
            "0\r\n\r\n", "\r\n", "\r\n\r\n", "abc", "5\r\n", "GET /admin/x HTTP/1.1\r\n", "Host: b\r\n", " ", "\n", "\0",
            "GET http://b/public/x HTTP/1.1\r\n", "x: y\r\n",
        ])
        .prop_map(str::to_owned),
    ]
}

/// A head whose body's length is said in some way, and some bytes after it.
fn head() -> impl Strategy<Value = String> {
    let length = prop::sample::select(vec![
        "Content-Length: 0\r\n",
        "Content-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 4\r\n",
        "Content-Length: 4, 4\r\n",
        "Content-Length: +4\r\n",
        "Content-Length : 4\r\n",
        "content-length:4\r\n",
        "Content-Length: 4\n",
        "Content-Length: 04\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "Transfer_Encoding: chunked\r\n",
        "Transfer-Encoding\r\n: chunked\r\n",
        "Foo: bar\nTransfer-Encoding: chunked\r\n",
        "",
    ]);
    let version = prop::sample::select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2"]);
    let body = prop::sample::select(vec![
        "",
        "4\r\nGET \r\n0\r\n\r\n",
        "0\r\n\r\n",
        "4;x\r\nabcd\r\n0\r\n\r\n",
        "4\nabcd\n0\n\n",
        "0\r\nX: y\r\n\r\n",
        "abcd",
        "0\r\n\r\nGET /admin/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "ffffffffffffffff1\r\n",
    ]);
    (length, version, body).prop_map(|(length, version, body)| {
        format!("POST /public/d {version}\r\nHost: a\r\n{length}\r\n{body}")
    })
}

/// Sends bytes on a connection of their own, and waits until the gate has said all it has to say.
fn send(address: SocketAddr, bytes: &[u8]) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    // The gate may close before it has taken all.
    let _ = socket.write_all(bytes);
    let _ = socket.write_all(b"\r\n\r\nGET /public/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let _ = socket.read_to_end(&mut Vec::new());
}
