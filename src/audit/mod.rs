//! The audit log.
//!
//! | floor | file | what is there |
//! |---|---|---|
//! | 0 | [`hash`] | SHA-256 as RFC 6962 uses it |
//! | 2 | [`record`] | the bytes of a record: how they are written, how they are read |
//! | 2 | [`merkle`] | the tree over the records |
//! | 2 | [`checkpoint`] | the signed statement of origin, size and root; its keys |
//! | 2 | [`proof`] | proofs as files: of a record, of growth |
//! | 2 | [`bundle`] | some records, with all that it takes to check them elsewhere |
//! | 2 | [`verify`] | reads a log from its first record and names the first that does not hold |
//! | 3 | [`storage`], [`rocks`] | what the log asks of a store; the store in RocksDB |
//! | 3 | [`lent`] | a store that can be called back from all who hold it |
//! | 3 | [`marker`] | the mark, outside the log, that an origin has been used |
//! | 3 | [`mark`] | the log's latest checkpoint, kept outside it |
//! | 3 | [`passes`] | the whole log verified while it is in use, pass after pass |
//! | 3 | [`journal`] | decisions go in, permits and denials come out |
//! | 3 | [`release`] | how far the log is cosigned, and who waits for that |
//! | 3 | [`witnesses`] | those who cosign it, asked |
//! | 3 | [`space`] | room on the log's disk: watched, and held back |
//! | 3 | [`query`] | questions to the log |
//! | 3 | [`tiles`] | the log in tiles; proofs over it |
//!
//! On floor 2, `verify` and `proof` stand on the other three, which know only `hash`; `bundle` stands on all of them. On floor 3, all stand on `storage`.
//!
//! Invariants:
//! 1. Nothing on floor 2 does I/O, waits, reads a clock, or knows hyper or RocksDB.
//! 2. A record's bytes are made once, by [`record::seal`]; what is hashed is what is stored.
//! 3. A [`checkpoint::Checkpoint`] exists only if a trusted key's signature over it was checked.

pub mod bundle;
pub mod checkpoint;
pub mod hash;
pub mod journal;
pub mod lent;
pub mod mark;
pub mod marker;
pub mod merkle;

pub mod passes;
pub mod proof;
pub mod query;
pub mod record;
pub mod release;
pub mod rocks;
pub mod space;
pub mod storage;
#[cfg(test)]
mod testing;
pub mod tiles;
pub mod verify;
pub mod witnesses;
