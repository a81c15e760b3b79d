//! `[assertion]`.

use std::time::Duration;

use super::super::error::Fault;
use super::super::file;
use super::super::settings::{Assertion, Holds};
use super::super::word::{Field, Said, Spot};
use super::scalar::duration;
use super::{Check, section};

impl Check {
    /// `Some(None)` where there is no key, which no service may then ask for.
    pub(super) fn assertion(
        &mut self,
        words: &Field<file::Assertion>,
        services: &Field<Vec<Said<file::Service>>>,
        root: &Spot,
    ) -> Option<Option<Assertion>> {
        let (words, _) = section(words, root, "assertion")?;
        let key_file = self.maybe_named(&words.key_file, Holds::AssertionKey);
        let dir = self.dir.clone();
        let also_publish = self.list(&words.also_publish, |text| super::scalar::path(text, &dir));
        if also_publish.is_some() {
            for said in words.also_publish.said().map(|said| said.word.as_slice()).unwrap_or_default() {
                self.note(said, Holds::AssertionKey);
            }
        }
        let lifetime = self.value(&words.lifetime, Duration::from_secs(30), |text| {
            let lifetime = duration("1s", "5m")(text)?;
            if lifetime.subsec_nanos() == 0 {
                Ok(lifetime)
            } else {
                Err(Fault::WholeSeconds { found: text.to_owned() })
            }
        });
        let (key_file, also_publish, lifetime) = (key_file?, also_publish?, lifetime?);
        let Some(key_file) = key_file else {
            for service in services.said().map(|said| said.word.as_slice()).unwrap_or_default() {
                if let Some(said) = service.word.assertion.said().filter(|said| said.word) {
                    self.fault(&said.spot, Fault::AssertionWithoutKey);
                }
            }
            return Some(None);
        };
        Some(Some(Assertion { key_file, also_publish, lifetime }))
    }
}
