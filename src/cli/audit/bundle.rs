//! `portcullis audit bundle`.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

use super::filter::FilterArgs;
use super::source::Source;
use crate::audit::bundle::{FORMAT, Manifest};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::hash::Hash;
use crate::audit::query::{HealthChecks, Order, page};
use crate::audit::record::Record;
use crate::audit::rocks::RocksStore;
use crate::audit::storage::Store;
use crate::audit::tiles;
use crate::cli::out::count;
use crate::cli::{Outcome, files};

/// Bundles records with all that it takes to check them elsewhere.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    filter: FilterArgs,
    /// The directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// At most so many records; more are an error, and none are left out
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = parse_limit)]
    limit: usize,
}

/// Makes the directory.
///
/// # Errors
/// If the log cannot be read, no record fits or too many do, or the directory cannot be made.
#[allow(clippy::print_stderr)]
pub fn run(args: &Args) -> Result<Outcome> {
    if args.out.symlink_metadata().is_ok() {
        bail!("{} is there already and is not overwritten; name another", args.out.display());
    }
    let store = args.source.open()?;
    let records = find(&store, args)?;
    let (Some((first, _)), Some((last, _))) = (records.first(), records.last()) else {
        bail!("no record fits; `portcullis audit list` takes the same filters")
    };
    let (first, last) = (*first, *last);
    let note = checkpoint_over(&store, last)?;
    let partial = beside(&args.out)?;
    let bundle = Bundle { store: &store, note: &note, dir: &partial };
    let made = bundle.write(&records, (first, last), args).and_then(|manifest| {
        std::fs::rename(&partial, &args.out)
            .with_context(|| format!("{} cannot be made", args.out.display()))?;
        sync_dir(args.out.parent().unwrap_or(Path::new(".")))?;
        Ok(manifest)
    });
    let manifest = made.inspect_err(|_| {
        // A part of a bundle is of no use to anybody.
        let _ = std::fs::remove_dir_all(&partial);
    })?;
    eprintln!("{} in {}", count(manifest.records.len() as u64, "record"), args.out.display());
    let claim = if manifest.complete {
        "every record between the first and the last is in it"
    } else {
        "it cannot show that there are no others"
    };
    eprintln!("{claim}; its README.md says how to check it");
    Ok(Outcome::Fine)
}

fn parse_limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
    limit.ok_or_else(|| format!("{text:?} is no whole number from 1 to {MOST}"))
}

/// The records asked for, oldest first.
fn find(store: &RocksStore, args: &Args) -> Result<Vec<(u64, Vec<u8>)>> {
    let filter = args.filter.filter(HealthChecks::Include);
    let size = store.last_index()?.map_or(0, |last| last + 1);
    let (mut found, mut start) = (Vec::new(), None);
    loop {
        let room = (args.limit + 1).saturating_sub(found.len());
        let page = page(store, size, &filter, (Order::OldestFirst, start), room.min(PAGE))?;
        found.extend(page.records);
        if found.len() > args.limit {
            bail!("more than {} fit; ask for less, or give --limit", count(args.limit as u64, "record"));
        }
        start = page.next;
        if start.is_none() {
            return Ok(found);
        }
    }
}

/// The checkpoint to prove records under, the last of which is `last`: one that witnesses have cosigned, if it covers them.
fn checkpoint_over(store: &RocksStore, last: u64) -> Result<String> {
    let covers = |note: &String| Checkpoint::stated(note.as_bytes()).is_some_and(|(size, _)| size > last);
    if let Some(note) = store.latest_cosigned()?.filter(covers) {
        return Ok(note);
    }
    store.latest_checkpoint()?.filter(covers).ok_or_else(|| {
        anyhow!("the log has no checkpoint over record {last}; `portcullis audit verify` tells more")
    })
}

/// A name in the same directory that nothing has.
fn beside(out: &Path) -> Result<PathBuf> {
    let name =
        out.file_name().ok_or_else(|| anyhow!("--out {} is no name for a directory", out.display()))?;
    let partial = out.with_file_name(format!(".{}.partial-{}", name.display(), std::process::id()));
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&partial)
        .with_context(|| format!("{} cannot be made", partial.display()))?;
    Ok(partial)
}

/// A bundle being written.
struct Bundle<'a> {
    store: &'a RocksStore,
    note: &'a str,
    dir: &'a Path,
}

