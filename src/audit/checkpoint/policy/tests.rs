use super::super::cosignature::CosigningKey;
use super::super::key::{Origin, SigningKey};
use super::*;

const TEXT: &str = "log.example.com\n1\nAAAA\n";

fn witness(seed: u8) -> CosigningKey {
    CosigningKey::from_seed(Origin::parse(&format!("w{seed}.example.com")).unwrap(), &[seed; 32])
}

fn vkey(seed: u8) -> String {
    witness(seed).verifier().to_string()
}

fn log() -> String {
    SigningKey::from_seed(Origin::parse("log.example.com").unwrap(), &[99; 32]).verifier().to_string()
}

/// Whether the quorum is met when these have cosigned.
fn met(policy: &WitnessPolicy, cosigners: &[u8]) -> bool {
    let lines: String = cosigners.iter().map(|seed| witness(*seed).cosign(TEXT, 1)).collect();
    // A note has one signature at least.
    let note = format!("{TEXT}\n\u{2014} else.example.com AAAABAUG\n{lines}");
    policy.judge(&Note::parse(note.as_bytes()).unwrap()).unwrap().met
}

/// The shape of the specification's example: two levels of groups.
fn example() -> String {
    let mut text = format!("# a comment\n  # and another\n\nlog {} https://log.example.com/\n", log());
    for (name, seed) in [("X1", 1), ("X2", 2), ("X3", 3)] {
        text += &format!("witness {name} {}\n", vkey(seed));
    }
    text += "group X-witnesses 2 X1 X2 X3\n \t\n";
    for (name, seed) in [("Y1", 4), ("Y2", 5), ("Y3", 6)] {
        text += &format!("\twitness  {name}\t{}  https://{name}.example.com/ \n", vkey(seed));
    }
    text + "group Y-witnesses any Y1 Y2 Y3\ngroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
}

#[test]
fn the_published_example_is_met_by_two_of_one_group_and_one_of_the_other() {
    let policy = WitnessPolicy::parse(example().as_bytes()).unwrap();
    assert_eq!(policy.logs().len(), 1);
    for enough in [&[1, 2, 4][..], &[2, 3, 6], &[1, 2, 3, 4, 5, 6]] {
        assert!(met(&policy, enough), "{enough:?}");
    }
    for short in [&[][..], &[1, 2], &[4, 5, 6], &[1, 4], &[1, 1, 4], &[7, 8, 9]] {
        assert!(!met(&policy, short), "{short:?}");
    }
}

#[test]
fn a_quorum_may_be_one_witness_or_nobody() {
    let one = WitnessPolicy::parse(format!("witness a {}\nquorum a\n", vkey(1)).as_bytes()).unwrap();
    assert!(met(&one, &[1]) && !met(&one, &[2]));
    assert!(met(&WitnessPolicy::parse(b"quorum none\n").unwrap(), &[]));
}

#[test]
fn so_many_of_some_witnesses_are_a_policy_too() {
    let policy = WitnessPolicy::of([1, 2, 3].map(|seed| witness(seed).verifier()), 2);
    assert!(met(&policy, &[1, 3]) && !met(&policy, &[3]) && !met(&policy, &[3, 3]));
}

#[test]
fn a_bad_cosignature_of_a_policy_s_witness_is_an_error() {
    let policy = WitnessPolicy::of([witness(1).verifier(), witness(2).verifier()], 1);
    let note = format!("{TEXT}\n{}{}", witness(1).cosign(TEXT, 1), witness(2).cosign("other\n", 1));
    assert!(policy.judge(&Note::parse(note.as_bytes()).unwrap()).is_err());
}

