use std::path::Path;

use super::super::env::Environment;
use super::super::error::ConfigErrors;
use super::super::file::{File, Word};
use super::super::settings::{
    Algorithm, CorsOrigins, Durability, Holds, KeySource, Settings, Upstream, needs_restart,
};
use crate::access::route::{HostPattern, Preflights};

const SHIPPED: &str = include_str!("../../../config/portcullis.toml");

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
        in_example = !line.is_empty() && (in_example || line == "# [[issuer]]");
        let bare = line.strip_prefix("# ").unwrap_or_default();
        let is_key = bare == "[[issuer]]"
            || bare.split_once(" = ").is_some_and(|(key, _)| {
                key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'2')
            });
        let is_example = in_example
            || ["tls =", "ca_file =", "rewrite_prefix =", "cors = { mode = \"answer\""]
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
fn a_fault_names_file_line_column_key_and_what_to_write() {
    assert_eq!(
        faults(&with("origin", "origin = \"gate 1\"")),
        "etc/p.toml:4:10: log.origin: \"gate 1\" has ' ' in it; write visible ASCII without '+', like \
         \"portcullis.example.com/gate-1\""
    );
    assert_eq!(
        faults(&with("upstreams", "  upstreams = [\"http://a\",\n  \"http://ä\", \"ftp://x\"]")),
        "etc/p.toml:13:3: service[0].upstreams[1]: is not a URL; write for example \"http://127.0.0.1:9000\" or \
         \"https://app.internal\"\n\
         etc/p.toml:13:15: service[0].upstreams[2]: is not a URL; write for example \"http://127.0.0.1:9000\" or \
         \"https://app.internal\""
    );
}

#[test]
fn all_faults_are_told_in_order_of_place() {
    let text = "[server]\nworkers = -1\nlisten = []\n[admin]\nlisten = 9901\n[lgo]\n[policy]\nmodel = \"\"\n";
    assert_eq!(
        faults(text),
        "etc/p.toml: log.dir: missing; write dir = \"../data/log\"\n\
         etc/p.toml: log.state_dir: missing; write state_dir = \"../data/state\"\n\
         etc/p.toml: log.origin: missing; write origin = \"portcullis.example.com/gate-1\"\n\
         etc/p.toml: log.key_file: missing; write key_file = \"../data/keys/log.pem\"\n\
         etc/p.toml: service: missing; write [[service]] with name, hosts and upstreams\n\
         etc/p.toml:2:11: server.workers: -1 is out of bounds; write a number from 0 to 1024\n\
         etc/p.toml:3:10: server.listen: is empty; write [\"127.0.0.1:8080\"]\n\
         etc/p.toml:5:10: admin.listen: is a number; write text in quotes\n\
         etc/p.toml:6:2: lgo: unknown key; did you mean `log`?\n\
         etc/p.toml:7:1: policy.files: missing; write files = [\"../policies/policy.csv\"]\n\
         etc/p.toml:8:9: policy.model: is empty; write a path"
    );
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_told_as_that() {
    let missing = Settings::load(Path::new("no/such.toml"), &Environment::empty()).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "no/such.toml: cannot be read: No such file or directory (os error 2); name a file that can be"
    );
    let told = faults("[log]\ndir = \"a\ndir = 1\nx y\n");
    assert_eq!(
        told,
        "etc/p.toml:2:9: not TOML: invalid basic string, expected `\"`\n\
         etc/p.toml:3:1: not TOML: duplicate key\n\
         etc/p.toml:4:3: not TOML: key with no value, expected `=`"
    );
}

#[test]
fn an_unknown_key_comes_with_the_nearest_or_all_known() {
    for (more, expected) in [
        ("upstream = []", "service[0].upstream: unknown key; did you mean `upstreams`?"),
        ("[server]\norigin = \"x\"", "server.origin: unknown key; did you mean `log.origin`?"),
        ("[health]\nfrequency = 1", "health.frequency: unknown key; the keys here are `listen`"),
        (
            "[server]\n\"a b\" = 1\nworkers = 0",
            "server.\"a b\": unknown key; the keys here are `listen`, `workers`, `tls`, `trusted_proxies`, `drain_timeout`",
        ),
        (
            "cors = { mod = \"off\", mode = \"off\" }",
            "service[0].cors.mod: unknown key; did you mean `mode`?",
        ),
    ] {
        assert_eq!(fault_after(more), expected);
    }
}

#[test]
fn a_value_of_another_type_is_refused_with_the_one_to_write() {
    for (more, expected) in [
        ("[server]\nlisten = \"127.0.0.1:1\"", "server.listen: is text; write a list, in brackets"),
        ("[server]\nlisten = [1]", "server.listen[0]: is a number; write text in quotes"),
        ("[server]\nworkers = \"4\"", "server.workers: is text; write a whole number, without quotes"),
        (
            "[server]\nworkers = 1.5",
            "server.workers: is a number with a fraction; write a whole number, without quotes",
        ),
        ("[server]\nworkers = 2020-01-01", "server.workers: is a date; write a whole number, without quotes"),
        ("strip_prefix = \"/a\"", "service[0].strip_prefix: is text; write true or false, without quotes"),
        (
            "max_body = true",
            "service[0].max_body: is true or false; write a number of bytes, or a size like \"10MiB\"",
        ),
        ("[issuer]\nname = \"x\"", "issuer: is a table; write a list; `[[…]]` begins a table of one"),
        ("[server]\ntls = \"on\"", "server.tls: is text; write a table of cert, key"),
    ] {
        assert_eq!(fault_after(more), expected);
    }
}

