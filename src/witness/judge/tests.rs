use std::sync::Arc;

use super::*;
use crate::audit::checkpoint::{Origin, SigningKey};
use crate::audit::merkle::proof::consistency;
use crate::audit::merkle::{Frontier, NodeId};
use crate::clock::Timestamp;

const ORIGIN: &str = "log.example.com";

fn log_key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Origin::parse(ORIGIN).unwrap(), &[seed; 32])
}

/// A log of `size` leaves that is like no other from leaf `forked` on.
#[derive(Clone, Copy)]
struct Tree {
    forked: u64,
}

const TRUE: Tree = Tree { forked: u64::MAX };

impl Tree {
    fn leaf(self, index: u64) -> Hash {
        Hash::leaf(&[index, u64::from(index >= self.forked)].map(u64::to_be_bytes).concat())
    }

    fn node(self, id: NodeId) -> Result<Hash, std::convert::Infallible> {
        let mut below = Frontier::new();
        for index in id.index << id.level..(id.index + 1) << id.level {
            below.push(self.leaf(index), |_, _| ());
        }
        Ok(below.root())
    }

    fn root(self, size: u64) -> Hash {
        let mut tree = Frontier::new();
        (0..size).for_each(|index| tree.push(self.leaf(index), |_, _| ()));
        tree.root()
    }

    fn note(self, size: u64) -> String {
        log_key(1).sign(size, &self.root(size))
    }

    fn body(self, old: u64, size: u64) -> Vec<u8> {
        let proof =
            if old <= size { consistency(old, size, |id| self.node(id)).unwrap() } else { Vec::new() };
        Submission { old, proof, note: self.note(size).as_bytes() }.to_bytes()
    }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A witness that has just started.
    fn witness(&self) -> Witness {
        let key = CosigningKey::from_seed(Origin::parse("w.example.com").unwrap(), &[9; 32]);
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        let ledger = Ledger::open(&self.0.path().join("state")).unwrap();
        Witness::new(key, [log_key(1).verifier(), log_key(2).verifier()], ledger, clock).unwrap()
    }
}

fn cosigned(answer: &Answer, note: &str, witness: &Witness) -> bool {
    let Answer::Cosigned(line) = answer else { return false };
    let note = format!("{note}{line}");
    witness.verifier().cosigned(&Note::parse(note.as_bytes()).unwrap()) == Ok(Some(1_700_000_000))
}

#[test]
fn what_continues_the_last_checkpoint_is_cosigned_and_nothing_else() {
    let place = Place::new();
    let witness = place.witness();
    assert!(cosigned(&witness.add_checkpoint(&TRUE.body(0, 5)), &TRUE.note(5), &witness));
    assert!(cosigned(&witness.add_checkpoint(&TRUE.body(5, 5)), &TRUE.note(5), &witness), "once more");
    assert!(cosigned(&witness.add_checkpoint(&TRUE.body(5, 21)), &TRUE.note(21), &witness));
    // Sizes that were cosigned before.
    assert_eq!(witness.add_checkpoint(&TRUE.body(0, 30)), Answer::Conflict(21));
    assert_eq!(witness.add_checkpoint(&TRUE.body(5, 30)), Answer::Conflict(21));
    assert_eq!(witness.add_checkpoint(&TRUE.body(5, 5)), Answer::Conflict(21), "going back");
    assert_eq!(witness.add_checkpoint(&TRUE.body(25, 30)), Answer::Conflict(21));
    assert!(cosigned(&witness.add_checkpoint(&TRUE.body(21, 30)), &TRUE.note(30), &witness));
}

#[test]
fn a_fork_is_cosigned_at_no_size() {
    let place = Place::new();
    let witness = place.witness();
    witness.add_checkpoint(&TRUE.body(0, 20));
    let fork = Tree { forked: 18 };
    assert_eq!(witness.add_checkpoint(&fork.body(20, 20)), Answer::Conflict(20));
    for size in 21..40 {
        assert_eq!(witness.add_checkpoint(&fork.body(20, size)), Answer::Inconsistent, "size {size}");
        assert_eq!(witness.add_checkpoint(&fork.body(0, size)), Answer::Conflict(20), "size {size}");
    }
    assert!(cosigned(&witness.add_checkpoint(&TRUE.body(20, 40)), &TRUE.note(40), &witness));
}

