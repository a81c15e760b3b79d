//! SHA-256 as RFC 6962 uses it: leaves and nodes hash under different prefixes, so neither can pass for the other.

use std::fmt;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// A SHA-256 digest, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// All zeros: `prev` of the record at index 0. No record hashes to it.
    pub const ZERO: Self = Self([0; 32]);

    /// SHA-256 of `bytes`, without a prefix: epochs, fingerprints, commitments.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// SHA-256 of all that `from` gives, without a prefix, in little memory however much that is.
    ///
    /// # Errors
    /// Whatever reading fails with.
    pub fn of_all(mut from: impl Read) -> io::Result<Self> {
        let (mut hasher, mut piece) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            match from.read(&mut piece) {
                Ok(0) => return Ok(Self(hasher.finalize().into())),
                Ok(read) => hasher.update(piece.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The leaf hash of a record: SHA-256(0x00 ‖ record) (RFC 6962 §2.1).
    pub fn leaf(record: &[u8]) -> Self {
        Self(Sha256::new().chain_update([0x00]).chain_update(record).finalize().into())
    }

    /// The hash of an interior node: SHA-256(0x01 ‖ left ‖ right) (RFC 6962 §2.1).
    pub fn node(left: &Self, right: &Self) -> Self {
        Self(Sha256::new().chain_update([0x01]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    /// Appends the 64 lower-case hex digits.
    pub fn write_hex(&self, out: &mut Vec<u8>) {
        // Six of these are written for a call that is let through: a look at a table is quicker than working digits out.
        let hex = self.0.map(|byte| HEX.get(usize::from(byte)).copied().unwrap_or_default());
        out.extend_from_slice(hex.as_flattened());
    }

    /// Reads 64 lower-case hex digits; `None` for anything else.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        // Without branches per digit: verifying a log spends much of its time here.
        let valid = text.len() == 64 && text.iter().fold(true, |valid, digit| valid & is_hex_digit(*digit));
        if !valid {
            return None;
        }
        let mut bytes = [0; 32];
        let (pairs, _) = text.as_chunks::<2>();
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = hex_value(*high) << 4 | hex_value(*low);
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Each byte's two digits.
static HEX: [[u8; 2]; 256] = {
    let (mut table, mut byte) = ([[0; 2]; 256], 0u8);
    loop {
        #[allow(clippy::indexing_slicing, reason = "in a constant, what is out of bounds does not compile")]
        {
            table[byte as usize] = [hex_digit(byte >> 4), hex_digit(byte & 0x0f)];
        }
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

const fn is_hex_digit(byte: u8) -> bool {
    byte.wrapping_sub(b'0') < 10 || byte.wrapping_sub(b'a') < 6
}

/// The value of a digit for which [`is_hex_digit`] holds: letters have bit 6 set, and `a` ends in 1.
const fn hex_value(digit: u8) -> u8 {
    (digit & 0x0f) + 9 * (digit >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaf_and_node_hashes_are_those_of_rfc_6962() {
        // The published test vectors of Certificate Transparency's empty leaf and of two known leaves.
        assert_eq!(
            Hash::leaf(b"").to_string(),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        let left = Hash::leaf(b"");
        let right = Hash::leaf(&[0x00]);
        assert_eq!(right.to_string(), "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7");
        assert_eq!(
            Hash::node(&left, &right).to_string(),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
    }

    #[test]
    fn hex_reads_back_and_refuses_what_it_did_not_write() {
        let hash = Hash::of(b"portcullis");
        let mut hex = Vec::new();
        hash.write_hex(&mut hex);
        assert_eq!(Hash::from_hex(&hex), Some(hash));
        assert_eq!(hex, hash.to_string().into_bytes());
        hex[0] = b'G';
        assert_eq!(Hash::from_hex(&hex), None);
        assert_eq!(Hash::from_hex(&hex[1..]), None);
        assert_eq!(Hash::from_hex(&hash.to_string().to_uppercase().into_bytes()), None);
    }
}
