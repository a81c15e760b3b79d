//! Merkle proofs (RFC 6962 §2.1.1 and §2.1.2): that a leaf is in a tree, and that one tree begins as another did.
//!
//! [`inclusion`] and [`consistency`] make them from leaf hashes and stored nodes, as
//! [`Frontier::rebuild`](super::Frontier::rebuild) does. A proof is one hash per level of the tree at most; each of its
//! hashes that is not stored is worked out from at most eight fetched ones, and only the one that covers the tree's
//! ragged right end from up to 15 for every four levels. So a proof costs O(log n) fetches: at most 30 for every four
//! levels of the tree, 180 over ten million leaves (24 levels).
//!
//! [`verify_inclusion`] and [`verify_consistency`] check them as RFC 9162 §2.1.3.2 and §2.1.4.2 say; they share
//! nothing with the making but the order of the hashes: from the leaves' end to the root's.

use super::super::hash::Hash;
use super::{NodeId, subtree};

/// A proof could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakeError<E> {
    /// There is no such leaf.
    #[error("there is no leaf {index} in a tree of {size}")]
    NoSuchLeaf {
        /// The leaf asked for, from 0.
        index: u64,
        /// How many leaves there are.
        size: u64,
    },
    /// The tree that is to be continued is larger than the one that is to continue it.
    #[error("a tree of {to} leaves does not continue one of {from}")]
    Backwards {
        /// Leaves of the tree named first.
        from: u64,
        /// Leaves of the tree named second.
        to: u64,
    },
    /// A leaf hash or a stored node could not be fetched.
    #[error(transparent)]
    Fetch(#[from] E),
}

/// An inclusion proof does not show that the leaf is in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InclusionError {
    /// There is no such leaf.
    #[error("there is no leaf {index} in a tree of {size}")]
    NoSuchLeaf {
        /// The leaf named, from 0.
        index: u64,
        /// How many leaves the tree has.
        size: u64,
    },
    /// Hashes are missing.
    #[error("the proof of leaf {index} in a tree of {size} ends too soon, after {hashes} hashes")]
    TooShort {
        /// The leaf named, from 0.
        index: u64,
        /// How many leaves the tree has.
        size: u64,
        /// How many hashes the proof has.
        hashes: usize,
    },
    /// There are hashes beyond the root.
    #[error("the proof of leaf {index} in a tree of {size} goes on beyond the root: it has {hashes} hashes")]
    TooLong {
        /// The leaf named, from 0.
        index: u64,
        /// How many leaves the tree has.
        size: u64,
        /// How many hashes the proof has.
        hashes: usize,
    },
    /// The leaf and the proof lead to another root: one of the three is not what it is said to be.
    #[error("the leaf and its proof lead to the root {computed}, not to {root}")]
    Root {
        /// Where they lead.
        computed: Hash,
        /// The root of the tree.
        root: Hash,
    },
}

/// A consistency proof does not show that the second tree begins with all leaves of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsistencyError {
    /// The second tree is the smaller one: leaves are gone.
    #[error("a tree of {to} leaves does not continue one of {from}")]
    Backwards {
        /// Leaves of the first tree.
        from: u64,
        /// Leaves of the second tree.
        to: u64,
    },
    /// Two trees of one size with two roots: a fork.
    #[error("two trees of {size} leaves have different roots, {from_root} and {to_root}")]
    Fork {
        /// Leaves of both.
        size: u64,
        /// The first tree's root.
        from_root: Hash,
        /// The second tree's root.
        to_root: Hash,
    },
    /// A tree without leaves has a root other than SHA-256 of nothing.
    #[error("{root} is not the root of an empty tree")]
    EmptyRoot {
        /// The root given.
        root: Hash,
    },
    /// Hashes are missing.
    #[error("the proof from {from} to {to} leaves ends too soon, after {hashes} hashes")]
    TooShort {
        /// Leaves of the first tree.
        from: u64,
        /// Leaves of the second tree.
        to: u64,
        /// How many hashes the proof has.
        hashes: usize,
    },
    /// There are hashes beyond the root.
    #[error("the proof from {from} to {to} leaves goes on beyond the root: it has {hashes} hashes")]
    TooLong {
        /// Leaves of the first tree.
        from: u64,
        /// Leaves of the second tree.
        to: u64,
        /// How many hashes the proof has.
        hashes: usize,
    },
    /// The proof leads to another root of the first tree.
    #[error("for the tree of {from} leaves the proof leads to the root {computed}, not to {root}")]
    FromRoot {
        /// Leaves of the first tree.
        from: u64,
        /// Where the proof leads.
        computed: Hash,
        /// The first tree's root.
        root: Hash,
    },
    /// The proof leads to another root of the second tree.
    #[error("for the tree of {to} leaves the proof leads to the root {computed}, not to {root}")]
    ToRoot {
        /// Leaves of the second tree.
        to: u64,
        /// Where the proof leads.
        computed: Hash,
        /// The second tree's root.
        root: Hash,
    },
}

