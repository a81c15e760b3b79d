//! `[[service]]`.

use std::time::Duration;

use http::{HeaderName, Method};

use super::super::error::Fault;
use super::super::file;
use super::super::settings::{Cors, CorsOrigins, Holds, Service, Timeouts, Upstream};
use super::super::word::{Field, Said, Spot};
use super::scalar::{authority, choice, duration, limit, name, network, rate, size};
use super::{Check, section};
use crate::access::certificate::{Certificates, Need, SubjectFrom};
use crate::access::path::{Reading, Tolerance};
use crate::access::rate::ServiceRates;
use crate::access::recording::{Detail, HealthChecks, Recording, Redaction};
use crate::access::route::{HostPattern, Preflights, Route};

impl Check {
    pub(super) fn services(
        &mut self,
        words: &Field<Vec<Said<file::Service>>>,
        root: &Spot,
    ) -> Option<Vec<Service>> {
        let said = self.told(words, root.missing("service", "[[service]] with name, hosts and upstreams"))?;
        if said.word.is_empty() {
            self.fault(&said.spot, Fault::Empty { write: "[[service]] with name, hosts and upstreams" });
        }
        let mut taken = Taken::default();
        let services: Vec<_> =
            said.word.iter().map(|said| self.service(&said.word, &said.spot, &mut taken)).collect();
        services.into_iter().collect()
    }

    fn service(&mut self, words: &file::Service, spot: &Spot, taken: &mut Taken) -> Option<Service> {
        let cors = self.cors(&words.cors, spot);
        let route = self.route(words, spot, taken);
        let write = "upstreams = [\"http://127.0.0.1:9000\"]";
        let upstreams = self.some_texts(&words.upstreams, spot.missing("upstreams", write), upstream);
        let ca_file = self.maybe_named(&words.ca_file, Holds::Authorities);
        if let (Some(upstreams), Some(said)) = (&upstreams, words.ca_file.said())
            && !upstreams.iter().any(|upstream| upstream.tls)
        {
            self.fault(&said.spot, Fault::UpstreamAuthorities);
        }
        let forward_authorization = self.value(&words.forward_authorization, false, |forward| Ok(*forward));
        let timeouts = self.timeouts(&words.timeouts, spot);
        let max_body = self.value(&words.max_body, Some(10 << 20), limit("0B", "1024GiB"));
        let min_rate = self.value(&words.min_rate, 256, size("0B", "1GiB"));
        let rates = self.rates(&words.rate, spot);
        let recording = self.recording(words, spot);
        let certificates = self.certificates(&words.client_cert, &words.subject_from);
        let assertion = self.value(&words.assertion, false, |assertion| Ok(*assertion));
        let (preflights, cors) = cors?;
        Some(Service {
            route: Route { preflights, certificates: certificates?, recording: recording?, ..route? },
            upstreams: upstreams?,
            ca_file: ca_file?,
            forward_authorization: forward_authorization?,
            cors,
            timeouts: timeouts?,
            max_body: max_body?,
            min_rate: min_rate?,
            rates: rates?,
            assertion: assertion?,
        })
    }

    /// All of a route but who answers its preflights, and how its calls are recorded.
    fn route(&mut self, words: &file::Service, spot: &Spot, taken: &mut Taken) -> Option<Route> {
        let service =
            self.required(&words.name, spot.missing("name", "name = \"app\""), |text| match name(text)? {
                name if name == "admin" => Err(Fault::NameReserved),
                name => taken.name(name, &spot.key),
            });
        let write = "hosts = [\"app.example.com\"], or [\"*\"] for all";
        let hosts = self.some_texts(&words.hosts, spot.missing("hosts", write), host);
        let prefix = self.value(&words.path_prefix, "/".to_owned(), prefix);
        let rewrite = self.rewrite(words, prefix.as_deref());
        let letter_case = self.value(&words.fold_case, Tolerance::LETTER_CASE, |text| {
            choice(text, &[("distinct", Tolerance::LETTER_CASE), ("refuse", Tolerance::NONE)])
        });
        if let (Some(letter_case), Some(found), Some(said)) = (letter_case, &prefix, words.path_prefix.said())
            && let Err(why) = Reading::of(found).and_then(|reading| reading.under(letter_case))
        {
            self.fault(&said.spot, Fault::Prefix { found: found.clone(), why });
        }
        let tolerance = self
            .list(&words.allow, tolerance)
            .and_then(|all| Some(all.into_iter().fold(letter_case?, Tolerance::with)));
        if let (Some(hosts), Some(prefix)) = (&hosts, &prefix) {
            let label = words.name.said().map_or(spot.key.as_str(), |name| name.word.as_str());
            let items = words.hosts.said().map(|said| said.word.as_slice()).unwrap_or_default();
            for (pattern, said) in hosts.iter().zip(items) {
                if let Err(fault) = taken.route(pattern, &said.word, prefix, label) {
                    self.fault(&said.spot, fault);
                }
            }
        }
        Some(Route {
            service: service?.into(),
            hosts: hosts?,
            prefix: prefix?,
            rewrite: rewrite?,
            tolerance: tolerance?,
            preflights: Preflights::Off,
            certificates: Certificates::default(),
            recording: Recording::default(),
        })
    }

