//! Whose cosignatures are enough: a trust policy as <https://c2sp.org/tlog-policy> writes it.
//!
//! ```text
//! log portcullis.example.com/gate-1+…
//! witness north north.example.com/w+…
//! witness south south.example.com/w+…
//! group both all north south
//! quorum both
//! ```
//!
//! Names are octets. A witness by ML-DSA-44 may stand in a policy, but its cosignatures cannot be checked here, so it
//! counts as one that has not cosigned.

use std::collections::HashSet;

use super::cosignature::{BadCosignature, CosignerKey, CosignerKeyError};
use super::key::{VerifierKey, VkeyError};
use super::note::Note;

/// The most lines that are read.
const LINES_MAX: usize = 10_000;

/// Logs, witnesses, and the rule that says when a checkpoint is cosigned by enough of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessPolicy {
    logs: Vec<VerifierKey>,
    members: Vec<Member>,
    /// A place in `members`; `None` asks for no cosignature at all.
    quorum: Option<usize>,
}

/// A witness, or a group of what stands before it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: Vec<u8>,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// `None` is a witness whose cosignatures cannot be checked.
    Witness(Option<Box<CosignerKey>>),
    /// At least so many of these.
    Group(usize, Vec<usize>),
}

/// What a checkpoint is worth under a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether the quorum is met.
    pub met: bool,
    /// The witnesses that cosigned it, by their names in the policy, each with the time in seconds since 1970.
    pub cosigned: Vec<(String, u64)>,
}

/// What is wrong with a policy, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct PolicyError {
    /// Counted from 1; the line after the last for what is missing.
    pub line: usize,
    /// What is wrong.
    pub fault: PolicyFault,
}

/// What is wrong with a line of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// A control character other than tab and newline.
    #[error("the byte {0:#04x} may not stand in a policy")]
    Byte(u8),
    /// The last line does not end.
    #[error("the line does not end in a newline")]
    NoNewline,
    /// More lines than are read.
    #[error("more than {LINES_MAX} lines")]
    TooLong,
    /// A line that begins with no known word.
    #[error("{0:?} is no keyword; there are log, witness, group, quorum")]
    Keyword(String),
    /// Words are missing, or there are too many.
    #[error("expected: {0}")]
    Shape(&'static str),
    /// A log's key.
    #[error("{0}")]
    LogKey(#[from] VkeyError),
    /// A witness's key.
    #[error("{0}")]
    WitnessKey(#[from] CosignerKeyError),
    /// The same key in two lines.
    #[error("the same public key stands in an earlier line")]
    SameKey,
    /// The same name in two lines.
    #[error("{0:?} is defined by an earlier line, or has a meaning of its own")]
    Defined(String),
    /// A name that no earlier line defines.
    #[error("no earlier line defines {0:?}")]
    Undefined(String),
    /// A member of two groups, or of one group twice.
    #[error("{0:?} is a member already; each may be one once, so that no witness counts twice")]
    MemberTwice(String),
    /// A threshold that is no number from 1 to the number of members.
    #[error("{0:?} is neither any nor all nor a number from 1 to the number of members")]
    Threshold(String),
    /// Two quorums.
    #[error("there is a quorum already")]
    SecondQuorum,
    /// No quorum.
    #[error("there is no quorum line")]
    NoQuorum,
}

impl WitnessPolicy {
    /// Reads a policy file's content.
    ///
    /// # Errors
    /// [`PolicyError`]: the first line that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        let mut reading = Reading::default();
        let mut number = 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            number += 1;
            let at = |fault| PolicyError { line: number, fault };
            if number > LINES_MAX {
                return Err(at(PolicyFault::TooLong));
            }
            let end =
                rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| at(PolicyFault::NoNewline))?;
            let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            rest = after.get(1..).unwrap_or_default();
            reading.line(line).map_err(at)?;
        }
        let quorum = reading.quorum.ok_or(PolicyError { line: number + 1, fault: PolicyFault::NoQuorum })?;
        Ok(Self { logs: reading.logs, members: reading.members, quorum })
    }

    /// A policy of these witnesses, each under its key's name, of which `quorum` are enough; of no particular log.
    pub fn of(witnesses: impl IntoIterator<Item = CosignerKey>, quorum: usize) -> Self {
        let mut members: Vec<Member> = witnesses
            .into_iter()
            .map(|key| Member {
                name: key.name().as_bytes().to_vec(),
                what: What::Witness(Some(Box::new(key))),
            })
            .collect();
        let all = (0..members.len()).collect();
        members.push(Member { name: b"quorum".to_vec(), what: What::Group(quorum, all) });
        Self { logs: Vec::new(), quorum: Some(members.len() - 1), members }
    }

    /// The logs that it trusts; none if that is for its reader to know.
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// Whether the note's text is cosigned by enough. The log's own signature is not looked at here.
    ///
    /// # Errors
    /// [`BadCosignature`], if one of a witness of the policy does not hold.
    pub fn judge(&self, note: &Note<'_>) -> Result<Judgement, BadCosignature> {
        let mut cosigned = Vec::new();
        // By place: members of a group stand before it.
        let mut holds = Vec::with_capacity(self.members.len());
        for member in &self.members {
            holds.push(match &member.what {
                What::Witness(key) => {
                    let time = key.as_ref().map(|key| key.cosigned(note)).transpose()?.flatten();
                    cosigned.extend(time.map(|time| (shown(&member.name), time)));
                    time.is_some()
                }
                What::Group(least, of) => {
                    of.iter().filter(|place| holds.get(**place).copied().unwrap_or(false)).count() >= *least
                }
            });
        }
        let met = self.quorum.is_none_or(|place| holds.get(place).copied().unwrap_or(false));
        Ok(Judgement { met, cosigned })
    }
}

