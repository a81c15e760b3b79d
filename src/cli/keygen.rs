//! `portcullis keygen`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Outcome, files};
use crate::audit::checkpoint::{Origin, SigningKey};
use crate::proxy::assertion::{AssertionKey, key_set};

/// Makes a signing key: a log's, or one for assertions to services.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The log's name, signed into every checkpoint: a host name you own and a path
    #[arg(long, value_name = "ORIGIN", required_unless_present = "assertion")]
    origin: Option<String>,
    /// Make a key for assertions to services instead, and print its public half as a JWK Set
    #[arg(long, conflicts_with = "origin")]
    assertion: bool,
    /// The file to make: the private key, PKCS#8 PEM, mode 0600
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Makes the key and prints its public half: a verifier key, or a JWK Set.
///
/// # Errors
/// If the origin cannot name a log, or the file is there already or cannot be made.
pub fn run(args: &Args) -> Result<Outcome> {
    let mut stdout = std::io::stdout();
    match &args.origin {
        Some(origin) => {
            let key = SigningKey::generate(Origin::parse(origin).context("--origin")?)?;
            files::write_secret(&args.out, key.to_pkcs8_pem()?.as_bytes())?;
            writeln!(stdout, "{}", key.verifier())?;
        }
        None => {
            let key = AssertionKey::generate()?;
            files::write_secret(&args.out, key.to_pkcs8_pem()?.as_bytes())?;
            write!(stdout, "{}", key_set([&key]))?;
        }
    }
    Ok(Outcome::Fine)
}

const AFTER_HELP: &str = "\
The verifier key (vkey, C2SP signed-note) goes to stdout. It is public: give it to whoever shall verify the log, by a \
way that the log's operator cannot change. A file that is there is never overwritten. To change the key of a log that \
there is, make the next one here under the same origin, name it by log.key_file and the old one by \
log.retiring_key_file, and restart the gate: docs/operations.md has a page on it.

With --assertion the key is for what the gate vouches for to services, and is named by assertion.key_file: \
docs/assertion.md. Its public half is served by the gate, too.

Examples:
  portcullis keygen --origin portcullis.example.com/gate-1 --out keys/log.pem > keys/log.vkey
  portcullis keygen --origin portcullis.example.com/gate-1 --out keys/log-2.pem > keys/log-2.vkey
  portcullis keygen --assertion --out keys/assertion.pem > keys/assertion.jwks.json

Exit codes: 0 made, 2 the origin cannot name a log, or the file cannot be made.";
