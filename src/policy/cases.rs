//! A table of expected answers, one case a line, columns parted by blanks:
//!
//! ```text
//! # answer  caller       roles        service  method  path        [ip] [host=NAME] [by ROW]
//! allow     user:alice   role:viewer  app      GET     /docs/a     by p, role:viewer, app, /docs/*, GET|HEAD, allow
//! deny      anonymous    -            app      GET     /reports/q1 10.0.0.7
//! deny      user:eve     role:fired   app      GET     /docs/a     by policy.csv:21
//! deny      user:bob     -            app      GET     /docs/a     by -
//! ```
//!
//! Roles are parted by commas, `-` where there are none. What stands behind `by` is the row that must decide: its text,
//! which stays right when rows move, or its file and line; `-` where no row may. Lines beginning with `#` and blank
//! lines are passed over.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::call::{Answer, Call};
use super::error::Faults;
use super::load::Text;
use super::rows::{self, lines};
use crate::access::{Decision, Rule};

/// One expected answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its line, from 1.
    pub line: u32,
    /// Whether the call should be allowed.
    pub allow: bool,
    /// The call.
    pub call: Call,
    /// The row that should decide, if the case names one.
    pub by: Option<By>,
}

/// The row that should decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// None: the call is denied, or allowed, for want of one.
    Nothing,
    /// The row that stands there; the file is named by the end of its path.
    Place(String, u32),
    /// The row of this text, fields joined by `, `.
    Row(String),
}

/// Why a table of cases could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CasesError {
    /// A line with too few columns.
    #[error("line {0}: expected: allow|deny caller roles|- service method path [ip] [host=NAME] [by ROW]")]
    Columns(u32),
    /// An answer other than allow or deny.
    #[error("line {0}: the answer is allow or deny, not `{1}`")]
    Answer(u32, String),
    /// A word behind the path that means nothing there.
    #[error("line {0}: `{1}` is neither an IP address, nor host=NAME, nor `by` and a row")]
    Word(u32, String),
    /// `by` without a row, or with something that is none.
    #[error("line {0}: after `by` comes a row as in the policy file, FILE:LINE, or -; not `{1}`")]
    By(u32, String),
}

impl Case {
    /// Reads a table.
    ///
    /// # Errors
    /// The first line that is not a case.
    pub fn read(text: &str) -> Result<Vec<Self>, CasesError> {
        lines(text)
            .map(|(line, content)| (line, content.trim()))
            .filter(|(_, content)| !content.is_empty() && !content.starts_with('#'))
            .map(|(line, content)| Self::parse(line, content))
            .collect()
    }

    fn parse(line: u32, content: &str) -> Result<Self, CasesError> {
        let mut rest = content;
        let mut next = || word(&mut rest).ok_or(CasesError::Columns(line));
        let allow = match next()? {
            "allow" => true,
            "deny" => false,
            other => return Err(CasesError::Answer(line, other.to_owned())),
        };
        let mut call = Call {
            user: next()?.to_owned(),
            roles: next()?.split(',').filter(|role| *role != "-").map(str::to_owned).collect(),
            service: next()?.to_owned(),
            method: next()?.to_owned(),
            path: next()?.to_owned(),
            host: String::new(),
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let mut by = None;
        while let Some(found) = word(&mut rest) {
            if found == "by" {
                let row = rest.trim();
                by = Some(By::parse(row).ok_or_else(|| CasesError::By(line, row.to_owned()))?);
                break;
            }
            match (found.strip_prefix("host="), found.parse()) {
                (Some(host), _) => call.host = host.to_owned(),
                (None, Ok(ip)) => call.ip = ip,
                (None, Err(_)) => return Err(CasesError::Word(line, found.to_owned())),
            }
        }
        Ok(Self { line, allow, call, by })
    }

    /// Whether `found` is what the case expects. A policy that fails does not answer, whatever is expected.
    pub fn holds(&self, found: &Answer) -> bool {
        let allowed = matches!(found.decision, Decision::Allow(_));
        let rule = found.decision.grounds().rule.as_deref();
        found.error.is_none() && allowed == self.allow && self.by.as_ref().is_none_or(|by| by.is(rule))
    }
}

impl By {
    fn parse(text: &str) -> Option<Self> {
        if text == "-" {
            return Some(Self::Nothing);
        }
        if !text.contains(',')
            && let Some((file, line)) = text.rsplit_once(':')
            && let Ok(line) = line.parse()
        {
            return (!file.is_empty()).then(|| Self::Place(file.to_owned(), line));
        }
        let (mut found, mut faults) = (Vec::new(), Faults::default());
        rows::read(&Text { name: String::new(), text: text.to_owned() }, &mut found, &mut faults);
        match (found.as_slice(), faults.none_or_error()) {
            ([row], Ok(())) if !row.fields.is_empty() => Some(Self::Row(row.text())),
            _ => None,
        }
    }

