//! A panic on the path of a call ends that call alone: before its decision in a recorded deny, after it in a 500 or a body
//! that breaks off, and the outcome says that it was the gate's fault.
//!
//! The panics are real. Spans of time that no config can ask for run over the end of time where the gate adds them up;
//! where nothing is added up, the admin API is one that panics.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Request;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::sync::watch;

use portcullis::app::assemble::assemble;
use portcullis::audit::checkpoint::{Origin, SigningKey};
use portcullis::audit::journal::{Journal, JournalOptions};
use portcullis::audit::rocks::{RocksOptions, RocksStore};
use portcullis::audit::storage::Store;
use portcullis::authn::{Algorithm, Authn, AuthnLimits, Issuer, KeySource};
use portcullis::clock::Clock;
use portcullis::config::settings::Settings;
use portcullis::proxy::Face;
use portcullis::server::drain::Drain;
use portcullis::server::faults::Faults;
use portcullis::server::worker::{Accepted, Worker, WorkerParts};

use crate::support::client::{Answer, Sent, empty, whole};
use crate::support::gate::Here;
use crate::support::tokens::{AUDIENCE, ISSUER};
use crate::support::{Act, Client, Setup, Signer, Site, Upstream, block_on, log, poll};

#[test]
fn a_panic_while_a_caller_is_proved_is_a_recorded_deny() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Cracked::start(&Setup::new(&upstream).site(), |_| {});
    let token = Signer::usual().token("alice", &["viewer"]);
    let figures = Figures::watched();
    for http2 in [false, true] {
        let client = Client { address: gate.front, http2, tls: false };
        // Nobody is proved here, so nothing is added up.
        assert_eq!(client.get("/public/x", None).status, 200);
        let before = figures.panics();
        let answer = client.get("/public/x", Some(&token));
        assert_eq!(answer.status, 500);
        let record = gate.site.record(answer.record());
        assert_eq!((&record["decision"], &record["reason"]), (&"deny".into(), &"internal_error".into()));
        assert!(record["identity"]["user"].is_null(), "nobody was proved: {record}");
        assert_eq!(figures.panics(), before + 1);
    }
    assert_eq!(upstream.count(), 2);
    gate.stop().verify();
}

#[test]
fn what_alarms_watch_for_panics_is_there_before_the_first() {
    let gate = Setup::new(&Upstream::start(Act::Answer)).start();
    assert_eq!(panics_told(gate.health()), 0);
}

