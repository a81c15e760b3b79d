//! Settings to the objects that serve: here the config's words end.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use http::Uri;

use crate::access::attempt::TrustedProxies;
use crate::access::certificate::Certificates;
use crate::access::path::Tolerance;
use crate::access::rate::ServiceRates;
use crate::access::recording::Recording;
use crate::access::route::{HostPattern, Preflights, Route, Routes};
use crate::audit::record::Epochs;
use crate::authn::{self, Authn, AuthnLimits, CertificateIssuer, SetupError};
use crate::clock::{Clock, Timestamp};
use crate::config::settings::{self, CorsOrigins, Settings};
use crate::net::{ClientTls, Dialer, Endpoint, EndpointError, Roots, ServingError, TlsError};
use crate::policy::{LoadError, PathForms, Policy, Sources};
use crate::proxy::cors::CorsAnswers;
use crate::proxy::forward::{Backend, Backends, Target};
use crate::proxy::gate::Gate;
use crate::proxy::headers::IdentityHeaders;
use crate::proxy::live::{Limits, Listeners, Live};
use crate::proxy::rates::Rates;
use crate::proxy::room::Room;
use crate::proxy::upstream::{Upstream, UpstreamSet};

use super::assertion::{self, Asserting, AssertionSetupError};
use super::certificates;

