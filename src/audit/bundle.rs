//! Evidence bundles: some of a log's records with all that it takes to check them elsewhere, in files.
//!
//! | file | what |
//! |---|---|
//! | `manifest.json` | a [`Manifest`]: what the bundle says of itself, unsigned |
//! | `checkpoint` | the signed checkpoint that everything leads to |
//! | `records/N.json`, `records/N.tlog-proof` | record N, its stored bytes; its C2SP tlog-proof under that checkpoint |
//! | `keys/N.json`, `keys/N.tlog-proof` | the same of the log's first record and of each that changed its key |
//! | `checkpoints/S`, `checkpoints/S.growth.json` | a kept checkpoint of S records; the proof that the log has only grown since |
//! | `policies/E` | the policy of epoch E, in the piece whose SHA-256 is E |
//! | `README.md` | how to check it by hand |
//!
//! A [`Checker`] is fed those files' bytes. Nothing that the manifest says is believed: it only says what must be there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError, KeyChain, RotationError, VerifierKey};
use super::hash::Hash;
use super::merkle::proof::{InclusionError, verify_inclusion};
use super::proof::{ConsistencyProof, GrowthError, ProofFormatError, RecordProof};
use super::record::{Kind, Record};
use super::verify::keys::Keys;

#[cfg(test)]
mod tests;

/// What a bundle says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// The log's name.
    pub origin: String,
    /// How many records the checkpoint covers.
    pub size: u64,
    /// What was asked for, in the words of `portcullis audit bundle`.
    pub asked: BTreeMap<String, String>,
    /// Whether nothing but a range of time was asked for and every record from the first to the last of `records` is here.
    /// Otherwise the bundle shows that its records are in the log, and not that there are no others.
    pub complete: bool,
    /// The records' indexes, ascending.
    pub records: Vec<u64>,
    /// The indexes of the records in `keys`, ascending.
    pub keys: Vec<u64>,
    /// The epochs of policies that records name and, says whoever made the bundle, the log had no text of: hex, ascending.
    /// Nothing shows that it had none.
    pub policies_missing: Vec<String>,
}

/// The only format there is.
pub const FORMAT: &str = "portcullis-bundle-v1";

/// Checks a bundle, in this order: [`Checker::begin`], [`Checker::key`] by ascending index, [`Checker::open`], then
/// [`Checker::record`], [`Checker::kept`] and [`Checker::policy`] in any order, [`Checker::finish`].
#[derive(Debug)]
pub struct Checker {
    manifest: Manifest,
    note: String,
    size: u64,
    root: Hash,
    keys: Keys,
    key_records: Vec<u64>,
    opened: Option<Checkpoint>,
    /// The epochs that records name, each with the first that does.
    named: BTreeMap<String, u64>,
    records: BTreeSet<u64>,
    checkpoints: u64,
    policies: BTreeSet<String>,
}

/// What a bundle shows.
#[derive(Debug)]
pub struct Report {
    /// What it says of itself. What it *claims* is checked: `records`, `complete`, `size`, `origin`. That it was made for what was
    /// `asked`, that there are no more `keys`, and that the log had no text of `policies_missing` is its word.
    pub manifest: Manifest,
    /// The log's keys, as far as it goes.
    pub keys: KeyChain,
    /// The checkpoint that all its records are under.
    pub checkpoint: Checkpoint,
    /// How many kept checkpoints led to it.
    pub checkpoints: u64,
    /// How many policies are here.
    pub policies: u64,
}

