use proptest::prelude::*;
use tlog_tiles::{HashReader as _, Tile as OracleTile, TileHashReader, TileReader};

use super::*;
use crate::audit::merkle::proof::verify_consistency;

/// A whole tree in memory, by levels; leaves are hashes of their numbers.
struct Whole(Vec<Vec<Hash>>);

impl Whole {
    fn of(size: u64) -> Self {
        let mut levels = vec![(0..size).map(|n| Hash::leaf(&n.to_be_bytes())).collect::<Vec<_>>()];
        while levels.last().unwrap().len() > 1 {
            let below = levels.last().unwrap();
            levels.push(below.as_chunks::<2>().0.iter().map(|[a, b]| Hash::node(a, b)).collect());
        }
        Self(levels)
    }

    fn root(&self, size: u64) -> Hash {
        let peaks = Frontier::peak_ids(size).map(|id| self.node(id)).collect();
        Frontier::from_parts(size, peaks).unwrap().root()
    }

    fn node(&self, id: NodeId) -> Hash {
        self.0[usize::from(id.level)][id.index as usize]
    }

    fn tile(&self, tile: &Tile) -> Vec<u8> {
        tile.nodes().flat_map(|id| self.node(id).0).collect()
    }

    fn open(&self, size: u64) -> TiledTree {
        let edge: Vec<_> = TiledTree::edge(size).iter().map(|tile| self.tile(tile)).collect();
        TiledTree::open(size, &self.root(size), &edge).unwrap()
    }

    /// Brings in what `node` is made of; the tiles that it took.
    fn bring(&self, tree: &mut TiledTree, node: NodeId) -> Vec<Tile> {
        let (wanted, mut took) = (tree.tile_of(node).unwrap(), Vec::new());
        while let Some(tile) = tree.missing(wanted) {
            tree.add(&tile, &self.tile(&tile)).unwrap();
            took.push(tile);
        }
        took
    }
}

/// The same tree to an independent client.
struct Served<'a>(&'a Whole);

impl TileReader for Served<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[OracleTile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let tile = |tile: &OracleTile| Tile {
            content: Content::Hashes(tile.level()),
            index: tile.level_index(),
            width: tile.width() as u16,
        };
        Ok(tiles.iter().map(|asked| self.0.tile(&tile(asked))).collect())
    }

    fn save_tiles(&self, _: &[OracleTile], _: &[Vec<u8>]) {}
}

const LARGEST: u64 = 70_000;

#[test]
fn proofs_from_tiles_are_those_of_an_independent_client() {
    let whole = Whole::of(LARGEST);
    for (from, size) in [
        (1, 1),
        (1, 2),
        (1, 256),
        (255, 256),
        (256, 257),
        (300, 700),
        (255, 65_536),
        (65_535, 65_536),
        (65_536, 65_537),
        (65_537, LARGEST),
        (40_000, LARGEST),
        (LARGEST - 1, LARGEST),
    ] {
        let mut tree = whole.open(size);
        for node in tree.nodes_from(from) {
            whole.bring(&mut tree, node);
        }
        let ours = tree.consistency(from).unwrap();
        verify_consistency(from, &whole.root(from), size, &whole.root(size), &ours).unwrap();
        let served = Served(&whole);
        let root = tlog_tiles::Hash(whole.root(size).0);
        let client = TileHashReader::new(size, root, &served);
        let theirs = tlog_tiles::prove_tree(size, from, &client).unwrap();
        assert_eq!(
            ours.iter().map(|hash| hash.0).collect::<Vec<_>>(),
            theirs.iter().map(|hash| hash.0).collect::<Vec<_>>()
        );
        let leaf = NodeId { level: 0, index: from - 1 };
        whole.bring(&mut tree, leaf);
        let theirs = client.read_hashes(&[tlog_tiles::stored_hash_index(0, from - 1)]).unwrap();
        assert_eq!(tree.hash(leaf).unwrap().0, theirs[0].0);
    }
}

