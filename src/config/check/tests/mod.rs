//! Configurations, good and bad, and what is said of them.

mod certificates;
mod epoch;
mod issuers;
mod listeners;
mod meaning;
mod services;
mod shape;
mod shipped;
mod variables;

use std::path::Path;

use crate::config::env::Environment;
use crate::config::error::ConfigErrors;
use crate::config::settings::Settings;

/// The least there can be, one key a line.
const LEAST: &str = r#"[log]
dir = "log"
state_dir = "state"
origin = "gate.example.com/1"
key_file = "log.pem"
[policy]
model = "model.conf"
files = ["policy.csv"]
[[service]]
name = "app"
hosts = ["app.example.com"]
upstreams = ["http://127.0.0.1:9000"]
"#;

const ISSUER: &str = r#"[[issuer]]
name = "main"
issuer = "https://id.example.com"
audience = "gate"
algorithms = ["ES256"]
jwks_file = "keys.json"
"#;

fn read(text: &str) -> Result<Settings, ConfigErrors> {
    read_with(text, &[])
}

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Settings, ConfigErrors> {
    Settings::read(text, Path::new("etc/p.toml"), &Environment::of(variables.iter().copied()))
}

fn good(text: &str) -> Settings {
    read(text).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

#[track_caller]
fn faults(text: &str) -> String {
    match read(text) {
        Ok(_) => panic!("no fault found in\n{text}"),
        Err(errors) => errors.to_string(),
    }
}

/// `LEAST` with the line of `key` replaced; a key it does not have begins a text of its own at the top.
fn with(key: &str, line: &str) -> String {
    let start = format!("{key} = ");
    assert!(LEAST.contains(&format!("\n{start}")), "{key}");
    LEAST.lines().map(|l| if l.starts_with(&start) { line } else { l }).collect::<Vec<_>>().join("\n")
}

/// The one message for `LEAST` followed by `more`, without its place.
#[track_caller]
fn fault_after(more: &str) -> String {
    message(&faults(&format!("{LEAST}{more}")))
}

#[track_caller]
fn message(told: &str) -> String {
    assert_eq!(told.lines().count(), 1, "{told}");
    told.split_once(": ").map(|(_, message)| message.to_owned()).unwrap()
}
