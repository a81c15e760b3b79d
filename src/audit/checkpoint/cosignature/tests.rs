use proptest::prelude::*;

use super::super::key::SigningKey;
use super::*;

const TEXT: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
const TIME: u64 = 1_679_315_147;

/// Made by Python's `cryptography` from the seed 09…09, as the specification's text says.
const VKEY: &str = "witness.example.com/w1+4bdc7eaa+BP0XJDhaoMdbZPt4zWAvodmR/ev3axPFjtcC6sg16fYY";
const LINE: &str = "\u{2014} witness.example.com/w1 S9x+qgAAAABkGFDLSEwbtADY9t5XeSzDTVuiqYN5nZfoc9NQOUgkPYm4wwjIUL68Nczz1tpzCjnpmnRXttgqVVwOg3WfE7AXqa+DAg==\n";

fn name() -> Origin {
    Origin::parse("witness.example.com/w1").unwrap()
}

fn key(seed: u8) -> CosigningKey {
    CosigningKey::from_seed(name(), &[seed; 32])
}

fn judged(note: &str, key: &CosigningKey) -> Result<Option<u64>, BadCosignature> {
    key.verifier().cosigned(&Note::parse(note.as_bytes()).unwrap())
}

#[test]
fn cosignature_and_key_are_those_of_another_implementation() {
    assert_eq!(key(9).verifier().to_string(), VKEY);
    assert_eq!(key(9).cosign(TEXT, TIME), LINE);
    assert_eq!(judged(&format!("{TEXT}\n{LINE}"), &key(9)), Ok(Some(TIME)));
}

#[test]
fn a_published_witness_key_is_read() {
    // That of a public witness, as transparency-dev/formats has it in its tests.
    let vkey = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
    assert_eq!(CosignerKey::parse(vkey).unwrap().to_string(), vkey);
}

#[test]
fn a_key_that_is_no_witness_s_is_refused() {
    let log = SigningKey::from_seed(name(), &[9; 32]).verifier().to_string();
    let ml_dsa = format!("ml.example.com+a99e52db+{}", STANDARD.encode([&[6u8][..], &[0; 1312]].concat()));
    let table = [
        (log, CosignerKeyError::Log),
        (ml_dsa.clone(), CosignerKeyError::MlDsa44),
        (ml_dsa.replace("ml.", "mm."), CosignerKeyError::Id),
        (VKEY.replace("w1", "w2"), CosignerKeyError::Id),
        (VKEY.replace("w1", "w 1"), CosignerKeyError::Malformed),
        (format!("{VKEY}\n"), CosignerKeyError::Malformed),
        (format!("x+00000000+{}", STANDARD.encode([2; 33])), CosignerKeyError::Type(2)),
        (String::new(), CosignerKeyError::Malformed),
    ];
    for (bad, error) in table {
        assert_eq!(CosignerKey::parse(&bad), Err(error), "{bad:.60}");
    }
}

#[test]
fn cosignatures_of_unknown_keys_and_types_are_ignored() {
    let other = key(8).cosign(TEXT, TIME);
    // An ML-DSA-44 cosignature, by its length: key ID, time, 2420 bytes.
    let ml_dsa = format!("\u{2014} witness.example.com/w1 {}\n", STANDARD.encode([7; 4 + 8 + 2420]));
    let note = format!("{TEXT}\n{other}{ml_dsa}{LINE}");
    assert_eq!(judged(&note, &key(9)), Ok(Some(TIME)));
    assert_eq!(judged(&note, &key(7)), Ok(None));
    assert_eq!(key(9).verifier().lines(&Note::parse(note.as_bytes()).unwrap()), LINE);
}

#[test]
fn any_changed_byte_of_what_was_cosigned_shows() {
    for (at, byte) in TEXT.char_indices().filter(|(_, byte)| *byte != '\n') {
        let mut changed = TEXT.to_owned();
        changed.replace_range(at..=at, if byte == 'x' { "y" } else { "x" });
        assert!(judged(&format!("{changed}\n{LINE}"), &key(9)).is_err(), "byte {at}");
    }
    let raw = STANDARD.decode(LINE.trim_end().rsplit(' ').next().unwrap()).unwrap();
    for at in 4..raw.len() {
        let mut changed = raw.clone();
        changed[at] ^= 1;
        let note = format!("{TEXT}\n\u{2014} witness.example.com/w1 {}\n", STANDARD.encode(changed));
        assert!(judged(&note, &key(9)).is_err(), "byte {at} of the signature");
    }
}

#[test]
fn a_bad_cosignature_beside_a_good_one_is_not_overlooked() {
    let bad = key(9).cosign("another\n1\nAAAA\n", TIME);
    for note in [format!("{TEXT}\n{LINE}{bad}"), format!("{TEXT}\n{bad}{LINE}")] {
        assert!(judged(&note, &key(9)).is_err());
    }
}

#[test]
fn a_log_s_plain_signature_is_no_cosignature() {
    let plain = STANDARD.encode(
        [&key(9).verifier().id().to_be_bytes()[..], &key(9).secret.sign(TEXT.as_bytes()).to_bytes()].concat(),
    );
    assert!(judged(&format!("{TEXT}\n\u{2014} witness.example.com/w1 {plain}\n"), &key(9)).is_err());
}

#[test]
fn a_time_beyond_the_signed_range_is_refused() {
    let most = i64::MAX.unsigned_abs();
    assert_eq!(judged(&format!("{TEXT}\n{}", key(9).cosign(TEXT, most)), &key(9)), Ok(Some(most)));
    assert!(judged(&format!("{TEXT}\n{}", key(9).cosign(TEXT, most + 1)), &key(9)).is_err());
}

#[test]
fn a_key_survives_its_pem_form_and_is_not_shown() {
    let made = CosigningKey::generate(name()).unwrap();
    let read = CosigningKey::from_pkcs8_pem(name(), &made.to_pkcs8_pem().unwrap()).unwrap();
    assert_eq!(read.verifier(), made.verifier());
    assert!(format!("{:?}", key(9)).contains(VKEY));
}

proptest! {
    #[test]
    fn what_is_cosigned_is_read_back(seed: [u8; 32], time in 0..=i64::MAX.unsigned_abs(), size: u64) {
        let key = CosigningKey::from_seed(name(), &seed);
        let text = format!("log.example.com\n{size}\nAAAA\nextension\n");
        let note = format!("{text}\n{}", key.cosign(&text, time));
        prop_assert_eq!(judged(&note, &key), Ok(Some(time)));
        prop_assert_eq!(CosignerKey::parse(&key.verifier().to_string()), Ok(key.verifier()));
    }
}
