//! The settings in canonical form, which the config epoch is the hash of.
//!
//! One line per setting, `key = value`, in a fixed order, each table under its name. Texts are JSON strings, durations whole milliseconds, sizes
//! bytes; what has no order of its own (hosts, roles, networks, services) is sorted; paths are as from the config
//! file's directory, so that a configuration moved with its files keeps its epoch. Each struct is taken apart by all
//! of its fields, so a setting that is left out here does not compile.

use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::settings::{
    Admin, Assertion, ClientCerts, Cors, CorsOrigins, Disk, Durability, Format, Health, Identity, Issuer,
    KeySource, Limits, Log, Logging, OnMismatch, Policy, Server, Service, Settings, Timeouts, Tls, Verify,
    Witness, Witnessing,
};
use crate::access::certificate::{Certificates, Need, SubjectFrom};
use crate::access::path::Tolerance;
use crate::access::rate::{Rate, ServiceRates};
use crate::access::recording::{Detail, HealthChecks, Recording};
use crate::access::route::{HostPattern, Preflights, Route};

/// The canonical form.
pub(super) fn canonical(settings: &Settings) -> String {
    // The files' list and the directory only say where what stands here comes from.
    let Settings {
        server,
        admin,
        health,
        log,
        policy,
        identity,
        issuers,
        services,
        assertion,
        limits,
        verify,
        logging,
        files: _,
        dir,
    } = settings;
    let mut out = Lines { text: String::from("portcullis config v5\n"), dir };
    server_lines(server, &mut out);
    admin_lines(admin, health, &mut out);
    log_lines(log, &mut out);
    policy_lines(policy, identity, &mut out);
    let mut issuers: Vec<&Issuer> = issuers.iter().collect();
    issuers.sort_by(|a, b| a.name.cmp(&b.name));
    issuers.into_iter().for_each(|issuer| issuer_lines(issuer, &mut out));
    let mut services: Vec<&Service> = services.iter().collect();
    services.sort_by(|a, b| a.route.service.cmp(&b.route.service));
    services.into_iter().for_each(|service| service_lines(service, &mut out));
    if let Some(assertion) = assertion {
        assertion_lines(assertion, &mut out);
    }
    limit_lines(limits, &mut out);
    verify_lines(verify, logging, &mut out);
    out.text
}

fn server_lines(server: &Server, out: &mut Lines<'_>) {
    let Server { listen, workers, tls, client_certs, trusted_proxies, drain_timeout } = server;
    out.table("server");
    out.set("listen", listen);
    out.line("workers", workers);
    out.tls(tls.as_ref());
    if let Some(certs) = client_certs {
        client_cert_lines(certs, out);
    }
    out.set("trusted_proxies", trusted_proxies);
    out.duration("drain_timeout", *drain_timeout);
}

fn client_cert_lines(certs: &ClientCerts, out: &mut Lines<'_>) {
    let ClientCerts { name, ca_file, crl_files, subject, trust_domain, primary } = certs;
    out.text("client_certs.name", name);
    out.path("client_certs.ca_file", ca_file);
    crl_files.iter().for_each(|file| out.path("client_certs.crl_file", file));
    // The order of the subjects is the order they are looked for in.
    subject.iter().for_each(|subject| out.line("client_certs.subject", subject.as_str()));
    if let Some(domain) = trust_domain {
        out.text("client_certs.trust_domain", domain);
    }
    out.line("client_certs.primary", primary);
}

fn admin_lines(admin: &Admin, Health { listen: health }: &Health, out: &mut Lines<'_>) {
    let Admin { listen, tls, certificates } = admin;
    out.table("admin");
    out.line("listen", listen);
    out.tls(tls.as_ref());
    certificate_lines(certificates, out);
    out.table("health");
    out.line("listen", health);
}

fn log_lines(log: &Log, out: &mut Lines<'_>) {
    let Log {
        dir,
        state_dir,
        origin,
        key_file,
        retiring_key_file,
        key_overlap,
        durability,
        timeout,
        queue,
        write_buffer,
        block_cache,
        mark_file,
        disk: Disk { low, reserve },
        witnessing,
    } = log;
    out.table("log");
    out.path("dir", dir);
    out.path("state_dir", state_dir);
    out.text("origin", origin);
    out.path("key_file", key_file);
    out.maybe_path("retiring_key_file", retiring_key_file.as_deref());
    out.duration("key_overlap", *key_overlap);
    out.line(
        "durability",
        match durability {
            Durability::Fsync => "fsync",
            Durability::Os => "os",
        },
    );
    out.duration("timeout", *timeout);
    out.line("queue", queue);
    out.line("write_buffer", write_buffer);
    out.line("block_cache", block_cache);
    out.maybe_path("mark_file", mark_file.as_deref());
    out.line("disk.low", low);
    out.line("disk.reserve", reserve);
    witness_lines(witnessing, out);
}

