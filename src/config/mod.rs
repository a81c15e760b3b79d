//! What the operator wrote, and what it means.
//!
//! | file | what is there |
//! |---|---|
//! | [`settings`] | the checked meaning: plain values, units in their docs |
//! | [`error`] | everything that can be wrong, with place, key, and what to write |
//! | [`mod@env`] | settings given as environment variables |
//! | `tree` | the file as values that know their place |
//! | `file` | the operator's words: every key there is |
//! | `word`, `hint` | what a word is, and what may be meant by one not known |
//! | `check` | from words to meaning |
//! | `epoch` | the config epoch |
//!
//! Invariants:
//! 1. A [`Settings`] has passed every check; nobody checks a setting again.
//! 2. All faults of a configuration are reported at once, not only the first.
//! 3. Nothing secret stands in the configuration: secrets are files, and only their paths are here.
//! 4. Nothing here opens a named file. [`Settings::files`] lists them for whoever proves them.

pub mod env;
pub mod error;
pub mod settings;

mod check;
mod epoch;
mod file;
mod hint;
mod tree;
mod word;

pub use env::Environment;
pub use error::{ConfigError, ConfigErrors, Fault, Place};
pub use settings::Settings;
