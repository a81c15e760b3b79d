//! `portcullis audit show`.

use std::io::Write as _;

use anyhow::{Result, bail};

use super::source::Source;
use crate::audit::hash::Hash;
use crate::audit::record::Record;
use crate::audit::storage::Store as _;
use crate::cli::Outcome;
use crate::cli::out::Paint;

/// Shows one record.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The record's index, as `Portcullis-Record` names it behind the last slash
    #[arg(value_name = "INDEX")]
    index: u64,
    #[command(flatten)]
    source: Source,
    /// The stored bytes and nothing else, not even a newline
    #[arg(long)]
    raw: bool,
}

/// Prints the record.
///
/// # Errors
/// If there is no such record, or it cannot be read.
pub fn run(args: &Args) -> Result<Outcome> {
    let store = args.source.open()?;
    let Some(bytes) = store.record(args.index)? else {
        match store.last_index()? {
            Some(last) => bail!("there is no record {}; the last one is {last}", args.index),
            None => bail!("there is no record {}; the log is empty", args.index),
        }
    };
    let mut out = std::io::stdout().lock();
    if args.raw {
        out.write_all(&bytes)?;
        out.flush()?;
        return Ok(Outcome::Fine);
    }
    let Ok(record) = Record::parse(&bytes) else {
        writeln!(out, "{}", bytes.escape_ascii())?;
        writeln!(out, "this is not a record; `portcullis audit verify` tells more")?;
        return Ok(Outcome::DoesNotHold);
    };
    let leaf = Hash::leaf(&bytes).to_string();
    writeln!(out, "{:#}", serde_json::Value::Object(record.fields().clone()))?;
    writeln!(out, "{}", Paint::of_stdout().dim(&format!("leaf hash {leaf}, {} bytes", bytes.len())))?;
    Ok(Outcome::Fine)
}

const AFTER_HELP: &str = "\
The leaf hash below the record is SHA-256 over a zero byte and the stored bytes; the next record carries it as `prev`.

Examples:
  portcullis audit show 42 --config gate/portcullis.toml
  (printf '\\0'; portcullis audit show 42 --raw --config gate/portcullis.toml) | sha256sum

Exit codes: 0 shown, 1 what is stored there is not a record, 2 there is none, or it cannot be read.";
