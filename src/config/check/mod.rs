//! From words to meaning: every check there is. A fault is noted and checking goes on, so that all are told at once.

mod assertion;
mod certificate;
mod issuer;
mod listener;
mod log;
mod scalar;
mod service;
mod witness;

use std::path::{Path, PathBuf};

use super::env::Environment;
use super::error::{ConfigError, ConfigErrors, Fault, Place};
use super::file::File;
use super::settings::{Holds, NamedFile, Settings};
use super::tree::Node;
use super::word::{Field, Said, Spot, Word};

pub(super) fn load(path: &Path, environment: &Environment) -> Result<Settings, ConfigErrors> {
    let text = std::fs::read_to_string(path).map_err(|source| {
        let place = Place::File(path.into());
        ConfigErrors(vec![ConfigError { place, key: String::new(), fault: Fault::Unreadable(source) }])
    })?;
    read(&text, path, environment)
}

pub(super) fn read(text: &str, path: &Path, environment: &Environment) -> Result<Settings, ConfigErrors> {
    let mut root = Node::parse(text, path).map_err(ConfigErrors)?;
    let mut check = Check::new(path.parent().unwrap_or(Path::new("")));
    environment.overlay(&mut root, &mut check.faults);
    let spot = Spot { key: String::new(), place: root.place.clone() };
    let settings = File::read(&root, "", &mut check.faults).and_then(|words| check.file(&words, &spot));
    match settings {
        Some(settings) if check.faults.is_empty() => Ok(settings),
        _ => {
            check.faults.sort_by(|a, b| a.place.cmp(&b.place));
            Err(ConfigErrors(check.faults))
        }
    }
}

/// A check under way: what it has found wrong, and the files it has met.
struct Check {
    faults: Vec<ConfigError>,
    files: Vec<NamedFile>,
    dir: PathBuf,
}

impl Check {
    fn new(dir: &Path) -> Self {
        Self { faults: Vec::new(), files: Vec::new(), dir: dir.to_owned() }
    }

    fn file(&mut self, words: &File, root: &Spot) -> Option<Settings> {
        let server = self.server(&words.server, root);
        let admin = self.admin(&words.admin, root);
        let health = self.health(&words.health, root);
        self.listeners_apart(words);
        self.certificates_fit(words);
        let log = self.log(&words.log, &words.witness, root);
        let policy = self.policy(&words.policy, root);
        let identity = self.identity(&words.identity, root);
        let issuers = self.issuers(&words.issuer, client_certs(words));
        let services = self.services(&words.service, root);
        let assertion = self.assertion(&words.assertion, &words.service, root);
        let limits = self.limits(&words.limits, root);
        let verify = self.verify(&words.verify, root);
        let logging = self.logging(&words.logging, root);
        Some(Settings {
            server: server?,
            admin: admin?,
            health: health?,
            log: log?,
            policy: policy?,
            identity: identity?,
            issuers: issuers?,
            services: services?,
            assertion: assertion?,
            limits: limits?,
            verify: verify?,
            logging: logging?,
            files: std::mem::take(&mut self.files),
            dir: self.dir.clone(),
        })
    }

    fn fault(&mut self, spot: &Spot, fault: Fault) {
        self.faults.push(spot.fault(fault));
    }

    /// Keeps what was read, or notes why it could not be.
    fn keep<U>(&mut self, spot: &Spot, read: Result<U, Fault>) -> Option<U> {
        read.map_err(|fault| self.fault(spot, fault)).ok()
    }

    /// What a key that may be missing means; `Some(None)` if it is.
    fn optional<T: Word, U>(
        &mut self,
        field: &Field<T>,
        read: impl FnOnce(&T::View) -> Result<U, Fault>,
    ) -> Option<Option<U>> {
        match field {
            Field::Absent => Some(None),
            Field::Broken => None,
            Field::Said(said) => self.keep(&said.spot, read(said.word.view())).map(Some),
        }
    }

    /// What a key means that has a default.
    fn value<T: Word, U>(
        &mut self,
        field: &Field<T>,
        default: U,
        read: impl FnOnce(&T::View) -> Result<U, Fault>,
    ) -> Option<U> {
        self.optional(field, read).map(|value| value.unwrap_or(default))
    }

    /// What a key means that must be there.
    fn required<T: Word, U>(
        &mut self,
        field: &Field<T>,
        missing: Missing<'_>,
        read: impl FnOnce(&T::View) -> Result<U, Fault>,
    ) -> Option<U> {
        self.told(field, missing).and_then(|said| self.keep(&said.spot, read(said.word.view())))
    }

