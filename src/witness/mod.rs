//! A witness: cosigns the checkpoints of logs it knows, each only if it continues what it has cosigned before
//! (<https://c2sp.org/tlog-witness>). It runs on a machine that the logs' operators do not have.
//!
//! | file | what is there |
//! |---|---|
//! | [`ledger`] | what was cosigned last, of each log, on disk |
//! | [`judge`] | one checkpoint judged and cosigned: [`Witness`] |
//! | [`serve`] | the HTTP around it |
//!
//! Invariants:
//! 1. No cosignature leaves before its checkpoint is durable in the ledger.
//! 2. Holding a checkpoint against the ledger and writing it there happen under one lock of the log's, and one process
//!    has a ledger; so of two checkpoints that continue the same one, one is refused, unless one continues the other.
//! 3. After a failed write nothing of that log is cosigned until a restart has read what is there.

pub mod judge;
pub mod ledger;
pub mod serve;

pub use judge::{Answer, Witness};
pub use ledger::{Ledger, LedgerError};
