//! Everything proved, nothing started: what `portcullis check` asks.

use super::assemble::{assemble, server_tls};
use super::log::{self, LogError};
use crate::audit::journal::reconcile::reconcile;
use crate::audit::record::Epochs;
use crate::audit::rocks::{OpenError, RocksStore};
use crate::clock::Clock;
use crate::config::Settings;

/// Proves what the settings name: policy, key sets, certificates, signing key and log. Returns what was proved, and
/// everything that does not hold, each as one message for the operator.
pub fn check(settings: &Settings) -> (Vec<String>, Vec<String>) {
    let mut findings = Findings::default();
    let epochs = match assemble(settings, &Clock::system()) {
        Ok(parts) => {
            findings.holds(format!("policy {} ({} rows and links)", parts.epochs.policy, parts.rows()));
            findings.holds(format!(
                "{} issuers, {} services",
                settings.issuers.len(),
                settings.services.len()
            ));
            Some(parts.epochs)
        }
        Err(error) => {
            findings.fault(&error);
            None
        }
    };
    for (name, tls) in [("server.tls", &settings.server.tls), ("admin.tls", &settings.admin.tls)] {
        match server_tls(tls.as_ref()) {
            Ok(Some(_)) => findings.holds(format!("{name}: certificate and key")),
            Ok(None) => {}
            Err(error) => findings.fault(&format!("{name}: {error}")),
        }
    }
    if let Err(error) = check_log(settings, &mut findings) {
        findings.fault(&error);
    }
    if let Some(Epochs { config, .. }) = epochs {
        findings.holds(format!("config {config}"));
    }
    (findings.holding, findings.faults)
}

/// Looks at the log as it stands; a gate may be serving by it.
fn check_log(settings: &Settings, findings: &mut Findings) -> Result<(), LogError> {
    let key = log::signing_key(&settings.log)?;
    findings.holds(format!("signing key, whose verifier key is {}", key.verifier()));
    let store = match RocksStore::open_read_only(&settings.log.dir) {
        Err(OpenError::Absent(_)) => {
            return log::missing(&settings.log, &key);
        }
        opened => opened?,
    };
    let state = reconcile(&store, &key)?;
    findings.holds(format!("log {} with {} records", settings.log.origin, state.frontier.size()));
    Ok(())
}

#[derive(Default)]
struct Findings {
    holding: Vec<String>,
    faults: Vec<String>,
}

impl Findings {
    fn holds(&mut self, what: String) {
        self.holding.push(what);
    }

    fn fault(&mut self, what: &dyn std::fmt::Display) {
        self.faults.push(what.to_string());
    }
}
