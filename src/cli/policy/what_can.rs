//! `portcullis policy what-can`.

use std::io::Write as _;

use anyhow::Result;
use serde_json::json;

use super::review::{self, Origin, csv, table};
use super::source::Source;
use crate::cli::Outcome;
use crate::cli::out::{Paint, count, printable};
use crate::policy::explain::rule_json;
use crate::policy::review::access::{Rights, what_can};
use crate::policy::review::members::{Members, Principal};
use crate::policy::review::shape::{Ruling, Shape};

/// Reviews the rights of one caller.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// user:NAME, anonymous, or role:NAME for a caller who has that role and is not named
    principal: String,
    /// A role of the caller's credential, as role:NAME; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    origin: Origin,
    /// Answer with CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// Tells what a caller may do, and what rows deny it.
///
/// # Errors
/// If the policy does not load.
pub fn run(args: &Args) -> Result<Outcome> {
    let (_, policy) = args.source.load()?;
    let shape = Shape::of(&policy);
    let (user, mut roles) = Members::of(&policy, &shape).caller(&Principal::read(&args.principal));
    roles.extend(args.roles.iter().cloned());
    let rights = what_can(&policy, &args.origin.from(), &user, &roles);
    if args.json {
        tell_json(args, &rights)?;
    } else if args.csv {
        tell_csv(&rights)?;
    } else {
        tell(args, &rights)?;
    }
    Ok(Outcome::Fine)
}

fn tell(args: &Args, rights: &Rights) -> Result<()> {
    let (mut out, paint) = (std::io::stdout().lock(), Paint::of_stdout());
    let rows: Vec<[String; 5]> = rights
        .rights
        .iter()
        .map(|right| {
            [
                right.ruling.as_str().to_owned(),
                printable(&right.service),
                printable(&right.pattern),
                right.methods(),
                review::by(right.rule.as_deref()),
            ]
        })
        .collect();
    let mut lines = table(["", "SERVICE", "PATH", "METHODS", "ROW"], &rows).into_iter();
    if let Some(head) = lines.next().filter(|_| !rows.is_empty()) {
        writeln!(out, "{}", paint.dim(&head))?;
    }
    for (line, right) in lines.zip(&rights.rights) {
        let (word, rest) = line.split_at(right.ruling.as_str().len().min(line.len()));
        let word = if right.ruling == Ruling::Allow { paint.good(word) } else { paint.bad(word) };
        writeln!(out, "{word}{rest}")?;
    }
    for rule in &rights.without_example {
        writeln!(out, "{} {}", paint.dim("no example path could be made for"), review::by(Some(rule)))?;
    }
    let who = printable(&[&[args.principal.clone()][..], &args.roles].concat().join(" with "));
    let may = rights.rights.iter().filter(|right| right.ruling == Ruling::Allow).count();
    let asked = format!("({} asked)", count(rights.asked, "question"));
    let may =
        if may == 0 { "may do nothing".to_owned() } else { format!("has {}", count(may as u64, "right")) };
    writeln!(out, "{} {may} {}", paint.bold(&who), paint.dim(&asked))?;
    Ok(())
}

fn tell_csv(rights: &Rights) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "answer,service,path,methods,file,line,row")?;
    for right in &rights.rights {
        let rule = right.rule.as_deref();
        let line = rule.map(|rule| rule.line.to_string()).unwrap_or_default();
        let (file, text) = rule.map_or(("", ""), |rule| (rule.file.as_str(), rule.text.as_str()));
        let methods = right.methods();
        let fields = [right.ruling.as_str(), &right.service, &right.pattern, &methods, file, &line, text];
        writeln!(out, "{}", csv(&fields))?;
    }
    Ok(())
}

fn tell_json(args: &Args, rights: &Rights) -> Result<()> {
    let told: Vec<_> = rights
        .rights
        .iter()
        .map(|right| {
            json!({
                "answer": right.ruling.as_str(),
                "service": right.service,
                "pattern": right.pattern,
                "methods": right.methods,
                "example": right.example,
                "rule": right.rule.as_deref().map(rule_json),
            })
        })
        .collect();
    let without: Vec<_> = rights.without_example.iter().map(|rule| rule_json(rule)).collect();
    let told = json!({
        "principal": args.principal, "roles": args.roles, "asked": rights.asked, "rights": told,
        "without_example": without,
    });
    writeln!(std::io::stdout().lock(), "{told}")?;
    Ok(())
}

const AFTER_HELP: &str = "\
For each row that is for the caller, the policy is asked about each method at a path made from the row's pattern; the \
row told is the one that decided. Where patterns overlap, each is told by itself: an allow of /docs/* and a deny of \
/docs/secret/* are two lines.

Examples:
  portcullis policy what-can user:dana --config gate/portcullis.toml
  portcullis policy what-can user:alice --role role:viewer --role role:suspended --config gate/portcullis.toml
  portcullis policy what-can role:admin --model policies/model.conf --policy policies/policy.csv --csv

Exit codes: 0 told (perhaps nothing), 2 the policy does not load.";