#[test]
fn a_restart_forgets_nothing() {
    let place = Place::new();
    for (old, size) in [(0, 3), (3, 8), (8, 8), (8, 13)] {
        let witness = place.witness();
        assert!(matches!(witness.add_checkpoint(&TRUE.body(old, size)), Answer::Cosigned(_)));
    }
    let witness = place.witness();
    assert_eq!(witness.logs().collect::<Vec<_>>(), [(ORIGIN, 13)]);
    assert_eq!(witness.add_checkpoint(&Tree { forked: 12 }.body(13, 14)), Answer::Inconsistent);
}

#[test]
fn each_fault_has_the_status_of_the_specification() {
    let place = Place::new();
    let witness = place.witness();
    let note = TRUE.note(5);
    let with = |old: u64, proof: Vec<Hash>, note: &str| {
        witness.add_checkpoint(&Submission { old, proof, note: note.as_bytes() }.to_bytes())
    };
    assert!(matches!(witness.add_checkpoint(b"old 0\n"), Answer::Malformed(_)));
    assert!(matches!(with(0, vec![], "no note\n"), Answer::Malformed(_)));
    assert!(matches!(with(6, vec![], &note), Answer::Malformed(_)), "an old size above the new one");
    assert_eq!(with(0, vec![], &note.replace(ORIGIN, "else.example.com")), Answer::UnknownLog);
    assert_eq!(with(0, vec![], &log_key(3).sign(5, &TRUE.root(5))), Answer::Unsigned);
    assert_eq!(with(0, vec![], &note.replace("\n5\n", "\n6\n")), Answer::Unsigned);
    assert_eq!(with(0, vec![Hash::ZERO], &note), Answer::Inconsistent, "a proof from nothing");
    assert_eq!(with(3, vec![], &note), Answer::Conflict(0));
    // The other key that the log is known by.
    assert!(matches!(with(0, vec![], &log_key(2).sign(5, &TRUE.root(5))), Answer::Cosigned(_)));
    assert_eq!(with(5, vec![Hash::ZERO], &note), Answer::Inconsistent, "a proof of nothing");
}

#[test]
fn of_two_that_continue_the_same_checkpoint_differently_one_is_cosigned() {
    for round in 0..20 {
        let place = Place::new();
        let witness = Arc::new(place.witness());
        witness.add_checkpoint(&TRUE.body(0, 4));
        let branches = [0, 1, 2, 3].map(|branch| Tree { forked: 4 + branch });
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let asked: Vec<_> = branches
                .iter()
                .map(|tree| {
                    let witness = Arc::clone(&witness);
                    scope.spawn(move || witness.add_checkpoint(&tree.body(4, 9)))
                })
                .collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        let cosigned = answers.iter().filter(|answer| matches!(answer, Answer::Cosigned(_))).count();
        assert_eq!(cosigned, 1, "round {round}: {answers:?}");
        let refused = answers.iter().filter(|answer| **answer == Answer::Conflict(9)).count();
        assert_eq!(refused, 3, "round {round}: {answers:?}");
    }
}

#[test]
fn what_cannot_be_written_down_is_not_cosigned() {
    let place = Place::new();
    let witness = place.witness();
    witness.add_checkpoint(&TRUE.body(0, 4));
    let state = place.0.path().join("state");
    std::fs::rename(&state, place.0.path().join("away")).unwrap();
    assert_eq!(witness.add_checkpoint(&TRUE.body(4, 5)), Answer::Failed);
    std::fs::rename(place.0.path().join("away"), &state).unwrap();
    assert_eq!(witness.add_checkpoint(&TRUE.body(4, 5)), Answer::Failed, "until a restart");
    drop(witness);
    assert!(matches!(place.witness().add_checkpoint(&TRUE.body(4, 5)), Answer::Cosigned(_)));
}

#[test]
fn one_process_has_a_ledger_and_a_spoilt_one_is_refused() {
    let place = Place::new();
    let dir = place.0.path().join("state");
    let ledger = Ledger::open(&dir).unwrap();
    assert!(matches!(Ledger::open(&dir), Err(LedgerError::InUse(_))));
    ledger.write(ORIGIN, b"spoilt\n").unwrap();
    assert!(matches!(ledger.held(ORIGIN), Err(LedgerError::Malformed(_))));
    ledger.write(ORIGIN, TRUE.note(4).replace(ORIGIN, "else").as_bytes()).unwrap();
    assert!(matches!(ledger.held(ORIGIN), Err(LedgerError::Malformed(_))));
}
