use super::*;
use crate::audit::checkpoint::{Origin, SigningKey};
use crate::audit::testing::{MemoryStore, key};

/// Steps that take no time, and do something before the slice that begins at an index.
struct Quick<'a> {
    before: Box<dyn FnMut(u64) + 'a>,
    waits: u32,
}

impl pass::Steps for Quick<'_> {
    fn slice(&self) -> u64 {
        7
    }

    fn at(&mut self, next: u64, _: u64) {
        (self.before)(next);
    }

    fn rest(&mut self, read: u64, _: Instant) -> bool {
        assert!(read <= 7, "a slice of {read}");
        true
    }

    fn wait(&mut self, _: Duration) -> bool {
        self.waits += 1;
        true
    }
}

fn walk_with(log: &Arc<MemoryStore>, before: impl FnMut(u64)) -> (Ended, u32) {
    let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(log);
    let mut steps = Quick { before: Box::new(before), waits: 0 };
    let ended = Pass::new(&store, &key().verifier(), &log.latest()).walk(&mut steps);
    (ended, steps.waits)
}

fn walk(log: &Arc<MemoryStore>) -> Ended {
    walk_with(log, |_| ()).0
}

/// The first bad index of a log that does not hold.
fn first_bad(log: &Arc<MemoryStore>) -> (u64, String) {
    match walk(log) {
        Ended::Fails(Failure { index, what, .. }) => (index, what),
        ended => panic!("{ended:?}"),
    }
}

#[test]
fn a_log_that_holds_is_read_whole() {
    for size in [1, 6, 7, 8, 50] {
        let Ended::Holds(report) = walk(&MemoryStore::of(size, "v")) else { panic!("{size}") };
        assert_eq!(report.records, size);
    }
}

#[test]
fn a_flipped_byte_is_found_at_its_index_wherever_it_is() {
    for index in 0..30 {
        let log = MemoryStore::of(30, "v");
        // The last letter of the config's epoch: it is a record still.
        let at = log.held().records[&index].len() - 40;
        log.held().records.get_mut(&index).unwrap()[at] ^= 1;
        assert_eq!(first_bad(&log).0, index);
    }
}

#[test]
fn a_missing_record_is_found_at_its_index_wherever_it_was() {
    for index in 0..30 {
        let log = MemoryStore::of(30, "v");
        log.held().records.remove(&index);
        assert_eq!(first_bad(&log).0, index);
    }
}

#[test]
fn a_kept_checkpoint_that_does_not_hold_is_found() {
    let other = SigningKey::from_seed(Origin::parse("gate.example/1").unwrap(), &[9; 32]);
    let root = Hash::of(b"another");
    for (note, what) in [
        ("nonsense".to_owned(), "checkpoint"),
        (other.sign(13, &root), "checkpoint"),
        (key().sign(13, &root), "altered"),
        (key().sign(2, &root), "checkpoint"),
    ] {
        let log = MemoryStore::of(30, "v");
        assert!(log.held().kept.insert(13, note).is_some());
        let (index, said) = first_bad(&log);
        assert_eq!(index, 10, "the records after the last checkpoint that holds: {said}");
        assert!(said.contains(what), "{said}");
    }
}

#[test]
fn a_damaged_block_is_a_mismatch_at_the_first_record_that_cannot_be_read() {
    let log = MemoryStore::of(30, "v");
    log.held().damaged = Some(17);
    let (index, what) = first_bad(&log);
    assert_eq!(index, 17);
    assert!(what.contains("cannot be read"), "{what}");
}

#[test]
fn an_edit_before_a_damaged_block_comes_first() {
    let log = MemoryStore::of(30, "v");
    log.held().damaged = Some(17);
    let at = log.held().records[&5].len() - 40;
    log.held().records.get_mut(&5).unwrap()[at] ^= 1;
    assert_eq!(first_bad(&log).0, 5);
}

#[test]
fn a_disk_that_refuses_for_a_moment_is_asked_again_and_one_that_always_does_is_a_mismatch() {
    let log = MemoryStore::of(30, "v");
    log.held().refused = 2;
    let (ended, waits) = walk_with(&log, |_| ());
    assert!(matches!(ended, Ended::Holds(_)), "{ended:?}");
    assert_eq!(waits, 2);
    log.held().refused = u32::MAX;
    assert_eq!(first_bad(&log).0, 0);
}

#[test]
fn a_pass_over_a_log_that_grows_ends_where_it_was_when_it_began() {
    let log = MemoryStore::of(30, "v");
    let (ended, _) = walk_with(&log, |_| log.grow(11, "v"));
    let Ended::Holds(report) = ended else { panic!("{ended:?}") };
    assert_eq!(report.records, 30);
    // The last record's neighbour, which came meanwhile, says that it was altered.
    let log = MemoryStore::of(30, "v");
    let at = log.held().records[&29].len() - 40;
    log.held().records.get_mut(&29).unwrap()[at] ^= 1;
    let (ended, _) = walk_with(&log, |_| log.grow(1, "v"));
    let Ended::Fails(Failure { index, .. }) = ended else { panic!("{ended:?}") };
    assert_eq!(index, 29);
}

#[test]
fn checkpoints_are_read_a_page_at_a_time() {
    let log = MemoryStore::of(2_000, "v");
    let Ended::Holds(report) = walk(&log) else { panic!() };
    assert!(report.checkpoints > 600);
    assert!(log.held().most_kept <= 256);
}

/// A verification on a thread of its own.
struct Going {
    passes: Passes,
    status: Arc<Status>,
    found: Receiver<Mismatch>,
}

fn start(log: &Arc<MemoryStore>, rate: u32) -> Going {
    let (tell, found) = channel();
    let latest = Arc::clone(log);
    let walked = Walked {
        store: Arc::<MemoryStore>::clone(log),
        key: key().verifier(),
        latest: Box::new(move || latest.latest()),
        mismatched: Box::new(move |mismatch| tell.send(mismatch.clone()).unwrap()),
        clock: Clock::system(),
    };
    let (status, pace) = (Arc::<Status>::default(), Pace { rate, pause: Duration::from_millis(1) });
    let passes = Passes::start(walked, pace, Arc::clone(&status)).unwrap();
    Going { passes, status, found }
}

fn until(mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn pass_follows_pass_and_takes_in_what_was_added() {
    let log = MemoryStore::of(30, "v");
    let going = start(&log, 1_000_000);
    until(|| going.status.standing().passes >= 2);
    log.grow(12, "v");
    until(|| going.status.standing().last_pass.is_some_and(|pass| pass.records == 42));
    assert_eq!(going.status.standing().mismatch, None);
    going.passes.stop();
}

#[test]
fn what_goes_bad_later_is_found_by_a_later_pass_and_told_once() {
    let log = MemoryStore::of(30, "v");
    let going = start(&log, 1_000_000);
    until(|| going.status.standing().passes >= 1);
    let at = log.held().records[&8].len() - 40;
    log.held().records.get_mut(&8).unwrap()[at] ^= 1;
    let mismatch = going.found.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(mismatch.index, 8);
    let standing = going.status.standing();
    assert_eq!((standing.stage, standing.mismatch), (Stage::Mismatch, Some(mismatch)));
    assert!(going.found.recv().is_err(), "the thread has ended");
    going.passes.stop();
}

#[test]
fn a_slow_pass_is_ended_where_it_is() {
    let log = MemoryStore::of(30, "v");
    // At this rate it would take half a minute.
    let going = start(&log, 1);
    until(|| going.status.standing().at > 0);
    going.passes.stop();
    assert_eq!(going.status.standing().passes, 0);
}
