//! `portcullis audit consistency`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::json;

use super::source;
use crate::audit::checkpoint::{Checkpoint, VerifierKey};
use crate::audit::merkle::proof::MakeError;
use crate::audit::proof::ConsistencyProof;
use crate::audit::storage::Store as _;
use crate::audit::tiles::{self, ProveError};
use crate::cli::Outcome;
use crate::cli::out::{Paint, count, printable};

/// Proves that a log has only grown, or checks it.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Make a proof from this size on
    #[arg(long, value_name = "RECORDS", conflicts_with_all = ["old", "proof"], required_unless_present = "old")]
    from: Option<u64>,
    /// Up to this size, instead of the latest checkpoint's
    #[arg(long, value_name = "RECORDS", requires = "from")]
    to: Option<u64>,
    /// Check: the older checkpoint
    #[arg(long, value_name = "FILE", requires_all = ["new", "vkey"])]
    old: Option<PathBuf>,
    /// Check: the newer checkpoint
    #[arg(long, value_name = "FILE", requires = "old")]
    new: Option<PathBuf>,
    /// Check: the proof between the two; without it, the log is asked for one
    #[arg(long, value_name = "FILE", requires = "old", conflicts_with_all = ["config", "log"])]
    proof: Option<PathBuf>,
    /// Check: the log's verifier key, as `portcullis keygen` printed it
    #[arg(long, value_name = "VKEY", requires = "old")]
    vkey: Option<String>,
    /// The config that names the log
    #[arg(long, value_name = "FILE", conflicts_with = "log")]
    config: Option<PathBuf>,
    /// The log's directory, without a config
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// Answer a check with one JSON object
    #[arg(long, requires = "old")]
    json: bool,
}

/// Makes or checks.
///
/// # Errors
/// If the log, a file or the key cannot be read, or the log has no such sizes.
pub fn run(args: &Args) -> Result<Outcome> {
    match (args.from, &args.old, &args.new, &args.vkey) {
        (None, Some(old), Some(new), Some(vkey)) => check(args, (old, new), vkey),
        (Some(from), ..) => {
            let proof = make(args, from, args.to)?;
            let mut out = std::io::stdout().lock();
            out.write_all(proof.to_json().as_bytes())?;
            out.flush()?;
            Ok(Outcome::Fine)
        }
        _ => bail!("give --from to make a proof, or --old, --new and --vkey to check one"),
    }
}

fn make(args: &Args, from: u64, to: Option<u64>) -> Result<ConsistencyProof> {
    let store = source::open(args.log.as_deref(), args.config.as_deref())?;
    let latest = store.latest_checkpoint()?.ok_or_else(|| anyhow!("the log has no checkpoint yet"))?;
    let (size, _) = Checkpoint::stated(latest.as_bytes()).ok_or_else(|| {
        anyhow!("the log's latest checkpoint is none; `portcullis audit verify` tells more")
    })?;
    let to = to.unwrap_or(size);
    if to > size {
        bail!("the log's latest checkpoint covers {}, not {to}", count(size, "record"));
    }
    match tiles::prove_growth(&store, (from, to), &store.identity()?.origin, &latest) {
        Err(ProveError::Make(MakeError::Backwards { from, to })) => {
            bail!("--from {from} lies beyond {to}; a log only grows")
        }
        proof => Ok(proof?),
    }
}

fn check(args: &Args, (old, new): (&Path, &Path), vkey: &str) -> Result<Outcome> {
    let key = VerifierKey::parse(vkey.trim()).context("--vkey")?;
    let (old_note, new_note) = (read(old)?, read(new)?);
    let opened = open(&old_note, old, &key).and_then(|old| Ok((old, open(&new_note, new, &key)?)));
    let checked = match opened {
        Err(why) => Err(why),
        Ok((old, new)) => {
            let proof = match &args.proof {
                Some(path) => ConsistencyProof::parse(&read(path)?).map_err(|error| error.to_string()),
                None if old.size() > new.size() => Err(shrunk(&old, &new)),
                None => Ok(make(args, old.size(), Some(new.size()))?),
            };
            proof
                .and_then(|proof| proof.check(&old, &new).map_err(|error| error.to_string()))
                .map(|()| (old, new))
        }
    };
    tell(&checked, &key, args.json)?;
    Ok(if checked.is_ok() { Outcome::Fine } else { Outcome::DoesNotHold })
}

fn open(note: &[u8], path: &Path, key: &VerifierKey) -> Result<Checkpoint, String> {
    Checkpoint::open(note, key).map_err(|error| format!("{}: {error}", path.display()))
}

fn shrunk(old: &Checkpoint, new: &Checkpoint) -> String {
    format!("the newer checkpoint covers {}, fewer than the older one's {}", new.size(), old.size())
}

fn tell(checked: &Result<(Checkpoint, Checkpoint), String>, key: &VerifierKey, in_json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let paint = Paint::of_stdout();
    match checked {
        Ok((old, new)) if in_json => {
            writeln!(
                out,
                "{}",
                json!({ "holds": true, "origin": key.name(), "from": old.size(), "to": new.size() })
            )?;
        }
        Err(why) if in_json => {
            writeln!(out, "{}", json!({ "holds": false, "origin": key.name(), "fault": why }))?;
        }
        Ok((old, new)) => {
            writeln!(out, "{} {}", paint.good("the log has only grown:"), key.name())?;
            writeln!(out, "  from {} to {}", count(old.size(), "record"), count(new.size(), "record"))?;
            writeln!(out, "  both checkpoints signed by {key}")?;
        }
        Err(why) => {
            writeln!(out, "{} {}", paint.bad("not shown that the log has only grown:"), printable(why))?
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

const AFTER_HELP: &str = "\
Makes the proof that the log of one size begins with all records of a smaller one (RFC 6962, 2.1.2), as one line of JSON: \
origin, from, to, proof (base64 hashes), and checkpoint where one of size `to` is kept. The gate itself gives the same at \
/v1/consistency?from=&to= of its admin listener.

Or checks, between two checkpoints that were kept, that nothing the older one covers was changed or dropped: with a proof \
from elsewhere, or one that the log at hand makes.

A check in JSON: holds, origin, and from, to; or fault.

Examples:
  portcullis audit consistency --from 1000 --config gate/portcullis.toml > growth.json
  portcullis audit consistency --old monday --new friday --proof growth.json --vkey \"$(cat log.vkey)\"
  portcullis audit consistency --old monday --new friday --log gate/log --vkey \"$(cat log.vkey)\" --json

Exit codes: 0 made, or it holds, 1 it does not hold, 2 wrong use or unreadable input.";
