//! Portcullis: an authorizing reverse proxy with a built-in, tamper-evident audit log.
//!
//! The floors of the house, from the ground up; a module may use those on floors below its own (a test holds it
//! to that):
//!
//! | floor | modules | what is there |
//! |---|---|---|
//! | 6 | `main`, [`cli`], [`app`] | commands; settings become a running gate |
//! | 5 | [`server`], [`admin`], [`witness`], [`monitor`] | listeners, TLS, drain, layers; the admin API; a witness of other logs; a monitor of them |
//! | 4 | [`proxy`] | the path of a request: gate, forward, headers, respond |
//! | 3 | [`authn`], [`policy`], [`config`], `audit::{storage, rocks, journal, query}` | who calls; what they may; what the operator wrote; the log on disk |
//! | 2 | `audit::{record, merkle, checkpoint, proof, verify}` | the log's formats and proofs, pure |
//! | 1 | [`access`] | a call in canonical form, pure |
//! | 0 | [`clock`], `audit::hash`, [`net`] | time, SHA-256, connections |

pub mod access;
pub mod admin;
pub mod app;
pub mod audit;
pub mod authn;
pub mod cli;
pub mod clock;
pub mod config;
pub mod monitor;
pub mod net;
pub mod policy;
pub mod proxy;
pub mod server;
pub mod witness;
