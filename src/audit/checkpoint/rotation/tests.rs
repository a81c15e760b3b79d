use proptest::prelude::*;

use super::*;
use crate::audit::checkpoint::Origin;
use crate::audit::hash::Hash;

const ORIGIN: &str = "portcullis.example.com/gate-1";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Origin::parse(ORIGIN).unwrap(), &[seed; 32])
}

/// The keys of these seeds, each named by the record at ten times its place.
fn chain(seeds: &[u8]) -> KeyChain {
    let mut chain = KeyChain::from(key(seeds[0]).verifier());
    for (at, pair) in (1..).zip(seeds.windows(2)) {
        chain.follow(&Rotation::sign(&key(pair[0]), &key(pair[1]), at * 10), at * 10).unwrap();
    }
    chain
}

fn note(size: u64, seeds: &[u8]) -> String {
    let root = Hash::of(b"root");
    match seeds {
        [one] => key(*one).sign(size, &root),
        [one, two] => key(*one).sign_beside(Some(&key(*two)), size, &root),
        _ => unreachable!(),
    }
}

#[test]
fn a_rotation_is_followed_from_key_to_key() {
    let chain = chain(&[1, 2, 3]);
    assert_eq!(*chain.current(), key(3).verifier());
    assert_eq!(chain.before(), Some((&key(2).verifier(), 20)));
    let in_force = [(0, 1), (10, 1), (11, 2), (20, 2), (21, 3), (u64::MAX, 3)];
    for (size, seed) in in_force {
        assert_eq!(*chain.in_force(size), key(seed).verifier(), "{size}");
    }
}

#[test]
fn neither_key_alone_makes_a_rotation() {
    let (old, new, thief) = (key(1), key(2), key(3));
    let good = Rotation::sign(&old, &new, 10);
    let follow = |rotation: &Rotation| KeyChain::from(old.verifier()).follow(rotation, 10);
    assert_eq!(follow(&good), Ok(()));
    // With the old key alone the new one's signature is missing, or stolen from what it signed elsewhere.
    let forged = Rotation::sign(&old, &thief, 10).new_signature;
    assert_eq!(follow(&Rotation { new_signature: forged, ..good.clone() }), Err(RotationError::NewSignature));
    let elsewhere = Rotation::sign(&old, &new, 11).new_signature;
    assert_eq!(
        follow(&Rotation { new_signature: elsewhere, ..good.clone() }),
        Err(RotationError::NewSignature)
    );
    // With the new key alone the old one's is.
    let forged = Rotation::sign(&new, &new, 10).old_signature;
    assert_eq!(follow(&Rotation { old_signature: forged, ..good.clone() }), Err(RotationError::OldSignature));
    let elsewhere = Rotation::sign(&old, &new, 11).old_signature;
    assert_eq!(
        follow(&Rotation { old_signature: elsewhere, ..good.clone() }),
        Err(RotationError::OldSignature)
    );
    // The signatures do not stand in for each other, and a rotation is not followed at another index.
    let Rotation { old_signature, new_signature, .. } = good.clone();
    let swapped = Rotation { old_signature: new_signature, new_signature: old_signature, ..good.clone() };
    assert_eq!(follow(&swapped), Err(RotationError::OldSignature));
    assert_eq!(KeyChain::from(old.verifier()).follow(&good, 11), Err(RotationError::OldSignature));
    assert!(matches!(KeyChain::from(thief.verifier()).follow(&good, 10), Err(RotationError::Old { .. })));
}

#[test]
fn another_logs_key_and_a_key_that_was_there_before_are_not_followed() {
    let other = SigningKey::from_seed(Origin::parse("elsewhere.example.com").unwrap(), &[2; 32]);
    let named = Rotation::sign(&key(1), &other, 10);
    assert!(matches!(KeyChain::from(key(1).verifier()).follow(&named, 10), Err(RotationError::Name(_))));
    for again in [1, 2] {
        let mut chain = chain(&[1, 2]);
        let back = Rotation::sign(&key(2), &key(again), 20);
        assert!(matches!(chain.follow(&back, 20), Err(RotationError::Again(_))), "{again}");
        assert_eq!(*chain.current(), key(2).verifier());
    }
}