    /// The word of a key that must be there.
    fn told<'w, T>(&mut self, field: &'w Field<T>, missing: Missing<'_>) -> Option<&'w Said<T>> {
        if field.is_absent() {
            let spot = missing.table.part(missing.key);
            self.fault(&spot, Fault::Missing { write: missing.write });
        }
        field.said()
    }

    /// What each element means; none may mean the same as another.
    fn texts<U: PartialEq>(
        &mut self,
        items: &[Said<String>],
        read: impl Fn(&str) -> Result<U, Fault>,
    ) -> Option<Vec<U>> {
        let mut out = Vec::with_capacity(items.len());
        for Said { word, spot } in items {
            match read(word) {
                Ok(value) if out.contains(&value) => self.fault(spot, Fault::Twice { value: word.clone() }),
                Ok(value) => out.push(value),
                Err(fault) => self.fault(spot, fault),
            }
        }
        (out.len() == items.len()).then_some(out)
    }

    /// As [`Check::texts`], of a list that may be missing, which is an empty one.
    fn list<U: PartialEq>(
        &mut self,
        field: &Field<Vec<Said<String>>>,
        read: impl Fn(&str) -> Result<U, Fault>,
    ) -> Option<Vec<U>> {
        match field {
            Field::Absent => Some(Vec::new()),
            Field::Broken => None,
            Field::Said(said) => self.texts(&said.word, read),
        }
    }

    /// As [`Check::texts`], of a list that must be there and hold something.
    fn some_texts<U: PartialEq>(
        &mut self,
        field: &Field<Vec<Said<String>>>,
        missing: Missing<'_>,
        read: impl Fn(&str) -> Result<U, Fault>,
    ) -> Option<Vec<U>> {
        let said = self.told(field, missing)?;
        if said.word.is_empty() {
            self.fault(&said.spot, Fault::Empty { write: missing.write });
            return None;
        }
        self.texts(&said.word, read)
    }

    /// A path, relative ones from the config file's directory.
    fn path(&mut self, field: &Field<String>, missing: Missing<'_>) -> Option<PathBuf> {
        let dir = self.dir.clone();
        self.required(field, missing, |text| scalar::path(text, &dir))
    }

    /// A file that must be named.
    fn named(&mut self, field: &Field<String>, missing: Missing<'_>, holds: Holds) -> Option<PathBuf> {
        let said = self.told(field, missing)?;
        self.note(said, holds)
    }

    /// A file that may be named.
    fn maybe_named(&mut self, field: &Field<String>, holds: Holds) -> Option<Option<PathBuf>> {
        match field {
            Field::Absent => Some(None),
            Field::Broken => None,
            Field::Said(said) => self.note(said, holds).map(Some),
        }
    }

    fn note(&mut self, said: &Said<String>, holds: Holds) -> Option<PathBuf> {
        let path = self.keep(&said.spot, scalar::path(&said.word, &self.dir))?;
        let Spot { key, place } = said.spot.clone();
        self.files.push(NamedFile { key, place, path: path.clone(), holds });
        Some(path)
    }
}

/// What stands under `server.client_certs`, if anything does.
fn client_certs(words: &File) -> Option<&Said<super::file::ClientCerts>> {
    words.server.said()?.word.client_certs.said()
}

/// What to say when a key that must be there is not.
#[derive(Clone, Copy)]
struct Missing<'s> {
    table: &'s Spot,
    key: &'static str,
    write: &'static str,
}

impl Spot {
    /// A key of this table, where the table stands.
    fn part(&self, key: &str) -> Self {
        let key = if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) };
        Self { key, place: self.place.clone() }
    }

    /// What to say when `key` is not in this table: write `write`.
    const fn missing(&self, key: &'static str, write: &'static str) -> Missing<'_> {
        Missing { table: self, key, write }
    }
}

/// A table's words and spot; an absent one is empty, and stands where its parent does. `None` if it is broken.
fn section<T: Clone + Default>(field: &Field<T>, parent: &Spot, key: &str) -> Option<(T, Spot)> {
    match field {
        Field::Absent => Some((T::default(), parent.part(key))),
        Field::Broken => None,
        Field::Said(said) => Some((said.word.clone(), said.spot.clone())),
    }
}

#[cfg(test)]
mod tests;
