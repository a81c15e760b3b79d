//! What a witness is sent to cosign (<https://c2sp.org/tlog-witness>, `add-checkpoint`): the size it cosigned last, a
//! proof that the tree has only grown since, and the checkpoint.
//!
//! ```text
//! old 20852014
//! <hash, base64>
//! <hash, base64>
//!
//! example.com/behind-the-sofa
//! 20852163
//! …
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::hash::Hash;
use super::decimal;

/// The most hashes a proof may have.
const PROOF_MAX: usize = 63;

/// The body of one request to a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission<'a> {
    /// The size that the witness cosigned last.
    pub old: u64,
    /// The consistency proof from there to the checkpoint's size (RFC 6962 §2.1.2).
    pub proof: Vec<Hash>,
    /// The checkpoint, as a signed note; not looked at here.
    pub note: &'a [u8],
}

impl<'a> Submission<'a> {
    /// Reads a body. `None` if it is none.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let (first, mut rest) = line(body)?;
        let old = decimal(std::str::from_utf8(first.strip_prefix(b"old ")?).ok()?)?;
        let mut proof = Vec::new();
        loop {
            let (hash, after) = line(rest)?;
            rest = after;
            if hash.is_empty() {
                return Some(Self { old, proof, note: rest });
            }
            if proof.len() == PROOF_MAX {
                return None;
            }
            proof.push(Hash(STANDARD.decode(hash).ok()?.try_into().ok()?));
        }
    }

    /// The body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = format!("old {}\n", self.old).into_bytes();
        for hash in &self.proof {
            body.extend_from_slice(STANDARD.encode(hash.0).as_bytes());
            body.push(b'\n');
        }
        body.push(b'\n');
        body.extend_from_slice(self.note);
        body
    }
}

/// The first line, without its end, and what follows.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of the specification.
    const EXAMPLE: &str = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";

    #[test]
    fn the_published_example_is_read_and_written_to_the_byte() {
        let read = Submission::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!((read.old, read.proof.len()), (20_852_014, 4));
        assert!(read.note.starts_with(b"example.com/behind-the-sofa\n20852163\n"));
        assert_eq!(read.to_bytes(), EXAMPLE.as_bytes());
    }

    #[test]
    fn what_is_not_a_submission_is_refused() {
        let hash = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
        let table = [
            String::new(),
            "old 1".into(),
            "old 1\n".into(),
            "old 01\n\nnote\n".into(),
            "old +1\n\nnote\n".into(),
            "old -1\n\nnote\n".into(),
            "old  1\n\nnote\n".into(),
            "old 1 \n\nnote\n".into(),
            "old\n\nnote\n".into(),
            "old \n\nnote\n".into(),
            "size 1\n\nnote\n".into(),
            "old 18446744073709551616\n\nnote\n".into(),
            "old 1\r\n\r\nnote\n".into(),
            "old 1\nAAAA\n\nnote\n".into(),
            "old 1\n!\n\nnote\n".into(),
            format!("old 1\n{hash}"),
            format!("old 1\n{}\nnote\n", hash.repeat(64)),
        ];
        for bad in table {
            assert_eq!(Submission::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert!(Submission::parse(format!("old 1\n{}\nnote\n", hash.repeat(63)).as_bytes()).is_some());
        assert_eq!(Submission::parse(b"old 0\n\nnote\n").unwrap().note, b"note\n");
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Submission::parse(&bytes);
        }
    }
}