/// What does not hold.
#[derive(Debug, thiserror::Error)]
pub enum BundleFault {
    /// The manifest cannot be read, or contradicts itself.
    #[error("manifest.json: {0}")]
    Manifest(#[from] ManifestFault),
    /// The checkpoint.
    #[error("checkpoint: {0}")]
    Checkpoint(CheckpointError),
    /// It covers another size than the manifest says.
    #[error("checkpoint: it covers {found} records, and manifest.json says {said}")]
    Size {
        /// What it covers.
        found: u64,
        /// What was said.
        said: u64,
    },
    /// A change of the log's key.
    #[error("keys/{index}.json: {source}")]
    Key {
        /// Its record.
        index: u64,
        /// What is wrong.
        source: RotationError,
    },
    /// A record that says nothing of the log's keys.
    #[error("keys/{0}.json: it is neither the log's first record nor one of kind `key`")]
    NotOfKeys(u64),
    /// The key given is not one of this log's.
    #[error("keys: nothing here leads to the key given; it is another log's, or came after this bundle")]
    Foreign,
    /// A record.
    #[error("record {index}: {source}")]
    Record {
        /// Its index.
        index: u64,
        /// What is wrong.
        source: RecordFault,
    },
    /// A record that the manifest does not list.
    #[error("record {0}: manifest.json does not list it")]
    Unlisted(u64),
    /// A record that the manifest lists.
    #[error("record {0}: manifest.json lists it, and it is not here")]
    Missing(u64),
    /// A record of the log's keys that the manifest lists, or does not.
    #[error("keys: manifest.json lists {listed:?}, and here are {found:?}")]
    Keys {
        /// What it lists.
        listed: Vec<u64>,
        /// What is here.
        found: Vec<u64>,
    },
    /// A kept checkpoint.
    #[error("checkpoints/{size}: {source}")]
    Kept {
        /// Its size, by its name.
        size: u64,
        /// What is wrong.
        source: KeptFault,
    },
    /// A policy's text is another's.
    #[error("policies/{0}: it does not hash to its name")]
    Policy(String),
    /// A policy that no record here names.
    #[error("policies/{0}: no record here names it")]
    PolicyUnnamed(String),
    /// A policy that a record names.
    #[error("policies/{epoch}: record {index} was decided by it, and it is not here")]
    PolicyMissing {
        /// Its epoch.
        epoch: String,
        /// The first record that names it.
        index: u64,
    },
}

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestFault {
    /// It is none.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It is of another format.
    #[error("the format {found:?} is not {FORMAT:?}")]
    Format {
        /// What it says.
        found: String,
    },
    /// It is of another log than the key that was given.
    #[error("it is of the log {found:?}, and the key given of {expected:?}")]
    Origin {
        /// What it says.
        found: String,
        /// The key's.
        expected: String,
    },
    /// Its records do not ascend.
    #[error("record {next} is listed behind record {one}")]
    Order {
        /// A record.
        one: u64,
        /// The one behind it.
        next: u64,
    },
    /// It is not as complete as it says.
    #[error("it says that the bundle is complete, and lists no record {missing}")]
    Gap {
        /// The first that is not listed.
        missing: u64,
    },
    /// It says that it is complete, and was asked for less than everything.
    #[error("it says that the bundle is complete, and was asked for by {0:?}")]
    Narrowed(String),
    /// It lists nothing.
    #[error("it lists no record")]
    Empty,
    /// It lists a record that its checkpoint does not cover.
    #[error("it lists record {last}, and a checkpoint of {size} records")]
    Beyond {
        /// The record.
        last: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// Its policies are no epochs, or do not ascend.
    #[error("policies_missing is no ascending list of epochs")]
    Policies,
    /// A policy that it says the log had no text of is here, or named by no record.
    #[error("it says that the log had no text of policy {0}, which is here, or which no record names")]
    NotMissing(String),
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordFault {
    /// Its proof cannot be read.
    #[error(transparent)]
    Format(#[from] ProofFormatError),
    /// Its proof is one under another checkpoint.
    #[error("its proof is under another checkpoint than the bundle's")]
    OtherCheckpoint,
    /// Its proof is another's.
    #[error("its proof is of record {0}")]
    OtherProof(u64),
    /// It is no record.
    #[error("it is not a record")]
    NotARecord,
    /// It is another one.
    #[error("what stands here is record {0}")]
    Other(u64),
    /// It is not under the checkpoint.
    #[error("it is not what the log has at this index: {0}")]
    Inclusion(#[from] InclusionError),
}

/// What is wrong with a kept checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum KeptFault {
    /// The note itself.
    #[error(transparent)]
    Note(#[from] CheckpointError),
    /// It covers another size than its name says.
    #[error("it covers {0} records")]
    Size(u64),
    /// The proof of growth cannot be read.
    #[error(transparent)]
    Format(#[from] ProofFormatError),
    /// The log has not grown from it.
    #[error(transparent)]
    Growth(#[from] GrowthError),
}

impl Manifest {
    /// Reads a manifest and holds it to itself.
    ///
    /// # Errors
    /// [`ManifestFault`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestFault> {
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.complete
            && let Some(filter) = manifest.narrowed_by()
        {
            return Err(ManifestFault::Narrowed(filter.to_owned()));
        }
        if manifest.format != FORMAT {
            return Err(ManifestFault::Format { found: manifest.format });
        }
        for pair in manifest.records.windows(2) {
            let [one, next] = *pair else { continue };
            if one >= next {
                return Err(ManifestFault::Order { one, next });
            }
            if manifest.complete && one + 1 != next {
                return Err(ManifestFault::Gap { missing: one + 1 });
            }
        }
        for (one, next) in manifest.policies_missing.iter().zip(manifest.policies_missing.iter().skip(1)) {
            if one >= next {
                return Err(ManifestFault::Policies);
            }
        }
        if manifest.policies_missing.iter().any(|epoch| Hash::from_hex(epoch.as_bytes()).is_none()) {
            return Err(ManifestFault::Policies);
        }
        match manifest.records.last() {
            None => Err(ManifestFault::Empty),
            Some(last) if *last >= manifest.size => {
                Err(ManifestFault::Beyond { last: *last, size: manifest.size })
            }
            Some(_) => Ok(manifest),
        }
    }

    /// The first filter that was asked for which leaves records out that lie between others.
    pub fn narrowed_by(&self) -> Option<&str> {
        let narrows = |(name, value): &(&String, &String)| match name.as_str() {
            "from" | "to" => false,
            "health_checks" => *value != "include",
            _ => true,
        };
        self.asked.iter().find(narrows).map(|(name, _)| name.as_str())
    }

    /// The file.
    pub fn to_json(&self) -> String {
        // Nothing in it cannot be JSON.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl Checker {
    /// Begins with the manifest and the checkpoint, neither of which is believed yet, and the key that is.
    ///
    /// # Errors
    /// [`BundleFault::Manifest`], [`BundleFault::Checkpoint`], [`BundleFault::Size`].
    pub fn begin(manifest: &[u8], note: &[u8], key: VerifierKey) -> Result<Self, BundleFault> {
        let manifest = Manifest::parse(manifest)?;
        let malformed = || BundleFault::Checkpoint(CheckpointError::Malformed);
        let (size, root) = Checkpoint::stated(note).ok_or_else(malformed)?;
        if size != manifest.size {
            return Err(BundleFault::Size { found: size, said: manifest.size });
        }
        if manifest.origin != key.name() {
            let fault = ManifestFault::Origin { found: manifest.origin, expected: key.name().to_owned() };
            return Err(fault.into());
        }
        Ok(Self {
            manifest,
            note: std::str::from_utf8(note).map_err(|_| malformed())?.to_owned(),
            size,
            root,
            keys: Keys::pinned(key),
            key_records: Vec::new(),
            opened: None,
            named: BTreeMap::new(),
            records: BTreeSet::new(),
            checkpoints: 0,
            policies: BTreeSet::new(),
        })
    }

    /// Takes up the log's first record or one that changed its key, with its proof.
    ///
    /// # Errors
    /// [`BundleFault::Record`], [`BundleFault::Key`], [`BundleFault::NotOfKeys`].
    pub fn key(&mut self, index: u64, record: &[u8], proof: &[u8]) -> Result<(), BundleFault> {
        let parsed =
            self.prove(index, record, proof).map_err(|source| BundleFault::Record { index, source })?;
        if index != 0 && parsed.head().kind != Kind::Key {
            return Err(BundleFault::NotOfKeys(index));
        }
        if self.key_records.last().is_some_and(|last| *last >= index) {
            return Err(BundleFault::Key { index, source: RotationError::Field("index") });
        }
        self.key_records.push(index);
        self.keys.read(parsed.head(), record).map_err(|source| BundleFault::Key { index, source })
    }

    /// Opens the checkpoint by the keys that are known now. Only what comes after this shows anything.
    ///
    /// # Errors
    /// [`BundleFault::Keys`], [`BundleFault::Foreign`], [`BundleFault::Checkpoint`].
    pub fn open(&mut self) -> Result<(), BundleFault> {
        if self.key_records != self.manifest.keys {
            return Err(BundleFault::Keys {
                listed: self.manifest.keys.clone(),
                found: self.key_records.clone(),
            });
        }
        if !self.keys.are_anchored() {
            return Err(BundleFault::Foreign);
        }
        let opened = self.keys.chain().open(self.note.as_bytes()).map_err(BundleFault::Checkpoint)?;
        self.opened = Some(opened);
        Ok(())
    }

    /// Checks a record, by its name and its proof.
    ///
    /// # Errors
    /// [`BundleFault::Unlisted`], [`BundleFault::Record`].
    pub fn record(&mut self, index: u64, record: &[u8], proof: &[u8]) -> Result<(), BundleFault> {
        if self.manifest.records.binary_search(&index).is_err() {
            return Err(BundleFault::Unlisted(index));
        }
        let parsed =
            self.prove(index, record, proof).map_err(|source| BundleFault::Record { index, source })?;
        if let Some(epoch) = parsed.text(&["policy"]) {
            self.named.entry(epoch.to_owned()).or_insert(index);
        }
        self.records.insert(index);
        Ok(())
    }

    /// Checks a kept checkpoint, by its name and the proof that the log has only grown since.
    ///
    /// # Errors
    /// [`BundleFault::Kept`].
    pub fn kept(&mut self, size: u64, note: &[u8], growth: &[u8]) -> Result<(), BundleFault> {
        let check = || -> Result<(), KeptFault> {
            let kept = self.keys.chain().open(note)?;
            if kept.size() != size {
                return Err(KeptFault::Size(kept.size()));
            }
            let malformed = KeptFault::Note(CheckpointError::Malformed);
            let opened = self.opened.as_ref().ok_or(malformed)?;
            Ok(ConsistencyProof::parse(growth)?.check(&kept, opened)?)
        };
        check().map_err(|source| BundleFault::Kept { size, source })?;
        self.checkpoints += 1;
        Ok(())
    }

    /// Checks a policy's text by its name; `text` is the text's SHA-256. After the records.
    ///
    /// # Errors
    /// [`BundleFault::Policy`], [`BundleFault::PolicyUnnamed`].
    pub fn policy(&mut self, epoch: &str, text: Hash) -> Result<(), BundleFault> {
        if text.to_string() != epoch {
            return Err(BundleFault::Policy(epoch.to_owned()));
        }
        if !self.named.contains_key(epoch) {
            return Err(BundleFault::PolicyUnnamed(epoch.to_owned()));
        }
        self.policies.insert(epoch.to_owned());
        Ok(())
    }

    /// All was there: is it all that there must be?
    ///
    /// # Errors
    /// [`BundleFault::Missing`], [`BundleFault::PolicyMissing`], [`BundleFault::Manifest`]; [`BundleFault::Foreign`] if the checkpoint was not opened.
    pub fn finish(self) -> Result<Report, BundleFault> {
        let Some(checkpoint) = self.opened else { return Err(BundleFault::Foreign) };
        if let Some(missing) = self.manifest.records.iter().find(|index| !self.records.contains(index)) {
            return Err(BundleFault::Missing(*missing));
        }
        let missing = &self.manifest.policies_missing;
        if let Some(epoch) =
            missing.iter().find(|epoch| !self.named.contains_key(*epoch) || self.policies.contains(*epoch))
        {
            return Err(ManifestFault::NotMissing(epoch.clone()).into());
        }
        for (epoch, index) in self.named {
            if !self.policies.contains(&epoch) && !missing.contains(&epoch) {
                return Err(BundleFault::PolicyMissing { epoch, index });
            }
        }
        Ok(Report {
            manifest: self.manifest,
            keys: self.keys.into_chain(),
            checkpoint,
            checkpoints: self.checkpoints,
            policies: self.policies.len() as u64,
        })
    }

    /// That `record` is the log's at `index`, under the checkpoint as it stands there.
    fn prove<'r>(&self, index: u64, record: &'r [u8], proof: &[u8]) -> Result<Record<'r>, RecordFault> {
        let proof = RecordProof::parse(proof)?;
        if proof.checkpoint != self.note {
            return Err(RecordFault::OtherCheckpoint);
        }
        // What it says itself first: records that have changed places are named as what they are.
        let parsed = Record::parse(record).map_err(|_| RecordFault::NotARecord)?;
        if parsed.head().index != index {
            return Err(RecordFault::Other(parsed.head().index));
        }
        if proof.index != index {
            return Err(RecordFault::OtherProof(proof.index));
        }
        verify_inclusion(&Hash::leaf(record), index, self.size, &proof.path, &self.root)?;
        Ok(parsed)
    }
}
