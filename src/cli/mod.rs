//! The command line: what can be typed, and what comes of it.
//!
//! | file | what is there |
//! |---|---|
//! | this one | the commands, and their exit codes |
//! | [`init`] | a directory that is ready to serve |
//! | [`serve`], [`check`] | the gate; its config, proved |
//! | [`demo`] | the whole gate, shown at work |
//! | [`keygen`], [`token`] | a log's signing key; development tokens |
//! | [`policy`] | what authors of policies do |
//! | [`audit`] | create, mark, verify, list, show, export and prove a log |
//! | [`witness`] | a witness of logs, and its key |
//! | [`monitor`] | follows a log from outside |
//! | `dev` | the development issuer: its key, key set and tokens |
//! | `files` | files made once, and the config template |
//! | `out` | colour, columns, words for sizes and times |
//!
//! Invariants:
//! 1. What a script may read goes to stdout, everything else to stderr.
//! 2. No file is ever overwritten, but by `policy fmt`, whose work that is. Files with secrets are made with mode 0600.
//! 3. No command changes or deletes a record.

#![allow(clippy::print_stdout)] // printing is what commands do

pub mod audit;
pub mod check;
pub mod demo;
mod dev;
mod files;
pub mod init;
pub mod keygen;
pub mod monitor;
mod out;
pub mod policy;
pub mod serve;
pub mod token;
pub mod witness;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An authorizing reverse proxy with a built-in, tamper-evident audit log.
///
/// Portcullis stands in front of your services. It works out who is calling, asks your Casbin policy whether the call
/// may go through, writes that decision into a log on disk, and only then forwards the call.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, propagate_version = true, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Everything `portcullis` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a directory that is ready to serve: config, keys, policies, log, development tokens
    Init(init::Args),
    /// Run the gate until SIGTERM or Ctrl-C; SIGHUP reloads
    Serve(serve::Args),
    /// Prove a config and the files it names; start nothing
    Check(check::Args),
    /// Show the whole gate at work on this machine, offline, in a temporary directory
    Demo(demo::Args),
    /// Make the key that signs a log's checkpoints, and print its verifier key
    Keygen(keygen::Args),
    /// Sign a token for development with a key of your own
    Token(token::Args),
    /// Create, verify and read the audit log
    #[command(subcommand, after_help = audit::AFTER_HELP)]
    Audit(AuditCommand),
    /// Cosign the checkpoints of logs that run elsewhere, so that none of them can be rewritten unseen
    #[command(subcommand, after_help = witness::AFTER_HELP)]
    Witness(WitnessCommand),
    /// Follow a gate's log from outside; say when it is forked, set back, or stands still
    Monitor(monitor::Args),
    /// Test, ask and lay out policies, without a gate
    #[command(subcommand, after_help = policy::AFTER_HELP)]
    Policy(PolicyCommand),
}

/// What can be done with a log. Nothing here changes a record.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Create the log of a config, once
    Create(audit::create::Args),
    /// Make the outside mark of a log that has none yet, from the log as it stands
    Mark(audit::mark::Args),
    /// Check every record, the chain, the tree and all signatures; name the first bad index
    Verify(audit::verify::Args),
    /// List records by filter, newest first
    List(audit::list::Args),
    /// Show one record
    Show(audit::show::Args),
    /// Write all records to a file, exactly as stored, for somebody else to verify
    Export(audit::export::Args),
    /// Bundle records with all that it takes to check them elsewhere
    Bundle(audit::bundle::Args),
    /// Show a policy that was in force
    Policy(audit::policy::Args),
    /// Prove that a record is in the log, for whoever has its key
    Prove(audit::prove::Args),
    /// Check such a proof, without the log
    CheckProof(audit::check_proof::Args),
    /// Prove that the log has only grown between two sizes, or check it between two checkpoints
    Consistency(audit::consistency::Args),
}

/// What a witness is run by.
#[derive(Debug, Subcommand)]
pub enum WitnessCommand {
    /// Run a witness until SIGTERM or Ctrl-C
    Serve(witness::serve::Args),
    /// Make a witness's key, and print its verifier key
    Keygen(witness::keygen::Args),
}

/// What can be done with a policy. Nothing here changes what a gate decides by.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Hold a policy against a table of expected answers
    Test(policy::test::Args),
    /// Explain one decision: roles, rows that match, and what the nearest others lack
    Explain(policy::explain::Args),
    /// Lay policy files out: columns under one another, quotes only where they must be
    Fmt(policy::fmt::Args),
    /// Ask for one decision, of a gate or of casbin itself
    Enforce(policy::enforce::Args),
    /// Find what was hardly meant: rows that do nothing, patterns that mislead, denials that can be slipped past
    Lint(policy::lint::Args),
    /// List everybody who may call a method on a path
    WhoCan(policy::who_can::Args),
    /// List what a caller may do
    WhatCan(policy::what_can::Args),
    /// Tell what a change to a policy changes: who may now do what, and who no longer
    Diff(policy::diff::Args),
}

/// What came of a command that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Fine,
    /// What was to be checked does not hold.
    DoesNotHold,
}

/// The exit code for what a command returned: 0 fine, 1 the thing checked does not hold, 2 wrong use or unreadable
/// input. Errors are told on stderr.
#[allow(clippy::print_stderr)]
pub fn exit(ran: anyhow::Result<Outcome>) -> ExitCode {
    match ran {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::DoesNotHold) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis: {}", story(&error));
            ExitCode::from(2)
        }
    }
}

/// An error and its causes in one line, less what has been said already.
fn story(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        before if before.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

/// Whether the reader of our output has had enough, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

const AFTER_HELP: &str = "\
Begin here:
  portcullis demo                                   see it work, in under a minute
  portcullis init gate                              make a directory that is ready to serve
  portcullis serve --config gate/portcullis.toml    serve it
  portcullis audit verify --config gate/portcullis.toml

Exit codes: 0 fine, 1 the thing checked does not hold, 2 wrong use or unreadable input.
`portcullis help COMMAND` tells more about each.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples_and_says_what_it_does() {
        fn walk(command: &clap::Command) {
            for sub in command.get_subcommands() {
                assert!(sub.get_about().is_some(), "{} has no purpose", sub.get_name());
                let after = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.contains("Example"), "{} has no examples", sub.get_name());
                assert!(after.contains("Exit codes: 0 "), "{} says no exit codes", sub.get_name());
                walk(sub);
            }
        }
        walk(&Cli::command());
    }

    #[test]
    fn a_reader_who_has_had_enough_is_no_error() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::from(broken).context("writing")));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
