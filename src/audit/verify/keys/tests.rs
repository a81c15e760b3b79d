use proptest::prelude::*;

use crate::audit::checkpoint::{
    Checkpoint, CheckpointError, Origin, Rotation, RotationError, SigningKey, VerifierKey,
};
use crate::audit::hash::Hash;
use crate::audit::merkle::Frontier;
use crate::audit::record::{Body, Epochs, Event, seal};
use crate::audit::verify::{Fault, FaultKind, Report, Verifier};
use crate::clock::Timestamp;

const ORIGIN: &str = "log.example.com";
const EPOCHS: Epochs = Epochs { policy: Hash([0x11; 32]), config: Hash([0x22; 32]) };

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Origin::parse(ORIGIN).unwrap(), &[seed; 32])
}

/// A log as it is built: a commit for each record, each checkpoint kept.
#[derive(Clone)]
struct Log {
    tree: Frontier,
    prev: Hash,
    records: Vec<Vec<u8>>,
    notes: Vec<String>,
    /// Who signs, and who beside.
    seed: u8,
    beside: Option<u8>,
}

impl Log {
    fn created(seed: u8) -> Self {
        let (tree, prev) = (Frontier::new(), Hash::ZERO);
        let mut log = Self { tree, prev, records: Vec::new(), notes: Vec::new(), seed, beside: None };
        let vkey = key(seed).verifier().to_string();
        log.push(&Event::Created { origin: ORIGIN, vkey: &vkey, version: "0" });
        log
    }

    fn push(&mut self, event: &Event<'_>) {
        let (index, mut record) = (self.tree.size(), Vec::new());
        let time = Timestamp::from_micros(1_700_000_000_000_000 + index as i64);
        self.prev = seal(index, &self.prev, time, &Body::event(&EPOCHS, event), &mut record);
        self.tree.push(self.prev, |_, _| ());
        self.records.push(record);
        let beside = self.beside.map(key);
        self.notes.push(key(self.seed).sign_beside(beside.as_ref(), index + 1, &self.tree.root()));
    }

    fn grow(mut self, more: u64) -> Self {
        (0..more).for_each(|_| self.push(&Event::ConfigLoaded));
        self
    }

    /// The overlap is over.
    fn alone(mut self) -> Self {
        self.beside = None;
        self
    }

    fn rotated(self, to: u8) -> Self {
        let rotation = Rotation::sign(&key(self.seed), &key(to), self.tree.size());
        self.rotated_by(to, &rotation)
    }

    fn rotated_by(mut self, to: u8, rotation: &Rotation) -> Self {
        let Rotation { old_vkey, new_vkey, old_signature, new_signature } = rotation;
        (self.beside, self.seed) = (Some(self.seed), to);
        self.push(&Event::KeyRotated { vkey: new_vkey, old_vkey, old_signature, new_signature });
        self
    }

    fn verify(&self, pinned: u8) -> Result<Report, Fault> {
        self.verify_against(pinned, None)
    }

    fn verify_against(&self, pinned: u8, kept: Option<&str>) -> Result<Report, Fault> {
        let mut verifier = Verifier::new(key(pinned).verifier(), &self.notes)?.with_tip(self.prev);
        if let Some(kept) = kept {
            verifier = verifier.against_note(kept.as_bytes()).unwrap();
        }
        for (index, record) in (0..).zip(&self.records) {
            verifier.feed(index, record)?;
        }
        verifier.finish()
    }
}

/// Created with key 1; key 2 from record 4 on, key 3 from record 8 on.
fn twice() -> Log {
    Log::created(1).grow(3).rotated(2).grow(1).alone().grow(2).rotated(3).grow(1).alone().grow(2)
}

fn fault(result: Result<Report, Fault>) -> (u64, u64, FaultKind) {
    let Fault { index, proven, kind } = result.unwrap_err();
    (index, proven, kind)
}

