//! One look at a log, held against the last one.

use std::time::Duration;

use super::fault::Fault;
use super::fetch::{FetchError, Source};
use super::keys::Keys;
use super::records::{Reading, RecordFault, bundle_most, is_leaf, unbundle};
use super::report::Report;
use super::state::{EvidenceKind, Kept, State, StateError};
use super::tree::TiledTree;
use crate::audit::checkpoint::{Checkpoint, CheckpointError, Note, NoteError, VerifierKey, WitnessPolicy};
use crate::audit::hash::Hash;
use crate::audit::merkle::NodeId;
use crate::audit::merkle::proof::{ConsistencyError, verify_consistency};
use crate::audit::merkle::tile::{Content, Tile};
use crate::audit::record::Head;
use crate::clock::Clock;

/// What is asked of a log besides that it only grows.
#[derive(Debug)]
pub struct Demands {
    /// Whose cosignatures each checkpoint must bear.
    pub policy: Option<WitnessPolicy>,
    /// Whether new records are read, too, and held against the tree.
    pub records: bool,
    /// How long the log may show nothing new.
    pub stall_after: Duration,
}

/// Follows one log.
#[derive(Debug)]
pub struct Follower {
    source: Source,
    state: State,
    keys: Keys,
    demands: Demands,
    clock: Clock,
    /// What was found and could not be written down yet.
    unwritten: Option<Accusation>,
}

/// That two notes show a fork or a rollback.
#[derive(Debug)]
struct Accusation {
    kind: EvidenceKind,
    kept: Kept,
    note: Vec<u8>,
    shown: u64,
}

impl Accusation {
    fn fault(&self) -> Fault {
        let (kept, shown) = (self.kept.size, self.shown);
        match self.kind {
            EvidenceKind::Rollback => Fault::Rollback { kept, shown },
            EvidenceKind::Fork => Fault::Fork { kept, kept_root: self.kept.root, shown },
        }
    }
}

/// What came of a look that found nothing wrong.
struct Seen {
    size: u64,
    /// Whether there was no checkpoint to hold it against.
    first: bool,
    records: u64,
}

impl Follower {
    /// Follows the log of `pinned`, one of its keys, from where `state` left it.
    ///
    /// # Errors
    /// [`StateError`], if what is remembered cannot be read, or is another log's.
    pub fn new(
        source: Source,
        state: State,
        pinned: VerifierKey,
        demands: Demands,
        clock: Clock,
    ) -> Result<Self, StateError> {
        let keys = state.keys(pinned)?;
        state.kept(&keys)?;
        state.evidence()?;
        Ok(Self { source, state, keys, demands, clock, unwritten: None })
    }

    /// Looks once. May be dropped at any point: what it had not remembered by then was not believed.
    pub async fn look(&mut self) -> Report {
        let before = self.state.kept(&self.keys).ok().flatten();
        let looked = match tokio::time::timeout(LONGEST_LOOK, self.try_look()).await {
            Ok(looked) => looked,
            Err(_) => Err(FetchError::Timeout(LONGEST_LOOK).into()),
        };
        let now = self.clock.now();
        let kept = self.state.kept(&self.keys).ok().flatten();
        let (fault, seen) = match looked {
            Ok(seen) => (None, Some(seen)),
            Err(fault) => (Some(fault), None),
        };
        let unchanged = kept.as_ref().map(|kept| {
            let micros = now.as_micros().saturating_sub(kept.since.as_micros());
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        });
        let stands = matches!(fault, Some(Fault::Fork { .. } | Fault::Rollback { .. } | Fault::Before(_)));
        Report {
            time: now,
            origin: self.keys.origin().to_owned(),
            before: before.map(|kept| kept.size),
            kept: kept.map(|kept| (kept.size, kept.root, kept.since)),
            shown: seen.as_ref().map(|seen| seen.size),
            first: seen.as_ref().is_some_and(|seen| seen.first),
            records: seen.map_or(0, |seen| seen.records),
            // While evidence stands it is not followed, and shows nothing new by that alone.
            stalled: unchanged.filter(|unchanged| !stands && *unchanged > self.demands.stall_after),
            evidence: if stands { self.state.evidence_files() } else { Vec::new() },
            key: self.keys.current().to_string(),
            fault,
        }
    }

