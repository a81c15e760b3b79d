//! All of a policy's text in one piece: what is hashed to name it, and what is kept to read its decisions against.
//!
//! `portcullis policy v1\n`, then the model and each file in order, each after its length in 8 bytes, big-endian. File names are
//! not part of it. The SHA-256 of the piece is the policy's epoch.

use std::fmt;
use std::sync::Arc;

use super::load::Text;
use crate::audit::hash::Hash;

/// A policy's text in one piece.
#[derive(Clone)]
pub struct PolicyText(Arc<[u8]>);

/// The texts that a policy is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// The model.
    pub model: String,
    /// The policy files, in the order in which they were loaded.
    pub policies: Vec<String>,
}

impl PolicyText {
    /// Puts `model` and `policies` in one piece.
    pub fn of(model: &Text, policies: &[Text]) -> Self {
        let mut bytes = HEAD.to_vec();
        for text in std::iter::once(model).chain(policies) {
            bytes.extend_from_slice(&(text.text.len() as u64).to_be_bytes());
            bytes.extend_from_slice(text.text.as_bytes());
        }
        Self(bytes.into())
    }

    /// The name of the policy: the hash of the piece. Lengths are part of it, so no two policies share one.
    pub fn epoch(&self) -> Hash {
        Hash::of(&self.0)
    }

    /// The piece.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PolicyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyText({} bytes)", self.0.len())
    }
}

impl Texts {
    /// Takes a piece apart; `None` if it is none.
    pub fn read(piece: &[u8]) -> Option<Self> {
        let mut rest = piece.strip_prefix(HEAD)?;
        let mut texts = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk() {
            let (text, after) = after.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
            texts.push(String::from_utf8(text.to_vec()).ok()?);
            rest = after;
        }
        if !rest.is_empty() || texts.is_empty() {
            return None;
        }
        let model = texts.remove(0);
        Some(Self { model, policies: texts })
    }
}

const HEAD: &[u8] = b"portcullis policy v1\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Text { name: "x".into(), text: text.into() }
    }

    #[test]
    fn a_piece_comes_apart_as_it_was_put_together() {
        for policies in [vec![], vec![text("")], vec![text("p, a\n"), text(""), text("g, é\n")]] {
            let piece = PolicyText::of(&text("[m]\n"), &policies);
            let texts = Texts::read(piece.as_bytes()).unwrap();
            assert_eq!(texts.model, "[m]\n");
            assert_eq!(texts.policies, policies.into_iter().map(|text| text.text).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_no_piece_is_not_read() {
        let piece = PolicyText::of(&text("[m]\n"), &[text("p, a\n")]);
        for cut in 0..piece.as_bytes().len() {
            // Cut between two texts it is another piece, of another name.
            let left = &piece.as_bytes()[..cut];
            assert!(Texts::read(left).is_none_or(|texts| texts.policies.is_empty()), "{cut}");
            assert_ne!(Hash::of(left), piece.epoch());
        }
        let mut long = HEAD.to_vec();
        long.extend_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(Texts::read(&long), None);
    }

    /// Frozen; by hand: `printf 'portcullis policy v1\n\0\0\0\0\0\0\0\4[m]\n\0\0\0\0\0\0\0\5p, a\n' | sha256sum`.
    #[test]
    fn the_name_is_the_hash_of_the_piece() {
        let piece = PolicyText::of(&text("[m]\n"), &[text("p, a\n")]);
        assert_eq!(
            piece.epoch().to_string(),
            "12090203b2405000fccd35750d9c1e4cc4f11f76d3f8cdb0f4aab7f98a4b37f4"
        );
    }
}
