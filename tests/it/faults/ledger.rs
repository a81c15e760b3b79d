//! What callers were told, held against the log and against what reached the upstream.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::{Site, Upstream, log};

/// One call, and its answer.
#[derive(Clone, Debug)]
pub struct Told {
    /// Unlike any other call's.
    pub path: String,
    pub status: u16,
    /// The index that the answer quotes.
    pub record: Option<u64>,
}

/// What is wrong between the two ledgers and the log. Nothing ever may be.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Answers and arrivals whose record is not there, answers that no record stands behind, allows without outcome.
    pub lost: Vec<String>,
    /// Calls decided twice, forwarded twice, or closed twice.
    pub duplicated: Vec<String>,
    /// What `audit verify` says against the log.
    pub unverifiable: Vec<String>,
    /// Records in the log.
    pub records: u64,
}

/// Whether allows may still be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The gate crashed.
    NotYet,
    /// It has been started and stopped since.
    All,
}

impl Findings {
    pub fn none(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty() && self.unverifiable.is_empty()
    }

    /// # Panics
    /// If there are any.
    pub fn assert_none(&self, of: &str) {
        assert!(self.none(), "{of}: {self:#?}");
    }
}

/// Holds the log of a site whose gate is down against both ledgers.
pub fn judge(site: &Site, told: &[Told], upstream: &Upstream, closed: Closed) -> Findings {
    let mut findings = Findings { unverifiable: unverifiable(site), ..Findings::default() };
    if !findings.unverifiable.is_empty() {
        return findings;
    }
    let records = site.records();
    findings.records = records.len() as u64;
    let mut decided: BTreeMap<&str, &Value> = BTreeMap::new();
    for record in records.iter().filter(|record| record["kind"] == "decision") {
        let Some(path) = path_of(record) else { continue };
        if decided.insert(path, record).is_some() {
            findings.duplicated.push(format!("{path} is decided twice"));
        }
    }
    findings.answers(told, &records);
    findings.arrivals(upstream, &decided);
    findings.outcomes(&records, closed);
    findings
}

/// The decision on a path, if the log has one.
pub fn decision<'a>(records: &'a [Value], path: &str) -> Option<&'a Value> {
    records.iter().find(|record| record["kind"] == "decision" && path_of(record) == Some(path))
}

impl Findings {
    fn answers(&mut self, told: &[Told], records: &[Value]) {
        for Told { path, status, record } in told {
            let Some(index) = record else {
                // 503 is all that may be said without a record.
                if *status != 503 {
                    self.lost.push(format!("{path} was answered {status} and not recorded"));
                }
                continue;
            };
            let found = usize::try_from(*index).ok().and_then(|index| records.get(index));
            // 5xx may be either: an issuer without keys, a service that is not there.
            let fits = |found: &Value| match status {
                200 => found["decision"] == "allow",
                400..=499 => found["decision"] == "deny",
                _ => true,
            };
            if found.is_none_or(|found| path_of(found) != Some(path) || !fits(found)) {
                self.lost.push(format!("{path} was answered {status} as record {index}, which is {found:?}"));
            }
        }
    }

    fn arrivals(&mut self, upstream: &Upstream, decided: &BTreeMap<&str, &Value>) {
        let mut arrived = BTreeSet::new();
        for seen in upstream.seen() {
            if decided.get(seen.target.as_str()).is_none_or(|record| record["decision"] != "allow") {
                self.lost.push(format!("{} reached the upstream without a record", seen.target));
            }
            if !arrived.insert(seen.target.clone()) {
                self.duplicated.push(format!("{} reached the upstream twice", seen.target));
            }
        }
    }

    fn outcomes(&mut self, records: &[Value], closed: Closed) {
        let mut outcomes = BTreeSet::new();
        for record in records.iter().filter(|record| record["kind"] == "outcome") {
            if !outcomes.insert(record["decision_index"].as_u64()) {
                self.duplicated.push(format!("a second outcome: {record}"));
            }
        }
        let allows = records.iter().filter(|record| record["decision"] == "allow");
        for allow in allows.filter(|_| closed == Closed::All) {
            if !outcomes.contains(&allow["index"].as_u64()) {
                self.lost.push(format!("an allow was never closed: {allow}"));
            }
        }
    }
}

/// What a call asked for, as its record has it; a malformed one's as it was sent.
fn path_of(record: &Value) -> Option<&str> {
    let request = &record["request"];
    request["path"].as_str().or_else(|| request["target"].as_str())
}

/// Verifies by the command and by the library.
fn unverifiable(site: &Site) -> Vec<String> {
    let log = site.log_dir().to_str().unwrap().to_owned();
    let output = site.command(&["audit", "verify", "--log", &log, "--vkey", &site.vkey]);
    let mut faults = Vec::new();
    if !output.status.success() {
        faults.push(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    faults.extend(log::verify(&site.log_dir(), &site.vkey).err().map(|fault| fault.to_string()));
    faults
}
