//! `portcullis witness keygen`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::audit::checkpoint::{CosigningKey, Origin};
use crate::cli::{Outcome, files};

/// Makes a witness's key.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The witness's name, which stands beside each of its cosignatures: a host name you own and a path
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The file to make: the private key, PKCS#8 PEM, mode 0600
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Makes the key and prints the verifier key.
///
/// # Errors
/// If the name cannot name a witness, or the file is there already or cannot be made.
pub fn run(args: &Args) -> Result<Outcome> {
    let name = Origin::parse(&args.name).context("--name")?;
    let key = CosigningKey::generate(name)?;
    files::write_secret(&args.out, key.to_pkcs8_pem()?.as_bytes())?;
    writeln!(std::io::stdout(), "{}", key.verifier())?;
    Ok(Outcome::Fine)
}

const AFTER_HELP: &str = "\
The verifier key (vkey, type 0x04) goes to stdout. It is public: it belongs into the config of the gates that are \
witnessed ([[witness]]), and into the policy files of those who check their logs. The key is for one witness under one \
name, and signs nothing else.

Example:
  portcullis witness keygen --name witness.example.com/w1 --out witness.pem > witness.vkey

Exit codes: 0 made, 2 the name cannot name a witness, or the file cannot be made.";
