//! How values that came from outside are written: any bytes, any length, without loss of meaning or ambiguity.
//!
//! A text is one of
//! - a JSON string, if it is UTF-8 and its encoding fits its budget;
//! - `{"base64":"…"}`, if it is not UTF-8 and fits;
//! - `{"sha256":"…","length":…,"prefix":"…"}`, if it does not fit: the digest and length of all its bytes, and, if it is
//!   UTF-8, how it begins.
//!
//! Where the config says that part of a path is secret, `{"redacted":"…"}` stands in its place, with `{}` for each part that is;
//! what is too long of it is cut off, and `"cut":true` says so.
//!
//! `{"commit":"…"}` is reserved for values that can be erased. A list is an array of texts, or, if it does not fit,
//! `{"sha256":"…","length":…,"count":…,"first":[…]}`, digest and length being those of its items as netstrings.
//!
//! A string in the log is thus always the whole value; what stands for a value is always an object; and no value, whoever
//! chose it, can be written so that it looks like another.
//!
//! Strings escape `"`, `\` and everything outside printable ASCII, as `\u` and four lower-case hex digits (two such for
//! characters beyond U+FFFF), so that a record is one line of printable ASCII.
//!
//! Budgets count encoded bytes, quotes included.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::audit::hash::Hash;

/// What a cut text takes at most; no text's budget may be smaller.
pub(super) const CUT_MAX: usize =
    r#"{"sha256":"","length":,"prefix":}"#.len() + 64 + U64_MAX_DIGITS + PREFIX_BUDGET;

/// What one item of a list may take.
pub(super) const ITEM_BUDGET: usize = 512;

/// What a cut list takes at most; no list's budget may be smaller.
pub(super) const CUT_LIST_MAX: usize =
    r#"{"sha256":"","length":,"count":,"first":[]}"#.len() + 64 + 2 * U64_MAX_DIGITS + FIRST_BUDGET;

const PREFIX_BUDGET: usize = 98;
const FIRST_BUDGET: usize = 1_024;
const U64_MAX_DIGITS: usize = 20;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `n` in decimal.
pub(super) fn number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; U64_MAX_DIGITS];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
        used += 1;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(U64_MAX_DIGITS - used..).unwrap_or_default());
}

