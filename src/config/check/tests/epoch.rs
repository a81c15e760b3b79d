use std::path::Path;

use super::{ISSUER, LEAST, good};
use crate::config::env::Environment;
use crate::config::epoch::canonical;
use crate::config::settings::{Settings, needs_restart};

/// A configuration that says something about every setting.
const FULL: &str = r#"
[server]
listen = ["127.0.0.1:1", "127.0.0.1:2"]
workers = 1
tls = { cert = "a.pem", key = "b.pem" }
client_certs = { name = "mtls", ca_file = "clients.pem", crl_files = ["crl1.pem", "crl2.pem"], subject = ["spiffe", "dns"], trust_domain = "example.org", primary = false }
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
retiring_key_file = "old.pem"
key_overlap = "9d"
durability = "fsync"
timeout = "5s"
queue = 5
memory = { write_buffer = "64MiB", block_cache = "32MiB" }
mark_file = "gate.mark"
disk = { low = "2GiB", reserve = "100MiB" }
witnesses = { mode = "async", quorum = 1, max_age = "45s" }
[policy]
model = "model.conf"
files = ["one.csv", "two.csv"]
watch = true
timeout = "50ms"
[identity]
leeway = "30s"
remember = 6
headers = { subject = "X-Sub", roles = "X-Roles" }
[[witness]]
name = "north"
url = "https://north.example.com/w"
vkey = "witness.example.com/w1+4bdc7eaa+BP0XJDhaoMdbZPt4zWAvodmR/ev3axPFjtcC6sg16fYY"
ca_file = "north.pem"
[[witness]]
name = "south"
url = "http://south.example.com"
vkey = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
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
fold_case = "refuse"
cors = { mode = "answer", origins = ["https://a", "https://b"], methods = ["GET", "PUT"], headers = ["x-a", "x-b"], max_age = "10m", credentials = false }
timeouts = { connect = "5s", head = "30s", idle = "60s" }
max_body = "10MiB"
min_rate = "300B"
rate = { per_principal = "11/s", per_address = "22/m", total = "33/h burst 44" }
client_cert = "required"
subject_from = "certificate"
records = { detail = "full", outcomes = true, collapse = true }
health_checks = { networks = ["10.1.0.0/16", "10.2.0.0/16"], paths = ["/healthz", "/readyz"], user_agents = ["probe/*", "check"] }
redact = ["/invite/{}", "/reset/{}/**"]
assertion = true
[[service]]
name = "other"
hosts = ["*"]
upstreams = ["http://127.0.0.1:9002"]
[assertion]
key_file = "says.pem"
also_publish = ["next.pem", "last.pem"]
lifetime = "29s"
[limits]
connections = 10000
connections_per_address = 500
rate_per_address = "55/s"
in_flight = 4096
header_bytes = "32KiB"
headers = 100
target_bytes = "8KiB"
header_timeout = "10s"
idle_timeout = "75s"
h2_streams = 128
denial_bytes = "20KiB"
[verify]
enabled = true
pause = "3h"
rate = 777
on_mismatch = "alert"
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
    ("\"mtls\"", "\"mtls2\""),
    ("\"clients.pem\"", "\"clients2.pem\""),
    ("\"crl2.pem\"", "\"crl3.pem\""),
    ("crl_files = [\"crl1.pem\", \"crl2.pem\"], ", ""),
    ("[\"spiffe\", \"dns\"]", "[\"dns\", \"spiffe\"]"),
    ("\"dns\"", "\"cn\""),
    ("example.org", "example.net"),
    ("\"required\"", "\"optional\""),
    ("subject_from = \"certificate\"", "subject_from = \"token\""),
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
    ("old.pem", "old2.pem"),
    ("\"9d\"", "\"8d\""),
    ("\"fsync\"", "\"os\""),
    ("\"5s\"\nqueue", "\"6s\"\nqueue"),
    ("queue = 5", "queue = 6"),
    ("64MiB", "65MiB"),
    ("\"32MiB\"", "\"33MiB\""),
    ("gate.mark", "gate2.mark"),
    ("mark_file = \"gate.mark\"\n", ""),
    ("2GiB", "3GiB"),
    ("100MiB", "101MiB"),
    ("\"async\"", "\"bounded\""),
    ("quorum = 1", "quorum = 2"),
    ("45s", "46s"),
    ("\"north\"", "\"west\""),
    ("north.example.com/w\"", "north.example.com/v\""),
    ("north.pem", "west.pem"),
    ("ca_file = \"north.pem\"\n", ""),
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
    ("fold_case = \"refuse\"", ""),
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
    ("300B", "0B"),
    ("11/s", "12/s"),
    ("per_principal = \"11/s\", ", ""),
    ("22/m", "23/m"),
    ("33/h burst 44", "33/h burst 45"),
    ("33/h burst 44", "33/s burst 44"),
    (", total = \"33/h burst 44\"", ""),
    ("detail = \"full\"", "detail = \"minimal\""),
    ("detail = \"full\"", "detail = \"standard\""),
    ("outcomes = true", "outcomes = false"),
    ("collapse = true", "collapse = false"),
    ("10.2.0.0/16", "10.3.0.0/16"),
    ("\"/readyz\"", "\"/livez\""),
    ("\"check\"", "\"checker\""),
    ("/reset/{}/**", "/reset/{}"),
    ("name = \"other\"\nhosts = [\"*\"]", "name = \"other\"\ncors = { mode = \"forward\" }\nhosts = [\"*\"]"),
    ("assertion = true", "assertion = false"),
    ("says.pem", "says2.pem"),
    ("next.pem", "next2.pem"),
    ("29s", "28s"),
    ("10000", "10001"),
    ("connections_per_address = 500", "connections_per_address = 501"),
    ("55/s", "56/s"),
    ("rate_per_address = \"55/s\"\n", ""),
    ("4096", "4097"),
    ("\"32KiB\"", "\"33KiB\""),
    ("headers = 100", "headers = 101"),
    ("\"8KiB\"", "\"9KiB\""),
    ("header_timeout = \"10s\"", "header_timeout = \"11s\""),
    ("75s", "76s"),
    ("h2_streams = 128", "h2_streams = 129"),
    ("20KiB", "21KiB"),
    ("\"20KiB\"", "\"unlimited\""),
    ("enabled = true", "enabled = false"),
    ("\"3h\"", "\"4h\""),
    ("rate = 777", "rate = 778"),
    ("\"alert\"", "\"stop\""),
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
        ("\"11/s\"", "\"11/s burst 11\""),
        ("X-Sub", "x-SUB"),
        ("[\"gate\", \"door\"]", "[\"door\", \"gate\"]"),
        ("[\"ES256\", \"RS256\"]", "[\"RS256\", \"ES256\"]"),
        ("\"realm.roles\"", "[\"realm\", \"roles\"]"),
        ("[\"viewer\", \"editor\"]", "[\"editor\", \"viewer\"]"),
        ("[\"app.example.com\", \"*.example.com\"]", "[\"*.Example.com\", \"APP.example.com.\"]"),
        ("[\"semicolon\", \"encoded_slash\"]", "[\"encoded_slash\", \"semicolon\"]"),
        ("[\"https://a\", \"https://b\"]", "[\"https://B:443\", \"https://a\"]"),
        ("[\"next.pem\", \"last.pem\"]", "[\"last.pem\", \"./next.pem\"]"),
        ("forward_authorization = false\n", ""),
        ("path_prefix = \"/app\"", "path_prefix = '/app'"),
        ("[logging]\nlevel = \"info\"\n", "[logging]\n"),
    ] {
        assert_eq!(changed(from, to).epoch(), epoch, "{to:?} for {from:?}");
    }
    let (before, after) = FULL.split_once("[[service]]\nname = \"other\"").unwrap();
    let (other, rest) = after.split_once("[assertion]").unwrap();
    let (first, app) = before.split_once("[[service]]").unwrap();
    let swapped = format!("{first}[[service]]\nname = \"other\"{other}[[service]]{app}[assertion]{rest}");
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
    insta::assert_snapshot!(canonical(&good(&format!("{LEAST}{ISSUER}"))), @r#"
    portcullis config v5
    [server]
    listen = 127.0.0.1:8080
    workers = 0
    drain_timeout = 30000
    [admin]
    listen = 127.0.0.1:9901
    client_cert = off
    subject_from = token
    [health]
    listen = 127.0.0.1:9902
    [log]
    dir = "log"
    state_dir = "state"
    origin = "gate.example.com/1"
    key_file = "log.pem"
    key_overlap = 604800000
    durability = fsync
    timeout = 5000
    queue = 4096
    write_buffer = 67108864
    block_cache = 33554432
    disk.low = 1073741824
    disk.reserve = 67108864
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
    fold_case = distinct
    upstream = http://127.0.0.1:9000
    forward_authorization = false
    cors.mode = off
    timeouts.connect = 5000
    timeouts.head = 30000
    timeouts.idle = 60000
    max_body = 10485760
    min_rate = 256
    client_cert = off
    subject_from = token
    records.detail = standard
    records.outcomes = true
    records.collapse = true
    [limits]
    connections = 10000
    connections_per_address = 1000
    in_flight = 4096
    header_bytes = 32768
    headers = 100
    target_bytes = 8192
    header_timeout = 10000
    idle_timeout = 75000
    h2_streams = 128
    denial_bytes = 65536
    [verify]
    enabled = true
    pause = 3600000
    rate = 5000
    on_mismatch = alert
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
            "127.0.0.1:3" => &["admin.listen"],
            "127.0.0.1:4" => &["health"],
            "\"log\"" => &["log.dir"],
            "\"state\"" => &["log.state_dir"],
            "gate.example.com/1" => &["log.origin"],
            "log.pem" => &["log.key_file"],
            "old.pem" => &["log.retiring_key_file"],
            "\"9d\"" => &["log.key_overlap"],
            "\"fsync\"" => &["log.durability"],
            "\"5s\"\nqueue" => &["log.timeout"],
            "queue = 5" => &["log.queue"],
            "64MiB" | "\"32MiB\"" => &["log.memory"],
            "gate.mark" | "mark_file = \"gate.mark\"\n" => &["log.mark_file"],
            "2GiB" | "100MiB" => &["log.disk"],
            "\"async\""
            | "quorum = 1"
            | "45s"
            | "\"north\""
            | "north.example.com/w\""
            | "north.pem"
            | "ca_file = \"north.pem\"\n" => &["log.witnesses"],
            "enabled = true" | "\"3h\"" | "rate = 777" | "\"alert\"" => &["verify"],
            "\"info\"" | "\"text\"" => &["logging"],
            _ => &[],
        };
        assert_eq!(needs_restart(&old, &changed(from, to)), expected, "{to:?} for {from:?}");
    }
}