impl Bundle<'_> {
    fn write(&self, records: &[(u64, Vec<u8>)], (first, last): (u64, u64), args: &Args) -> Result<Manifest> {
        let (size, _) =
            Checkpoint::stated(self.note.as_bytes()).ok_or_else(|| anyhow!("the checkpoint is none"))?;
        let origin = self.store.identity()?.origin;
        for sub in ["records", "keys", "checkpoints", "policies"] {
            files::make_private_dir(&self.dir.join(sub))?;
        }
        for (index, bytes) in records {
            self.proved("records", *index, bytes)?;
        }
        let keys = std::iter::once(0).chain(self.store.key_records()?).filter(|index| *index < size);
        let keys: Vec<u64> = keys.collect();
        for index in &keys {
            let bytes = self.store.record(*index)?.ok_or_else(|| anyhow!("record {index} is missing"))?;
            self.proved("keys", *index, &bytes)?;
        }
        self.kept((first, last), size, &origin)?;
        let policies_missing = self.policies(records)?;
        let mut manifest = Manifest {
            format: FORMAT.to_owned(),
            origin,
            size,
            asked: args.filter.said(),
            complete: false,
            records: records.iter().map(|(index, _)| *index).collect(),
            keys,
            policies_missing,
        };
        // A filter may happen to fit all records between two. Who reads `complete` would take it for an answer to the filter.
        manifest.complete = manifest.narrowed_by().is_none() && last - first + 1 == records.len() as u64;
        self.file("checkpoint", self.note.as_bytes())?;
        self.file("manifest.json", manifest.to_json().as_bytes())?;
        self.file("README.md", README.as_bytes())?;
        // Once for all of them: a sync for each would stand in the way of the log's own.
        let synced = std::fs::File::open(self.dir).and_then(|dir| Ok(rustix::fs::syncfs(&dir)?));
        synced.with_context(|| format!("{} cannot be written", self.dir.display()))?;
        Ok(manifest)
    }

    /// A record with its proof.
    fn proved(&self, sub: &str, index: u64, bytes: &[u8]) -> Result<()> {
        let proof = tiles::prove(self.store, index, self.note.to_owned())
            .map_err(|error| anyhow!("record {index}: {error}; `portcullis audit verify` tells more"))?;
        self.file(&format!("{sub}/{index}.json"), bytes)?;
        self.file(&format!("{sub}/{index}.tlog-proof"), proof.to_text().as_bytes())
    }

    /// The checkpoints that were kept from the first record to the last, and the first after it.
    fn kept(&self, (first, last): (u64, u64), size: u64, origin: &str) -> Result<()> {
        let mut from = first + 1;
        loop {
            let page = self.store.kept_checkpoints_from(from, PAGE)?;
            let whole = page.len() == PAGE;
            for (kept, note) in page {
                if kept >= size {
                    return Ok(());
                }
                let growth = tiles::prove_growth(self.store, (kept, size), origin, "")
                    .map_err(|error| anyhow!("from the checkpoint of {kept}: {error}"))?;
                self.file(&format!("checkpoints/{kept}"), note.as_bytes())?;
                self.file(&format!("checkpoints/{kept}.growth.json"), growth.to_json().as_bytes())?;
                if kept > last {
                    return Ok(());
                }
                from = kept + 1;
            }
            if !whole {
                return Ok(());
            }
        }
    }

    /// The policies that records name; returns those that the log has not.
    fn policies(&self, records: &[(u64, Vec<u8>)]) -> Result<Vec<String>> {
        let parsed = records.iter().filter_map(|(_, bytes)| Record::parse(bytes).ok());
        let named: BTreeSet<String> =
            parsed.filter_map(|record| record.text(&["policy"]).map(str::to_owned)).collect();
        let mut missing = Vec::new();
        for epoch in named {
            let hash =
                Hash::from_hex(epoch.as_bytes()).ok_or_else(|| anyhow!("{epoch:?} is no policy's epoch"))?;
            match self.store.policy(hash)? {
                Some(text) if Hash::of(&text) == hash => self.file(&format!("policies/{epoch}"), &text)?,
                Some(_) => bail!(
                    "what the log keeps under policy {epoch} is not that policy; `portcullis audit verify` tells more"
                ),
                None => missing.push(epoch),
            }
        }
        Ok(missing)
    }

    fn file(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(content));
        written.with_context(|| format!("{} cannot be written", path.display()))
    }
}

fn sync_dir(dir: &Path) -> Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.with_context(|| format!("{} cannot be written", dir.display()))
}

/// What goes into each bundle for whoever gets it.
const README: &str = include_str!("bundle/README.md");

/// Most records of a bundle.
const MOST: usize = 1_000_000;

/// Most records or checkpoints fetched at once.
const PAGE: usize = 1_000;

const AFTER_HELP: &str = "\
Makes a directory with the records that fit all filters, for somebody else to check without the log, the gate or this \
machine: each record as stored, a proof that it is in the log (C2SP tlog-proof), the signed checkpoint that all proofs lead to, with \
its witnesses' cosignatures, the checkpoints that were kept meanwhile, the records by which the log's key changed, and the \
policies by which was decided. Its README.md says how to check it by hand; docs/bundles.md describes the files.

Only a bundle of everything between two times can show that nothing is missing in between: give --from and --to, and no other \
filter. The records tell who did what: the directory is for its owner only.

Examples:
  portcullis audit bundle --from 2026-11-02 --to 2026-11-03 --config gate/portcullis.toml --out monday
  portcullis audit bundle --subject alice --decision allow --from 24h --config gate/portcullis.toml --out case-17
  portcullis audit verify case-17 --vkey \"$(cat log.vkey)\"

Exit codes: 0 made, 2 no record fits or too many do, the log cannot be read, or the directory cannot be made.";