/// The proof that the leaf at `index` is in the tree of the first `size` leaves: `PATH(index, D[size])` of RFC 6962
/// §2.1.1, the leaf's sibling first.
///
/// # Errors
/// If there is no such leaf, or the first error of `fetch`, which is asked for leaves (level 0) and stored nodes only.
pub fn inclusion<E>(
    index: u64,
    size: u64,
    mut fetch: impl FnMut(NodeId) -> Result<Hash, E>,
) -> Result<Vec<Hash>, MakeError<E>> {
    if index >= size {
        return Err(MakeError::NoSuchLeaf { index, size });
    }
    let mut path = Vec::new();
    let mut range = Range { start: 0, leaves: size };
    while range.leaves > 1 {
        let (left, right) = range.halves();
        let (inside, sibling) = if index < right.start { (left, right) } else { (right, left) };
        path.push(sibling.root(&mut fetch)?);
        range = inside;
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of the first `to` leaves begins with all of the tree of the first `from`: `PROOF(from, D[to])`
/// of RFC 6962 §2.1.2. Empty if the sizes are equal, and if `from` is 0: everything continues an empty tree
/// (C2SP tlog-witness asks for it so).
///
/// # Errors
/// If `from` is above `to`, or the first error of `fetch`, which is asked for leaves and stored nodes only.
pub fn consistency<E>(
    from: u64,
    to: u64,
    mut fetch: impl FnMut(NodeId) -> Result<Hash, E>,
) -> Result<Vec<Hash>, MakeError<E>> {
    if from > to {
        return Err(MakeError::Backwards { from, to });
    }
    if from == 0 {
        return Ok(Vec::new());
    }
    let mut path = Vec::new();
    let mut range = Range { start: 0, leaves: to };
    // Until the old tree's right end is that of the range.
    while range.start + range.leaves != from {
        let (left, right) = range.halves();
        let (inside, sibling) = if from <= right.start { (left, right) } else { (right, left) };
        path.push(sibling.root(&mut fetch)?);
        range = inside;
    }
    // What starts at 0 is the old tree itself, whose root the verifier has.
    if range.start > 0 {
        path.push(range.root(&mut fetch)?);
    }
    path.reverse();
    Ok(path)
}

/// Checks that the leaf hash `leaf` stands at `index` in the tree of `size` leaves with this `root` (RFC 9162 §2.1.3.2).
///
/// # Errors
/// If it does not follow from the proof.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), InclusionError> {
    if index >= size {
        return Err(InclusionError::NoSuchLeaf { index, size });
    }
    let hashes = proof.len();
    let mut climb = Climb { node: index, last: size - 1 };
    let mut computed = *leaf;
    for hash in proof {
        computed = match climb.step().ok_or(InclusionError::TooLong { index, size, hashes })? {
            Sibling::Left => Hash::node(hash, &computed),
            Sibling::Right => Hash::node(&computed, hash),
        };
    }
    if !climb.is_at_root() {
        return Err(InclusionError::TooShort { index, size, hashes });
    }
    if computed == *root { Ok(()) } else { Err(InclusionError::Root { computed, root: *root }) }
}

/// Checks that the tree of `to` leaves with the root `to_root` begins with all leaves of the tree of `from` leaves with
/// the root `from_root` (RFC 9162 §2.1.4.2). Between equal sizes, and from 0, the only proof is the empty one.
///
/// # Errors
/// If it does not follow from the proof.
pub fn verify_consistency(
    from: u64,
    from_root: &Hash,
    to: u64,
    to_root: &Hash,
    proof: &[Hash],
) -> Result<(), ConsistencyError> {
    let hashes = proof.len();
    let (too_short, too_long) =
        (ConsistencyError::TooShort { from, to, hashes }, ConsistencyError::TooLong { from, to, hashes });
    if from > to {
        return Err(ConsistencyError::Backwards { from, to });
    }
    if from == 0 && *from_root != Hash::of(b"") {
        return Err(ConsistencyError::EmptyRoot { root: *from_root });
    }
    if from == to && from_root != to_root {
        return Err(ConsistencyError::Fork { size: to, from_root: *from_root, to_root: *to_root });
    }
    if from == 0 || from == to {
        return if proof.is_empty() { Ok(()) } else { Err(too_long) };
    }

    // From the node that ends where the old tree ends, and is as high as that allows.
    let height = (from - 1).trailing_ones();
    let mut climb = Climb { node: (from - 1) >> height, last: (to - 1) >> height };
    let (first, rest) = match proof {
        // An old tree that is one perfect subtree is that node, and the verifier has it.
        rest if from.is_power_of_two() => (*from_root, rest),
        [first, rest @ ..] => (*first, rest),
        [] => return Err(too_short),
    };
    let (mut old, mut new) = (first, first);
    for hash in rest {
        match climb.step().ok_or(too_long)? {
            Sibling::Left => (old, new) = (Hash::node(hash, &old), Hash::node(hash, &new)),
            // To the right lies only what came after the old tree.
            Sibling::Right => new = Hash::node(&new, hash),
        }
    }
    if !climb.is_at_root() {
        return Err(too_short);
    }
    if old != *from_root {
        return Err(ConsistencyError::FromRoot { from, computed: old, root: *from_root });
    }
    if new == *to_root { Ok(()) } else { Err(ConsistencyError::ToRoot { to, computed: new, root: *to_root }) }
}

/// Leaves in a row under one node of the tree: it starts at a multiple of the smallest power of two that holds it.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    leaves: u64,
}

