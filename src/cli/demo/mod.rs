//! `portcullis demo`: the whole gate at work on this machine, told so that a person can follow.
//!
//! | file | what is there |
//! |---|---|
//! | this one | the story, in order |
//! | `stage` | the directory, the certificates, the gate as a process of its own |
//! | `backstage` | the service behind the gate, the issuer's key set, signals |
//! | `client` | calls over TLS, byte for byte as given |
//! | `script` | the calls, and the answer each must get |
//! | `tamper` | a copy of the log, with one byte of it flipped |
//!
//! Everything is real but the machine it is spread over: two loopback servers in this process, the gate in another.

mod backstage;
mod client;
mod script;
mod stage;
mod tamper;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use self::backstage::Backstage;
use self::client::Client;
use self::script::{ADMIN_CALLS, CALLS, Told};
use self::stage::{Shown, Stage};
use super::Outcome;
use super::files::TempDir;
use super::out::Paint;

/// Shows the gate at work.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Work in this directory, which must be new or empty, and leave it there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// End when all was shown, on a terminal too
    #[arg(long)]
    once: bool,
}

/// Plays the story; on a terminal, serves on until Ctrl-C.
///
/// # Errors
/// If the stage cannot be set.
#[allow(clippy::print_stderr)]
pub fn run(args: &Args) -> Result<Outcome> {
    let temporary = if args.dir.is_none() { Some(TempDir::new()?) } else { None };
    let dir = match (&args.dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(temporary)) => temporary.path().join("gate"),
        (None, None) => return Ok(Outcome::DoesNotHold),
    };
    let stays = std::io::stdout().is_terminal() && !args.once;
    let backstage = Backstage::open(&dir)?;
    let mut stage = Stage::set(&dir, &backstage)?;
    let played =
        play(&mut stage, &backstage).and_then(|()| if stays { stay(&stage, &backstage) } else { Ok(()) });
    let stopped = stage.stop(&backstage);
    match played.and(stopped) {
        Ok(()) => Ok(Outcome::Fine),
        Err(error) => {
            eprintln!("\nthe demo did not go as it should: {error:#}");
            eprintln!("the gate's own log ends:\n{}", stage.log_tail());
            Ok(Outcome::DoesNotHold)
        }
    }
}

/// The story.
fn play(stage: &mut Stage, backstage: &Backstage) -> Result<()> {
    let (paint, began) = (Paint::of_stdout(), Instant::now());
    stage.introduce(paint)?;
    stage.start(backstage)?;
    chapter(paint, "Calls through the gate")?;
    let front = Client::new(stage.front()?, &stage.authority())?;
    let mut told = Told::new(stage, backstage, paint);
    for call in CALLS {
        told.make(&front, call)?;
    }
    chapter(paint, "Reading the log is on the log: the admin API is a service behind the same gate")?;
    let admin = Client::new(stage.admin()?, &stage.authority())?;
    for call in ADMIN_CALLS {
        told.make(&admin, call)?;
    }
    let (denied, allowed) = (told.denied()?, told.allowed()?);
    records(stage, denied, paint)?;
    forgery(stage, allowed, paint)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} in {:.1} s: every call got the answer it should.",
        paint.good("Done"),
        began.elapsed().as_secs_f64()
    )?;
    Ok(())
}

fn chapter(paint: Paint, title: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{}\n", paint.bold(&format!("== {title}")))?)
}

/// What the log says, while the gate writes to it.
fn records(stage: &Stage, denied: u64, paint: Paint) -> Result<()> {
    chapter(paint, "What the log says, while the gate goes on writing to it")?;
    stage
        .show(&["audit", "list", "--config", "$DIR/portcullis.toml", "--kind", "decision"], paint)?
        .holds()?;
    stage
        .show(&["audit", "show", &denied.to_string(), "--config", "$DIR/portcullis.toml"], paint)?
        .holds()?;
    stage.show(&["audit", "verify", "--config", "$DIR/portcullis.toml"], paint)?.holds()
}

/// Somebody with access to the disk rewrites history; it shows.
fn forgery(stage: &Stage, index: u64, paint: Paint) -> Result<()> {
    chapter(paint, "Somebody with access to the disk changes who did it")?;
    let copy = stage.dir().join("copy");
    tamper::copy(&stage.dir().join("log"), &copy).context("the log could not be copied")?;
    let flip = tamper::flip(&copy, index)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "In a copy of the log, one bit of record {index} is flipped. RocksDB's own checksums are")?;
    writeln!(out, "written anew with it, so only the hash chain and the signed tree can tell:\n")?;
    writeln!(out, "  before  …{}…", paint.good(&flip.before))?;
    writeln!(out, "  after   …{}…\n", paint.bad(&flip.after))?;
    drop(out);
    let vkey = "$(cat $DIR/keys/log.vkey)";
    let Shown { code, output } =
        stage.show(&["audit", "verify", "--log", "$DIR/copy", "--vkey", vkey], paint)?;
    ensure!(code == Some(1), "audit verify should have found the flipped byte (exit code 1, not {code:?})");
    let named = format!("first bad index: {index}");
    ensure!(output.contains(&named), "audit verify should have named record {index}");
    stage.show(&["audit", "verify", "--config", "$DIR/portcullis.toml"], paint)?.holds()
}

/// Serves on, and says what to try.
fn stay(stage: &Stage, backstage: &Backstage) -> Result<()> {
    let paint = Paint::of_stdout();
    writeln!(std::io::stdout())?;
    chapter(paint, "Yours: the gate serves until Ctrl-C")?;
    stage.suggest(paint)?;
    backstage.wait_for_interrupt();
    Ok(writeln!(std::io::stdout(), "\nstopping the gate")?)
}

const AFTER_HELP: &str = "\
Makes a directory as `init` does, with TLS; starts a small service, an issuer's key set, and the gate in a process of \
its own; makes allowed, denied, unauthenticated and malformed calls; shows their records; verifies the log; flips one \
bit in a copy of it and shows that `audit verify` names the record. On a terminal it then serves until Ctrl-C, else it \
ends. Nothing leaves this machine. The directory is removed at the end, unless --dir names one.

Examples:
  portcullis demo
  portcullis demo --dir demo-gate --once

Exit codes: 0 all went as it should, 1 something did not, 2 the stage could not be set.";
