//! `[log]`, `[policy]`, `[verify]` and `[logging]`.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::super::error::Fault;
use super::super::file;
use super::super::settings::{
    Disk, Durability, Format, Holds, Level, Log, Logging, OnMismatch, Policy, Verify,
};
use super::super::word::{Field, Said, Spot};
use super::scalar::{authority, choice, duration, number, size};
use super::{Check, section};

impl Check {
    pub(super) fn log(
        &mut self,
        words: &Field<file::Log>,
        witnesses: &Field<Vec<Said<file::Witness>>>,
        root: &Spot,
    ) -> Option<Log> {
        let (words, spot) = section(words, root, "log")?;
        let dir = self.path(&words.dir, spot.missing("dir", "dir = \"../data/log\""));
        let state_dir =
            self.path(&words.state_dir, spot.missing("state_dir", "state_dir = \"../data/state\""));
        if let (Some(dir), Some(state), Some(said)) = (&dir, &state_dir, words.state_dir.said()) {
            self.apart(dir, state, &said.spot, words.dir.said().map(|said| &said.spot));
        }
        let origin = self.required(
            &words.origin,
            spot.missing("origin", "origin = \"portcullis.example.com/gate-1\""),
            origin,
        );
        let key_file = self.named(
            &words.key_file,
            spot.missing("key_file", "key_file = \"../data/keys/log.pem\""),
            Holds::SigningKey,
        );
        let retiring_key_file = self.maybe_named(&words.retiring_key_file, Holds::SigningKey);
        let week = Duration::from_secs(7 * 86_400);
        let key_overlap = self.value(&words.key_overlap, week, duration("0s", "365d"));
        let durability = self.value(&words.durability, Durability::Fsync, |text| {
            choice(text, &[("fsync", Durability::Fsync), ("os", Durability::Os)])
        });
        let timeout = self.value(&words.timeout, Duration::from_secs(5), duration("10ms", "1m"));
        let queue = self.value(&words.queue, 4096, number(1, 1_000_000));
        let (memory, _) = section(&words.memory, &spot, "memory")?;
        let write_buffer = self.value(&memory.write_buffer, 64 << 20, size("4MiB", "16GiB"));
        let block_cache = self.value(&memory.block_cache, 32 << 20, size("1MiB", "64GiB"));
        let mark_file = self.mark_file(&words.mark_file, dir.as_deref());
        let disk = self.disk(&words.disk, &spot);
        let witnessing = self.witnessing(&words.witnesses, witnesses, &spot);
        Some(Log {
            dir: dir?,
            state_dir: state_dir?,
            origin: origin?,
            key_file: key_file?,
            retiring_key_file: retiring_key_file?,
            key_overlap: key_overlap?,
            durability: durability?,
            timeout: timeout?,
            queue: queue?,
            write_buffer: write_buffer?,
            block_cache: block_cache?,
            mark_file: mark_file?,
            disk: disk?,
            witnessing: witnessing?,
        })
    }

    /// The mark must outlive the log's directory.
    fn mark_file(&mut self, words: &Field<String>, log: Option<&Path>) -> Option<Option<PathBuf>> {
        let dir = self.dir.clone();
        let mark = self.optional(words, |text| super::scalar::path(text, &dir))?;
        if let (Some(mark), Some(log), Some(said)) = (&mark, log, words.said())
            && plain(mark).starts_with(plain(log))
        {
            self.fault(&said.spot, Fault::MarkWithinLog);
        }
        Some(mark)
    }

    fn disk(&mut self, words: &Field<file::Disk>, log: &Spot) -> Option<Disk> {
        let (words, spot) = section(words, log, "disk")?;
        let low = self.value(&words.low, 1 << 30, size("0B", "1024GiB"));
        let reserve = self.value(&words.reserve, 64 << 20, size("0B", "64GiB"));
        let (low, reserve) = (low?, reserve?);
        if low < reserve {
            let said = words.low.said().or(words.reserve.said());
            self.fault(said.map_or(&spot, |said| &said.spot), Fault::LowBelowReserve { low, reserve });
        }
        Some(Disk { low, reserve })
    }

