//! Who calls: from a bearer token or a client certificate to a proved caller, or the fault for which it proves nothing.
//!
//! | file | what is there | what it uses |
//! |---|---|---|
//! | [`issuer`] | plain values: an [`Issuer`], its [`Algorithm`]s and where its keys are published | |
//! | `json` | JSON objects without repeated members | |
//! | `token` | a token taken apart, nothing of it believed yet | `json`, `issuer` |
//! | `keys` | a key set, and which of its keys signed a token | `token` |
//! | `claims` | what a verified token says of its caller | `keys`, `principal` |
//! | [`certificate`] | whom a client certificate proves | `principal` |
//! | `principal` | the names that policy rows match | `issuer` |
//! | `remembered` | tokens verified before | |
//! | `source` | a key set read from a file or a URL | `keys`, [`crate::net`] |
//! | `keyring` | an issuer's current keys, refreshed and shared | `source` |
//!
//! Invariants:
//! 1. The algorithms a token may be signed with come from the configuration. `none` and shared secrets have no
//!    [`Algorithm`] to be named by.
//! 2. Nothing in a token causes a fetch from where the token says; a `kid` only selects among keys already had, and
//!    `jku`, `x5u`, `jwk` and `x5c` are not looked at.
//! 3. Claims are looked at for what they say of the caller only once a signature over them has verified. Before
//!    that, `iss` is used to select the issuer whose keys must then verify it, and for nothing else.
//! 4. No token is accepted by keys older than `max_stale`, remembered or not.
//! 5. What expires, tokens and keys alike, expires by [`Clock::steady`]: setting the machine's clock neither ends nor
//!    prolongs it.
//! 6. A failed proof is never remembered, and never becomes an anonymous caller.
//!
//! 6. A client certificate proves somebody only by the authorities and lists of revocations that are in force when the
//!    call is made, however long its connection has been there.

pub mod certificate;
mod claims;
pub mod issuer;
mod json;
mod keyring;
mod keys;
mod principal;
mod remembered;
mod source;
mod token;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::{JoinHandle, JoinSet};

pub use certificate::{CertificateIssuer, SubjectKind};
pub use issuer::{Algorithm, Issuer, KeySource, SetupError, SetupFault};
pub use keyring::KeysStatus;
pub use keys::KeySetError;
pub use source::SourceError;

use crate::access::certificate::{Certificates as Asked, ClientCertificate, Need, SubjectFrom};
use crate::access::{Attempt, Caller, Credential, CredentialFault, Identity};
use crate::audit::hash::Hash;
use crate::clock::Clock;
use certificate::Certificates;
use keyring::Keyring;
use keys::Verified;
use remembered::Remembered;
use token::{MAX_TOKEN_BYTES, Token};

/// Proves callers. One for all threads; any number of runtimes may use it at once.
pub struct Authn {
    trusted: Vec<Trusted>,
    certificates: Option<(ArcSwap<Certificates>, principal::Names)>,
    remembered: Remembered,
    limits: AuthnLimits,
    clock: Clock,
}

/// Bounds that hold for every issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthnLimits {
    /// How far the issuers' clocks and ours may be apart, when `exp` and `nbf` are looked at.
    pub leeway: Duration,
    /// How many verified tokens are remembered; 0 remembers none.
    pub remember: usize,
    /// How long one call waits for keys that it needs and that are not there yet.
    pub key_wait: Duration,
    /// The least time between two looks at one issuer's keys that tokens with an unknown `kid` can cause.
    pub refresh_gap: Duration,
    /// How long one fetch of keys may take, connecting included.
    pub fetch_timeout: Duration,
}

impl Default for AuthnLimits {
    fn default() -> Self {
        Self {
            leeway: Duration::from_secs(30),
            remember: 10_000,
            key_wait: Duration::from_secs(3),
            refresh_gap: Duration::from_secs(10),
            fetch_timeout: Duration::from_secs(5),
        }
    }
}

/// An issuer and the keys it has now.
struct Trusted {
    issuer: Issuer,
    keyring: Keyring,
    names: principal::Names,
}

