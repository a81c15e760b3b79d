//! A log as a verifier needs it: signed notes, and records in order. From a store, or from an export.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::audit::checkpoint::{Checkpoint, CheckpointError, VerifierKey};
use crate::audit::record::MAX_RECORD_BYTES;
use crate::audit::rocks::RocksStore;
use crate::audit::storage::{Store, StoreError, Walk};
use crate::audit::verify::{BrokenOff, Fault, FaultKind, Report, Verifier};

/// What is to be verified.
pub(super) enum Evidence {
    /// A log's directory, as of when it was opened.
    Log(RocksStore),
    /// An export: one record a line.
    Export(PathBuf),
}

/// What came of a verification.
#[derive(Debug)]
pub(super) enum Verdict {
    Holds(Report),
    Fails(Failure),
}

/// The first record that does not hold.
#[derive(Debug)]
pub(super) struct Failure {
    /// The first bad index.
    pub(super) index: u64,
    /// Records below this index are proven by a checkpoint.
    pub(super) proven: u64,
    /// What is wrong, for people.
    pub(super) what: String,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { index: fault.index, proven: fault.proven, what: fault.kind.to_string() }
    }
}

/// What was given as a kept checkpoint of the log is none of it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct NotKept(pub(super) CheckpointError);

/// What a fault says of the log; an error if it says something of the kept checkpoint instead.
fn failure(fault: Fault) -> Result<Failure, NotKept> {
    match fault.kind {
        FaultKind::NotKept(error) => Err(NotKept(error)),
        _ => Ok(fault.into()),
    }
}

/// How far a verification is: done, of all.
pub(super) type Progress<'a> = dyn FnMut(u64, u64) + 'a;

impl Evidence {
    /// The notes to be met, ascending, the latest last.
    pub(super) fn notes(&self) -> Result<Vec<Vec<u8>>> {
        match self {
            Self::Log(store) => Ok(stored_notes(store)?.into_iter().map(String::into_bytes).collect()),
            Self::Export(path) => exported_notes(&checkpoints_path(path)),
        }
    }

    /// Reads all of it.
    pub(super) fn verify(
        &self,
        key: VerifierKey,
        notes: Vec<Vec<u8>>,
        against: Option<Vec<u8>>,
        progress: &mut Progress<'_>,
    ) -> Result<Verdict> {
        let mut verifier = match Verifier::new(key, notes) {
            Ok(verifier) => verifier,
            Err(fault) => return Ok(Verdict::Fails(fault.into())),
        };
        if let Some(kept) = against {
            verifier = verifier.against_note(&kept).map_err(NotKept)?;
        }
        // Unsigned, so it only helps to name an altered last record; without it a range is named.
        if let Self::Log(store) = self
            && let Ok(Some(tip)) = store.tip()
        {
            verifier = verifier.with_tip(tip);
        }
        let fed = match self {
            Self::Log(store) => feed_log(store, &mut verifier, progress)?,
            Self::Export(path) => feed_export(path, &mut verifier, progress)?,
        };
        Ok(match fed {
            Fed::All => match verifier.finish() {
                Ok(report) => Verdict::Holds(report),
                Err(fault) => Verdict::Fails(failure(fault)?),
            },
            Fed::Fault(fault) => Verdict::Fails(failure(fault)?),
            Fed::Unreadable(error) => Verdict::Fails(unreadable(verifier, &error)),
        })
    }
}

/// How a log was read.
enum Fed {
    All,
    Fault(Fault),
    /// The store says that what it holds is damaged.
    Unreadable(StoreError),
}

type Notes = Verifier<std::vec::IntoIter<Vec<u8>>>;

fn feed_log(store: &RocksStore, verifier: &mut Notes, progress: &mut Progress<'_>) -> Result<Fed> {
    let total = match store.last_index() {
        Ok(last) => last.map_or(0, |last| last + 1),
        Err(error) if error.is_damage() => 0,
        Err(error) => return Err(error.into()),
    };
    let mut fault = None;
    let scanned = store.scan(Walk::Up(0), &mut |index, bytes| {
        progress(index, total);
        match verifier.feed(index, bytes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(found) => {
                fault = Some(found);
                ControlFlow::Break(())
            }
        }
    });
    match (fault, scanned) {
        (Some(fault), _) => Ok(Fed::Fault(fault)),
        (None, Ok(())) => Ok(Fed::All),
        (None, Err(error)) if error.is_damage() => Ok(Fed::Unreadable(error)),
        (None, Err(error)) => Err(error.into()),
    }
}

/// The records end where the store could not read on; an earlier fault comes first.
fn unreadable(verifier: Notes, error: &StoreError) -> Failure {
    match verifier.break_off() {
        Err(fault) => fault.into(),
        Ok(BrokenOff { index, proven }) => {
            Failure { index, proven, what: format!("cannot be read: {error}") }
        }
    }
}

fn feed_export(path: &Path, verifier: &mut Notes, progress: &mut Progress<'_>) -> Result<Fed> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let total = file.metadata().with_context(|| path.display().to_string())?.len();
    let (mut reader, mut line, mut done) = (BufReader::with_capacity(1 << 20, file), Vec::new(), 0);
    for index in 0.. {
        if next_line(&mut reader, &mut line).with_context(|| path.display().to_string())? == 0 {
            break;
        }
        if let Err(fault) = verifier.feed(index, &line) {
            return Ok(Fed::Fault(fault));
        }
        done += line.len() as u64 + 1;
        progress(done, total);
    }
    Ok(Fed::All)
}

/// Reads a line without its end; no more of it than shows that it is too long. Returns how many bytes were read.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<usize> {
    line.clear();
    let read = reader.take(MAX_RECORD_BYTES as u64 + 2).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(read)
}

/// The kept checkpoints, the latest that was cosigned, and the latest, ascending by size.
pub(super) fn stored_notes(store: &dyn Store) -> Result<Vec<String>, StoreError> {
    let mut kept = store.kept_checkpoints()?;
    if let Some(cosigned) = store.latest_cosigned()?
        && let Some((size, _)) = Checkpoint::stated(cosigned.as_bytes())
    {
        let at = kept.partition_point(|(kept, _)| *kept <= size);
        if at.checked_sub(1).and_then(|before| kept.get(before)).is_none_or(|(_, note)| *note != cosigned) {
            kept.insert(at, (size, cosigned));
        }
    }
    let mut notes: Vec<String> = kept.into_iter().map(|(_, note)| note).collect();
    if let Some(latest) = store.latest_checkpoint()?
        && notes.last() != Some(&latest)
    {
        notes.push(latest);
    }
    Ok(notes)
}

/// Where an export's checkpoints are: beside it.
pub(super) fn checkpoints_path(export: &Path) -> PathBuf {
    let mut name = export.as_os_str().to_owned();
    name.push(".checkpoints");
    name.into()
}

/// The notes of an export's second file. A line that is not a JSON string stands for itself: no signature holds for it.
fn exported_notes(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(path).with_context(|| {
        format!("{}: an export is two files, the records and their checkpoints", path.display())
    })?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines
        .map(|line| serde_json::from_slice::<String>(line).map_or(line.to_vec(), String::into_bytes))
        .collect())
}

#[cfg(test)]
mod tests;
