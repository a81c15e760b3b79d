//! `portcullis audit mark`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::source;
use crate::app::log::{LogError, MarkMade, make_mark};
use crate::audit::mark::MarkError;
use crate::cli::Outcome;
use crate::cli::out::{Paint, count};

/// Makes the outside mark of a log.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The config that names the log and its mark
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Makes the mark, and tells what it vouches for.
///
/// # Errors
/// If the config names no mark, or the log cannot be read, or a gate keeps the mark, or it cannot be written.
pub fn run(args: &Args) -> Result<Outcome> {
    let settings = source::settings(&args.config)?;
    let mut out = std::io::stdout().lock();
    let paint = Paint::of_stdout();
    let made = match make_mark(&settings.log) {
        Err(LogError::Mark(error @ (MarkError::Shorter { .. } | MarkError::Fork { .. }))) => {
            writeln!(out, "{} {error}", paint.bad("not marked:"))?;
            return Ok(Outcome::DoesNotHold);
        }
        Err(error @ LogError::Mark(MarkError::Kept { .. })) => {
            return Err(error).context("a gate that is serving keeps its mark by itself");
        }
        made => made?,
    };
    let MarkMade { size, root, before } = made;
    let file = settings.log.mark_file.unwrap_or_default();
    writeln!(out, "{} {}", paint.good("marked:"), paint.bold(&settings.log.origin))?;
    writeln!(out, "  {}, root {}", count(size, "record"), STANDARD.encode(root.0))?;
    if let Some(before) = before {
        writeln!(out, "  the mark that was there covered {}; the log extends it", count(before, "record"))?;
    }
    writeln!(out, "  in {}", file.display())?;
    Ok(Outcome::Fine)
}

const AFTER_HELP: &str = "\
The outside mark is the log's latest checkpoint in a second place (log.mark_file). With it `serve` notices a log that is \
shorter than it was, and refuses it. `audit create` and `serve` write the mark by themselves; this command is for a log \
that was created without one, or whose mark's disk is new. It takes the log as it stands for what it should be: run \
`audit verify` before, if you have a kept checkpoint with --against. A mark that is there and that the log does not \
extend is left as it is.

Examples:
  portcullis audit mark --config config/portcullis.toml
  portcullis audit verify --config config/portcullis.toml --against /mnt/marks/gate-1.mark

Exit codes: 0 marked, 1 the log does not extend the mark that is there, 2 it cannot be read or written.";
