//! What a tile holds (C2SP tlog-tiles, <https://c2sp.org/tlog-tiles>), and proofs over a stored log.
//!
//! Nothing is stored for them: leaf hashes are made from the records, which they would only say twice, and every eighth
//! level of the tree is among the stored ones.

use std::ops::ControlFlow;

use super::checkpoint::Checkpoint;
use super::hash::Hash;
use super::merkle::NodeId;
use super::merkle::proof::{self, MakeError, verify_inclusion};
use super::merkle::tile::{Content, Tile};
use super::proof::{ConsistencyProof, RecordProof};
use super::storage::{Store, StoreError, Walk, leaf_or_node};

/// The bytes of a tile that [is in](Tile::is_in) the tree: 32 for each hash, or each entry after its length in two
/// bytes, big-endian.
///
/// # Errors
/// [`StoreError::Missing`] if something that it is made of is not there, and whatever the store says.
pub fn read(store: &dyn Store, tile: &Tile) -> Result<Vec<u8>, StoreError> {
    let mut out = Vec::with_capacity(usize::from(tile.width) * size_of::<Hash>());
    match tile.content {
        Content::Hashes(0) => entries(store, tile, |record| {
            out.extend_from_slice(&Hash::leaf(record).0);
            Ok(())
        })?,
        Content::Hashes(_) => {
            for id in tile.nodes() {
                out.extend_from_slice(&leaf_or_node(store, id)?.0);
            }
        }
        Content::Entries => entries(store, tile, |record| {
            // A record has at most 60,000 bytes.
            let length = u16::try_from(record.len()).map_err(|_| StoreError::Malformed("record"))?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(record);
            Ok(())
        })?,
    }
    Ok(out)
}

