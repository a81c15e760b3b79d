//! `portcullis audit check-proof`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::audit::checkpoint::{Checkpoint, VerifierKey};
use crate::audit::hash::Hash;
use crate::audit::proof::RecordProof;
use crate::audit::record::Record;
use crate::cli::Outcome;
use crate::cli::out::{Paint, count, printable};

/// Checks a proof of a record.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The record's stored bytes; one line break at the end is not taken for a part of it
    #[arg(value_name = "RECORD")]
    record: PathBuf,
    /// The proof, a C2SP tlog-proof
    #[arg(value_name = "PROOF")]
    proof: PathBuf,
    /// The log's verifier key, as `portcullis keygen` printed it
    #[arg(long, value_name = "VKEY")]
    vkey: String,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// What was proved.
struct Proved {
    index: u64,
    leaf: Hash,
    checkpoint: Checkpoint,
}

/// Checks, and tells what was proved.
///
/// # Errors
/// If a file or the key cannot be read.
pub fn run(args: &Args) -> Result<Outcome> {
    let key = VerifierKey::parse(args.vkey.trim()).context("--vkey")?;
    let record = read(&args.record)?;
    let record = record.strip_suffix(b"\n").unwrap_or(&record);
    let proof = read(&args.proof)?;
    let checked = check(record, &proof, &key);
    if args.json { tell_json(&checked, &key) } else { tell(&checked, record, &key) }?;
    Ok(if checked.is_ok() { Outcome::Fine } else { Outcome::DoesNotHold })
}

/// Checks it all; why not, for people.
fn check(record: &[u8], proof: &[u8], key: &VerifierKey) -> Result<Proved, String> {
    let proof = RecordProof::parse(proof).map_err(|error| error.to_string())?;
    let checkpoint = proof.check(record, key).map_err(|error| error.to_string())?;
    // It is in the log, then; where, it also says itself, and a gate writes nothing else.
    let own = Record::parse(record)
        .map_err(|error| format!("what is proved is not a record: {error}"))?
        .head()
        .index;
    if own != proof.index {
        return Err(format!("the record at index {} says that it is {own}", proof.index));
    }
    Ok(Proved { index: proof.index, leaf: Hash::leaf(record), checkpoint })
}

fn tell(checked: &Result<Proved, String>, record: &[u8], key: &VerifierKey) -> Result<()> {
    let paint = Paint::of_stdout();
    let mut out = std::io::stdout().lock();
    match checked {
        Ok(Proved { index, leaf, checkpoint }) => {
            writeln!(out, "{} record {index} of {}", paint.good("the proof holds:"), checkpoint.origin())?;
            if let Ok(record) = Record::parse(record) {
                writeln!(out, "  {}, of {}", record.head().kind.as_str(), record.head().time)?;
            }
            writeln!(out, "  leaf hash {leaf}")?;
            writeln!(out, "  under the checkpoint of {}", count(checkpoint.size(), "record"))?;
            writeln!(out, "  root {}", STANDARD.encode(checkpoint.root().0))?;
            writeln!(out, "  signed by {key}")?;
        }
        Err(why) => writeln!(out, "{} {}", paint.bad("the proof does not hold:"), printable(why))?,
    }
    Ok(())
}

fn tell_json(checked: &Result<Proved, String>, key: &VerifierKey) -> Result<()> {
    let answer = match checked {
        Ok(Proved { index, leaf, checkpoint }) => json!({
            "holds": true,
            "origin": checkpoint.origin(),
            "index": index,
            "leaf_hash": leaf.to_string(),
            "size": checkpoint.size(),
            "root": STANDARD.encode(checkpoint.root().0),
        }),
        Err(why) => json!({ "holds": false, "origin": key.name(), "fault": why }),
    };
    Ok(writeln!(std::io::stdout(), "{answer}")?)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

const AFTER_HELP: &str = "\
Needs the record, the proof and the key, and nothing else: no log, no gate, no network. The record is the stored bytes, as \
`audit show --raw`, a line of `audit export` and /v1/records/INDEX give them; the proof is what `audit prove` and \
/v1/records/INDEX/proof give. The key must come from elsewhere than the proof.

What is proved: the holder of the key signed a log that has exactly this record at this index. Not proved: that nobody was \
shown another log; see `portcullis audit consistency`.

In JSON: holds, origin, and index, leaf_hash (hex), size, root (base64); or fault.

Examples:
  portcullis audit check-proof 42.record 42.tlog-proof --vkey \"$(cat log.vkey)\"
  portcullis audit check-proof 42.record 42.tlog-proof --vkey \"$(cat log.vkey)\" --json

Exit codes: 0 the proof holds, 1 it does not, 2 wrong use or unreadable input.";
