//! Witnesses are asked to cosign the log's checkpoints (<https://c2sp.org/tlog-witness>), and what they answer is
//! checked, kept and told.
//!
//! | file | what is there |
//! |---|---|
//! | [`post`] | one request to a witness, over a connection that is kept |
//! | [`ask`] | one checkpoint brought to one witness: from which size, and what to think of its answers |
//! | [`follow`] | the latest checkpoint brought to all of them, until enough have cosigned it |
//!
//! Invariants:
//! 1. Nothing counts as cosigned unless the cosignatures of a quorum hold over a checkpoint that this log's key signed.
//! 2. Nothing a witness says makes the log sign, or counts for more than that witness.
//! 3. The log's writer waits for none of this.

pub mod ask;
pub mod follow;
pub mod post;

pub use ask::Failure;
pub use follow::{Following, Setup, Witnessed};
pub use post::Peer;