#[test]
fn a_log_is_followed_from_any_of_its_keys() {
    let log = twice();
    let reports: Vec<_> = [1, 2, 3].map(|pinned| log.verify(pinned).unwrap()).into();
    for report in &reports {
        assert_eq!((report.records, report.checkpoints), (12, 12));
        assert_eq!(report, &reports[0]);
        let rotations: Vec<_> = report.keys.rotations().map(|(index, key)| (index, key.clone())).collect();
        assert_eq!(rotations, [(4, key(2).verifier()), (8, key(3).verifier())]);
    }
}

#[test]
fn a_log_is_followed_from_any_of_its_keys_by_its_last_checkpoint_alone() {
    let mut log = twice();
    log.notes.drain(..11);
    for pinned in 1..=3 {
        assert_eq!(log.verify(pinned).unwrap().checkpoints, 1, "{pinned}");
    }
}

#[test]
fn a_key_that_never_was_the_logs_proves_nothing() {
    assert_eq!(
        fault(twice().verify(4)),
        (0, 0, FaultKind::NotPinned { vkey: key(4).verifier().to_string() })
    );
}

#[test]
fn what_a_later_key_has_not_signed_yet_is_not_proven_to_who_knows_only_that_one() {
    let mut log = twice();
    // Between the changes, a record altered under key 2's checkpoints.
    log.records[5][200] ^= 1;
    let (index, proven, _) = fault(log.verify(1));
    assert_eq!((index, proven), (5, 5));
    let (index, proven, _) = fault(log.verify(3));
    assert_eq!((index, proven), (5, 0));
}

#[test]
fn neither_key_alone_changes_a_logs_key() {
    let (before, good) = (Log::created(1).grow(2), Rotation::sign(&key(1), &key(2), 3));
    // With the new key alone: it signs all that follows, and in the old one's place.
    let forged =
        Rotation { old_signature: Rotation::sign(&key(2), &key(2), 3).old_signature, ..good.clone() };
    let log = before.clone().rotated_by(2, &forged).alone().grow(2);
    assert_eq!(fault(log.verify(1)), (3, 3, FaultKind::Key(RotationError::OldSignature)));
    assert_eq!(fault(log.verify(2)), (3, 0, FaultKind::Key(RotationError::OldSignature)));
    // With the old key alone: it names a key that it does not have.
    let forged = Rotation { new_signature: Rotation::sign(&key(1), &key(1), 3).new_signature, ..good };
    let mut log = before.rotated_by(2, &forged);
    (log.seed, log.beside) = (1, None);
    let log = log.grow(2);
    assert_eq!(fault(log.verify(1)), (3, 3, FaultKind::Key(RotationError::NewSignature)));
    assert_eq!(fault(log.verify(2)), (3, 0, FaultKind::Key(RotationError::NewSignature)));
}

#[test]
fn a_key_that_was_retired_signs_nothing_that_comes_after() {
    let mut log = Log::created(1).grow(2).rotated(2).grow(2);
    (log.seed, log.beside) = (1, None);
    let log = log.grow(1);
    let (index, proven, kind) = fault(log.verify(1));
    assert_eq!((index, proven), (6, 6));
    assert!(matches!(kind, FaultKind::Checkpoint(CheckpointError::Note(_))), "{kind:?}");
    assert!(log.verify(2).is_err());
}

#[test]
fn the_checkpoint_over_a_change_needs_the_new_key_whatever_the_old_one_signs() {
    // A thief of key 1 rewrites what came before the change and puts the true record of it at its true place.
    let mut log = Log::created(1);
    log.push(&Event::Stopped);
    let mut log = log.grow(1).rotated_by(2, &Rotation::sign(&key(1), &key(2), 3));
    log.notes.pop();
    log.notes.push(key(1).sign(4, &log.tree.root()));
    for pinned in [1, 2] {
        let kind = fault(log.verify(pinned)).2;
        assert!(matches!(kind, FaultKind::Checkpoint(CheckpointError::Note(_))), "{pinned}: {kind:?}");
    }
}

