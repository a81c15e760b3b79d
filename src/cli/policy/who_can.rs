//! `portcullis policy who-can`.

use std::io::Write as _;

use anyhow::{Result, anyhow};
use serde_json::json;

use super::review::{self, Origin, csv, table};
use super::source::Source;
use crate::access::path::Reading;
use crate::cli::Outcome;
use crate::cli::out::{Paint, count, printable};
use crate::policy::explain::rule_json;
use crate::policy::review::access::{Call, Grant, who_can};

/// Reviews access to one path.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The method
    method: String,
    /// The service
    service: String,
    /// The path
    path: String,
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

/// Tells everybody who may.
///
/// # Errors
/// If the policy does not load, or the gate refuses the path whoever calls.
pub fn run(args: &Args) -> Result<Outcome> {
    let (found, policy) = args.source.load()?;
    let path = Reading::of(&args.path).and_then(|reading| reading.under(found.tolerance(&args.service)));
    let path =
        path.map_err(|fault| anyhow!("a gate refuses {} whoever calls: {}", args.path, fault.as_str()))?;
    let call =
        Call { service: args.service.clone(), path: path.as_str().to_owned(), method: args.method.clone() };
    let grants = who_can(&policy, &args.origin.from(), &call);
    if args.json {
        tell_json(&call, &grants)?;
    } else if args.csv {
        tell_csv(&grants)?;
    } else {
        tell(&call, &grants)?;
    }
    Ok(Outcome::Fine)
}

fn tell(call: &Call, grants: &[Grant]) -> Result<()> {
    let (mut out, paint) = (std::io::stdout().lock(), Paint::of_stdout());
    let what = printable(&format!("{} {} {}", call.method, call.service, call.path));
    if grants.is_empty() {
        writeln!(out, "{} may {what}", paint.bold("nobody"))?;
        return Ok(());
    }
    let rows: Vec<[String; 3]> = grants
        .iter()
        .map(|grant| [printable(&grant.principal.to_string()), way(grant), review::by(grant.rule.as_deref())])
        .collect();
    for (at, line) in table(["WHO", "BY WAY OF", "ROW"], &rows).iter().enumerate() {
        writeln!(out, "{}", if at == 0 { paint.dim(line) } else { line.clone() })?;
    }
    writeln!(out, "{} may {what}", paint.bold(&count(grants.len() as u64, "principal")))?;
    Ok(())
}

/// The roles between the caller and the row.
fn way(grant: &Grant) -> String {
    match grant.path.as_slice() {
        [] | [_] => "-".to_owned(),
        path => printable(&path.get(1..).unwrap_or_default().join(" > ")),
    }
}

fn tell_csv(grants: &[Grant]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "principal,path,file,line,row")?;
    for grant in grants {
        let rule = grant.rule.as_deref();
        let line = rule.map(|rule| rule.line.to_string()).unwrap_or_default();
        let (file, text) = rule.map_or(("", ""), |rule| (rule.file.as_str(), rule.text.as_str()));
        let (principal, path) = (grant.principal.to_string(), grant.path.join(" > "));
        writeln!(out, "{}", csv(&[&principal, &path, file, &line, text]))?;
    }
    Ok(())
}

fn tell_json(call: &Call, grants: &[Grant]) -> Result<()> {
    let grants: Vec<_> = grants
        .iter()
        .map(|grant| {
            json!({
                "principal": grant.principal.to_string(),
                "path": grant.path,
                "rule": grant.rule.as_deref().map(rule_json),
            })
        })
        .collect();
    let told = json!({
        "method": call.method, "service": call.service, "path": call.path, "may": grants,
    });
    writeln!(std::io::stdout().lock(), "{told}")?;
    Ok(())
}

const AFTER_HELP: &str = "\
Everybody whom the policy names is asked about: users, `anonymous`, and roles, each as the only role of a user whom the \
policy does not name; that user without a role is `any other user`. Roles that tokens grant together are not tried \
together: a deny for one role may take what another grants.

Examples:
  portcullis policy who-can DELETE app /admin/users/7 --config gate/portcullis.toml
  portcullis policy who-can GET admin /v1/records --config gate/portcullis.toml --csv > readers-of-the-log.csv

Exit codes: 0 told (perhaps nobody may), 2 the policy does not load, or a gate refuses the path whoever calls.";
