//! `portcullis audit verify`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::bundled;
use super::cosigned::{self, Finding};
use super::evidence::{Evidence, Failure, NotKept, Verdict};
use super::kept_policies::KeptPolicies;
use super::source;
use crate::app;
use crate::app::log::LogError;
use crate::audit::checkpoint::{Checkpoint, CheckpointError, KeyChain, NoteError, VerifierKey};
use crate::audit::journal::keys::{self, LogKeys};
use crate::audit::rocks::RocksStore;
use crate::audit::verify::Report;
use crate::cli::out::{Paint, count, grouped};
use crate::cli::{Outcome, files};
use crate::config::settings;

/// Verifies a log.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    what: What,
    /// A verifier key of the log's, as `portcullis keygen` printed it; with --config, instead of the config's key
    #[arg(long, value_name = "VKEY")]
    vkey: Option<String>,
    /// A checkpoint of this log that was kept elsewhere: the log must be that one, or have grown from it
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// A policy of witnesses (C2SP tlog-policy): as many of them as it asks for must have cosigned the log
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// If the log holds, write its latest checkpoint to this new file, for a later --against
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// What to verify.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// An export, with its checkpoints in FILE.checkpoints beside it; or the directory of a bundle
    #[arg(value_name = "EXPORT", requires = "vkey")]
    export: Option<PathBuf>,
    /// The config that names the log and its key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The log's directory, without a config
    #[arg(long, value_name = "DIR", requires = "vkey")]
    log: Option<PathBuf>,
}

/// Verifies, and tells what was found.
///
/// # Errors
/// If the log, the key or the kept checkpoint cannot be read.
pub fn run(args: &Args) -> Result<Outcome> {
    if let (Some(dir), Some(vkey)) =
        (args.what.export.as_deref().filter(|path| bundled::is_at(path)), &args.vkey)
    {
        if args.against.is_some() || args.keep.is_some() {
            bail!("--against and --keep are for whole logs; a bundle has its checkpoint with it");
        }
        let key = VerifierKey::parse(vkey.trim()).context("--vkey")?;
        return bundled::run(dir, &key, args.policy.as_deref(), args.json);
    }
    // Before the log is opened: a checkpoint that a gate puts there meanwhile would cover more than is seen of it.
    let kept = args.against.as_deref().map(read_kept).transpose()?;
    let (evidence, key) = find(args)?;
    let against = kept.map(|note| kept_checkpoint(note, &key)).transpose()?;
    let extended = against.as_deref().and_then(Checkpoint::stated).map(|(size, _)| size);
    let policy = args.policy.as_deref().map(|path| cosigned::read_policy(path, &key)).transpose()?;
    let notes = evidence.notes()?;
    let witnessed = policy.map(|policy| cosigned::judge(&policy, &notes));
    let latest = notes.last().cloned();
    let bar = progress_bar(&evidence)?;
    let verdict = evidence.verify(key.clone(), notes, against, &mut |done, of| {
        // Often enough for the eye.
        if done.is_multiple_of(512) || matches!(evidence, Evidence::Export(_)) {
            bar.set_length(of);
            bar.set_position(done);
        }
    });
    bar.finish_and_clear();
    let verdict = verdict.map_err(|error| match error.downcast::<NotKept>() {
        Ok(NotKept(source)) => {
            let path = args.against.as_deref().unwrap_or(Path::new("")).display();
            let said = format!("--against {path} is signed by no key that this log names for its size");
            anyhow::Error::from(source).context(said)
        }
        Err(error) => error,
    })?;
    let policies = KeptPolicies::of(&evidence)?;
    let beside = Beside { extended, witnessed: witnessed.as_ref(), policies: policies.as_ref() };
    if args.json { tell_json(&verdict, &key, beside) } else { tell(&verdict, &key, beside) }?;
    match verdict {
        Verdict::Fails(_) => Ok(Outcome::DoesNotHold),
        Verdict::Holds(_) if !beside.holds() => Ok(Outcome::DoesNotHold),
        Verdict::Holds(_) => {
            if let (Some(path), Some(note)) = (&args.keep, latest) {
                files::write_public(path, &note).context("--keep")?;
            }
            Ok(Outcome::Fine)
        }
    }
}

/// What was looked at beside the records.
#[derive(Clone, Copy)]
struct Beside<'a> {
    /// The size of the checkpoint that the log was held against, if there was one.
    extended: Option<u64>,
    /// Who has cosigned it, if that was asked.
    witnessed: Option<&'a Finding>,
    /// The policies that are kept with it.
    policies: Option<&'a KeptPolicies>,
}

