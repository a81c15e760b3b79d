//! The operator's words: every key there is, as it may be written. What they mean is in [`super::settings`].
//!
//! A table's struct is its schema: a key that is no field of it is an error, and hints come from the fields. Nothing
//! is required here and nothing has a default.

use super::error::ConfigError;
use super::hint::unknown;
use super::tree::{Node, Value};
use super::word::{Amount, Field, OneOrMany, Said, Word, join, mistyped, read, table};

table! {
    /// The whole file.
    File {
        server: Server, admin: Admin, health: Health, log: Log, policy: Policy, identity: Identity,
        issuer: Vec<Said<Issuer>>, witness: Vec<Said<Witness>>, service: Vec<Said<Service>>, assertion: Assertion, limits: Limits, verify: Verify, logging: Logging,
    }
}

table! {
    /// `[server]`
    Server {
        listen: Vec<Said<String>>, workers: i128, tls: Tls, client_certs: ClientCerts, trusted_proxies: Vec<Said<String>>, drain_timeout: String,
    }
}

table! {
    /// `tls = { … }` of `[server]` and `[admin]`
    Tls { cert: String, key: String, }
}

table! {
    /// `client_certs = { … }` of `[server]`
    ClientCerts {
        name: String, ca_file: String, crl_files: Vec<Said<String>>, subject: OneOrMany, trust_domain: String,
        primary: bool,
    }
}

table! {
    /// `[admin]`
    Admin { listen: String, tls: Tls, client_cert: String, subject_from: String, }
}

table! {
    /// `[health]`
    Health { listen: String, }
}

table! {
    /// `[log]`
    Log {
        dir: String, state_dir: String, origin: String, key_file: String, retiring_key_file: String, key_overlap: String, durability: String, timeout: String,
        queue: i128, memory: Memory, mark_file: String, disk: Disk, witnesses: Witnesses,
    }
}

table! {
    /// `memory = { … }` of `[log]`
    Memory { write_buffer: Amount, block_cache: Amount, }
}

table! {
    /// `disk = { … }` of `[log]`
    Disk { low: Amount, reserve: Amount, }
}

table! {
    /// `witnesses = { … }` of `[log]`
    Witnesses { mode: String, quorum: i128, max_age: String, }
}

table! {
    /// `[[witness]]`
    Witness { name: String, url: String, vkey: String, ca_file: String, }
}

table! {
    /// `[policy]`
    Policy { model: String, files: Vec<Said<String>>, watch: bool, timeout: String, }
}

table! {
    /// `[identity]`
    Identity { leeway: String, remember: i128, headers: Headers, }
}

table! {
    /// `headers = { … }` of `[identity]`
    Headers { subject: String, roles: String, }
}

table! {
    /// `[[issuer]]`
    Issuer {
        name: String, issuer: String, audience: OneOrMany, algorithms: Vec<Said<String>>, jwks_file: String,
        jwks_url: String, allow_http_jwks: bool, ca_file: String, refresh: String, max_stale: String,
        subject_claim: OneOrMany, roles_claim: OneOrMany, roles: Vec<Said<String>>, primary: bool,
    }
}

table! {
    /// `[[service]]`
    Service {
        name: String, hosts: Vec<Said<String>>, path_prefix: String, upstreams: Vec<Said<String>>, ca_file: String,
        strip_prefix: bool, rewrite_prefix: String, forward_authorization: bool, allow: Vec<Said<String>>, cors: Cors,
        timeouts: Timeouts, max_body: Amount, min_rate: Amount, rate: Rate, client_cert: String, subject_from: String,
        fold_case: String, records: Records, health_checks: HealthChecks, redact: Vec<Said<String>>,
        assertion: bool,
    }
}

table! {
    /// `[assertion]`
    Assertion { key_file: String, also_publish: Vec<Said<String>>, lifetime: String, }
}

table! {
    /// `cors = { … }` of `[[service]]`
    Cors {
        mode: String, origins: Vec<Said<String>>, methods: Vec<Said<String>>, headers: Vec<Said<String>>,
        max_age: String, credentials: bool,
    }
}

table! {
    /// `timeouts = { … }` of `[[service]]`
    Timeouts { connect: String, head: String, idle: String, }
}

table! {
    /// `rate = { … }` of `[[service]]`
    Rate { per_principal: String, per_address: String, total: String, }
}

table! {
    /// `records = { … }` of `[[service]]`
    Records { detail: String, outcomes: bool, collapse: bool, }
}

table! {
    /// `health_checks = { … }` of `[[service]]`
    HealthChecks { networks: Vec<Said<String>>, paths: Vec<Said<String>>, user_agents: Vec<Said<String>>, }
}

table! {
    /// `[limits]`
    Limits {
        connections: i128, connections_per_address: i128, rate_per_address: String, in_flight: i128, header_bytes: Amount, headers: i128, target_bytes: Amount,
        header_timeout: String, idle_timeout: String, h2_streams: i128, denial_bytes: Amount,
    }
}

table! {
    /// `[verify]`
    Verify { enabled: bool, pause: String, rate: i128, on_mismatch: String, }
}

table! {
    /// `[logging]`
    Logging { level: String, format: String, }
}
