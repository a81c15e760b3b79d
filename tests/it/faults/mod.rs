//! What can go wrong beneath a gate, and what must hold then: P1, P4 and P7 under faults.
//!
//! | file | what is there |
//! |---|---|
//! | [`table`] | what fails while the gate runs: one table, run against the real binary and against the faulty store |
//! | [`rest`] | what is damaged while it does not: one table |
//! | [`recovery`] | killed at every step of a start |
//! | [`power`] | a file system that is shut down hard; disks that lie |
//! | [`crash`] | the crash loop |
//! | [`load`] | callers of all kinds at once |
//! | [`files`] | a log's directory, kept and put back |
//! | [`ledger`] | what callers were told, held against the log and the upstream |
//!
//! After each row the whole log verifies, every answer's record is where the answer says, nothing reached the upstream
//! without one, every allow is closed once, and what was not recorded was answered 503 or not at all.

mod crash;
mod files;
mod ledger;
mod load;
mod power;
mod recovery;
mod rest;
mod table;

/// Rows are about single records: no bound on what denials may add to the log.
const UNBOUNDED: &str = "[limits]\ndenial_bytes = \"unlimited\"";