#[test]
fn a_proof_takes_a_few_tiles_however_large_the_log() {
    let whole = Whole::of(LARGEST);
    let mut tree = whole.open(LARGEST);
    let took: usize =
        tree.nodes_from(12_345).into_iter().map(|node| whole.bring(&mut tree, node).len()).sum();
    assert!(took + TiledTree::edge(LARGEST).len() <= 8, "{took}");
}

#[test]
fn any_changed_hash_of_any_tile_is_refused() {
    let whole = Whole::of(LARGEST);
    let edge: Vec<_> = TiledTree::edge(LARGEST).iter().map(|tile| whole.tile(tile)).collect();
    let root = whole.root(LARGEST);
    for at in 0..edge.len() {
        for byte in (0..edge[at].len()).step_by(31) {
            let mut changed = edge.clone();
            changed[at][byte] ^= 1;
            assert_eq!(
                TiledTree::open(LARGEST, &root, &changed).unwrap_err(),
                TileFault::Edge { size: LARGEST }
            );
        }
    }
    let mut tree = whole.open(LARGEST);
    let inner = tree.tile_of(NodeId { level: 0, index: 12_345 }).unwrap();
    let mut fetched = 0;
    while let Some(tile) = tree.missing(inner) {
        let good = whole.tile(&tile);
        for byte in (0..good.len()).step_by(31) {
            let mut changed = good.clone();
            changed[byte] ^= 1;
            assert_eq!(tree.add(&tile, &changed), Err(TileFault::Inner { tile }));
        }
        tree.add(&tile, &good).unwrap();
        fetched += 1;
    }
    assert_eq!(fetched, 2, "the tile and the one above it");
}

#[test]
fn tiles_of_another_length_or_out_of_turn_are_refused() {
    let whole = Whole::of(LARGEST);
    let edge: Vec<_> = TiledTree::edge(LARGEST).iter().map(|tile| whole.tile(tile)).collect();
    let root = whole.root(LARGEST);
    for change in [31, 32] {
        let mut short = edge.clone();
        let kept = short[0].len() - change;
        short[0].truncate(kept);
        assert!(matches!(TiledTree::open(LARGEST, &root, &short), Err(TileFault::Length { .. })));
        let mut long = edge.clone();
        long[0].extend(vec![0; change]);
        assert!(matches!(TiledTree::open(LARGEST, &root, &long), Err(TileFault::Length { .. })));
    }
    assert!(TiledTree::open(LARGEST, &root, &edge[1..]).is_err());
    assert!(TiledTree::open(LARGEST, &root, &[]).is_err());
    let mut tree = whole.open(LARGEST);
    let leaf = tree.tile_of(NodeId { level: 0, index: 12_345 }).unwrap();
    assert_eq!(tree.add(&leaf, &whole.tile(&leaf)), Err(TileFault::Unasked { tile: leaf }));
    assert_eq!(tree.tile_of(NodeId { level: 0, index: LARGEST }), None);
    assert_eq!(tree.tile_of(NodeId { level: 64, index: 0 }), None);
    assert_eq!(tree.tile_of(NodeId { level: 0, index: u64::MAX }), None);
}

#[test]
fn the_empty_tree_has_the_root_of_nothing() {
    assert!(TiledTree::open(0, &Hash::of(b""), &[]).is_ok());
    assert!(TiledTree::open(0, &Hash::ZERO, &[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_tree_that_grew_is_told_from_one_that_was_rewritten(from in 1u64..1500, more in 0u64..1500, at in 0u64..1500) {
        let size = from + more;
        let whole = Whole::of(size);
        let mut tree = whole.open(size);
        for node in tree.nodes_from(from) {
            whole.bring(&mut tree, node);
        }
        let proof = tree.consistency(from).unwrap();
        let old = whole.root(from);
        prop_assert!(verify_consistency(from, &old, size, &whole.root(size), &proof).is_ok());
        let mut leaves = whole.0[0][..from as usize].to_vec();
        leaves[(at % from) as usize] = Hash::of(b"another");
        let mut other = Frontier::new();
        leaves.into_iter().for_each(|leaf| other.push(leaf, |_, _| ()));
        prop_assert!(verify_consistency(from, &other.root(), size, &whole.root(size), &proof).is_err());
    }
}
