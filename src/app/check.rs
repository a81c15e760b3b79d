//! Everything proved, nothing started: what `portcullis check` asks.

use super::assemble::{AssembleError, assemble};
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
    /// The log or its key.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What was proved, for people, and what does not hold.
#[derive(Debug, Default)]
pub struct Proof {
    /// One line for each thing that holds.
    pub holding: Vec<String>,
    /// Everything that does not.
    pub faults: Vec<CheckError>,
}

/// Proves what the settings name: policy, key sets, certificates, signing key and log. A gate may be serving meanwhile.
pub fn check(settings: &Settings) -> Proof {
    let mut proof = Proof::default();
    proof.add(assemble(settings, &Clock::system()).map(|parts| {
        let (services, issuers) = (settings.services.len(), settings.issuers.len());
        let mut holding = vec![
            format!("policy {}: {} rows and role links", parts.epochs.policy, parts.rows()),
            format!("config {}: {services} service(s), {issuers} issuer(s)", parts.epochs.config),
        ];
        let (server, admin) = (&settings.server, &settings.admin);
        let tls = [("server.tls", &server.tls), ("admin.tls", &admin.tls)].into_iter();
        let there = tls.filter(|(_, tls)| tls.is_some());
        holding.extend(there.map(|(key, _)| format!("{key}: certificate and key")));
        holding.extend(server.client_certs.as_ref().map(|certs| {
            format!("server.client_certs: authorities, {} file(s) of revocations", certs.crl_files.len())
        }));
        holding
    }));
    proof.add(check_log(settings));
    proof
}

impl Proof {
    fn add<E: Into<CheckError>>(&mut self, found: Result<Vec<String>, E>) {
        match found {
            Ok(lines) => self.holding.extend(lines),
            Err(fault) => self.faults.push(fault.into()),
        }
    }
}

/// Looks at the log as it stands.
fn check_log(settings: &Settings) -> Result<Vec<String>, LogError> {
    let key = log::signing_key(&settings.log)?;
    let store = match RocksStore::open_read_only(&settings.log.dir) {
        Err(OpenError::Absent(_)) => return Err(log::missing(&settings.log, &key)),
        opened => opened?,
    };
    let size = reconcile(&store, &key)?.frontier.size();
    Ok(vec![format!("log {}: {size} records, verifier key {}", settings.log.origin, key.verifier())])
}
