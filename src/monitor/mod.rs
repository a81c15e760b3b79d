//! A monitor: follows a log from outside, by its checkpoint and tiles (C2SP tlog-tiles), and says when it was forked, set
//! back, or stands still. It takes nobody's word for anything but the log's key.
//!
//! | file | what is there |
//! |---|---|
//! | [`follow`] | one look at the log: [`Follower`] |
//! | [`tree`] | tiles led to the signed root, and the proof of growth from them: pure |
//! | [`records`] | records held against the tree: pure |
//! | [`keys`] | the log's keys, followed from one of them: pure |
//! | [`state`] | what was believed last, and evidence, on disk |
//! | [`fetch`] | the HTTP |
//! | [`fault`], [`report`] | what can be wrong; what came of a look |
//!
//! Invariants:
//! 1. A checkpoint is believed only after it was shown, by hashes led to its own root, to continue the one believed before,
//!    and after it is durable in the state directory.
//! 2. A fork or rollback is durable, with both notes, before it is told; and stands until somebody removes it. While it
//!    stands nothing is believed. If it cannot be written down, it is told all the same, and stands as long as the process does.
//! 3. Only a checkpoint that the log's key has signed is evidence. A tile that does not fit is not.

pub mod fault;
pub mod fetch;
pub mod follow;
pub mod keys;
pub mod records;
pub mod report;
pub mod state;
pub mod tree;

pub use fault::{Fault, KINDS};
pub use fetch::Source;
pub use follow::{Demands, Follower};
pub use report::{Report, Verdict};
pub use state::{State, StateError};
