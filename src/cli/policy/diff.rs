//! `portcullis policy diff`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::json;

use super::review::{self, Origin};
use crate::app::assemble;
use crate::cli::out::{Paint, count, printable};
use crate::cli::{Outcome, audit};
use crate::policy::explain::rule_json;
use crate::policy::review::diff::{Change, Difference, diff};
use crate::policy::review::shape::Ruling;
use crate::policy::{PathForms, Policy, Sources};

/// Compares two policies.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The policy as it was: a directory with a model (*.conf) and policy files (*.csv), a gate's config (*.toml),
    /// MODEL,POLICY[,POLICY…], or, with --model, POLICY[,POLICY…]
    old: String,
    /// The policy as it is to be, named in the same ways
    new: String,
    /// The model of both, where they are named by their policy files
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    origin: Origin,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// Tells what the two answer differently.
///
/// # Errors
/// If one of them does not load.
pub fn run(args: &Args) -> Result<Outcome> {
    let (old, new) = (load(args, &args.old)?, load(args, &args.new)?);
    let difference = diff(&old, &new, &args.origin.from());
    if args.json { tell_json(&difference) } else { tell(&difference) }?;
    Ok(if difference.changes.is_empty() { Outcome::Fine } else { Outcome::DoesNotHold })
}

fn load(args: &Args, named: &str) -> Result<Policy> {
    let sources = sources(args, named)?;
    Policy::load(&sources).map_err(|error| anyhow!("{named} does not hold:\n{error}"))
}

/// The files that `named` stands for.
fn sources(args: &Args, named: &str) -> Result<Sources> {
    let path = Path::new(named);
    if path.extension().is_some_and(|extension| extension == "toml") {
        return Ok(assemble::sources(&audit::settings(path)?));
    }
    let (model, policies) = match &args.model {
        Some(model) => (model.clone(), listed(named)),
        None if path.is_dir() => in_directory(path)?,
        None => match listed(named).split_first() {
            Some((model, policies)) if !policies.is_empty() => (model.clone(), policies.to_vec()),
            _ => bail!("{named} is no directory and no config; name MODEL,POLICY, or the model by --model"),
        },
    };
    Ok(Sources { model, policies, forms: FORMS })
}

fn listed(named: &str) -> Vec<PathBuf> {
    named.split(',').map(PathBuf::from).collect()
}

/// The one model of a directory, and the directory, which stands for its policy files.
fn in_directory(directory: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let mut models = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            models.push(path);
        }
    }
    match models.as_slice() {
        [model] => Ok((model.clone(), vec![directory.to_path_buf()])),
        _ => bail!(
            "{} has {}; it must have one (*.conf)",
            directory.display(),
            count(models.len() as u64, "model")
        ),
    }
}

fn tell(difference: &Difference) -> Result<()> {
    let (mut out, paint) = (std::io::stdout().lock(), Paint::of_stdout());
    for change in &difference.changes {
        let line = line(change);
        let line = if change.now == Ruling::Allow { paint.good(&line) } else { paint.bad(&line) };
        writeln!(out, "{line}")?;
        let told = [("was", &change.before_by), ("now", &change.now_by)];
        for (when, rule) in told.into_iter().filter(|(_, rule)| rule.is_some()) {
            let by = format!("{when} by {}", review::by(rule.as_deref()));
            writeln!(out, "    {}", paint.dim(&by))?;
        }
    }
    for pattern in &difference.without_example {
        writeln!(out, "{} {}", paint.dim("no example path could be made for"), printable(pattern))?;
    }
    if difference.is_cut {
        let left = "not all was asked: there are too many patterns and callers";
        writeln!(out, "{}", paint.bad(left))?;
    }
    let verdict = match difference.changes.len() as u64 {
        0 => paint.good("no change"),
        changes => paint.bold(&count(changes, "change")),
    };
    let asked = format!(
        "(by {} of each policy, for {})",
        count(difference.asked, "question"),
        count(difference.callers as u64, "principal")
    );
    writeln!(out, "{verdict} {}", paint.dim(&asked))?;
    Ok(())
}

/// `+ role:editor may now DELETE app /docs/*`.
fn line(change: &Change) -> String {
    let (sign, may) = match change.now {
        Ruling::Allow => ('+', "may now"),
        Ruling::Deny => ('-', "may no longer"),
    };
    let names: Vec<String> = change.principals.iter().map(ToString::to_string).collect();
    let who = match names.get(..SHOWN) {
        Some(first) if names.len() > SHOWN => {
            format!("{} and {} more", first.join(", "), names.len() - SHOWN)
        }
        _ => names.join(", "),
    };
    let except = match change.except.as_slice() {
        [] if change.is_part => format!(" in part, as at {}", change.example),
        [] => String::new(),
        except => format!(", but for {}", except.join(", ")),
    };
    printable(&format!(
        "{sign} {who} {may} {} {} {}{except}",
        change.methods(),
        change.service,
        change.pattern
    ))
}

fn tell_json(difference: &Difference) -> Result<()> {
    let changes: Vec<_> = difference
        .changes
        .iter()
        .map(|change| {
            json!({
                "principals": change.principals.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "now": change.now.as_str(),
                "service": change.service,
                "pattern": change.pattern,
                "except": change.except,
                "part": change.is_part,
                "methods": change.methods,
                "example": change.example,
                "was_by": change.before_by.as_deref().map(rule_json),
                "now_by": change.now_by.as_deref().map(rule_json),
            })
        })
        .collect();
    let told = json!({
        "same": changes.is_empty(),
        "principals": difference.callers,
        "asked": difference.asked,
        "complete": !difference.is_cut && difference.without_example.is_empty(),
        "without_example": difference.without_example,
        "changes": changes,
    });
    writeln!(std::io::stdout().lock(), "{told}")?;
    Ok(())
}

/// How many principals a line names.
const SHOWN: usize = 6;

/// What paths may look like is not what is compared here.
const FORMS: PathForms = PathForms {
    encoded_slash: true,
    encoded_percent: true,
    semicolon: true,
    fragment: true,
    backslash: true,
    empty_segment: true,
};

const AFTER_HELP: &str = "\
What changes in effect, not in text. Both policies are asked about every principal that either names (roles as the only \
role of a user whom the policy does not name), every service, every method, and paths made from the patterns of rows \
that differ: each pattern by itself, its wildcards filled one segment and several deep, and where it meets other \
patterns for the same principal. The answer is exact for what was asked; how much that was is told.

Examples:
  portcullis policy diff policies.old policies
  portcullis policy diff --model policies/model.conf old.csv policies/policy.csv
  portcullis policy diff /etc/portcullis/portcullis.toml candidate --json | jq '.changes[] | select(.now == \"allow\")'

Exit codes: 0 nothing changes, 1 something does, 2 a policy does not load.";
