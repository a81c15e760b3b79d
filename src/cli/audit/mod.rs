//! `portcullis audit …`: the log from the command line. Nothing here writes to a log that has records.
//!
//! | file | what is there |
//! |---|---|
//! | [`create`] | makes the log of a config |
//! | [`verify`] | proves a log, wherever it lies |
//! | [`mark`] | makes the outside mark of a log that has none yet |
//! | [`list`], [`show`] | records for people and scripts |
//! | [`export`] | all records, for somebody else to verify |
//! | [`prove`], [`check_proof`] | that a record is in the log: proofs made, and checked anywhere |
//! | [`consistency`] | that the log has only grown: the same |
//! | [`bundle`] | some records, with all that it takes to check them elsewhere: made, and checked by `bundled` |
//! | [`policy`] | the text of a policy that was in force |
//! | `kept_policies` | the policies that are kept with a log, held to their epochs |
//! | `filter` | which records are meant |
//! | `cosigned` | which of its checkpoints enough witnesses have cosigned |
//! | `table` | records as rows for people |
//! | `source` | where a log is, and how it is opened |
//! | `evidence` | a log or an export, as a verifier needs it |

pub mod bundle;
mod bundled;
pub mod check_proof;
pub mod consistency;
pub(in crate::cli) mod cosigned;
pub mod create;
mod evidence;
pub mod export;
mod filter;
mod kept_policies;
pub mod list;
pub mod mark;
pub mod policy;
pub mod prove;
pub mod show;
mod source;
mod table;
pub mod verify;

pub(super) use source::settings;

pub(super) const AFTER_HELP: &str = "\
A log may be read while a gate writes to it. No command alters or deletes a record.

Examples:
  portcullis audit verify --config gate/portcullis.toml
  portcullis audit list --config gate/portcullis.toml --subject alice --decision deny
  portcullis audit show 42 --config gate/portcullis.toml
  portcullis audit export --config gate/portcullis.toml --out log.jsonl
  portcullis audit prove 42 --config gate/portcullis.toml > 42.tlog-proof
  portcullis audit bundle --subject alice --from 24h --config gate/portcullis.toml --out case-17
  portcullis audit verify log.jsonl --vkey \"$(cat log.vkey)\"

Exit codes: 0 fine, 1 the log does not hold, 2 wrong use or unreadable input.";
