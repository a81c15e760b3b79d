//! `portcullis policy test`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};

use super::source::{self, Source};
use crate::cli::Outcome;
use crate::cli::out::{Paint, count, printable};
use crate::policy::explain::rule_json;
use crate::policy::files::expand;
use crate::policy::{Answer, Call, Case};

/// Tests a policy.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Tables of cases; unless given, the cases.txt beside the policy files
    #[arg(value_name = "CASES")]
    cases: Vec<PathBuf>,
    #[command(flatten)]
    source: Source,
    /// Tell the cases that hold, too
    #[arg(short, long)]
    verbose: bool,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks the policy every case, and tells those that it answers otherwise.
///
/// # Errors
/// If the policy does not hold, or a table cannot be read.
pub fn run(args: &Args) -> Result<Outcome> {
    let (found, policy) = args.source.load()?;
    let tables = if args.cases.is_empty() { beside(&found)? } else { args.cases.clone() };
    let mut results = Vec::new();
    for table in &tables {
        let file = table.display().to_string();
        let text = std::fs::read_to_string(table).with_context(|| file.clone())?;
        let cases = Case::read(&text).map_err(|error| anyhow!("{file}: {error}"))?;
        if cases.is_empty() {
            bail!("{file} has no cases");
        }
        results.extend(cases.into_iter().map(|case| {
            let found = case.call.ask(&policy, found.tolerance(&case.call.service));
            Tested { file: file.clone(), holds: case.holds(&found), case, found }
        }));
    }
    let failed = results.iter().filter(|result| !result.holds).count();
    if args.json { tell_json(&results, failed) } else { tell(&results, failed, args.verbose) }?;
    Ok(if failed == 0 { Outcome::Fine } else { Outcome::DoesNotHold })
}

/// The tables that stand beside the policy files.
fn beside(found: &source::Found) -> Result<Vec<PathBuf>> {
    let mut tables = Vec::new();
    for file in expand(&found.sources.policies)? {
        let table = file.with_file_name("cases.txt");
        if table.is_file() && !tables.contains(&table) {
            tables.push(table);
        }
    }
    if tables.is_empty() {
        bail!("there is no cases.txt beside the policy files; name a table of cases");
    }
    Ok(tables)
}

/// A case, and what was answered.
struct Tested {
    file: String,
    case: Case,
    found: Answer,
    holds: bool,
}

impl Tested {
    fn place(&self) -> String {
        format!("{}:{}", self.file, self.case.line)
    }

    /// The call, in the columns of a table.
    fn call(&self) -> String {
        let Call { user, roles, service, method, path, .. } = &self.case.call;
        let roles = if roles.is_empty() { "-".to_owned() } else { roles.join(",") };
        printable(&format!("{user} {roles} {service} {method} {path}"))
    }

    fn expected(&self) -> String {
        let by = self.case.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        printable(&format!("{}{by}", answer(self.case.allow)))
    }

    fn answered(&self) -> String {
        let decision = &self.found.decision;
        let why = match (&decision.grounds().rule, &self.found.error) {
            (Some(rule), _) => format!("by {}:{}: {}", rule.file, rule.line, rule.text),
            (None, Some(error)) => format!("({}): {error}", decision.grounds().reason.code()),
            (None, None) => format!("by no row ({})", decision.grounds().reason.code()),
        };
        printable(&format!("{} {why}", decision.as_str()))
    }

    fn json(&self) -> Value {
        let grounds = self.found.decision.grounds();
        json!({
            "file": self.file,
            "line": self.case.line,
            "holds": self.holds,
            "call": self.case.call.json(),
            "expected": { "decision": answer(self.case.allow), "by": self.case.by.as_ref().map(ToString::to_string) },
            "found": {
                "decision": self.found.decision.as_str(),
                "reason": grounds.reason.code(),
                "rule": grounds.rule.as_deref().map(rule_json),
                "error": self.found.error.as_ref().map(ToString::to_string),
            },
        })
    }
}

const fn answer(allow: bool) -> &'static str {
    if allow { "allow" } else { "deny" }
}

fn tell(results: &[Tested], failed: usize, verbose: bool) -> Result<()> {
    let (mut out, paint) = (std::io::stdout().lock(), Paint::of_stdout());
    for result in results {
        if !result.holds {
            writeln!(out, "{} {} {}", paint.bad("FAIL"), paint.bold(&result.place()), result.call())?;
            writeln!(out, "  {}", paint.good(&format!("- {}", result.expected())))?;
            writeln!(out, "  {}", paint.bad(&format!("+ {}", result.answered())))?;
        } else if verbose {
            writeln!(out, "{} {} {}", paint.good("ok  "), result.place(), result.call())?;
            writeln!(out, "     {}", paint.dim(&result.answered()))?;
        }
    }
    let all = count(results.len() as u64, "case");
    if failed == 0 {
        writeln!(out, "{} {all}", paint.good("holds:"))?;
    } else {
        let legend = paint.dim("(- expected, + found)");
        writeln!(out, "{} {} of {all} {legend}", paint.bad("does not hold:"), failed)?;
    }
    Ok(())
}

fn tell_json(results: &[Tested], failed: usize) -> Result<()> {
    let told = json!({
        "holds": failed == 0,
        "cases": results.len(),
        "failed": failed,
        "results": results.iter().map(Tested::json).collect::<Vec<_>>(),
    });
    writeln!(std::io::stdout().lock(), "{told}")?;
    Ok(())
}

const AFTER_HELP: &str = "\
A case is a line of words parted by blanks; roles are parted by commas, - where there are none; # begins a comment:
  allow|deny CALLER ROLES SERVICE METHOD PATH [IP] [host=NAME] [by ROW]
ROW is what must decide: a row as it stands in the policy file, FILE:LINE, or - for no row. A path that the gate refuses
before it asks the policy is a deny.

Examples:
  portcullis policy test --config gate/portcullis.toml
  portcullis policy test --model policies/model.conf --policy policies/policy.csv
  portcullis policy test more-cases.txt --config gate/portcullis.toml --json | jq '.results[] | select(.holds | not)'

Exit codes: 0 all cases hold, 1 some do not, 2 the policy or a table cannot be read.";
