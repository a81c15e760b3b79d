//! The development issuer: a key on this machine that vouches for whoever its holder says.
//!
//! Nothing here is for production: there, tokens come from an identity provider that has seen a person.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::audit::hash::Hash;
use crate::clock::{Clock, Timestamp};

/// The `iss` of the development issuer in `config/portcullis.toml`.
pub(crate) const ISSUER: &str = "https://dev.portcullis.example.com";

/// The `aud` it writes.
pub(crate) const AUDIENCE: &str = "portcullis-dev";

/// An ES256 key that signs tokens for development.
pub(crate) struct DevIssuer {
    pair: KeyPair,
    key: EncodingKey,
}

/// Who a token speaks for.
#[derive(Clone, Debug)]
pub(crate) struct Grant<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) roles: &'a [String],
    pub(crate) ttl: Duration,
}

impl DevIssuer {
    /// Makes a new key.
    pub(crate) fn generate() -> Result<Self> {
        Self::of(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("no key could be made")?)
    }

    /// Reads a key from PKCS#8 PEM.
    pub(crate) fn from_pem(pem: &str) -> Result<Self> {
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256)
            .context("not an ECDSA P-256 private key in PKCS#8 PEM, as `portcullis init` makes it")?;
        Self::of(pair)
    }

    fn of(pair: KeyPair) -> Result<Self> {
        let key = EncodingKey::from_ec_der(pair.serialized_der());
        Ok(Self { pair, key })
    }

    /// The private key as PKCS#8 PEM.
    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.pair.serialize_pem())
    }

    /// The key set that an issuer publishes (RFC 7517 section 5).
    pub(crate) fn jwks(&self) -> Result<String> {
        let (x, y) = self.coordinates()?;
        let key = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid()?, "x": x, "y": y,
        });
        Ok(format!("{:#}\n", json!({ "keys": [key] })))
    }

    /// The key's name: its thumbprint (RFC 7638).
    fn kid(&self) -> Result<String> {
        let (x, y) = self.coordinates()?;
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Ok(URL_SAFE_NO_PAD.encode(Hash::of(canonical.as_bytes()).0))
    }

    fn coordinates(&self) -> Result<(String, String)> {
        // SEC 1, section 2.3.3: an uncompressed point is 0x04, then x and y.
        match self.pair.public_key_raw().split_first_chunk::<33>() {
            Some(([0x04, x @ ..], y)) if y.len() == 32 => {
                Ok((URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y)))
            }
            _ => bail!("the public key is not an uncompressed point of P-256"),
        }
    }

    /// Signs a token.
    pub(crate) fn token(&self, grant: &Grant<'_>, clock: &Clock) -> Result<String> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid()?);
        let claims = claims(grant, clock.now())?;
        jsonwebtoken::encode(&header, &claims, &self.key).context("the token could not be signed")
    }
}

fn claims(grant: &Grant<'_>, now: Timestamp) -> Result<Value> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).context("no random bytes from the operating system")?;
    Ok(json!({
        "iss": grant.issuer,
        "aud": grant.audience,
        "sub": grant.subject,
        "roles": grant.roles,
        "iat": now.as_secs(),
        "nbf": now.as_secs(),
        "exp": now.plus(grant.ttl).as_secs(),
        "jti": URL_SAFE_NO_PAD.encode(id),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(roles: &[String]) -> Grant<'_> {
        Grant { issuer: ISSUER, audience: AUDIENCE, subject: "alice", roles, ttl: Duration::from_secs(60) }
    }

    #[test]
    fn a_key_read_back_from_its_file_is_the_same_key() {
        let issuer = DevIssuer::generate().unwrap();
        let again = DevIssuer::from_pem(&issuer.to_pem()).unwrap();
        assert_eq!(issuer.jwks().unwrap(), again.jwks().unwrap());
        assert!(DevIssuer::from_pem("-----BEGIN NOTHING-----").is_err());
    }

    #[test]
    fn its_key_set_proves_its_tokens() {
        let issuer = DevIssuer::generate().unwrap();
        let token = issuer.token(&grant(&["viewer".into()]), &Clock::system()).unwrap();
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&issuer.jwks().unwrap()).unwrap();
        let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(set.find(&kid).unwrap()).unwrap();
        let mut rules = jsonwebtoken::Validation::new(Algorithm::ES256);
        rules.set_audience(&[AUDIENCE]);
        rules.set_issuer(&[ISSUER]);
        let claims = jsonwebtoken::decode::<Value>(&token, &key, &rules).unwrap().claims;
        assert_eq!((&claims["sub"], &claims["roles"]), (&json!("alice"), &json!(["viewer"])));
    }

    #[test]
    fn a_token_ends_when_its_time_is_up() {
        let now = Timestamp::from_micros(1_767_225_600_000_000);
        let claims = claims(&grant(&[]), now).unwrap();
        assert_eq!((&claims["nbf"], &claims["exp"]), (&json!(1_767_225_600), &json!(1_767_225_660)));
    }
}