    fn rewrite(&mut self, words: &file::Service, of: Option<&str>) -> Option<Option<String>> {
        let strip = self.value(&words.strip_prefix, false, |strip| Ok(*strip));
        let rewrite = self.optional(&words.rewrite_prefix, prefix);
        let (strip, rewrite) = (strip?, rewrite?);
        match (strip, &rewrite, words.strip_prefix.said(), words.rewrite_prefix.said()) {
            (true, Some(_), _, Some(said)) => self.fault(&said.spot, Fault::RewriteTwice),
            (true, None, Some(said), _) if of == Some("/") => self.fault(&said.spot, Fault::StripNothing),
            _ => {}
        }
        let to = if strip { Some("/".to_owned()) } else { rewrite };
        // A rewrite of a prefix into itself says nothing.
        Some(to.filter(|to| Some(to.as_str()) != of))
    }

    pub(super) fn certificates(
        &mut self,
        client_cert: &Field<String>,
        subject_from: &Field<String>,
    ) -> Option<Certificates> {
        let said = subject_from.said();
        let need = self.value(client_cert, Need::Off, |text| {
            choice(text, &[("off", Need::Off), ("optional", Need::Optional), ("required", Need::Required)])
        });
        let subject_from = self.value(subject_from, SubjectFrom::Token, |text| {
            choice(text, &[("token", SubjectFrom::Token), ("certificate", SubjectFrom::Certificate)])
        });
        if let (Some(Need::Off), Some(said)) = (need, said)
            && subject_from != Some(SubjectFrom::Token)
        {
            self.fault(&said.spot, Fault::SubjectFromUnused);
        }
        Some(Certificates { need: need?, subject_from: subject_from? })
    }

    fn recording(&mut self, words: &file::Service, spot: &Spot) -> Option<Recording> {
        let (records, _) = section(&words.records, spot, "records")?;
        let detail = self.value(&records.detail, Detail::Standard, |text| {
            use Detail as D;
            choice(text, &[("minimal", D::Minimal), ("standard", D::Standard), ("full", D::Full)])
        });
        let outcomes = self.value(&records.outcomes, true, |outcomes| Ok(*outcomes));
        let collapse = self.value(&records.collapse, true, |collapse| Ok(*collapse));
        let health_checks = match &words.health_checks {
            Field::Absent => Some(None),
            _ => self.health_checks(&words.health_checks, spot).map(Some),
        };
        let redact = self.list(&words.redact, |text| {
            Redaction::read(text).ok_or_else(|| Fault::Redaction { found: text.to_owned() })
        });
        Some(Recording {
            detail: detail?,
            outcomes: outcomes?,
            collapse: collapse?,
            health_checks: health_checks?,
            redact: redact?,
            log_reads: false,
        })
    }

    fn health_checks(&mut self, words: &Field<file::HealthChecks>, spot: &Spot) -> Option<HealthChecks> {
        let (words, spot) = section(words, spot, "health_checks")?;
        let networks = self.some_texts(
            &words.networks,
            spot.missing("networks", "networks = [\"10.0.0.0/8\"]"),
            network,
        );
        let paths = self.some_texts(&words.paths, spot.missing("paths", "paths = [\"/healthz\"]"), path);
        let user_agents = self.list(&words.user_agents, |text| match text.find('*') {
            _ if text.is_empty() => Err(Fault::Empty { write: "a name like \"kube-probe/*\"" }),
            Some(at) if at + 1 != text.len() => Err(Fault::UserAgent { found: text.to_owned() }),
            _ => Ok(text.to_owned()),
        });
        Some(HealthChecks { networks: networks?, paths: paths?, user_agents: user_agents? })
    }

