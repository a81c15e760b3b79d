//! A bundle, checked where it lies, by nothing but its files and a key.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::cosigned::{self, Finding};
use crate::audit::bundle::{BundleFault, Checker, Report};
use crate::audit::checkpoint::{VerifierKey, WitnessPolicy};
use crate::audit::hash::Hash;
use crate::cli::Outcome;
use crate::cli::out::{Paint, count, grouped, printable};

/// Whether there is a bundle at `path`, rather than an export.
pub(super) fn is_at(path: &Path) -> bool {
    path.is_dir()
}

/// Checks the bundle in `dir`, and tells what was found.
///
/// # Errors
/// If a file of it or the policy cannot be read.
pub(super) fn run(dir: &Path, key: &VerifierKey, policy: Option<&Path>, in_json: bool) -> Result<Outcome> {
    let policy = policy.map(|path| cosigned::read_policy(path, key)).transpose()?;
    let files = Files::of(dir)?;
    let checked = match &files {
        Ok(files) => check(files, key)?,
        Err(why) => Err(why.clone()),
    };
    let witnessed = match (&files, &checked, policy) {
        (Ok(files), Ok(report), Some(policy)) => Some(files.judge(&policy)?.covering(last(report))),
        _ => None,
    };
    if in_json {
        tell_json(&checked, key, witnessed.as_ref())
    } else {
        tell(&checked, key, witnessed.as_ref())
    }?;
    let holds = checked.is_ok() && witnessed.as_ref().is_none_or(Finding::holds);
    Ok(if holds { Outcome::Fine } else { Outcome::DoesNotHold })
}

/// What is not as it must be, for people.
type Checked = Result<Report, String>;

fn check(files: &Files, key: &VerifierKey) -> Result<Checked> {
    let told = |fault: BundleFault| fault.to_string();
    let (manifest, note) = match (files.top("manifest.json")?, files.top("checkpoint")?) {
        (Some(manifest), Some(note)) => (manifest, note),
        (None, _) => return Ok(Err("manifest.json is missing".to_owned())),
        (_, None) => return Ok(Err("checkpoint is missing".to_owned())),
    };
    let mut checker = match Checker::begin(&manifest, &note, key.clone()) {
        Ok(checker) => checker,
        Err(fault) => return Ok(Err(told(fault))),
    };
    for index in &files.keys {
        let (record, proof) = files.pair("keys", (index, ".json"), ".tlog-proof")?;
        if let Err(fault) = checker.key(*index, &record, &proof) {
            return Ok(Err(told(fault)));
        }
    }
    if let Err(fault) = checker.open() {
        return Ok(Err(told(fault)));
    }
    for index in &files.records {
        let (record, proof) = files.pair("records", (index, ".json"), ".tlog-proof")?;
        if let Err(fault) = checker.record(*index, &record, &proof) {
            return Ok(Err(told(fault)));
        }
    }
    for size in &files.checkpoints {
        let (note, growth) = files.pair("checkpoints", (size, ""), ".growth.json")?;
        if let Err(fault) = checker.kept(*size, &note, &growth) {
            return Ok(Err(told(fault)));
        }
    }
    for epoch in &files.policies {
        let path = files.dir.join("policies").join(epoch);
        let text = File::open(&path).and_then(Hash::of_all).with_context(|| path.display().to_string())?;
        if let Err(fault) = checker.policy(epoch, text) {
            return Ok(Err(told(fault)));
        }
    }
    Ok(checker.finish().map_err(told))
}

/// The last record of a bundle that holds.
fn last(report: &Report) -> u64 {
    report.manifest.records.last().copied().unwrap_or_default()
}

/// A bundle's files by what they are; any other file is a fault.
struct Files {
    dir: PathBuf,
    top: BTreeSet<String>,
    records: BTreeSet<u64>,
    keys: BTreeSet<u64>,
    checkpoints: BTreeSet<u64>,
    policies: BTreeSet<String>,
}

impl Files {
    /// Lists them; what does not belong there is the inner error.
    fn of(dir: &Path) -> Result<Result<Self, String>> {
        let mut files = Self {
            dir: dir.to_owned(),
            top: BTreeSet::new(),
            records: BTreeSet::new(),
            keys: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            policies: BTreeSet::new(),
        };
        for (name, is_dir) in list(dir)? {
            let belongs = match (&*name, is_dir) {
                ("README.md" | "manifest.json" | "checkpoint", Some(false)) => files.top.insert(name.clone()),
                ("records" | "keys" | "checkpoints" | "policies", Some(true)) => true,
                _ => false,
            };
            if !belongs {
                return Ok(Err(format!("{}: no file of a bundle", printable(&name))));
            }
        }
        for (sub, endings) in [
            ("records", [".json", ".tlog-proof"]),
            ("keys", [".json", ".tlog-proof"]),
            ("checkpoints", ["", ".growth.json"]),
        ] {
            match files.numbered(sub, endings)? {
                Ok(numbers) => match sub {
                    "records" => files.records = numbers,
                    "keys" => files.keys = numbers,
                    _ => files.checkpoints = numbers,
                },
                Err(why) => return Ok(Err(why)),
            }
        }
        for (name, is_dir) in list_if_there(&dir.join("policies"))? {
            let is_epoch =
                name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if !is_epoch || is_dir != Some(false) {
                return Ok(Err(format!("policies/{}: no file of a bundle", printable(&name))));
            }
            files.policies.insert(name);
        }
        Ok(Ok(files))
    }

