//! What a policy amounts to, looked at from outside: who may do what, what a change changes, and what its author
//! hardly meant.
//!
//! | file | what is there |
//! |---|---|
//! | [`lint`] | findings, each with a row, a place and what to do |
//! | [`access`] | who may do this, and what may this one do |
//! | [`diff`] | what two policies answer differently |
//! | [`witness`] | paths to ask about, made from patterns |
//! | [`shape`] | which column says who, where, which path and which method |
//! | [`language`] | what a path pattern matches, and whether another matches all of that |
//! | [`cover`] | whether a row matches all that another matches |
//! | [`members`] | which rows a caller can match, and by which roles |
//!
//! Invariants:
//! 1. Every answer told is one that [`Policy::decide`](super::Policy::decide) gave. What is read off patterns decides
//!    only what is asked, and which rows are told of as suspicious.
//! 2. What a bound left out is counted and said.
//! 3. Nothing here reads files or knows the config.

pub mod access;
pub mod cover;
pub mod diff;
pub mod language;
pub mod lint;
pub mod members;
pub mod shape;
pub mod witness;

/// The methods that the gate forwards (RFC 9110 §9.3, RFC 5789).
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

#[cfg(test)]
mod testing;
