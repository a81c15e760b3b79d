//! What the gate vouches for to services that ask for it, signed: checked by the programs of `docs/assertion.md`, which share no
//! code with it, and by a JWT library.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use http::HeaderMap;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use portcullis::app;
use portcullis::clock::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::support::client::HOST;
use crate::support::gate::{ORIGIN, private};
use crate::support::{Act, Gate, Setup, Signer, Site, Upstream, until};

const GUIDE: &str = include_str!("../../docs/assertion.md");
const NAME: &str = "portcullis-assertion";

/// A gate whose service asks for assertions, before its first start.
fn site(upstream: &Upstream) -> Arc<Site> {
    let site = Setup::new(upstream)
        .service("assertion = true")
        .tables("[assertion]\nkey_file = \"says.pem\"\nlifetime = \"60s\"")
        .site_without_log();
    make_key(&site, "says.pem");
    app::create_log(&site.settings()).unwrap();
    site
}

fn make_key(site: &Site, name: &str) -> Value {
    let output = site.command(&["keygen", "--assertion", "--out", name]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn published(gate: &Gate) -> Value {
    let answer = gate.health().get("/.well-known/jwks.json", None);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/jwk-set+json")));
    answer.json()
}

/// The assertion that the last request brought.
fn brought(upstream: &Upstream) -> String {
    let seen = upstream.seen().pop().unwrap();
    let all: Vec<_> = seen.headers.get_all(NAME).iter().collect();
    assert_eq!(all.len(), 1, "{:?}", seen.headers);
    all[0].to_str().unwrap().to_owned()
}

/// Its claims, if it holds by a JWT library and these keys.
fn claims(token: &str, keys: &Value) -> Option<Value> {
    let keys: JwkSet = serde_json::from_value(keys.clone()).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("portcullis-assertion+jwt"));
    let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap())?).unwrap();
    let mut checks = Validation::new(Algorithm::EdDSA);
    checks.set_audience(&["app"]);
    checks.set_issuer(&[ORIGIN]);
    Some(jsonwebtoken::decode::<Value>(token, &key, &checks).ok()?.claims)
}

#[test]
fn a_service_that_asks_is_told_by_a_signed_assertion_what_is_on_record() {
    let upstream = Upstream::start(Act::Answer);
    let gate = site(&upstream).start();
    let keys = published(&gate);
    let token = Signer::usual().token("alice", &["admin", "viewer"]);
    for client in [gate.client(), gate.client2()] {
        for (method, target, token) in [
            ("GET", "/admin/a%20b/%7Eann?page=3", Some(token.as_str())),
            ("PUT", "/admin/x", Some(token.as_str())),
            ("GET", "/public/x", None),
        ] {
            let answer = client.call(method, target, token, &[]);
            assert_eq!(answer.status, 200);
            assert!(answer.header(NAME).is_none(), "it is no business of the caller");
            let claims = claims(&brought(&upstream), &keys).expect("it holds");
            let record = gate.record(answer.record());
            let (request, seen) = (&record["request"], upstream.seen().pop().unwrap());
            assert_eq!(claims["sub"], *record.pointer("/identity/user").unwrap_or(&Value::from("anonymous")));
            let roles = record
                .pointer("/identity/roles")
                .cloned()
                .unwrap_or_else(|| Value::from(Vec::<Value>::new()));
            assert_eq!(claims["roles"], roles);
            assert_eq!(claims["aud"], request["service"]);
            assert_eq!(
                (&claims["method"], &claims["host"], &claims["path"]),
                (&request["method"], &request["host"], &request["path"])
            );
            assert_eq!(
                (claims["method"].as_str().unwrap(), claims["path"].as_str().unwrap()),
                (seen.method.as_str(), seen.target.split('?').next().unwrap())
            );
            assert_eq!(claims["record"], format!("{ORIGIN}/{}", answer.record()));
            assert_eq!((&claims["jti"], &claims["policy"]), (&claims["record"], &record["policy"]));
            let issued = claims["iat"].as_i64().unwrap();
            let decided = Timestamp::parse(record["time"].as_str().unwrap()).unwrap();
            assert!((decided.as_secs()..=Clock::system().now().as_secs()).contains(&issued), "{claims}");
            assert_eq!(claims["exp"].as_i64().unwrap() - issued, 60);
        }
    }
    let stored = gate.stop();
    let text = format!("{:?}{}", stored.records(), stored.said());
    assert!(!text.contains("eyJ0eXAiOiJwb3J0Y3VsbGlzLWFzc2VydGlvbitqd3Qi"), "none is recorded or logged");
    stored.verify();
}