    async fn try_look(&mut self) -> Result<Seen, Fault> {
        if let Some(accusation) = self.unwritten.take() {
            return Err(self.accuse(accusation));
        }
        if let Some(evidence) = self.state.evidence()? {
            return Err(Fault::Before(evidence));
        }
        let kept = self.state.kept(&self.keys)?;
        self.source.refresh()?;
        let note = self.source.fetch("/checkpoint", NOTE_BYTES).await?;
        let (checkpoint, mut keys) = self.open(&note, kept.as_ref()).await?;
        let (size, root) = (checkpoint.size(), checkpoint.root());
        let from = kept.as_ref().map_or(0, |kept| kept.size);
        let grows = match &kept {
            None => true,
            Some(kept) => {
                self.hold_against(kept, &note, &checkpoint).await?;
                size > kept.size
            }
        };
        self.cosigned(&note, size)?;
        if grows && !self.demands.records && keys.is_there_another(&note) {
            self.look_for_the_next_key((size, &root), from, &mut keys).await?;
        }
        let mut records = 0;
        if self.demands.records && grows {
            let mut tree = self.tree(size, &root).await?;
            records = self.read_records(&mut tree, from, &mut keys, How::Whole).await?;
        }
        if grows {
            self.state.keep(&note, &keys)?;
        }
        self.keys = keys;
        Ok(Seen { size, first: kept.is_none(), records })
    }

    /// Opens a checkpoint, by a key that the log changed to if need be; and the keys known then.
    async fn open(&mut self, note: &[u8], kept: Option<&Kept>) -> Result<(Checkpoint, Keys), Fault> {
        let parsed = Note::parse(note).map_err(|_| Fault::NoCheckpoint)?;
        let (size, root) = Checkpoint::stated(note).ok_or(Fault::NoCheckpoint)?;
        let found = parsed.text().split('\n').next().unwrap_or_default();
        if found != self.keys.origin() {
            return Err(Fault::Origin { expected: self.keys.origin().to_owned(), found: found.to_owned() });
        }
        match self.keys.open(note) {
            Err(CheckpointError::Note(NoteError::NotSigned { .. })) => {}
            opened => return Ok((opened?, self.keys.clone())),
        }
        // The key record lies in what is new; if it was not seen in time, anywhere.
        let (from, mut keys) = (kept.map_or(0, |kept| kept.size.min(size)), self.keys.clone());
        let starts = if from > 0 { vec![from, 0] } else { vec![from] };
        for start in starts {
            if size.saturating_sub(start) > SEARCHED_MOST {
                break;
            }
            match self.search_keys(size, &root, start, &mut keys).await {
                Ok(()) => {}
                // Records under a root that nobody has vouched for yet: they are no fault of the log's.
                Err(fault) if fault.is_of_the_log() && !matches!(fault, Fault::Key { .. }) => break,
                Err(fault) => return Err(fault),
            }
            if keys.open(note).is_ok() {
                break;
            }
        }
        Ok((keys.open(note)?, keys))
    }

    /// Follows a change of key while both sign. The checkpoint is opened and held against the kept one already, and the other key
    /// can wait until it is needed: of what keeps it from being found, only a change that does not hold is a fault.
    async fn look_for_the_next_key(
        &mut self,
        (size, root): (u64, &Hash),
        from: u64,
        keys: &mut Keys,
    ) -> Result<(), Fault> {
        if size.saturating_sub(from) > SEARCHED_MOST {
            tracing::warn!(
                "the log's key changes, and there are too many records to look for those that say so"
            );
            return Ok(());
        }
        match self.search_keys(size, root, from, keys).await {
            Ok(()) => Ok(()),
            Err(fault @ Fault::Key { .. }) => Err(fault),
            Err(fault @ Fault::Refused { .. }) => {
                tracing::warn!(%fault, "the log's key changes, but the records that say so may not be read");
                Ok(())
            }
            Err(fault) => {
                tracing::warn!(%fault, "the log's key changes, but the records that say so were not read");
                Ok(())
            }
        }
    }

    async fn search_keys(&mut self, size: u64, root: &Hash, from: u64, keys: &mut Keys) -> Result<(), Fault> {
        let mut tree = self.tree(size, root).await?;
        self.read_records(&mut tree, from, keys, How::KeysAlone).await?;
        Ok(())
    }

    /// Whether the checkpoint continues the kept one; if it does not, both are kept as evidence before it is said.
    async fn hold_against(&mut self, kept: &Kept, note: &[u8], shown: &Checkpoint) -> Result<(), Fault> {
        let accusation =
            |kind| Accusation { kind, kept: kept.clone(), note: note.to_vec(), shown: shown.size() };
        if shown.size() < kept.size {
            return Err(self.accuse(accusation(EvidenceKind::Rollback)));
        }
        if shown.size() == kept.size {
            return if shown.root() == kept.root {
                Ok(())
            } else {
                Err(self.accuse(accusation(EvidenceKind::Fork)))
            };
        }
        // The tiles are led to the new root first. So what does not lead from there to the old one is no tile's fault.
        let mut tree = self.tree(shown.size(), &shown.root()).await?;
        for node in tree.nodes_from(kept.size) {
            self.bring(&mut tree, node).await?;
        }
        let proof = tree.consistency(kept.size).unwrap_or_default();
        match verify_consistency(kept.size, &kept.root, shown.size(), &shown.root(), &proof) {
            Ok(()) => Ok(()),
            Err(
                ConsistencyError::Backwards { .. }
                | ConsistencyError::Fork { .. }
                | ConsistencyError::EmptyRoot { .. }
                | ConsistencyError::TooShort { .. }
                | ConsistencyError::TooLong { .. }
                | ConsistencyError::FromRoot { .. }
                | ConsistencyError::ToRoot { .. },
            ) => Err(self.accuse(accusation(EvidenceKind::Fork))),
        }
    }

