//! A tree known by its signed root and by tiles that came from whoever (C2SP tlog-tiles).
//!
//! Nothing is believed of a tile before it has been led to the root. The partial tiles at the tree's right edge lead there
//! together: the root is made of all their hashes, and of nothing else. Every full tile is one hash in a tile of the level above, and
//! so leads to the edge, tile by tile.
//!
//! Invariant: every hash in a [`TiledTree`] is a hash of the tree of that root.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

use crate::audit::hash::Hash;
use crate::audit::merkle::proof::{self, MakeError};
use crate::audit::merkle::tile::{Content, FULL, Tile};
use crate::audit::merkle::{Frontier, NodeId};

/// The levels of a tree that one tile stands for.
const HEIGHT: u8 = 8;

/// More levels of tiles no size has.
const LEVELS: u8 = 64 / HEIGHT;

/// Tiles of one tree, each led to its root.
#[derive(Debug)]
pub struct TiledTree {
    size: u64,
    tiles: HashMap<(u8, u64), Vec<Hash>>,
}

/// Why a tile is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileFault {
    /// Not as long as a tile of its width is.
    #[error("tile {tile} has {bytes} bytes, not {}", usize::from(tile.width) * size_of::<Hash>())]
    Length {
        /// The tile.
        tile: Tile,
        /// What came.
        bytes: usize,
    },
    /// The tiles at the right edge do not lead to the root.
    #[error("the tiles at the right edge of a tree of {size} records do not lead to the signed root")]
    Edge {
        /// Leaves of the tree.
        size: u64,
    },
    /// A full tile is not the one that the tile above it names.
    #[error("tile {tile} does not lead to the signed root")]
    Inner {
        /// The tile.
        tile: Tile,
    },
    /// A tile that the tree does not have, or whose parent was not there yet.
    #[error("tile {tile} was not to be added")]
    Unasked {
        /// The tile.
        tile: Tile,
    },
}

impl TiledTree {
    /// The partial tiles of a tree of `size` leaves, which its root is made of. None for an empty tree.
    pub fn edge(size: u64) -> Vec<Tile> {
        (0..LEVELS)
            .filter_map(|level| {
                let nodes = size.checked_shr(u32::from(level * HEIGHT))?;
                let width = (nodes % u64::from(FULL)) as u16;
                (width > 0).then_some(Tile {
                    content: Content::Hashes(level),
                    index: nodes / u64::from(FULL),
                    width,
                })
            })
            .collect()
    }

    /// The tree of `size` leaves with this `root`, from the tiles of its [edge](Self::edge), in that order.
    ///
    /// # Errors
    /// [`TileFault`], if they do not lead to `root`.
    pub fn open(size: u64, root: &Hash, edge: &[Vec<u8>]) -> Result<Self, TileFault> {
        let mut tree = Self { size, tiles: HashMap::new() };
        for (tile, bytes) in Self::edge(size).into_iter().zip(edge) {
            tree.put(&tile, hashes(&tile, bytes)?);
        }
        let peaks: Option<Vec<Hash>> = Frontier::peak_ids(size).map(|id| tree.hash(id)).collect();
        let computed = peaks.and_then(|peaks| Frontier::from_parts(size, peaks).ok());
        if computed.is_some_and(|frontier| frontier.root() == *root) {
            Ok(tree)
        } else {
            Err(TileFault::Edge { size })
        }
    }

    /// How many leaves the tree has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The tile that has the hashes a node is made of; `None` if the tree has no such node.
    pub fn tile_of(&self, node: NodeId) -> Option<Tile> {
        let (level, within) = (node.level / HEIGHT, node.level % HEIGHT);
        let first =
            node.index.checked_shl(u32::from(within)).filter(|first| first >> within == node.index)?;
        let end = first.checked_add(1 << within)?;
        let nodes = self.size.checked_shr(u32::from(level) * u32::from(HEIGHT))?;
        let index = first / u64::from(FULL);
        let width = nodes.checked_sub(index.checked_mul(u64::from(FULL))?)?.min(u64::from(FULL)) as u16;
        (end <= nodes).then_some(Tile { content: Content::Hashes(level), index, width })
    }

