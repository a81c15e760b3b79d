//! `portcullis audit policy`.

use std::io::Write as _;

use anyhow::{Result, anyhow, bail};

use super::source::Source;
use crate::audit::hash::Hash;
use crate::audit::storage::Store as _;
use crate::cli::Outcome;
use crate::policy::Texts;

/// Shows a policy that was in force.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The policy's epoch, as records name it: 64 hex digits
    #[arg(value_name = "EPOCH")]
    epoch: String,
    #[command(flatten)]
    source: Source,
    /// The piece whose SHA-256 the epoch is, and nothing else
    #[arg(long)]
    raw: bool,
}

/// Prints the policy.
///
/// # Errors
/// If the epoch is none, or no such policy is kept.
#[allow(clippy::print_stderr)]
pub fn run(args: &Args) -> Result<Outcome> {
    let epoch = Hash::from_hex(args.epoch.as_bytes())
        .ok_or_else(|| anyhow!("{:?} is no epoch: 64 hex digits in lower case", args.epoch))?;
    let store = args.source.open()?;
    let Some(piece) = store.policy(epoch)? else {
        bail!("no policy of epoch {epoch} is kept: no gate that keeps policies has served by it on this log")
    };
    if Hash::of(&piece) != epoch {
        eprintln!(
            "portcullis: what is kept under {epoch} is not that policy: it hashes to {}",
            Hash::of(&piece)
        );
        return Ok(Outcome::DoesNotHold);
    }
    let mut out = std::io::stdout().lock();
    if args.raw {
        out.write_all(&piece)?;
    } else {
        let texts = Texts::read(&piece)
            .ok_or_else(|| anyhow!("the policy {epoch} is in a form of a later version"))?;
        let of = texts.policies.len();
        writeln!(out, "# model")?;
        write_text(&mut out, &texts.model)?;
        for (text, n) in texts.policies.iter().zip(1..) {
            writeln!(out, "# policy file {n} of {of}")?;
            write_text(&mut out, text)?;
        }
    }
    out.flush()?;
    Ok(Outcome::Fine)
}

fn write_text(out: &mut impl std::io::Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes())?;
    Ok(if text.is_empty() || text.ends_with('\n') { Ok(()) } else { writeln!(out) }?)
}

const AFTER_HELP: &str = "\
Each record names the policy that was in force, by its epoch. The gate keeps the text of each before anything is decided by \
it. The epoch is the SHA-256 of the text in one piece, so the text needs no other proof: --raw gives that piece, `portcullis \
policy v1`, a line break, then the model and each file after its length in 8 bytes, big-endian.

Examples:
  portcullis audit show 42 --raw --config gate/portcullis.toml | jq -r .policy
  portcullis audit policy 6f5d0f0d9f1c1e0a3d7b2c4e5a6978877665544332211000ffeeddccbbaa9988 --config gate/portcullis.toml
  portcullis audit policy 6f5d0f0d9f1c1e0a3d7b2c4e5a6978877665544332211000ffeeddccbbaa9988 --raw --log gate/log | sha256sum

Exit codes: 0 shown, 1 what is kept is not that policy, 2 no such policy is kept, or the log cannot be read.";
