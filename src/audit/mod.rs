//! The audit log.
//!
//! | floor | file | what is there |
//! |---|---|---|
//! | 0 | [`hash`] | SHA-256 as RFC 6962 uses it |

pub mod hash;
