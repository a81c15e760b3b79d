//! `portcullis audit list`.

use std::io::Write;

use anyhow::Result;

use super::filter::FilterArgs;
use super::source::Source;
use super::table::Table;
use crate::audit::query::{Filter, HealthChecks, Order, page};
use crate::audit::record::Record;
use crate::audit::storage::Store;
use crate::cli::Outcome;
use crate::cli::out::Paint;

/// Lists records.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// The stored records, one a line
    #[arg(long)]
    json: bool,
}

/// Prints the records, newest first.
///
/// # Errors
/// If the log cannot be read.
pub fn run(args: &Args) -> Result<Outcome> {
    let store = args.source.open()?;
    let mut out = std::io::stdout().lock();
    let mut table = Table::new(Paint::of_stdout());
    each_page(&store, &args.filter.filter(HealthChecks::Exclude), args.limit, &mut |records| {
        if args.json {
            for (_, bytes) in records {
                out.write_all(bytes)?;
                writeln!(out)?;
            }
            return Ok(());
        }
        let readable: Vec<_> = records.iter().filter_map(|(_, bytes)| Record::parse(bytes).ok()).collect();
        Ok(table.lines(&readable).iter().try_for_each(|line| writeln!(out, "{line}"))?)
    })?;
    Ok(Outcome::Fine)
}

/// What is called for each page: indexes and stored bytes.
type PageVisit<'a> = dyn FnMut(&[(u64, Vec<u8>)]) -> Result<()> + 'a;

/// Hands on up to `limit` records, page by page; at least one page, be it empty.
fn each_page(store: &dyn Store, filter: &Filter, limit: usize, visit: &mut PageVisit<'_>) -> Result<()> {
    let size = store.last_index()?.map_or(0, |last| last + 1);
    let (mut left, mut start) = (limit, None);
    loop {
        let found = page(store, size, filter, (Order::NewestFirst, start), left.min(PAGE))?;
        visit(&found.records)?;
        left -= found.records.len();
        start = found.next;
        if left == 0 || start.is_none() {
            return Ok(());
        }
    }
}

const AFTER_HELP: &str = "\
Filters add up: a record is listed if all of them fit. --json prints the records exactly as stored.

Examples:
  portcullis audit list --config gate/portcullis.toml
  portcullis audit list --config gate/portcullis.toml --subject alice --decision deny --from 24h
  portcullis audit list --log gate/log --service app --path-prefix /docs/ --json | jq .request.path

Exit codes: 0 listed (perhaps nothing), 2 wrong use, or the log cannot be read.";

/// Most records fetched at once.
const PAGE: usize = 1_000;