#[test]
fn a_duration_or_a_size_has_a_unit_and_bounds() {
    let duration = |v: &str| fault_after(&format!("[server]\ndrain_timeout = \"{v}\""));
    for v in [
        "",
        "5",
        "s",
        "1.5s",
        "-1s",
        "5 sec",
        "1h30m",
        "99999999999999999999s",
        "18446744073709551615h",
        "٣s",
    ] {
        assert_eq!(
            duration(v),
            format!(
                "server.drain_timeout: {v:?} is not a duration; write a whole number and a unit, like \"250ms\", \
                 \"5s\", \"10m\" or \"24h\""
            )
        );
    }
    for v in ["0s", "2h", "99ms"] {
        assert_eq!(
            duration(v),
            format!(
                "server.drain_timeout: {v:?} is out of bounds; write a duration from \"100ms\" to \"1h\""
            )
        );
    }
    let size = |v: &str| fault_after(&format!("max_body = {v}"));
    for v in ["\"\"", "\"10\"", "\"10MB\"", "\"-1MiB\"", "\"99999999999GiB\""] {
        assert_eq!(
            size(v),
            format!(
                "service[0].max_body: {v} is not a size; write bytes as a number, or a whole number and a unit, like \
                 \"64KiB\" or \"10MiB\""
            )
        );
    }
    assert_eq!(
        size("-1"),
        "service[0].max_body: -1 bytes is out of bounds; write a size from \"0B\" to \"1024GiB\""
    );
    assert_eq!(
        fault_after("[limits]\ntarget_bytes = 16384\nheader_bytes = 8192"),
        "limits.target_bytes: 16384 bytes is more than a whole head of 8192 may have; write a smaller target or a \
         greater head"
    );
}

#[test]
fn listeners_keep_apart() {
    let taken = |found: &str, other: &str| {
        format!("{found} is already taken by {other}; give each listener an address of its own")
    };
    for (more, key, found, other) in [
        ("[admin]\nlisten = \"127.0.0.1:8080\"", "admin.listen", "127.0.0.1:8080", "server.listen"),
        ("[server]\nlisten = [\"0.0.0.0:9901\"]", "server.listen[0]", "0.0.0.0:9901", "admin.listen"),
        ("[server]\nlisten = [\"[::]:9902\"]", "server.listen[0]", "[::]:9902", "health.listen"),
        (
            "[server]\nlisten = [\"1.1.1.1:1\", \"0.0.0.0:1\"]",
            "server.listen[1]",
            "0.0.0.0:1",
            "server.listen[0]",
        ),
    ] {
        assert_eq!(fault_after(more), format!("{key}: {}", taken(found, other)));
    }
    assert_eq!(
        fault_after("[health]\nlisten = \"localhost:1\""),
        "health.listen: \"localhost:1\" is not an address and a port; write for example \"127.0.0.1:8080\" or \
         \"[::1]:8080\""
    );
    good(&format!("{LEAST}[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\""));
    good(&format!("{LEAST}[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.2:1\", \"[::1]:1\"]"));
}

#[test]
fn a_network_is_written_without_host_bits() {
    let network = |v: &str| fault_after(&format!("[server]\ntrusted_proxies = [\"{v}\"]"));
    for v in ["10.0.0.0/33", "proxy", "", "10.0.0.0/", "fd00::/129"] {
        assert_eq!(
            network(v),
            format!(
                "server.trusted_proxies[0]: {v:?} is not a network; write for example \"10.0.0.0/8\", \"192.0.2.1\" \
                 or \"fd00::/8\""
            )
        );
    }
    assert_eq!(
        network("10.0.0.1/8"),
        "server.trusted_proxies[0]: \"10.0.0.1/8\" has bits set beyond its prefix; write \"10.0.0.0/8\""
    );
    assert_eq!(
        network("10.0.0.0/8\", \"10.0.0.0/8"),
        "server.trusted_proxies[1]: \"10.0.0.0/8\" stands here twice; write it once"
    );
}

#[test]
fn an_origin_is_a_valid_key_name() {
    let origin = |v: &str| message(&faults(&with("origin", &format!("origin = '{v}'"))));
    let like = "like \"portcullis.example.com/gate-1\"";
    for (v, expected) in [
        ("", format!("is empty; write a name {like}")),
        ("https://a/b", format!("\"https://a/b\" has a scheme; write it without, {like}")),
        ("a+b", format!("\"a+b\" has '+' in it; write visible ASCII without '+', {like}")),
        (
            "a\u{a0}b",
            format!("\"a\\u{{a0}}b\" has '\\u{{a0}}' in it; write visible ASCII without '+', {like}"),
        ),
        ("a b", format!("\"a b\" has ' ' in it; write visible ASCII without '+', {like}")),
        ("é", format!("\"é\" has 'é' in it; write visible ASCII without '+', {like}")),
        ("/a", format!("\"/a\" does not begin with a host; write a host and perhaps a path, {like}")),
        ("a_b!/x", format!("\"a_b!/x\" does not begin with a host; write a host and perhaps a path, {like}")),
        ("a//b", format!("\"a//b\" has an empty, `.` or `..` part; write it without, {like}")),
        ("a/", format!("\"a/\" has an empty, `.` or `..` part; write it without, {like}")),
        ("a/../b", format!("\"a/../b\" has an empty, `.` or `..` part; write it without, {like}")),
    ] {
        assert_eq!(origin(v), format!("log.origin: {expected}"));
    }
    assert_eq!(origin(&"a/".repeat(128)), "log.origin: is 256 bytes long; write at most 255");
}

#[test]
fn the_log_and_its_marks_lie_apart() {
    let within = "write a directory outside it, so that a log lost or replaced can be told";
    for v in ["log", "log/state", "./log/../log/x", "log/"] {
        assert_eq!(
            message(&faults(&with("state_dir", &format!("state_dir = {v:?}")))),
            format!("log.state_dir: lies within `log.dir`; {within}")
        );
    }
    assert_eq!(
        message(&faults(&with("dir", "dir = \"state/log\""))),
        format!("log.dir: lies within `log.state_dir`; {within}")
    );
    good(&with("state_dir", "state_dir = \"log-state\""));
}

