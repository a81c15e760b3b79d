//! What a call shows to prove who sends it.

use std::fmt;

use http::header::{self, HeaderMap, HeaderValue};

use crate::access::malformed::Malformed;

/// What a caller offers as proof of who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    None,
    /// A bearer token (RFC 6750 §2.1).
    Bearer(Token),
    /// An `Authorization` of another scheme.
    Unsupported,
    /// An `Authorization` that is not well formed.
    Malformed,
}

/// A bearer token. It is a secret: it prints as `Token(..)`, and nothing writes it anywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    value: HeaderValue,
    start: usize,
}

impl Token {
    /// The token's characters.
    pub fn as_str(&self) -> &str {
        // It was found to be ASCII when it was read; this looks at many bytes at a time.
        let token = self.value.as_bytes().get(self.start..).unwrap_or_default();
        std::str::from_utf8(token).unwrap_or_default()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Credential {
    pub(super) fn read(headers: &HeaderMap) -> (Self, Option<Malformed>) {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return (Self::None, None) };
        if values.next().is_some() {
            return (Self::Malformed, Some(Malformed::AuthorizationRepeated));
        }
        (Self::parse(value), None)
    }

    fn parse(value: &HeaderValue) -> Self {
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else { return Self::Malformed };
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            let odd = scheme.is_empty() || value.to_str().is_err();
            return if odd { Self::Malformed } else { Self::Unsupported };
        }
        let token = rest.trim_start_matches(' ');
        // RFC 6750 §2.1: b64token.
        let well_formed = !token.is_empty()
            && token.bytes().fold(true, |all, b| all & B64TOKEN.get(usize::from(b)).is_some_and(|is| *is));
        if !well_formed {
            return Self::Malformed;
        }
        Self::Bearer(Token { start: text.len() - token.len(), value: value.clone() })
    }
}

/// RFC 6750 §2.1: what a `b64token` is made of. Tokens are long and come with every call.
static B64TOKEN: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0u8);
    loop {
        #[allow(clippy::indexing_slicing, reason = "in a constant, what is out of bounds does not compile")]
        {
            table[byte as usize] = byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
        }
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};
