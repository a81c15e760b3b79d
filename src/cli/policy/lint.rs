//! `portcullis policy lint`.

use std::io::Write as _;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::source::{Found, Source};
use crate::access::path::Tolerance;
use crate::cli::Outcome;
use crate::cli::out::{Paint, count, printable};
use crate::policy::review::lint::{Finding, Known, KnownService, Report, Severity, lint};
use crate::policy::{Text, files};

/// Lints a policy.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// What counts as a failure beside errors
    #[arg(long, value_name = "WHAT")]
    deny: Option<Deny>,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// What counts as a failure beside errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Deny {
    /// Warnings
    Warnings,
    /// Warnings and notes
    Notes,
}

/// Tells what in a policy was hardly meant.
///
/// # Errors
/// If the policy does not load.
pub fn run(args: &Args) -> Result<Outcome> {
    let (found, policy) = args.source.load()?;
    let texts: Vec<Text> = texts(&found)?;
    let report = lint(&policy, &texts, known(args, &found).as_ref());
    let least = match args.deny {
        None => Severity::Error,
        Some(Deny::Warnings) => Severity::Warning,
        Some(Deny::Notes) => Severity::Note,
    };
    let holds = report.findings.iter().all(|finding| finding.code.severity() < least);
    if args.json { tell_json(&report, holds) } else { tell(&report, holds) }?;
    Ok(if holds { Outcome::Fine } else { Outcome::DoesNotHold })
}

/// The policy files as they are written, comments and all.
fn texts(found: &Found) -> Result<Vec<Text>> {
    let files = files::expand(&found.sources.policies).map_err(|error| anyhow!("{error}"))?;
    files.iter().map(|path| Text::read(path).map_err(|error| anyhow!("{error}"))).collect()
}

fn known(args: &Args, found: &Found) -> Option<Known> {
    let settings = found.settings.as_ref()?;
    let service = |service: &crate::config::settings::Service| KnownService {
        name: service.route.service.to_string(),
        semicolon: service.route.tolerance.covers(Tolerance::SEMICOLON),
        folds_refused: !service.route.tolerance.covers(Tolerance::LETTER_CASE),
    };
    let admin = KnownService { name: "admin".to_owned(), ..KnownService::default() };
    let granted = settings.issuers.iter().flat_map(|issuer| &issuer.roles);
    Some(Known {
        file: args.source.config().map(|path| path.display().to_string()).unwrap_or_default(),
        services: settings.services.iter().map(service).chain([admin]).collect(),
        granted: granted.map(|role| format!("role:{role}")).collect(),
    })
}

fn tell(report: &Report, holds: bool) -> Result<()> {
    let (mut out, paint) = (std::io::stdout().lock(), Paint::of_stdout());
    for finding in &report.findings {
        let severity = format!("{}[{}]:", finding.code.severity().as_str(), finding.code.as_str());
        let severity = match finding.code.severity() {
            Severity::Error => paint.bad(&severity),
            Severity::Warning => paint.accent(&severity),
            Severity::Note => paint.dim(&severity),
        };
        writeln!(out, "{} {severity} {}", paint.bold(&place(finding)), printable(&finding.found))?;
        if let Some(row) = &finding.row {
            writeln!(out, "    {}", printable(row))?;
        }
        if let Some(other) = &finding.other {
            let other = format!("{}:{}: {}", other.file, other.line, other.text());
            writeln!(out, "    {} {}", paint.dim("beside"), printable(&other))?;
        }
        writeln!(out, "    {} {}", paint.dim("to do:"), printable(&finding.advice))?;
    }
    for what in &report.skipped {
        writeln!(out, "{} {what}", paint.dim("not looked for:"))?;
    }
    let verdict = if holds { paint.good("holds:") } else { paint.bad("does not hold:") };
    let counted = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")]
        .map(|(severity, noun)| count(report.count(severity) as u64, noun));
    let allowed = match report.allowed {
        0 => String::new(),
        allowed => format!(", {} allowed by comments", count(allowed as u64, "finding")),
    };
    writeln!(out, "{verdict} {}{allowed}", counted.join(", "))?;
    Ok(())
}

fn place(finding: &Finding) -> String {
    match finding.line {
        Some(line) => printable(&format!("{}:{line}:", finding.file)),
        None => printable(&format!("{}:", finding.file)),
    }
}

fn tell_json(report: &Report, holds: bool) -> Result<()> {
    let finding = |finding: &Finding| -> Value {
        json!({
            "code": finding.code.as_str(),
            "severity": finding.code.severity().as_str(),
            "file": finding.file,
            "line": finding.line,
            "row": finding.row,
            "found": finding.found,
            "advice": finding.advice,
            "other": finding.other.as_ref().map(|row| {
                json!({ "text": row.text(), "file": row.file, "line": row.line })
            }),
        })
    };
    let told = json!({
        "holds": holds,
        "errors": report.count(Severity::Error),
        "warnings": report.count(Severity::Warning),
        "notes": report.count(Severity::Note),
        "allowed": report.allowed,
        "not_looked_for": report.skipped,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    });
    writeln!(std::io::stdout().lock(), "{told}")?;
    Ok(())
}

const AFTER_HELP: &str = "\
An error is a row that does not do what it says; a warning, one that may do more or less than was meant; a note is good \
to know. What is meant so stays, with a comment on the line before the row:
  # lint: allow broad
All codes stand in docs/policy.md. With --config, services and roles are known, too.

Examples:
  portcullis policy lint --config gate/portcullis.toml
  portcullis policy lint --model policies/model.conf --policy policies/policy.csv --deny warnings
  portcullis policy lint --config gate/portcullis.toml --json | jq -r '.findings[] | \"\\(.file):\\(.line) \\(.code)\"'

Exit codes: 0 no error (and no warning, or note, with --deny), 1 there is one, 2 the policy does not load.";
