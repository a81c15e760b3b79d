//! Callers that take more than their part: of connections, and of time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::support::frames::{Frames, WINDOW_UPDATE, frame_of};
use crate::support::{Act, DEADLINE, Gate, Setup, Upstream, readiness, until};

/// A connection to the gate from another address of this machine.
fn connect(gate: &Gate, from: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&gate.front.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Whether the gate ends the connection without a word.
fn is_turned_away(mut stream: TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn connections(gate: &Gate) -> u64 {
    readiness(gate.health())["connections"].as_u64().unwrap()
}

#[test]
fn an_address_has_so_many_connections_and_others_have_theirs() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream)
        .server("trusted_proxies = [\"127.0.0.9\"]")
        .tables("[limits]\nconnections = 12\nconnections_per_address = 3")
        .start();
    let held: Vec<_> = (0..3).map(|_| connect(&gate, [127, 0, 0, 2])).collect();
    until("them to be open", || connections(&gate) == 3);
    for _ in 0..5 {
        assert!(is_turned_away(connect(&gate, [127, 0, 0, 2])));
    }
    assert_eq!(gate.client().get("/public/x", None).status, 200, "another address is served");
    until("that to be over", || connections(&gate) == 3);
    // A trusted proxy speaks for many; all together are bounded.
    let proxied: Vec<_> = (0..9).map(|_| connect(&gate, [127, 0, 0, 9])).collect();
    until("them to be open", || connections(&gate) == 12);
    assert!(is_turned_away(connect(&gate, [127, 0, 0, 9])));
    assert!(is_turned_away(connect(&gate, [127, 0, 0, 3])));
    // Those who look at the gate have room of their own.
    let auditor = crate::support::Signer::usual().token("carol", &["auditor"]);
    assert_eq!(gate.admin().get("/v1/status", Some(&auditor)).status, 200);
    let figures = gate.health().get("/metrics", None);
    for (kind, count) in [("too_many_of_address", 5), ("too_many_connections", 2)] {
        let line = format!("portcullis_connection_faults_total{{kind=\"{kind}\"}} {count}");
        assert!(figures.text().contains(&line), "{}", figures.text());
    }
    drop((held, proxied));
    until("all to be let go", || connections(&gate) == 0);
    let again = connect(&gate, [127, 0, 0, 2]);
    until("it to be open", || connections(&gate) == 1);
    drop(again);
    gate.stop().verify();
}

#[test]
fn a_drip_of_a_body_is_cut_however_often_it_drips() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).service("timeouts = { idle = \"500ms\" }\nmin_rate = \"64KiB\"").start();
    for head in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut wire = gate.wire();
        wire.send(format!("POST /public/drip HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n"));
        let drop = if head.starts_with('T') { "1\r\na\r\n" } else { "a" };
        // Something comes all the time, so it never stands still.
        until("an answer", || wire.try_send(drop).is_err() || !wire.is_silent());
        let answer = wire.answer().unwrap();
        assert_eq!(answer.status, 408, "{}", answer.head);
    }
    let site = gate.stop();
    site.verify();
    let slow = site.records().into_iter().filter(|r| r["detail"] == "request_body_slow").count();
    assert_eq!(slow, 2);
}

#[test]
fn a_slow_body_that_keeps_the_rate_gets_through() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).service("min_rate = 1").start();
    let mut wire = gate.wire();
    wire.send("POST /public/slow HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n");
    for _ in 0..20 {
        wire.send("a");
        assert!(wire.is_silent());
    }
    assert_eq!(wire.answer().unwrap().status, 200);
    gate.stop().verify();
}

