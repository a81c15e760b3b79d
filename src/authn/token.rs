//! A token taken apart (RFC 7515 §7.1, RFC 7519 §7.2). Nothing here is believed: a [`Token`] says what its text says.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::issuer::Algorithm;
use super::json::{self, Object};
use crate::access::CredentialFault;

/// The longest token that is looked at.
pub(super) const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The longest `kid` that is looked at.
const MAX_KEY_ID_BYTES: usize = 255;

/// A well-formed, unverified token.
#[derive(Debug)]
pub(super) struct Token<'a> {
    /// What is signed: `header.payload`, as it came.
    message: &'a str,
    /// The signature in base64url, as it came.
    signature: &'a str,
    algorithm: Option<Algorithm>,
    key_id: Option<String>,
    claims: Object,
}

impl<'a> Token<'a> {
    /// Takes a compact JWS apart. Refused as malformed: anything but three parts of unpadded base64url, a header or
    /// claims that are not one JSON object without repeated members, a header without `alg`, a `kid` that is not a
    /// short string, and any `crit` (RFC 7515 §4.1.11: we understand no extension). Other header members are not
    /// looked at.
    pub(super) fn parse(text: &'a str) -> Result<Self, CredentialFault> {
        Self::take_apart(text).ok_or(CredentialFault::Malformed)
    }

    fn take_apart(text: &'a str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        URL_SAFE_NO_PAD.decode(signature).ok()?;
        let header = json::object(&URL_SAFE_NO_PAD.decode(header).ok()?)?;
        if header.contains_key("crit") {
            return None;
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= MAX_KEY_ID_BYTES => Some(kid.clone()),
            Some(_) => return None,
        };
        let Some(Value::String(algorithm)) = header.get("alg") else { return None };
        // A further dot in the payload is not base64url, so there are three parts or none.
        let claims = json::object(&URL_SAFE_NO_PAD.decode(claims).ok()?)?;
        Some(Self { message, signature, algorithm: Algorithm::parse(algorithm), key_id, claims })
    }

    /// `iss`, for choosing whose keys must verify the token.
    pub(super) fn issuer(&self) -> Result<&str, CredentialFault> {
        match self.claims.get("iss") {
            Some(Value::String(iss)) => Ok(iss),
            _ => Err(CredentialFault::BadClaims),
        }
    }

    /// `alg`; `None` if it is none that we know (`none`, shared secrets, any other word).
    pub(super) const fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// `kid`.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The bytes the signature is over.
    pub(super) const fn message(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// The signature, in base64url.
    pub(super) const fn signature(&self) -> &str {
        self.signature
    }

    /// The claims. Only a verified token's may be asked for what they say of the caller.
    pub(super) const fn claims(&self) -> &Object {
        &self.claims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_well_formed_token_comes_apart() {
        let text = token(r#"{"alg":"ES256","kid":"k1","typ":"at+jwt","jwk":7}"#, r#"{"iss":"i"}"#);
        let token = Token::parse(&text).unwrap();
        assert_eq!(token.algorithm(), Some(Algorithm::Es256));
        assert_eq!(token.key_id(), Some("k1"));
        assert_eq!(token.issuer(), Ok("i"));
        assert_eq!([token.message(), b".", token.signature().as_bytes()].concat(), text.into_bytes());
    }

    #[test]
    fn words_that_name_no_algorithm_of_ours_name_none() {
        for word in ["none", "nOnE", "NONE", "HS256", "HS512", "es256", "ES256 ", "ES512", "ES256K", ""] {
            let text = token(&format!(r#"{{"alg":"{word}"}}"#), "{}");
            assert_eq!(Token::parse(&text).unwrap().algorithm(), None, "{word}");
        }
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.as_str()), Some(algorithm));
        }
        assert_eq!(Algorithm::parse("Ed25519"), Some(Algorithm::EdDsa));
    }

    #[test]
    fn what_has_no_one_reading_is_malformed() {
        let good = token(r#"{"alg":"ES256"}"#, "{}");
        assert!(Token::parse(&good).is_ok());
        let long_kid = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(256));
        let cases = [
            String::new(),
            "a".to_owned(),
            "a.b".to_owned(),
            "..".to_owned(),
            format!("{good}.AAAA"),
            format!("{good}.AAAA.AAAA"),
            format!("{good}="),
            format!("{good}!"),
            format!(" {good}"),
            format!("{good}\n"),
            token("[]", "{}"),
            token("{}", "{}"),
            token(r#"{"alg":7}"#, "{}"),
            token(r#"{"alg":"ES256","alg":"ES256"}"#, "{}"),
            token(r#"{"alg":"ES256","kid":7}"#, "{}"),
            token(r#"{"alg":"ES256","kid":null}"#, "{}"),
            token(&long_kid, "{}"),
            token(r#"{"alg":"ES256","crit":["b64"],"b64":false}"#, "{}"),
            token(r#"{"alg":"ES256","crit":null}"#, "{}"),
            token(r#"{"alg":"ES256"}"#, "[]"),
            token(r#"{"alg":"ES256"}"#, r#"{"sub":"a","sub":"b"}"#),
            token(r#"{"alg":"ES256"}"#, "{} "),
        ];
        let last = cases.len() - 1;
        for (at, text) in cases.iter().enumerate() {
            // White space after the claims is JSON still.
            assert_eq!(Token::parse(text).is_ok(), at == last, "{text}");
        }
    }
}