impl Authn {
    /// Checks the issuers against each other, reads key files and trusted roots. Keys at URLs are not fetched here
    /// but by [`Authn::spawn_refresh`]; until then tokens of those issuers are refused as
    /// [`CredentialFault::KeysUnavailable`].
    ///
    /// Reads files; call it before serving, or on a thread that may block.
    pub fn new(issuers: Vec<Issuer>, limits: AuthnLimits, clock: Clock) -> Result<Self, SetupError> {
        issuer::check(&issuers)?;
        let names = principal::Names::of(&issuers);
        let trusted = issuers
            .into_iter()
            .map(|issuer| {
                let keyring = Keyring::new(&issuer, &limits, clock.clone())?;
                Ok(Trusted { issuer, keyring, names: names.clone() })
            })
            .collect::<Result<_, SetupError>>()?;
        Ok(Self { trusted, certificates: None, remembered: Remembered::new(limits.remember), limits, clock })
    }

    /// Lets callers be proved by certificates, too.
    pub fn with_certificates(mut self, issuer: CertificateIssuer) -> Self {
        let issuers: Vec<Issuer> = self.trusted.iter().map(|trusted| trusted.issuer.clone()).collect();
        let mut names = principal::Names::of(&issuers);
        if !issuer.primary {
            names = names.and(&issuer.name);
        }
        for trusted in &mut self.trusted {
            trusted.names = names.clone();
        }
        self.certificates = Some((ArcSwap::from_pointee(Certificates::new(issuer)), names));
        self
    }

    /// Believes other certificates from now on, of the same name. Nothing else about `issuer` may have changed, and there
    /// must have been one.
    pub fn renew_certificates(&self, issuer: CertificateIssuer) {
        if let Some((certificates, _)) = &self.certificates {
            certificates.store(Arc::new(Certificates::new(issuer)));
        }
    }

    /// Takes over keys already fetched by `old` for the issuers that are published at the same place, so that a
    /// new configuration need not wait for a first fetch. Call it before
    /// [`Authn::spawn_refresh`].
    pub fn adopt_keys(&self, old: &Self) {
        for trusted in &self.trusted {
            let same = |other: &&Trusted| {
                other.issuer.issuer == trusted.issuer.issuer && other.issuer.keys == trusted.issuer.keys
            };
            if let Some(before) = old.trusted.iter().find(same) {
                trusted.keyring.adopt(&before.keyring);
            }
        }
    }

    /// Keeps the keys fresh, from a first look at once until `stop` resolves: every `refresh` of an issuer, sooner
    /// when a token names an unknown key, more often after a failed look. Must be called on a runtime that lives as
    /// long as keys are needed: looks belong to it, not to the calls that wait for them.
    pub fn spawn_refresh(
        self: &Arc<Self>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        for trusted in &self.trusted {
            trusted.keyring.expect_looks();
        }
        let authn = Arc::clone(self);
        tokio::spawn(async move {
            let mut looking = JoinSet::new();
            for index in 0..authn.trusted.len() {
                let authn = Arc::clone(&authn);
                looking.spawn(async move {
                    if let Some(trusted) = authn.trusted.get(index) {
                        trusted.keyring.keep_fresh().await;
                    }
                });
            }
            stop.await;
            looking.shutdown().await;
        })
    }

    /// What is known of each issuer's keys, in the order of the configuration.
    pub fn keys(&self) -> Vec<KeysStatus> {
        self.trusted.iter().map(|trusted| trusted.keyring.status()).collect()
    }

    /// Who makes the call: proved, anonymous, or failed. What was shown and does not hold is a failure, whatever else was
    /// shown beside it.
    pub async fn identify(&self, attempt: &Attempt) -> Identity {
        let asked = attempt.access.as_ref().map_or(Asked::default(), |access| access.route.certificates);
        let by_certificate = match (asked.need, &attempt.certificate) {
            (Need::Off, _) | (Need::Optional, None) => None,
            (Need::Required, None) => return Identity::Failed(CredentialFault::CertificateMissing),
            (Need::Optional | Need::Required, Some(certificate)) => {
                match self.identify_certificate(certificate) {
                    Ok(caller) => Some(caller),
                    Err(fault) => return Identity::Failed(fault),
                }
            }
        };
        let by_token = match &attempt.credential {
            Credential::None => Identity::Anonymous,
            Credential::Bearer(token) => self.identify_token(token.as_str()).await,
            Credential::Unsupported => Identity::Failed(CredentialFault::UnsupportedScheme),
            Credential::Malformed => Identity::Failed(CredentialFault::Malformed),
        };
        match (by_certificate, by_token) {
            (_, Identity::Failed(fault)) => Identity::Failed(fault),
            (None, identity) => identity,
            (Some(caller), Identity::Anonymous) => Identity::Proved(caller),
            (Some(certified), Identity::Proved(token)) => {
                let (who, also) = match asked.subject_from {
                    SubjectFrom::Token => (token, certified),
                    SubjectFrom::Certificate => (certified, token),
                };
                let expires = who.expires.min(also.expires);
                Identity::Proved(Arc::new(Caller { also: Some(also), expires, ..Caller::clone(&who) }))
            }
        }
    }