impl Range {
    /// RFC 6962's split: the largest power of two below the number of leaves goes to the left. For two leaves or more.
    const fn halves(self) -> (Self, Self) {
        let left = 1 << (u64::BITS - 1 - (self.leaves - 1).leading_zeros());
        (
            Self { start: self.start, leaves: left },
            Self { start: self.start + left, leaves: self.leaves - left },
        )
    }

    /// `MTH(D[start:start+leaves])`.
    fn root<E>(self, fetch: &mut impl FnMut(NodeId) -> Result<Hash, E>) -> Result<Hash, E> {
        if self.leaves.is_power_of_two() {
            let level = self.leaves.trailing_zeros();
            return subtree(NodeId { level: level as u8, index: self.start >> level }, fetch);
        }
        let (left, right) = self.halves();
        Ok(Hash::node(&left.root(fetch)?, &right.root(fetch)?))
    }
}

/// The way from a node to the root: its index and the level's last, as RFC 9162's `fn` and `sn`.
struct Climb {
    node: u64,
    last: u64,
}

/// On which side of a node the next hash of a proof belongs.
enum Sibling {
    Left,
    Right,
}

impl Climb {
    /// Goes up to the next node with a sibling below it; `None` at the root.
    const fn step(&mut self) -> Option<Sibling> {
        if self.last == 0 {
            return None;
        }
        let side = if self.node & 1 == 1 || self.node == self.last {
            // The level's last node without a sibling goes up as it is, until it is a right child.
            while self.node & 1 == 0 && self.node != 0 {
                self.up();
            }
            Sibling::Left
        } else {
            Sibling::Right
        };
        self.up();
        Some(side)
    }

    const fn up(&mut self) {
        self.node >>= 1;
        self.last >>= 1;
    }

    const fn is_at_root(&self) -> bool {
        self.last == 0
    }
}

#[cfg(test)]
mod tests;