/// Nothing where there are none.
fn witness_lines(witnessing: &Witnessing, out: &mut Lines<'_>) {
    let Witnessing { mode, quorum, max_age, witnesses } = witnessing;
    if witnesses.is_empty() {
        return;
    }
    out.line("witnesses.mode", mode.as_str());
    out.line("witnesses.quorum", quorum);
    out.duration("witnesses.max_age", *max_age);
    let mut witnesses: Vec<&Witness> = witnesses.iter().collect();
    witnesses.sort_by(|a, b| a.name.cmp(&b.name));
    for Witness { name, url, key, ca_file } in witnesses {
        out.table("witness");
        out.text("name", name);
        out.text("url", &url.to_string());
        out.text("vkey", &key.to_string());
        out.maybe_path("ca_file", ca_file.as_deref());
    }
}

fn policy_lines(policy: &Policy, identity: &Identity, out: &mut Lines<'_>) {
    let Policy { model, files, watch, timeout } = policy;
    out.table("policy");
    out.path("model", model);
    // The order of the files is the order of their rows.
    files.iter().for_each(|file| out.path("file", file));
    out.line("watch", watch);
    out.duration("timeout", *timeout);
    let Identity { leeway, remember, subject_header, roles_header } = identity;
    out.table("identity");
    out.duration("leeway", *leeway);
    out.line("remember", remember);
    out.line("subject_header", subject_header);
    out.line("roles_header", roles_header);
}

fn issuer_lines(issuer: &Issuer, out: &mut Lines<'_>) {
    let Issuer {
        name,
        issuer,
        audience,
        algorithms,
        keys,
        refresh,
        max_stale,
        subject_claim,
        roles_claim,
        roles,
        primary,
    } = issuer;
    out.table("issuer");
    out.text("name", name);
    out.text("issuer", issuer);
    out.set("audience", audience.iter().map(|text| json(text)));
    out.set("algorithms", algorithms.iter().map(|algorithm| algorithm.as_str()));
    match keys {
        KeySource::File(path) => out.path("jwks_file", path),
        KeySource::Url { url, ca_file } => {
            out.text("jwks_url", &url.to_string());
            out.maybe_path("ca_file", ca_file.as_deref());
        }
    }
    out.duration("refresh", *refresh);
    out.duration("max_stale", *max_stale);
    subject_claim.iter().for_each(|step| out.text("subject_claim", step));
    roles_claim.iter().for_each(|step| out.text("roles_claim", step));
    out.set("roles", roles.iter().map(|text| json(text)));
    out.line("primary", primary);
}

fn service_lines(service: &Service, out: &mut Lines<'_>) {
    let Service {
        route,
        upstreams,
        ca_file,
        forward_authorization,
        cors,
        timeouts,
        max_body,
        min_rate,
        rates,
        assertion,
    } = service;
    let Route { service: name, hosts, prefix, rewrite, tolerance, preflights, certificates, recording } =
        route;
    out.table("service");
    out.text("name", name);
    out.set(
        "hosts",
        hosts.iter().map(|host| match host {
            HostPattern::Any => "*".to_owned(),
            HostPattern::Below(suffix) => format!("*{suffix}"),
            HostPattern::Exact(name) => name.clone(),
        }),
    );
    out.text("path_prefix", prefix);
    if let Some(to) = rewrite {
        out.text("rewrite_prefix", to);
    }
    for (word, kind) in [
        ("encoded_slash", Tolerance::ENCODED_SLASH),
        ("encoded_percent", Tolerance::ENCODED_PERCENT),
        ("semicolon", Tolerance::SEMICOLON),
        ("look_alike", Tolerance::LOOK_ALIKE),
    ] {
        if tolerance.covers(kind) {
            out.line("allow", word);
        }
    }
    out.line("fold_case", if tolerance.covers(Tolerance::LETTER_CASE) { "distinct" } else { "refuse" });
    // The order of the upstreams is the order they are tried in.
    upstreams.iter().for_each(|upstream| out.line("upstream", upstream));
    out.maybe_path("ca_file", ca_file.as_deref());
    out.line("forward_authorization", forward_authorization);
    out.line(
        "cors.mode",
        match preflights {
            Preflights::Off => "off",
            Preflights::Forward => "forward",
            Preflights::Answer => "answer",
        },
    );
    if let Some(cors) = cors {
        cors_lines(cors, out);
    }
    let Timeouts { connect, head, idle } = timeouts;
    out.duration("timeouts.connect", *connect);
    out.duration("timeouts.head", *head);
    out.duration("timeouts.idle", *idle);
    out.limit("max_body", *max_body);
    out.line("min_rate", min_rate);
    let ServiceRates { per_principal, per_address, total } = rates;
    out.rate("rate.per_principal", *per_principal);
    out.rate("rate.per_address", *per_address);
    out.rate("rate.total", *total);
    certificate_lines(certificates, out);
    recording_lines(recording, out);
    if *assertion {
        out.line("assertion", assertion);
    }
}

fn assertion_lines(Assertion { key_file, also_publish, lifetime }: &Assertion, out: &mut Lines<'_>) {
    out.table("assertion");
    out.path("key_file", key_file);
    // What is published has no order.
    let mut also: Vec<&PathBuf> = also_publish.iter().collect();
    also.sort();
    also.into_iter().for_each(|path| out.path("also_publish", path));
    out.duration("lifetime", *lifetime);
}

