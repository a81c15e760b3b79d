//! The numbers a call is found again by: its own, and that of the trace it is part of.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// A request's number: 1 to 128 characters of `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

/// The W3C trace context of a call: a valid `traceparent` (version 00), 55 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext(HeaderValue);

impl RequestId {
    pub(super) fn read(headers: &HeaderMap, by_proxy: bool, fresh: u128) -> Self {
        let well_formed = |value: &HeaderValue| {
            (1..=128).contains(&value.len())
                && value
                    .as_bytes()
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        match headers.get(X_REQUEST_ID) {
            Some(value) if by_proxy && well_formed(value) => Self(value.clone()),
            _ => {
                let mut id = [0; 32];
                write_hex(&mut id, fresh);
                Self(ascii_value(&id))
            }
        }
    }

    /// The id as a header value.
    pub const fn header(&self) -> &HeaderValue {
        &self.0
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl TraceContext {
    pub(super) fn read(headers: &HeaderMap, fresh: u128) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(value), None) if is_traceparent(value.as_bytes()) => Self(value.clone()),
            // The low half of a trace id that is not all zero makes the first span's id.
            _ => {
                let mut context = *b"00-00000000000000000000000000000000-0000000000000000-00";
                let (_, ids) = context.split_at_mut(3);
                let (trace, rest) = ids.split_at_mut(32);
                let (_, span) = rest.split_at_mut(1);
                write_hex(trace, fresh | 1);
                write_hex(span.split_at_mut(16).0, u128::from(fresh as u64 | 1));
                Self(ascii_value(&context))
            }
        }
    }

    /// The `traceparent` header.
    pub const fn header(&self) -> &HeaderValue {
        &self.0
    }

    /// The trace id, 32 hex digits.
    pub fn trace_id(&self) -> &str {
        self.0.to_str().ok().and_then(|text| text.get(3..35)).unwrap_or_default()
    }
}

/// W3C Trace Context §3.2, version 00.
pub(super) fn is_traceparent(value: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let not_zero = |part: &[u8]| part.iter().any(|b| *b != b'0');
    match value.split(|b| *b == b'-').collect::<Vec<_>>().as_slice() {
        [b"00", trace, span, flags] => {
            trace.len() == 32
                && span.len() == 16
                && flags.len() == 2
                && is_hex(trace)
                && is_hex(span)
                && is_hex(flags)
                && not_zero(trace)
                && not_zero(span)
        }
        _ => false,
    }
}

/// Writes the low hex digits of `number`, as many as `out` has room for.
fn write_hex(out: &mut [u8], number: u128) {
    let mut left = number;
    for digit in out.iter_mut().rev() {
        let nibble = (left & 0xf) as u8;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        left >>= 4;
    }
}

fn ascii_value(text: &[u8]) -> HeaderValue {
    // Hex digits and dashes are always a valid value; the fallback only spares a panic path.
    HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static("0"))
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