/// Why settings that hold by themselves cannot be served by.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The policy does not load.
    #[error(transparent)]
    Policy(#[from] LoadError),
    /// An issuer's keys or their source do not hold.
    #[error(transparent)]
    Issuers(#[from] SetupError),
    /// A key of assertions does not hold.
    #[error(transparent)]
    Assertion(#[from] AssertionSetupError),
    /// A listener's certificate, key, or whom it trusts.
    #[error("{key}: {source}")]
    Tls {
        /// The config's key.
        key: &'static str,
        /// Why.
        source: Box<ServingError>,
    },
    /// A service's upstream cannot be dialled.
    #[error("service {service:?}: upstream {upstream}: {source}")]
    Upstream {
        /// The service.
        service: String,
        /// The upstream's URL.
        upstream: String,
        /// Why.
        source: Box<EndpointError>,
    },
    /// A service's authorities cannot be trusted.
    #[error("service {service:?}: {source}")]
    Trust {
        /// The service.
        service: String,
        /// Why.
        source: Box<TlsError>,
    },
}

/// Everything a snapshot needs but the admin API, which needs the snapshot.
pub struct Parts {
    /// What every decision will name.
    pub epochs: Epochs,
    front: Routes,
    admin: Routes,
    backends: HashMap<Arc<str>, Backend>,
    assertion_keys: Option<Bytes>,
    identity_headers: IdentityHeaders,
    trusted: TrustedProxies,
    limits: Limits,
    rates: Rates,
    authn: Arc<Authn>,
    tls: Listeners,
    gate: Gate,
    loaded: Timestamp,
}

/// Loads policy, keys and certificates, and makes the objects that serve by `settings`. Reads files, so it may block.
///
/// # Errors
/// [`AssembleError`]: the first thing that does not hold.
pub fn assemble(settings: &Settings, clock: &Clock) -> Result<Parts, AssembleError> {
    assemble_with(settings, clock, certificates::load(&settings.server, &settings.admin)?)
}

/// As [`assemble`], less the listeners' certificates, which need not be there yet: for what serves nobody.
///
/// # Errors
/// [`AssembleError`]: the first thing that does not hold.
pub fn assemble_unlistening(settings: &Settings, clock: &Clock) -> Result<Parts, AssembleError> {
    assemble_with(settings, clock, certificates::Loaded::default())
}

fn assemble_with(
    settings: &Settings,
    clock: &Clock,
    certificates: certificates::Loaded,
) -> Result<Parts, AssembleError> {
    let policy = Policy::load(&sources(settings))?;
    let certificates::Loaded { tls, issuer } = certificates;
    let authn = authn(settings, issuer, clock)?;
    let asserting = settings.assertion.as_ref();
    let asserting =
        asserting.map(|assertion| assertion::setup(assertion, &settings.log, clock)).transpose()?;
    let backends = settings
        .services
        .iter()
        .map(|service| Ok((Arc::clone(&service.route.service), backend(service, asserting.as_ref())?)))
        .collect::<Result<HashMap<_, _>, AssembleError>>()?;
    Ok(Parts {
        epochs: Epochs { policy: policy.epoch(), config: settings.epoch() },
        admin: Routes::new([admin_route(settings.admin.certificates)]),
        front: Routes::new(settings.services.iter().map(|service| service.route.clone())),
        backends,
        assertion_keys: asserting.map(|asserting| asserting.key_set),
        identity_headers: IdentityHeaders {
            subject: settings.identity.subject_header.clone(),
            roles: settings.identity.roles_header.clone(),
        },
        trusted: TrustedProxies::new(settings.server.trusted_proxies.clone()),
        limits: limits(&settings.limits, settings.services.len()),
        rates: Rates::new(settings.limits.rate_per_address, settings.services.iter().map(rates)),
        authn: Arc::new(authn),
        tls,
        gate: Gate::new(Arc::new(policy), settings.policy.timeout),
        loaded: clock.now(),
    })
}

impl Parts {
    /// The policy.
    pub fn policy(&self) -> &Policy {
        self.gate.policy()
    }

    /// How many rows and role links the policy has.
    pub fn rows(&self) -> u64 {
        let counts = self.policy().counts();
        counts.rules as u64 + counts.links as u64
    }

    /// With the counts of `old` for every rate that has stayed as it was.
    #[must_use]
    pub fn going_on_from(self, old: &Live) -> Self {
        Self { rates: self.rates.going_on_from(&old.rates), ..self }
    }

    /// The snapshot, with `admin` as the service of that name.
    pub fn into_live(mut self, admin: Router) -> Live {
        self.backends.insert(ADMIN.into(), admin_backend(admin));
        Live {
            front: self.front,
            admin: self.admin,
            backends: Arc::new(Backends {
                by_service: self.backends,
                identity_headers: Arc::new(self.identity_headers),
            }),
            trusted: self.trusted,
            limits: self.limits,
            rates: self.rates,
            admin_rates: Rates::default(),
            authn: self.authn,
            tls: self.tls,
            gate: self.gate,
            epochs: self.epochs,
            assertion_keys: self.assertion_keys,
            policy_loaded: self.loaded,
        }
    }
}

/// The policy's files and what paths may look like.
pub fn sources(settings: &Settings) -> Sources {
    Sources {
        model: settings.policy.model.clone(),
        policies: settings.policy.files.clone(),
        forms: PathForms::granted(settings.services.iter().map(|service| service.route.tolerance)),
    }
}

/// Everything that proves callers.
///
/// # Errors
/// An issuer's keys or their source do not hold.
pub fn authn(
    settings: &Settings,
    certificates: Option<CertificateIssuer>,
    clock: &Clock,
) -> Result<Authn, SetupError> {
    let authn = Authn::new(issuers(settings), authn_limits(&settings.identity), clock.clone())?;
    Ok(match certificates {
        Some(issuer) => authn.with_certificates(issuer),
        None => authn,
    })
}

fn issuers(settings: &Settings) -> Vec<authn::Issuer> {
    let algorithm = |algorithm: &settings::Algorithm| authn::Algorithm::parse(algorithm.as_str());
    settings
        .issuers
        .iter()
        .map(|issuer| authn::Issuer {
            name: issuer.name.clone(),
            issuer: issuer.issuer.clone(),
            audiences: issuer.audience.clone(),
            algorithms: issuer.algorithms.iter().filter_map(algorithm).collect(),
            keys: match &issuer.keys {
                settings::KeySource::File(path) => authn::KeySource::File(path.clone()),
                settings::KeySource::Url { url, ca_file } => {
                    authn::KeySource::Url { url: url.clone(), ca_file: ca_file.clone() }
                }
            },
            refresh: issuer.refresh,
            max_stale: issuer.max_stale,
            subject_claim: issuer.subject_claim.join("."),
            roles_claim: issuer.roles_claim.join("."),
            roles: issuer.roles.clone(),
            primary: issuer.primary,
        })
        .collect()
}

fn authn_limits(identity: &settings::Identity) -> AuthnLimits {
    AuthnLimits { leeway: identity.leeway, remember: identity.remember, ..AuthnLimits::default() }
}

fn limits(limits: &settings::Limits, services: usize) -> Limits {
    Limits {
        connections: limits.connections,
        connections_per_address: limits.connections_per_address,
        in_flight: Room::new(limits.in_flight, services),
        admin_in_flight: Room::new(ADMIN_IN_FLIGHT, 1),
        target_bytes: limits.target_bytes,
        header_bytes: limits.header_bytes,
        headers: limits.headers,
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
        h2_streams: limits.h2_streams,
    }
}

fn rates(service: &settings::Service) -> (Arc<str>, ServiceRates) {
    (Arc::clone(&service.route.service), service.rates)
}

fn backend(service: &settings::Service, asserting: Option<&Asserting>) -> Result<Backend, AssembleError> {
    let asserting = asserting.filter(|_| service.assertion);
    let name = || service.route.service.to_string();
    let tls = if service.upstreams.iter().any(|upstream| upstream.tls) {
        let roots = service.ca_file.as_deref().map_or(Roots::Native, Roots::File);
        let tls = ClientTls::new(roots, &[b"http/1.1"])
            .map_err(|source| AssembleError::Trust { service: name(), source: Box::new(source) })?;
        Some(tls)
    } else {
        None
    };
    let upstreams = service
        .upstreams
        .iter()
        .map(|upstream| {
            let url = upstream.to_string();
            let failed = |source| AssembleError::Upstream {
                service: name(),
                upstream: url.clone(),
                source: Box::new(source),
            };
            let parsed: Uri = url.parse().map_err(|_| failed(EndpointError::Host))?;
            let endpoint = Endpoint::of(&parsed).map_err(failed)?;
            let dialer = Dialer::new(endpoint, tls.as_ref(), service.timeouts.connect).map_err(failed)?;
            Ok(Arc::new(Upstream::new(url.into(), dialer, service.timeouts.idle)))
        })
        .collect::<Result<_, AssembleError>>()?;
    Ok(Backend {
        target: Target::Upstreams(UpstreamSet::new(upstreams)),
        max_body: service.max_body.unwrap_or(u64::MAX),
        min_rate: service.min_rate,
        head_timeout: service.timeouts.head,
        idle_timeout: service.timeouts.idle,
        forward_authorization: service.forward_authorization,
        cors: service.cors.as_ref().map(cors),
        assertions: asserting.map(|asserting| Arc::clone(&asserting.assertions)),
    })
}

fn cors(cors: &settings::Cors) -> CorsAnswers {
    CorsAnswers {
        origins: match &cors.origins {
            CorsOrigins::Any => vec!["*".into()],
            CorsOrigins::Listed(origins) => origins.clone(),
        },
        methods: cors.methods.iter().map(ToString::to_string).collect(),
        headers: cors.headers.iter().map(ToString::to_string).collect(),
        max_age: cors.max_age,
        credentials: cors.credentials,
    }
}

fn admin_route(certificates: Certificates) -> Route {
    Route {
        service: ADMIN.into(),
        hosts: vec![HostPattern::Any],
        prefix: "/".into(),
        rewrite: None,
        tolerance: Tolerance::default(),
        preflights: Preflights::Off,
        certificates,
        // Who watches the log is on the log, each time; who follows it by its tiles, once a minute.
        recording: Recording { collapse: false, log_reads: true, ..Recording::default() },
    }
}

fn admin_backend(router: Router) -> Backend {
    Backend {
        target: Target::Admin(router),
        max_body: 1 << 20,
        min_rate: 256,
        head_timeout: ADMIN_TIMEOUT,
        idle_timeout: ADMIN_TIMEOUT,
        forward_authorization: false,
        cors: None,
        assertions: None,
    }
}

/// The admin API's service name.
const ADMIN: &str = "admin";

/// Calls to the admin API served at once. They have room of their own, so that those who look do not stand behind those
/// they look at.
const ADMIN_IN_FLIGHT: usize = 256;

const ADMIN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
