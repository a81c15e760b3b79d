//! A new policy or config while serving: loaded whole, recorded, and only then swapped in. What does not hold is
//! refused and recorded, and the old one serves on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, oneshot, watch};

use super::assemble::{AssembleError, Parts, assemble, sources};
use crate::audit::journal::{Journal, Unrecorded};
use crate::audit::record::{Epochs, Event};
use crate::audit::storage::{Store, StoreError};
use crate::clock::Clock;
use crate::config::settings::needs_restart;
use crate::config::{ConfigErrors, Environment, Settings};
use crate::policy::{Policy, PolicyText, Watcher};
use crate::proxy::forward::Target;
use crate::proxy::gate::Gate;
use crate::proxy::live::{Live, Refusal, Refusals};
use crate::server::drain::Drain;

/// Reloads, one at a time. Clones are one.
#[derive(Clone)]
pub struct Reloader(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) journal: Journal,
    store: Arc<dyn Store>,
    pub(super) clock: Clock,
    config_path: Option<PathBuf>,
    pub(super) drain: Drain,
    // Held while a reload goes on.
    pub(super) current: Mutex<Current>,
    // Tells those who watch files that there may be others to watch.
    pub(super) reloaded: watch::Sender<()>,
}

pub(super) struct Current {
    pub(super) settings: Settings,
    // Dropping it ends the refreshing of the issuers' keys.
    _refreshing: oneshot::Sender<()>,
}