impl Beside<'_> {
    fn holds(&self) -> bool {
        self.witnessed.is_none_or(Finding::holds) && self.policies.is_none_or(KeptPolicies::hold)
    }
}

/// What is to be verified, and by which key.
fn find(args: &Args) -> Result<(Evidence, VerifierKey)> {
    let given =
        args.vkey.as_deref().map(|vkey| VerifierKey::parse(vkey.trim()).context("--vkey")).transpose()?;
    if let Some(config) = &args.what.config {
        let settings = source::settings(config)?;
        let store = RocksStore::open_read_only(&settings.log.dir)?;
        let key = match given {
            Some(key) => key,
            None => configured_key(&settings.log, &store)
                .context("the log's key cannot be read; give its public half by --vkey")?,
        };
        return Ok((Evidence::Log(store), key));
    }
    let key = given.ok_or_else(|| anyhow!("--vkey is missing: without a key nothing can be verified"))?;
    match (&args.what.log, &args.what.export) {
        (Some(dir), _) => Ok((Evidence::Log(RocksStore::open_read_only(dir)?), key)),
        (None, Some(export)) => Ok((Evidence::Export(export.clone()), key)),
        (None, None) => bail!("name a log by --config or --log, or an export"),
    }
}

/// The configured key that is the log's: the retiring one as long as the log has not changed to the new one.
fn configured_key(log: &settings::Log, store: &RocksStore) -> Result<VerifierKey, LogError> {
    let LogKeys { signing, retiring, .. } = app::log::log_keys(log)?;
    let signing = signing.verifier();
    Ok(match (retiring, keys::chain(store)) {
        (Some(retiring), Ok(chain)) if !chain.knows(&signing) => retiring.verifier(),
        _ => signing,
    })
}

/// The note of a kept checkpoint, and where it was.
fn read_kept(path: &Path) -> Result<(&Path, Vec<u8>)> {
    Ok((path, std::fs::read(path).with_context(|| format!("--against {}", path.display()))?))
}

/// The note, if it can be one of the log's: signed by `key`, or by none that is known before the log is read.
fn kept_checkpoint((path, note): (&Path, Vec<u8>), key: &VerifierKey) -> Result<Vec<u8>> {
    match Checkpoint::open(&note, key) {
        Ok(_) | Err(CheckpointError::Note(NoteError::NotSigned { .. })) => Ok(note),
        Err(error) => Err(error)
            .with_context(|| format!("--against {} is not a checkpoint of {}", path.display(), key.name())),
    }
}

/// A bar on stderr, if that is a terminal.
fn progress_bar(evidence: &Evidence) -> Result<ProgressBar> {
    let template = match evidence {
        Evidence::Log(_) => "{bar:40} {human_pos} of {human_len} records, {eta} left",
        Evidence::Export(_) => "{bar:40} {bytes} of {total_bytes}, {eta} left",
    };
    Ok(ProgressBar::new(0).with_style(ProgressStyle::with_template(template)?))
}

fn tell(verdict: &Verdict, key: &VerifierKey, beside: Beside<'_>) -> Result<()> {
    let paint = Paint::of_stdout();
    let mut out = std::io::stdout().lock();
    match verdict {
        Verdict::Holds(Report { records, checkpoints, root, last_time, keys }) => {
            writeln!(out, "{} {}", paint.good("the log holds:"), key.name())?;
            let last = last_time.map(|time| format!(", the last of {time}")).unwrap_or_default();
            writeln!(out, "  {}{last}", count(*records, "record"))?;
            writeln!(out, "  {} met, each signed", count(*checkpoints, "checkpoint"))?;
            if let Some(size) = beside.extended {
                writeln!(out, "  extends the kept checkpoint of {}", count(size, "record"))?;
            }
            if let Some(found) = beside.witnessed {
                let told = found.tell(*records);
                let told = if found.holds() { told } else { paint.bad(&told).to_string() };
                writeln!(out, "  {told}")?;
            }
            if let Some(found) = beside.policies {
                for told in found.tell() {
                    let told = if found.hold() { told } else { paint.bad(&told).to_string() };
                    writeln!(out, "  {told}")?;
                }
            }
            writeln!(out, "  key {key}")?;
            tell_keys(&mut out, keys, key)?;
            writeln!(out, "  root {}", STANDARD.encode(root.0))?;
        }
        Verdict::Fails(Failure { index, proven, what }) => {
            writeln!(out, "{} {}", paint.bad("the log does not hold:"), key.name())?;
            writeln!(out, "  first bad index: {}", paint.bold(&index.to_string()))?;
            writeln!(out, "  record {index}: {what}")?;
            let before = match proven {
                0 => "no record before it is proven by a checkpoint".to_owned(),
                1 => "record 0 is proven by a checkpoint".to_owned(),
                n => format!("records 0 to {} are proven by a checkpoint", grouped(n - 1)),
            };
            writeln!(out, "  {before}")?;
        }
    }
    Ok(())
}