    /// Keeps what was found before it is said. What cannot be written down is said all the same, and again at each look until it
    /// can be: whatever the log shows by then.
    fn accuse(&mut self, accusation: Accusation) -> Fault {
        let fault = accusation.fault();
        let notes = (&*accusation.kept.note, &*accusation.note);
        let written = self.state.accuse(accusation.kind, &fault.to_string(), notes, self.clock.now());
        if let Err(error) = written {
            tracing::error!(%error, %fault, "what was found cannot be written down");
            self.unwritten = Some(accusation);
        }
        fault
    }

    fn cosigned(&self, note: &[u8], size: u64) -> Result<(), Fault> {
        let Some(policy) = &self.demands.policy else { return Ok(()) };
        let note = Note::parse(note).map_err(|_| Fault::NoCheckpoint)?;
        if policy.judge(&note)?.met { Ok(()) } else { Err(Fault::NotCosigned { size }) }
    }

    async fn tree(&mut self, size: u64, root: &Hash) -> Result<TiledTree, Fault> {
        let mut edge = Vec::new();
        for tile in TiledTree::edge(size) {
            edge.push(self.tile(&tile).await?);
        }
        Ok(TiledTree::open(size, root, &edge)?)
    }

    /// Brings in the tiles that a node of the tree is made of.
    async fn bring(&mut self, tree: &mut TiledTree, node: NodeId) -> Result<(), Fault> {
        let Some(wanted) = tree.tile_of(node) else { return Ok(()) };
        while let Some(tile) = tree.missing(wanted) {
            let bytes = self.tile(&tile).await?;
            tree.add(&tile, &bytes)?;
        }
        Ok(())
    }

    async fn tile(&mut self, tile: &Tile) -> Result<Vec<u8>, FetchError> {
        let most = match tile.content {
            Content::Hashes(_) => usize::from(tile.width) * size_of::<Hash>(),
            Content::Entries => bundle_most(tile.width),
        };
        self.source.fetch(&format!("/tile/{tile}"), most).await
    }

    /// Reads the records from `from` on, and the one before it; how many there were. Key records are followed.
    async fn read_records(
        &mut self,
        tree: &mut TiledTree,
        from: u64,
        keys: &mut Keys,
        how: How,
    ) -> Result<u64, Fault> {
        let (mut next, mut reading) = (from.saturating_sub(1), Reading::default());
        while let Some(leaves) = tree.tile_of(NodeId { level: 0, index: next }) {
            self.bring(tree, NodeId { level: 0, index: next }).await?;
            let tile = Tile { content: Content::Entries, ..leaves };
            let bundle = self.tile(&tile).await?;
            for (index, entry) in (tile.first()..).zip(unbundle(&tile, &bundle)?) {
                if index < next {
                    continue;
                }
                let leaf = tree.hash(NodeId { level: 0, index }).ok_or(RecordFault::Leaf { index })?;
                let head = match how {
                    How::Whole => Some(reading.read(index, entry, &leaf)?),
                    How::KeysAlone => {
                        is_leaf(index, entry, &leaf)?;
                        Head::parse(entry).ok().filter(|head| head.index == index)
                    }
                };
                if let Some(head) = head {
                    keys.read(&head, entry).map_err(|error| Fault::Key { index, error })?;
                }
            }
            next = tile.first() + u64::from(tile.width);
            tree.forget(&leaves);
        }
        Ok(tree.size() - from)
    }
}

/// What is read of records.
#[derive(Clone, Copy)]
enum How {
    /// All of it.
    Whole,
    /// Whether it is the tree's, and changes the key.
    KeysAlone,
}

/// A checkpoint with 16 post-quantum signatures of 5 kB each is well below.
const NOTE_BYTES: usize = 256 * 1024;

/// So many records are read in search of a key, at most: whoever made a checkpoint up could have it go on for ever.
const SEARCHED_MOST: u64 = 1_000_000;

/// The longest look. A first one that reads every record of a long log takes its time; nothing else does.
const LONGEST_LOOK: Duration = Duration::from_secs(3600);
