//! The integration tests: one binary, so that RocksDB is linked once. Each promise has a file named after it.

// Clippy exempts tests from these by itself, but not what tests stand on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(unreachable_pub)]

mod support;

mod abuse;
mod admin;
mod assertion;
mod background_verification;
mod backpressure;
mod bundles;
mod cancelled;
mod cli;
mod deploy;
mod disk;
mod early_answers;
mod faults;
mod forwarding;
mod greedy;
mod hostile;
mod house;
mod jwt;
mod key_rotation;
mod listener;
mod monitor;
mod mtls;
mod noise;
mod open_allows;
mod outside_mark;
mod p1_no_record_no_pass;
mod p2_what_was_decided_is_forwarded;
mod p3_default_deny;
mod p4_tampering_shows;
mod p5_nobody_edits_history;
mod p6_watching_the_log_is_on_the_log;
mod p7_nothing_acknowledged_is_lost;
mod panics;
mod policy_reviews;
mod policy_tools;
mod privileges;
mod proofs;
mod properties;
mod rates;
mod readme;
mod reload;
mod tiles;
mod upgrade;
mod verifiers;
mod witness;
