//! `portcullis policy fmt`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use serde_json::json;

use crate::app::assemble;
use crate::cli::out::{Paint, count};
use crate::cli::{Outcome, audit, files};
use crate::policy::Text;
use crate::policy::files::expand;
use crate::policy::format::format;

/// Lays policy files out.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The policy files; a directory stands for the *.csv in it
    #[arg(value_name = "FILE", required_unless_present = "config")]
    files: Vec<PathBuf>,
    /// The config whose policy files are meant
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    config: Option<PathBuf>,
    /// Change nothing; name the files that are not laid out
    #[arg(long)]
    check: bool,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// Lays out what is not, or names it.
///
/// # Errors
/// If a file cannot be read; then none has been changed.
pub fn run(args: &Args) -> Result<Outcome> {
    let files = files(args)?;
    let mut changes = Vec::new();
    for path in &files {
        let text = Text::read(path)?;
        let laid_out = format(&text).map_err(|error| anyhow!("nothing was changed:\n{error:#}"))?;
        if laid_out != text.text {
            changes.push((path, laid_out));
        }
    }
    if !args.check {
        for (path, laid_out) in &changes {
            files::replace(path, laid_out.as_bytes())?;
        }
    }
    tell(args, files.len(), &changes.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>())?;
    Ok(if args.check && !changes.is_empty() { Outcome::DoesNotHold } else { Outcome::Fine })
}

fn tell(args: &Args, of: usize, changes: &[String]) -> Result<()> {
    let (mut out, paint) = (std::io::stdout().lock(), Paint::of_stdout());
    if args.json {
        let key = if args.check { "to_change" } else { "changed" };
        writeln!(out, "{}", json!({ "files": of, key: changes }))?;
        return Ok(());
    }
    for change in changes {
        let what = if args.check { paint.bad("not laid out:") } else { paint.good("laid out:") };
        writeln!(out, "{what} {change}")?;
    }
    if changes.is_empty() {
        writeln!(out, "{} {} laid out", paint.good("holds:"), count(of as u64, "file"))?;
    }
    Ok(())
}

/// The files that are meant.
fn files(args: &Args) -> Result<Vec<PathBuf>> {
    let named = match &args.config {
        Some(config) => assemble::sources(&audit::settings(config)?).policies,
        None => args.files.clone(),
    };
    Ok(expand(&named)?)
}

const AFTER_HELP: &str = "\
Rows of one type that stand together get their columns under one another; fields are parted by `, ` and quoted only where
they must be; lines end with LF, and a byte order mark goes. Comments, blank lines and the order of everything stay, and
no row changes. Files are replaced whole, and none is touched if one of them cannot be read.

Examples:
  portcullis policy fmt policies/policy.csv
  portcullis policy fmt --check policies

Exit codes: 0 all is laid out, 1 with --check: some are not, 2 a file cannot be read.";