/// A service whose answers never end, and callers that ask for one and read little or nothing of it.
#[test]
fn callers_that_do_not_read_pin_no_memory_and_hold_no_service() {
    let (endless, quick) = (Upstream::start(Act::Flood), Upstream::start(Act::Answer));
    let gate = Setup::new(&endless)
        .service("path_prefix = \"/public/flood\"\ntimeouts = { idle = \"500ms\" }")
        .services(&format!(
            "[[service]]\nname = \"quick\"\nhosts = [\"*\"]\nupstreams = [\"http://{}\"]\n",
            quick.address
        ))
        .policy("p, anonymous, app, /public/*, .*, allow\np, anonymous, quick, /public/*, .*, allow\n")
        .start();
    assert_eq!(gate.client().get("/public/before", None).status, 200);
    let before = resident_kib(&gate);
    let reading_nothing: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = connect(&gate, [127, 0, 0, 1]);
            stream.write_all(b"GET /public/flood HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            stream
        })
        .collect();
    // A window that opens byte by byte, and never by as much as a frame.
    let mut by_the_byte = Frames::open(gate.front, 0);
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/public/flood"), (":authority", "a")];
    by_the_byte.request(1, &fields, false);
    assert_eq!(by_the_byte.status(1), Some(200));
    until("the services to be let go", || {
        // Once it is reset there is nobody to take it.
        let _ = by_the_byte.try_send(&frame_of(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes()));
        endless.count() == 21 && endless.open() == 0
    });
    assert_eq!(gate.client().get("/public/others", None).status, 200);
    assert!(resident_kib(&gate) < before + (32 << 10), "{before} KiB before, {} now", resident_kib(&gate));
    drop((reading_nothing, by_the_byte));
    let site = gate.stop();
    site.verify();
    let outcomes = site.records().into_iter().filter(|record| record["detail"] == "client_stalled").count();
    assert_eq!(outcomes, 21);
}

#[test]
fn chunks_that_never_end_do() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).service("max_body = \"64KiB\"").start();
    let mut wire = gate.wire();
    wire.send("POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("400\r\n{}\r\n", "a".repeat(1024));
    until("an answer", || wire.try_send(&chunk).is_err() || !wire.is_silent());
    assert_eq!(wire.answer().unwrap().status, 413);
    gate.stop().verify();
}

#[test]
fn a_drip_of_a_head_is_cut_however_often_it_drips() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).tables("[limits]\nheader_timeout = \"300ms\"").start();
    let mut wire = gate.wire();
    wire.send("GET /public/x HTTP/1.1\r\nHost: a\r\nX: ");
    until("it to be cut off", || wire.try_send("a").is_err());
    assert_eq!(gate.client().get("/public/x", None).status, 200);
    gate.stop().verify();
    assert_eq!(upstream.count(), 1);
}

#[test]
fn ten_thousand_idle_connections_keep_nobody_out_and_cost_little() {
    const IDLE: u64 = 10_000;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if maximum.is_some_and(|maximum| maximum < IDLE + 2_000) {
        eprintln!(
            "SKIPPED: 10,000 connections need more open files than this system's hard limit, {maximum:?}"
        );
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream)
        .tables("[limits]\nconnections = 11000\nconnections_per_address = 2500\nidle_timeout = \"1h\"")
        .start();
    assert_eq!(gate.client().get("/public/before", None).status, 200);
    let before = resident_kib(&gate);
    let mut idle = Vec::new();
    for number in 0..IDLE {
        // As many as an address may have, from each of four.
        idle.push(connect(&gate, [127, 0, 1, u8::try_from(number / 2500).unwrap()]));
        if number % 1000 == 0 {
            assert_eq!(gate.client().get("/public/meanwhile", None).status, 200);
            assert_eq!(gate.client2().get("/public/meanwhile", None).status, 200);
        }
    }
    until("all to be open", || connections(&gate) >= IDLE);
    for _ in 0..100 {
        assert_eq!(gate.client().get("/public/others", None).status, 200);
    }
    let each = (resident_kib(&gate) - before) * 1024 / IDLE;
    // Figures are in benches/README.md; this build's are greater.
    assert!(each < 64 << 10, "{each} bytes for an idle connection");
    drop(idle);
    until("all to be let go", || connections(&gate) == 0);
    gate.stop().verify();
}

fn resident_kib(gate: &Gate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