#[test]
fn a_choice_is_one_of_its_words() {
    assert_eq!(
        message(&faults(&with("key_file", "key_file = \"k\"\ndurability = \"fsyn\""))),
        "log.durability: \"fsyn\" is none of `fsync`, `os`; did you mean \"fsync\"?"
    );
    assert_eq!(
        fault_after("[logging]\nformat = \"xml\""),
        "logging.format: \"xml\" is none of `text`, `json`; write one of those"
    );
    assert_eq!(
        fault_after("allow = [\"dot_segment\"]"),
        "service[0].allow[0]: \"dot_segment\" is none of `encoded_slash`, `encoded_percent`, `semicolon`; write one \
         of those"
    );
}

#[test]
fn names_are_plain_and_unique() {
    let name = |v: &str| message(&faults(&with("name", &format!("name = {v:?}"))));
    for v in ["", "App", "a b", "a:b", "-a", "ä", &"a".repeat(65)] {
        assert_eq!(
            name(v),
            format!(
                "service[0].name: {v:?} is not a name; write at most 64 lower-case letters, digits, '-', '_' and '.', \
                 beginning with a letter or a digit"
            )
        );
    }
    assert_eq!(name("admin"), "service[0].name: \"admin\" is the admin API's own name; write another");
    assert_eq!(
        fault_after("[[service]]\nname = \"app\"\nhosts = [\"b\"]\nupstreams = [\"http://b\"]"),
        "service[1].name: \"app\" is the name of service[0] too; give each its own"
    );
}

#[test]
fn a_host_is_a_host_and_leads_to_one_service() {
    let host = |v: &str| message(&faults(&with("hosts", &format!("hosts = {v}"))));
    for v in
        ["", "a b", "http://a", "*a", "*.*.a", "*.1.2.3.4", "::1", "a..b", "1.2.3", "256.1.1.1", "é.example"]
    {
        assert_eq!(
            host(&format!("[{v:?}]")),
            format!(
                "service[0].hosts[0]: {v:?} is not a host; write a name, an address, \"*.example.com\" or \"*\""
            )
        );
    }
    assert_eq!(
        host("[]"),
        "service[0].hosts: is empty; write hosts = [\"app.example.com\"], or [\"*\"] for all"
    );
    assert_eq!(host("[\"A:80\"]"), "service[0].hosts[0]: \"A:80\" has a port; write the host alone, \"a\"");
    assert_eq!(
        host("[\"[::1]:80\"]"),
        "service[0].hosts[0]: \"[::1]:80\" has a port; write the host alone, \"[::1]\""
    );
    assert_eq!(host("[\"a\", \"A.\"]"), "service[0].hosts[1]: \"A.\" stands here twice; write it once");
    let second =
        "[[service]]\nname = \"b\"\nupstreams = [\"http://b\"]\nhosts = [\"x\", \"APP.example.com\"]\n";
    assert_eq!(
        fault_after(second),
        "service[1].hosts[1]: \"APP.example.com\" with prefix \"/\" leads to app too; give each service its own hosts \
         or prefix"
    );
    good(&format!("{LEAST}{second}path_prefix = \"/b\""));
}

#[test]
fn a_prefix_is_a_canonical_path() {
    let prefix = |v: &str| fault_after(&format!("path_prefix = {v:?}"));
    for (v, why) in [
        ("", "the request target is not an absolute path"),
        ("api", "the request target is not an absolute path"),
        ("/a/../b", "the path has a dot segment"),
        ("/a//b", "the path has an empty segment"),
        ("/a%2Fb", "the path has an encoded slash or backslash"),
        ("/a;b", "the path has a semicolon"),
        ("/a?b", "the path has a byte that must be percent-encoded"),
        ("/a%", "the path has an incomplete percent-encoding"),
    ] {
        assert_eq!(
            prefix(v),
            format!("service[0].path_prefix: {v:?} cannot be a prefix: {why}; write one like \"/api\"")
        );
    }
    for (v, canonical) in [("/api/", "/api"), ("/%61pi", "/api"), ("/caf%c3%a9", "/caf%C3%A9")] {
        assert_eq!(
            prefix(v),
            format!("service[0].path_prefix: {v:?} is not in canonical form; write {canonical:?}")
        );
    }
    assert_eq!(
        fault_after("path_prefix = \"/a\"\nstrip_prefix = true\nrewrite_prefix = \"/b\""),
        "service[0].rewrite_prefix: cannot stand beside `strip_prefix = true`; write one of the two"
    );
    assert_eq!(
        fault_after("strip_prefix = true"),
        "service[0].strip_prefix: does nothing for the prefix \"/\"; remove it, or write a `path_prefix`"
    );
}

#[test]
fn an_upstream_is_scheme_host_and_port_and_is_never_repeated_with_a_password() {
    let upstream = |v: &str| message(&faults(&with("upstreams", &format!("upstreams = [{v:?}]"))));
    let no_url = "is not a URL; write for example \"http://127.0.0.1:9000\" or \"https://app.internal\"";
    let parts =
        "has a path, a query or a fragment; write scheme, host and port only, without a slash at the end";
    let user = "has a user or a password; write it without, upstreams are not given credentials";
    for (v, expected) in [
        ("", no_url),
        ("127.0.0.1:9000", no_url),
        ("ftp://a", no_url),
        ("http://", no_url),
        ("http://a:0", no_url),
        ("http://a:99999", no_url),
        ("http://300.1.1.1", no_url),
        ("http://a/", parts),
        ("http://a/v1", parts),
        ("http://a?x=1", parts),
        ("http://a#x", parts),
        ("http://me:secret@a", user),
    ] {
        assert_eq!(upstream(v), format!("service[0].upstreams[0]: {expected}"), "{v}");
    }
    assert_eq!(
        message(&faults(&with("upstreams", "upstreams = [\"http://a\", \"http://A:80\"]"))),
        "service[0].upstreams[1]: \"http://A:80\" stands here twice; write it once"
    );
    assert_eq!(
        fault_after("ca_file = \"ca.pem\""),
        "service[0].ca_file: has no use here, no upstream is https; remove it, or write https upstreams"
    );
}

