use std::path::Path;

use super::{LEAST, read_with};
use crate::access::route::{HostPattern, Preflights};
use crate::config::env::Environment;
use crate::config::settings::{Settings, Upstream};

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
fn variables_go_from_wholes_to_parts_and_by_number_whatever_their_names_order() {
    let hosts: Vec<_> =
        (0..12).map(|i| (format!("PORTCULLIS__SERVICE__0__HOSTS__{i}"), format!("h{i}"))).collect();
    let mut variables: Vec<_> = hosts.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.push(("portcullis__service__0__hosts", "[\"whole\"]"));
    let settings = read_with(LEAST, &variables).unwrap_or_else(|e| panic!("{e}"));
    let hosts = &settings.services[0].route.hosts;
    assert_eq!(hosts.len(), 12);
    assert_eq!(hosts[11], HostPattern::Exact("h11".to_owned()));
    assert_eq!(hosts[0], HostPattern::Exact("h0".to_owned()));
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
