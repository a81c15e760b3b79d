//! Records as bundles bring them (C2SP tlog-tiles), held against the tree.

use crate::audit::hash::Hash;
use crate::audit::merkle::tile::Tile;
use crate::audit::record::{Head, Record, RecordError};
use crate::clock::Timestamp;

/// The most bytes that a bundle of `width` entries has.
pub const fn bundle_most(width: u16) -> usize {
    width as usize * (2 + u16::MAX as usize)
}

/// Why a record, or the bundle it came in, is not what the tree says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The lengths in it do not add up to as many entries as there should be.
    #[error("the bundle {tile} does not hold {} entries", tile.width)]
    Bundle {
        /// The bundle.
        tile: Tile,
    },
    /// Its leaf hash is not the tree's.
    #[error("record {index} does not hash to the tree's leaf")]
    Leaf {
        /// Where it stands.
        index: u64,
    },
    /// It cannot be read.
    #[error("record {index}: {error}")]
    Format {
        /// Where it stands.
        index: u64,
        /// Why.
        error: RecordError,
    },
    /// It says that it stands elsewhere.
    #[error("record {index} says that it is record {found}")]
    Index {
        /// Where it stands.
        index: u64,
        /// What it says.
        found: u64,
    },
    /// It follows another than the one before it.
    #[error("record {index} does not follow the one before it")]
    Chain {
        /// Where it stands.
        index: u64,
    },
    /// It says that it is older than the one before it.
    #[error("record {index} says that it is older than the one before it")]
    Time {
        /// Where it stands.
        index: u64,
    },
}

/// The entries of a bundle.
///
/// # Errors
/// [`RecordFault::Bundle`].
pub fn unbundle<'a>(tile: &Tile, bytes: &'a [u8]) -> Result<Vec<&'a [u8]>, RecordFault> {
    let (mut entries, mut rest) = (Vec::with_capacity(usize::from(tile.width)), bytes);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let split = after.split_at_checked(usize::from(u16::from_be_bytes(*length)));
        let (entry, after) = split.ok_or(RecordFault::Bundle { tile: *tile })?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() && entries.len() == usize::from(tile.width) {
        Ok(entries)
    } else {
        Err(RecordFault::Bundle { tile: *tile })
    }
}

/// Records read one after the other.
#[derive(Debug, Default)]
pub struct Reading {
    before: Option<(Hash, Timestamp)>,
}

impl Reading {
    /// Takes the record at `index`, whose leaf in the tree is `leaf`.
    ///
    /// # Errors
    /// [`RecordFault`].
    pub fn read(&mut self, index: u64, record: &[u8], leaf: &Hash) -> Result<Head, RecordFault> {
        is_leaf(index, record, leaf)?;
        let read = Record::parse(record).map_err(|error| RecordFault::Format { index, error })?;
        let head = *read.head();
        if head.index != index {
            return Err(RecordFault::Index { index, found: head.index });
        }
        let first = (index == 0).then_some((Hash::ZERO, head.time));
        if let Some((prev, time)) = self.before.or(first) {
            if head.prev != prev {
                return Err(RecordFault::Chain { index });
            }
            if head.time < time {
                return Err(RecordFault::Time { index });
            }
        }
        self.before = Some((*leaf, head.time));
        Ok(head)
    }
}

/// Whether the entry at `index` is the one whose leaf the tree has there.
///
/// # Errors
/// [`RecordFault::Leaf`].
pub fn is_leaf(index: u64, entry: &[u8], leaf: &Hash) -> Result<(), RecordFault> {
    if Hash::leaf(entry) == *leaf { Ok(()) } else { Err(RecordFault::Leaf { index }) }
}

#[cfg(test)]
mod tests;
