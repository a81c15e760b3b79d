//! One checkpoint, judged and cosigned.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::ledger::{Held, Ledger, LedgerError};
use crate::audit::checkpoint::{
    Checkpoint, CheckpointError, CosignerKey, CosigningKey, Note, NoteError, Submission, VerifierKey,
};
use crate::audit::hash::Hash;
use crate::audit::merkle::proof::verify_consistency;
use crate::clock::Clock;

/// A witness of some logs. Any thread may ask it; it reads and writes files.
#[derive(Debug)]
pub struct Witness {
    key: CosigningKey,
    /// By origin.
    logs: HashMap<String, Log>,
    ledger: Ledger,
    clock: Clock,
}

/// A log that is witnessed.
#[derive(Debug)]
struct Log {
    /// Whose signatures are its own; one or more.
    keys: Vec<VerifierKey>,
    /// Held from the moment a checkpoint is held against it until that has taken its place on disk. `None` after a
    /// write that failed.
    held: Mutex<Option<Held>>,
}

/// What a witness answers to a checkpoint; statuses and bodies as tlog-witness has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200: the cosignature's line.
    Cosigned(String),
    /// 400: not of the form, or an old size above the checkpoint's.
    Malformed(&'static str),
    /// 403: no signature of a key that the log is known by holds.
    Unsigned,
    /// 404: a log that is not known.
    UnknownLog,
    /// 409: it is not the old size that was cosigned last, or it is and the root is another. With the size that was.
    Conflict(u64),
    /// 422: the proof does not show that the log has only grown.
    Inconsistent,
    /// 500: the ledger cannot be written, or could not be.
    Failed,
}

impl Witness {
    /// A witness of the logs that these keys belong to, by their names; a log may have several keys.
    ///
    /// # Errors
    /// [`LedgerError`], if what was cosigned of one of them cannot be read.
    pub fn new(
        key: CosigningKey,
        keys: impl IntoIterator<Item = VerifierKey>,
        ledger: Ledger,
        clock: Clock,
    ) -> Result<Self, LedgerError> {
        let mut logs = HashMap::<String, Log>::new();
        for key in keys {
            if let Some(log) = logs.get_mut(key.name()) {
                log.keys.push(key);
                continue;
            }
            let held = ledger.held(key.name())?;
            logs.insert(key.name().to_owned(), Log { held: Mutex::new(Some(held)), keys: vec![key] });
        }
        Ok(Self { key, logs, ledger, clock })
    }

    /// The key that it cosigns with.
    pub fn verifier(&self) -> CosignerKey {
        self.key.verifier()
    }

    /// The logs, each with the size that was cosigned last.
    pub fn logs(&self) -> impl Iterator<Item = (&str, u64)> {
        self.logs.iter().map(|(origin, log)| {
            let held = *log.held.lock().unwrap_or_else(PoisonError::into_inner);
            (origin.as_str(), held.map_or(0, |held| held.size))
        })
    }

    /// Answers one `add-checkpoint`. Returns only after what it cosigns is durable.
    pub fn add_checkpoint(&self, body: &[u8]) -> Answer {
        let Some(submission) = Submission::parse(body) else {
            return Answer::Malformed("expected: old <size>, proof lines, an empty line, a checkpoint");
        };
        let Ok(note) = Note::parse(submission.note) else {
            return Answer::Malformed("the checkpoint is not a signed note");
        };
        let origin = note.text().split('\n').next().unwrap_or_default();
        let Some(log) = self.logs.get(origin) else { return Answer::UnknownLog };
        let checkpoint = match log.open(submission.note) {
            Ok(checkpoint) => checkpoint,
            Err(CheckpointError::Note(_)) => return Answer::Unsigned,
            Err(CheckpointError::Malformed | CheckpointError::Origin { .. }) => {
                return Answer::Malformed("the signed text is not a checkpoint");
            }
        };
        if submission.old > checkpoint.size() {
            return Answer::Malformed("the old size is above the checkpoint's");
        }
        // From here to the end nobody else touches this log.
        let mut held = log.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = *held else { return Answer::Failed };
        if let Err(refusal) = continues(last, &submission, &checkpoint) {
            if refusal != Answer::Conflict(last.size) || submission.old == last.size {
                tracing::warn!(
                    log = origin,
                    held = last.size,
                    submitted = checkpoint.size(),
                    root = %checkpoint.root(),
                    "a signed checkpoint does not continue what was cosigned: the log may be forked"
                );
            }
            return refusal;
        }
        let time = u64::try_from(self.clock.now().as_micros() / 1_000_000).unwrap_or(0);
        let line = self.key.cosign(note.text(), time);
        if (Held { size: checkpoint.size(), root: checkpoint.root() }) != last {
            // Until it is known to be there, nothing is.
            *held = None;
            if let Err(error) = self.ledger.write(origin, submission.note) {
                tracing::error!(%error, log = origin, "nothing of this log is cosigned until a restart");
                return Answer::Failed;
            }
            *held = Some(Held { size: checkpoint.size(), root: checkpoint.root() });
        }
        tracing::info!(log = origin, size = checkpoint.size(), "cosigned");
        Answer::Cosigned(line)
    }
}

/// Whether the checkpoint continues the one held.
fn continues(held: Held, submission: &Submission<'_>, checkpoint: &Checkpoint) -> Result<(), Answer> {
    if submission.old != held.size {
        return Err(Answer::Conflict(held.size));
    }
    let root: Hash = checkpoint.root();
    if checkpoint.size() == held.size && root != held.root {
        return Err(Answer::Conflict(held.size));
    }
    verify_consistency(held.size, &held.root, checkpoint.size(), &root, &submission.proof)
        .map_err(|_| Answer::Inconsistent)
}

impl Log {
    /// The checkpoint, if one of the log's keys has signed it and none of their signatures is bad.
    fn open(&self, note: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let mut opened = None;
        let mut unsigned = CheckpointError::Malformed;
        for key in &self.keys {
            match Checkpoint::open(note, key) {
                Ok(checkpoint) => opened = Some(checkpoint),
                Err(error @ CheckpointError::Note(NoteError::NotSigned { .. })) => unsigned = error,
                Err(error) => return Err(error),
            }
        }
        opened.ok_or(unsigned)
    }
}

#[cfg(test)]
mod tests;
