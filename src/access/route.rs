//! Which service a host and path lead to.

use std::sync::Arc;

use super::certificate::{Certificates, Need};
use super::path::{Tolerance, covers_prefix};
use super::recording::Recording;

/// One service as seen from the front: where it listens, and how its paths read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The service's name: policy's `dom`.
    pub service: Arc<str>,
    /// The hosts it answers for.
    pub hosts: Vec<HostPattern>,
    /// The canonical prefix it answers under; `/` for all.
    pub prefix: String,
    /// What `prefix` is replaced by before the decision; `None` leaves the path as it is.
    pub rewrite: Option<String>,
    /// The ambiguous bytes its origin reads in one way only.
    pub tolerance: Tolerance,
    /// Who answers CORS preflights.
    pub preflights: Preflights,
    /// What it does with client certificates.
    pub certificates: Certificates,
    /// How its calls are recorded.
    pub recording: Recording,
}

/// Who answers a service's CORS preflights (WHATWG Fetch §3.2.3), which carry no credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflights {
    /// Nobody in particular: they are decided by policy like any OPTIONS request.
    Off,
    /// The upstream: they pass without asking policy.
    Forward,
    /// The gate itself.
    Answer,
}

/// A host as a service writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`: every host.
    Any,
    /// `*.example.com`: every name below it, kept here as `.example.com`.
    Below(String),
    /// One name or address, lower-case.
    Exact(String),
}

impl HostPattern {
    /// Reads `*`, `*.example.com` or a name, already lower-case.
    pub fn read(text: &str) -> Self {
        match text.strip_prefix('*') {
            Some("") => Self::Any,
            Some(below) => Self::Below(below.to_owned()),
            None => Self::Exact(text.to_owned()),
        }
    }

    /// How closely this pattern fits `host`; `None` if it does not. Greater is closer.
    fn fit(&self, host: &str) -> Option<usize> {
        match self {
            Self::Any => Some(0),
            Self::Below(suffix) => {
                (host.len() > suffix.len() && host.ends_with(suffix.as_str())).then_some(suffix.len())
            }
            Self::Exact(name) => (host == name).then_some(usize::MAX),
        }
    }
}

/// All services' routes.
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<Arc<Route>>);

impl Routes {
    /// A table of `routes`.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        Self(routes.into_iter().map(Arc::new).collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.0.iter()
    }

    /// The route for a host name and a path: the closest host wins, then the longest prefix. A path that the closest
    /// host has no prefix for is not given to a wider host, so that naming a host takes it over whole.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Route>> {
        let fit = |route: &Route| route.hosts.iter().filter_map(|pattern| pattern.fit(host)).max();
        let closest = self.0.iter().filter_map(|route| fit(route)).max()?;
        self.0
            .iter()
            .filter(|route| fit(route) == Some(closest) && covers_prefix(&route.prefix, path))
            .max_by_key(|route| route.prefix.trim_end_matches('/').len())
    }

    /// The strictest that the services of `host` ask of client certificates; of all hosts for `None`.
    pub fn need(&self, host: Option<&str>) -> Need {
        let fit = |route: &Route| route.hosts.iter().filter_map(|pattern| pattern.fit(host?)).max();
        let closest = self.0.iter().filter_map(|route| fit(route)).max();
        self.0
            .iter()
            .filter(|route| host.is_none() || (closest.is_some() && fit(route) == closest))
            .map(|route| route.certificates.need)
            .max()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(service: &str, host: &str, prefix: &str) -> Route {
        Route {
            service: service.into(),
            hosts: vec![HostPattern::read(host)],
            prefix: prefix.into(),
            rewrite: None,
            tolerance: Tolerance::default(),
            preflights: Preflights::Off,
            certificates: Certificates::default(),
            recording: Recording::default(),
        }
    }

    #[test]
    fn the_closest_host_wins_then_the_longest_prefix() {
        let routes = Routes::new([
            route("any", "*", "/"),
            route("below", "*.example.com", "/"),
            route("app", "app.example.com", "/"),
            route("api", "app.example.com", "/api"),
            route("part", "part.example.com", "/only"),
        ]);
        for (host, path, service) in [
            ("other.org", "/", Some("any")),
            ("x.example.com", "/", Some("below")),
            ("example.com", "/", Some("any")),
            ("app.example.com", "/apix", Some("app")),
            ("app.example.com", "/api", Some("api")),
            ("app.example.com", "/api/x", Some("api")),
            ("part.example.com", "/only/x", Some("part")),
            ("part.example.com", "/else", None),
        ] {
            assert_eq!(routes.find(host, path).map(|r| &*r.service), service, "{host}{path}");
        }
    }
}
