//! The mark that a log's origin has been used, kept outside the log.
//!
//! One origin names one log, ever: two logs under one name would be two histories that anyone could be shown one of.
//! A log's directory that is gone must therefore not be made anew in silence; the mark is what remembers that it was.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::storage::LogIdentity;
use crate::clock::Timestamp;

/// The mark of one origin in a state directory.
#[derive(Clone, Debug)]
pub struct Marker(PathBuf);

/// A mark could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// The origin has a log already, or had one.
    #[error(
        "{path} says that origin {origin:?} has been used; an origin names one log, ever: choose another origin"
    )]
    Used {
        /// The mark.
        path: PathBuf,
        /// The origin.
        origin: String,
    },
    /// The mark is there and names another log, or nothing that can be read.
    #[error(
        "{path} is not the mark of this log: it should name origin {origin:?} and its key; the log or the mark was swapped"
    )]
    Other {
        /// The mark.
        path: PathBuf,
        /// The origin.
        origin: String,
    },
    /// The file could not be made or read.
    #[error("{path}: {source}")]
    Io {
        /// The mark.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Marker {
    /// Where the mark of `origin` is, or would be. The name is the origin's, each byte but `[A-Za-z0-9.-]` as `_` and
    /// two hex digits, so that no two origins share one.
    pub fn of(state_dir: &Path, origin: &str) -> Self {
        let mut name = String::with_capacity(origin.len());
        for byte in origin.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') {
                name.push(char::from(byte));
            } else {
                name.push_str(&format!("_{byte:02x}"));
            }
        }
        Self(state_dir.join(format!("{name}.origin")))
    }

    /// Whether the origin has been used.
    pub fn is_set(&self) -> bool {
        // What is there but cannot be read may be a mark.
        self.0.try_exists().unwrap_or(true)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether the mark is there and names this log.
    ///
    /// # Errors
    /// [`MarkerError::Other`] if it names another.
    pub fn names(&self, identity: &LogIdentity) -> Result<bool, MarkerError> {
        let text = match std::fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(MarkerError::Io { path: self.0.clone(), source }),
        };
        let expected = [format!("origin {}", identity.origin), format!("vkey {}", identity.vkey)];
        if text.lines().take(2).eq(expected.iter().map(String::as_str)) {
            return Ok(true);
        }
        Err(MarkerError::Other { path: self.0.clone(), origin: identity.origin.clone() })
    }

    /// Marks the origin as used, durably. Made before the log is, so that no crash leaves a log unmarked.
    ///
    /// # Errors
    /// [`MarkerError::Used`] if it is marked already.
    pub fn set(&self, identity: &LogIdentity, now: Timestamp) -> Result<(), MarkerError> {
        let io = |source| MarkerError::Io { path: self.0.clone(), source };
        let dir = self.0.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let mut file =
            match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.0) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    return Err(MarkerError::Used { path: self.0.clone(), origin: identity.origin.clone() });
                }
                opened => opened.map_err(io)?,
            };
        let text = format!("origin {}\nvkey {}\ncreated {now}\n", identity.origin, identity.vkey);
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_can_be_marked_once() {
        let dir = tempfile::tempdir().unwrap();
        let identity = LogIdentity { origin: "gate.example/1".into(), vkey: "v".into() };
        let marker = Marker::of(&dir.path().join("state"), &identity.origin);
        assert!(!marker.is_set());
        marker.set(&identity, Timestamp::from_micros(0)).unwrap();
        assert!(marker.is_set());
        assert!(marker.names(&identity).unwrap());
        let other = LogIdentity { vkey: "w".into(), ..identity.clone() };
        assert!(matches!(marker.names(&other), Err(MarkerError::Other { .. })));
        assert!(matches!(marker.set(&identity, Timestamp::from_micros(1)), Err(MarkerError::Used { .. })));
        assert!(!Marker::of(&dir.path().join("state"), "gate.example_1").is_set());
    }
}
