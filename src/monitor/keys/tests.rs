use super::*;
use crate::audit::checkpoint::{Origin, Rotation, SigningKey};
use crate::audit::hash::Hash;
use crate::audit::record::{Body, Epochs, Event, seal};
use crate::clock::Timestamp;

const EPOCHS: Epochs = Epochs { policy: Hash([0x11; 32]), config: Hash([0x22; 32]) };

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Origin::parse("log.example.com").unwrap(), &[seed; 32])
}

/// The record at `index` that leads from one key to the next, as if it had been signed for `signed`.
fn change(index: u64, signed: u64, from: u8, to: u8) -> (Head, Vec<u8>) {
    let Rotation { old_vkey, new_vkey, old_signature, new_signature } =
        Rotation::sign(&key(from), &key(to), signed);
    let event = Event::KeyRotated {
        vkey: &new_vkey,
        old_vkey: &old_vkey,
        old_signature: &old_signature,
        new_signature: &new_signature,
    };
    let mut bytes = Vec::new();
    seal(index, &Hash::ZERO, Timestamp::from_micros(0), &Body::event(&EPOCHS, &event), &mut bytes);
    (Head::parse(&bytes).unwrap(), bytes)
}

#[test]
fn keys_are_followed_from_the_pinned_one_and_what_came_before_it_is_passed_over() {
    let mut keys = Keys::pinned(key(2).verifier());
    for (from, to, index, new) in [(1, 2, 3, false), (2, 3, 5, true), (2, 3, 5, false), (3, 4, 9, true)] {
        let (head, record) = change(index, index, from, to);
        assert_eq!(keys.read(&head, &record), Ok(new), "{from} to {to}");
    }
    assert_eq!((keys.current(), keys.records().len()), (&key(4).verifier(), 2));
    let root = Hash::of(b"root");
    for (size, signer, good) in [(5, 2, true), (6, 2, false), (6, 3, true), (10, 3, false), (10, 4, true)] {
        let note = key(signer).sign(size, &root);
        assert_eq!(keys.open(note.as_bytes()).is_ok(), good, "{size} by {signer}");
    }
}

#[test]
fn a_change_that_does_not_hold_is_a_fault_and_changes_nothing() {
    let mut keys = Keys::pinned(key(1).verifier());
    let (head, record) = change(7, 8, 1, 2);
    assert_eq!(keys.read(&head, &record), Err(RotationError::OldSignature));
    assert_eq!((keys.current(), keys.records().len()), (&key(1).verifier(), 0));
}

#[test]
fn a_signature_in_the_logs_name_by_another_key_is_noticed() {
    let keys = Keys::pinned(key(1).verifier());
    let root = Hash::of(b"root");
    assert!(!keys.is_there_another(key(1).sign(5, &root).as_bytes()));
    assert!(keys.is_there_another(key(1).sign_beside(Some(&key(2)), 5, &root).as_bytes()));
    let of_another_log = SigningKey::from_seed(Origin::parse("other.example.com").unwrap(), &[9; 32]);
    assert!(!keys.is_there_another(key(1).sign_beside(Some(&of_another_log), 5, &root).as_bytes()));
}
