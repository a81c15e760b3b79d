//! The `portcullis` command.

use std::process::ExitCode;

use clap::Parser as _;
use portcullis::cli::{self, AuditCommand, Cli, Command, PolicyCommand, WitnessCommand};

fn main() -> ExitCode {
    let ran = match Cli::parse().command {
        Command::Init(args) => cli::init::run(&args),
        Command::Serve(args) => cli::serve::run(args),
        Command::Check(args) => cli::check::run(&args),
        Command::Demo(args) => cli::demo::run(&args),
        Command::Keygen(args) => cli::keygen::run(&args),
        Command::Token(args) => cli::token::run(&args),
        Command::Audit(AuditCommand::Create(args)) => cli::audit::create::run(&args),
        Command::Audit(AuditCommand::Mark(args)) => cli::audit::mark::run(&args),
        Command::Audit(AuditCommand::Verify(args)) => cli::audit::verify::run(&args),
        Command::Audit(AuditCommand::List(args)) => cli::audit::list::run(&args),
        Command::Audit(AuditCommand::Show(args)) => cli::audit::show::run(&args),
        Command::Audit(AuditCommand::Export(args)) => cli::audit::export::run(&args),
        Command::Audit(AuditCommand::Bundle(args)) => cli::audit::bundle::run(&args),
        Command::Audit(AuditCommand::Policy(args)) => cli::audit::policy::run(&args),
        Command::Audit(AuditCommand::Prove(args)) => cli::audit::prove::run(&args),
        Command::Audit(AuditCommand::CheckProof(args)) => cli::audit::check_proof::run(&args),
        Command::Audit(AuditCommand::Consistency(args)) => cli::audit::consistency::run(&args),
        Command::Witness(WitnessCommand::Serve(args)) => cli::witness::serve::run(&args),
        Command::Witness(WitnessCommand::Keygen(args)) => cli::witness::keygen::run(&args),
        Command::Monitor(args) => cli::monitor::run(&args),
        Command::Policy(PolicyCommand::Test(args)) => cli::policy::test::run(&args),
        Command::Policy(PolicyCommand::Explain(args)) => cli::policy::explain::run(&args),
        Command::Policy(PolicyCommand::Fmt(args)) => cli::policy::fmt::run(&args),
        Command::Policy(PolicyCommand::Enforce(args)) => cli::policy::enforce::run(&args),
        Command::Policy(PolicyCommand::Lint(args)) => cli::policy::lint::run(&args),
        Command::Policy(PolicyCommand::WhoCan(args)) => cli::policy::who_can::run(&args),
        Command::Policy(PolicyCommand::WhatCan(args)) => cli::policy::what_can::run(&args),
        Command::Policy(PolicyCommand::Diff(args)) => cli::policy::diff::run(&args),
    };
    cli::exit(ran)
}