#[test]
fn cors_is_answered_for_listed_origins_only() {
    let cors = |v: &str| fault_after(&format!("cors = {{ {v} }}"));
    assert_eq!(
        cors("mode = \"forward\", max_age = \"1m\""),
        "service[0].cors.max_age: has no effect unless `mode = \"answer\"`; remove it, or write that mode"
    );
    assert_eq!(
        cors("origins = []"),
        "service[0].cors.mode: missing; write mode = \"off\", \"forward\" or \"answer\""
    );
    assert_eq!(
        cors("mode = \"answer\""),
        "service[0].cors.origins: missing; write origins = [\"https://app.example.com\"]"
    );
    for v in ["null", "app.example.com", "https://a/", "https://u@a", "*"] {
        assert_eq!(
            cors(&format!("mode = \"answer\", origins = [\"https://a\", {v:?}]")),
            format!(
                "service[0].cors.origins[1]: {v:?} is not a web origin; write for example \
                 \"https://app.example.com\", or \"*\" alone for all"
            )
        );
    }
    let all = "mode = \"answer\", origins = [\"*\"]";
    assert_eq!(
        cors(&format!("{all}, credentials = true")),
        "service[0].cors.credentials: lets every origin send credentials, which browsers refuse; list the origins, or \
         remove `credentials`"
    );
    assert_eq!(
        cors(&format!("{all}, methods = [\"TRACE\"]")),
        "service[0].cors.methods[0]: \"TRACE\" is none of `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE`, \
         `OPTIONS`; write one of those"
    );
    assert_eq!(
        cors(&format!("{all}, headers = [\"a b\"]")),
        "service[0].cors.headers[0]: \"a b\" is not a header name; write letters, digits and '-', like \
         \"X-Auth-Subject\""
    );
    assert_eq!(
        cors(&format!("{all}, max_age = \"1500ms\"")),
        "service[0].cors.max_age: \"1500ms\" has parts of a second; write whole seconds"
    );
}

