//! The properties that `make fuzz` looks for exceptions to, tried on their seeds and on a bounded number of mutations.

#[path = "../fuzz/properties.rs"]
mod fuzz;

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[test]
fn properties_hold_for_seeds_and_what_is_near_them() {
    for (name, property) in fuzz::ALL {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
        let seeds: Vec<Vec<u8>> = std::fs::read_dir(&dir)
            .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        seeds.iter().for_each(|seed| property(seed));
        let mut runner =
            TestRunner::new(Config { cases: 500, failure_persistence: None, ..Config::default() });
        let ran = runner.run(&near(seeds), |bytes| {
            property(&bytes);
            Ok(())
        });
        ran.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Seeds with pieces cut out, doubled, swapped with others' and overwritten.
fn near(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..5_u8, any::<u8>());
    let (one, other) = (prop::sample::select(seeds.clone()), prop::sample::select(seeds));
    (one, other, prop::collection::vec(change, 0..6)).prop_map(|(mut bytes, other, changes)| {
        for (from, to, how, byte) in changes {
            let (a, b) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
            let (from, to) = (a.min(b), a.max(b));
            match how {
                0 => drop(bytes.drain(from..to)),
                1 => {
                    let piece = bytes[from..to].to_vec();
                    bytes.splice(from..from, piece);
                }
                2 => {
                    let piece = other[from.min(other.len())..to.min(other.len())].to_vec();
                    bytes.splice(from..to, piece);
                }
                3 => bytes.insert(from, byte),
                _ => bytes.iter_mut().skip(from).take(1).for_each(|slot| *slot = byte),
            }
            bytes.truncate(8_192);
        }
        bytes
    })
}

#[test]
fn every_property_is_a_fuzz_target() {
    let manifest =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/Cargo.toml")).unwrap();
    for (name, _) in fuzz::ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"targets/{name}.rs\"")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), fuzz::ALL.len());
}
