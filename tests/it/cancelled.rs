//! Work that is cut short: the caller goes away, the gate's patience ends, the service fails. Each leaves its decision and
//! its outcome on the log, and nothing else anywhere.

use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::support::client::{HOST, empty};
use crate::support::faulty::Fault;
use crate::support::frames::{DATA, Frames, RST_STREAM};
use crate::support::gate::Here;
use crate::support::{
    Act, Client, Gate, Setup, Signer, Site, Upstream, Wire, nothing_is_left, poll, readiness, until,
};

/// How a caller goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    /// It closes its HTTP/1.1 connection.
    Closing,
    /// It closes its HTTP/2 connection.
    Closing2,
    /// It resets its HTTP/2 stream; the connection stays.
    Resetting,
}

const ALL: [Leaves; 3] = [Leaves::Closing, Leaves::Closing2, Leaves::Resetting];

/// A caller that will go away.
enum Leaver {
    Wire(Wire),
    Frames(Frames, Leaves),
}

impl Leaver {
    fn call(how: Leaves, address: SocketAddr, path: &str, token: Option<&str>) -> Self {
        Self::begin(how, address, ("GET", path), token, None)
    }

    /// A call whose body of 10 bytes is begun with `part`, if there is one.
    fn begin(
        how: Leaves,
        address: SocketAddr,
        (method, path): (&str, &str),
        token: Option<&str>,
        part: Option<&str>,
    ) -> Self {
        let bearer = token.map(|token| format!("Bearer {token}"));
        if how == Leaves::Closing {
            let mut wire = Wire::open(address);
            let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n");
            head.extend(bearer.map(|bearer| format!("Authorization: {bearer}\r\n")));
            head.extend(part.map(|_| "Content-Length: 10\r\n"));
            wire.send(format!("{head}\r\n{}", part.unwrap_or_default()));
            return Self::Wire(wire);
        }
        let mut frames = Frames::open(address, 65_535);
        let mut fields =
            vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", HOST)];
        // The hand-made encoder knows no long values; a token goes in parts that a server puts together again.
        assert!(bearer.is_none(), "no tokens over hand-made HTTP/2");
        if part.is_some() {
            fields.push(("content-length", "10"));
        }
        frames.request(1, &fields, part.is_some());
        if let Some(part) = part {
            frames.data(1, part.as_bytes());
        }
        Self::Frames(frames, how)
    }

    /// Waits for the beginning of the answer's body.
    fn hears(&mut self, first: &str) {
        match self {
            Self::Wire(wire) => wire.hears(first.as_bytes()),
            Self::Frames(frames, _) => {
                assert_eq!(frames.read(DATA, 1).as_deref(), Some(first.as_bytes()));
            }
        }
    }

    /// Goes away. A connection that stays is of use still.
    fn leave(self) -> Option<Frames> {
        match self {
            Self::Frames(mut frames, Leaves::Resetting) => {
                frames.reset(1);
                frames.settle();
                Some(frames)
            }
            Self::Frames(..) | Self::Wire(_) => None,
        }
    }
}