    fn rates(&mut self, words: &Field<file::Rate>, spot: &Spot) -> Option<ServiceRates> {
        let (words, _) = section(words, spot, "rate")?;
        let per_principal = self.optional(&words.per_principal, rate);
        let per_address = self.optional(&words.per_address, rate);
        let total = self.optional(&words.total, rate);
        Some(ServiceRates { per_principal: per_principal?, per_address: per_address?, total: total? })
    }

    fn timeouts(&mut self, words: &Field<file::Timeouts>, spot: &Spot) -> Option<Timeouts> {
        let (words, _) = section(words, spot, "timeouts")?;
        let connect = self.value(&words.connect, Duration::from_secs(5), duration("10ms", "5m"));
        let head = self.value(&words.head, Duration::from_secs(30), duration("10ms", "1h"));
        let idle = self.value(&words.idle, Duration::from_secs(60), duration("10ms", "24h"));
        Some(Timeouts { connect: connect?, head: head?, idle: idle? })
    }

    fn cors(&mut self, words: &Field<file::Cors>, spot: &Spot) -> Option<(Preflights, Option<Cors>)> {
        if words.is_absent() {
            return Some((Preflights::Off, None));
        }
        let (words, spot) = section(words, spot, "cors")?;
        let mode = self.required(
            &words.mode,
            spot.missing("mode", "mode = \"off\", \"forward\" or \"answer\""),
            |text| {
                use Preflights as P;
                choice(text, &[("off", P::Off), ("forward", P::Forward), ("answer", P::Answer)])
            },
        )?;
        if mode == Preflights::Answer {
            return self.cors_answer(&words, &spot).map(|cors| (mode, Some(cors)));
        }
        let lists =
            [&words.origins, &words.methods, &words.headers].map(|field| field.said().map(|said| &said.spot));
        let others =
            [words.max_age.said().map(|said| &said.spot), words.credentials.said().map(|said| &said.spot)];
        for spot in lists.into_iter().chain(others).flatten() {
            self.fault(spot, Fault::CorsUnused);
        }
        Some((mode, None))
    }

    fn cors_answer(&mut self, words: &file::Cors, spot: &Spot) -> Option<Cors> {
        let origins = match words.origins.said().map(|said| said.word.as_slice()) {
            Some([only]) if only.word == "*" => Some(CorsOrigins::Any),
            _ => self
                .some_texts(
                    &words.origins,
                    spot.missing("origins", "origins = [\"https://app.example.com\"]"),
                    web_origin,
                )
                .map(CorsOrigins::Listed),
        };
        let methods = match &words.methods {
            Field::Absent => Some(vec![Method::GET, Method::HEAD, Method::POST]),
            _ => self.some_texts(&words.methods, spot.missing("methods", "methods = [\"GET\"]"), method),
        };
        let headers = self.list(&words.headers, |text| {
            HeaderName::try_from(text).map_err(|_| Fault::Header { found: text.to_owned() })
        });
        let max_age = self.value(&words.max_age, Duration::from_secs(600), |text| {
            let age = duration("0s", "24h")(text)?;
            if age.subsec_nanos() == 0 {
                Ok(age)
            } else {
                Err(Fault::WholeSeconds { found: text.to_owned() })
            }
        });
        let credentials = self.value(&words.credentials, false, |credentials| Ok(*credentials));
        if let (Some(CorsOrigins::Any), Some(said)) =
            (&origins, words.credentials.said().filter(|said| said.word))
        {
            self.fault(&said.spot, Fault::CorsCredentials);
        }
        Some(Cors {
            origins: origins?,
            methods: methods?,
            headers: headers?,
            max_age: max_age?,
            credentials: credentials?,
        })
    }
}

/// What services before this one have taken.
#[derive(Default)]
struct Taken {
    names: Vec<(String, String)>,
    routes: Vec<(HostPattern, String, String)>,
}

impl Taken {
    fn name(&mut self, found: String, key: &str) -> Result<String, Fault> {
        if let Some((_, first)) = self.names.iter().find(|(name, _)| *name == found) {
            return Err(Fault::NameTaken { found, other: first.clone() });
        }
        self.names.push((found.clone(), key.to_owned()));
        Ok(found)
    }

