//! `portcullis check`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;

use super::Outcome;
use super::out::{Paint, count};
use crate::app;
use crate::config::{ConfigErrors, Environment, Fault, Settings};

/// Proves a config.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The config file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Tells everything that is wrong with a config and the files it names.
///
/// # Errors
/// If the config file cannot be read.
pub fn run(args: &Args) -> Result<Outcome> {
    let settings = match Settings::load(&args.config, &Environment::of_process()) {
        Ok(settings) => settings,
        Err(ConfigErrors(errors)) => {
            if let [only] = errors.as_slice()
                && matches!(only.fault, Fault::Unreadable(_))
            {
                anyhow::bail!("{only}");
            }
            return told(&errors);
        }
    };
    let app::Proof { holding, faults } = app::check(&settings);
    let (mut out, paint) = (std::io::stdout().lock(), Paint::of_stdout());
    for what in &holding {
        writeln!(out, "{} {what}", paint.good("holds:"))?;
    }
    if faults.is_empty() { Ok(Outcome::Fine) } else { told(&faults) }
}

#[allow(clippy::print_stderr)]
fn told<E: std::fmt::Display>(errors: &[E]) -> Result<Outcome> {
    let mut out = std::io::stdout().lock();
    for error in errors {
        writeln!(out, "{error:#}")?;
    }
    eprintln!("{} in this config", count(errors.len() as u64, "error"));
    Ok(Outcome::DoesNotHold)
}

const AFTER_HELP: &str = "\
Reads the config with the environment's settings, then the keys, certificates, key sets, policies and the log that it \
names. Every error is told, by file and line, with what to write instead. Nothing is started and nothing is changed.

Examples:
  portcullis check --config gate/portcullis.toml
  portcullis check --config gate/portcullis.toml && systemctl reload portcullis

Exit codes: 0 the config holds, 1 it does not, 2 it cannot be read.";