/// Appends `value` in at most `budget` bytes (at least [`CUT_MAX`]).
pub(super) fn text(out: &mut Vec<u8>, value: &[u8], budget: usize) {
    // Nearly every value is short and plain.
    if value.len() + 2 <= budget && is_all_plain(value) {
        out.push(b'"');
        out.extend_from_slice(value);
        out.push(b'"');
        return;
    }
    match std::str::from_utf8(value) {
        Ok(text) => {
            let start = out.len();
            if !quote(out, text, budget) {
                out.truncate(start);
                cut(out, value, Some(text));
            }
        }
        Err(_) if value.len() <= budget => {
            let start = out.len();
            out.extend_from_slice(br#"{"base64":""#);
            out.extend_from_slice(STANDARD.encode(value).as_bytes());
            out.extend_from_slice(br#""}"#);
            if out.len() - start > budget {
                out.truncate(start);
                cut(out, value, None);
            }
        }
        Err(_) => cut(out, value, None),
    }
}

/// Appends what is shown in the place of a value with secrets in it, in at most `budget` bytes (at least [`CUT_MAX`]).
/// There is no digest: a secret could be found by trying.
pub(super) fn redacted(out: &mut Vec<u8>, shown: &str, budget: usize) {
    out.extend_from_slice(br#"{"redacted":"#);
    let room = budget - r#"{"redacted":,"cut":true}"#.len();
    let start = out.len();
    if !quote(out, shown, room) {
        out.truncate(start);
        let end = shown.char_indices().map(|(at, _)| at).take_while(|at| *at <= PREFIX_BUDGET / 6 - 2).last();
        // That many characters fit whatever they are.
        quote(out, shown.get(..end.unwrap_or(0)).unwrap_or_default(), room);
        out.extend_from_slice(br#","cut":true"#);
    }
    out.push(b'}');
}

/// Appends `values` as an array of texts in at most `budget` bytes (at least [`CUT_LIST_MAX`]).
pub(super) fn list<T: AsRef<[u8]>>(out: &mut Vec<u8>, values: &[T], budget: usize) {
    let start = out.len();
    if items(out, values, budget) {
        return;
    }
    out.truncate(start);
    let mut digest = Sha256::new();
    let mut length = 0;
    for value in values {
        let value = value.as_ref();
        // Netstrings: no two lists have the same bytes.
        digest.update(format!("{}:", value.len()));
        digest.update(value);
        digest.update(",");
        length += value.len() as u64;
    }
    out.extend_from_slice(br#"{"sha256":""#);
    Hash(digest.finalize().into()).write_hex(out);
    out.extend_from_slice(br#"","length":"#);
    number(out, length);
    out.extend_from_slice(br#","count":"#);
    number(out, values.len() as u64);
    out.extend_from_slice(br#","first":"#);
    items(out, values, FIRST_BUDGET);
    out.push(b'}');
}

/// Appends as many items as fit `budget`, as a whole array; whether that was all of them.
fn items<T: AsRef<[u8]>>(out: &mut Vec<u8>, values: &[T], budget: usize) -> bool {
    let start = out.len();
    out.push(b'[');
    let mut all = true;
    for (at, value) in values.iter().enumerate() {
        let before = out.len();
        if at > 0 {
            out.push(b',');
        }
        text(out, value.as_ref(), ITEM_BUDGET);
        if out.len() + 1 - start > budget {
            out.truncate(before);
            all = false;
            break;
        }
    }
    out.push(b']');
    all
}

fn cut(out: &mut Vec<u8>, value: &[u8], text: Option<&str>) {
    out.extend_from_slice(br#"{"sha256":""#);
    Hash::of(value).write_hex(out);
    out.extend_from_slice(br#"","length":"#);
    number(out, value.len() as u64);
    if let Some(text) = text {
        out.extend_from_slice(br#","prefix":"#);
        quote(out, text, PREFIX_BUDGET);
    }
    out.push(b'}');
}

/// Appends as much of `text` as fits `budget`, as a whole JSON string; whether that was all of it.
fn quote(out: &mut Vec<u8>, text: &str, budget: usize) -> bool {
    let end = out.len() + budget - 1;
    out.push(b'"');
    let mut all = true;
    for c in text.chars() {
        let before = out.len();
        escape(out, c);
        if out.len() > end {
            out.truncate(before);
            all = false;
            break;
        }
    }
    out.push(b'"');
    all
}

fn escape(out: &mut Vec<u8>, c: char) {
    match c {
        '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
        ' '..='~' => out.push(c as u8),
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(br"\u");
                for shift in [12, 8, 4, 0] {
                    out.extend(HEX.get(usize::from(*unit >> shift & 0xf)));
                }
            }
        }
    }
}

/// Whether all of it stands for itself in a string. Looks at every byte: without branches, that is many at a time.
fn is_all_plain(value: &[u8]) -> bool {
    value.iter().fold(true, |plain, byte| plain & is_plain(*byte))
}

/// Bytes that stand for themselves in a string.
const fn is_plain(byte: u8) -> bool {
    (byte.wrapping_sub(0x20) < 0x5f) & (byte != b'"') & (byte != b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn written(value: &[u8], budget: usize) -> Value {
        let mut out = Vec::new();
        text(&mut out, value, budget);
        assert!(out.len() <= budget, "{} > {budget}", out.len());
        assert!(out.iter().all(|b| matches!(b, 0x20..=0x7e)));
        serde_json::from_slice(&out).unwrap()
    }

    fn written_list(values: &[Vec<u8>], budget: usize) -> Value {
        let mut out = Vec::new();
        list(&mut out, values, budget);
        assert!(out.len() <= budget, "{} > {budget}", out.len());
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn strings_escape_all_but_printable_ascii() {
        let table = [
            ("plain text", r#""plain text""#),
            ("", r#""""#),
            ("\"\\/", r#""\"\\/""#),
            ("\u{0}\n\u{1b}\u{7f}\u{80}", r#""\u0000\u000a\u001b\u007f\u0080""#),
            ("äöü€", r#""\u00e4\u00f6\u00fc\u20ac""#),
            ("\u{202e}\u{2028}", r#""\u202e\u2028""#),
            ("\u{1f6aa}", r#""\ud83d\udeaa""#),
        ];
        for (value, json) in table {
            let mut out = Vec::new();
            text(&mut out, value.as_bytes(), 1000);
            assert_eq!(String::from_utf8(out).unwrap(), json);
        }
    }

    #[test]
    fn what_is_not_utf8_is_kept_as_base64() {
        assert_eq!(written(b"a\xffb", 300), json!({"base64": "Yf9i"}));
    }

    #[test]
    fn what_does_not_fit_is_cut_to_its_digest_length_and_beginning() {
        let long = "x".repeat(299);
        assert_eq!(
            written(long.as_bytes(), 300),
            json!({"sha256": Hash::of(long.as_bytes()).to_string(), "length": 299, "prefix": "x".repeat(96)})
        );
        assert_eq!(written(&long.as_bytes()[1..], 300), json!(long[1..]), "298 bytes and two quotes fit");
        let raw = vec![0xff; 299];
        assert_eq!(written(&raw, 300), json!({"sha256": Hash::of(&raw).to_string(), "length": 299}));
        // A prefix never ends inside an escape: 16 times \u20ac in 96 bytes.
        let wide = "€".repeat(100);
        assert_eq!(written(wide.as_bytes(), 300)["prefix"], json!("€".repeat(16)));
    }

    #[test]
    fn a_value_cannot_pass_for_what_stands_for_another() {
        let forged = format!(r#"{{"sha256":"{}","length":9}}"#, Hash::of(b"x"));
        assert_eq!(written(forged.as_bytes(), 300), json!(forged));
    }

    #[test]
    fn a_list_that_does_not_fit_is_cut_to_its_digest_length_count_and_first_items() {
        let values: Vec<Vec<u8>> = (0..1000).map(|n| format!("role:{n:04}").into_bytes()).collect();
        let netstrings: String = (0..1000).map(|n| format!("9:role:{n:04},")).collect();
        let list = written_list(&values, 4_000);
        assert_eq!(list["sha256"], json!(Hash::of(netstrings.as_bytes()).to_string()));
        assert_eq!((&list["length"], &list["count"]), (&json!(9000), &json!(1000)));
        assert_eq!(list["first"].as_array().unwrap().len(), 85);
        assert_eq!(list["first"][84], json!("role:0084"));
        assert_eq!(written_list(&[], CUT_LIST_MAX), json!([]));
        // 100 items of 11 bytes, 99 commas, 2 brackets: 1,201 bytes.
        assert_eq!(written_list(&values[..100], 1_200)["count"], json!(100));
        assert_eq!(written_list(&values[..100], 1_201).as_array().map(Vec::len), Some(100));
    }

    #[test]
    fn numbers_are_decimal() {
        for n in [0, 7, 10, 99, 100, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, n);
            assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
        }
    }

    proptest! {
        #[test]
        fn a_text_never_exceeds_its_budget_and_reads_back_if_it_fits(
            value in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..2000),
                "\\PC{0,500}".prop_map(String::into_bytes),
                "[\u{0}-\u{20}\"\\\\a]{0,500}".prop_map(String::into_bytes),
            ],
            budget in CUT_MAX..1500,
        ) {
            let json = written(&value, budget);
            if let Some(text) = json.as_str() {
                prop_assert_eq!(text.as_bytes(), value);
            } else if let Some(base64) = json.get("base64") {
                prop_assert!(std::str::from_utf8(&value).is_err());
                prop_assert_eq!(STANDARD.decode(base64.as_str().unwrap()).unwrap(), value);
            } else {
                prop_assert_eq!(&json["sha256"], &json!(Hash::of(&value).to_string()));
                prop_assert_eq!(&json["length"], &json!(value.len()));
                if let Some(prefix) = json.get("prefix") {
                    prop_assert!(value.starts_with(prefix.as_str().unwrap().as_bytes()));
                }
            }
        }

        #[test]
        fn a_list_never_exceeds_its_budget(
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..700), 0..40),
            budget in CUT_LIST_MAX..5000,
        ) {
            let json = written_list(&values, budget);
            if let Some(items) = json.as_array() {
                prop_assert_eq!(items.len(), values.len());
            } else {
                prop_assert_eq!(&json["count"], &json!(values.len()));
            }
        }
    }
}