/// A call that panics on its way, and what must come of it.
struct Row {
    /// Where it panics.
    at: &'static str,
    path: &'static str,
    sees: Sees,
    /// Its outcome's result and status.
    outcome: (&'static str, Option<u16>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    /// 500.
    Failed,
    /// An answer that breaks off.
    Broken,
}

const FRONT: &[Row] = &[
    row("dialling", "/public/dial", Sees::Failed, ("not_forwarded", Some(500))),
    row("waiting for the head", "/public/head", Sees::Failed, ("aborted", Some(500))),
    row("the answer's body", "/public/body", Sees::Broken, ("aborted", Some(200))),
];

const ADMIN: &[Row] = &[
    row("the admin API", "/v1/panics", Sees::Failed, ("aborted", Some(500))),
    row("the admin API's body", "/v1/breaks", Sees::Broken, ("aborted", Some(200))),
];

const fn row(at: &'static str, path: &'static str, sees: Sees, outcome: (&'static str, Option<u16>)) -> Row {
    Row { at, path, sees, outcome }
}

#[test]
fn a_panic_while_a_call_is_carried_out_ends_that_call_and_no_other() {
    let (held, body) = (Upstream::start(Act::Hold), Upstream::start(Act::HoldBody));
    let service = |name: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nhosts = [\"*\"]\npath_prefix = \"/public/{name}\"\n\
             upstreams = [\"http://{}\"]\n",
            body.address
        )
    };
    let site = Setup::new(&held)
        .services(&["dial", "head", "body"].map(service).concat())
        .policy(
            "p, anonymous, app, /public/*, .*, allow\np, anonymous, admin, /v1/*, .*, allow\n\
             p, anonymous, dial, /public/*, .*, allow\np, anonymous, head, /public/*, .*, allow\n\
             p, anonymous, body, /public/*, .*, allow\n",
        )
        .site();
    let gate = Cracked::start(&site, |settings| {
        for service in &mut settings.services {
            let timeouts = &mut service.timeouts;
            match &*service.route.service {
                "dial" => timeouts.connect = Duration::MAX,
                "head" => timeouts.head = Duration::MAX,
                "body" => timeouts.idle = Duration::MAX,
                _ => {}
            }
        }
    });
    let figures = Figures::watched();
    for (address, rows, waits) in [(gate.front, FRONT, "/public/held"), (gate.admin, ADMIN, "/v1/held")] {
        for row in rows {
            println!("{} over HTTP/1.1", row.at);
            let client = Client { address, http2: false, tls: false };
            let before = figures.panics();
            row.judge(client.try_send(client.request("GET", row.path, None, &[], empty())));
            gate.followed(row, 0);
            assert_eq!(figures.panics(), before + 1, "{}: it is counted", row.at);

            println!("{} over HTTP/2", row.at);
            let waited = beside(address, waits, row.path, |struck| {
                row.judge(struck);
                gate.followed(row, 1);
                held.release();
                gate.held.send_replace(true);
            });
            assert_eq!(waited.status, 200, "{}: a call on the same connection", row.at);
        }
    }
    gate.stop().verify();
}

impl Row {
    fn judge(&self, answer: Result<Answer, hyper::Error>) {
        let status = answer.as_ref().map(|answer| answer.status).ok();
        match self.sees {
            Sees::Failed => assert_eq!(status, Some(500), "{}", self.at),
            Sees::Broken => assert!(answer.is_err(), "{}: {answer:?}", self.at),
        }
    }
}

/// Sends a call that waits and one that is struck on one HTTP/2 connection; `release` lets the first one go on. Returns the
/// first one's answer.
fn beside(
    address: SocketAddr,
    waits: &str,
    struck: &str,
    release: impl FnOnce(Result<Answer, hyper::Error>),
) -> Answer {
    let client = Client { address, http2: true, tls: false };
    let request = |path: &str| -> Request<Sent> { client.request("GET", path, None, &[], empty()) };
    block_on(async {
        let stream = TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap());
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let waiting = tokio::spawn(sender.send_request(request(waits)));
        let struck = async { whole(sender.send_request(request(struck)).await?).await }.await;
        release(struck);
        let waited = whole(waiting.await.unwrap().unwrap()).await.unwrap();
        // And what comes after is served, too.
        let after = whole(sender.send_request(request(waits)).await.unwrap()).await.unwrap();
        assert_eq!(after.status, 200);
        waited
    })
}

/// What this process counts. There is one count for all, so who watches it is alone with it.
struct Figures {
    // The health listener of a gate that has nothing else to do.
    teller: Option<Here>,
    _alone: MutexGuard<'static, ()>,
}

impl Figures {
    fn watched() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let teller = Setup::new(&Upstream::start(Act::Answer)).site().start_here();
        Self { teller: Some(teller), _alone: alone }
    }

    fn panics(&self) -> u64 {
        panics_told(self.teller.as_ref().unwrap().health())
    }
}

impl Drop for Figures {
    fn drop(&mut self) {
        // The process must not end while its store is open.
        if let Some(teller) = self.teller.take() {
            let _ = teller.stop();
        }
    }
}

fn panics_told(health: Client) -> u64 {
    let figures = health.get("/metrics", None);
    let told = figures.text().lines().find_map(|line| line.strip_prefix("portcullis_panics_total "));
    told.expect("it is there").parse().unwrap()
}