fn field(path: &str) -> [(&'static str, &str); 4] {
    [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", HOST)]
}

/// The decision and the outcome of the only call to `path`.
fn told(site: &Site, path: &str) -> (Value, Value) {
    let decision = site.record_where("its decision", |record| record["request"]["path"] == path);
    let outcome = site.outcome_of(decision["index"].as_u64().unwrap());
    (decision, outcome)
}

/// What an outcome says, apart from what differs each time.
fn gist(outcome: &Value) -> Value {
    json!([
        outcome["result"],
        outcome["detail"],
        outcome["status"],
        outcome["request_bytes"],
        outcome["response_bytes"]
    ])
}

#[test]
fn a_caller_gone_before_its_head_is_whole_leaves_nothing() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let mut wire = gate.wire();
    wire.send("GET /public/half HTTP/1.1\r\nHost: a");
    let mut frames = Frames::open(gate.front, 65_535);
    frames.half_a_head(1, &field("/public/half"));
    until("both to be there", || readiness(gate.health())["connections"] == 2);
    drop((wire, frames));
    nothing_is_left(&gate, gate.health());
    let site = gate.stop();
    assert!(site.records().iter().all(|record| record["kind"] != "decision"));
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_caller_gone_while_keys_are_fetched_leaves_nothing() {
    let upstream = Upstream::start(Act::Answer);
    // An issuer that takes connections and says nothing.
    let issuer = TcpListener::bind("127.0.0.1:0").unwrap();
    let keys = format!(
        "[[issuer]]\nname = \"slow\"\nissuer = \"https://issuer.example.com\"\naudience = \"gate\"\n\
         algorithms = [\"ES256\"]\njwks_url = \"http://{}/keys\"\n",
        issuer.local_addr().unwrap()
    );
    let gate = Setup::new(&upstream).issuers(&keys).start();
    let token = Signer::usual().token("alice", &["viewer"]);
    let leaver = Leaver::call(Leaves::Closing, gate.front, "/docs/gone", Some(&token));
    until("it to wait for keys", || readiness(gate.health())["in_flight"] == 1);
    leaver.leave();
    nothing_is_left(&gate, gate.health());
    // And over HTTP/2, by a client that can be told to drop a call.
    let client = gate.client2();
    crate::support::block_on(async {
        let request = client.request("GET", "/docs/gone", Some(&token), &[], empty());
        let calling = client.exchange(request);
        let seen = async {
            while readiness_of(gate.health()).await["in_flight"] != 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = calling => panic!("it was answered"),
            () = seen => {}
        }
    });
    nothing_is_left(&gate, gate.health());
    let site = gate.stop();
    site.verify();
    // Nothing was decided, so there is nothing to record; and nothing went on.
    assert!(site.records().iter().all(|record| record["request"]["path"] != "/docs/gone"));
    assert_eq!(upstream.connections(), 0);
}

async fn readiness_of(health: Client) -> Value {
    let response = health.exchange(health.request("GET", "/readyz", None, &[], empty())).await.unwrap();
    crate::support::client::whole(response).await.unwrap().json()
}

#[test]
fn a_caller_gone_during_the_commit_is_on_record_and_not_forwarded() {
    for how in ALL {
        let (upstream, gate) = here(Act::Answer, |setup| setup);
        gate.store.set(Fault::Block);
        let leaver = Leaver::call(how, gate.front(), "/public/gone", None);
        gate.store.wait_blocked();
        let kept = leaver.leave();
        let left = usize::from(kept.is_some());
        until("the gate to see it go", || readiness(gate.health())["connections"] == left);
        // Its place stays taken until its record is out of the way.
        assert_eq!(readiness(gate.health())["in_flight"], 1, "{how:?}");
        gate.store.set(Fault::None);
        let (decision, outcome) = told(&gate, "/public/gone");
        assert_eq!(decision["decision"], "allow");
        assert_eq!(gist(&outcome), json!(["not_forwarded", null, null, 0, 0]), "{how:?}");
        assert_eq!((upstream.connections(), upstream.count()), (0, 0), "{how:?}");
        goes_on(kept);
        nothing_is_left(&gate, gate.health());
        gate.stop().verify();
    }
}

/// The other streams of a connection have nothing to do with one that was reset.
fn goes_on(kept: Option<Frames>) {
    if let Some(mut frames) = kept {
        frames.request(3, &field("/public/next"), false);
        assert_eq!(frames.status(3), Some(200));
    }
}

fn here(act: Act, setup: impl FnOnce(Setup) -> Setup) -> (Upstream, Here) {
    let upstream = Upstream::start(act);
    let here = setup(Setup::new(&upstream)).site().start_here();
    (upstream, here)
}

/// The moments at which a caller goes away after its call was forwarded.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The service has the call and has not answered.
    BeforeTheAnswer,
    /// Part of the answer has arrived.
    DuringTheAnswer,
    /// Part of the call's own body has been sent.
    DuringTheBody,
}

#[test]
fn a_caller_gone_after_its_call_was_forwarded_is_an_aborted_outcome() {
    for (moment, act, told_of) in [
        (Moment::BeforeTheAnswer, Act::Hold, json!(["aborted", "client_gone", null, 0, 0])),
        (Moment::DuringTheAnswer, Act::HoldBody, json!(["aborted", "client_gone", 200, 0, 6])),
        (Moment::DuringTheBody, Act::Answer, json!(["aborted", null, null, 4, 0])),
    ] {
        for how in ALL {
            let upstream = Upstream::start(act);
            let gate = Setup::new(&upstream).start();
            let mut leaver = match moment {
                Moment::DuringTheBody => {
                    let call = ("POST", "/public/gone");
                    Leaver::begin(how, gate.front, call, None, Some("part"))
                }
                _ => Leaver::call(how, gate.front, "/public/gone", None),
            };
            match moment {
                Moment::BeforeTheAnswer => until("it to be forwarded", || upstream.count() == 1),
                Moment::DuringTheAnswer => leaver.hears("first "),
                Moment::DuringTheBody => until("its part to arrive", || {
                    upstream.seen().first().is_some_and(|seen| seen.body == b"part")
                }),
            }
            let kept = leaver.leave();
            let (decision, outcome) = told(&gate, "/public/gone");
            assert_eq!(decision["decision"], "allow");
            let mut gist = gist(&outcome);
            if let Moment::DuringTheBody = moment {
                // Whether the body or the call is seen to break first is the protocol's chance.
                let detail = gist[1].take();
                assert!(detail == "client_gone" || detail == "request_body_broken", "{how:?}: {outcome}");
                gist[2].take();
            }
            assert_eq!(gist, told_of, "{moment:?}, {how:?}: {outcome}");
            until("the service to be let go", || upstream.open() == 0);
            drop(kept);
            nothing_is_left(&gate, gate.health());
            // The next call gets a connection of its own, and all of its answer.
            upstream.release();
            assert_eq!(gate.client().get("/public/next", None).status, 200);
            gate.stop().verify();
        }
    }
}

#[test]
fn a_stream_whose_caller_takes_nothing_ends_alone() {
    let upstream = Upstream::start(Act::Flood);
    let quick = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream)
        .service("path_prefix = \"/public/flood\"\ntimeouts = { idle = \"300ms\" }")
        .services(&format!(
            "[[service]]\nname = \"quick\"\nhosts = [\"*\"]\nupstreams = [\"http://{}\"]\n",
            quick.address
        ))
        .policy("p, anonymous, app, /public/*, .*, allow\np, anonymous, quick, /public/*, .*, allow\n")
        .start();
    // No stream of this connection may send a byte of body before it is granted some.
    let mut frames = Frames::open(gate.front, 0);
    frames.request(1, &field("/public/flood"), false);
    assert_eq!(frames.status(1), Some(200));
    assert!(frames.read(RST_STREAM, 1).is_some(), "it is reset");
    let (_, outcome) = told(&gate, "/public/flood");
    assert_eq!((&outcome["result"], &outcome["detail"]), (&json!("aborted"), &json!("client_stalled")));
    assert!(outcome["response_bytes"].as_u64().unwrap() <= 65_536, "no more than was at hand: {outcome}");
    until("the service to be let go", || upstream.open() == 0);
    // The connection lives, and so do its other streams.
    frames.request(3, &field("/public/quick"), false);
    frames.grant(3, 1000);
    assert_eq!(frames.status(3), Some(200));
    assert_eq!(frames.read(DATA, 3).as_deref(), Some(&b"hello"[..]));
    drop(frames);
    nothing_is_left(&gate, gate.health());
    gate.stop().verify();
}

