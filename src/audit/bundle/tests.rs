use proptest::prelude::*;

use super::*;

fn manifest(complete: bool, size: u64, records: &[u64]) -> Manifest {
    Manifest {
        format: FORMAT.to_owned(),
        origin: "gate.example.com/1".to_owned(),
        size,
        asked: BTreeMap::new(),
        complete,
        records: records.to_vec(),
        keys: vec![0],
        policies_missing: Vec::new(),
    }
}

fn fault(manifest: &Manifest) -> String {
    Manifest::parse(manifest.to_json().as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_manifest_is_read_as_it_was_written() {
    for good in [manifest(true, 9, &[3, 4, 5]), manifest(false, 9, &[0, 8]), manifest(true, 1, &[0])] {
        assert_eq!(Manifest::parse(good.to_json().as_bytes()).unwrap(), good);
    }
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    assert!(fault(&manifest(true, 9, &[3, 5])).contains("complete, and lists no record 4"));
    assert!(fault(&manifest(false, 9, &[3, 3])).contains("record 3 is listed behind record 3"));
    assert!(fault(&manifest(false, 9, &[5, 3])).contains("record 3 is listed behind record 5"));
    assert!(fault(&manifest(false, 9, &[9])).contains("record 9, and a checkpoint of 9"));
    assert!(fault(&manifest(true, u64::MAX, &[u64::MAX])).contains("a checkpoint of"));
    assert!(fault(&manifest(true, 9, &[])).contains("no record"));
    assert!(
        fault(&Manifest { format: "x".into(), ..manifest(true, 9, &[1]) })
            .contains("is not \"portcullis-bundle-v1\"")
    );
    let asked = |name: &str, value: &str| Manifest {
        asked: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..manifest(true, 9, &[1])
    };
    for time_alone in [asked("from", "x"), asked("to", "x"), asked("health_checks", "include")] {
        assert_eq!(Manifest::parse(time_alone.to_json().as_bytes()).unwrap(), time_alone);
    }
    for (name, value) in [("subject", "alice"), ("health_checks", "exclude"), ("of a later version", "")] {
        assert!(fault(&asked(name, value)).contains(&format!("complete, and was asked for by {name:?}")));
    }
    let epoch = |digit: &str| digit.repeat(64);
    for missing in [
        vec!["x".to_owned()],
        vec![epoch("b"), epoch("a")],
        vec![epoch("a"), epoch("a")],
        vec!["\u{1b}[2J".to_owned()],
    ] {
        let manifest = Manifest { policies_missing: missing, ..manifest(true, 9, &[1]) };
        assert!(fault(&manifest).contains("policies_missing is no ascending list"), "{manifest:?}");
    }
    let more = manifest(true, 9, &[1]).to_json().replacen('{', "{\"more\": 1,", 1);
    assert!(Manifest::parse(more.as_bytes()).is_err(), "what is not known may matter");
}

#[test]
fn nothing_is_shown_before_the_checkpoint_was_opened() {
    use crate::audit::checkpoint::{Origin, SigningKey};
    let key = SigningKey::from_seed(Origin::parse("gate.example.com/1").unwrap(), &[7; 32]);
    let note = key.sign(9, &Hash::of(b"root"));
    let begin = || {
        let manifest = manifest(true, 9, &[1]).to_json();
        Checker::begin(manifest.as_bytes(), note.as_bytes(), key.verifier()).unwrap()
    };
    assert!(matches!(begin().finish(), Err(BundleFault::Foreign)));
    assert!(matches!(begin().open(), Err(BundleFault::Keys { .. })));
    let other = SigningKey::from_seed(Origin::parse("gate.example.com/2").unwrap(), &[7; 32]);
    let manifest = manifest(true, 9, &[1]).to_json();
    assert!(Checker::begin(manifest.as_bytes(), note.as_bytes(), other.verifier()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in any::<u64>(), at in any::<u64>()) {
        let _ = Manifest::parse(&bytes);
        let _ = Manifest::parse(manifest(true, size, &[at, at.wrapping_add(1)]).to_json().as_bytes());
    }
}
