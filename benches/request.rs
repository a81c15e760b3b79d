//! What the gate adds to a call: throughput, latency, and the CPU time that it takes for one, with 1, 16 and 64 connections.
//! The gate is the real binary, with a token verified, the shipped policy, and a log on disk. Beside it, in the same run: the
//! upstream without anything between, and a bare proxy with the same shape (an acceptor, one current-thread runtime per core,
//! hyper on both sides) that decides nothing and writes nothing.
//!
//! The upstream is nginx where it is installed, else a small hyper server in a process of its own. The load comes from one
//! thread of this process: each connection sends its next call when it has read the last answer.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and ends when something is wrong"
)]

#[path = "peers/beside/bare.rs"]
mod bare;
mod common;

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

fn main() {
    match std::env::var(ROLE).as_deref() {
        Ok("upstream") => serve(None),
        Ok(upstream) => serve(Some(upstream.parse().unwrap())),
        Err(_) => measure(),
    }
}

fn measure() {
    let (upstream, name) = start_upstream();
    let bare = start_self(&upstream.address.to_string());
    println!("request: GET of {} bytes through the gate; upstream: {name}\n", BODY.len());
    println!(
        "| through | connections | calls/s | p50 ms | p99 ms | CPU µs a call | to bare: calls/s | to bare: CPU |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for connections in [1, 16, 64] {
        tell("nothing", connections, &load(&upstream, connections, ""), None);
        let beside = load(&bare, connections, "");
        tell("a bare proxy", connections, &beside, Some(&beside));
        for durability in ["fsync", "os"] {
            let dir = common::on_disk();
            let (gate, token) = start_gate(dir.path(), upstream.address, durability);
            let measured = load(&gate, connections, &token);
            tell(&format!("the gate, {durability}"), connections, &measured, Some(&beside));
        }
    }
}

fn tell(through: &str, connections: usize, measured: &Measured, bare: Option<&Measured>) {
    let ratios = bare.map_or_else(
        || "| |".to_owned(),
        |bare| format!("{:.2} | {:.1} |", measured.rate / bare.rate, measured.cpu_us / bare.cpu_us),
    );
    println!(
        "| {through} | {connections} | {:.0} | {} | {} | {:.0} | {ratios}",
        measured.rate,
        common::ms(common::percentile(&measured.waits, 0.5)),
        common::ms(common::percentile(&measured.waits, 0.99)),
        measured.cpu_us,
    );
}

struct Measured {
    rate: f64,
    cpu_us: f64,
    waits: Vec<Duration>,
}

/// Calls through `server`, over so many connections at once.
fn load(server: &Server, connections: usize, token: &str) -> Measured {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let calls = |time: Duration| {
        let until = Instant::now() + time;
        LocalSet::new().block_on(&runtime, async {
            let clients: Vec<_> = (0..connections)
                .map(|_| tokio::task::spawn_local(one_connection(server.address, token.to_owned(), until)))
                .collect();
            let mut waits = Vec::new();
            for client in clients {
                waits.append(&mut client.await.unwrap());
            }
            waits
        })
    };
    // Caches fill, connections open, the token is verified.
    calls(common::measured_for() / 4);
    let (cpu, began) = (server.cpu(), Instant::now());
    let mut waits = calls(common::measured_for());
    let (took, cpu) = (began.elapsed(), server.cpu() - cpu);
    waits.sort_unstable();
    let count = waits.len() as f64;
    Measured { rate: count / took.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / count, waits }
}

/// One call after another on one connection; how long each took.
async fn one_connection(address: SocketAddr, token: String, until: Instant) -> Vec<Duration> {
    let mut sender = dial(address).await;
    let mut waits = Vec::new();
    while Instant::now() < until {
        let mut request = Request::get(TARGET).header(header::HOST, "app.example.com");
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let began = Instant::now();
        let response = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), BODY.len());
        waits.push(began.elapsed());
    }
    waits
}

async fn dial(address: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(async move {
        // It ends when its other end goes, or when the sender is dropped.
        let _ = connection.await;
    });
    sender
}