/// A proof that could not be made of a stored log.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// What was asked for is not in the log.
    #[error(transparent)]
    Make(#[from] MakeError<StoreError>),
    /// There is no checkpoint of that size.
    #[error("no checkpoint of {size} records is kept")]
    NoCheckpoint {
        /// The size asked for.
        size: u64,
    },
    /// The log's records and nodes do not lead to the root of its own checkpoint.
    #[error("the log does not lead to its own checkpoint: {0}")]
    Damaged(#[from] proof::InclusionError),
}

impl From<StoreError> for ProveError {
    fn from(error: StoreError) -> Self {
        Self::Make(MakeError::Fetch(error))
    }
}

/// The checkpoint of `size` records, if it is `latest` or kept.
///
/// # Errors
/// What the store says.
pub fn checkpoint_of(store: &dyn Store, size: u64, latest: &str) -> Result<Option<String>, StoreError> {
    if Checkpoint::stated(latest.as_bytes()).is_some_and(|(stated, _)| stated == size) {
        return Ok(Some(latest.to_owned()));
    }
    let kept = store.kept_checkpoints_from(size, 1)?;
    Ok(kept.into_iter().find(|(kept, _)| *kept == size).map(|(_, note)| note))
}

/// The proof of the record at `index` under `checkpoint`, a note of this log. It is checked before it is given away.
///
/// # Errors
/// [`ProveError`].
pub fn prove(store: &dyn Store, index: u64, checkpoint: String) -> Result<RecordProof, ProveError> {
    let (size, root) =
        Checkpoint::stated(checkpoint.as_bytes()).ok_or(StoreError::Malformed("checkpoint"))?;
    let path = inclusion(store, index, size)?;
    let leaf = leaf_or_node(store, NodeId { level: 0, index })?;
    verify_inclusion(&leaf, index, size, &path, &root)?;
    Ok(RecordProof { index, path, checkpoint })
}

/// The proof that the log of `to` records begins with that of `from`; with the checkpoint of `to`, if it is `latest` or
/// kept.
///
/// # Errors
/// [`ProveError`].
pub fn prove_growth(
    store: &dyn Store,
    (from, to): (u64, u64),
    origin: &str,
    latest: &str,
) -> Result<ConsistencyProof, ProveError> {
    let path = consistency(store, from, to)?;
    let checkpoint = checkpoint_of(store, to, latest)?;
    Ok(ConsistencyProof { origin: origin.to_owned(), from, to, path, checkpoint })
}

/// The proof that the record at `index` is among the first `size`.
///
/// # Errors
/// [`MakeError`].
pub fn inclusion(store: &dyn Store, index: u64, size: u64) -> Result<Vec<Hash>, MakeError<StoreError>> {
    proof::inclusion(index, size, |id| leaf_or_node(store, id))
}

/// The proof that the first `to` records begin with the first `from`.
///
/// # Errors
/// [`MakeError`].
pub fn consistency(store: &dyn Store, from: u64, to: u64) -> Result<Vec<Hash>, MakeError<StoreError>> {
    proof::consistency(from, to, |id| leaf_or_node(store, id))
}

/// Hands on the records of a tile, in order.
fn entries(
    store: &dyn Store,
    tile: &Tile,
    mut take: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (mut next, end) = (tile.first(), tile.first().saturating_add(u64::from(tile.width)));
    let mut taken = Ok(());
    store.scan(Walk::Up(next), &mut |index, record| {
        if index != next || next == end {
            return ControlFlow::Break(());
        }
        next += 1;
        taken = take(record);
        if taken.is_ok() && next < end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    taken?;
    if next == end { Ok(()) } else { Err(StoreError::Missing("record")) }
}

#[cfg(test)]
mod tests {
    use tlog_tiles::{HashReader as _, Tile as OracleTile, TileHashReader, TileReader};

    use super::*;
    use crate::audit::merkle::Frontier;
    use crate::audit::rocks::{RocksOptions, RocksStore};
    use crate::audit::storage::{Batch, LogIdentity};

    /// A log of `size` small entries, which are no records: nothing here reads them.
    fn log_of(size: u64) -> (RocksStore, Frontier, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let identity = LogIdentity { origin: "gate.example/1".into(), vkey: "v".into() };
        let store = RocksStore::create(&dir.path().join("log"), &identity, RocksOptions::default()).unwrap();
        let (mut batch, mut frontier) = (Batch::default(), Frontier::new());
        batch.restart(0);
        for index in 0..size {
            let record = index.to_string().into_bytes();
            let nodes = &mut batch.nodes;
            frontier.push(Hash::leaf(&record), |id, hash| nodes.push((id, hash)));
            batch.push(|out| out.extend_from_slice(&record));
        }
        store.commit(&batch).unwrap();
        (store, frontier, dir)
    }

    /// Tiles as an independent implementation asks for them.
    struct Served<'a>(&'a RocksStore, u64);

    impl TileReader for Served<'_> {
        fn height(&self) -> u8 {
            8
        }

        fn read_tiles(&self, tiles: &[OracleTile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
            let read = |tile: &OracleTile| {
                let content = Content::Hashes(tile.level());
                let tile = Tile { content, index: tile.level_index(), width: tile.width() as u16 };
                assert!(tile.is_in(self.1), "{tile}");
                read(self.0, &tile).unwrap()
            };
            Ok(tiles.iter().map(read).collect())
        }

        fn save_tiles(&self, _: &[OracleTile], _: &[Vec<u8>]) {}
    }

    #[test]
    fn an_independent_client_finds_the_root_and_every_proof_in_the_tiles() {
        const SIZE: u64 = 70_000;
        let (store, frontier, _dir) = log_of(SIZE);
        let (served, root) = (Served(&store, SIZE), tlog_tiles::Hash(frontier.root().0));
        let client = TileHashReader::new(SIZE, root, &served);
        assert_eq!(tlog_tiles::tree_hash(SIZE, &client).unwrap(), root);
        let bytes =
            |hashes: Vec<tlog_tiles::Hash>| hashes.iter().map(|hash| Hash(hash.0)).collect::<Vec<_>>();
        for index in [0, 1, 255, 256, 4_095, 65_535, 65_536, 69_887, 69_888, SIZE - 1] {
            let theirs = tlog_tiles::prove_record(SIZE, index, &client).unwrap();
            assert_eq!(inclusion(&store, index, SIZE).unwrap(), bytes(theirs), "{index}");
            let leaf = client.read_hashes(&[tlog_tiles::stored_hash_index(0, index)]).unwrap();
            assert_eq!(leaf[0].0, Hash::leaf(index.to_string().as_bytes()).0, "{index}");
            let theirs = tlog_tiles::prove_tree(SIZE, index + 1, &client).unwrap();
            assert_eq!(consistency(&store, index + 1, SIZE).unwrap(), bytes(theirs), "{index}");
        }
    }

    #[test]
    fn a_partial_tile_is_the_beginning_of_the_full_one_and_a_bundle_hashes_to_its_tile() {
        let (store, ..) = log_of(600);
        for content in [Content::Hashes(0), Content::Hashes(1), Content::Entries] {
            let full = Tile { content, index: 0, width: if content == Content::Hashes(1) { 2 } else { 256 } };
            let whole = read(&store, &full).unwrap();
            for width in 1..full.width {
                let part = read(&store, &Tile { width, ..full }).unwrap();
                assert!(whole.starts_with(&part), "{content:?} {width}");
                match content {
                    Content::Hashes(_) => assert_eq!(part.len(), usize::from(width) * 32),
                    Content::Entries => assert_eq!(unbundled(&part).len(), usize::from(width)),
                }
            }
        }
        let at = |content| Tile { content, index: 2, width: 88 };
        let leaves: Vec<u8> = unbundled(&read(&store, &at(Content::Entries)).unwrap())
            .iter()
            .flat_map(|entry| Hash::leaf(entry).0)
            .collect();
        assert_eq!(leaves, read(&store, &at(Content::Hashes(0))).unwrap());
    }

    #[test]
    fn what_is_not_in_the_store_is_an_error_and_not_a_shorter_tile() {
        let (store, ..) = log_of(600);
        for content in [Content::Hashes(0), Content::Hashes(1), Content::Entries] {
            let beyond = Tile { content, index: 2, width: 89 };
            assert!(matches!(read(&store, &beyond), Err(StoreError::Missing(_))), "{content:?}");
        }
    }

    fn unbundled(mut bundle: &[u8]) -> Vec<&[u8]> {
        let mut entries = Vec::new();
        while let Some((length, rest)) = bundle.split_first_chunk::<2>() {
            let (entry, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
            entries.push(entry);
            bundle = rest;
        }
        entries
    }
}
