//! Everything proved, nothing started: what `portcullis check` asks.

use super::StartError;
use super::assemble::{AssembleError, assemble, server_tls};
use super::log::{self, LogError};
use crate::audit::journal::reconcile::reconcile;
use crate::audit::rocks::{OpenError, RocksStore};
use crate::clock::Clock;
use crate::config::Settings;

/// Something that settings name and that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Policy, issuers or upstreams.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// A listener's certificate or key.
    #[error("{key}: {source}")]
    Tls {
        /// The config's key.
        key: &'static str,
        /// What is wrong.
        source: StartError,
    },
    /// The log or its key.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Proves what the settings name: policy, key sets, certificates, signing key and log. Returns everything that does not
/// hold; nothing if all does. A gate may be serving meanwhile.
pub fn check(settings: &Settings) -> Vec<CheckError> {
    let mut faults = Vec::new();
    faults.extend(assemble(settings, &Clock::system()).err().map(CheckError::from));
    for (key, tls) in [("server.tls", &settings.server.tls), ("admin.tls", &settings.admin.tls)] {
        faults.extend(server_tls(tls.as_ref()).err().map(|source| CheckError::Tls { key, source }));
    }
    faults.extend(check_log(settings).err().map(CheckError::from));
    faults
}

/// Looks at the log as it stands.
fn check_log(settings: &Settings) -> Result<(), LogError> {
    let key = log::signing_key(&settings.log)?;
    let store = match RocksStore::open_read_only(&settings.log.dir) {
        Err(OpenError::Absent(_)) => return log::missing(&settings.log, &key),
        opened => opened?,
    };
    reconcile(&store, &key)?;
    Ok(())
}
