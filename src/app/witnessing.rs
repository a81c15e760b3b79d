//! The log's witnesses, from the config's words.

use std::time::Duration;

use crate::audit::witnesses::{Peer, Setup};
use crate::config::settings::{Witness, WitnessMode, Witnessing};
use crate::net::{ClientTls, Dialer, Endpoint, EndpointError, Roots, TlsError};

/// A witness that cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("witness {name:?}: {fault}")]
pub struct WitnessSetupError {
    /// Its name in the config.
    pub name: String,
    /// Why.
    pub fault: Box<WitnessFault>,
}

/// Why a witness cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum WitnessFault {
    /// Its URL.
    #[error(transparent)]
    Url(#[from] EndpointError),
    /// Its authorities.
    #[error(transparent)]
    Trust(#[from] TlsError),
    /// Nothing can be added to its URL.
    #[error("no path can be added to its url")]
    Path,
}

/// Who is to be asked, if anybody is. Reads the authorities that are trusted.
///
/// # Errors
/// [`WitnessSetupError`]: the first witness that cannot be asked.
pub(super) fn setup(witnessing: &Witnessing) -> Result<Option<Setup>, WitnessSetupError> {
    let Witnessing { mode, quorum, max_age, witnesses } = witnessing;
    if witnesses.is_empty() {
        return Ok(None);
    }
    let asked = witnesses
        .iter()
        .map(|witness| {
            let peer = peer(witness)
                .map_err(|fault| WitnessSetupError { name: witness.name.clone(), fault: Box::new(fault) })?;
            Ok((witness.name.clone(), witness.key.clone(), peer))
        })
        .collect::<Result<Vec<_>, WitnessSetupError>>()?;
    Ok(Some(Setup {
        witnesses: asked,
        quorum: *quorum,
        required: *mode == WitnessMode::Required,
        deny_after: (*mode != WitnessMode::Async).then_some(*max_age),
    }))
}

fn peer(witness: &Witness) -> Result<Peer, WitnessFault> {
    let endpoint = Endpoint::of(&witness.url)?;
    let tls = if endpoint.is_tls() {
        let roots = witness.ca_file.as_deref().map_or(Roots::Native, Roots::File);
        Some(ClientTls::new(roots, &[b"http/1.1"])?)
    } else {
        None
    };
    let dialer = Dialer::new(endpoint, tls.as_ref(), TIMEOUT)?;
    Peer::new(&witness.url, dialer, TIMEOUT).ok_or(WitnessFault::Path)
}

/// How long one exchange with a witness may take. It has one file to sync.
const TIMEOUT: Duration = Duration::from_secs(5);