    /// Proves the caller by its certificate.
    ///
    /// # Errors
    /// Why it proves nobody.
    pub fn identify_certificate(
        &self,
        certificate: &ClientCertificate,
    ) -> Result<Arc<Caller>, CredentialFault> {
        let (certificates, names) = self.certificates.as_ref().ok_or(CredentialFault::CertificateRejected)?;
        certificates.load().prove(certificate, names, self.clock.now())
    }

    /// Proves the caller by a bearer token (RFC 6750 §2.1): the text after `Bearer `, whole. Waits at most
    /// [`AuthnLimits::key_wait`], and only if the issuer's keys must be looked at anew. Dropping the future harms
    /// nothing: a look it began goes on.
    pub async fn identify_token(&self, token: &str) -> Identity {
        match self.prove(token).await {
            Ok(caller) => Identity::Proved(caller),
            Err(fault) => Identity::Failed(fault),
        }
    }

    async fn prove(&self, text: &str) -> Result<Arc<Caller>, CredentialFault> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(CredentialFault::Malformed);
        }
        let digest = Hash::of(text.as_bytes());
        if let Some(caller) = self.recall(&digest) {
            return Ok(caller);
        }
        // Boxed, since a call's state has room for it else, used or not.
        Box::pin(self.prove_anew(text, digest)).await
    }

    /// Proves the caller by a token that is not remembered.
    async fn prove_anew(&self, text: &str, digest: Hash) -> Result<Arc<Caller>, CredentialFault> {
        let token = Token::parse(text)?;
        let (index, trusted) = self.vouching(&token)?;
        let algorithm = trusted.allowed(&token)?;
        let mut patience = trusted.keyring.patience(self.limits.key_wait);
        loop {
            let fault = match trusted.keyring.usable(self.clock.steady()) {
                None => CredentialFault::KeysUnavailable,
                Some(keys) => match keys.verify(&token, algorithm) {
                    Ok(verified) => return self.accept(digest, index, trusted, &verified),
                    Err(failed) if failed.newer_keys_may_help => failed.fault,
                    Err(failed) => return Err(failed.fault),
                },
            };
            if !patience.newer_keys().await {
                return Err(fault);
            }
        }
    }

    /// The issuer the token claims to be from.
    fn vouching(&self, token: &Token<'_>) -> Result<(usize, &Trusted), CredentialFault> {
        let iss = token.issuer()?;
        let mut all = self.trusted.iter().enumerate();
        all.find(|(_, trusted)| trusted.issuer.issuer == iss).ok_or(CredentialFault::UnknownIssuer)
    }

    fn accept(
        &self,
        digest: Hash,
        index: usize,
        trusted: &Trusted,
        verified: &Verified<'_>,
    ) -> Result<Arc<Caller>, CredentialFault> {
        let proof = claims::read(verified, &trusted.issuer, &trusted.names, &self.clock, self.limits.leeway)?;
        let caller = Arc::new(proof.caller);
        self.remembered.keep(
            digest,
            remembered::Entry {
                caller: Arc::clone(&caller),
                issuer: index,
                generation: verified.generation(),
                not_before: proof.not_before,
            },
        );
        Ok(caller)
    }

    /// The caller this very token proved before, if it would prove it still: within its time, and by keys that have
    /// neither changed nor grown too old. In all other cases the token is looked at again from the start, which
    /// also finds the fault to name.
    fn recall(&self, digest: &Hash) -> Option<Arc<Caller>> {
        let entry = self.remembered.find(digest)?;
        let now = self.clock.steady();
        let generation = self.trusted.get(entry.issuer)?.keyring.usable_generation(now)?;
        let holds = generation == entry.generation
            && now < entry.caller.expires
            && claims::has_begun(entry.not_before, now, &self.clock);
        if holds {
            return Some(entry.caller);
        }
        self.remembered.forget(digest);
        None
    }
}

impl Trusted {
    fn allowed(&self, token: &Token<'_>) -> Result<Algorithm, CredentialFault> {
        token
            .algorithm()
            .filter(|algorithm| self.issuer.algorithms.contains(algorithm))
            .ok_or(CredentialFault::AlgorithmNotAllowed)
    }
}
