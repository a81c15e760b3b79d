//! The listeners' certificates, and those of callers: loaded whole, so that a file that does not hold changes nothing.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::assemble::AssembleError;
use super::privileges;
use super::reload::Reloader;
use crate::access::certificate::Need;
use crate::audit::hash::Hash;
use crate::audit::record::Event;
use crate::authn::{CertificateIssuer, SubjectKind};
use crate::config::settings::{Admin, ClientCerts, Server, Subject, Tls};
use crate::net::{ServerTls, ServingError, client_verifier};
use crate::policy::Watcher;
use crate::proxy::live::{Listeners, Live, Refusal};

/// What the files of certificates give.
pub(super) struct Loaded {
    /// TLS on the listeners.
    pub tls: Listeners,
    /// Who vouches for callers by certificates.
    pub issuer: Option<CertificateIssuer>,
}

impl Default for Loaded {
    /// Of no files: nothing listens with TLS, and no certificate proves anybody.
    fn default() -> Self {
        Self { tls: Listeners { front: None, admin: None, files: Hash::ZERO }, issuer: None }
    }
}

/// Loads every certificate, key, authority and list of revocations that the listeners need. Reads files.
///
/// # Errors
/// [`AssembleError::Tls`]: the first that does not hold.
pub(super) fn load(server: &Server, admin: &Admin) -> Result<Loaded, AssembleError> {
    // Before the files are loaded: one that changes in between is then loaded once more, not missed.
    let files = digest(&files(server, admin));
    let failed = |key| move |source| AssembleError::Tls { key, source: Box::new(source) };
    let issuer =
        server.client_certs.as_ref().map(issuer).transpose().map_err(failed("server.client_certs"))?;
    let verifier = issuer.as_ref().map(|issuer| issuer.verifier.clone());
    let tls = |tls: &Tls, verifier| {
        if std::fs::metadata(&tls.key).is_ok_and(|metadata| privileges::is_exposed(&metadata)) {
            tracing::warn!(key = %tls.key.display(), "others than its owner can use this key: chmod 600");
        }
        ServerTls::new(&tls.cert, &tls.key, verifier)
    };
    let front = server.tls.as_ref().map(|files| tls(files, verifier.clone())).transpose();
    let asked = verifier.filter(|_| admin.certificates.need != Need::Off);
    let admin = admin.tls.as_ref().map(|files| tls(files, asked)).transpose();
    let tls = Listeners {
        front: front.map_err(failed("server.tls"))?,
        admin: admin.map_err(failed("admin.tls"))?,
        files,
    };
    Ok(Loaded { tls, issuer })
}

fn issuer(words: &ClientCerts) -> Result<CertificateIssuer, ServingError> {
    let kind = |subject: &Subject| match subject {
        Subject::Spiffe => SubjectKind::Spiffe,
        Subject::Dns => SubjectKind::Dns,
        Subject::CommonName => SubjectKind::CommonName,
    };
    Ok(CertificateIssuer {
        name: words.name.clone(),
        primary: words.primary,
        subject: words.subject.iter().map(kind).collect(),
        trust_domain: words.trust_domain.clone(),
        verifier: client_verifier(&words.ca_file, &words.crl_files)?,
    })
}

/// The files that [`load`] reads.
pub(super) fn files(server: &Server, admin: &Admin) -> Vec<PathBuf> {
    let tls = server.tls.iter().chain(&admin.tls).flat_map(|tls| [tls.cert.clone(), tls.key.clone()]);
    let callers = server
        .client_certs
        .iter()
        .flat_map(|words| std::iter::once(words.ca_file.clone()).chain(words.crl_files.iter().cloned()));
    tls.chain(callers).collect()
}

/// SHA-256 over what the files hold. One that cannot be read is for [`load`] to find.
fn digest(files: &[PathBuf]) -> Hash {
    let mut digests = Vec::with_capacity(files.len() * 32);
    for file in files {
        let content = std::fs::read(file).map(Zeroizing::new).unwrap_or_default();
        digests.extend_from_slice(&Hash::of(&content).0);
    }
    Hash::of(&digests)
}

impl Reloader {
    /// Loads certificates anew whenever their files have changed.
    pub(super) async fn watch_certificates(self) {
        let mut begun = std::pin::pin!(self.0.drain.begun());
        let mut reloaded = self.0.reloaded.subscribe();
        loop {
            let watched = {
                let current = self.0.current.lock().await;
                files(&current.settings.server, &current.settings.admin)
            };
            let mut watcher = match Watcher::new(watched) {
                Ok(watcher) => Some(watcher),
                Err(error) => {
                    tracing::error!(%error, "certificates are not watched: they are loaded anew by SIGHUP");
                    None
                }
            };
            // What changed between the last load and the watch is looked at once.
            self.reload_certificates().await;
            loop {
                let changed = async {
                    match &mut watcher {
                        Some(watcher) => watcher.changed().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = changed => self.reload_certificates().await,
                    _ = reloaded.changed() => break,
                    () = &mut begun => return,
                }
            }
        }
    }

    /// Loads certificates from their files; if they differ from those in force and all of them hold, they take their place
    /// for connections that come from then on, and for what certificates prove on those that are there. No connection
    /// ends by it.
    pub(super) async fn reload_certificates(&self) {
        let current = self.0.current.lock().await;
        let (server, admin) = (current.settings.server.clone(), current.settings.admin.clone());
        let named: Vec<String> =
            files(&server, &admin).iter().map(|file| file.display().to_string()).collect();
        let loaded = tokio::task::spawn_blocking(move || load(&server, &admin)).await;
        let live = self.0.live.load_full();
        let refused = match loaded {
            Ok(Ok(loaded)) if loaded.tls.files == live.tls.files => {
                self.0.refusals.certificates.store(None);
                return;
            }
            Ok(Ok(Loaded { tls, issuer })) => {
                let named: Vec<&str> = named.iter().map(String::as_str).collect();
                let event = Event::CertificatesLoaded { files: &named };
                match self.0.journal.event(live.epochs, &event).await {
                    Ok(_) => {
                        // First what is believed, then whom to ask: nobody passes by what is no longer believed.
                        if let Some(issuer) = issuer {
                            live.authn.renew_certificates(issuer);
                        }
                        self.0.live.store(Live { tls, ..Live::clone(&live) }.into());
                        self.0.refusals.certificates.store(None);
                        tracing::info!("new certificates are in force");
                        metrics::counter!("portcullis_certificate_loads_total", "result" => "loaded")
                            .increment(1);
                        return;
                    }
                    Err(error) => error.to_string(),
                }
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(error = %refused, "certificates were refused; the old ones serve on");
        metrics::counter!("portcullis_certificate_loads_total", "result" => "refused").increment(1);
        let refusal = std::sync::Arc::new(Refusal { at: self.0.clock.now(), message: refused });
        let known = self.0.refusals.certificates.swap(Some(refusal.clone()));
        if known.is_none_or(|known| known.message != refusal.message) {
            let event = Event::ConfigRefused { error: &refusal.message };
            if let Err(error) = self.0.journal.event(live.epochs, &event).await {
                tracing::error!(%error, "the refusal could not be recorded");
            }
        }
    }
}