    fn route(&mut self, pattern: &HostPattern, host: &str, prefix: &str, service: &str) -> Result<(), Fault> {
        if let Some((.., first)) = self.routes.iter().find(|(h, p, _)| h == pattern && p == prefix) {
            let (host, prefix) = (host.to_owned(), prefix.to_owned());
            return Err(Fault::RouteTaken { host, prefix, other: first.clone() });
        }
        self.routes.push((pattern.clone(), prefix.to_owned(), service.to_owned()));
        Ok(())
    }
}

/// `*`, `*.example.com`, a name or an address; never a port.
fn host(text: &str) -> Result<HostPattern, Fault> {
    let fault = || Fault::Host { found: text.to_owned() };
    let (star, rest) = match text {
        "*" => return Ok(HostPattern::Any),
        text => text.strip_prefix("*.").map_or(("", text), |rest| ("*.", rest)),
    };
    let (read, _) = authority(rest, false).ok_or_else(fault)?;
    let name = read.name();
    let port = if rest.starts_with('[') { !rest.ends_with(']') } else { rest.contains(':') };
    if port {
        return Err(Fault::HostPort { found: text.to_owned(), host: format!("{star}{name}") });
    }
    let address = name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
    if !star.is_empty() && address {
        return Err(fault());
    }
    Ok(HostPattern::read(&format!("{star}{name}")))
}

/// A path in canonical form.
fn path(text: &str) -> Result<String, Fault> {
    let reading = Reading::of(text).and_then(|reading| reading.under(Tolerance::default()));
    let path = reading.map_err(|why| Fault::Path { found: text.to_owned(), why })?;
    if path.as_str() == text {
        return Ok(text.to_owned());
    }
    Err(Fault::PrefixForm { found: text.to_owned(), canonical: path.as_str().to_owned() })
}

/// A prefix in canonical form, as paths are: no slash at the end but `/` itself.
fn prefix(text: &str) -> Result<String, Fault> {
    let reading = Reading::of(text).and_then(|reading| reading.under(Tolerance::default()));
    let path = reading.map_err(|why| Fault::Prefix { found: text.to_owned(), why })?;
    let canonical = match path.as_str().trim_end_matches('/') {
        "" => "/",
        bare => bare,
    };
    if canonical == text {
        Ok(text.to_owned())
    } else {
        Err(Fault::PrefixForm { found: text.to_owned(), canonical: canonical.to_owned() })
    }
}

fn tolerance(text: &str) -> Result<Tolerance, Fault> {
    choice(
        text,
        &[
            ("encoded_slash", Tolerance::ENCODED_SLASH),
            ("encoded_percent", Tolerance::ENCODED_PERCENT),
            ("semicolon", Tolerance::SEMICOLON),
            ("look_alike", Tolerance::LOOK_ALIKE),
        ],
    )
}

/// `http://host:port` or `https://host:port`. Messages do not repeat it, since it may hold what is secret.
fn upstream(text: &str) -> Result<Upstream, Fault> {
    let (tls, rest) = scheme(text).ok_or(Fault::Upstream)?;
    if rest.contains('@') {
        return Err(Fault::UpstreamUser);
    }
    if rest.contains(['/', '?', '#']) {
        return Err(Fault::UpstreamPath);
    }
    let (host, port) = authority(rest, tls).ok_or(Fault::Upstream)?;
    let name = host.name();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    Ok(Upstream { tls, host: bare.to_owned(), port })
}

/// An origin as browsers send it (RFC 6454 §6.2): scheme, host, and port if it is not the default.
fn web_origin(text: &str) -> Result<String, Fault> {
    let fault = || Fault::CorsOrigin { found: text.to_owned() };
    let (tls, rest) = scheme(text).ok_or_else(fault)?;
    let (host, _) = authority(rest, tls).ok_or_else(fault)?;
    Ok(format!("{}://{}", if tls { "https" } else { "http" }, host.as_str()))
}

fn scheme(text: &str) -> Option<(bool, &str)> {
    let https = text.strip_prefix("https://").map(|rest| (true, rest));
    https.or_else(|| text.strip_prefix("http://").map(|rest| (false, rest)))
}

/// A method that the gate forwards.
fn method(text: &str) -> Result<Method, Fault> {
    let all = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    choice(text, &all.each_ref().map(|method| (method.as_str(), method.clone())))
}