#[test]
fn with_a_retired_key_a_past_without_the_change_can_be_shown_only_to_who_knows_no_later_key() {
    // What a thief of key 1 can make: another log that never changed its key, or changed it to one of the thief's.
    for log in [Log::created(1).grow(6), Log::created(1).grow(2).rotated(9).grow(3)] {
        assert!(log.verify(1).is_ok(), "the log alone cannot show it");
        assert!(matches!(fault(log.verify(2)).2, FaultKind::NotPinned { .. }));
        // A checkpoint that was kept shows it, too: it is by a key that this log does not name, or has another root.
        for kept in &twice().notes[4..] {
            assert!(log.verify_against(1, Some(kept)).is_err());
        }
    }
}

#[test]
fn a_key_does_not_come_back() {
    let log = Log::created(1).grow(2).rotated(2).grow(2).rotated(1).grow(1);
    for pinned in [1, 2] {
        let (index, _, kind) = fault(log.verify(pinned));
        assert!(matches!(kind, FaultKind::Key(RotationError::Again(_))), "{kind:?}");
        assert_eq!(index, 6);
    }
}

#[test]
fn a_key_record_that_was_altered_or_moved_is_named() {
    let log = twice();
    for pinned in 1..=3 {
        for byte in 0..log.records[4].len() {
            let mut altered = log.clone();
            altered.records[4][byte] ^= 1;
            assert_eq!(fault(altered.verify(pinned)).0, 4, "key {pinned} byte {byte}");
        }
        let mut without = log.clone();
        without.records.remove(4);
        assert_eq!(fault(without.verify(pinned)).0, 4);
    }
    // A whole change taken to another index of a log that its keys sign.
    let moved = Rotation::sign(&key(1), &key(2), 4);
    let log = Log::created(1).grow(4).rotated_by(2, &moved).grow(1);
    assert_eq!(fault(log.verify(1)), (5, 5, FaultKind::Key(RotationError::OldSignature)));
}

#[test]
fn a_log_whose_first_record_names_another_key_is_not_followed_from_there() {
    let log = Log::created(1).grow(2).rotated(2).grow(1);
    let mut altered = log.clone();
    let (old, new) = (key(1).verifier().to_string(), key(5).verifier().to_string());
    let text = String::from_utf8(altered.records[0].clone()).unwrap().replace(&old, &new);
    altered.records[0] = text.into_bytes();
    for pinned in [1, 2] {
        assert_eq!(fault(altered.verify(pinned)).0, 0, "{pinned}");
    }
}

#[test]
fn a_kept_checkpoint_holds_by_whichever_key_was_the_logs_at_its_size() {
    let log = twice();
    for pinned in 1..=3 {
        for kept in &log.notes {
            assert!(log.verify_against(pinned, Some(kept)).is_ok(), "{pinned} {kept}");
        }
        // Signed by a retired key, or one that is none of the log's.
        for seed in [1, 4] {
            let note = key(seed).sign(10, &log.tree.root());
            let kind = fault(log.verify_against(pinned, Some(&note))).2;
            assert!(matches!(kind, FaultKind::NotKept(_)), "{pinned} {seed}: {kind:?}");
        }
        let ahead = log.clone().grow(3);
        let kept = ahead.notes.last().unwrap();
        assert_eq!(fault(log.verify_against(pinned, Some(kept))), (12, 12, FaultKind::Shorter { size: 15 }));
    }
}

#[test]
fn a_bad_signature_of_a_key_that_has_come_to_be_known_refuses_a_checkpoint() {
    let mut log = Log::created(1).grow(2).rotated(2).grow(2);
    let other = key(1).sign(99, &Hash::ZERO);
    let bad = other.rsplit_once("\n\n").unwrap().1;
    let text = log.notes[4].split_once("\n\n").unwrap().0.to_owned();
    let root = Checkpoint::open(log.notes[4].as_bytes(), &key(2).verifier()).unwrap().root();
    let good = key(2).sign(5, &root);
    assert!(good.starts_with(&text));
    log.notes[4] = format!("{good}{bad}");
    for pinned in [1, 2] {
        assert!(matches!(fault(log.verify(pinned)).2, FaultKind::Checkpoint(_)), "{pinned}");
    }
}