fn certificate_lines(Certificates { need, subject_from }: &Certificates, out: &mut Lines<'_>) {
    out.line(
        "client_cert",
        match need {
            Need::Off => "off",
            Need::Optional => "optional",
            Need::Required => "required",
        },
    );
    out.line(
        "subject_from",
        match subject_from {
            SubjectFrom::Token => "token",
            SubjectFrom::Certificate => "certificate",
        },
    );
}

fn recording_lines(recording: &Recording, out: &mut Lines<'_>) {
    // No config says anything of reads of the log.
    let Recording { detail, outcomes, collapse, log_reads: _, health_checks, redact } = recording;
    out.line(
        "records.detail",
        match detail {
            Detail::Minimal => "minimal",
            Detail::Standard => "standard",
            Detail::Full => "full",
        },
    );
    out.line("records.outcomes", outcomes);
    out.line("records.collapse", collapse);
    if let Some(HealthChecks { networks, paths, user_agents }) = health_checks {
        out.set("health_checks.networks", networks);
        out.set("health_checks.paths", paths.iter().map(|text| json(text)));
        out.set("health_checks.user_agents", user_agents.iter().map(|text| json(text)));
    }
    out.set("redact", redact.iter().map(|pattern| json(&pattern.to_string())));
}

fn cors_lines(Cors { origins, methods, headers, max_age, credentials }: &Cors, out: &mut Lines<'_>) {
    match origins {
        CorsOrigins::Any => out.line("cors.origins", "*"),
        CorsOrigins::Listed(all) => out.set("cors.origins", all),
    }
    out.set("cors.methods", methods);
    out.set("cors.headers", headers);
    out.duration("cors.max_age", *max_age);
    out.line("cors.credentials", credentials);
}

fn limit_lines(limits: &Limits, out: &mut Lines<'_>) {
    let Limits {
        connections,
        connections_per_address,
        rate_per_address,
        in_flight,
        header_bytes,
        headers,
        target_bytes,
        header_timeout,
        idle_timeout,
        h2_streams,
        denial_bytes,
    } = limits;
    out.table("limits");
    out.line("connections", connections);
    out.line("connections_per_address", connections_per_address);
    out.rate("rate_per_address", *rate_per_address);
    out.line("in_flight", in_flight);
    out.line("header_bytes", header_bytes);
    out.line("headers", headers);
    out.line("target_bytes", target_bytes);
    out.duration("header_timeout", *header_timeout);
    out.duration("idle_timeout", *idle_timeout);
    out.line("h2_streams", h2_streams);
    out.limit("denial_bytes", *denial_bytes);
}

fn verify_lines(verify: &Verify, Logging { level, format }: &Logging, out: &mut Lines<'_>) {
    let Verify { enabled, pause, rate, on_mismatch } = verify;
    out.table("verify");
    out.line("enabled", enabled);
    out.duration("pause", *pause);
    out.line("rate", rate);
    out.line(
        "on_mismatch",
        match on_mismatch {
            OnMismatch::Alert => "alert",
            OnMismatch::Stop => "stop",
        },
    );
    out.table("logging");
    out.line("level", level.as_str());
    out.line(
        "format",
        match format {
            Format::Text => "text",
            Format::Json => "json",
        },
    );
}

struct Lines<'s> {
    text: String,
    dir: &'s Path,
}

impl Lines<'_> {
    /// Begins a table: an empty one differs from none.
    fn table(&mut self, name: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "[{name}]");
    }

    /// A value that prints on one line and in one way.
    fn line(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.text, "{key} = {value}");
    }

    fn text(&mut self, key: &str, text: &str) {
        self.line(key, json(text));
    }

    fn limit(&mut self, key: &str, bytes: Option<u64>) {
        match bytes {
            Some(bytes) => self.line(key, bytes),
            None => self.line(key, "unlimited"),
        }
    }

    fn rate(&mut self, key: &str, rate: Option<Rate>) {
        if let Some(rate) = rate {
            self.line(key, rate);
        }
    }

    fn duration(&mut self, key: &str, duration: Duration) {
        self.line(key, duration.as_millis());
    }

    fn set(&mut self, key: &str, items: impl IntoIterator<Item = impl Display>) {
        let mut items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
        items.sort();
        items.into_iter().for_each(|item| self.line(key, item));
    }

    fn path(&mut self, key: &str, path: &Path) {
        let from_here = path.strip_prefix(self.dir).unwrap_or(path);
        let plain: PathBuf = from_here.components().collect();
        self.line(key, json(&plain.to_string_lossy()));
    }

    fn maybe_path(&mut self, key: &str, path: Option<&Path>) {
        if let Some(path) = path {
            self.path(key, path);
        }
    }

    fn tls(&mut self, tls: Option<&Tls>) {
        if let Some(Tls { cert, key }) = tls {
            self.path("tls.cert", cert);
            self.path("tls.key", key);
        }
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
