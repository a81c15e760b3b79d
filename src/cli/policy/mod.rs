//! `portcullis policy …`: what authors of policies do before a gate sees their work. Nothing here asks a running gate.
//!
//! | file | what is there |
//! |---|---|
//! | [`test`] | a table of expected answers, held against a policy |
//! | [`mod@fmt`] | policy files, laid out |
//! | [`enforce`] | one decision, of a gate or of casbin itself |
//! | `source` | where a policy is, and how it is loaded |

pub mod enforce;
pub mod fmt;
mod source;
pub mod test;

pub(super) const AFTER_HELP: &str = "\
A policy is named by the config of a gate, or, where a repository holds policies only, by its own files.

Examples:
  portcullis policy test --config gate/portcullis.toml
  portcullis policy test --model policies/model.conf --policy policies/policy.csv
  portcullis policy fmt --check policies/policy.csv
  portcullis policy enforce user:alice app GET /docs/a --role role:viewer --config gate/portcullis.toml

Exit codes: 0 fine, 1 the thing checked does not hold, 2 wrong use or unreadable input.";
