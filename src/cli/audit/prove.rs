//! `portcullis audit prove`.

use std::io::Write as _;

use anyhow::{Result, anyhow, bail};

use super::source::Source;
use crate::audit::merkle::proof::MakeError;
use crate::audit::storage::Store as _;
use crate::audit::tiles::{self, ProveError};
use crate::cli::Outcome;

/// Proves that a record is in the log.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The record's index, as `Portcullis-Record` names it behind the last slash
    #[arg(value_name = "INDEX")]
    index: u64,
    #[command(flatten)]
    source: Source,
    /// Under the kept checkpoint of so many records, instead of under the latest
    #[arg(long, value_name = "RECORDS")]
    size: Option<u64>,
}

/// Prints the proof.
///
/// # Errors
/// If there is no such record or checkpoint, or the log cannot be read.
#[allow(clippy::print_stderr)]
pub fn run(args: &Args) -> Result<Outcome> {
    let store = args.source.open()?;
    let latest = store.latest_checkpoint()?.ok_or_else(|| anyhow!("the log has no checkpoint yet"))?;
    let note = match args.size {
        None => latest,
        Some(size) => tiles::checkpoint_of(&store, size, &latest)?.ok_or_else(|| {
            anyhow!("no checkpoint of {size} records is kept; leave --size out for the latest")
        })?,
    };
    match tiles::prove(&store, args.index, note) {
        Ok(proof) => {
            let mut out = std::io::stdout().lock();
            out.write_all(proof.to_text().as_bytes())?;
            out.flush()?;
            Ok(Outcome::Fine)
        }
        Err(ProveError::Make(MakeError::NoSuchLeaf { index, size })) => {
            bail!("there is no record {index} under that checkpoint: it covers {size} records, from 0 on")
        }
        Err(error @ ProveError::Damaged(_)) => {
            eprintln!("portcullis: {error}; `portcullis audit verify` tells more");
            Ok(Outcome::DoesNotHold)
        }
        Err(error) => Err(error.into()),
    }
}

const AFTER_HELP: &str = "\
Prints a C2SP tlog-proof (https://c2sp.org/tlog-proof): the record's index, at most 64 hashes, and the log's signed \
checkpoint. With it, the record and the log's verifier key, anyone can check that the record is in the log, without the \
log. The gate itself gives the same at /v1/records/INDEX/proof of its admin listener.

Examples:
  portcullis audit prove 42 --config gate/portcullis.toml > 42.tlog-proof
  portcullis audit show 42 --raw --config gate/portcullis.toml > 42.record
  portcullis audit check-proof 42.record 42.tlog-proof --vkey \"$(cat gate/keys/log.vkey)\"

Exit codes: 0 proved, 1 the log does not lead to its own checkpoint, 2 there is no such record, or the log cannot be read.";
