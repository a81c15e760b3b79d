//! A call in canonical form, who makes it, and what was decided.
//!
//! | file | what is there |
//! |---|---|
//! | [`attempt`] | one call as it arrived, read once |
//! | [`framing`] | where one request ends and the next begins |
//! | [`host`], [`path`] | canonical host and path |
//! | [`route`] | which service they lead to |
//! | [`address`] | addresses as text |
//! | [`rate`] | how often something may be asked for |
//! | [`recording`] | how a service's calls are recorded |
//! | [`malformed`] | the ways a request can fail to have one reading |
//! | [`identity`] | who calls, as proved |
//! | [`certificate`] | client certificates: what a service asks, and what one says |
//! | [`decision`] | allow or deny, and why |
//!
//! Invariant: nothing here does I/O, waits, or knows hyper.

pub mod address;
pub mod attempt;
pub mod certificate;
pub mod decision;
pub mod framing;
pub mod host;
pub mod identity;
pub mod malformed;
pub mod path;
pub mod rate;
pub mod recording;
pub mod route;

pub use attempt::{Access, Attempt, Client, Connection, Credential, Refusal};
pub use decision::{Decision, Grounds, Reason, Rule};
pub use identity::{Caller, CredentialFault, Identity, ProofMethod};
pub use malformed::Malformed;
