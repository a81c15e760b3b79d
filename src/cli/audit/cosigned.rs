//! Which of a log's checkpoints enough witnesses have cosigned.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::audit::checkpoint::{Checkpoint, Note, VerifierKey, WitnessPolicy};
use crate::cli::out::grouped;
use crate::clock::Timestamp;

/// What a log's checkpoints are worth under a policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// This is the largest that meets the quorum.
    Cosigned {
        /// How many records it covers.
        size: u64,
        /// The policy's names of those who cosigned it, each with the time in seconds since 1970.
        by: Vec<(String, u64)>,
    },
    /// The largest that meets it does not cover all that was asked for.
    Short {
        /// How many records it covers.
        size: u64,
        /// The last record that was asked for.
        last: u64,
    },
    /// None meets it.
    None,
    /// A cosignature of one of the policy's witnesses does not hold.
    Bad(String),
}

/// Reads a policy file. If it names logs, this one must be among them, by whichever of its keys.
pub(in crate::cli) fn read_policy(path: &Path, key: &VerifierKey) -> Result<WitnessPolicy> {
    let bytes = std::fs::read(path).with_context(|| format!("--policy {}", path.display()))?;
    let policy = WitnessPolicy::parse(&bytes).with_context(|| format!("--policy {}", path.display()))?;
    if !policy.logs().is_empty() && policy.logs().iter().all(|log| log.name() != key.name()) {
        bail!("--policy {} has no line for this log: log {key}", path.display());
    }
    Ok(policy)
}

/// Judges a log's notes, which are signed by its key and ascend by size.
pub(super) fn judge(policy: &WitnessPolicy, notes: &[Vec<u8>]) -> Finding {
    let mut found = Finding::None;
    for bytes in notes {
        let (Ok(note), Some((size, _))) = (Note::parse(bytes), Checkpoint::stated(bytes)) else { continue };
        // Where the policy names logs, one of its keys must have signed.
        if !policy.logs().is_empty() {
            match note.signers(policy.logs()) {
                Ok(signers) if signers.is_empty() => continue,
                Ok(_) => {}
                Err(bad) => return Finding::Bad(format!("in the checkpoint of {size} records, {bad}")),
            }
        }
        match policy.judge(&note) {
            Ok(judgement) if judgement.met => found = Finding::Cosigned { size, by: judgement.cosigned },
            Ok(_) => {}
            Err(bad) => return Finding::Bad(format!("in the checkpoint of {size} records, {bad}")),
        }
    }
    found
}

impl Finding {
    /// Whether enough witnesses have cosigned any of it.
    pub(super) const fn holds(&self) -> bool {
        matches!(self, Self::Cosigned { .. })
    }

    /// The same where it matters only whether all records up to `last` are cosigned.
    pub(super) fn covering(self, last: u64) -> Self {
        match self {
            Self::Cosigned { size, .. } if size <= last => Self::Short { size, last },
            found => found,
        }
    }

    /// For people; the log has `records`.
    pub(super) fn tell(&self, records: u64) -> String {
        match self {
            Self::Cosigned { size, by } => {
                let by = by.iter().map(|(name, time)| format!("{name} at {}", at(*time)));
                let by = by.collect::<Vec<_>>().join(", ");
                let by = if by.is_empty() { "nobody, as the policy asks".to_owned() } else { by };
                match records.saturating_sub(*size) {
                    0 => format!("all of it cosigned by {by}"),
                    rest => format!(
                        "{size} of its records cosigned by {by}; for the other {rest} the log's own signature stands alone"
                    ),
                }
            }
            Self::Short { size, last } => format!(
                "only records below {} are cosigned by as many as the policy asks for, and not those up to {}",
                grouped(*size),
                grouped(*last)
            ),
            Self::None => "no checkpoint of it is cosigned by as many as the policy asks for".to_owned(),
            Self::Bad(what) => what.clone(),
        }
    }

    /// For scripts.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Cosigned { size, by } => json!({
                "met": true,
                "size": size,
                "by": by.iter().map(|(name, time)| json!({ "name": name, "time": at(*time) })).collect::<Vec<_>>(),
            }),
            Self::Short { size, .. } => json!({ "met": false, "size": size }),
            Self::None => json!({ "met": false }),
            Self::Bad(what) => json!({ "met": false, "fault": what }),
        }
    }
}

fn at(seconds: u64) -> String {
    let micros = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000_000));
    micros.map_or_else(
        || format!("{seconds} s after 1970"),
        |micros| Timestamp::from_micros(micros).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::checkpoint::{CosigningKey, Origin, SigningKey};
    use crate::audit::hash::Hash;

    fn note(size: u64, cosigners: &[u8]) -> Vec<u8> {
        let log = SigningKey::from_seed(Origin::parse("log.example.com").unwrap(), &[7; 32]);
        let mut note = log.sign(size, &Hash::of(&size.to_be_bytes()));
        let text = Note::parse(note.clone().as_bytes()).unwrap().text().to_owned();
        for seed in cosigners {
            note += &witness(*seed).cosign(&text, 1_700_000_000);
        }
        note.into_bytes()
    }

    fn witness(seed: u8) -> CosigningKey {
        CosigningKey::from_seed(Origin::parse(&format!("w{seed}.example.com")).unwrap(), &[seed; 32])
    }

    #[test]
    fn the_largest_checkpoint_with_a_quorum_is_found() {
        let policy = WitnessPolicy::of([1, 2, 3].map(|seed| witness(seed).verifier()), 2);
        let notes = [note(2, &[1, 2]), note(5, &[2, 3]), note(7, &[1]), note(9, &[])];
        let found = judge(&policy, &notes);
        let Finding::Cosigned { size: 5, by } = &found else { panic!("{found:?}") };
        assert_eq!(
            by.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["w2.example.com", "w3.example.com"]
        );
        assert!(found.tell(9).contains("the other 4"), "{}", found.tell(9));
        assert_eq!(found.json()["by"][0]["time"], "2023-11-14T22:13:20.000000Z");
        let found = found.covering(4);
        assert!(found.holds(), "record 4 is the last of five");
        let found = found.covering(5);
        assert_eq!(found, Finding::Short { size: 5, last: 5 });
        assert!(!found.holds() && found.json()["met"] == false);
    }

    #[test]
    fn a_checkpoint_counts_only_if_a_log_of_the_policy_signed_it() {
        let of = |seed: u8| {
            let log =
                SigningKey::from_seed(Origin::parse("log.example.com").unwrap(), &[seed; 32]).verifier();
            let text = format!("log {log}\nwitness a {}\nquorum a\n", witness(1).verifier());
            judge(&WitnessPolicy::parse(text.as_bytes()).unwrap(), &[note(2, &[1])])
        };
        assert!(of(7).holds());
        assert_eq!(of(8), Finding::None);
    }

    #[test]
    fn too_few_are_none_and_a_bad_one_spoils_all() {
        let policy = WitnessPolicy::of([1, 2].map(|seed| witness(seed).verifier()), 2);
        assert_eq!(judge(&policy, &[note(2, &[1]), note(3, &[2, 2])]), Finding::None);
        let mut bad = note(2, &[1, 2]);
        bad.extend_from_slice(witness(1).cosign("another text\n", 1).as_bytes());
        assert!(matches!(judge(&policy, &[bad, note(3, &[1, 2])]), Finding::Bad(_)));
    }
}