    /// Whether `rule` is the row that is meant.
    fn is(&self, rule: Option<&Rule>) -> bool {
        match (self, rule) {
            (Self::Nothing, rule) => rule.is_none(),
            (Self::Place(file, line), Some(rule)) => {
                rule.line == *line && Path::new(&rule.file).ends_with(file)
            }
            (Self::Row(text), Some(rule)) => rule.text == *text,
            (Self::Place(..) | Self::Row(_), None) => false,
        }
    }
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("no row"),
            Self::Place(file, line) => write!(f, "{file}:{line}"),
            Self::Row(text) => f.write_str(text),
        }
    }
}

/// Takes the first word off `rest`.
fn word<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let text = rest.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, after) = text.split_at_checked(end).filter(|(word, _)| !word.is_empty())?;
    *rest = after;
    Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::path::Tolerance;
    use crate::policy::{PathForms, Policy};

    const MODEL: &str = "[request_definition]\nr = sub, obj, act, host\n[policy_definition]\np = sub, obj, act, host, eft\n\
        [policy_effect]\ne = some(where (p.eft == allow)) && !some(where (p.eft == deny))\n[matchers]\n\
        m = r.sub == p.sub && keyMatch(r.obj, p.obj) && r.act == p.act && r.host == p.host\n";
    const ROWS: &str =
        "p, user:a, /docs/*, GET, a.example, allow\n\np, user:a, /docs/x, GET, a.example, deny\n";

    fn holds(line: &str) -> bool {
        let text = |name: &str, text: &str| Text { name: name.into(), text: text.into() };
        let policy = Policy::load_text(
            &text("model.conf", MODEL),
            &[text("some/policy.csv", ROWS)],
            PathForms::default(),
        );
        let case = Case::read(line).unwrap().pop().unwrap();
        case.holds(&case.call.ask(&policy.unwrap(), Tolerance::default()))
    }

    #[test]
    fn a_case_may_name_the_row_that_must_decide() {
        const ALLOWED: &str = "allow user:a - app GET /docs/a host=a.example";
        const DENIED: &str = "deny user:a - app GET /docs/x host=a.example";
        for by in [
            "",
            "by policy.csv:1",
            "by some/policy.csv:1",
            "by p, user:a, /docs/*, GET, a.example, allow",
            "by p,user:a, \"/docs/*\",GET,a.example,allow",
        ] {
            assert!(holds(&format!("{ALLOWED} {by}")), "{by}");
        }
        for by in ["by -", "by policy.csv:2", "by y.csv:1", "by p, user:a, /docs/x, GET, a.example, allow"] {
            assert!(!holds(&format!("{ALLOWED} {by}")), "{by}");
        }
        assert!(holds(&format!("{DENIED} by policy.csv:3")));
        assert!(!holds(&format!("{DENIED} by -")));
        assert!(holds("deny user:b - app GET /docs/a by -"));
        assert!(!holds("deny user:b - app GET /docs/a by policy.csv:1"));
        assert!(!holds("allow user:b - app GET /docs/a"));
    }

    #[test]
    fn a_case_asks_for_what_a_gate_would_read() {
        assert!(holds("allow user:a - app GET /%64ocs/a?b=c host=a.example by policy.csv:1"));
        for refused in ["/docs//a", "/docs/../docs/a", "/docs/%2e%2e/a", "/docs/a%2fb", "docs/a"] {
            assert!(!holds(&format!("allow user:a - app GET {refused} host=a.example")), "{refused}");
            assert!(holds(&format!("deny user:a - app GET {refused} host=a.example by -")), "{refused}");
        }
        assert!(holds("deny user:a - app GET /docs/a"), "another host");
    }

    #[test]
    fn a_policy_without_an_answer_holds_for_no_case() {
        let text = |name: &str, text: String| Text { name: name.into(), text };
        let matcher = "keyMatch(r.obj, p.obj) && regexMatch(r.act, \"^\" + r.sub)";
        let model = format!("{}m = {matcher}\n", MODEL.split("m = ").next().unwrap());
        let rows = text("policy.csv", "p, any, /docs/*, any, any, allow\n".to_owned());
        let policy = Policy::load_text(&text("model.conf", model), &[rows], PathForms::default());
        for expected in ["allow", "deny"] {
            let case = Case::read(&format!("{expected} ( - app GET /docs/a")).unwrap().pop().unwrap();
            let answer = case.call.ask(policy.as_ref().unwrap(), Tolerance::default());
            assert!(answer.error.is_some());
            assert!(!case.holds(&answer), "{expected}");
        }
    }

    #[test]
    fn what_is_no_case_is_told_by_its_line() {
        for (line, expected) in [
            ("allow a - app GET", "line 2: expected: allow|deny"),
            ("perhaps a - app GET /", "line 2: the answer is allow or deny, not `perhaps`"),
            ("allow a - app GET / 300.1.1.1", "line 2: `300.1.1.1` is neither"),
            ("allow a - app GET / by", "line 2: after `by` comes"),
            ("allow a - app GET / by p", "line 2: after `by` comes"),
            ("allow a - app GET / by :7", "line 2: after `by` comes"),
            ("allow a - app GET / by p, \"a", "line 2: after `by` comes"),
        ] {
            let told = Case::read(&format!("# who\n{line}\n")).unwrap_err().to_string();
            assert!(told.contains(expected), "{line}: {told}");
        }
    }
}
