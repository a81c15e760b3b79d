use std::path::Path;

use super::{fault_after, faults, message, with};
use crate::config::env::Environment;
use crate::config::settings::Settings;

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
            "server.\"a b\": unknown key; the keys here are `listen`, `workers`, `tls`, `client_certs`, `trusted_proxies`, `drain_timeout`",
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
        "service[0].allow[0]: \"dot_segment\" is none of `encoded_slash`, `encoded_percent`, `semicolon`, `look_alike`; write one \
         of those"
    );
}