#[test]
fn a_witness_that_cannot_be_checked_counts_as_silent() {
    use base64::Engine as _;
    use sha2::Digest as _;

    let key = [&[6u8][..], &[0; 1312]].concat();
    let id: String = sha2::Sha256::new()
        .chain_update("ml.example.com\n")
        .chain_update(&key)
        .finalize()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    let text =
        format!("witness m ml.example.com+{id}+{key}\nwitness a {}\ngroup g any m a\nquorum g\n", vkey(1));
    let policy = WitnessPolicy::parse(text.as_bytes()).unwrap();
    assert!(met(&policy, &[1]) && !met(&policy, &[]));
}

#[test]
fn names_are_octets() {
    let mut text = format!("witness \u{212a} {}\nwitness K {}\nquorum ", vkey(1), vkey(2)).into_bytes();
    text.extend_from_slice("\u{212a}\n".as_bytes());
    let policy = WitnessPolicy::parse(&text).unwrap();
    assert!(met(&policy, &[1]) && !met(&policy, &[2]));
    let latin = [&b"witness \xe9 "[..], vkey(1).as_bytes(), b"\nquorum \xe9\n"].concat();
    assert!(met(&WitnessPolicy::parse(&latin).unwrap(), &[1]));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    use PolicyFault as F;
    let (a, b) = (format!("witness a {}\n", vkey(1)), format!("witness b {}\n", vkey(2)));
    let group = F::Shape("group <name> any|all|<number> <name>...");
    let table = [
        (String::new(), 1, F::NoQuorum),
        (format!("{a}# no more\n"), 3, F::NoQuorum),
        ("quorum none".into(), 1, F::NoNewline),
        ("quorum none\r\n".into(), 1, F::Byte(13)),
        ("# \u{7f}\n".into(), 1, F::Byte(127)),
        ("Quorum none\n".into(), 1, F::Keyword("Quorum".into())),
        ("quorum none\nquorum none\n".into(), 2, F::SecondQuorum),
        ("quorum\n".into(), 1, F::Shape("quorum <name>")),
        ("quorum a b\n".into(), 1, F::Shape("quorum <name>")),
        (format!("quorum a\n{a}"), 1, F::Undefined("a".into())),
        (format!("{a}witness a {}\n", vkey(2)), 2, F::Defined("a".into())),
        (format!("{a}witness b {}\n", vkey(1)), 2, F::SameKey),
        (format!("witness none {}\n", vkey(1)), 1, F::Defined("none".into())),
        ("witness a\n".into(), 1, F::Shape("witness <name> <vkey> [<url>]")),
        (format!("witness a {} url more\n", vkey(1)), 1, F::Shape("witness <name> <vkey> [<url>]")),
        (format!("witness a {}\n", log()), 1, F::WitnessKey(CosignerKeyError::Log)),
        (format!("log {}\n", vkey(1)), 1, F::LogKey(VkeyError::Type(4))),
        (format!("log {0}\nlog {0}\n", log()), 2, F::SameKey),
        ("log\n".into(), 1, F::Shape("log <vkey> [<url>]")),
        (format!("{a}group g any\n"), 2, group.clone()),
        (format!("{a}group g\n"), 2, group),
        (format!("{a}group g 0 a\n"), 2, F::Threshold("0".into())),
        (format!("{a}group g 2 a\n"), 2, F::Threshold("2".into())),
        (format!("{a}group g 01 a\n"), 2, F::Threshold("01".into())),
        (format!("{a}group g some a\n"), 2, F::Threshold("some".into())),
        (format!("{a}group g any none\n"), 2, F::Undefined("none".into())),
        (format!("{a}group g any g\n"), 2, F::Undefined("g".into())),
        (format!("{a}group a any a\n"), 2, F::Defined("a".into())),
        (format!("{a}group g any a a\n"), 2, F::MemberTwice("a".into())),
        (format!("{a}{b}group g any a\ngroup h any a b\n"), 4, F::MemberTwice("a".into())),
    ];
    for (text, line, fault) in table {
        assert_eq!(WitnessPolicy::parse(text.as_bytes()), Err(PolicyError { line, fault }), "{text:?}");
    }
}
