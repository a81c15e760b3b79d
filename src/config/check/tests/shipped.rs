use std::path::Path;

use super::good;
use crate::access::route::{HostPattern, Preflights};
use crate::config::env::Environment;
use crate::config::file::File;
use crate::config::settings::{Holds, Settings};
use crate::config::word::Word;

const SHIPPED: &str = include_str!("../../../../config/portcullis.toml");

#[test]
fn the_shipped_file_loads_as_it_is() {
    let settings = Settings::load(Path::new("config/portcullis.toml"), &Environment::empty())
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(settings.log.origin, "portcullis.example.com/gate-1");
    assert_eq!(settings.log.dir, Path::new("config/../data/log"));
    assert_eq!(settings.services[0].upstreams[0].to_string(), "http://127.0.0.1:9000");
    assert_eq!(settings.services[0].route.hosts, [HostPattern::Any]);
    assert!(settings.issuers[0].primary);
    let files: Vec<_> =
        settings.files.iter().map(|f| (f.key.as_str(), f.holds, f.path.display().to_string())).collect();
    assert_eq!(
        files,
        [
            ("log.key_file", Holds::SigningKey, "config/../data/keys/log.pem".to_owned()),
            ("policy.model", Holds::Model, "config/../policies/model.conf".to_owned()),
            ("policy.files[0]", Holds::Policy, "config/../policies/policy.csv".to_owned()),
            ("issuer[0].jwks_file", Holds::KeySet, "config/../data/keys/dev.jwks.json".to_owned()),
        ]
    );
}

/// The shipped file with every commented key written out, examples only if asked for.
fn uncommented(examples: bool) -> String {
    let mut in_example = false;
    let mut out = String::new();
    for line in SHIPPED.lines() {
        in_example = !line.is_empty() && (in_example || matches!(line, "# [[issuer]]" | "# [[witness]]"));
        let bare = line.strip_prefix("# ").unwrap_or_default();
        let is_key = matches!(bare, "[[issuer]]" | "[[witness]]")
            || bare.split_once(" = ").is_some_and(|(key, _)| {
                key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'2')
            });
        let is_example = in_example
            || [
                "tls =",
                "client_certs =",
                "ca_file =",
                "rewrite_prefix =",
                "cors = { mode = \"answer\"",
                "mark_file =",
                "witnesses =",
                "retiring_key_file =",
                "key_file =",
                "health_checks =",
                "redact =",
                "rate =",
                "rate_per_address =",
            ]
            .iter()
            .any(|k| bare.starts_with(k));
        let taken = if examples {
            !bare.starts_with("strip_prefix") && !bare.contains("\"off\" }")
        } else {
            !is_example
        };
        out.push_str(if is_key && taken { bare } else { line });
        out.push('\n');
    }
    out
}

#[test]
fn what_the_shipped_file_comments_out_are_the_defaults() {
    let written = uncommented(false);
    assert!(
        written.contains("\ndrain_timeout = \"30s\"") && written.contains("\nh2_streams = 128"),
        "{written}"
    );
    assert_eq!(good(&written).epoch(), good(SHIPPED).epoch());
}

#[test]
fn the_shipped_examples_load_too() {
    let written = uncommented(true)
        .replace("upstreams = [\"http://127.0.0.1:9000\"]", "upstreams = [\"https://127.0.0.1:9000\"]")
        .replace("rewrite_prefix", "path_prefix = \"/app\"\nrewrite_prefix")
        .replacen("path_prefix = \"/\"", "# ", 1);
    let settings = good(&written);
    assert_eq!(settings.issuers.len(), 2);
    assert!(settings.server.client_certs.is_some());
    assert_eq!(settings.log.witnessing.witnesses.len(), 1);
    assert!(settings.server.tls.is_some() && settings.admin.tls.is_some());
    assert_eq!(settings.services[0].route.preflights, Preflights::Answer);
    assert_eq!(settings.services[0].route.rewrite.as_deref(), Some("/v2"));
}

#[test]
fn every_key_there_is_stands_in_the_shipped_file() {
    let mut keys = Vec::new();
    File::keys("", &mut keys);
    for key in keys {
        let word = key.trim_end_matches("[]").rsplit('.').next().unwrap();
        assert!(
            SHIPPED.contains(&format!("{word} = ")) || SHIPPED.contains(&format!("[{word}]")),
            "{key} is not in config/portcullis.toml"
        );
    }
}
