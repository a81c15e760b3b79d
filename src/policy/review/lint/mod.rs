//! What a policy's author hardly meant: findings, each with a code, a place, the row, and what to do.
//!
//! | file | what is looked for |
//! |---|---|
//! | [`rows`] | duplicates, rows that another covers, rows that never decide, rows that are too broad |
//! | [`names`] | services, methods, callers and roles that there are not; cycles |
//! | [`patterns`] | patterns that mean something else than they look like |
//! | [`slips`] | denials that another reading of a path slips past |
//!
//! A finding is allowed by a comment before the row: `# lint: allow shadowed, broad`.

pub mod names;
pub mod patterns;
pub mod rows;
pub mod slips;

use std::collections::{HashMap, HashSet};

use super::cover::Cover;
use super::members::Members;
use super::shape::Shape;
use crate::policy::rows::{self as lines_of, Row};
use crate::policy::{Policy, Text};

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// It may do more, or less, than was meant.
    Warning,
    /// It does not do what it says.
    Error,
}

/// What kind of finding it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is told by `Code::about`")]
pub enum Code {
    AllowNeverCounts,
    Alternation,
    Broad,
    Cycle,
    DenyNeverWins,
    DotIsAny,
    Duplicate,
    EncodedDelimiter,
    LiteralWildcard,
    OneLevel,
    RoleNobodyHas,
    RoleWithoutRows,
    Shadowed,
    SlipsPast,
    StarCrosses,
    StarRepeats,
    TextAfterStar,
    Unanchored,
    UnknownAllow,
    UnknownCaller,
    UnknownMethod,
    UnknownService,
    Unreachable,
}

impl Code {
    /// Every code, with its word, its weight, and what it is about.
    pub const ALL: [(Self, &'static str, Severity, &'static str); 23] = [
        (
            Self::AllowNeverCounts,
            "allow-never-counts",
            Severity::Warning,
            "allow rows where the effect asks for denials only",
        ),
        (Self::Alternation, "alternation", Severity::Warning, "a | whose sides are not both held by ^ and $"),
        (
            Self::Broad,
            "broad",
            Severity::Warning,
            "every path by every method, or every path without a token",
        ),
        (Self::Cycle, "cycle", Severity::Warning, "roles that lead back to themselves"),
        (Self::DenyNeverWins, "deny-never-wins", Severity::Error, "a deny row that denies nothing"),
        (Self::DotIsAny, "dot-is-any", Severity::Warning, "a . that is any character"),
        (Self::Duplicate, "duplicate", Severity::Warning, "the same row again"),
        (
            Self::EncodedDelimiter,
            "encoded-delimiter",
            Severity::Note,
            "a byte like %3A, which is another than : here",
        ),
        (
            Self::LiteralWildcard,
            "literal-wildcard",
            Severity::Warning,
            "what looks like a wildcard and is none",
        ),
        (Self::OneLevel, "one-level", Severity::Note, "a * that ends at the next slash"),
        (
            Self::RoleNobodyHas,
            "role-nobody-has",
            Severity::Warning,
            "a role that no issuer grants and no link gives",
        ),
        (Self::RoleWithoutRows, "role-without-rows", Severity::Warning, "a role that no row is for"),
        (Self::Shadowed, "shadowed", Severity::Warning, "a row that another makes needless"),
        (
            Self::SlipsPast,
            "slips-past",
            Severity::Warning,
            "a narrow deny in a broad allow, by another reading of a path",
        ),
        (Self::StarCrosses, "star-crosses", Severity::Warning, "a * that matches several segments"),
        (Self::StarRepeats, "star-repeats", Severity::Warning, "a * that repeats the character before it"),
        (
            Self::TextAfterStar,
            "text-after-star",
            Severity::Warning,
            "what stands after the first * of keyMatch",
        ),
        (
            Self::Unanchored,
            "unanchored",
            Severity::Warning,
            "a regular expression that matches inside other names",
        ),
        (
            Self::UnknownAllow,
            "unknown-allow",
            Severity::Warning,
            "a lint comment with a word that is no code",
        ),
        (Self::UnknownCaller, "unknown-caller", Severity::Error, "a name that no caller can have"),
        (Self::UnknownMethod, "unknown-method", Severity::Error, "a method that the gate does not forward"),
        (Self::UnknownService, "unknown-service", Severity::Error, "a service that the config does not have"),
        (Self::Unreachable, "unreachable", Severity::Warning, "an allow row that is always overridden"),
    ];