#[test]
fn an_issuer_says_how_its_tokens_are_proved() {
    let issuer = |key: &str, line: &str| {
        let start = format!("{key} = ");
        assert!(ISSUER.contains(&start));
        let lines: Vec<_> = ISSUER.lines().map(|l| if l.starts_with(&start) { line } else { l }).collect();
        fault_after(&lines.join("\n"))
    };
    for v in ["HS256", "none", "hs512"] {
        assert_eq!(
            issuer("algorithms", &format!("algorithms = [{v:?}]")),
            format!(
                "issuer[0].algorithms[0]: {v:?} is no proof: whoever can check it can make it; write an asymmetric \
                 algorithm, like \"ES256\""
            )
        );
    }
    assert_eq!(
        issuer("algorithms", "algorithms = [\"ES25\"]"),
        "issuer[0].algorithms[0]: \"ES25\" is none of `ES256`, `ES384`, `EdDSA`, `PS256`, `PS384`, `PS512`, `RS256`, \
         `RS384`, `RS512`; did you mean \"ES256\"?"
    );
    assert_eq!(issuer("algorithms", ""), "issuer[0].algorithms: missing; write algorithms = [\"ES256\"]");
    let aud = "the `aud` of tokens meant for this gate";
    assert_eq!(issuer("audience", "audience = []"), format!("issuer[0].audience: is empty; write {aud}"));
    assert_eq!(issuer("audience", "audience = \" \""), format!("issuer[0].audience: is empty; write {aud}"));
    assert_eq!(issuer("audience", "audience = 1"), "issuer[0].audience: is a number; write text in quotes");
    assert_eq!(
        issuer("jwks_file", ""),
        "issuer[0]: has no keys; write `jwks_file = \"…\"` or `jwks_url = \"https://…\"`"
    );
    assert_eq!(
        issuer("jwks_file", "jwks_file = \"a\"\njwks_url = \"https://a\""),
        "issuer[0].jwks_url: cannot stand beside `jwks_file`; write one of the two"
    );
    assert_eq!(
        issuer("jwks_file", "jwks_file = \"a\"\nca_file = \"b\""),
        "issuer[0].ca_file: has no use here, keys do not come over https; remove it, or write an https `jwks_url`"
    );
    let url = |v: &str| issuer("jwks_file", &format!("jwks_url = {v:?}"));
    let plain = "sends keys over plain http, where anybody between could swap them; write an https URL, or set \
                 `allow_http_jwks = true`";
    let none = "is not an http or https URL; write for example \"https://id.example.com/keys.json\"";
    let parts = "has a user, a password or a fragment; write it without";
    for (v, expected) in [
        ("http://id.example.com/keys", plain),
        ("http://localhost.example.com/keys", plain),
        ("http://127.0.0.1.example.com", plain),
        ("/keys", none),
        ("file:///keys", none),
        ("https://", none),
        ("https://u:secret@id/keys", parts),
        ("https://id/keys#a", parts),
    ] {
        assert_eq!(url(v), format!("issuer[0].jwks_url: {expected}"), "{v}");
    }
    assert_eq!(
        issuer("jwks_file", "jwks_file = \"a\"\nrefresh = \"2h\"\nmax_stale = \"1h\""),
        "issuer[0].max_stale: is shorter than `refresh`; write at least \"7200s\""
    );
    for (v, found) in [("\"a..b\"", "a..b"), ("[]", ""), ("[\"\"]", "")] {
        assert_eq!(
            issuer("jwks_file", &format!("jwks_file = \"a\"\nroles_claim = {v}")),
            format!(
                "issuer[0].roles_claim: {found:?} is not a claim; write for example \"sub\", \"realm_access.roles\" \
                 or [\"https://example.com/roles\"]"
            )
        );
    }
    for v in ["role:x", "", "a,b", "a b"] {
        assert_eq!(
            issuer("jwks_file", &format!("jwks_file = \"a\"\nroles = [{v:?}]")),
            format!(
                "issuer[0].roles[0]: {v:?} is not a role; write it without \"role:\", commas, spaces and control \
                 characters"
            )
        );
    }
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
fn several_issuers_have_one_primary_and_nothing_in_common() {
    let second = ISSUER.replace("main", "other").replace("id.example", "id2.example");
    assert_eq!(
        fault_after(&format!("{ISSUER}{second}")),
        "issuer[0]: is one of several issuers, none of them primary; write `primary = true` in one"
    );
    assert_eq!(
        fault_after(&format!("{ISSUER}primary = true\n{second}primary = true")),
        "issuer[1].primary: issuer[0] is primary already; write `primary = true` in one issuer only"
    );
    assert_eq!(
        fault_after(&format!("{ISSUER}primary = true\n{}", second.replace("other", "main"))),
        "issuer[1].name: \"main\" is the name of issuer[0] too; give each its own"
    );
    assert_eq!(
        fault_after(&format!("{ISSUER}primary = true\n{}", second.replace("id2", "id"))),
        "issuer[1].issuer: \"https://id.example.com\" is the `iss` of issuer[0] too; write one issuer for it"
    );
    let settings = good(&format!("{LEAST}{ISSUER}{second}primary = true"));
    assert_eq!(settings.issuers.iter().map(|i| i.primary).collect::<Vec<_>>(), [false, true]);
    assert!(!good(&format!("{LEAST}{ISSUER}primary = false")).issuers[0].primary);
}

#[test]
fn identity_headers_are_the_gates_own() {
    let header = |v: &str| fault_after(&format!("[identity]\nheaders = {{ subject = {v:?} }}"));
    for v in [
        "Connection",
        "TE",
        "Host",
        "Authorization",
        "X-Forwarded-For",
        "Portcullis-Record",
        "content-length",
    ] {
        assert_eq!(
            header(v),
            format!(
                "identity.headers.subject: {v:?} belongs to HTTP or to the gate; write another, like \
                 \"X-Auth-Subject\""
            )
        );
    }
    for v in ["", "a b", "X_Auth", "a.b", "é"] {
        assert_eq!(
            header(v),
            format!(
                "identity.headers.subject: {v:?} is not a header name; write letters, digits and '-', like \
                 \"X-Auth-Subject\""
            )
        );
    }
    assert_eq!(
        fault_after("[identity]\nheaders = { roles = \"x-auth-SUBJECT\" }"),
        "identity.headers.roles: \"x-auth-SUBJECT\" is `identity.headers.subject` too; write another"
    );
}

#[test]
fn a_variable_wins_over_the_file() {
    let settings = read_with(
        LEAST,
        &[
            ("PORTCULLIS__LOG__ORIGIN", "other.example.com/2"),
            ("portcullis__Server__Workers", "4"),
            ("PORTCULLIS__SERVER__LISTEN", "127.0.0.1:1"),
            ("PORTCULLIS__SERVICE__0__UPSTREAMS", "[\"http://x:1\", \"http://x:2\"]"),
            ("PORTCULLIS__SERVICE__0__UPSTREAMS__1", "http://y:2"),
            ("PORTCULLIS__SERVICE__0__CORS__MODE", "forward"),
            ("PORTCULLIS__SERVICE__1__NAME", "7"),
            ("PORTCULLIS__SERVICE__1__HOSTS__0", "seven"),
            ("PORTCULLIS__SERVICE__1__UPSTREAMS", "http://seven"),
            ("PORTCULLIS__ISSUER__0", "{ name = \"n\", issuer = \"i\", audience = \"a\", algorithms = [\"ES256\"], jwks_file = \"f\" }"),
            ("PORTCULLIS__ISSUER__0__AUDIENCE", "12"),
            ("PORTCULLIS_SERVER", "not ours"),
            ("PATH", "not ours"),
        ],
    )
    .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(settings.log.origin, "other.example.com/2");
    assert_eq!(settings.server.workers, 4);
    assert_eq!(settings.server.listen, ["127.0.0.1:1".parse().unwrap()]);
    let upstreams: Vec<_> = settings.services[0].upstreams.iter().map(Upstream::to_string).collect();
    assert_eq!(upstreams, ["http://x:1", "http://y:2"]);
    assert_eq!(settings.services[0].route.preflights, Preflights::Forward);
    assert_eq!(&*settings.services[1].route.service, "7");
    assert_eq!(settings.issuers[0].audience, ["12"]);
}

#[test]
fn a_fault_in_a_variable_names_the_variable() {
    for (name, value, expected) in [
        (
            "PORTCULLIS__LOG__ORIGN",
            "x",
            "PORTCULLIS__LOG__ORIGN: names no setting; did you mean PORTCULLIS__LOG__ORIGIN?",
        ),
        (
            "PORTCULLIS__LOG_ORIGIN",
            "x",
            "PORTCULLIS__LOG_ORIGIN: names no setting; did you mean PORTCULLIS__LOG__ORIGIN?",
        ),
        (
            "PORTCULLIS__LGO__ORIGIN",
            "x",
            "PORTCULLIS__LGO__ORIGIN: names no setting; did you mean PORTCULLIS__LOG__ORIGIN?",
        ),
        (
            "PORTCULLIS__SERVICE__0__UPSTREAM",
            "x",
            "PORTCULLIS__SERVICE__0__UPSTREAM: names no setting; did you mean PORTCULLIS__SERVICE__0__UPSTREAMS?",
        ),
        (
            "PORTCULLIS__SERVICES__0__NAME",
            "x",
            "PORTCULLIS__SERVICES__0__NAME: names no setting; did you mean PORTCULLIS__SERVICE__0__NAME?",
        ),
        (
            "PORTCULLIS__QUITE_ANOTHER_THING",
            "x",
            "PORTCULLIS__QUITE_ANOTHER_THING: names no setting; write for example PORTCULLIS__LOG__ORIGIN for `log.origin`",
        ),
        (
            "PORTCULLIS__",
            "x",
            "PORTCULLIS__: names no setting; write for example PORTCULLIS__LOG__ORIGIN for `log.origin`",
        ),
        (
            "PORTCULLIS__LOG____DIR",
            "x",
            "PORTCULLIS__LOG____DIR: names no setting; write for example PORTCULLIS__LOG__ORIGIN for `log.origin`",
        ),
        (
            "PORTCULLIS__LOG__ORIGIN__X",
            "x",
            "PORTCULLIS__LOG__ORIGIN__X: names a part of PORTCULLIS__LOG__ORIGIN, which has no parts; set PORTCULLIS__LOG__ORIGIN itself",
        ),
        (
            "PORTCULLIS__SERVICE__2__NAME",
            "x",
            "PORTCULLIS__SERVICE__2__NAME: has no element before this one; write PORTCULLIS__SERVICE__1 for the next new element",
        ),
        (
            "PORTCULLIS__SERVICE__NAME",
            "x",
            "PORTCULLIS__SERVICE__NAME: has no number; write PORTCULLIS__SERVICE__0 for the first element",
        ),
        (
            "PORTCULLIS__SERVER__WORKERS",
            "many",
            "PORTCULLIS__SERVER__WORKERS: server.workers: is text; write a whole number, without quotes",
        ),
        (
            "PORTCULLIS__LOG__ORIGIN",
            "",
            "PORTCULLIS__LOG__ORIGIN: log.origin: is empty; write a name like \"portcullis.example.com/gate-1\"",
        ),
        (
            "PORTCULLIS__SERVER__TLS",
            "{ cret = \"a\", cert = \"b\", key = \"c\" }",
            "PORTCULLIS__SERVER__TLS: server.tls.cret: unknown key; did you mean `cert`?",
        ),
        (
            "PORTCULLIS__SERVER__TLS__CERT",
            "a",
            "PORTCULLIS__SERVER__TLS__CERT: server.tls.key: missing; write key = \"server-key.pem\"",
        ),
    ] {
        assert_eq!(read_with(LEAST, &[(name, value)]).unwrap_err().to_string(), expected);
    }
    assert_eq!(
        read_with(LEAST, &[("PORTCULLIS__LOG__DIR", "a"), ("portcullis__log__dir", "b")])
            .unwrap_err()
            .to_string(),
        "portcullis__log__dir: names the same setting as PORTCULLIS__LOG__DIR; set one of them only"
    );
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt as _;
        let value = std::ffi::OsString::from_vec(vec![0xff]);
        let environment = Environment::of([("PORTCULLIS__LOG__DIR", value)]);
        assert_eq!(
            Settings::read(LEAST, Path::new("etc/p.toml"), &environment).unwrap_err().to_string(),
            "PORTCULLIS__LOG__DIR: is not UTF-8; write it in UTF-8"
        );
    }
}

