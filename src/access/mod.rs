//! A call in canonical form, who makes it, and what was decided.
//!
//! | file | what is there |
//! |---|---|
//! | [`malformed`] | the ways a request can fail to have one reading |
//! | [`identity`] | who calls, as proved |
//! | [`decision`] | allow or deny, and why |
//!
//! Invariant: nothing here does I/O, waits, or knows hyper.

pub mod decision;
pub mod identity;
pub mod malformed;

pub use decision::{Decision, Grounds, Reason, Rule};
pub use identity::{Caller, CredentialFault, Identity, ProofMethod};
pub use malformed::Malformed;
