//! A witness as a process.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::privileges;
use crate::config::settings::{Format, Level, Logging};
use crate::witness::{Witness, serve as http};

/// Why a witness does not serve.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// Others than its owner can use the key.
    #[error("{0}: others than its owner can read or replace it, and cosign in its name; run `chmod 600 {0}`")]
    KeyExposed(String),
    /// What the system did not allow.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Tells of what happens on stderr.
pub fn log_to_stderr() {
    super::telling::log_to_stderr(Logging { level: Level::Info, format: Format::Text });
}

/// Sees that the key is its owner's alone, and that what is written will be.
///
/// # Errors
/// [`WitnessError::KeyExposed`].
pub fn keep_private(key: &Path) -> Result<(), WitnessError> {
    privileges::keep_files_private();
    privileges::keep_memory_private();
    if std::fs::metadata(key).is_ok_and(|metadata| privileges::is_exposed(&metadata)) {
        return Err(WitnessError::KeyExposed(key.display().to_string()));
    }
    Ok(())
}

/// Serves until SIGTERM or SIGINT. Once it listens, its address is written to `ready_file`.
///
/// # Errors
/// [`WitnessError::Io`].
pub fn serve(
    witness: Arc<Witness>,
    listen: SocketAddr,
    ready_file: Option<&Path>,
) -> Result<(), WitnessError> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |source| WitnessError::Io { what, source }
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io("the runtime"))?;
    let served = runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(io("SIGTERM"))?;
        let mut int = signal(SignalKind::interrupt()).map_err(io("SIGINT"))?;
        let listener = TcpListener::bind(listen).await.map_err(io(&listen.to_string()))?;
        let address = listener.local_addr().map_err(io("the listener's address"))?;
        for (log, size) in witness.logs() {
            tracing::info!(log, size, "witnessed so far");
        }
        tracing::info!(%address, vkey = %witness.verifier(), "listening");
        if let Some(path) = ready_file {
            tell(path, address).map_err(io(&path.display().to_string()))?;
        }
        tokio::select! {
            () = http::serve(witness, listener) => {}
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        Ok(())
    });
    // What is being written down is written; its cosignature may be lost, and is asked for again.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    served
}

/// Whole or not at all: who waits for the file reads it at once.
fn tell(path: &Path, address: SocketAddr) -> std::io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = std::fs::File::create(&partial)?;
    writeln!(file, "{address}")?;
    std::fs::rename(partial, path)
}