proptest! {
    #[test]
    fn however_often_its_key_changes_a_log_is_followed_from_each_and_every_change_is_seen(
        grown in proptest::collection::vec((0u64..4, any::<bool>()), 1..5),
        record: prop::sample::Index,
        byte: prop::sample::Index,
        flip in 1u8..,
    ) {
        let mut log = Log::created(1);
        for (seed, (more, overlap)) in (2..).zip(&grown) {
            log = log.grow(*more).rotated(seed);
            if !overlap {
                log = log.alone();
            }
        }
        let log = log.grow(1);
        let mut altered = log.clone();
        let at = record.index(log.records.len());
        let byte = byte.index(log.records[at].len());
        altered.records[at][byte] ^= flip;
        for pinned in 1..=u8::try_from(grown.len()).unwrap() + 1 {
            prop_assert!(log.verify(pinned).is_ok());
            prop_assert_eq!(altered.verify(pinned).unwrap_err().index, at as u64);
        }
    }
}

/// The frozen log in `tests/vectors/rotation-v1`, which was made by another implementation: Python's `cryptography`,
/// `hashlib` and `json`.
#[test]
fn a_log_made_elsewhere_comes_out_the_same_here_and_is_followed() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/rotation-v1");
    let records = std::fs::read_to_string(directory.join("records.jsonl")).unwrap();
    let log = std::fs::read(directory.join("log.json")).unwrap();
    let log: serde_json::Value = serde_json::from_slice(&log).unwrap();
    let origin = Origin::parse(log["origin"].as_str().unwrap()).unwrap();
    let [old, new] = [1, 2].map(|seed| SigningKey::from_seed(origin.clone(), &[seed; 32]));
    let [old_vkey, new_vkey] = [&old, &new].map(|key| key.verifier().to_string());
    let none = Epochs { policy: Hash::ZERO, config: Hash::ZERO };
    let rotation = Rotation::sign(&old, &new, 2);
    let bodies = [
        Body::event(&none, &Event::Created { origin: origin.as_str(), vkey: &old_vkey, version: "0.1.0" }),
        Body::event(&EPOCHS, &Event::ConfigLoaded),
        Body::event(
            &EPOCHS,
            &Event::KeyRotated {
                vkey: &rotation.new_vkey,
                old_vkey: &rotation.old_vkey,
                old_signature: &rotation.old_signature,
                new_signature: &rotation.new_signature,
            },
        ),
        Body::event(&EPOCHS, &Event::Stopped),
    ];
    let (mut tree, mut prev, mut written, mut notes) =
        (Frontier::new(), Hash::ZERO, String::new(), Vec::new());
    for (index, body) in (0..).zip(&bodies) {
        let (time, mut record) =
            (Timestamp::from_micros(1_769_860_800_000_000 + index * 1_000_000), Vec::new());
        let index = index.unsigned_abs();
        prev = seal(index, &prev, time, body, &mut record);
        tree.push(prev, |_, _| ());
        written.push_str(std::str::from_utf8(&record).unwrap());
        written.push('\n');
        let (signs, beside) = match index {
            0 | 1 => (&old, None),
            2 => (&new, Some(&old)),
            _ => (&new, None),
        };
        notes.push(signs.sign_beside(beside, index + 1, &tree.root()));
    }
    assert_eq!(written, records);
    assert_eq!(serde_json::json!(notes), log["checkpoints"]);
    for vkey in [&log["old_vkey"], &log["new_vkey"]] {
        let key = VerifierKey::parse(vkey.as_str().unwrap()).unwrap();
        let mut verifier = Verifier::new(key, &notes).unwrap();
        for (index, record) in (0..).zip(records.lines()) {
            verifier.feed(index, record.as_bytes()).unwrap();
        }
        assert_eq!(verifier.finish().unwrap().keys.current().to_string(), new_vkey);
    }
}
