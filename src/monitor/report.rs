//! What came of one look at a log.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::fault::Fault;
use crate::audit::hash::Hash;
use crate::clock::Timestamp;

/// One look.
#[derive(Debug)]
pub struct Report {
    /// When it ended.
    pub time: Timestamp,
    /// The log's name.
    pub origin: String,
    /// Records under the checkpoint that was believed before.
    pub before: Option<u64>,
    /// Size, root and first sight of the checkpoint that is believed now.
    pub kept: Option<(u64, Hash, Timestamp)>,
    /// Records under the checkpoint that was shown, if it was found good.
    pub shown: Option<u64>,
    /// Whether it was believed without one to hold it against.
    pub first: bool,
    /// How many records were read.
    pub records: u64,
    /// How long the log has shown nothing new, if that is too long.
    pub stalled: Option<Duration>,
    /// Where the two notes of a fork or rollback are, and the file to remove.
    pub evidence: Vec<PathBuf>,
    /// The log's key, as it is known now.
    pub key: String,
    /// What is wrong.
    pub fault: Option<Fault>,
}

/// What a look comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The log has only grown.
    Holds,
    /// It does not hold, or shows nothing new for too long.
    DoesNotHold,
    /// That could not be seen.
    Unseen,
}

impl Report {
    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        match &self.fault {
            Some(fault) if fault.is_of_the_log() => Verdict::DoesNotHold,
            _ if self.stalled.is_some() => Verdict::DoesNotHold,
            Some(_) => Verdict::Unseen,
            None => Verdict::Holds,
        }
    }

    /// The words for all that is wrong.
    pub fn kinds(&self) -> Vec<&'static str> {
        let fault = self.fault.as_ref().map(Fault::kind);
        fault.into_iter().chain(self.stalled.map(|_| STALL)).collect()
    }

    /// For people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match &self.fault {
            Some(fault) => lines.push(fault.to_string()),
            None => lines.push(self.good()),
        }
        if let (Some(stalled), Some((size, _, since))) = (self.stalled, &self.kept) {
            lines.push(format!(
                "stall: nothing new has been shown since {since}, for {} s: the log stands at {size} records",
                stalled.as_secs()
            ));
        }
        if let [found, kept, shown] = self.evidence.as_slice() {
            lines.push(format!(
                "evidence: {} (believed before), {} (shown now); until {} is removed, the log is followed no further",
                kept.display(),
                shown.display(),
                found.display()
            ));
        }
        lines
    }

    fn good(&self) -> String {
        let (origin, shown) = (&self.origin, self.shown.unwrap_or(0));
        let read = match self.records {
            0 => String::new(),
            records => format!("; {records} records read"),
        };
        match self.before {
            _ if self.first => {
                format!(
                    "{origin}: {shown} records, trusted on first use: there was nothing to hold them against{read}"
                )
            }
            Some(before) if before == shown => format!("{origin}: {shown} records, as before{read}"),
            before => format!("{origin}: grew from {} to {shown} records{read}", before.unwrap_or(0)),
        }
    }

    /// For scripts, one object.
    pub fn json(&self) -> Value {
        json!({
            "time": self.time.to_string(),
            "origin": self.origin,
            "holds": self.verdict() == Verdict::Holds,
            "faults": self.kinds(),
            "messages": if self.verdict() == Verdict::Holds { Vec::new() } else { self.lines() },
            "first_use": self.first,
            "before": self.before,
            "size": self.kept.as_ref().map(|(size, ..)| size),
            "root": self.kept.as_ref().map(|(_, root, _)| root.to_string()),
            "since": self.kept.as_ref().map(|(.., since)| since.to_string()),
            "shown": self.shown,
            "records_read": self.records,
            "vkey": self.key,
            "evidence": self.evidence.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        })
    }
}

/// The word for a log that shows nothing new.
pub const STALL: &str = "stall";