/// A port that takes no connection: its queue is full.
struct Unreachable {
    address: SocketAddr,
    _held: (socket2::Socket, Vec<TcpStream>),
}

impl Unreachable {
    fn new() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let patience = std::time::Duration::from_millis(200);
        let queued = std::iter::from_fn(|| TcpStream::connect_timeout(&address, patience).ok()).collect();
        Self { address, _held: (listener, queued) }
    }
}

#[test]
fn what_the_gate_gives_up_on_is_told_and_let_go() {
    for (act, timeouts, call, told_of) in [
        (Act::Hold, "head = \"200ms\"", None, json!(["upstream_error", "head_timeout", 504, 0, 0])),
        (Act::HoldBody, "idle = \"200ms\"", None, json!(["upstream_error", "response_body_idle", 200, 0, 6])),
        (Act::Answer, "idle = \"200ms\"", Some("part"), json!(["aborted", "request_body_idle", 408, 4, 0])),
        (Act::Hang, "idle = \"60s\"", None, json!(["upstream_error", "broken_answer", 502, 0, 0])),
        (Act::Cut, "idle = \"60s\"", None, json!(["upstream_error", "response_body_broken", 200, 0, 5])),
    ] {
        for how in ALL {
            let upstream = Upstream::start(act);
            let gate = Setup::new(&upstream).service(&format!("timeouts = {{ {timeouts} }}")).start();
            let method = if call.is_some() { "POST" } else { "GET" };
            let mut leaver = Leaver::begin(how, gate.front, (method, "/public/late"), None, call);
            if act == Act::Cut {
                leaver.hears("hello");
                upstream.release();
            }
            let (decision, outcome) = told(&gate, "/public/late");
            assert_eq!(decision["decision"], "allow");
            assert_eq!(gist(&outcome), told_of, "{act:?}, {how:?}: {outcome}");
            until("the service to be let go", || upstream.open() == 0);
            drop(leaver);
            nothing_is_left(&gate, gate.health());
            gate.stop().verify();
        }
    }
    for how in ALL {
        let nobody = Unreachable::new();
        let gate = Setup::at(&format!("http://{}", nobody.address))
            .service("timeouts = { connect = \"200ms\" }")
            .start();
        let leaver = Leaver::call(how, gate.front, "/public/late", None);
        let (_, outcome) = told(&gate, "/public/late");
        assert_eq!(gist(&outcome), json!(["upstream_error", "connect_timeout", 504, 0, 0]), "{how:?}");
        drop(leaver);
        nothing_is_left(&gate, gate.health());
        gate.stop().verify();
    }
}

