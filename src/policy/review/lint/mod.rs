//! What a policy's author hardly meant: findings, each with a code, a place, the row, and what to do.
//!
//! | file | what is looked for |
//! |---|---|
//! | `code` | nothing: the kinds of findings, and how much each weighs |
//! | [`rows`] | duplicates, rows that another covers, rows that never decide, rows that are too broad |
//! | [`names`] | services, methods, callers and roles that there are not; cycles |
//! | [`patterns`] | patterns that mean something else than they look like |
//! | [`slips`] | denials that another reading of a path slips past |
//!
//! A finding is allowed by a comment before the row: `# lint: allow shadowed, broad`.

mod code;
pub mod names;
pub mod patterns;
pub mod rows;
pub mod slips;

use std::collections::{HashMap, HashSet};

pub use self::code::{Code, Severity};
use super::cover::Cover;
use super::members::Members;
use super::shape::Shape;
use crate::policy::rows::{self as lines_of, Row};
use crate::policy::{Policy, Text};

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
