//! What a verified token says of its caller (RFC 7519 §4.1).

use std::time::Duration;

use serde_json::Value;

use super::issuer::Issuer;
use super::json::Object;
use super::keys::Verified;
use super::principal::{self, Names};
use crate::access::{Caller, CredentialFault, ProofMethod};
use crate::clock::{Clock, Timestamp};

/// A caller, and since when its token holds. Until when is [`Caller::expires`].
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) caller: Caller,
    /// `nbf` less the leeway, or the beginning of time.
    pub(super) not_before: Timestamp,
}

/// Reads the claims by `clock`. `exp` and `aud` are required, `nbf` is honoured if present, and all must be of their
/// types; times hold within `leeway`. The caller's `expires` is `exp` and the leeway after it.
pub(super) fn read(
    verified: &Verified<'_>,
    issuer: &Issuer,
    names: &Names,
    clock: &Clock,
    leeway: Duration,
) -> Result<Proof, CredentialFault> {
    let claims = verified.token().claims();
    let expires = claims.get("exp").and_then(time).ok_or(CredentialFault::BadClaims)?.plus(leeway);
    let not_before = match claims.get("nbf") {
        None => Timestamp::from_micros(i64::MIN),
        Some(nbf) => minus(time(nbf).ok_or(CredentialFault::BadClaims)?, leeway),
    };
    let now = clock.steady();
    if now >= expires {
        return Err(CredentialFault::Expired);
    }
    if !has_begun(not_before, now, clock) {
        return Err(CredentialFault::NotYetValid);
    }
    for_us(claims.get("aud"), issuer)?;
    let subject = find(claims, &issuer.subject_claim).and_then(Value::as_str);
    let user = subject
        .and_then(|subject| principal::user(subject, issuer, names))
        .ok_or(CredentialFault::BadClaims)?;
    let roles = match find(claims, &issuer.roles_claim) {
        None | Some(Value::Null) => Vec::new(),
        Some(listed) => principal::roles(words(listed)?.into_iter(), issuer),
    };
    let caller = Caller {
        user,
        roles,
        issuer: issuer.name.clone(),
        method: ProofMethod::Jwt,
        token_id: token_id(claims),
        key_id: verified.token().key_id().map(str::to_owned),
        expires,
        also: None,
    };
    Ok(Proof { caller, not_before })
}

/// Whether a token holds already: by the steady time `now`, or by the wall clock. A gate whose clock was set forward to
/// what it should have been would otherwise refuse every token issued since, until its steady time had caught up.
pub(super) fn has_begun(not_before: Timestamp, now: Timestamp, clock: &Clock) -> bool {
    not_before <= now || not_before <= clock.now()
}

/// `jti`, for the record only; one that is no short string is as good as none.
fn token_id(claims: &Object) -> Option<String> {
    const MAX_TOKEN_ID_BYTES: usize = 255;
    let id = claims.get("jti")?.as_str()?;
    (id.len() <= MAX_TOKEN_ID_BYTES).then(|| id.to_owned())
}

/// A NumericDate (RFC 7519 §2): a JSON number of seconds, whole or not; those beyond representable time are its end.
fn time(value: &Value) -> Option<Timestamp> {
    let Value::Number(seconds) = value else { return None };
    let micros = match (seconds.as_i64(), seconds.as_u64()) {
        (Some(seconds), _) => seconds.saturating_mul(1_000_000),
        (None, Some(_)) => i64::MAX,
        // The cast saturates, and JSON has no NaN.
        #[allow(clippy::cast_possible_truncation)]
        (None, None) => (seconds.as_f64()? * 1e6) as i64,
    };
    Some(Timestamp::from_micros(micros))
}

fn minus(time: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(time.as_micros().saturating_sub(by))
}

/// `aud` is one string or an array of strings (RFC 7519 §4.1.3), and one of them must be ours.
fn for_us(audience: Option<&Value>, issuer: &Issuer) -> Result<(), CredentialFault> {
    let ours = |name: &str| issuer.audiences.iter().any(|audience| audience == name);
    let named = match audience {
        Some(Value::String(name)) => ours(name),
        Some(Value::Array(_)) => strings(audience)?.into_iter().any(ours),
        _ => return Err(CredentialFault::BadClaims),
    };
    if named { Ok(()) } else { Err(CredentialFault::WrongAudience) }
}

/// A list of words: an array of strings, or one string of words parted by spaces (as OAuth's `scope`).
fn words(value: &Value) -> Result<Vec<&str>, CredentialFault> {
    match value {
        Value::String(words) => Ok(words.split(' ').filter(|word| !word.is_empty()).collect()),
        other => strings(Some(other)),
    }
}

fn strings(value: Option<&Value>) -> Result<Vec<&str>, CredentialFault> {
    let items = value.and_then(Value::as_array).ok_or(CredentialFault::BadClaims)?;
    items.iter().map(|item| item.as_str().ok_or(CredentialFault::BadClaims)).collect()
}

/// The member that `path` names: the one of that very name, dots and all (`https://example.com/roles`), or else the
/// one reached by following its parts (`realm_access.roles`). At each step the longest literal name that leads
/// anywhere wins, so that names with dots are found inside objects too (`resource_access.app.example.com.roles`).
fn find<'a>(members: &'a Object, path: &str) -> Option<&'a Value> {
    if let Some(value) = members.get(path) {
        return Some(value);
    }
    path.rmatch_indices('.').find_map(|(dot, _)| {
        let (name, rest) = path.split_at_checked(dot)?;
        find(members.get(name)?.as_object()?, rest.get(1..)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(members: &Value, path: &str) -> Option<Value> {
        find(members.as_object().unwrap(), path).cloned()
    }

    #[test]
    fn a_claim_is_found_by_literal_name_first_then_by_path() {
        let claims = json!({
            "roles": [1],
            "realm_access": {"roles": [2]},
            "a.b": 3,
            "a": {"b": 4, "c": 5, "d.e": 6},
            "https://example.com/roles": 7,
            "resource_access": {"app.example.com": {"roles": 8}},
            "x": "text",
        });
        for (path, expected) in [
            ("roles", Some(json!([1]))),
            ("realm_access.roles", Some(json!([2]))),
            ("a.b", Some(json!(3))),
            ("a.c", Some(json!(5))),
            ("a.d.e", Some(json!(6))),
            ("https://example.com/roles", Some(json!(7))),
            ("resource_access.app.example.com.roles", Some(json!(8))),
            ("none", None),
            ("a.none", None),
            ("x.y", None),
            ("a.", None),
            (".a", None),
            (".", None),
        ] {
            assert_eq!(at(&claims, path), expected, "{path}");
        }
    }

    #[test]
    fn a_time_is_a_number_and_never_text() {
        let micros = |value: Value| time(&value).map(Timestamp::as_micros);
        assert_eq!(micros(json!(1_700_000_000)), Some(1_700_000_000_000_000));
        assert_eq!(micros(json!(1.5)), Some(1_500_000));
        assert_eq!(micros(json!(-1)), Some(-1_000_000));
        assert_eq!(micros(json!(u64::MAX)), Some(i64::MAX));
        assert_eq!(micros(json!(i64::MIN)), Some(i64::MIN));
        assert_eq!(micros(json!(1e300)), Some(i64::MAX));
        assert_eq!(micros(json!(-1e300)), Some(i64::MIN));
        for other in [json!("1700000000"), json!(true), json!(null), json!([1]), json!({})] {
            assert_eq!(micros(other.clone()), None, "{other}");
        }
    }
}
