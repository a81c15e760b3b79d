//! Where a log is, and how it is opened: read only, beside a gate that may be writing to it.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use crate::audit::rocks::RocksStore;
use crate::config::{Environment, Settings};

/// Where the log is.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Source {
    /// The config that names the log
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The log's directory, without a config
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

impl Source {
    /// Opens the log as it is now.
    pub(super) fn open(&self) -> Result<RocksStore> {
        open(self.log.as_deref(), self.config.as_deref())
    }
}

/// Opens the log in `log`, or that of `config`, as it is now.
pub(super) fn open(log: Option<&Path>, config: Option<&Path>) -> Result<RocksStore> {
    match (log, config) {
        (Some(dir), _) => Ok(RocksStore::open_read_only(dir)?),
        (None, Some(config)) => Ok(RocksStore::open_read_only(&settings(config)?.log.dir)?),
        (None, None) => Err(anyhow!("name the log by --config or --log")),
    }
}

/// The settings of a config that must hold.
pub(in crate::cli) fn settings(config: &Path) -> Result<Settings> {
    Settings::load(config, &Environment::of_process())
        .map_err(|errors| anyhow!("the config does not hold:\n{errors}"))
}
