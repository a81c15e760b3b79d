//! The names that policy rows match. However a caller was proved, its names are made here.
//!
//! A caller of the primary issuer is `user:<sub>`, of another issuer `user:<name>:<sub>`. No two callers share a
//! name: issuer names have no colon, so the first colon after `user:<name>` ends the name; and a primary issuer's
//! subject that begins with another issuer's name and a colon (`partner:bob`, which would pass for `bob` of
//! `partner`) is refused. Colons elsewhere are fine (`system:serviceaccount:default:web`), so give secondary issuers
//! names that no subject of the primary one begins with.

use std::sync::Arc;

use super::issuer::Issuer;

/// The longest subject, in bytes (OpenID Connect Core §2 allows 255 ASCII characters).
pub(super) const MAX_SUBJECT_BYTES: usize = 255;

/// The names of the issuers that are not primary. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Names(Arc<[String]>);

impl Names {
    /// These, and `name` of callers proved otherwise than by an issuer's tokens.
    pub(super) fn and(&self, name: &str) -> Self {
        Self(self.0.iter().cloned().chain([name.to_owned()]).collect())
    }

    pub(super) fn of(issuers: &[Issuer]) -> Self {
        Self(issuers.iter().filter(|issuer| !issuer.primary).map(|issuer| issuer.name.clone()).collect())
    }

    /// Whether `subject`, of the primary issuer, would pass for a subject of another.
    fn imitated_by(&self, subject: &str) -> bool {
        subject.split_once(':').is_some_and(|(first, _)| self.0.iter().any(|name| name == first))
    }
}

/// The principal of `subject` as `issuer` names it. `None` for a subject that may not be one: empty, over
/// [`MAX_SUBJECT_BYTES`], with control characters or with white space at its ends, or passing for another issuer's.
pub(super) fn user(subject: &str, issuer: &Issuer, names: &Names) -> Option<String> {
    named(subject, &issuer.name, issuer.primary, names)
}

/// As [`user`], for any who vouches, by its `name` and whether it is `primary`.
pub(super) fn named(subject: &str, name: &str, primary: bool, names: &Names) -> Option<String> {
    let well_formed = !subject.is_empty()
        && subject.len() <= MAX_SUBJECT_BYTES
        && !subject.contains(char::is_control)
        && subject.trim() == subject;
    if !well_formed {
        return None;
    }
    if !primary {
        return Some(format!("user:{name}:{subject}"));
    }
    (!names.imitated_by(subject)).then(|| format!("user:{subject}"))
}

/// The principals of those of `roles` that `issuer` may grant, in their order, each once.
pub(super) fn roles<'a>(roles: impl Iterator<Item = &'a str>, issuer: &Issuer) -> Vec<String> {
    let mut granted = Vec::new();
    for role in roles.filter(|role| issuer.roles.iter().any(|grantable| grantable == role)) {
        let principal = format!("role:{role}");
        if !granted.contains(&principal) {
            granted.push(principal);
        }
    }
    granted
}
