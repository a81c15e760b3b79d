use proptest::prelude::*;

use super::*;
use crate::audit::checkpoint::{Origin, SigningKey};
use crate::audit::record::{Body, Epochs, Event, seal};

const EPOCHS: Epochs = Epochs { policy: Hash([0x11; 32]), config: Hash([0x22; 32]) };

/// A log as the store has it.
#[derive(Clone)]
struct Log {
    records: Vec<Vec<u8>>,
    notes: Vec<String>,
    tip: Option<Hash>,
}

fn key() -> SigningKey {
    SigningKey::from_seed(Origin::parse("log.example.com").unwrap(), &[1; 32])
}

/// A log of `size` records with a checkpoint at each of `sizes`.
fn log(size: u64, sizes: &[u64]) -> Log {
    log_with(size, sizes, |index| index.to_string())
}

fn log_with(size: u64, sizes: &[u64], version: impl Fn(u64) -> String) -> Log {
    let (mut tree, mut prev, mut records, mut notes) = (Frontier::new(), Hash::ZERO, Vec::new(), Vec::new());
    for index in 0..=size {
        for _ in sizes.iter().filter(|at| **at == index) {
            notes.push(key().sign(index, &tree.root()));
        }
        if index < size {
            let body = Body::event(&EPOCHS, &Event::Started { version: &version(index) });
            let mut record = Vec::new();
            // Two records each share a microsecond.
            let time = Timestamp::from_micros(1_700_000_000_000_000 + index as i64 / 2);
            prev = seal(index, &prev, time, &body, &mut record);
            tree.push(prev, |_, _| ());
            records.push(record);
        }
    }
    Log { records, notes, tip: Some(prev) }
}

impl Log {
    fn verify(&self) -> Result<Report, Fault> {
        self.verify_at(|position| position)
    }

    /// Verifies, with the record at each position found under the index `at` gives.
    fn verify_at(&self, at: impl Fn(u64) -> u64) -> Result<Report, Fault> {
        self.verify_with(at, None)
    }

    fn verify_with(&self, at: impl Fn(u64) -> u64, kept: Option<Checkpoint>) -> Result<Report, Fault> {
        let mut verifier = Verifier::new(key().verifier(), &self.notes)?;
        if let Some(tip) = self.tip {
            verifier = verifier.with_tip(tip);
        }
        if let Some(kept) = kept {
            verifier = verifier.against(kept);
        }
        for (position, record) in (0..).zip(&self.records) {
            verifier.feed(at(position), record)?;
        }
        verifier.finish()
    }

    /// The records from `from` on made into a consistent chain again, as someone without the key could.
    fn rechained(mut self, from: usize) -> Self {
        for n in from.max(1)..self.records.len() {
            let prev = Hash::leaf(&self.records[n - 1]).to_string();
            let at = r#"{"v":1,"index":,"prev":""#.len() + n.to_string().len();
            self.records[n][at..at + 64].copy_from_slice(prev.as_bytes());
        }
        self.tip = self.records.last().map(|last| Hash::leaf(last));
        self
    }
}

/// Index, proven and kind of the fault.
fn fault(result: Result<Report, Fault>) -> (u64, u64, FaultKind) {
    let fault = result.unwrap_err();
    (fault.index, fault.proven, fault.kind)
}

fn open(note: &str) -> Checkpoint {
    Checkpoint::open(note.as_bytes(), &key().verifier()).unwrap()
}