/// A configuration that says something about every setting.
const FULL: &str = r#"
[server]
listen = ["127.0.0.1:1", "127.0.0.1:2"]
workers = 1
tls = { cert = "a.pem", key = "b.pem" }
trusted_proxies = ["10.0.0.0/8", "11.0.0.0/8"]
drain_timeout = "60s"
[admin]
listen = "127.0.0.1:3"
tls = { cert = "c.pem", key = "d.pem" }
[health]
listen = "127.0.0.1:4"
[log]
dir = "log"
state_dir = "state"
origin = "gate.example.com/1"
key_file = "log.pem"
durability = "fsync"
timeout = "5s"
queue = 5
memory = { write_buffer = "64MiB", block_cache = "32MiB" }
[policy]
model = "model.conf"
files = ["one.csv", "two.csv"]
watch = true
timeout = "50ms"
[identity]
leeway = "30s"
remember = 6
headers = { subject = "X-Sub", roles = "X-Roles" }
[[issuer]]
name = "main"
issuer = "https://id.example.com"
audience = ["gate", "door"]
algorithms = ["ES256", "RS256"]
jwks_url = "https://id.example.com/keys"
ca_file = "ca.pem"
refresh = "10m"
max_stale = "24h"
subject_claim = "sub"
roles_claim = "realm.roles"
roles = ["viewer", "editor"]
primary = true
[[service]]
name = "app"
hosts = ["app.example.com", "*.example.com"]
path_prefix = "/app"
upstreams = ["https://127.0.0.1:9000", "https://127.0.0.1:9001"]
ca_file = "up.pem"
rewrite_prefix = "/v2"
forward_authorization = false
allow = ["semicolon", "encoded_slash"]
cors = { mode = "answer", origins = ["https://a", "https://b"], methods = ["GET", "PUT"], headers = ["x-a", "x-b"], max_age = "10m", credentials = false }
timeouts = { connect = "5s", head = "30s", idle = "60s" }
max_body = "10MiB"
[[service]]
name = "other"
hosts = ["*"]
upstreams = ["http://127.0.0.1:9002"]
[limits]
connections = 10000
in_flight = 4096
header_bytes = "32KiB"
headers = 100
target_bytes = "8KiB"
header_timeout = "10s"
idle_timeout = "75s"
h2_streams = 128
[logging]
level = "info"
format = "text"
"#;

