//! A stored record, read whole: for queries and for people, not for verifying.

use serde_json::{Map, Value};

use super::{Head, RecordError};

/// A stored record: its head, its fields, and the bytes they were read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<'a> {
    head: Head,
    fields: Map<String, Value>,
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a record.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let head = Head::parse(bytes)?;
        if !bytes.iter().all(|b| matches!(b, 0x20..=0x7e)) {
            return Err(RecordError::Json);
        }
        let fields = serde_json::from_slice(bytes).map_err(|_| RecordError::Json)?;
        Ok(Self { head, fields, bytes })
    }

    /// Its place in the log, and its kind.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The stored bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All fields, in the order they were written.
    pub const fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The value at `path`, e.g. `["request", "service"]`.
    pub fn value(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.fields.get(*first)?, |value, key| value.get(key))
    }

    /// The text at `path`, if there is one that was written as it is: `None` for what was cut, committed to, or is not
    /// UTF-8.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        self.value(path)?.as_str()
    }
}