#[test]
fn an_intact_log_holds() {
    for size in 0..20 {
        for sizes in [vec![size], (0..=size).collect(), vec![0, size / 2, size / 2, size]] {
            let log = log(size, &sizes);
            let report = log.verify().unwrap();
            assert_eq!((report.records, report.checkpoints), (size, sizes.len() as u64));
            assert_eq!(report.root, open(log.notes.last().unwrap()).root());
            assert_eq!(report.last_time.is_some(), size > 0);
            for kept in &log.notes {
                assert_eq!(log.verify_with(|at| at, Some(open(kept))), Ok(report.clone()));
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_found_at_its_index() {
    for sizes in [vec![6], vec![0, 1, 2, 3, 4, 5, 6], vec![2, 4, 6]] {
        let intact = log(6, &sizes);
        for (index, record) in intact.records.iter().enumerate() {
            for byte in 0..record.len() {
                // A different bit each time; where verifying is cheapest, all of them.
                let bits = if sizes.len() == 1 { 0..8 } else { byte % 8..byte % 8 + 1 };
                for bit in bits {
                    let mut log = intact.clone();
                    log.records[index][byte] ^= 1 << bit;
                    let what = format!("record {index} byte {byte} bit {bit} checkpoints {sizes:?}");
                    assert_eq!(log.verify().expect_err(&what).index, index as u64, "{what}");
                }
            }
        }
    }
}

#[test]
fn without_a_tip_only_the_last_record_is_named_less_surely() {
    for sizes in [vec![6], vec![2, 4, 6]] {
        let intact = Log { tip: None, ..log(6, &sizes) };
        let head = r#"{"v":1,"index":5,"prev":""#.len() + 64;
        for (index, record) in intact.records.iter().enumerate() {
            for byte in 0..record.len() {
                let mut log = intact.clone();
                log.records[index][byte] ^= 1;
                let found = log.verify().unwrap_err();
                // Up to its `prev`, even the last record is held by the chain.
                if index < 5 || byte < head {
                    assert_eq!(found.index, index as u64, "record {index} byte {byte}");
                } else {
                    assert!((found.proven..=5).contains(&found.index), "record {index} byte {byte}");
                }
            }
        }
    }
}

#[test]
fn the_first_of_several_altered_records_is_found_and_proven() {
    let mut log = log(8, &[8]);
    for index in [2, 3, 6] {
        let last = log.records[index].len() - 3;
        log.records[index][last] = b'!';
    }
    assert_eq!(fault(log.verify()), (2, 0, FaultKind::Altered));
}

#[test]
fn a_wrong_tip_does_not_make_a_good_log_bad() {
    let mut log = log(6, &[3, 6]);
    log.tip = Some(Hash::of(b"nonsense"));
    assert!(log.verify().is_ok());
}

#[test]
fn a_deleted_record_is_missing_at_its_index() {
    for index in 0..6 {
        let mut log = log(6, &[3, 6]);
        log.records.remove(index);
        let index = index as u64;
        // From a store, where the key is gone, and from an export, where the lines close up.
        let store = log.verify_at(|position| if position < index { position } else { position + 1 });
        let export = log.verify();
        for found in [store, export] {
            let (at, _, kind) = fault(found);
            assert_eq!(at, index);
            assert!(matches!(kind, FaultKind::Missing { .. } | FaultKind::Index { .. }), "{kind:?}");
        }
    }
}

#[test]
fn swapped_records_are_found_at_the_first() {
    for index in 0..5 {
        let mut log = log(6, &[6]);
        log.records.swap(index, index + 1);
        let found = FaultKind::Index { found: index as u64 + 1 };
        assert_eq!(fault(log.verify()), (index as u64, 0, found));
    }
}

#[test]
fn an_inserted_record_is_found_at_its_index() {
    for index in 0..=6usize {
        let mut log = log(6, &[6]);
        // Forged to fit where it stands.
        let prev = index.checked_sub(1).map_or(Hash::ZERO, |before| Hash::leaf(&log.records[before]));
        let time = Timestamp::from_micros(1_700_000_000_000_000 + index as i64 / 2);
        let mut forged = Vec::new();
        seal(index as u64, &prev, time, &Body::event(&EPOCHS, &Event::Stopped), &mut forged);
        log.records.insert(index, forged);
        let kind = if index == 6 { FaultKind::Unsigned } else { FaultKind::Repeated };
        assert_eq!(fault(log.verify()), (index as u64, if index == 6 { 6 } else { 0 }, kind));
    }
    // A record copied to another place.
    let mut log = log(6, &[6]);
    log.records.insert(4, log.records[1].clone());
    assert_eq!(fault(log.verify()), (4, 0, FaultKind::Index { found: 1 }));
    // Fed twice under the same index.
    let log = self::log(3, &[3]);
    assert_eq!(fault(log.verify_at(|position| position.min(1))), (1, 0, FaultKind::Repeated));
}

#[test]
fn a_truncated_log_is_missing_its_first_lost_record() {
    for keep in 0..6 {
        let mut log = log(6, &[2, 4, 6]);
        log.records.truncate(keep);
        let (keep, proven) = (keep as u64, keep as u64 / 2 * 2);
        assert_eq!(fault(log.verify()), (keep, proven, FaultKind::Missing { size: proven + 2 }));
    }
}

#[test]
fn records_beyond_the_last_checkpoint_are_not_taken() {
    assert_eq!(fault(log(6, &[2, 4]).verify()), (4, 4, FaultKind::Unsigned));
    assert_eq!(fault(log(6, &[]).verify()), (0, 0, FaultKind::Unsigned));
    assert_eq!(fault(log(0, &[]).verify()), (0, 0, FaultKind::Unsigned));
}

#[test]
fn a_rewritten_chain_does_not_meet_the_signed_root() {
    for (index, proven, size) in [(0, 0, 3), (2, 0, 3), (3, 3, 6), (5, 3, 6)] {
        let mut log = log(6, &[3, 6]);
        let last = log.records[index].len() - 3;
        log.records[index][last] = b'!';
        let log = log.rechained(index + 1);
        assert_eq!(fault(log.verify()), (proven, proven, FaultKind::Root { size }), "record {index}");
    }
}

#[test]
fn a_first_record_that_follows_another_is_refused_even_if_signed() {
    let mut record = Vec::new();
    let time = Timestamp::from_micros(0);
    let leaf = seal(0, &Hash::of(b"before"), time, &Body::event(&EPOCHS, &Event::Stopped), &mut record);
    let mut tree = Frontier::new();
    tree.push(leaf, |_, _| ());
    let log = Log { records: vec![record], notes: vec![key().sign(1, &tree.root())], tip: None };
    assert_eq!(fault(log.verify()), (0, 0, FaultKind::Altered));
}

#[test]
fn time_that_runs_back_is_found() {
    let mut log = log(6, &[6]);
    let text = String::from_utf8(log.records[3].clone()).unwrap();
    log.records[3] = text.replacen("\"time\":\"2023", "\"time\":\"2022", 1).into_bytes();
    assert_eq!(fault(log.verify()), (3, 0, FaultKind::Time));
}

#[test]
fn a_checkpoint_that_was_tampered_with_is_found() {
    let good = log(6, &[2, 4, 6]);
    let other = SigningKey::from_seed(Origin::parse("log.example.com").unwrap(), &[2; 32]);

    let mut log = good.clone();
    log.notes[1] = other.sign(4, &open(&good.notes[1]).root());
    let (index, proven, kind) = fault(log.verify());
    assert_eq!((index, proven), (2, 2));
    assert!(matches!(kind, FaultKind::Checkpoint(_)), "{kind:?}");

    let mut log = good.clone();
    log.notes.swap(0, 1);
    assert_eq!(fault(log.verify()), (4, 4, FaultKind::CheckpointOrder { size: 2 }));

    let mut log = good;
    log.notes[0] = log.notes[0].replace("\n2\n", "\n3\n");
    assert!(matches!(fault(log.verify()).2, FaultKind::Checkpoint(_)));
}

#[test]
fn a_log_rewritten_with_its_own_key_does_not_extend_a_checkpoint_kept_elsewhere() {
    let honest = log(6, &[2, 4, 6]);
    let rewritten = log_with(8, &[2, 4, 8], |index| format!("{}", if index == 3 { 99 } else { index }));
    assert!(rewritten.verify().is_ok(), "the log alone cannot show it");
    for (kept, holds) in [(0, true), (1, false), (2, false)] {
        let kept = open(&honest.notes[kept]);
        let size = kept.size();
        match rewritten.verify_with(|at| at, Some(kept)) {
            Ok(_) => assert!(holds),
            Err(found) => {
                assert!(!holds);
                assert_eq!((found.index, found.kind), (0, FaultKind::Against { size }));
            }
        }
    }
}

#[test]
fn a_log_set_back_is_shorter_than_a_checkpoint_kept_elsewhere() {
    let (old, new) = (log(4, &[4]), log(6, &[6]));
    let kept = open(&new.notes[0]);
    assert_eq!(fault(old.verify_with(|at| at, Some(kept))), (4, 4, FaultKind::Shorter { size: 6 }));
}

proptest! {
    #[test]
    fn no_altered_log_holds(
        size in 1u64..24,
        at in proptest::collection::vec(0u64..24, 0..4),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1u8..), 1..6),
        rechain: bool,
        tip: bool,
    ) {
        let mut sizes: Vec<u64> = at.into_iter().filter(|at| *at < size).chain([size]).collect();
        sizes.sort_unstable();
        let intact = log(size, &sizes);
        let mut altered = intact.clone();
        for (record, byte, flip) in changes {
            let record = record.get(&intact.records);
            let index = intact.records.iter().position(|r| r == record).unwrap();
            let byte = byte.index(record.len());
            altered.records[index][byte] ^= flip;
        }
        if rechain && altered.records.iter().all(|r| Head::parse(r).is_ok()) {
            altered = altered.rechained(1);
        }
        prop_assume!(altered.records != intact.records);
        if !tip {
            altered.tip = None;
        }
        let first = altered.records.iter().zip(&intact.records).position(|(a, b)| a != b).unwrap() as u64;
        let found = altered.verify().unwrap_err();
        prop_assert!(found.proven <= first, "{found:?} proves an altered record {first}");
        prop_assert!(found.index >= found.proven);
    }
}
