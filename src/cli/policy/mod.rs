//! `portcullis policy …`: what authors of policies do before a gate sees their work. Nothing here asks a running gate.
//!
//! | file | what is there |
//! |---|---|
//! | [`test`](mod@test) | a table of expected answers, held against a policy |
//! | [`explain`] | one decision, with all its reasons |
//! | [`mod@fmt`] | policy files, laid out |
//! | [`enforce`] | one decision, of a gate or of casbin itself |
//! | [`lint`] | what a policy's author hardly meant |
//! | [`who_can`], [`what_can`] | reviews of access |
//! | [`diff`] | what a change changes |
//! | `review` | what the reviews have in common |
//! | `source` | where a policy is, and how it is loaded |

pub mod diff;
pub mod enforce;
pub mod explain;
pub mod fmt;
pub mod lint;
mod review;
mod source;
pub mod test;
pub mod what_can;
pub mod who_can;

pub(super) const AFTER_HELP: &str = "\
A policy is named by the config of a gate, or, where a repository holds policies only, by its own files.

Examples:
  portcullis policy test --config gate/portcullis.toml
  portcullis policy test --model policies/model.conf --policy policies/policy.csv
  portcullis policy explain app GET /docs/a --user user:alice --role role:viewer --config gate/portcullis.toml
  portcullis policy lint --config gate/portcullis.toml
  portcullis policy fmt --check policies/policy.csv
  portcullis policy diff policies.old policies
  portcullis policy who-can DELETE app /admin/users/7 --config gate/portcullis.toml
  portcullis policy what-can user:dana --config gate/portcullis.toml
  portcullis policy enforce user:alice app GET /docs/a --role role:viewer --config gate/portcullis.toml

Exit codes: 0 fine, 1 the thing checked does not hold, 2 wrong use or unreadable input.";
