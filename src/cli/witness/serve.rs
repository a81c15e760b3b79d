//! `portcullis witness serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use crate::app;
use crate::audit::checkpoint::{CosigningKey, Origin, VerifierKey};
use crate::cli::Outcome;
use crate::clock::Clock;
use crate::witness::{Ledger, Witness};

/// Runs a witness.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The witness's name, as its key was made for
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Its private key, as `portcullis witness keygen` made it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The directory that remembers what was cosigned; made if it is not there
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// A log to witness, by its verifier key; may be given several times, also for several keys of one log
    #[arg(long = "log", value_name = "VKEY")]
    logs: Vec<String>,
    /// A file of verifier keys, one a line; empty lines and those that begin with # are left out
    #[arg(long, value_name = "FILE")]
    logs_file: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7380")]
    listen: SocketAddr,
    /// Once it listens, write its address to this file
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// If the key, a verifier key or the state cannot be read, or the address not be listened on.
pub fn run(args: &Args) -> Result<Outcome> {
    app::witness::log_to_stderr();
    let name = Origin::parse(&args.name).context("--name")?;
    let at = |path: &PathBuf| path.display().to_string();
    app::witness::keep_private(&args.key)?;
    let pem =
        std::fs::read_to_string(&args.key).map(zeroize::Zeroizing::new).with_context(|| at(&args.key))?;
    let key = CosigningKey::from_pkcs8_pem(name, &pem).with_context(|| at(&args.key))?;
    let logs = logs(args)?;
    if logs.is_empty() {
        bail!("name a log at least, by --log or --logs-file");
    }
    let witness = Witness::new(key, logs, Ledger::open(&args.state)?, Clock::system())?;
    app::witness::serve(Arc::new(witness), args.listen, args.ready_file.as_deref())?;
    Ok(Outcome::Fine)
}

fn logs(args: &Args) -> Result<Vec<VerifierKey>> {
    let mut keys = Vec::new();
    for vkey in &args.logs {
        keys.push(VerifierKey::parse(vkey.trim()).with_context(|| format!("--log {vkey}"))?);
    }
    if let Some(path) = &args.logs_file {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key =
                VerifierKey::parse(line).with_context(|| format!("{}, line {number}", path.display()))?;
            keys.push(key);
        }
    }
    Ok(keys)
}

const AFTER_HELP: &str = "\
Answers POST /add-checkpoint as C2SP tlog-witness says, in plain HTTP: what is sent is public and signed, so TLS adds \
privacy alone, by a proxy in front. --state is all that keeps it from cosigning a fork: keep it on a disk of its own \
machine, and never set it back to an older copy. A log that is new to it is taken from any size.

Examples:
  portcullis witness serve --name witness.example.com/w1 --key witness.pem --state witness \\
      --log \"$(cat gate-1.vkey)\" --listen 0.0.0.0:7380
  portcullis witness serve --name witness.example.com/w1 --key witness.pem --state witness --logs-file logs.txt

Exit codes: 0 stopped by SIGTERM or Ctrl-C, 2 wrong use, or what it needs cannot be read or listened on.";
