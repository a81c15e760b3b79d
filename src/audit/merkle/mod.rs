//! The Merkle tree over leaf hashes (RFC 6962 §2.1), kept as its right edge only.
//!
//! A [`Frontier`] of n leaves holds one hash per set bit of n: the roots of the perfect subtrees that n splits into,
//! largest first. That is all that appending and the root need. What proofs need besides lies in storage, and only
//! every fourth level of it: nodes of level 4, 8, 12, …, each handed out once, when its subtree is complete. Leaf
//! hashes (level 0) are in the records themselves. Whatever lies between is at most 15 hashes away, and a tile row
//! (C2SP tlog-tiles: levels 0, 8, 16, …) is one contiguous range. [`proof`] makes proofs of these, and checks them; [`tile`] knows tiles by their paths.
//!
//! Invariants of a frontier:
//! 1. `peaks.len() == size.count_ones()`; the k-th peak is the root of the subtree of the k-th highest set bit.
//! 2. Peaks cover leaves `0..size` left to right without a gap.

pub mod proof;
pub mod tile;

use super::hash::Hash;

/// Stored levels are the multiples of this above 0.
pub const STORED_LEVEL_STEP: u8 = 4;

/// A node of the tree: the root of the perfect subtree over leaves `index << level .. (index + 1) << level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// 0 for leaves.
    pub level: u8,
    /// Position within the level, from 0.
    pub index: u64,
}

impl NodeId {
    /// Whether nodes of this level are handed out for storage (leaves are not: they lie in the records).
    pub const fn is_stored(self) -> bool {
        self.level > 0 && self.level.is_multiple_of(STORED_LEVEL_STEP)
    }
}

/// The right edge of a tree: enough to append and to know the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

/// The number of peaks does not fit the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tree of {size} leaves has {} peaks, not {peaks}", size.count_ones())]
pub struct PeakCountError {
    /// The size given.
    pub size: u64,
    /// How many peaks were given.
    pub peaks: usize,
}

impl Frontier {
    /// The empty tree.
    pub const fn new() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }

    /// Takes up a tree where [`Frontier::size`] and [`Frontier::peaks`] left it.
    ///
    /// # Errors
    /// If the number of peaks does not fit the size. Wrong hashes cannot show here: compare the root with a signed one.
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Result<Self, PeakCountError> {
        if peaks.len() == size.count_ones() as usize {
            Ok(Self { size, peaks })
        } else {
            Err(PeakCountError { size, peaks: peaks.len() })
        }
    }

    /// Rebuilds the frontier of `size` leaves, fetching leaf hashes (level 0) and stored nodes (see
    /// [`NodeId::is_stored`]) only: at most 15 of each level.
    ///
    /// # Errors
    /// The first error of `fetch`.
    pub fn rebuild<E>(size: u64, mut fetch: impl FnMut(NodeId) -> Result<Hash, E>) -> Result<Self, E> {
        let peaks = Self::peak_ids(size).map(|id| subtree(id, &mut fetch)).collect::<Result<_, _>>()?;
        Ok(Self { size, peaks })
    }

    /// How many leaves the tree has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Which nodes the peaks of a tree of `size` leaves are, largest first.
    pub fn peak_ids(size: u64) -> impl Iterator<Item = NodeId> {
        (0..64u8).rev().filter(move |level| size >> level & 1 == 1).map(move |level| NodeId {
            level,
            // Everything above this bit lies to the left of this subtree.
            index: size >> level & !1,
        })
    }

    /// Appends a leaf hash. `completed` is called, level by level upwards, for each node that now has all its leaves
    /// and [is stored](NodeId::is_stored).
    pub fn push(&mut self, leaf: Hash, mut completed: impl FnMut(NodeId, Hash)) {
        let mut node = leaf;
        // Adding one leaf carries through the low set bits of the size, as adding one to a binary number does.
        for level in 1..=self.size.trailing_ones() as u8 {
            // By invariant 1 there is a peak for each of those bits.
            let Some(left) = self.peaks.pop() else { break };
            node = Hash::node(&left, &node);
            let id = NodeId { level, index: self.size >> level };
            if id.is_stored() {
                completed(id, node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The root: RFC 6962's MTH of all leaves; SHA-256 of nothing for the empty tree.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            Some(last) => peaks.fold(*last, |right, left| Hash::node(left, &right)),
            None => Hash::of(b""),
        }
    }
}

/// The hash of a perfect subtree from leaves and stored nodes.
///
/// # Errors
/// The first error of `fetch`.
pub fn subtree<E>(id: NodeId, fetch: &mut impl FnMut(NodeId) -> Result<Hash, E>) -> Result<Hash, E> {
    if id.level == 0 || id.is_stored() {
        return fetch(id);
    }
    let child = NodeId { level: id.level - 1, index: id.index << 1 };
    let left = subtree(child, fetch)?;
    let right = subtree(NodeId { index: child.index | 1, ..child }, fetch)?;
    Ok(Hash::node(&left, &right))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use proptest::prelude::*;
    use sha2::Sha256;

    use super::*;

    fn leaf(n: u64) -> Hash {
        Hash::leaf(&n.to_be_bytes())
    }

    fn tree_of(size: u64) -> (Frontier, BTreeMap<NodeId, Hash>) {
        let mut stored = BTreeMap::new();
        let mut frontier = Frontier::new();
        for n in 0..size {
            frontier.push(leaf(n), |id, hash| {
                assert!(id.is_stored(), "{id:?} was handed out for storage");
                assert_eq!(stored.insert(id, hash), None, "{id:?} was completed twice");
            });
        }
        (frontier, stored)
    }

    #[test]
    fn roots_are_those_of_an_independent_implementation() {
        let mut oracle = MemoryBackedTree::<Sha256, [u8; 8]>::new();
        let mut frontier = Frontier::new();
        for n in 0..700u64 {
            assert_eq!(frontier.root().0.as_slice(), oracle.root().as_bytes().as_slice(), "size {n}");
            frontier.push(leaf(n), |_, _| ());
            oracle.push(n.to_be_bytes());
        }
    }

    #[test]
    fn every_complete_node_of_a_stored_level_is_handed_out_once() {
        let (_, stored) = tree_of(1000);
        let expected: Vec<NodeId> = [4u8, 8]
            .into_iter()
            .flat_map(|level| (0..1000u64 >> level).map(move |index| NodeId { level, index }))
            .collect();
        assert_eq!(stored.keys().copied().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_frontier_with_the_wrong_number_of_peaks_is_refused() {
        assert_eq!(Frontier::from_parts(3, vec![Hash::ZERO]), Err(PeakCountError { size: 3, peaks: 1 }));
        assert!(Frontier::from_parts(0, Vec::new()).is_ok());
    }

    proptest! {
        #[test]
        fn a_frontier_taken_up_again_goes_on_as_if_never_put_down(size in 0u64..5000, more in 0u64..40) {
            let (mut whole, stored) = tree_of(size);
            let parts = Frontier::from_parts(whole.size(), whole.peaks().to_vec()).unwrap();
            let rebuilt = Frontier::rebuild(size, |id| {
                Ok::<_, Infallible>(if id.level == 0 { leaf(id.index) } else { stored[&id] })
            })
            .unwrap();
            prop_assert_eq!(&parts, &whole);
            prop_assert_eq!(&rebuilt, &whole);
            let mut resumed = rebuilt;
            for n in size..size + more {
                whole.push(leaf(n), |_, _| ());
                resumed.push(leaf(n), |_, _| ());
            }
            prop_assert_eq!(resumed.root(), whole.root());
        }
    }
}
