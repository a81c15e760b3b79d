use std::path::Path;

use super::{ISSUER, LEAST, fault_after, faults, good, message, with};
use crate::access::route::HostPattern;
use crate::config::settings::{Algorithm, CorsOrigins, Durability, KeySource, Upstream, WitnessMode};

#[test]
fn the_least_there_can_be_means_this() {
    let settings = good(&format!("{LEAST}{ISSUER}"));
    assert_eq!(settings.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(settings.log.durability, Durability::Fsync);
    assert_eq!((settings.log.write_buffer, settings.log.block_cache), (64 << 20, 32 << 20));
    assert_eq!(settings.log.key_file, Path::new("etc/log.pem"));
    let issuer = &settings.issuers[0];
    assert_eq!(issuer.algorithms, [Algorithm::Es256]);
    assert_eq!(issuer.keys, KeySource::File("etc/keys.json".into()));
    assert_eq!(
        (issuer.subject_claim.join("."), issuer.roles_claim.join(".")),
        ("sub".to_owned(), "roles".to_owned())
    );
    assert!(issuer.primary && issuer.roles.is_empty());
    let service = &settings.services[0];
    assert_eq!(service.route.prefix, "/");
    assert_eq!(service.max_body, Some(10 << 20));
    assert_eq!(service.cors, None);
    assert!(!service.forward_authorization);
}

#[test]
fn values_mean_what_they_say() {
    let text =
        with("hosts", "hosts = [\"APP.example.com\", \"*.Example.com\", \"[0::1]\", \"app.test.\"]").replace(
            "[\"http://127.0.0.1:9000\"]",
            "[\"http://127.0.0.1:80\", \"https://App.internal\", \"http://[::1]:81\"]",
        ) + r#"
path_prefix = "/api"
strip_prefix = true
max_body = "unlimited"
allow = ["semicolon"]
cors = { mode = "answer", origins = ["https://App.example.com:443"], max_age = "1m" }
[server]
listen = ["0.0.0.0:8443", "[::1]:0"]
trusted_proxies = ["10.0.0.0/8", "192.0.2.1"]
[limits]
header_bytes = 65536
"#;
    let settings = good(&text);
    let service = &settings.services[0];
    let exact = |name: &str| HostPattern::Exact(name.to_owned());
    assert_eq!(
        service.route.hosts,
        [
            exact("app.example.com"),
            HostPattern::Below(".example.com".to_owned()),
            exact("[::1]"),
            exact("app.test")
        ]
    );
    let upstreams: Vec<_> = service.upstreams.iter().map(Upstream::to_string).collect();
    assert_eq!(upstreams, ["http://127.0.0.1", "https://app.internal", "http://[::1]:81"]);
    assert_eq!((service.upstreams[1].host.as_str(), service.upstreams[1].port), ("app.internal", 443));
    assert_eq!(service.upstreams[2].host, "::1");
    assert_eq!(service.route.rewrite.as_deref(), Some("/"));
    assert_eq!(service.max_body, None);
    let cors = service.cors.as_ref().unwrap();
    assert_eq!(cors.origins, CorsOrigins::Listed(vec!["https://app.example.com".to_owned()]));
    assert_eq!(cors.max_age.as_secs(), 60);
    assert_eq!(settings.server.trusted_proxies[1].to_string(), "192.0.2.1/32");
    assert_eq!(settings.limits.header_bytes, 65536);
}

#[test]
fn plain_http_keys_come_from_loopback_or_by_leave() {
    for url in
        ["http://127.0.0.1:9000/keys?x=1", "http://localhost/keys", "http://[::1]:81/keys", "https://id/keys"]
    {
        good(&format!(
            "{LEAST}{}",
            ISSUER.replace("jwks_file = \"keys.json\"", &format!("jwks_url = {url:?}"))
        ));
    }
    let leave = "jwks_url = \"http://id/keys\"\nallow_http_jwks = true";
    let settings = good(&format!("{LEAST}{}", ISSUER.replace("jwks_file = \"keys.json\"", leave)));
    assert!(
        matches!(&settings.issuers[0].keys, KeySource::Url { url, ca_file: None } if url == "http://id/keys")
    );
    let dotted = "jwks_file = \"a\"\nroles_claim = [\"https://x.com/y\", \"z\"]\nsubject_claim = \"a.b\"";
    let settings = good(&format!("{LEAST}{}", ISSUER.replace("jwks_file = \"keys.json\"", dotted)));
    assert_eq!(settings.issuers[0].roles_claim, ["https://x.com/y", "z"]);
    assert_eq!(settings.issuers[0].subject_claim, ["a", "b"]);
}

#[test]
fn a_mark_outlives_the_log_and_the_alarm_comes_before_the_stop() {
    let log = |line: &str| message(&faults(&LEAST.replacen("[policy]", &format!("{line}\n[policy]"), 1)));
    for inside in ["log/mark", "./log/../log/mark", "log"] {
        assert_eq!(
            log(&format!("mark_file = {inside:?}")),
            "log.mark_file: lies within `log.dir`; write a file outside it, best on another disk, so that a log cut or \
             replaced can be told"
        );
    }
    assert_eq!(
        log("disk = { low = \"32MiB\" }"),
        "log.disk.low: 33554432 bytes is less than the 67108864 of `reserve`; write more, so that the alarm comes \
         before the stop"
    );
}

#[test]
fn witnesses_are_named_once_each_with_a_key_of_a_witness() {
    const NORTH: &str = "name = \"north\"\nurl = \"https://n.example.com/w/\"\nvkey = \"witness.example.com/w1+4bdc7eaa+BP0XJDhaoMdbZPt4zWAvodmR/ev3axPFjtcC6sg16fYY\"\n";
    const SOUTH: &str = "name = \"south\"\nurl = \"http://s.example.com\"\nvkey = \"remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2\"\n";
    let both = format!("\n[[witness]]\n{NORTH}[[witness]]\n{SOUTH}");
    let witnessing = good(&format!("{LEAST}{both}")).log.witnessing;
    assert_eq!((witnessing.quorum, witnessing.mode), (2, WitnessMode::Async));
    assert_eq!(witnessing.witnesses[0].url.to_string(), "https://n.example.com/w");
    let told = |more: &str| fault_after(more);
    assert!(told(&format!("{both}ca_file = \"x.pem\"\n")).contains("not asked over https"));
    assert!(told(&both.replace("\"south\"", "\"north\"")).contains("give each its own"));
    assert!(
        told(&format!("\n[[witness]]\n{NORTH}[[witness]]\n{}", NORTH.replace("north", "n2")))
            .contains("counts once")
    );
    assert!(told(&both.replace("http://s.example.com", "ftp://s.example.com")).contains("http or https URL"));
    assert!(
        told(&both.replace("http://s.example.com", "http://u:p@s.example.com")).contains("http or https URL")
    );
    assert!(told(&both.replace("remora", "remorb")).contains("key ID does not belong"));
    let of = |witnesses: &str, both: &str| {
        with("key_file", &format!("key_file = \"log.pem\"\nwitnesses = {witnesses}")) + both
    };
    assert_eq!(good(&of("{ quorum = 1, mode = \"required\" }", &both)).log.witnessing.quorum, 1);
    assert!(faults(&of("{ quorum = 3 }", &both)).contains("from 1 to 2"));
    assert!(faults(&of("{ quorum = 0 }", &both)).contains("from 1 to 2"));
    assert!(faults(&of("{ mode = \"async\" }", "")).contains("without a witness"));
}
