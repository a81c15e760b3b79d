//! `portcullis token`.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use zeroize::Zeroizing;

use super::Outcome;
use super::dev::{self, DevIssuer, Grant};
use crate::clock::Clock;

/// Signs a token for development.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Say that this is for development; refused without
    #[arg(long)]
    dev: bool,
    /// The development issuer's private key: ECDSA P-256, PKCS#8 PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Who vouches: the token's `iss`
    #[arg(long, value_name = "URL", default_value = dev::ISSUER)]
    issuer: String,
    /// Whom it is for: the token's `aud`
    #[arg(long, value_name = "NAME", default_value = dev::AUDIENCE)]
    audience: String,
    /// Who calls: the token's `sub`
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// The caller's roles, without `role:`
    #[arg(long, value_name = "ROLE,...", value_delimiter = ',')]
    roles: Vec<String>,
    /// How long the token holds
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    ttl: Duration,
}

/// Prints a signed token.
///
/// # Errors
/// Without `--dev`, or if the key cannot be used.
pub fn run(args: &Args) -> Result<Outcome> {
    if !args.dev {
        bail!(
            "this signs whatever it is told, so it is for development only; say so with --dev. \
             In production, tokens come from your identity provider"
        );
    }
    let path = args.key.display();
    let pem = Zeroizing::new(std::fs::read_to_string(&args.key).with_context(|| format!("--key {path}"))?);
    let issuer = DevIssuer::from_pem(&pem).with_context(|| format!("--key {path}"))?;
    let grant = Grant {
        issuer: &args.issuer,
        audience: &args.audience,
        subject: &args.subject,
        roles: &args.roles,
        ttl: args.ttl,
    };
    writeln!(std::io::stdout(), "{}", issuer.token(&grant, &Clock::system())?)?;
    Ok(Outcome::Fine)
}

/// Reads a whole number and a unit: `90s`, `15m`, `24h`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wanted =
        || format!("{text:?} is not a duration; write a whole number and a unit, like 90s, 15m, 24h or 7d");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wanted)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wanted()),
    };
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let total = number.checked_mul(seconds).filter(|total| (1..=10 * 366 * 86_400).contains(total));
    total.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is out of bounds; write 1s to 3660d"))
}

const AFTER_HELP: &str = "\
The token goes to stdout. Issuer and audience are, unless given, those of the config that `portcullis init` writes.

Examples:
  portcullis token --dev --key gate/keys/dev.pem --subject alice --roles viewer
  curl -H \"Authorization: Bearer $(portcullis token --dev --key gate/keys/dev.pem --subject bob --roles admin)\" \\
    http://127.0.0.1:8080/docs/intro

Exit codes: 0 signed, 2 no --dev, or the key cannot be used.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "s", "5", "1.5h", "-1s", "1 h", "0s", "4000d", "99999999999999999999s", "1hh", "5µs"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