#[derive(Default)]
struct Reading {
    logs: Vec<VerifierKey>,
    members: Vec<Member>,
    listed: HashSet<usize>,
    quorum: Option<Option<usize>>,
}

impl Reading {
    fn line(&mut self, line: &[u8]) -> Result<(), PolicyFault> {
        if let Some(bad) = line.iter().find(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
            return Err(PolicyFault::Byte(*bad));
        }
        let words: Vec<&[u8]> =
            line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()).collect();
        match words.split_first() {
            None => Ok(()),
            Some((first, _)) if first.starts_with(b"#") => Ok(()),
            Some((&b"log", words)) => self.log(words),
            Some((&b"witness", words)) => self.witness(words),
            Some((&b"group", words)) => self.group(words),
            Some((&b"quorum", words)) => self.quorum(words),
            Some((other, _)) => Err(PolicyFault::Keyword(shown(other))),
        }
    }

    fn log(&mut self, words: &[&[u8]]) -> Result<(), PolicyFault> {
        let ([vkey] | [vkey, _]) = words else { return Err(PolicyFault::Shape("log <vkey> [<url>]")) };
        let key = VerifierKey::parse(text(vkey).ok_or(VkeyError::Malformed)?)?;
        if self.logs.iter().any(|log| log.public() == key.public()) {
            return Err(PolicyFault::SameKey);
        }
        self.logs.push(key);
        Ok(())
    }

    fn witness(&mut self, words: &[&[u8]]) -> Result<(), PolicyFault> {
        let ([name, vkey] | [name, vkey, _]) = words else {
            return Err(PolicyFault::Shape("witness <name> <vkey> [<url>]"));
        };
        let key = match CosignerKey::parse(text(vkey).ok_or(CosignerKeyError::Malformed)?) {
            Err(CosignerKeyError::MlDsa44) => None,
            key => Some(Box::new(key?)),
        };
        let same = |member: &Member| match (&member.what, &key) {
            (What::Witness(Some(other)), Some(key)) => other.public() == key.public(),
            _ => false,
        };
        if self.members.iter().any(same) {
            return Err(PolicyFault::SameKey);
        }
        self.define(name, What::Witness(key))
    }

    fn group(&mut self, words: &[&[u8]]) -> Result<(), PolicyFault> {
        let [name, threshold, members @ ..] = words else {
            return Err(PolicyFault::Shape("group <name> any|all|<number> <name>..."));
        };
        if members.is_empty() {
            return Err(PolicyFault::Shape("group <name> any|all|<number> <name>..."));
        }
        let least = match *threshold {
            b"any" => 1,
            b"all" => members.len(),
            number => text(number)
                .and_then(super::decimal)
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| (1..=members.len()).contains(number))
                .ok_or_else(|| PolicyFault::Threshold(shown(number)))?,
        };
        let mut of = Vec::with_capacity(members.len());
        for member in members {
            let place = self.place(member)?;
            if !self.listed.insert(place) {
                return Err(PolicyFault::MemberTwice(shown(member)));
            }
            of.push(place);
        }
        self.define(name, What::Group(least, of))
    }

    fn quorum(&mut self, words: &[&[u8]]) -> Result<(), PolicyFault> {
        let [name] = words else { return Err(PolicyFault::Shape("quorum <name>")) };
        if self.quorum.is_some() {
            return Err(PolicyFault::SecondQuorum);
        }
        self.quorum = Some(if *name == b"none" { None } else { Some(self.place(name)?) });
        Ok(())
    }

    fn place(&self, name: &[u8]) -> Result<usize, PolicyFault> {
        self.members
            .iter()
            .position(|member| member.name == name)
            .ok_or_else(|| PolicyFault::Undefined(shown(name)))
    }

    fn define(&mut self, name: &[u8], what: What) -> Result<(), PolicyFault> {
        if name == b"none" || self.place(name).is_ok() {
            return Err(PolicyFault::Defined(shown(name)));
        }
        self.members.push(Member { name: name.to_vec(), what });
        Ok(())
    }
}

fn text(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok()
}

fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

#[cfg(test)]
mod tests;