#[test]
fn the_programs_in_the_docs_take_what_the_gate_vouches_for_and_nothing_else() {
    let upstream = Upstream::start(Act::Answer);
    let gate = site(&upstream).start();
    let token = Signer::usual().token("alice", &["viewer"]);
    let index = gate.client().get("/docs/intro", Some(&token)).record();
    let good = brought(&upstream);
    gate.client().get("/public/x", None);
    let of_another_call = brought(&upstream);
    // The same claims, and one letter of them or of the signature another.
    let changed = |at: usize| {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let dots: Vec<usize> = good.match_indices('.').map(|(at, _)| at).collect();
    let (body, signature) = (dots[0] + 60, dots[1] + 10);
    let unsigned = format!("{}.", &good[..dots[1]]);
    let other_site = {
        let site = site(&upstream);
        let other = site.start();
        other.client().get("/docs/intro", Some(&token));
        brought(&upstream)
    };

    let keys = format!("http://{}/.well-known/jwks.json", gate.health);
    let told = |program: &Program, service: &str, lines: &[&str]| {
        let output = program.run(&gate, &[&keys, ORIGIN, service, "GET", HOST, "/docs/intro"], lines);
        (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap_or_default(), output)
    };
    for program in Program::all() {
        let (code, said, output) = told(&program, "app", &[&good]);
        assert_eq!(
            (code, said.trim_end()),
            (Some(0), &*format!("user:alice {ORIGIN}/{index}")),
            "{program:?} {output:?}"
        );
        for (what, service, lines, refused) in [
            ("twice", "app", vec![good.as_str(), &good], "jti"),
            ("for another service", "other", vec![&good], "aud"),
            ("of another call", "app", vec![&of_another_call], "path"),
            ("with other claims", "app", vec![&changed(body)], "signature"),
            ("with another signature", "app", vec![&changed(signature)], "signature"),
            ("without a signature", "app", vec![&unsigned], "signature"),
            ("no token at all", "app", vec!["a.b"], "signature"),
        ] {
            let (code, said, output) = told(&program, service, &lines);
            assert_eq!(code, Some(1), "{program:?}, {what}: {output:?}");
            assert!(
                said.trim_end().ends_with(&format!("refused: {refused}")),
                "{program:?}, {what}: {output:?}"
            );
        }
        // A key that this gate does not publish: an unknown `kid`.
        let (code, said, output) = told(&program, "app", &[&other_site]);
        assert_eq!((code, said.trim_end()), (Some(1), "refused: signature"), "{program:?}: {output:?}");
    }
}

#[test]
fn the_programs_in_the_docs_refuse_what_the_same_key_signed_for_another_time_gate_or_use() {
    let upstream = Upstream::start(Act::Answer);
    let gate = site(&upstream).start();
    gate.client().get("/public/x", None);
    let good = brought(&upstream);
    let key = EncodingKey::from_ed_pem(&std::fs::read(gate.path("says.pem")).unwrap()).unwrap();
    let header = jsonwebtoken::decode_header(&good).unwrap();
    let signed = |header: &Header, change: &dyn Fn(&mut Value)| {
        let mut claims = claims(&good, &published(&gate)).unwrap();
        change(&mut claims);
        jsonwebtoken::encode(header, &claims, &key).unwrap()
    };
    let moved = |seconds: i64| {
        signed(&header, &|claims| {
            for claim in ["iat", "exp"] {
                claims[claim] = json!(claims[claim].as_i64().unwrap() + seconds);
            }
        })
    };
    let lines = [
        moved(-3600),
        moved(3600),
        signed(&header, &|claims| claims["iss"] = json!("gate.example.com/other")),
        signed(&Header { typ: Some("JWT".into()), ..header.clone() }, &|_| ()),
        // Unchanged but for who encoded it: what is refused above is refused for what it says.
        signed(&header, &|_| ()),
    ];
    let record = claims(&good, &published(&gate)).unwrap()["record"].as_str().unwrap().to_owned();
    let told = format!("refused: exp\nrefused: exp\nrefused: iss\nrefused: header\nanonymous {record}\n");
    let keys = format!("http://{}/.well-known/jwks.json", gate.health);
    for program in Program::all() {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let output = program.run(&gate, &[&keys, ORIGIN, "app", "GET", HOST, "/public/x"], &lines);
        assert_eq!(String::from_utf8_lossy(&output.stdout), told, "{program:?}: {output:?}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn only_a_service_that_asks_gets_assertions_and_only_for_calls_that_are_allowed() {
    let (asking, quiet) = (Upstream::start(Act::Answer), Upstream::start(Act::Answer));
    let site = Setup::new(&asking)
        .service("path_prefix = \"/public\"\nassertion = true")
        .services(&format!(
            "[[service]]\nname = \"quiet\"\nhosts = [\"*\"]\nupstreams = [\"http://{}\"]\n",
            quiet.address
        ))
        .policy("p, role:viewer, app, /public/*, GET, allow\np, role:viewer, quiet, /*, GET, allow\n")
        .tables("[assertion]\nkey_file = \"says.pem\"")
        .site_without_log();
    make_key(&site, "says.pem");
    app::create_log(&site.settings()).unwrap();
    let gate = site.start();
    let viewer = Signer::usual().token("alice", &["viewer"]);
    for client in [gate.client(), gate.client2()] {
        for (method, token, status) in [
            ("GET", None, 401),
            ("GET", Some("a.b.c"), 401),
            ("PUT", Some(&*viewer), 403),
            ("TRACE", None, 405),
        ] {
            let before = asking.count();
            let answer = client.call(method, "/public/x", token, &[]);
            assert_eq!(answer.status, status, "{method} {token:?}");
            assert!(answer.header(NAME).is_none() && !answer.text().contains("eyJ"), "{answer:?}");
            assert_eq!(asking.count(), before, "nobody is told of it");
        }
        assert_eq!(client.get("/public/x", Some(&viewer)).status, 200);
        assert_eq!(claims(&brought(&asking), &published(&gate)).unwrap()["aud"], "app");
        assert_eq!(client.get("/else", Some(&viewer)).status, 200);
        let seen = quiet.seen().pop().unwrap();
        assert!(!seen.headers.contains_key(NAME), "{:?}", seen.headers);
    }
    gate.stop().verify();
}

#[test]
fn what_a_caller_brings_under_the_assertions_name_never_arrives() {
    let upstream = Upstream::start(Act::Answer);
    let silent = Setup::new(&upstream).start();
    let vouching = site(&upstream).start();
    for name in ["portcullis-assertion", "portcullis_assertion", "portcullis.assertion"] {
        for gate in [&silent, &vouching] {
            for client in [gate.client(), gate.client2()] {
                assert_eq!(
                    client.call("GET", "/public/x", None, &[(name, "forged"), (name, "again")]).status,
                    200
                );
                assert!(!forged(&upstream.seen().pop().unwrap().headers), "{name} {client:?}");
            }
            let mut wire = gate.wire();
            let head =
                format!("GET /public/x HTTP/1.1\r\nHost: {HOST}\r\n{}: forged\r\n\r\n", name.to_uppercase());
            wire.send(head);
            assert_eq!(wire.answer().unwrap().status, 200);
            assert!(!forged(&upstream.seen().pop().unwrap().headers), "{name} in capitals");
        }
    }
    assert!(upstream.seen().iter().any(|seen| seen.headers.contains_key(NAME)), "the one gate vouches");
    silent.client().get("/public/x", None);
    assert!(
        !upstream.seen().pop().unwrap().headers.contains_key(NAME),
        "the other does not: it is off by default"
    );
    assert_eq!(silent.health().get("/.well-known/jwks.json", None).status, 404);
}

fn forged(headers: &HeaderMap) -> bool {
    headers.values().any(|value| value == "forged" || value == "again")
}

#[test]
fn a_service_that_shows_what_it_got_shows_callers_no_assertion() {
    let upstream = Upstream::start(Act::Spoof);
    let gate = site(&upstream).start();
    for client in [gate.client(), gate.client2()] {
        let answer = client.get("/public/x", None);
        assert_eq!(answer.status, 200);
        assert!(answer.header(NAME).is_none(), "{:?}", answer.headers);
    }
}

#[test]
fn a_key_is_changed_by_a_reload_and_no_assertion_is_lost_over_it() {
    let upstream = Upstream::start(Act::Answer);
    let site = site(&upstream);
    let next = make_key(&site, "next.pem")["keys"][0].clone();
    let gate = site.start();
    let first = published(&gate)["keys"][0].clone();
    gate.client().get("/public/x", None);
    let by_first = brought(&upstream);

    site.edit_config("key_file = \"says.pem\"", "key_file = \"says.pem\"\nalso_publish = [\"next.pem\"]");
    gate.signal("HUP");
    until("both keys to be published", || published(&gate)["keys"].as_array().unwrap().len() == 2);
    gate.client().get("/public/x", None);
    assert!(claims(&brought(&upstream), &json!({ "keys": [first] })).is_some(), "the first one still signs");

    site.edit_config(
        "key_file = \"says.pem\"\nalso_publish = [\"next.pem\"]",
        "key_file = \"next.pem\"\nalso_publish = [\"says.pem\"]",
    );
    gate.signal("HUP");
    until("the next key to sign", || {
        gate.client().get("/public/x", None);
        claims(&brought(&upstream), &json!({ "keys": [next] })).is_some()
    });
    let both = published(&gate);
    assert_eq!(both["keys"][0], next);
    assert!(claims(&by_first, &both).is_some(), "what the first one signed still holds");

    site.edit_config("also_publish = [\"says.pem\"]", "also_publish = []");
    gate.signal("HUP");
    until("the first key to be gone", || published(&gate)["keys"].as_array().unwrap().len() == 1);
    assert!(claims(&by_first, &published(&gate)).is_none());
    gate.stop().verify();
}

#[test]
fn a_key_that_cannot_be_used_is_refused_with_what_to_do_and_the_old_one_signs_on() {
    let upstream = Upstream::start(Act::Answer);
    let site = site(&upstream);
    let good = std::fs::read(site.path("says.pem")).unwrap();
    let gate = site.start();
    let log_key = std::fs::read(site.settings().log.key_file).unwrap();
    for (turn, (content, told)) in [
        (None, "portcullis keygen --assertion"),
        (Some(b"-----BEGIN NOTHING-----".to_vec()), "PKCS#8 PEM"),
        (Some(log_key), "this is a key of the log"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = site.path("says.pem");
        match content {
            Some(content) => {
                std::fs::write(&path, content).unwrap();
                private(&path);
            }
            None => std::fs::remove_file(&path).unwrap(),
        }
        let checked = site.command(&["check", "--config", "gate.toml"]);
        assert!(!checked.status.success());
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&checked.stderr),
            String::from_utf8_lossy(&checked.stdout)
        );
        assert!(said.contains(told) && said.contains("assertion.key_file"), "{said}");
        gate.signal("HUP");
        until("the refusal's record", || {
            gate.records().iter().filter(|record| record["event"] == "refused").count() == turn + 1
        });
        gate.client().get("/public/x", None);
        assert!(claims(&brought(&upstream), &published(&gate)).is_some());
    }
    std::fs::write(site.path("says.pem"), good).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(site.path("says.pem"), mode).unwrap();
    let checked = site.command(&["check", "--config", "gate.toml"]);
    assert!(!checked.status.success(), "{checked:?}");
    assert!(String::from_utf8_lossy(&checked.stdout).contains("chmod 600"), "{checked:?}");
    private(&site.path("says.pem"));
    let checked = site.command(&["check", "--config", "gate.toml"]);
    assert!(checked.status.success(), "{checked:?}");

    // A key that is only published is private, too: it has signed, or it will.
    make_key(&site, "next.pem");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(site.path("next.pem"), mode).unwrap();
    site.edit_config("key_file = \"says.pem\"", "key_file = \"says.pem\"\nalso_publish = [\"next.pem\"]");
    let checked = site.command(&["check", "--config", "gate.toml"]);
    assert!(!checked.status.success(), "{checked:?}");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(said.contains("assertion.also_publish") && said.contains("chmod 600"), "{said}");
}

/// A program of the document, and what runs it.
#[derive(Debug)]
struct Program {
    language: &'static str,
    name: &'static str,
    run: &'static [&'static str],
}

impl Program {
    /// Those in Python and Go, which `make test` installs; that in JavaScript where Node is.
    fn all() -> Vec<Self> {
        let mut all = vec![
            Self { language: "python", name: "check.py", run: &["/usr/bin/python3"] },
            Self { language: "go", name: "check.go", run: &["/usr/bin/go", "run"] },
        ];
        let node = Command::new("node").arg("--version").output();
        if node.is_ok_and(|node| node.status.success()) {
            all.push(Self { language: "javascript", name: "check.mjs", run: &["node"] });
        }
        all
    }

    fn run(&self, site: &Site, arguments: &[&str], lines: &[&str]) -> Output {
        let code =
            GUIDE.split_once(&format!("```{}\n", self.language)).unwrap().1.split_once("```").unwrap().0;
        let path = site.path(self.name);
        std::fs::write(&path, code).unwrap();
        let mut command = Command::new(self.run[0]);
        command.args(&self.run[1..]).arg(&path).args(arguments).env("GO111MODULE", "off").env("GOFLAGS", "");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
}