    /// Neither of the two directories may lie in the other.
    fn apart(&mut self, dir: &Path, state: &Path, state_spot: &Spot, dir_spot: Option<&Spot>) {
        let (dir, state) = (plain(dir), plain(state));
        if state.starts_with(&dir) {
            self.fault(state_spot, Fault::StateWithinLog);
        } else if let Some(spot) = dir_spot.filter(|_| dir.starts_with(&state)) {
            self.fault(spot, Fault::LogWithinState);
        }
    }

    pub(super) fn policy(&mut self, words: &Field<file::Policy>, root: &Spot) -> Option<Policy> {
        let (words, spot) = section(words, root, "policy")?;
        let model = self.named(
            &words.model,
            spot.missing("model", "model = \"../policies/model.conf\""),
            Holds::Model,
        );
        let dir = self.dir.clone();
        let files = self.some_texts(
            &words.files,
            spot.missing("files", "files = [\"../policies/policy.csv\"]"),
            |text| super::scalar::path(text, &dir),
        );
        if files.is_some() {
            for said in words.files.said().map(|said| said.word.as_slice()).unwrap_or_default() {
                self.note(said, Holds::Policy);
            }
        }
        let watch = self.value(&words.watch, true, |watch| Ok(*watch));
        let timeout = self.value(&words.timeout, Duration::from_millis(50), duration("1ms", "10s"));
        Some(Policy { model: model?, files: files?, watch: watch?, timeout: timeout? })
    }

    pub(super) fn verify(&mut self, words: &Field<file::Verify>, root: &Spot) -> Option<Verify> {
        let (words, _) = section(words, root, "verify")?;
        let enabled = self.value(&words.enabled, true, |enabled| Ok(*enabled));
        let pause = self.value(&words.pause, Duration::from_secs(3600), duration("1s", "30d"));
        let rate = self.value(&words.rate, 5_000, number(1, 10_000_000));
        let on_mismatch = self.value(&words.on_mismatch, OnMismatch::Alert, |text| {
            choice(text, &[("alert", OnMismatch::Alert), ("stop", OnMismatch::Stop)])
        });
        Some(Verify { enabled: enabled?, pause: pause?, rate: rate?, on_mismatch: on_mismatch? })
    }

    pub(super) fn logging(&mut self, words: &Field<file::Logging>, root: &Spot) -> Option<Logging> {
        let (words, _) = section(words, root, "logging")?;
        let level = self.value(&words.level, Level::Info, |text| {
            use Level as L;
            let all = [L::Off, L::Error, L::Warn, L::Info, L::Debug, L::Trace];
            choice(text, &all.map(|level| (level.as_str(), level)))
        });
        let format = self.value(&words.format, Format::Text, |text| {
            choice(text, &[("text", Format::Text), ("json", Format::Json)])
        });
        Some(Logging { level: level?, format: format? })
    }
}

/// A log's name: a C2SP signed-note key name (non-empty, no space, no plus), and as that asks, a URL without scheme.
fn origin(text: &str) -> Result<String, Fault> {
    let found = || text.to_owned();
    if text.is_empty() {
        return Err(Fault::Empty { write: "a name like \"portcullis.example.com/gate-1\"" });
    }
    if text.contains("://") {
        return Err(Fault::OriginScheme { found: found() });
    }
    // It also stands in a header and in records, so it is kept to what needs no escape anywhere.
    if let Some(bad) =
        text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '+' | '"' | '\\' | '?' | '#' | '%'))
    {
        return Err(Fault::OriginCharacter { found: found(), bad });
    }
    if text.len() > 255 {
        return Err(Fault::OriginLength { len: text.len() });
    }
    let (host, path) = text.split_once('/').unwrap_or((text, "x"));
    if authority(host, true).is_none() {
        return Err(Fault::OriginHost { found: found() });
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Fault::OriginPath { found: found() });
    }
    Ok(found())
}

/// A path with `.` and `..` taken out as text, to compare two.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            Component::CurDir => {}
            Component::ParentDir | Component::Normal(_) | Component::RootDir | Component::Prefix(_) => {
                out.push(part)
            }
        }
    }
    out
}
