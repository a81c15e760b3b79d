//! `portcullis policy enforce`.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, bail};
use serde_json::json;

use super::source::Source;
use crate::access::Decision;
use crate::cli::Outcome;
use crate::cli::out::{Paint, printable};
use crate::policy::Call;
use crate::policy::explain::rule_json;
use crate::policy::files::expand;
use crate::policy::raw;

/// Asks for one decision.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// USER SERVICE METHOD PATH; with --raw, the values of the model's request, in its order
    #[arg(value_name = "VALUE", required = true)]
    values: Vec<String>,
    /// A role of the caller's credential, as role:NAME; may be repeated
    #[arg(long = "role", value_name = "ROLE", conflicts_with = "raw")]
    roles: Vec<String>,
    /// The host asked for
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, conflicts_with = "raw")]
    host: String,
    /// The client's address
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), conflicts_with = "raw")]
    ip: IpAddr,
    #[command(flatten)]
    source: Source,
    /// Answer as casbin-rs's own enforce does: any model, any request, no check of ours
    #[arg(long)]
    raw: bool,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks, and prints `true` or `false`, or what a gate would decide.
///
/// # Errors
/// If there is no answer.
pub fn run(args: &Args) -> Result<Outcome> {
    if args.raw { raw(args) } else { decide(args) }
}

fn raw(args: &Args) -> Result<Outcome> {
    let sources = args.source.find()?.sources;
    // What panics is told as an error; the panic's own words would only stand before it.
    std::panic::set_hook(Box::new(|_| {}));
    let allowed = raw::enforce(sources.model, expand(&sources.policies)?, &args.values)?;
    let mut out = std::io::stdout().lock();
    if args.json { writeln!(out, "{}", json!({ "allowed": allowed })) } else { writeln!(out, "{allowed}") }?;
    Ok(if allowed { Outcome::Fine } else { Outcome::DoesNotHold })
}

fn decide(args: &Args) -> Result<Outcome> {
    let [user, service, method, path] = args.values.as_slice() else {
        bail!(
            "a decision needs USER SERVICE METHOD PATH; {} were given (see --raw for any request)",
            args.values.len()
        );
    };
    let (found, policy) = args.source.load()?;
    let call = Call {
        user: user.clone(),
        roles: args.roles.clone(),
        service: service.clone(),
        method: method.clone(),
        path: path.clone(),
        ip: args.ip,
        host: args.host.clone(),
    };
    let answer = call.ask(&policy, found.tolerance(service));
    if let Some(error) = answer.error {
        bail!("the policy has no answer, so a gate denies: {error}");
    }
    let (mut out, paint) = (std::io::stdout().lock(), Paint::of_stdout());
    let grounds = answer.decision.grounds();
    let allowed = matches!(answer.decision, Decision::Allow(_));
    if args.json {
        let rule = grounds.rule.as_deref().map(rule_json);
        let told = json!({ "allowed": allowed, "reason": grounds.reason.code(), "rule": rule });
        writeln!(out, "{told}")?;
    } else {
        let word = if allowed { paint.good("allow") } else { paint.bad("deny") };
        write!(out, "{word} {}", grounds.reason.code())?;
        if let Some(rule) = &grounds.rule {
            write!(
                out,
                " {}",
                paint.dim(&printable(&format!("{}:{}: {}", rule.file, rule.line, rule.text)))
            )?;
        }
        writeln!(out)?;
    }
    Ok(if allowed { Outcome::Fine } else { Outcome::DoesNotHold })
}

const AFTER_HELP: &str = "\
Without --raw, the decision is the one that a gate makes for a caller who was proved to be USER: the path is read as a
gate reads it, and the policy is loaded with all checks. `anonymous` is the caller without a credential.
With --raw, model, rows and values go to casbin-rs as they are, and `true` or `false` is its answer. A value that is a
JSON object is given as one.

Examples:
  portcullis policy enforce user:alice app GET /docs/a --role role:viewer --config gate/portcullis.toml
  portcullis policy enforce --raw alice data1 read --model rbac.conf --policy rbac.csv
  portcullis policy enforce --raw '{\"age\": 19}' /data GET --model abac.conf --policy abac.csv

Exit codes: 0 allowed, 1 denied, 2 there is no answer.";