/// A process that serves; it is ended when dropped.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// The CPU time it has used, in user and kernel, of all its threads (proc(5), `utime` and `stime`, in hundredths).
    fn cpu(&self) -> Duration {
        // nginx works in a child.
        let children = format!("/proc/{0}/task/{0}/children", self.process.id());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let ids = children.split_whitespace().map(str::to_owned).chain([self.process.id().to_string()]);
        let ticks: u64 = ids
            .map(|id| {
                let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
                // The name, in parentheses, may hold blanks. What follows it begins with field 3.
                let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
                fields.iter().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>()
            })
            .sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that nginx takes its workers along and the gate closes its log.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

fn start_upstream() -> (Server, &'static str) {
    let there = Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok();
    if there {
        (start_nginx(), "nginx, one worker")
    } else {
        (start_self("upstream"), "hyper; nginx is not installed")
    }
}

fn start_nginx() -> Server {
    // Left behind for the system to clean up: nginx reads it as long as it runs.
    let dir = common::on_disk().keep();
    let address = free_address();
    let config = format!(
        "daemon off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;
         events {{ worker_connections 1024; }}
         http {{ access_log off; keepalive_requests 100000000; default_type text/plain;
                server {{ listen {address}; location / {{ return 200 \"{BODY}\"; }} }} }}",
        dir.display()
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let process = Command::new("nginx").arg("-c").arg(file).stderr(Stdio::null()).spawn().unwrap();
    until_connected(address);
    Server { process, address }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn until_connected(address: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on {address}");
        std::thread::yield_now();
    }
}

/// This binary again, as an upstream or as a bare proxy before one; it says where it listens.
fn start_self(role: &str) -> Server {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Server { process, address: line.trim().parse().unwrap() }
}

/// The gate as `portcullis init` makes it, and alice's token.
fn start_gate(dir: &Path, upstream: SocketAddr, durability: &str) -> (Server, String) {
    let (gate, ready) = (dir.join("gate"), dir.join("ready"));
    let init = Command::new(BINARY)
        .arg("init")
        .arg(&gate)
        .args(["--upstream", &format!("http://{upstream}")])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(init.success());
    let process = Command::new(BINARY)
        .args(["serve", "--config"])
        .arg(gate.join("portcullis.toml"))
        .arg("--ready-file")
        .arg(&ready)
        .env("PORTCULLIS__SERVER__LISTEN", "127.0.0.1:0")
        .env("PORTCULLIS__ADMIN__LISTEN", "127.0.0.1:0")
        .env("PORTCULLIS__HEALTH__LISTEN", "127.0.0.1:0")
        .env("PORTCULLIS__LOG__DURABILITY", durability)
        .env("PORTCULLIS__LOGGING__LEVEL", "error")
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let addresses = loop {
        match std::fs::read_to_string(&ready) {
            Ok(text) => break serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            Err(_) => assert!(Instant::now() < deadline, "the gate did not get ready"),
        }
        std::thread::yield_now();
    };
    let address = addresses.pointer("/front/0").unwrap().as_str().unwrap().parse().unwrap();
    let token = std::fs::read_to_string(gate.join("tokens/alice.jwt")).unwrap().trim().to_owned();
    (Server { process, address }, token)
}

/// Serves until ended: with an upstream as a bare proxy before it, without one as an upstream.
fn serve(upstream: Option<SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    match upstream {
        Some(upstream) => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            bare::per_core(&listener, cores, move |stream| bare::pass(stream, upstream));
        }
        // One thread, as nginx gets one worker.
        None => bare::per_core(&listener, 1, answer),
    }
}

async fn answer(stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let answer = async |_: Request<Incoming>| Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::from(BODY)));
    // The caller may hang up at any time.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// Says to this binary what it is started as.
const ROLE: &str = "PORTCULLIS_BENCH_ROLE";

const TARGET: &str = "/docs/intro";

const BODY: &str =
    "It is written before it opens, and what is written stays as it is: that is all there is to a gate.\n";
