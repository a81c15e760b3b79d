//! Everything proved, nothing started: what `portcullis check` asks.

use super::assemble::{AssembleError, assemble};
use super::log::{self, LogError};
use super::witnessing;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::journal::keys::Signing;
use crate::audit::journal::reconcile::reconcile;
use crate::audit::mark::{self, MarkError, MarkFile};
use crate::audit::rocks::{OpenError, RocksStore};
use crate::clock::Clock;
use crate::config::Settings;
use crate::policy::Policy;

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
            format!(
                "policy {}: {} rows and role links, {}",
                parts.epochs.policy,
                parts.rows(),
                cost(parts.policy())
            ),
            format!("config {}: {services} service(s), {issuers} issuer(s)", parts.epochs.config),
        ];
        let (server, admin) = (&settings.server, &settings.admin);
        let tls = [("server.tls", &server.tls), ("admin.tls", &admin.tls)].into_iter();
        let there = tls.filter(|(_, tls)| tls.is_some());
        holding.extend(there.map(|(key, _)| format!("{key}: certificate and key")));
        holding.extend(settings.assertion.as_ref().map(|assertion| {
            let asking = settings.services.iter().filter(|service| service.assertion).count();
            let published = 1 + assertion.also_publish.len();
            format!("assertion: {published} key(s) published, {asking} service(s) ask for it")
        }));
        holding.extend(server.client_certs.as_ref().map(|certs| {
            format!("server.client_certs: authorities, {} file(s) of revocations", certs.crl_files.len())
        }));
        holding
    }));
    proof.add(check_log(settings));
    proof
}

/// How a policy's answers are found, and what one costs as measured just now.
fn cost(policy: &Policy) -> String {
    let micros = policy.probe_cost().as_secs_f64() * 1e6;
    if policy.is_compiled() {
        format!("compiled ({micros:.1} us a decision here)")
    } else {
        format!(
            "not compiled: its matcher is evaluated row by row ({micros:.0} us a decision here, more with each row; \
             docs/policy.md says which matchers are compiled)"
        )
    }
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
pub(super) fn check_log(settings: &Settings) -> Result<Vec<String>, LogError> {
    let keys = log::log_keys(&settings.log)?;
    // Before the log is opened, so that a gate that writes to both does not make the log look shorter.
    let mark =
        log::mark_file(&settings.log).map(|file| Ok::<_, LogError>((file.note()?, file))).transpose()?;
    let store = match RocksStore::open_read_only(&settings.log.dir) {
        Err(OpenError::Absent(_)) => return Err(log::missing(&settings.log, &keys)),
        opened => opened?,
    };
    let witnesses = witnessing::setup(&settings.log.witnessing)?;
    let state = reconcile(&store, &keys)?;
    let (size, origin) = (state.frontier.size(), &settings.log.origin);
    let mut holding = vec![format!("log {origin}: {size} records, verifier key {}", state.keys.current())];
    if state.signing == Signing::Rotates {
        holding.push(format!("log {origin}: its key changes at the next start, to {}", keys.verifier()));
    }
    if let Some(setup) = witnesses {
        let (quorum, of) = (setup.quorum, setup.witnesses.len());
        holding.push(format!(
            "log.witnesses: {quorum} of {of} witness(es), {}",
            settings.log.witnessing.mode.as_str()
        ));
    }
    if let Some((note, file)) = mark {
        let known = state.keys.expecting(keys.verifier());
        let mark = note.map(|note| file.checked(&note, &known)).transpose()?;
        holding.extend(check_mark(&store, size, mark, &file)?);
    }
    Ok(holding)
}

/// Holds the log against its mark. A log of one record may not have one yet.
fn check_mark(
    store: &RocksStore,
    size: u64,
    mark: Option<Checkpoint>,
    file: &MarkFile,
) -> Result<Option<String>, MarkError> {
    let path = file.path();
    match mark {
        Some(mark) => {
            mark::hold(store, size, &mark, file)?;
            Ok(Some(format!("mark {}: the log extends it, {} records", path.display(), mark.size())))
        }
        None if size > 1 => Err(MarkError::Absent { path: path.to_owned(), held: size }),
        None => Ok(None),
    }
}