    /// The tile to be fetched next, so that in the end `tile` is here: itself, or the uppermost that it is to be led by.
    pub fn missing(&self, tile: Tile) -> Option<Tile> {
        let mut missing = None;
        let mut at = Some(tile);
        while let Some(tile) = at.filter(|tile| !self.has(tile)) {
            missing = Some(tile);
            at = self.parent(&tile).and_then(|parent| self.tile_of(parent));
        }
        missing
    }

    /// Takes a full tile whose parent is here.
    ///
    /// # Errors
    /// [`TileFault`]; then nothing has changed.
    pub fn add(&mut self, tile: &Tile, bytes: &[u8]) -> Result<(), TileFault> {
        let named = self.parent(tile).and_then(|parent| self.hash(parent));
        let named = named.ok_or(TileFault::Unasked { tile: *tile })?;
        let hashes = hashes(tile, bytes)?;
        if perfect(&hashes) != Some(named) {
            return Err(TileFault::Inner { tile: *tile });
        }
        self.put(tile, hashes);
        Ok(())
    }

    /// A node's hash, if the tile that it is made of is here.
    pub fn hash(&self, node: NodeId) -> Option<Hash> {
        let tile = self.tile_of(node)?;
        let hashes = self.tiles.get(&(node.level / HEIGHT, tile.index))?;
        let within = node.level % HEIGHT;
        let first = usize::try_from((node.index << within) % u64::from(FULL)).ok()?;
        perfect(hashes.get(first..first + (1 << within))?)
    }

    /// Lets a full tile of leaves go, which will not be asked for again: a log may have more of them than memory.
    pub fn forget(&mut self, tile: &Tile) {
        if tile.content == Content::Hashes(0) && !tile.is_partial() {
            self.tiles.remove(&(0, tile.index));
        }
    }

    /// The nodes that the proof that this tree continues one of `from` leaves is made of.
    pub fn nodes_from(&self, from: u64) -> BTreeSet<NodeId> {
        let mut nodes = BTreeSet::new();
        // A dry run: what is asked for does not depend on what is answered.
        let _ = proof::consistency::<Infallible>(from, self.size, |id| {
            nodes.insert(id);
            Ok(Hash::ZERO)
        });
        nodes
    }

    /// That proof; `None` as long as tiles are missing for it, and if `from` is above the tree's size.
    pub fn consistency(&self, from: u64) -> Option<Vec<Hash>> {
        let made = proof::consistency(from, self.size, |id| self.hash(id).ok_or(()));
        made.map_err(|_: MakeError<()>| ()).ok()
    }

    fn has(&self, tile: &Tile) -> bool {
        matches!(tile.content, Content::Hashes(level) if self.tiles.contains_key(&(level, tile.index)))
    }

    fn put(&mut self, tile: &Tile, hashes: Vec<Hash>) {
        if let Content::Hashes(level) = tile.content {
            self.tiles.insert((level, tile.index), hashes);
        }
    }

    /// The node that a full tile is the whole of.
    fn parent(&self, tile: &Tile) -> Option<NodeId> {
        match tile.content {
            Content::Hashes(level) if !tile.is_partial() => {
                Some(NodeId { level: level.checked_add(1)?.checked_mul(HEIGHT)?, index: tile.index })
            }
            _ => None,
        }
    }
}

/// The hashes of a tile.
fn hashes(tile: &Tile, bytes: &[u8]) -> Result<Vec<Hash>, TileFault> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if hashes.len() != usize::from(tile.width) || !rest.is_empty() {
        return Err(TileFault::Length { tile: *tile, bytes: bytes.len() });
    }
    Ok(hashes.iter().copied().map(Hash).collect())
}

/// The root over a power of two of hashes.
fn perfect(hashes: &[Hash]) -> Option<Hash> {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.as_chunks::<2>().0.iter().map(|[left, right]| Hash::node(left, right)).collect();
    }
    row.pop()
}

#[cfg(test)]
mod tests;
