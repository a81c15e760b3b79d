//! `portcullis serve`.

use std::path::PathBuf;

use anyhow::Result;

use super::Outcome;
use crate::app::{self, StartError};

/// Runs the gate of a config.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The config file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Write the addresses listened on to this file, as JSON, once the gate is ready
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Take the place of the gate that serves this config's log, without a failed call; start alone if there is none
    #[arg(long)]
    take_over: bool,
}

/// Serves until told to stop.
///
/// # Errors
/// Why the gate did not start, or did not end well.
#[allow(clippy::print_stderr)]
pub fn run(args: Args) -> Result<Outcome> {
    match app::serve(&args.config, args.ready_file, args.take_over) {
        Ok(()) => Ok(Outcome::Fine),
        Err(StartError::Config(errors)) => {
            eprintln!("{errors}");
            Err(anyhow::anyhow!("the config does not hold; nothing was started"))
        }
        Err(error) => Err(error.into()),
    }
}

const AFTER_HELP: &str = "\
SIGTERM and Ctrl-C drain: no new call is decided, calls in flight finish, the log is closed.
SIGHUP reads the config anew: services, issuers, policy and limits change without a restart.
--take-over replaces a running gate by this binary and config: all is proved first, the running gate closes the log and
hands over its sockets, finishes what it is answering, and ends. If anything goes wrong on the way, it serves on.
Sockets that systemd passes (LISTEN_FDS) are used by their address or their name: front, admin, health.
The gate's own log goes to stderr; it is not the audit log.

Examples:
  portcullis serve --config gate/portcullis.toml
  portcullis serve --config gate/portcullis.toml --take-over
  PORTCULLIS__SERVER__LISTEN=127.0.0.1:8081 portcullis serve --config gate/portcullis.toml

Exit codes: 0 drained and stopped, 2 it could not start, or did not end well.";
