//! What an idle connection costs in memory: the growth of the gate's resident set while 10,000 are open, for each of them,
//! silent from the start or kept after a call. The gate is the real binary. `IDLE_CONNECTIONS` makes it fewer.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench prints, and ends when something is wrong"
)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// What a connection does before it lies idle.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Silent,
    Http1,
    Http2,
    TlsHttp1,
    TlsHttp2,
}

fn main() {
    let count: usize = std::env::var("IDLE_CONNECTIONS").map_or(10_000, |text| text.parse().unwrap());
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let needed = count as u64 + 1000;
    assert!(
        maximum.is_none_or(|maximum| maximum >= needed),
        "{count} connections take {needed} open files, and the hard limit is {maximum:?}"
    );
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    println!("idle: {count} connections\n");
    println!("| connections | resident MiB before | with them | bytes each |");
    println!("|---|---:|---:|---:|");
    for (name, kind) in [
        ("plain, never said a word", Kind::Silent),
        ("plain HTTP/1.1, after a call", Kind::Http1),
        ("plain HTTP/2, after a call", Kind::Http2),
        ("TLS 1.3 HTTP/1.1, after a call", Kind::TlsHttp1),
        ("TLS 1.3 HTTP/2, after a call", Kind::TlsHttp2),
    ] {
        measure(name, kind, count);
    }
}

fn measure(name: &str, kind: Kind, count: usize) {
    let dir = common::on_disk();
    let gate = Gate::start(dir.path(), matches!(kind, Kind::TlsHttp1 | Kind::TlsHttp2));
    // What is allocated once is there, and the connections that count come on top.
    let mut kept: Vec<_> = (0..100).map(|_| gate.connect(kind)).collect();
    let before = gate.resident();
    kept.extend((0..count).map(|_| gate.connect(kind)));
    let with = gate.resident();
    let each = with.saturating_sub(before) / count as u64;
    println!("| {name} | {} | {} | {each} |", before >> 20, with >> 20);
    drop(kept);
}

struct Gate {
    process: Child,
    address: SocketAddr,
    client: Arc<ClientConfig>,
}

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

impl Gate {
    fn start(dir: &Path, tls: bool) -> Self {
        let (gate, ready) = (dir.join("gate"), dir.join("ready"));
        let init = Command::new(BINARY).arg("init").arg(&gate).stdout(Stdio::null()).status().unwrap();
        assert!(init.success());
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(dir.join("cert.pem"), own.cert.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), own.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut serve = Command::new(BINARY);
        serve.args(["serve", "--config"]).arg(gate.join("portcullis.toml")).arg("--ready-file").arg(&ready);
        for (key, value) in [
            ("SERVER__LISTEN", "127.0.0.1:0"),
            ("ADMIN__LISTEN", "127.0.0.1:0"),
            ("HEALTH__LISTEN", "127.0.0.1:0"),
            ("LOG__DURABILITY", "os"),
            ("LOGGING__LEVEL", "error"),
            ("LIMITS__CONNECTIONS", "1000000"),
            ("LIMITS__CONNECTIONS_PER_ADDRESS", "1000000"),
            ("LIMITS__IDLE_TIMEOUT", "1h"),
        ] {
            serve.env(format!("PORTCULLIS__{key}"), value);
        }
        if tls {
            serve.env("PORTCULLIS__SERVER__TLS__CERT", dir.join("cert.pem"));
            serve.env("PORTCULLIS__SERVER__TLS__KEY", dir.join("key.pem"));
        }
        let process = serve.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let addresses = loop {
            match std::fs::read_to_string(&ready) {
                Ok(text) => break serde_json::from_str::<serde_json::Value>(&text).unwrap(),
                Err(_) => assert!(Instant::now() < deadline, "the gate did not get ready"),
            }
            std::thread::yield_now();
        };
        let address = addresses.pointer("/front/0").unwrap().as_str().unwrap().parse().unwrap();
        Self { process, address, client: Arc::new(client) }
    }

    fn connect(&self, kind: Kind) -> Box<dyn Connection> {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut connection: Box<dyn Connection> = match kind {
            Kind::Silent | Kind::Http1 | Kind::Http2 => Box::new(socket),
            Kind::TlsHttp1 | Kind::TlsHttp2 => {
                let mut config = ClientConfig::clone(&self.client);
                let protocol: &[u8] = if kind == Kind::TlsHttp2 { b"h2" } else { b"http/1.1" };
                config.alpn_protocols = vec![protocol.to_vec()];
                let name = ServerName::try_from("localhost").unwrap();
                Box::new(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket))
            }
        };
        match kind {
            Kind::Silent => {}
            Kind::Http1 | Kind::TlsHttp1 => http1(&mut connection),
            Kind::Http2 | Kind::TlsHttp2 => http2(&mut connection),
        }
        connection
    }

    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A call that the gate answers itself, read to its end.
fn http1(connection: &mut impl Connection) {
    connection.write_all(b"GET //x HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}\n") {
        let mut some = [0; 4096];
        let read = connection.read(&mut some).unwrap();
        assert!(read > 0, "the gate ended the connection");
        answer.extend_from_slice(&some[..read]);
    }
}

fn http2(connection: &mut impl Connection) {
    let mut block = Vec::new();
    for (name, value) in
        [(":method", "GET"), (":scheme", "http"), (":path", "//x"), (":authority", "localhost")]
    {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0".to_vec();
    bytes.extend([u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
    bytes.extend(block);
    // The answer to the gate's settings.
    bytes.extend(b"\0\0\0\x04\x01\0\0\0\0");
    connection.write_all(&bytes).unwrap();
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        connection.read_exact(&mut payload).unwrap();
        if head[8] == 1 && head[4] & 1 != 0 {
            return;
        }
    }
}

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
