//! `portcullis audit create`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;

use super::source;
use crate::app;
use crate::cli::Outcome;
use crate::cli::out::Paint;

/// Creates the log of a config.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The config that names the log
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Creates the log and prints its verifier key.
///
/// # Errors
/// If there is a log, or its origin has been used, or it cannot be made.
pub fn run(args: &Args) -> Result<Outcome> {
    let settings = source::settings(&args.config)?;
    let vkey = app::create_log(&settings)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "created {} in {}",
        Paint::of_stdout().bold(&settings.log.origin),
        settings.log.dir.display()
    )?;
    writeln!(out, "verifier key: {vkey}")?;
    Ok(Outcome::Fine)
}

const AFTER_HELP: &str = "\
A log is created once: `serve` never makes one. A mark in log.state_dir remembers that the origin has been used, so a \
log that is lost is not replaced in silence. The outside mark (log.mark_file), if the config names one, is written, too; its \
directory must be there, and no mark in it. The log's key must be there; `portcullis keygen` makes it.

Example:
  portcullis keygen --origin portcullis.example.com/gate-1 --out data/keys/log.pem
  portcullis audit create --config config/portcullis.toml

Exit codes: 0 created, 2 there is a log, or its origin has been used, or it cannot be made.";