#[test]
fn a_caller_gone_while_the_service_is_being_connected_to_is_not_forwarded() {
    for how in ALL {
        let nobody = Unreachable::new();
        let gate = Setup::at(&format!("http://{}", nobody.address)).start();
        let leaver = Leaver::call(how, gate.front, "/public/gone", None);
        gate.record_where("its decision", |record| record["request"]["path"] == "/public/gone");
        drop(leaver.leave());
        let (_, outcome) = told(&gate, "/public/gone");
        assert_eq!(gist(&outcome), json!(["not_forwarded", null, null, 0, 0]), "{how:?}");
        nothing_is_left(&gate, gate.health());
        gate.stop().verify();
    }
}

#[test]
fn a_record_that_is_late_keeps_a_place_until_it_is_there_and_no_longer() {
    for how in ALL {
        let (upstream, gate) = here(Act::Answer, |setup| setup.log("timeout = \"100ms\""));
        gate.store.set(Fault::Block);
        let leaver = Leaver::call(how, gate.front(), "/public/late", None);
        gate.store.wait_blocked();
        match leaver {
            Leaver::Wire(mut wire) => assert_eq!(wire.answer().unwrap().status, 503),
            Leaver::Frames(mut frames, _) => assert!(frames.read(DATA, 1).is_some()),
        }
        assert_eq!(readiness(gate.health())["in_flight"], 1);
        gate.store.set(Fault::None);
        let (_, outcome) = told(&gate, "/public/late");
        assert_eq!(gist(&outcome), json!(["not_forwarded", null, null, 0, 0]), "{how:?}");
        assert_eq!(upstream.connections(), 0);
        nothing_is_left(&gate, gate.health());
        gate.stop().verify();
    }
}

#[test]
fn thousands_of_cancelled_calls_leave_no_descriptor_and_no_memory_behind() {
    const ROUND: usize = 500;
    let upstream = Upstream::start(Act::HoldBody);
    let gate = Setup::new(&upstream).start();
    let cancel = |from: usize, till: usize| {
        for number in from..till {
            let how = ALL[number % ALL.len()];
            let mut leaver = Leaver::call(how, gate.front, &format!("/public/{number}"), None);
            match number % 2 {
                0 => leaver.hears("first "),
                _ => until("it to be forwarded", || upstream.count() > number),
            }
            leaver.leave();
        }
        nothing_is_left(&gate, gate.health());
        until("the service to be let go", || upstream.open() == 0);
    };
    // What is allocated once is allocated by then.
    cancel(0, ROUND);
    let (descriptors, resident) = (descriptors(&gate), resident_kib(&gate));
    cancel(ROUND, 5 * ROUND);
    until("descriptors to be closed", || self::descriptors(&gate) <= descriptors + 8);
    let grown = resident_kib(&gate).saturating_sub(resident);
    // The write buffers of the log grow towards their bound meanwhile: 4,000 records of less than 1 KiB.
    assert!(grown < 32 << 10, "2,000 calls left {grown} KiB");
    let site = gate.stop();
    site.verify();
    let records = site.records();
    let outcomes = crate::support::log::outcomes(&records);
    assert_eq!(outcomes.len(), 5 * ROUND);
    assert!(outcomes.values().all(|outcome| outcome["result"] == "aborted"));
}

fn descriptors(gate: &Gate) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gate.pid())).unwrap().count()
}

/// The memory of a process that is in use (proc_pid_status(5), `VmRSS`).
fn resident_kib(gate: &Gate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).unwrap();
    poll("its memory", || {
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    })
}