/// How the log's key changed, if it did.
fn tell_keys(out: &mut impl Write, keys: &KeyChain, given: &VerifierKey) -> Result<()> {
    let mut rotations = keys.rotations().peekable();
    if rotations.peek().is_none() {
        return Ok(());
    }
    for (index, key) in rotations {
        writeln!(out, "  from record {index} on {key}, signed by both keys")?;
    }
    if let Some(since) = keys.rotations().find_map(|(index, key)| (key == given).then_some(index)) {
        writeln!(
            out,
            "  the key given is the log's since record {since}: its checkpoints prove the records before, too"
        )?;
    }
    Ok(())
}

fn tell_json(verdict: &Verdict, key: &VerifierKey, beside: Beside<'_>) -> Result<()> {
    let mut answer = match verdict {
        Verdict::Holds(report) => json!({
            "holds": true,
            "origin": key.name(),
            "records": report.records,
            "checkpoints": report.checkpoints,
            "root": STANDARD.encode(report.root.0),
            "last_time": report.last_time.map(|time| time.to_string()),
            "keys": keys_json(&report.keys),
        }),
        Verdict::Fails(failure) => json!({
            "holds": false,
            "origin": key.name(),
            "first_bad_index": failure.index,
            "proven": failure.proven,
            "fault": failure.what,
        }),
    };
    if let Some(answer) = answer.as_object_mut() {
        answer.extend(beside.witnessed.map(|found| ("cosigned".to_owned(), found.json())));
        answer.extend(beside.policies.map(|found| ("kept_policies".to_owned(), found.json())));
    }
    Ok(writeln!(std::io::stdout(), "{answer}")?)
}

/// Each key, and the index of the record from which on it is the log's.
fn keys_json(keys: &KeyChain) -> Vec<serde_json::Value> {
    let since = std::iter::once(0).chain(keys.rotations().map(|(index, _)| index));
    keys.all().zip(since).map(|(key, since)| json!({"vkey": key.to_string(), "since": since})).collect()
}

const AFTER_HELP: &str = "\
Reads every record, in order, and checks the chain from each record to the next, the Merkle tree over all of them, and \
the signature and root of every stored checkpoint. Works on a stopped log, on one that a gate is writing to, and on an \
export. If the log does not hold, the first bad index is named. Policies that are kept with a log are held to their epochs, and any that \
is another's is named. Of a bundle, every record is held to its proof, and the first file that \
does not hold is named.

If the log's key has changed, any one of its keys will do. With the first one, each change is followed as it comes. With a \
later one, the log must lead to it by changes that hold, and its checkpoints prove all records, those before it too. Prefer the \
latest key you were given: whoever stole a retired one can still show another log to who knows no later one. A key \
record whose signatures do not hold is the first bad index. A kept checkpoint may be signed by any key that was the log's at its size.

A log alone cannot show that its end is missing, or that all of it was signed anew by somebody who has its key. A \
checkpoint that was kept elsewhere can: see --keep and --against. The gate's own outside mark (log.mark_file) is one.

With --policy, it also asks that enough witnesses have cosigned a checkpoint of the log, and tells up to which record. The log may have grown since; what has not been cosigned yet rests on the log's own signature.

In JSON: holds, origin, and records, checkpoints, root (base64), last_time, keys (vkey, since: from which record on); or first_bad_index, proven (records below \
it are under a checkpoint that was met), fault; for a log also kept_policies: hold, kept, bad (epochs); for a bundle complete, size, policies (how many), policies_missing; with --policy cosigned: met, size, by.

Examples:
  portcullis audit verify --config gate/portcullis.toml
  portcullis audit verify --config gate/portcullis.toml --keep /mnt/elsewhere/monday
  portcullis audit verify --config gate/portcullis.toml --against /mnt/elsewhere/monday
  portcullis audit verify --config gate/portcullis.toml --policy witnesses.policy
  portcullis audit verify --log gate/log --vkey \"$(cat log.vkey)\"
  portcullis audit verify log.jsonl --vkey \"$(cat log.vkey)\" --json
  portcullis audit verify case-17 --vkey \"$(cat log.vkey)\"

Exit codes: 0 the log holds, 1 it does not, too few have cosigned it or a kept policy is another's, 2 wrong use or unreadable input.";