/// A change of one setting: what stands there, and what comes in its place.
const CHANGES: &[(&str, &str)] = &[
    ("127.0.0.1:2", "127.0.0.1:5"),
    ("workers = 1", "workers = 2"),
    ("\"a.pem\"", "\"a2.pem\""),
    ("\"b.pem\"", "\"b2.pem\""),
    ("tls = { cert = \"a.pem\", key = \"b.pem\" }", ""),
    ("11.0.0.0/8", "12.0.0.0/8"),
    ("\"60s\"\n[admin]", "\"61s\"\n[admin]"),
    ("127.0.0.1:3", "127.0.0.1:5"),
    ("\"c.pem\"", "\"c2.pem\""),
    ("\"d.pem\"", "\"d2.pem\""),
    ("127.0.0.1:4", "127.0.0.1:5"),
    ("\"log\"", "\"log2\""),
    ("\"state\"", "\"state2\""),
    ("gate.example.com/1", "gate.example.com/2"),
    ("log.pem", "log2.pem"),
    ("\"fsync\"", "\"os\""),
    ("\"5s\"\nqueue", "\"6s\"\nqueue"),
    ("queue = 5", "queue = 6"),
    ("64MiB", "65MiB"),
    ("\"32MiB\"", "\"33MiB\""),
    ("model.conf", "model2.conf"),
    ("[\"one.csv\", \"two.csv\"]", "[\"two.csv\", \"one.csv\"]"),
    ("watch = true", "watch = false"),
    ("50ms", "51ms"),
    ("leeway = \"30s\"", "leeway = \"31s\""),
    ("remember = 6", "remember = 7"),
    ("X-Sub", "X-Sub2"),
    ("X-Roles", "X-Roles2"),
    ("\"main\"", "\"main2\""),
    ("\"https://id.example.com\"", "\"https://id2.example.com\""),
    ("\"door\"", "\"window\""),
    ("\"RS256\"", "\"RS384\""),
    ("/keys", "/keys2"),
    ("\"ca.pem\"", "\"ca2.pem\""),
    (
        "jwks_url = \"https://id.example.com/keys\"\nca_file = \"ca.pem\"",
        "jwks_file = \"https://id.example.com/keys\"",
    ),
    ("refresh = \"10m\"", "refresh = \"11m\""),
    ("24h", "25h"),
    ("\"sub\"", "\"email\""),
    ("\"realm.roles\"", "\"realm.groups\""),
    ("\"realm.roles\"", "[\"realm.roles\"]"),
    ("\"editor\"", "\"writer\""),
    ("primary = true", "primary = false"),
    ("\"app\"", "\"app2\""),
    ("\"*.example.com\"", "\"*.example.net\""),
    ("\"/app\"", "\"/app2\""),
    ("9001", "9003"),
    (
        "[\"https://127.0.0.1:9000\", \"https://127.0.0.1:9001\"]",
        "[\"https://127.0.0.1:9001\", \"https://127.0.0.1:9000\"]",
    ),
    ("https://127.0.0.1:9000", "http://127.0.0.1:9000"),
    ("\"up.pem\"", "\"up2.pem\""),
    ("ca_file = \"up.pem\"", ""),
    ("\"/v2\"", "\"/v3\""),
    ("rewrite_prefix = \"/v2\"", ""),
    ("rewrite_prefix = \"/v2\"", "strip_prefix = true"),
    ("forward_authorization = false", "forward_authorization = true"),
    ("\"encoded_slash\"", "\"encoded_percent\""),
    ("\"https://b\"", "\"https://c\""),
    ("[\"https://a\", \"https://b\"]", "[\"*\"]"),
    ("\"PUT\"", "\"PATCH\""),
    ("\"x-b\"", "\"x-c\""),
    ("max_age = \"10m\"", "max_age = \"11m\""),
    ("credentials = false", "credentials = true"),
    ("connect = \"5s\"", "connect = \"6s\""),
    ("head = \"30s\"", "head = \"31s\""),
    ("idle = \"60s\"", "idle = \"61s\""),
    ("\"10MiB\"", "\"11MiB\""),
    ("\"10MiB\"", "\"unlimited\""),
    ("name = \"other\"\nhosts = [\"*\"]", "name = \"other\"\ncors = { mode = \"forward\" }\nhosts = [\"*\"]"),
    ("10000", "10001"),
    ("4096", "4097"),
    ("\"32KiB\"", "\"33KiB\""),
    ("headers = 100", "headers = 101"),
    ("\"8KiB\"", "\"9KiB\""),
    ("header_timeout = \"10s\"", "header_timeout = \"11s\""),
    ("75s", "76s"),
    ("h2_streams = 128", "h2_streams = 129"),
    ("\"info\"", "\"warn\""),
    ("\"text\"", "\"json\""),
];

fn changed(from: &str, to: &str) -> Settings {
    assert!(FULL.contains(from), "{from}");
    good(&FULL.replacen(from, to, 1))
}

#[test]
fn every_change_of_meaning_changes_the_epoch() {
    let mut seen = vec![(good(FULL).epoch(), "nothing")];
    for (from, to) in CHANGES {
        let epoch = changed(from, to).epoch();
        if let Some((_, earlier)) = seen.iter().find(|(other, _)| *other == epoch) {
            panic!("{to:?} for {from:?} has the epoch of {earlier:?}");
        }
        seen.push((epoch, to));
    }
}

