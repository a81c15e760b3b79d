//! Listeners, threads, connections.
//!
//! | file | what is there |
//! |---|---|
//! | [`listen`] | sockets, and the acceptor that deals connections to workers |
//! | [`worker`] | one thread and one runtime per core |
//! | [`connection`] | TLS and HTTP on one connection |
//! | [`filter`] | only bytes that have one reading get to hyper |
//! | [`resets`] | what the HTTP/2 library refuses by itself |
//! | [`flood`] | HTTP/2 frames that bring no call further |
//! | [`pace`] | how long a connection may keep the gate waiting |
//! | [`linger`] | the end of a connection whose peer is still sending |
//! | [`stream`] | how long an HTTP/2 stream may take nothing of its answer |
//! | [`layers`] | what stands around the path of a request, in one list |
//! | [`health`] | `/livez`, `/readyz`, `/metrics` |
//! | [`faults`] | what went wrong before there was a request, in sums |
//! | [`drain`] | going down in order |

pub mod connection;
pub mod drain;
pub mod faults;
pub mod filter;
pub mod flood;
pub mod health;
pub mod layers;
pub mod linger;
pub mod listen;
pub mod pace;
pub mod resets;
pub mod stream;
pub mod worker;
