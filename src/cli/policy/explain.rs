//! `portcullis policy explain`.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;

use super::source::Source;
use crate::access::{Decision, Rule};
use crate::cli::Outcome;
use crate::cli::out::{Paint, count, printable};
use crate::policy::explain::near::Near;
use crate::policy::explain::roles::{Held, Link, Reach};
use crate::policy::{Call, Explanation};

/// Explains one decision.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// The method
    #[arg(value_name = "METHOD")]
    method: String,
    /// The path, as a caller would send it
    #[arg(value_name = "PATH")]
    path: String,
    /// The caller, as user:NAME
    #[arg(long, value_name = "USER", default_value = "anonymous")]
    user: String,
    /// A role of the caller's credential, as role:NAME; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// The host asked for
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    host: String,
    /// The client's address
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    ip: IpAddr,
    #[command(flatten)]
    source: Source,
    /// How many rows that do not match to tell of
    #[arg(long, value_name = "N", default_value_t = 3)]
    near: usize,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// Explains what a gate would decide.
///
/// # Errors
/// If the policy does not hold.
pub fn run(args: &Args) -> Result<Outcome> {
    let (found, policy) = args.source.load()?;
    let call = Call {
        user: args.user.clone(),
        roles: args.roles.clone(),
        service: args.service.clone(),
        method: args.method.clone(),
        path: args.path.clone(),
        host: args.host.clone(),
        ip: args.ip,
    };
    let mut explained = Explanation::of(&policy, call, found.tolerance(&args.service), args.near);
    explained.notes.extend(found.unknown(&args.service));
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", explained.json())?;
    } else {
        Teller { out: &mut out, paint: Paint::of_stdout() }.tell(&explained)?;
    }
    Ok(match explained.answer.decision {
        Decision::Allow(_) => Outcome::Fine,
        Decision::Deny(_) => Outcome::DoesNotHold,
    })
}

/// Tells an explanation to people.
struct Teller<'a, W> {
    out: &'a mut W,
    paint: Paint,
}

impl<W: Write> Teller<'_, W> {
    fn tell(mut self, explained: &Explanation) -> Result<()> {
        self.decision(explained)?;
        for note in &explained.notes {
            writeln!(self.out, "{} {}", self.paint.accent("note:"), printable(note))?;
        }
        if explained.path.is_err() {
            return Ok(());
        }
        for names in &explained.names {
            self.names(names)?;
        }
        self.rows(explained)?;
        self.near(explained)
    }

    fn decision(&mut self, explained: &Explanation) -> Result<()> {
        let Call { user, service, method, path, .. } = &explained.call;
        let grounds = explained.answer.decision.grounds();
        let word = match &explained.answer.decision {
            Decision::Allow(_) => self.paint.good("allow"),
            Decision::Deny(_) => self.paint.bad("deny"),
        };
        let asked = printable(&format!("{user} {method} {path} at {service}"));
        writeln!(self.out, "{word} {} {asked}", self.paint.bold(grounds.reason.code()))?;
        match (&explained.path, &explained.answer.error, &grounds.rule) {
            (Err(_), _, _) => {
                writeln!(
                    self.out,
                    "  a gate refuses this before it asks any policy: {}",
                    self.refusal(explained)
                )?;
            }
            (Ok(_), Some(error), _) => {
                writeln!(self.out, "  the policy has no answer: {}", printable(&error.to_string()))?
            }
            (Ok(_), None, Some(rule)) => writeln!(self.out, "  by {}", self.rule(rule))?,
            (Ok(_), None, None) => writeln!(self.out, "  by no row")?,
        }
        match &explained.path {
            Ok(read) if read != path => writeln!(self.out, "  the path is read as {read}")?,
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }

    fn refusal(&self, explained: &Explanation) -> String {
        use crate::access::Reason;
        match explained.answer.decision.grounds().reason {
            Reason::Malformed(fault) => fault.to_string(),
            Reason::MethodNotAllowed => {
                "it forwards GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS".to_owned()
            }
            other => other.code().to_owned(),
        }
    }

    fn names(&mut self, names: &Reach) -> Result<()> {
        let place = names.domain.as_ref().map(|domain| format!(" in {domain}")).unwrap_or_default();
        let title = printable(&format!("{} has by {}{place}", names.name, names.definition));
        writeln!(self.out, "\n{}", self.paint.bold(&title))?;
        if names.roles.is_empty() {
            writeln!(self.out, "  nothing but itself")?;
        }
        let width = names.roles.iter().map(|held| held.role.chars().count()).max().unwrap_or_default();
        for held in &names.roles {
            let role = printable(&held.role);
            writeln!(self.out, "  {role:width$}  {}", self.paint.dim(&printable(&way(held))))?;
        }
        Ok(())
    }

    fn rows(&mut self, explained: &Explanation) -> Result<()> {
        let of = count(explained.rows as u64, "row");
        let title = match explained.matched.len() {
            0 => format!("none of {of} matches"),
            1 => format!("1 of {of} matches"),
            matched => format!("{matched} of {of} match"),
        };
        writeln!(self.out, "\n{}", self.paint.bold(&title))?;
        let decided = explained.answer.decision.grounds().rule.as_deref();
        for row in &explained.matched {
            let mark = if decided == Some(&row.rule) { self.paint.accent("*") } else { " ".to_owned() };
            writeln!(self.out, "{mark} {}", self.rule(&row.rule))?;
        }
        Ok(())
    }

    fn near(&mut self, explained: &Explanation) -> Result<()> {
        if !explained.plain {
            let why = "the matcher is not plain, so which conditions fail cannot be told";
            writeln!(self.out, "\n{}", self.paint.dim(why))?;
        }
        if explained.near.is_empty() {
            return Ok(());
        }
        let title = match explained.answer.decision {
            Decision::Allow(_) => "nearest rows that would have denied",
            Decision::Deny(_) => "nearest rows that would have allowed",
        };
        writeln!(self.out, "\n{}", self.paint.bold(title))?;
        for Near { rule, failed } in &explained.near {
            writeln!(self.out, "  {}", self.rule(rule))?;
            for condition in failed {
                writeln!(self.out, "    {}", self.paint.bad(&printable(&condition.text)))?;
            }
        }
        Ok(())
    }

    fn rule(&self, rule: &Rule) -> String {
        let place = printable(&format!("{}:{}:", rule.file, rule.line));
        format!("{} {}", self.paint.dim(&place), printable(&rule.text))
    }
}

/// The way to a role: `by the credential`, or each link with its place.
fn way(held: &Held) -> String {
    let links = held.by.iter().map(|link| match &link.row {
        Some(row) => format!("{} ({}:{})", link.to, row.file, row.line),
        None => format!("{} (credential)", link.to),
    });
    match held.by.as_slice() {
        [Link { row: None, .. }] => "by the credential".to_owned(),
        [Link { row: Some(row), .. }] => format!("by {}:{}", row.file, row.line),
        _ => format!("by {}", links.collect::<Vec<_>>().join(" > ")),
    }
}

const AFTER_HELP: &str = "\
Tells the decision and the row that made it, every role that the caller has and by which rows, all rows that match, and
the nearest of those that would have turned the decision, with the conditions that they lack. The path is read as a gate
reads it. The policy's files are asked, not a running gate; POST /v1/policy/explain of the admin API asks one.

Examples:
  portcullis policy explain app GET /docs/a --user user:alice --role role:viewer --config gate/portcullis.toml
  portcullis policy explain app GET /docs/a --model policies/model.conf --policy policies/policy.csv --json

Exit codes: 0 allowed, 1 denied, 2 the policy cannot be read.";