    /// The numbers by which the files in `sub` come in pairs.
    fn numbered(&self, sub: &str, [one, other]: [&str; 2]) -> Result<Result<BTreeSet<u64>, String>> {
        let (mut ones, mut others) = (BTreeSet::new(), BTreeSet::new());
        for (name, is_dir) in list_if_there(&self.dir.join(sub))? {
            // The longer ending first: the other may be none at all.
            let number = match name.strip_suffix(other) {
                Some(stem) => number(stem).map(|number| others.insert(number)),
                None => name.strip_suffix(one).and_then(number).map(|number| ones.insert(number)),
            };
            if number.is_none() || is_dir != Some(false) {
                return Ok(Err(format!("{sub}/{}: no file of a bundle", printable(&name))));
            }
        }
        if let Some(alone) = ones.symmetric_difference(&others).next() {
            let lacks = if ones.contains(alone) { other } else { one };
            return Ok(Err(format!("{sub}/{alone}{lacks} is missing")));
        }
        Ok(Ok(ones))
    }

    /// The kept checkpoints and the one that all lead to, as far as the policy's quorum has cosigned them: another quorum than the
    /// log's may have cosigned only an earlier one.
    fn judge(&self, policy: &WitnessPolicy) -> Result<Finding> {
        let kept = self.checkpoints.iter().map(|size| self.dir.join("checkpoints").join(size.to_string()));
        let notes = kept.chain([self.dir.join("checkpoint")]).map(|path| read(&path, LONGEST));
        Ok(cosigned::judge(policy, &notes.collect::<Result<Vec<_>>>()?))
    }

    fn top(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.top.contains(name).then(|| read(&self.dir.join(name), LONGEST)).transpose()
    }

    fn pair(&self, sub: &str, (number, ending): (&u64, &str), other: &str) -> Result<(Vec<u8>, Vec<u8>)> {
        let file = |ending: &str| read(&self.dir.join(sub).join(format!("{number}{ending}")), LONGEST);
        Ok((file(ending)?, file(other)?))
    }
}

/// A number as it is written once only.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// The names in a directory, and whether each is a directory or a plain file; `None` for anything else, such as a link.
fn list(dir: &Path) -> Result<Vec<(String, Option<bool>)>> {
    let unreadable = || format!("{} cannot be read", dir.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let kind = entry.file_type().with_context(unreadable)?;
        let is_dir = if kind.is_dir() { Some(true) } else { kind.is_file().then_some(false) };
        names.push((entry.file_name().to_string_lossy().into_owned(), is_dir));
    }
    names.sort();
    Ok(names)
}

fn list_if_there(dir: &Path) -> Result<Vec<(String, Option<bool>)>> {
    if dir.exists() { list(dir) } else { Ok(Vec::new()) }
}

fn read(path: &Path, longest: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.take(longest + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    if bytes.len() as u64 > longest {
        bail!("{} is longer than {} bytes, which no such file is", path.display(), grouped(longest));
    }
    Ok(bytes)
}

fn tell(checked: &Checked, key: &VerifierKey, witnessed: Option<&Finding>) -> Result<()> {
    let paint = Paint::of_stdout();
    let mut out = std::io::stdout().lock();
    let report = match checked {
        Ok(report) => report,
        Err(why) => {
            writeln!(out, "{} {}", paint.bad("the bundle does not hold:"), key.name())?;
            return Ok(writeln!(out, "  {}", printable(why))?);
        }
    };
    let Report { manifest, keys, checkpoint, checkpoints, policies } = report;
    writeln!(out, "{} {}", paint.good("the bundle holds:"), key.name())?;
    let first = manifest.records.first().copied().unwrap_or_default();
    let records = manifest.records.len() as u64;
    writeln!(
        out,
        "  {} from {} to {}, each in the log",
        count(records, "record"),
        grouped(first),
        grouped(last(report))
    )?;
    let complete = "none between them is missing";
    writeln!(
        out,
        "  {}",
        if manifest.complete {
            complete
        } else {
            "others between them are not here, and may have been left out"
        }
    )?;
    writeln!(out, "  under the checkpoint of {}", count(checkpoint.size(), "record"))?;
    writeln!(out, "  {} led to it", count(*checkpoints, "kept checkpoint"))?;
    writeln!(out, "  {} as they name them", count(*policies, "policy text"))?;
    for epoch in &manifest.policies_missing {
        let epoch = printable(epoch);
        writeln!(out, "  no text of policy {epoch} is here; manifest.json says that the log had none")?;
    }
    if let Some(found) = witnessed {
        let told = found.tell(last(report) + 1);
        writeln!(out, "  {}", if found.holds() { told } else { paint.bad(&told) })?;
    }
    writeln!(out, "  key {key}")?;
    for (index, key) in keys.rotations() {
        writeln!(out, "  from record {index} on {key}, signed by both keys")?;
    }
    Ok(writeln!(out, "  root {}", STANDARD.encode(checkpoint.root().0))?)
}

fn tell_json(checked: &Checked, key: &VerifierKey, witnessed: Option<&Finding>) -> Result<()> {
    let mut answer = match checked {
        Ok(report) => json!({
            "holds": true,
            "origin": key.name(),
            "records": report.manifest.records,
            "complete": report.manifest.complete,
            "size": report.checkpoint.size(),
            "root": STANDARD.encode(report.checkpoint.root().0),
            "checkpoints": report.checkpoints,
            "policies": report.policies,
            "policies_missing": report.manifest.policies_missing,
        }),
        Err(why) => json!({ "holds": false, "origin": key.name(), "fault": why }),
    };
    if let (Some(found), Some(answer)) = (witnessed, answer.as_object_mut()) {
        answer.insert("cosigned".into(), found.json());
    }
    Ok(writeln!(std::io::stdout(), "{answer}")?)
}

/// The longest file of a bundle but a policy, bytes: a manifest of a million records.
const LONGEST: u64 = 16 << 20;
