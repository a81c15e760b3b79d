//! What the gate vouches for to a service: a short-lived signed statement of what was decided, one for each call that
//! is forwarded (docs/assertion.md).
//!
//! It is a JWT (RFC 7519) in JWS compact form (RFC 7515 §7.1), signed by Ed25519 (RFC 8037 §3.1). Its claims are made from
//! what the permit stands for and from nothing that the request says of itself. Each call has a record of its own, so each
//! needs a signature of its own; that is nearly all an assertion costs, so nothing but the header is remembered.
//!
//! Invariant: nothing here is reached by a call to a service that asks for no assertion.

mod key;
#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};

pub use self::key::{AssertionKey, AssertionKeyError, key_set};

use super::gate::ANONYMOUS;
use crate::access::Identity;
use crate::audit::hash::Hash;
use crate::audit::journal::Passage;
use crate::clock::{Clock, Timestamp};

/// The header that carries an assertion to a service. Everything under `portcullis-` is taken off a caller's request.
pub const PORTCULLIS_ASSERTION: HeaderName = HeaderName::from_static("portcullis-assertion");

/// The `typ` of an assertion, so that no other token signed by the same key, should there ever be one, passes for it
/// (RFC 8725 §3.11).
pub const TYPE: &str = "portcullis-assertion+jwt";

/// Makes assertions.
#[derive(Debug)]
pub struct Assertions {
    key: AssertionKey,
    lifetime_s: i64,
    clock: Clock,
    /// The JOSE header in base64url, and the dot after it.
    head: String,
}

impl Assertions {
    /// Assertions signed by `key` that hold for `lifetime` (whole seconds) from the moment in which they are made.
    pub fn new(key: AssertionKey, lifetime: Duration, clock: Clock) -> Self {
        let header = format!("{{\"typ\":\"{TYPE}\",\"alg\":\"EdDSA\",\"kid\":\"{}\"}}", key.kid());
        let mut head = URL_SAFE_NO_PAD.encode(header);
        head.push('.');
        let lifetime_s = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        Self { key, lifetime_s, clock, head }
    }

    /// The value of [`PORTCULLIS_ASSERTION`] for a call allowed under the policy of epoch `policy`. `None` where a
    /// credential was shown that proves nobody, as a preflight's connection may: then there is nobody to vouch for.
    pub fn assert(&self, passage: &Passage, policy: &Hash) -> Option<HeaderValue> {
        let claims = claims(passage, policy, self.clock.now(), self.lifetime_s)?;
        let encoded = |bytes: usize| (bytes * 4).div_ceil(3);
        let length = self.head.len() + encoded(claims.len()) + 1 + encoded(SIGNATURE);
        let mut token = String::with_capacity(length);
        token.push_str(&self.head);
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        let mut value = HeaderValue::from_maybe_shared(Bytes::from(token)).ok()?;
        // Whoever holds it may pass for the gate until it expires, so it is not for any log.
        value.set_sensitive(true);
        Some(value)
    }
}

/// The claims, as JSON with members in a fixed order.
fn claims(passage: &Passage, policy: &Hash, now: Timestamp, lifetime_s: i64) -> Option<Vec<u8>> {
    let (user, roles): (&str, &[String]) = match &passage.identity {
        Identity::Proved(caller) => (&caller.user, &caller.roles),
        Identity::Anonymous => (ANONYMOUS, &[]),
        Identity::Failed(_) => return None,
    };
    let record = passage.record.text();
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"{\"iss\":");
    text(&mut out, &passage.record.origin);
    out.extend_from_slice(b",\"sub\":");
    text(&mut out, user);
    out.extend_from_slice(b",\"roles\":[");
    for (n, role) in roles.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        text(&mut out, role);
    }
    out.push(b']');
    for (key, value) in [
        ("aud", &*passage.access.route.service),
        ("method", passage.access.method.as_str()),
        ("host", passage.access.host.as_str()),
        ("path", passage.access.path.as_str()),
        ("record", &record),
    ] {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        text(&mut out, value);
    }
    out.extend_from_slice(b",\"policy\":\"");
    policy.write_hex(&mut out);
    let issued = now.as_secs();
    out.extend_from_slice(b"\",\"iat\":");
    out.extend_from_slice(issued.to_string().as_bytes());
    out.extend_from_slice(b",\"exp\":");
    out.extend_from_slice(issued.saturating_add(lifetime_s).to_string().as_bytes());
    out.extend_from_slice(b",\"jti\":");
    text(&mut out, &record);
    out.push(b'}');
    Some(out)
}

/// A JSON string (RFC 8259 §7).
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for plain in text.as_bytes().split_inclusive(|byte| is_escaped(*byte)) {
        match plain.split_last() {
            Some((&last, before)) if is_escaped(last) => {
                out.extend_from_slice(before);
                match last {
                    b'"' | b'\\' => out.extend_from_slice(&[b'\\', last]),
                    control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
                }
            }
            _ => out.extend_from_slice(plain),
        }
    }
    out.push(b'"');
}

const fn is_escaped(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0x00..=0x1f)
}

/// Bytes of an Ed25519 signature.
const SIGNATURE: usize = 64;
