//! HTTP/2 that brings nobody further: its memory and its records are bounded, others are served meanwhile, and the
//! connection ends.

use crate::support::client::HOST;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, block,
    frame_of,
};
use crate::support::{Act, Gate, Setup, Upstream, nothing_is_left, until};

const CONTINUATION: u8 = 9;
const PRIORITY: u8 = 2;
const INCREMENTAL: u8 = 0x40;

/// An attack: what it is called, what comes first, and what comes over and over.
struct Attack {
    name: &'static str,
    first: Vec<u8>,
    each: fn(u32) -> Vec<u8>,
    /// Records that it may leave.
    records: usize,
}

fn head(end_stream: bool, stream: u32) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/public/x"), (":authority", HOST)];
    let flags = END_HEADERS | if end_stream { END_STREAM } else { 0 };
    frame_of(HEADERS, flags, stream, &block(&fields))
}

/// A head whose fields are one of 4,000 bytes, named anew 12,000 times by a byte each (RFC 7541 §2.3).
fn bomb(stream: u32) -> Vec<u8> {
    let mut fields =
        block(&[(":method", "GET"), (":scheme", "http"), (":path", "/public/x"), (":authority", HOST)]);
    fields.extend([INCREMENTAL, 1, b'a', 0x7f, 0x80 | 33, 30]);
    fields.extend([b'x'; 4000]);
    fields.extend([0x80 | 62; 12_000]);
    frame_of(HEADERS, END_HEADERS | END_STREAM, stream, &fields)
}

fn attacks() -> Vec<Attack> {
    let attack = |name, each, records| Attack { name, first: Vec::new(), each, records };
    vec![
        attack("pings", |_| frame_of(PING, 0, 0, &[1; 8]), 0),
        attack("answers to pings that were not sent", |_| frame_of(PING, 1, 0, &[1; 8]), 0),
        attack("settings", |_| frame_of(SETTINGS, 0, 0, &[]), 0),
        attack("tables", |n| frame_of(SETTINGS, 0, 0, &[0, 1, 0, 0, (n % 16) as u8, 0]), 0),
        attack("windows", |_| frame_of(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 0),
        attack("priorities", |n| frame_of(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 7]), 0),
        attack("frames of no known kind", |_| frame_of(0xbe, 0, 0, &[0; 100]), 0),
        Attack {
            first: head(false, 1),
            records: 2,
            ..attack("empty data", |_| frame_of(DATA, 0, 1, &[]), 0)
        },
        attack(
            "calls taken back",
            |n| [head(true, 2 * n + 1), frame_of(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat(),
            // Each of 250 may have its decision and its outcome.
            600,
        ),
        Attack {
            first: frame_of(HEADERS, END_STREAM, 1, &block(&[(":method", "GET")])),
            ..attack("a head that goes on", |_| frame_of(CONTINUATION, 0, 1, &[]), 0)
        },
        // 128 streams wait for their bodies; more are refused.
        attack("idle streams", |n| head(false, 2 * n + 1), 260),
    ]
}

/// How many connections were ended for what they sent, by the gate or by the library beneath.
fn faults(gate: &Gate) -> u64 {
    let figures = gate.health().get("/metrics", None);
    ["http2_flood", "http2"]
        .map(|kind| {
            let name = format!("portcullis_connection_faults_total{{kind=\"{kind}\"}} ");
            let count = figures.text().lines().find_map(|line| line.strip_prefix(&name));
            count.map_or(0, |count| count.parse::<u64>().unwrap())
        })
        .iter()
        .sum()
}

fn resident_kib(gate: &Gate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn each_attack_is_cut_off_and_costs_bounded_memory_and_records_while_others_are_served() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    assert_eq!(gate.client2().get("/public/before", None).status, 200);
    nothing_is_left(&gate, gate.health());
    let before = resident_kib(&gate);
    for attack in attacks() {
        let Attack { name, first, each, records } = attack;
        let (counted, size) = (faults(&gate), gate.records().len());
        let frames = Frames::open(gate.front, 65_535);
        let attacking = std::thread::spawn(move || {
            frames.flood(200_000, |n| if n == 0 { [first.clone(), each(n)].concat() } else { each(n) })
        });
        let mut others = 0;
        loop {
            assert_eq!(gate.client().get("/public/others", None).status, 200, "{name}");
            others += 1;
            if attacking.is_finished() {
                break;
            }
        }
        let (ended, _) = attacking.join().unwrap();
        assert!(ended, "{name}: the connection goes on");
        until("it to be counted", || faults(&gate) > counted);
        // Records that trail behind one attack would count against the next.
        nothing_is_left(&gate, gate.health());
        let grown = gate.records().len() - size;
        assert!(grown <= records + 2 * others, "{name}: {grown} records, {others} others");
        let now = resident_kib(&gate);
        assert!(now < before + (64 << 10), "{name}: {before} KiB before, {now} KiB now");
    }
    gate.stop().verify();
}

#[test]
fn calls_that_are_begun_and_taken_back_one_by_one_end_too() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let mut frames = Frames::open(gate.front, 65_535);
    // Each has been begun when it is taken back, so the library sees nothing wrong.
    let taken_back = (0..100_000).map(|number| 2 * number + 1).take_while(|stream| {
        let _ = frames.try_send(&head(true, *stream));
        let goes_on = frames.try_settle();
        let _ = frames.try_send(&frame_of(RST_STREAM, 0, *stream, &[0, 0, 0, 8]));
        goes_on
    });
    let count = taken_back.count();
    assert!((100..=1000).contains(&count), "{count}");
    assert!(faults(&gate) > 0);
    drop(frames);
    nothing_is_left(&gate, gate.health());
    let records = gate.records().len();
    assert!(records <= 2 * (count + 1) + 10, "{records}");
    assert_eq!(gate.client().get("/public/x", None).status, 200);
    gate.stop().verify();
}

#[test]
fn a_small_head_that_stands_for_a_huge_one_is_refused_at_its_real_size() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    assert_eq!(gate.client2().get("/public/before", None).status, 200);
    let before = resident_kib(&gate);
    // 48 MB of fields each; together they would be 4.8 GB.
    let (_, _) = Frames::open(gate.front, 65_535).flood(100, |n| bomb(2 * n + 1));
    assert_eq!(gate.client().get("/public/after", None).status, 200);
    let now = resident_kib(&gate);
    assert!(now < before + (64 << 10), "{before} KiB before, {now} KiB now");
    nothing_is_left(&gate, gate.health());
    gate.stop().verify();
    assert_eq!(upstream.count(), 2, "none of them got by");
}

#[test]
fn a_caller_that_goes_about_its_business_is_left_alone() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let mut frames = Frames::open(gate.front, 65_535);
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/public/x"), (":authority", HOST)];
    for number in 0..600 {
        let stream = 2 * number + 1;
        frames.request(stream, &fields, false);
        assert_eq!(frames.status(stream), Some(200));
        frames.grant(0, 100);
        frames.settle();
    }
    assert_eq!(faults(&gate), 0);
    drop(frames);
    gate.stop().verify();
}