/// One worker of a gate in this process, with cracks.
struct Cracked {
    site: Arc<Site>,
    front: SocketAddr,
    admin: SocketAddr,
    /// Lets go on what waits at the admin API.
    held: watch::Sender<bool>,
    journal: Journal,
    writer: JoinHandle<()>,
    worker: JoinHandle<()>,
    accepting: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Cracked {
    /// By the site's settings, `spoilt`. Whoever is to be proved panics it.
    fn start(site: &Arc<Site>, spoil: impl FnOnce(&mut Settings)) -> Self {
        let (mut settings, clock) = (site.settings(), Clock::system());
        spoil(&mut settings);
        let parts = assemble(&settings, &clock).unwrap();
        let store: Arc<dyn Store> =
            Arc::new(RocksStore::open(&site.log_dir(), RocksOptions::default()).unwrap());
        let pem = std::fs::read_to_string(site.path("log.pem")).unwrap();
        let origin = Origin::parse(settings.log.origin.as_str()).unwrap();
        let key = SigningKey::from_pkcs8_pem(origin, &pem).unwrap();
        let options = JournalOptions { queue: 1024, timeout: Duration::from_secs(30), denial_bytes: None };
        let (journal, writer) = Journal::open(store, key, clock.clone(), options, parts.epochs).unwrap();
        let (held, holds) = watch::channel(false);
        let mut live = parts.into_live(admin(&holds));
        live.authn = Arc::new(impatient(site, &clock));
        let parts = WorkerParts {
            live: Arc::new(ArcSwap::from_pointee(live)),
            journal: journal.clone(),
            drain: Drain::default(),
            faults: Faults::new(clock),
        };
        let drain = parts.drain.clone();
        let (hands, worker) = Worker::start(0, parts).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let accept = |face| accept(face, hands.clone(), drain.clone(), Arc::clone(&stop));
        let ((front, of_front), (admin, of_admin)) = (accept(Face::Front), accept(Face::Admin));
        let accepting = vec![of_front, of_admin];
        Self { site: Arc::clone(site), front, admin, held, journal, writer, worker, accepting, stop }
    }

    /// The outcome of the latest call of `row`, the `nth`, tells of it.
    fn followed(&self, row: &Row, nth: usize) {
        let outcome = poll("the outcome", || {
            let records = self.site.records();
            let of_row =
                |record: &&Value| record["kind"] == "decision" && record["request"]["path"] == row.path;
            let decision = records.iter().filter(of_row).nth(nth)?["index"].as_u64().unwrap();
            log::outcomes(&records).get(&decision).map(|outcome| (*outcome).clone())
        });
        let status = outcome["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        let told = (outcome["result"].as_str().unwrap(), status);
        assert_eq!((told, &outcome["detail"]), (row.outcome, &"internal_error".into()), "{}", row.at);
    }

    fn stop(self) -> Arc<Site> {
        self.stop.store(true, Ordering::Release);
        for address in [self.front, self.admin] {
            drop(TcpStream::connect(address).unwrap());
        }
        for thread in self.accepting {
            thread.join().unwrap();
        }
        self.worker.join().unwrap();
        self.journal.close();
        self.writer.join().unwrap();
        drop(self.journal);
        self.site
    }
}

/// Hands connections to `worker` until told to stop.
fn accept(face: Face, worker: Worker, drain: Drain, stop: Arc<AtomicBool>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming() {
            if stop.load(Ordering::Acquire) {
                drain.begin();
                return;
            }
            let stream = stream.unwrap();
            stream.set_nonblocking(true).unwrap();
            let (peer, open) = (stream.peer_addr().unwrap(), drain.connection(100, None).unwrap());
            assert!(worker.take(Accepted { stream, peer, face, open }));
        }
    });
    (address, thread)
}

/// An admin API that panics.
fn admin(holds: &watch::Receiver<bool>) -> Router {
    let holds = holds.clone();
    let breaks = || async {
        let first = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"so far")))]);
        let rest = stream::once(async { panic!("on purpose, in a body") });
        axum::body::Body::new(StreamBody::new(Box::pin(first.chain(rest))))
    };
    Router::new()
        .route("/v1/panics", get(|| async { panic!("on purpose, in a handler") as &'static str }))
        .route("/v1/breaks", get(breaks))
        .route(
            "/v1/held",
            get(move || async move {
                holds.clone().wait_for(|go| *go).await.unwrap();
                "held"
            }),
        )
}

/// The usual issuer, whose keys are waited for beyond the end of time.
fn impatient(site: &Site, clock: &Clock) -> Authn {
    let issuer = Issuer {
        name: "main".into(),
        issuer: ISSUER.into(),
        audiences: vec![AUDIENCE.into()],
        algorithms: vec![Algorithm::Es256],
        keys: KeySource::File(site.path("jwks.json")),
        refresh: Duration::from_secs(60),
        max_stale: Duration::from_secs(3600),
        subject_claim: "sub".into(),
        roles_claim: "roles".into(),
        roles: vec!["viewer".into()],
        primary: true,
    };
    let limits = AuthnLimits { key_wait: Duration::MAX, ..AuthnLimits::default() };
    Authn::new(vec![issuer], limits, clock.clone()).unwrap()
}