    fn entry(self) -> Option<&'static (Self, &'static str, Severity, &'static str)> {
        Self::ALL.iter().find(|(code, ..)| *code == self)
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        self.entry().map_or("", |(_, word, ..)| word)
    }

    /// How much it weighs.
    pub fn severity(self) -> Severity {
        self.entry().map_or(Severity::Warning, |(_, _, severity, _)| *severity)
    }

    /// Reads what [`Code::as_str`] writes.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, ..)| *known == word).map(|(code, ..)| *code)
    }
}

impl Severity {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something that was hardly meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub code: Code,
    /// The file.
    pub file: String,
    /// The line there, from 1; `None` where it is the file as a whole.
    pub line: Option<u32>,
    /// The row as one line.
    pub row: Option<String>,
    /// What was found.
    pub found: String,
    /// What to do.
    pub advice: String,
    /// The other row that it is about, and where that stands.
    pub other: Option<Row>,
}

/// What is known of the gate that the policy is for.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The config file.
    pub file: String,
    /// Its services, the admin API's among them.
    pub services: Vec<KnownService>,
    /// The roles that issuers may grant, each `role:<name>`.
    pub granted: Vec<String>,
}

/// A service of the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownService {
    /// Its name.
    pub name: String,
    /// Whether `;` passes in its paths.
    pub semicolon: bool,
    /// Whether the gate refuses paths that differ only by letter case from what its policy names.
    pub folds_refused: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order of files and lines.
    pub findings: Vec<Finding>,
    /// How many findings comments allowed.
    pub allowed: usize,
    /// What was not looked for, and why.
    pub skipped: Vec<&'static str>,
}

impl Report {
    /// How many findings weigh this much.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.code.severity() == severity).count()
    }
}

/// Looks at `policy`, which was loaded from `texts`.
pub fn lint(policy: &Policy, texts: &[Text], known: Option<&Known>) -> Report {
    let shape = Shape::of(policy);
    let mut look = Look {
        policy,
        members: Members::of(policy, &shape),
        cover: Cover::of(policy, &shape),
        shape: &shape,
        known,
        report: Report::default(),
    };
    if known.is_none() {
        look.report.skipped.push("unknown services and roles that nobody has: that takes --config");
    }
    if look.cover.is_none() {
        look.report
            .skipped
            .push("shadowed and unreachable rows: the matcher does not fall apart into one condition for each column");
    }
    rows::look(&mut look, texts);
    names::look(&mut look);
    patterns::look(&mut look);
    slips::look(&mut look);
    let mut report = look.report;
    let allowed = Allowed::read(texts, &mut report.findings);
    let before = report.findings.len();
    report.findings.retain(|finding| !allowed.has(finding));
    report.allowed = before - report.findings.len();
    let order: HashMap<&str, usize> =
        texts.iter().enumerate().map(|(at, text)| (text.name.as_str(), at)).collect();
    report.findings.sort_by_key(|finding| {
        let file = order.get(finding.file.as_str()).copied().unwrap_or(usize::MAX);
        (file, finding.line, finding.code)
    });
    report
}

/// What is being looked at, and what was found.
struct Look<'p> {
    policy: &'p Policy,
    shape: &'p Shape,
    members: Members<'p>,
    cover: Option<Cover<'p>>,
    known: Option<&'p Known>,
    report: Report,
}

impl Look<'_> {
    fn find(&mut self, code: Code, row: &Row, found: String, advice: &str) {
        self.find_beside(code, row, None, found, advice);
    }

    fn find_beside(&mut self, code: Code, row: &Row, other: Option<&Row>, found: String, advice: &str) {
        self.report.findings.push(Finding {
            code,
            file: row.file.clone(),
            line: Some(row.line),
            row: Some(row.text()),
            found,
            advice: advice.to_owned(),
            other: other.cloned(),
        });
    }
}

/// What comments allow, by file and line of the row after them.
struct Allowed(HashMap<(String, u32), HashSet<Code>>);