/// Why a config was refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    #[error("nothing was changed, since these need a restart: {}", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    #[error("the loading itself failed: {0}")]
    Panicked(#[from] tokio::task::JoinError),
    #[error("it could not be recorded: {0}")]
    Unrecorded(#[from] Unrecorded),
    #[error("its text could not be kept: {0}")]
    Unkept(#[from] StoreError),
}

impl Reloader {
    /// Begins to keep the issuers' keys fresh and, if the settings say so, to watch the policy's files. `config_path` is
    /// where SIGHUP finds the config anew; without it only the policy is loaded.
    pub fn start(
        live: Arc<ArcSwap<Live>>,
        refusals: Arc<Refusals>,
        (journal, store): (Journal, Arc<dyn Store>),
        clock: Clock,
        (settings, config_path): (Settings, Option<PathBuf>),
        drain: Drain,
    ) -> Self {
        let refreshing = keep_keys_fresh(&live.load());
        let current = Mutex::new(Current { settings, _refreshing: refreshing });
        let reloaded = watch::Sender::new(());
        let reloader = Self(Arc::new(Inner {
            live,
            refusals,
            journal,
            store,
            clock,
            config_path,
            drain,
            current,
            reloaded,
        }));
        tokio::task::spawn_local(reloader.clone().watch());
        tokio::task::spawn_local(reloader.clone().watch_certificates());
        reloader
    }

    /// Reloads the policy whenever its files have changed.
    async fn watch(self) {
        let mut begun = std::pin::pin!(self.0.drain.begun());
        let mut reloaded = self.0.reloaded.subscribe();
        loop {
            let settings = self.0.current.lock().await.settings.clone();
            if !settings.policy.watch {
                tokio::select! {
                    _ = reloaded.changed() => continue,
                    () = &mut begun => return,
                }
            }
            let mut files = settings.policy.files.clone();
            files.push(settings.policy.model.clone());
            let mut watcher = match Watcher::new(files) {
                Ok(watcher) => watcher,
                Err(error) => {
                    tracing::error!(%error, "the policy's files are not watched");
                    return;
                }
            };
            // What changed between the last load and the watch is looked at once.
            self.reload_policy().await;
            loop {
                tokio::select! {
                    () = watcher.changed() => self.reload_policy().await,
                    _ = reloaded.changed() => {}
                    () = &mut begun => return,
                }
                if self.0.current.lock().await.settings.policy != settings.policy {
                    break;
                }
            }
        }
    }

    /// Loads the policy from its files; if it differs from the one in force, it takes its place.
    pub async fn reload_policy(&self) {
        let current = self.0.current.lock().await;
        let sources = sources(&current.settings);
        let loaded = tokio::task::spawn_blocking(move || Policy::load(&sources)).await;
        let live = self.0.live.load_full();
        let refused = match loaded {
            Ok(Ok(policy)) if policy.epoch() == live.epochs.policy => {
                self.0.refusals.policy.store(None);
                return;
            }
            Ok(Ok(policy)) => {
                let epochs = Epochs { policy: policy.epoch(), ..live.epochs };
                match self.record_policy(epochs, &policy, &current.settings).await {
                    Ok(()) => {
                        let gate = Gate::new(Arc::new(policy), current.settings.policy.timeout);
                        let policy_loaded = self.0.clock.now();
                        self.0.live.store(Arc::new(Live {
                            gate,
                            epochs,
                            policy_loaded,
                            ..Live::clone(&live)
                        }));
                        retire(Arc::clone(live.gate.policy()));
                        self.0.refusals.policy.store(None);
                        tracing::info!(epoch = %epochs.policy, "a new policy is in force");
                        metrics::counter!("portcullis_policy_loads_total", "result" => "loaded").increment(1);
                        return;
                    }
                    Err(error) => error.to_string(),
                }
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(error = %refused, "a policy was refused; the old one serves on");
        metrics::counter!("portcullis_policy_loads_total", "result" => "refused").increment(1);
        let refusal = Arc::new(Refusal { at: self.0.clock.now(), message: refused });
        let known = self.0.refusals.policy.swap(Some(Arc::clone(&refusal)));
        if known.is_none_or(|known| known.message != refusal.message) {
            let event = Event::PolicyRefused { error: &refusal.message };
            if let Err(error) = self.0.journal.event(live.epochs, &event).await {
                tracing::error!(%error, "the refusal could not be recorded");
            }
        }
    }

    async fn record_policy(
        &self,
        epochs: Epochs,
        policy: &Policy,
        settings: &Settings,
    ) -> Result<(), Refused> {
        self.keep_policy(policy.text().clone()).await?;
        let files = file_names(settings);
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let counts = policy.counts();
        let rows = counts.rules as u64 + counts.links as u64;
        self.0.journal.event(epochs, &Event::PolicyLoaded { rows, files: &files }).await?;
        Ok(())
    }

    /// Before anything is decided by it: a decision whose policy nobody can read any more is none to rely on.
    async fn keep_policy(&self, text: PolicyText) -> Result<(), Refused> {
        // A disk that is full has no room for it, and what is held back there is for records.
        self.0.journal.admits()?;
        let store = Arc::clone(&self.0.store);
        let kept = tokio::task::spawn_blocking(move || store.keep_policy(text.epoch(), text.as_bytes()));
        Ok(kept.await??)
    }

    /// Loads config and policy from their files; if all of it holds, it takes the place of what is in force.
    pub async fn reload_config(&self) {
        let Some(path) = self.0.config_path.clone() else {
            self.reload_certificates().await;
            return self.reload_policy().await;
        };
        let mut current = self.0.current.lock().await;
        match self.try_config(path, &mut current).await {
            Ok(epochs) => {
                self.0.refusals.config.store(None);
                self.0.refusals.policy.store(None);
                self.0.refusals.certificates.store(None);
                self.0.reloaded.send_replace(());
                tracing::info!(policy = %epochs.policy, config = %epochs.config, "a new config is in force");
                metrics::counter!("portcullis_config_loads_total", "result" => "loaded").increment(1);
            }
            Err(error) => {
                let message = error.to_string();
                tracing::error!(error = %message, "a config was refused; the old one serves on");
                metrics::counter!("portcullis_config_loads_total", "result" => "refused").increment(1);
                let epochs = self.0.live.load().epochs;
                let policy_at_fault = matches!(error, Refused::Assemble(AssembleError::Policy(_)));
                let event = if policy_at_fault {
                    Event::PolicyRefused { error: &message }
                } else {
                    Event::ConfigRefused { error: &message }
                };
                if let Err(error) = self.0.journal.event(epochs, &event).await {
                    tracing::error!(%error, "the refusal could not be recorded");
                }
                let refusal = Some(Arc::new(Refusal { at: self.0.clock.now(), message }));
                let place = if policy_at_fault { &self.0.refusals.policy } else { &self.0.refusals.config };
                place.store(refusal);
            }
        }
    }

    async fn try_config(&self, path: PathBuf, current: &mut Current) -> Result<Epochs, Refused> {
        let clock = self.0.clock.clone();
        let loaded = tokio::task::spawn_blocking(move || -> Result<(Settings, Parts), Refused> {
            let settings = Settings::load(&path, &Environment::of_process())?;
            let parts = assemble(&settings, &clock)?;
            Ok((settings, parts))
        });
        let (settings, parts) = loaded.await??;
        let restart = needs_restart(&current.settings, &settings);
        if !restart.is_empty() {
            return Err(Refused::NeedsRestart(restart));
        }
        let old = self.0.live.load_full();
        let epochs = parts.epochs;
        if epochs.policy != old.epochs.policy {
            self.keep_policy(parts.policy().text().clone()).await?;
            let files = file_names(&settings);
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            self.0.journal.event(epochs, &Event::PolicyLoaded { rows: parts.rows(), files: &files }).await?;
        }
        self.0.journal.event(epochs, &Event::ConfigLoaded).await?;
        let admin = old.backends.by_service.values().find_map(|backend| match &backend.target {
            Target::Admin(router) => Some(router.clone()),
            Target::Upstreams(_) => None,
        });
        let new = parts.going_on_from(&old).into_live(admin.unwrap_or_default());
        new.authn.adopt_keys(&old.authn);
        self.0.journal.bound_denials(settings.limits.denial_bytes);
        *current = Current { settings, _refreshing: keep_keys_fresh(&new) };
        self.0.live.store(Arc::new(new));
        retire(Arc::clone(old.gate.policy()));
        Ok(epochs)
    }
}

/// How often it is looked whether a policy is still asked.
const RETIRING: Duration = Duration::from_millis(100);

/// Lets go of a policy that is no longer in force. To free a large one takes milliseconds, which whoever happens to be the
/// last to ask it should not have to wait for.
fn retire(policy: Arc<Policy>) {
    tokio::spawn(async move {
        while Arc::strong_count(&policy) > 1 {
            tokio::time::sleep(RETIRING).await;
        }
        // Where the runtime is ending, so is the process.
        let _ = tokio::task::spawn_blocking(move || drop(policy)).await;
    });
}

/// Keeps the issuers' keys fresh until the returned end is dropped.
fn keep_keys_fresh(live: &Live) -> oneshot::Sender<()> {
    let (ended, end) = oneshot::channel();
    live.authn.spawn_refresh(async move {
        let _ = end.await;
    });
    ended
}

fn file_names(settings: &Settings) -> Vec<String> {
    std::iter::once(&settings.policy.model)
        .chain(&settings.policy.files)
        .map(|path| path.display().to_string())
        .collect()
}
