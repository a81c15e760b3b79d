//! `portcullis monitor`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use http::Uri;

use super::audit::cosigned::read_policy;
use super::token::parse_duration;
use super::{Outcome, out};
use crate::app::monitor::{self as process, Service};
use crate::audit::checkpoint::VerifierKey;
use crate::clock::Clock;
use crate::monitor::{Demands, Follower, Report, Source, State, Verdict};
use crate::net::{ClientTls, Dialer, Endpoint, Roots};

/// Follows a gate's log from outside.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Where the log is shown: the gate's admin listener, or any prefix with `/checkpoint` and `/tile/` below it
    #[arg(value_name = "URL")]
    url: String,
    /// The log's verifier key, or one that it had before
    #[arg(long, value_name = "VKEY")]
    vkey: String,
    /// The directory that remembers the last checkpoint; made if it is not there. One for each log
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Look again and again, with this rest between, until SIGTERM; without it, once
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    every: Option<Duration>,
    /// How long the log may show nothing new
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10m")]
    stall_after: Duration,
    /// Also read all new records, and hold them against the tree
    #[arg(long)]
    records: bool,
    /// Ask for the cosignatures that this C2SP tlog-policy asks for
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A file with the bearer token to show; read again before each look
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authorities that the listener's certificate must be from, PEM; without it, those of this machine
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The client certificate to show, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// How long one answer may take
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    timeout: Duration,
    /// Print one JSON object for each look
    #[arg(long)]
    json: bool,
    /// Serve figures for Prometheus at /metrics on this address
    #[arg(long, value_name = "ADDRESS", requires = "every")]
    metrics: Option<SocketAddr>,
    /// After the first look, write the address of the figures to this file
    #[arg(long, value_name = "FILE", requires = "every")]
    ready_file: Option<PathBuf>,
}

/// Looks once, or until told to stop.
///
/// # Errors
/// If something given cannot be used, or the log not be seen.
pub fn run(args: &Args) -> Result<Outcome> {
    process::prepare();
    let follower = follower(args)?;
    let Some(every) = args.every else {
        let report = process::once(follower)?;
        if args.json {
            writeln!(std::io::stdout(), "{}", report.json())?;
        }
        return told(&report, args.json);
    };
    let service = Service { every, metrics: args.metrics, ready_file: args.ready_file.clone() };
    process::serve(follower, &service, |report| {
        // A reader who has gone is no reason to stop looking.
        if args.json {
            let _ = writeln!(std::io::stdout(), "{}", report.json());
        }
    })?;
    Ok(Outcome::Fine)
}

fn follower(args: &Args) -> Result<Follower> {
    let key = VerifierKey::parse(args.vkey.trim()).context("--vkey")?;
    if args.stall_after < STALL_LEAST {
        bail!("--stall-after: write 2m or more: a gate records a reader's reads once a minute");
    }
    let policy = args.policy.as_ref().map(|path| read_policy(path, &key)).transpose()?;
    let source = source(args)?;
    let state = State::open(&args.state)?;
    let demands = Demands { policy, records: args.records, stall_after: args.stall_after };
    Ok(Follower::new(source, state, key, demands, Clock::system())?)
}

fn source(args: &Args) -> Result<Source> {
    let url: Uri = args.url.parse().with_context(|| args.url.clone())?;
    let endpoint = Endpoint::of(&url).with_context(|| args.url.clone())?;
    let tls = if endpoint.is_tls() {
        let roots = args.ca_file.as_deref().map_or(Roots::Native, Roots::File);
        let certificate = args.cert.as_deref().zip(args.key.as_deref());
        Some(ClientTls::showing(certificate, roots, &[b"http/1.1"])?)
    } else {
        None
    };
    let dialer = Dialer::new(endpoint, tls.as_ref(), args.timeout)?;
    Source::new(&url, dialer, args.timeout, args.token_file.clone())
        .ok_or_else(|| anyhow!("{}: the URL names no host", args.url))
}

/// What is well goes to stdout, what is not to stderr: then a scheduler that mails errors mails those.
#[allow(clippy::print_stderr)]
fn told(report: &Report, json: bool) -> Result<Outcome> {
    let lines: Vec<String> = report.lines().iter().map(|line| out::printable(line)).collect();
    match report.verdict() {
        Verdict::Holds => {
            if !json {
                writeln!(std::io::stdout(), "{}", lines.join("\n"))?;
            }
            Ok(Outcome::Fine)
        }
        Verdict::DoesNotHold => {
            eprintln!("portcullis: {}", lines.join("\n"));
            Ok(Outcome::DoesNotHold)
        }
        Verdict::Unseen => Err(anyhow!(lines.join("\n"))),
    }
}

/// A gate that nobody calls grows by what it records of the monitor itself, the first read in each minute.
const STALL_LEAST: Duration = Duration::from_secs(120);

const AFTER_HELP: &str = "\
Fetches the log's checkpoint and the tiles that show, by their own hashes, that it continues the one seen last; remembers it; \
and says so if it does not: a fork, a rollback, a stall (nothing new for --stall-after: a gate records that it is read, so one \
that is asked grows), a signature, tile or record that does not hold. The first checkpoint is trusted as it comes. Both \
notes of a fork or rollback are kept in --state, and each look says it again until evidence.json is removed there. A \
change of the log's key is followed. Each --state is one log's; what it forgets, this monitor does not know.

Examples:
  portcullis monitor https://gate-1.example.com:9901 --vkey \"$(cat gate-1.vkey)\" --state gate-1 --token-file token
  portcullis monitor http://127.0.0.1:9901 --vkey \"$(cat gate-1.vkey)\" --state gate-1 --token-file token \\
      --every 30s --metrics 127.0.0.1:9903 --records

Exit codes: 0 the log has only grown (with --every: stopped by SIGTERM or Ctrl-C), 1 it does not hold or stands still, 2 wrong \
use, or the log cannot be reached or not be read.";
