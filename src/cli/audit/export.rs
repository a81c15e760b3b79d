//! `portcullis audit export`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::evidence::{checkpoints_path, stored_notes};
use super::source::Source;
use crate::audit::storage::{Store, Walk};
use crate::cli::Outcome;
use crate::cli::out::count;

/// Exports a log.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// The file to make; its checkpoints go to FILE.checkpoints
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Writes the two files.
///
/// # Errors
/// If the log cannot be read or a file not be made.
#[allow(clippy::print_stderr)]
pub fn run(args: &Args) -> Result<Outcome> {
    let store = args.source.open()?;
    let notes = stored_notes(&store)?;
    let checkpoints = checkpoints_path(&args.out);
    if checkpoints.symlink_metadata().is_ok() {
        bail!("{} is there already and is not overwritten; name another file", checkpoints.display());
    }
    let mut lines = create(&args.out)?;
    let mut note_lines = create(&checkpoints)?;
    let records = write_records(&store, &mut lines).with_context(|| args.out.display().to_string())?;
    for note in &notes {
        writeln!(note_lines, "{}", serde_json::Value::from(note.as_str()))
            .with_context(|| checkpoints.display().to_string())?;
    }
    finish(lines, &args.out)?;
    finish(note_lines, &checkpoints)?;
    let identity = store.identity()?;
    eprintln!(
        "{} to {}, {} to {}",
        count(records, "record"),
        args.out.display(),
        count(notes.len() as u64, "checkpoint"),
        checkpoints.display()
    );
    eprintln!("the log says that its key is {}; a verifier must have it from elsewhere", identity.vkey);
    Ok(Outcome::Fine)
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    // Records tell who did what: that is for their owner to hand on.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    Ok(BufWriter::new(file.with_context(|| format!("{} cannot be made", path.display()))?))
}

/// Writes each record as a line; returns how many.
fn write_records(store: &dyn Store, out: &mut BufWriter<File>) -> Result<u64> {
    let mut records = 0;
    let mut failed = Ok(());
    store.scan(Walk::Up(0), &mut |index, bytes| {
        failed = write_line(index, bytes, out);
        records += 1;
        if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed.map(|()| records)
}

fn write_line(index: u64, bytes: &[u8], out: &mut BufWriter<File>) -> Result<()> {
    if bytes.contains(&b'\n') {
        bail!("record {index} has a line break, which no record has; `portcullis audit verify` tells more");
    }
    out.write_all(bytes)?;
    Ok(out.write_all(b"\n")?)
}

fn finish(writer: BufWriter<File>, path: &Path) -> Result<()> {
    let file = writer.into_inner().map_err(std::io::IntoInnerError::into_error);
    file.and_then(|file| file.sync_all()).with_context(|| format!("{} cannot be written", path.display()))
}

const AFTER_HELP: &str = "\
FILE gets each record as a line, exactly the stored bytes: line n holds the record of index n - 1. FILE.checkpoints gets \
every stored checkpoint and the latest one, each as a JSON string on a line. Whoever has both and the verifier key can \
verify them with this program, or with one of their own.

Examples:
  portcullis audit export --config gate/portcullis.toml --out log.jsonl
  portcullis audit verify log.jsonl --vkey \"$(cat gate/keys/log.vkey)\"

Exit codes: 0 written, 2 the log cannot be read, or a file is there already or cannot be made.";