#[test]
fn a_change_without_meaning_keeps_the_epoch() {
    let epoch = good(FULL).epoch();
    for (from, to) in [
        ("[server]", "# a comment\n\n[server]"),
        ("workers = 1", "workers=0x1 # one"),
        ("\"60s\"\n[admin]", "\"1m\"\n[admin]"),
        ("[\"127.0.0.1:1\", \"127.0.0.1:2\"]", "[\"127.0.0.1:2\", \"127.0.0.1:1\"]"),
        (
            "trusted_proxies = [\"10.0.0.0/8\", \"11.0.0.0/8\"]",
            "trusted_proxies = ['11.0.0.0/8', '10.0.0.0/8']",
        ),
        ("\"a.pem\"", "\"./a.pem\""),
        ("dir = \"log\"\nstate_dir = \"state\"", "state_dir = \"state\"\ndir = \"log\""),
        ("\"32KiB\"", "32768"),
        ("\"10MiB\"", "\"10240KiB\""),
        ("X-Sub", "x-SUB"),
        ("[\"gate\", \"door\"]", "[\"door\", \"gate\"]"),
        ("[\"ES256\", \"RS256\"]", "[\"RS256\", \"ES256\"]"),
        ("\"realm.roles\"", "[\"realm\", \"roles\"]"),
        ("[\"viewer\", \"editor\"]", "[\"editor\", \"viewer\"]"),
        ("[\"app.example.com\", \"*.example.com\"]", "[\"*.Example.com\", \"APP.example.com.\"]"),
        ("[\"semicolon\", \"encoded_slash\"]", "[\"encoded_slash\", \"semicolon\"]"),
        ("[\"https://a\", \"https://b\"]", "[\"https://B:443\", \"https://a\"]"),
        ("forward_authorization = false\n", ""),
        ("path_prefix = \"/app\"", "path_prefix = '/app'"),
        ("[logging]\nlevel = \"info\"\n", "[logging]\n"),
    ] {
        assert_eq!(changed(from, to).epoch(), epoch, "{to:?} for {from:?}");
    }
    let (before, after) = FULL.split_once("[[service]]\nname = \"other\"").unwrap();
    let (other, rest) = after.split_once("[limits]").unwrap();
    let (first, app) = before.split_once("[[service]]").unwrap();
    let swapped = format!("{first}[[service]]\nname = \"other\"{other}[[service]]{app}[limits]{rest}");
    assert_eq!(good(&swapped).epoch(), epoch, "services in another order");
    let moved = Settings::read(FULL, Path::new("/srv/elsewhere/p.toml"), &Environment::empty()).unwrap();
    assert_eq!(moved.epoch(), epoch, "the file in another directory");
    let varied = Environment::of([("PORTCULLIS__LOG__QUEUE", "5")]);
    assert_eq!(
        Settings::read(FULL, Path::new("p.toml"), &varied).unwrap().epoch(),
        epoch,
        "a value from a variable"
    );
}

#[test]
fn the_canonical_form_is_frozen() {
    // Records name epochs for ever, so a change of this form is a change of version.
    insta::assert_snapshot!(super::super::epoch::canonical(&good(&format!("{LEAST}{ISSUER}"))), @r#"
    portcullis config v1
    [server]
    listen = 127.0.0.1:8080
    workers = 0
    drain_timeout = 30000
    [admin]
    listen = 127.0.0.1:9901
    [health]
    listen = 127.0.0.1:9902
    [log]
    dir = "log"
    state_dir = "state"
    origin = "gate.example.com/1"
    key_file = "log.pem"
    durability = fsync
    timeout = 5000
    queue = 4096
    write_buffer = 67108864
    block_cache = 33554432
    [policy]
    model = "model.conf"
    file = "policy.csv"
    watch = true
    timeout = 50
    [identity]
    leeway = 30000
    remember = 10000
    subject_header = x-auth-subject
    roles_header = x-auth-roles
    [issuer]
    name = "main"
    issuer = "https://id.example.com"
    audience = "gate"
    algorithms = ES256
    jwks_file = "keys.json"
    refresh = 600000
    max_stale = 86400000
    subject_claim = "sub"
    roles_claim = "roles"
    primary = true
    [service]
    name = "app"
    hosts = app.example.com
    path_prefix = "/"
    upstream = http://127.0.0.1:9000
    forward_authorization = false
    cors.mode = off
    timeouts.connect = 5000
    timeouts.head = 30000
    timeouts.idle = 60000
    max_body = 10485760
    [limits]
    connections = 10000
    in_flight = 4096
    header_bytes = 32768
    headers = 100
    target_bytes = 8192
    header_timeout = 10000
    idle_timeout = 75000
    h2_streams = 128
    [logging]
    level = info
    format = text
    "#);
}

#[test]
fn listeners_origin_key_and_log_need_a_restart_and_nothing_else_does() {
    let old = good(FULL);
    assert_eq!(needs_restart(&old, &old), Vec::<&str>::new());
    for (from, to) in CHANGES {
        let expected: &[&str] = match *from {
            "127.0.0.1:2" => &["server.listen"],
            "workers = 1" => &["server.workers"],
            "\"a.pem\"" | "\"b.pem\"" | "tls = { cert = \"a.pem\", key = \"b.pem\" }" => &["server.tls"],
            "127.0.0.1:3" | "\"c.pem\"" | "\"d.pem\"" => &["admin"],
            "127.0.0.1:4" => &["health"],
            "\"log\"" => &["log.dir"],
            "\"state\"" => &["log.state_dir"],
            "gate.example.com/1" => &["log.origin"],
            "log.pem" => &["log.key_file"],
            "\"fsync\"" => &["log.durability"],
            "\"5s\"\nqueue" => &["log.timeout"],
            "queue = 5" => &["log.queue"],
            "64MiB" | "\"32MiB\"" => &["log.memory"],
            "\"info\"" | "\"text\"" => &["logging"],
            _ => &[],
        };
        assert_eq!(needs_restart(&old, &changed(from, to)), expected, "{to:?} for {from:?}");
    }
}
