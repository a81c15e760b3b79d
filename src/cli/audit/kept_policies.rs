//! The policies that are kept with a log, held to the epochs that they are kept under.

use anyhow::Result;
use serde_json::{Value, json};

use super::evidence::Evidence;
use crate::audit::hash::Hash;
use crate::cli::out::count;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct KeptPolicies {
    /// How many are the policies of their epochs.
    good: u64,
    /// What is kept under these epochs is not that policy.
    bad: Vec<Hash>,
    /// What the store says that keeps the rest from being read.
    unreadable: Option<String>,
}

impl KeptPolicies {
    /// Reads all of them; `None` for an export, which has none.
    ///
    /// # Errors
    /// If they cannot be read for another reason than that they are damaged.
    pub(super) fn of(evidence: &Evidence) -> Result<Option<Self>> {
        let Evidence::Log(store) = evidence else { return Ok(None) };
        let mut found = Self::default();
        let read = store.policies(&mut |epoch, text| {
            if Hash::of(text) == epoch {
                found.good += 1;
            } else {
                found.bad.push(epoch);
            }
        });
        match read {
            Err(error) if error.is_damage() => found.unreadable = Some(error.to_string()),
            read => read?,
        }
        Ok(Some(found))
    }

    /// Whether each is the policy of its epoch.
    pub(super) const fn hold(&self) -> bool {
        self.bad.is_empty() && self.unreadable.is_none()
    }

    /// For people, a line each.
    pub(super) fn tell(&self) -> Vec<String> {
        let good = format!("{} kept, as the epochs say", count(self.good, "policy text"));
        let bad = self.bad.iter().map(|epoch| {
            format!("what is kept under policy {epoch} is not that policy: its decisions cannot be read against it")
        });
        let unreadable = self.unreadable.iter().map(|error| format!("a policy cannot be read: {error}"));
        std::iter::once(good).chain(bad).chain(unreadable).collect()
    }

    /// For scripts.
    pub(super) fn json(&self) -> Value {
        let bad: Vec<String> = self.bad.iter().map(Hash::to_string).collect();
        json!({ "hold": self.hold(), "kept": self.good, "bad": bad, "fault": self.unreadable })
    }
}
