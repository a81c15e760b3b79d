//! The head of a record: fixed bytes around four values, so it is read by position and not as JSON.
//!
//! ```text
//! {"v":1,"index":<decimal>,"prev":"<64 hex>","time":"<27 bytes>","kind":"<word>"…}
//! ```

use std::cell::Cell;

use super::{Kind, MAX_RECORD_BYTES};
use crate::audit::hash::Hash;
use crate::clock::Timestamp;

/// A record's place in the log, and what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its position, from 0.
    pub index: u64,
    /// The leaf hash of the record before it; [`Hash::ZERO`] at index 0.
    pub prev: Hash,
    /// When its place was given out. Never before the record before it.
    pub time: Timestamp,
    /// What it is about.
    pub kind: Kind,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Longer than any record.
    #[error("longer than {MAX_RECORD_BYTES} bytes")]
    TooLong,
    /// Of a later version of the format.
    #[error("not of version 1 of the record format; a newer portcullis may read it")]
    Version,
    /// The head is not what every head is.
    #[error("the head is malformed")]
    Head,
    /// A kind this version does not know.
    #[error("the kind is unknown")]
    Kind,
    /// The head is fine, what follows is not JSON.
    #[error("not one JSON object of printable ASCII")]
    Json,
}

impl Head {
    /// Reads the head of a record and checks that the record ends in a brace; what lies between is not looked at.
    /// Strict: accepts what [`seal`](super::seal) writes and nothing else.
    ///
    /// # Errors
    /// See [`RecordError`]; never [`RecordError::Json`].
    pub fn parse(record: &[u8]) -> Result<Self, RecordError> {
        if record.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong);
        }
        let Some(rest) = record.strip_prefix(br#"{"v":1,"index":"#) else {
            let versioned = record.strip_prefix(br#"{"v":"#).is_some_and(|r| !r.starts_with(b"1,"));
            return Err(if versioned { RecordError::Version } else { RecordError::Head });
        };
        Self::after_version(rest)
    }

    fn after_version(rest: &[u8]) -> Result<Self, RecordError> {
        let parts = || {
            let (index, rest) = decimal(rest)?;
            let (prev, rest) = rest.strip_prefix(br#","prev":""#)?.split_first_chunk::<64>()?;
            let (time, rest) = rest.strip_prefix(br#"","time":""#)?.split_first_chunk::<27>()?;
            let rest = rest.strip_prefix(br#"","kind":""#)?;
            let word = rest.get(..rest.iter().position(|b| *b == b'"')?)?;
            Some((index, Hash::from_hex(prev)?, parse_time(time)?, std::str::from_utf8(word).ok()?, rest))
        };
        let (index, prev, time, word, rest) = parts().ok_or(RecordError::Head)?;
        if rest.last() != Some(&b'}') {
            return Err(RecordError::Head);
        }
        let kind = Kind::parse(word).ok_or(RecordError::Kind)?;
        Ok(Self { index, prev, time, kind })
    }
}

/// Appends the head up to the comma before `"kind":`.
pub(super) fn write(index: u64, prev: &Hash, time: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"v":1,"index":"#);
    super::text::number(out, index);
    out.extend_from_slice(br#","prev":""#);
    prev.write_hex(out);
    out.extend_from_slice(br#"","time":""#);
    write_time(time, out);
    out.extend_from_slice(br#"","#);
}

/// Appends the 27 bytes of a time; the nearer end of the years 1970 to 9999 for one outside them.
pub(super) fn write_time(time: Timestamp, out: &mut Vec<u8>) {
    // 9999-12-30T22:00:00.999999Z, which is as far as the calendar behind `Timestamp` goes.
    const LAST: i64 = 253_402_207_200_999_999;
    let micros = time.as_micros().clamp(0, LAST);
    // All records of a commit have the same time.
    let (last, text) = WRITTEN.get();
    if last == micros {
        out.extend_from_slice(&text);
        return;
    }
    let start = out.len();
    Timestamp::from_micros(micros).write_rfc3339(out);
    if let Some(text) = out.get(start..).and_then(|text| text.try_into().ok()) {
        WRITTEN.set((micros, text));
    }
}

thread_local! {
    /// The time written last, and as what.
    static WRITTEN: Cell<(i64, [u8; 27])> = const { Cell::new((0, *b"1970-01-01T00:00:00.000000Z")) };
}

fn decimal(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = bytes.split_at_checked(digits)?;
    if number.is_empty() || (number.len() > 1 && number.starts_with(b"0")) {
        return None;
    }
    let value =
        number.iter().try_fold(0u64, |n, digit| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    Some((value, rest))
}

/// Exactly `YYYY-MM-DDThh:mm:ss.ffffffZ`, a real moment, no leap second, from 1970 on.
fn parse_time(text: &[u8; 27]) -> Option<Timestamp> {
    let (year, rest) = digits::<4>(text, b'-')?;
    let (month, rest) = digits::<2>(rest, b'-')?;
    let (day, rest) = digits::<2>(rest, b'T')?;
    let (hour, rest) = digits::<2>(rest, b':')?;
    let (minute, rest) = digits::<2>(rest, b':')?;
    let (second, rest) = digits::<2>(rest, b'.')?;
    let (micros, _) = digits::<6>(rest, b'Z')?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_since_epoch(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp::from_micros(seconds * 1_000_000 + micros))
}

/// `N` digits and the byte that ends them.
fn digits<const N: usize>(text: &[u8], end: u8) -> Option<(i64, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<N>()?;
    let (ended, rest) = rest.split_first()?;
    if *ended != end || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')), rest))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; `None` before it and for dates that do not exist.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    const BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    const DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let at = usize::try_from(month - 1).ok()?;
    let last = DAYS.get(at)? + i64::from(leap && month == 2);
    if year < 1970 || day < 1 || day > last {
        return None;
    }
    let leap_days_before = |y: i64| y / 4 - y / 100 + y / 400;
    let whole_years = (year - 1970) * 365 + leap_days_before(year - 1) - leap_days_before(1969);
    Some(whole_years + BEFORE_MONTH.get(at)? + i64::from(leap && month > 2) + day - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(index: u64, time: Timestamp, kind: Kind) -> Vec<u8> {
        let mut out = Vec::new();
        write(index, &Hash::of(b"prev"), time, &mut out);
        out.extend_from_slice(format!(r#""kind":"{}"}}"#, kind.as_str()).as_bytes());
        out
    }

    #[test]
    fn heads_that_were_never_written_are_refused() {
        let good = String::from_utf8(head(12, Timestamp::from_micros(0), Kind::Decision)).unwrap();
        assert!(Head::parse(good.as_bytes()).is_ok());
        let hex = Hash::of(b"prev").to_string();
        let table: &[(&str, &str, RecordError)] = &[
            (r#""v":1"#, r#""v":2"#, RecordError::Version),
            (r#""v":1"#, r#""v":10"#, RecordError::Version),
            (r#""v":1"#, r#""v": 1"#, RecordError::Version),
            (r#"{"v""#, r#" {"v""#, RecordError::Head),
            (":12,", ":012,", RecordError::Head),
            (":12,", ":+12,", RecordError::Head),
            (":12,", ":,", RecordError::Head),
            (":12,", ":12.0,", RecordError::Head),
            (":12,", ":18446744073709551616,", RecordError::Head),
            (":12,", ": 12,", RecordError::Head),
            (&hex, &hex.to_uppercase(), RecordError::Head),
            (&hex, &hex[1..], RecordError::Head),
            ("1970-", "1969-", RecordError::Head),
            ("-01-01T", "-02-29T", RecordError::Head),
            ("-01-01T", "-13-01T", RecordError::Head),
            ("-01-01T", "-00-01T", RecordError::Head),
            ("-01-01T", "-01-00T", RecordError::Head),
            ("-01-01T", "-04-31T", RecordError::Head),
            ("T00:00:00", "T24:00:00", RecordError::Head),
            ("T00:00:00", "T00:60:00", RecordError::Head),
            ("T00:00:00", "T00:00:60", RecordError::Head),
            ("T00", "t00", RecordError::Head),
            (".000000Z", ".00000Z", RecordError::Head),
            (".000000Z", ".0000000Z", RecordError::Head),
            (r#","kind":"decision"}"#, "}", RecordError::Head),
            (r#""decision"}"#, r#""decision""#, RecordError::Head),
            (r#""decision"}"#, r#""decision}"#, RecordError::Head),
            ("decision", "decisions", RecordError::Kind),
            ("decision", "", RecordError::Kind),
        ];
        for (old, new, error) in table {
            let bad = good.replacen(old, new, 1);
            assert_ne!(bad, good);
            assert_eq!(Head::parse(bad.as_bytes()), Err(*error), "{bad}");
        }
        let long = vec![b' '; MAX_RECORD_BYTES + 1];
        assert_eq!(Head::parse(&long), Err(RecordError::TooLong));
    }

    #[test]
    fn a_time_out_of_range_is_written_as_the_nearer_end() {
        for (micros, written) in [(-1, 0), (i64::MIN, 0), (i64::MAX, 253_402_207_200_999_999)] {
            let bytes = head(0, Timestamp::from_micros(micros), Kind::Outcome);
            assert_eq!(Head::parse(&bytes).unwrap().time, Timestamp::from_micros(written));
        }
    }

    proptest! {
        #[test]
        fn a_head_reads_back(index: u64, micros in 0i64..253_402_207_201_000_000, kind in 0usize..9) {
            let (time, kind) = (Timestamp::from_micros(micros), Kind::ALL[kind]);
            let bytes = head(index, time, kind);
            let longest = super::super::MAX_HEAD_BYTES + br#""kind":"lifecycle"}"#.len();
            prop_assert!(bytes.len() <= longest);
            prop_assert_eq!(Head::parse(&bytes), Ok(Head { index, prev: Hash::of(b"prev"), time, kind }));
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..200) {
            let _ = Head::parse(&bytes);
            let whole = head(12, Timestamp::from_micros(0), Kind::Decision);
            let _ = Head::parse(&whole[..cut.min(whole.len())]);
        }
    }
}