impl Allowed {
    fn read(texts: &[Text], findings: &mut Vec<Finding>) -> Self {
        let mut allowed = HashMap::new();
        for text in texts {
            let mut pending = HashSet::new();
            for (line, content) in lines_of::lines(&text.text) {
                let content = content.trim();
                let comment = content.strip_prefix('#').map(str::trim);
                let words = comment.and_then(|comment| comment.strip_prefix("lint: allow "));
                for word in words.unwrap_or_default().split([',', ' ']).filter(|word| !word.is_empty()) {
                    match Code::parse(word) {
                        Some(code) => {
                            pending.insert(code);
                        }
                        None => findings.push(unknown_word(text, line, word)),
                    }
                }
                if !content.is_empty() && comment.is_none() && !pending.is_empty() {
                    allowed.insert((text.name.clone(), line), std::mem::take(&mut pending));
                }
            }
        }
        Self(allowed)
    }

    fn has(&self, finding: &Finding) -> bool {
        let Some(line) = finding.line else { return false };
        self.0.get(&(finding.file.clone(), line)).is_some_and(|codes| codes.contains(&finding.code))
    }
}

fn unknown_word(text: &Text, line: u32, word: &str) -> Finding {
    Finding {
        code: Code::UnknownAllow,
        file: text.name.clone(),
        line: Some(line),
        row: None,
        found: format!("`{word}` is not the code of a finding"),
        advice: "write codes as findings show them, parted by commas".to_owned(),
        other: None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::policy::review::testing::{policy, text};

    /// The findings of `rows` over the shipped model: code and line.
    pub(crate) fn found(rows: &str) -> Vec<(&'static str, u32)> {
        found_in(&policy(rows), rows, None)
    }

    pub(crate) fn found_in(policy: &Policy, rows: &str, known: Option<&Known>) -> Vec<(&'static str, u32)> {
        lint(policy, &[text("policy.csv", rows)], known)
            .findings
            .iter()
            .map(|finding| (finding.code.as_str(), finding.line.unwrap_or(0)))
            .collect()
    }

    #[test]
    fn a_code_has_one_word_and_words_are_in_order() {
        let words: Vec<&str> = Code::ALL.iter().map(|(_, word, ..)| *word).collect();
        assert!(words.is_sorted_by(|a, b| a < b), "{words:?}");
        assert!(
            Code::ALL
                .iter()
                .all(|(code, word, ..)| code.as_str() == *word && Code::parse(word) == Some(*code))
        );
    }

    #[test]
    fn every_code_stands_in_the_docs() {
        let docs = include_str!("../../../../docs/policy.md");
        for (code, word, severity, about) in Code::ALL {
            let row = format!("| `{word}` | {} | {} |", severity.as_str(), about.replace('|', "&#124;"));
            assert!(docs.contains(&row), "{code:?}: {row}");
        }
    }

    #[test]
    fn a_comment_before_a_row_allows_what_it_names_and_nothing_else() {
        let twice = |comment: &str| {
            format!(
                "p, role:a, app, /a, GET, allow\n{comment}\np, role:a, app, /a, GET, allow\np, role:a, app, /a, GET, allow\n"
            )
        };
        let rest = ("duplicate", 4);
        assert_eq!(found(&twice("# why")), [("duplicate", 3), rest]);
        assert_eq!(found(&twice("# lint: allow duplicate")), [rest]);
        assert_eq!(found(&twice("# lint: allow broad, duplicate")), [rest]);
        assert_eq!(found(&twice("# lint: allow broad")), [("duplicate", 3), rest]);
        assert_eq!(found(&twice("# lint: allow dublicate")), [("unknown-allow", 2), ("duplicate", 3), rest]);
    }

    #[test]
    fn the_shipped_policy_is_clean() {
        let model = text("model.conf", include_str!("../../../../policies/model.conf"));
        let rows = text("policy.csv", include_str!("../../../../policies/policy.csv"));
        let policy =
            Policy::load_text(&model, std::slice::from_ref(&rows), crate::policy::PathForms::default())
                .unwrap();
        let report = lint(&policy, &[rows], None);
        assert_eq!(report.findings, []);
        assert_eq!(report.skipped.len(), 1, "{:?}", report.skipped);
    }
}
