//! A forger at work on a copy of the log, with RocksDB's own means: no checksum of the store can tell.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rocksdb::{DB, Options};

use crate::cli::files;

/// What the forger changed.
#[derive(Debug)]
pub(super) struct Flip {
    /// The place before.
    pub(super) before: String,
    /// The place after.
    pub(super) after: String,
}

/// Copies the store in `from` to the new directory `to`. A running gate only appends to the newest of its files, and what
/// a copy lacks of that is whole commits, or a tail that counts as none.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    files::claim_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name() != "LOCK" {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Flips one bit in record `index` of the store in `dir`: bob becomes rob.
pub(super) fn flip(dir: &Path, index: u64) -> Result<Flip> {
    let mut options = Options::default();
    options.set_keep_log_file_num(1);
    let families = DB::list_cf(&options, dir)?;
    let db = DB::open_cf(&options, dir, families)?;
    let records = db.cf_handle("records").context("the store has no records")?;
    let key = index.to_be_bytes();
    let bytes = db.get_cf(records, key)?.with_context(|| format!("there is no record {index}"))?;
    let (forged, flip) = forge(&bytes).with_context(|| format!("record {index} is not by bob"))?;
    db.put_cf(records, key, forged)?;
    db.flush_wal(true)?;
    Ok(flip)
}

fn forge(record: &[u8]) -> Result<(Vec<u8>, Flip)> {
    const NEEDLE: &[u8] = b"\"user\":\"user:bob\"";
    let Some(at) = record.windows(NEEDLE.len()).position(|window| window == NEEDLE) else {
        bail!("there is no {} in it", NEEDLE.escape_ascii());
    };
    let mut forged = record.to_vec();
    if let Some(byte) = forged.get_mut(at + NEEDLE.len() - 4) {
        *byte ^= 0x10;
    }
    let place = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes.get(at..at + NEEDLE.len()).unwrap_or_default()).into_owned()
    };
    let flip = Flip { before: place(record), after: place(&forged) };
    Ok((forged, flip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_makes_bob_rob() {
        let record = br#"{"identity":{"user":"user:bob"}}"#;
        let (forged, flip) = forge(record).unwrap();
        assert_eq!(forged, br#"{"identity":{"user":"user:rob"}}"#);
        let bits: u32 = record.iter().zip(&forged).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((bits, flip.after.as_str()), (1, r#""user":"user:rob""#));
        assert!(forge(b"{}").is_err());
    }
}