#[test]
fn a_checkpoint_is_the_word_of_the_key_in_force_at_its_size() {
    let chain = chain(&[1, 2]);
    for (size, seeds, opens) in [
        (10, &[1][..], true),
        (10, &[2], false),
        (11, &[1], false),
        (11, &[2], true),
        (11, &[2, 1], true),
        (11, &[1, 2], true),
        (99, &[2], true),
        (99, &[1], false),
        (99, &[3], false),
        (99, &[3, 2], true),
    ] {
        assert_eq!(chain.open(note(size, seeds).as_bytes()).is_ok(), opens, "{size} {seeds:?}");
    }
    let expecting = chain.expecting(key(3).verifier());
    assert!(expecting.open(note(99, &[3]).as_bytes()).is_ok());
    assert!(expecting.open(note(99, &[1]).as_bytes()).is_err());
}

#[test]
fn a_bad_signature_of_any_key_of_the_log_refuses_a_checkpoint() {
    let chain = chain(&[1, 2]);
    let (good, other) = (note(11, &[2]), note(12, &[1]));
    let bad = other.rsplit_once("\n\n").unwrap().1;
    assert!(matches!(
        chain.open(format!("{good}{bad}").as_bytes()),
        Err(CheckpointError::Note(NoteError::BadSignature { .. }))
    ));
}

#[test]
fn what_is_signed_is_frozen() {
    let rotation = Rotation::sign(&key(1), &key(2), 42);
    let (old, new) = (&rotation.old_vkey, &rotation.new_vkey);
    assert_eq!(
        naming_text(ORIGIN, 42, old, new),
        format!(
            "Portcullis log key rotation v1: the old key names the new one\n\
             portcullis.example.com/gate-1\n42\n{old}\n{new}\n"
        )
    );
    assert_eq!(
        taking_text(ORIGIN, 42),
        "Portcullis log key rotation v1: the new key takes the log up\nportcullis.example.com/gate-1\n42\n"
    );
    // Made with Python's `cryptography`.
    assert_eq!(
        rotation.old_vkey,
        "portcullis.example.com/gate-1+ed03935e+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"
    );
    assert_eq!(
        rotation.new_vkey,
        "portcullis.example.com/gate-1+670c9130+AYE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU"
    );
    assert_eq!(
        rotation.old_signature,
        "mA/Ow+X7pzAL4ZR6J4CQWj7jeDoWwle+XyVyU06GM+UQJTOuQwGjejtL9j0OI9e5dE5T9clvHBj+eh98hhCyAA=="
    );
    assert_eq!(
        rotation.new_signature,
        "5kCmKTlIfV3IcXHhUztbF3WvnOaJqP5WF2wQRTNms6SvnVmdj7MWyWShHDgF84yR3WFFGkxBVKaqULZwaNy0BA=="
    );
}

proptest! {
    #[test]
    fn no_changed_byte_of_a_rotation_is_followed(field in 0usize..4, at: prop::sample::Index, flip in 1u8..128) {
        let mut rotation = Rotation::sign(&key(1), &key(2), 10);
        let Rotation { old_vkey, new_vkey, old_signature, new_signature } = &mut rotation;
        let text = [old_vkey, new_vkey, old_signature, new_signature].into_iter().nth(field).unwrap();
        let mut bytes = text.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let Ok(changed) = String::from_utf8(bytes) else { return Ok(()) };
        *text = changed;
        prop_assert!(KeyChain::from(key(1).verifier()).follow(&rotation, 10).is_err());
    }

    #[test]
    fn no_rotation_makes_following_panic(old: String, new: String, one: String, two: String, index: u64) {
        let rotation = Rotation { old_vkey: old, new_vkey: new, old_signature: one, new_signature: two };
        prop_assert!(KeyChain::from(key(1).verifier()).follow(&rotation, index).is_err());
    }
}
