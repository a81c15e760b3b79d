//! P2: what is routed, decided, recorded and forwarded is one reading of the request; what has two is refused.

use crate::support::client::full;
use crate::support::frames::{self, Ended};
use crate::support::{Act, Client, Gate, Setup, Signer, Upstream, Wire};

fn gate() -> (Upstream, Gate) {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    (upstream, gate)
}

fn tls_gate() -> (Upstream, Gate) {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).tls().start();
    (upstream, gate)
}

#[test]
fn the_decided_path_is_the_recorded_one_and_the_forwarded_one() {
    let (upstream, gate) = gate();
    for (sent, decided) in [
        ("/public/a", "/public/a"),
        ("/%70ublic/%7Euser/%41", "/public/~user/A"),
        ("/public/caf%c3%a9", "/public/caf%C3%A9"),
        ("/public/a%20b", "/public/a%20b"),
        ("/public/a/", "/public/a/"),
        ("/public/a:b@c!$&'()*+,=", "/public/a:b@c!$&'()*+,="),
    ] {
        for client in [gate.client(), gate.client2()] {
            let answer = client.get(&format!("{sent}?q=%2e%2E&token=geheim"), None);
            assert_eq!(answer.status, 200, "{sent}");
            assert_eq!(upstream.seen().pop().unwrap().target, format!("{decided}?q=%2e%2E&token=geheim"));
            let record = gate.record(answer.record());
            assert_eq!(record["request"]["path"], *decided);
            assert_eq!(record["request"]["query"], serde_json::json!(["q", "token"]));
            assert!(!record.to_string().contains("geheim"));
        }
    }
}

#[test]
fn a_rewrite_comes_before_the_decision() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream)
        .service("path_prefix = \"/outer\"\nrewrite_prefix = \"/public\"")
        .services(&format!(
            "[[service]]\nname = \"bare\"\nhosts = [\"*\"]\npath_prefix = \"/api\"\nstrip_prefix = true\n\
             upstreams = [\"http://{}\"]\n",
            upstream.address
        ))
        .policy("p, anonymous, app, /public/*, GET, allow\np, anonymous, bare, /v1/*, GET, allow\n")
        .start();
    for (sent, forwarded) in [("/outer/a?x=1", "/public/a?x=1"), ("/api/v1/b", "/v1/b")] {
        let answer = gate.client().get(sent, None);
        assert_eq!(answer.status, 200, "{sent}");
        assert_eq!(upstream.seen().pop().unwrap().target, forwarded);
        let path = forwarded.split('?').next().unwrap();
        assert_eq!(gate.record(answer.record())["request"]["path"], path);
    }
    // A prefix ends at a segment's end, and what lies outside every service is nobody's.
    for path in ["/outerx/a", "/public/a", "/apix/v1/b"] {
        let answer = gate.client().get(path, None);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(gate.record(answer.record())["reason"], "no_service");
    }
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_head_over_its_bounds_is_refused_and_recorded() {
    let (upstream, gate) = gate();
    for head in [
        format!("GET /public/x HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000)),
        format!("GET /public/x HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100)),
    ] {
        let mut wire = gate.wire();
        let _ = wire.try_send(head);
        let answer = wire.answer().unwrap();
        assert_eq!(answer.status, 431);
        let reason = gate.record(answer.record())["reason"].as_str().unwrap().to_owned();
        assert!(matches!(&*reason, "malformed_head_too_long" | "malformed_too_many_fields"), "{reason}");
    }
    assert_eq!(upstream.count(), 0);
    gate.stop().verify();
}

#[test]
fn a_refused_head_behind_good_ones_is_answered_after_them() {
    let (upstream, gate) = gate();
    let mut wire = gate.wire();
    wire.send(
        "GET /public/1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /public/2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok\
         GET /public/3 HTTP/1.1\r\nHost : a\r\n\r\nGET /public/4 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let answers: Vec<_> = (0..3).map(|_| wire.answer().unwrap()).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 400]);
    assert!(wire.ends());
    assert_eq!(gate.record(answers[2].record())["request"]["target"], "/public/3");
    assert_eq!(upstream.count(), 2);
    gate.stop().verify();
}

#[test]
fn a_body_that_breaks_its_framing_never_ends_at_the_upstream() {
    let (upstream, gate) = gate();
    let mut wire = gate.wire();
    wire.send("POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\nGET /admin/x HTTP/1.1\r\n");
    wire.send("Host: a\r\n\r\n");
    assert_eq!(wire.answer().unwrap().status, 400);
    assert!(wire.ends());
    assert!(upstream.count() <= 1, "what came after is no request: {:?}", upstream.seen());
    let record = gate.record_where("the call", |record| record["request"]["path"] == "/public/x");
    let outcome = gate.outcome_of(record["index"].as_u64().unwrap());
    assert_eq!((&outcome["result"], &outcome["detail"]), (&"aborted".into(), &"request_body_broken".into()));
    gate.stop().verify();
}

#[test]
fn over_http2_too_host_and_authority_agree() {
    for (upstream, gate) in [gate(), tls_gate()] {
        let client = gate.client2();
        let answer = client.call("GET", "/public/x", None, &[("host", "other.example.com")]);
        assert_eq!(answer.status, 400);
        assert_eq!(gate.record(answer.record())["reason"], "malformed_host_mismatch");
        assert_eq!(upstream.connections(), 0);
        assert_eq!(client.call("GET", "/public/x", None, &[("host", "App.Example.com")]).status, 200);
        assert_eq!(upstream.only().headers["host"], "app.example.com");
    }
}

#[test]
fn an_http2_body_of_another_length_than_said_never_arrives_whole() {
    let (upstream, gate) = gate();
    for (said, body) in [("5", "abc"), ("1", "abc")] {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/public/x"),
            ("content-length", said),
        ];
        let ended = frames::send(gate.front, &fields, Some(body.as_bytes()));
        assert!(!matches!(ended, Ended::Answered(Some(200))), "{ended:?}");
    }
    assert!(upstream.seen().iter().all(|seen| seen.body != b"abc"), "{:?}", upstream.seen());
    gate.stop().verify();
}

#[test]
fn nothing_a_caller_says_passes_for_the_gates_word() {
    for (upstream, gate) in [gate(), tls_gate()] {
        let spoofs = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-uri", "/public/x"),
            ("x-forwarded-prefix", "/spoof"),
            ("x_forwarded_for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("x-original-url", "/spoof"),
            ("x-rewrite-url", "/spoof"),
            ("x-envoy-original-path", "/spoof"),
            ("x-auth-subject", "spoof"),
            ("x_auth_subject", "spoof"),
            ("x-auth-roles", "spoof"),
            ("x-auth-groups", "spoof"),
            ("portcullis-record", "spoof/1"),
            ("x-http-method-override", "DELETE"),
            ("x-request-id", "spoof"),
        ];
        let token = Signer::usual().token("alice", &["viewer"]);
        for client in [gate.client(), gate.client2()] {
            // On a path that is denied they change nothing.
            assert_eq!(client.call("GET", "/admin/x", Some(&token), &spoofs).status, 403);

            let answer = client.call("GET", "/public/x", None, &spoofs);
            assert_eq!(answer.status, 200);
            let seen = upstream.seen().pop().unwrap();
            for (name, value) in spoofs {
                assert!(seen.headers.get_all(name).iter().all(|found| found != value), "{name}: {seen:?}");
            }
            assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
            assert!(!seen.headers.contains_key("x-auth-subject"), "an anonymous caller has no subject");
            assert_eq!(seen.headers["portcullis-record"], answer.header("portcullis-record").unwrap());
            assert_eq!(seen.headers["x-request-id"], answer.header("x-request-id").unwrap());
            assert_eq!(seen.headers.get_all("x-request-id").iter().count(), 1);

            client.call("GET", "/docs/x", Some(&token), &spoofs);
            let seen = upstream.seen().pop().unwrap();
            assert_eq!(
                (&seen.headers["x-auth-subject"], &seen.headers["x-auth-roles"]),
                (&"alice".parse().unwrap(), &"viewer".parse().unwrap())
            );
            assert!(!seen.headers.contains_key("authorization"), "the token stays here");
            assert!(seen.headers.contains_key("traceparent"));
        }
    }
}

#[test]
fn headers_that_connection_nominates_go_and_the_gates_own_stay() {
    let (upstream, gate) = gate();
    let token = Signer::usual().token("alice", &["viewer"]);
    let mut wire = gate.wire();
    wire.send(format!(
        "GET /docs/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
         Connection: close, X-Auth-Subject, X-Forwarded-For, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ));
    assert_eq!(wire.answer().unwrap().status, 200);
    let seen = upstream.only();
    for name in ["x-secret", "keep-alive", "upgrade", "connection"] {
        assert!(!seen.headers.contains_key(name), "{name}: {seen:?}");
    }
    assert_eq!(seen.headers["x-auth-subject"], "alice");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
}

#[test]
fn what_an_upstream_says_in_the_gates_name_does_not_reach_the_caller() {
    let upstream = Upstream::start(Act::Spoof);
    let gate = Setup::new(&upstream).start();
    let answer = gate.client().get("/public/x", None);
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("x-secret"));
    assert_ne!(answer.header("x-request-id"), Some("spoof"));
    assert_eq!(answer.headers.get_all("portcullis-record").iter().count(), 1);
    assert_eq!(gate.record(answer.record())["decision"], "allow");
}

#[test]
fn what_follows_an_ambiguous_body_is_not_read_as_a_request() {
    let (upstream, gate) = gate();
    let mut wire = gate.wire();
    wire.send(
        "POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /public/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    drop(wire.rest());
    assert!(!upstream.seen().iter().any(|seen| seen.target.contains("smuggled")), "{:?}", upstream.seen());
}

#[test]
fn an_upgrade_is_not_passed_on_and_no_tunnel_opens() {
    let (upstream, gate) = gate();
    let mut wire = gate.wire();
    wire.send(
        "GET /public/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\nGET /admin/inner HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let answer = wire.answer().unwrap();
    assert_ne!(answer.status, 101);
    assert_eq!(wire.answer().unwrap().status, 401, "what follows is a request of its own");
    let seen = upstream.only();
    assert!(!seen.headers.contains_key("upgrade") && !seen.headers.contains_key("http2-settings"));
}

#[test]
fn a_denied_call_is_answered_without_its_body() {
    let (upstream, gate) = gate();
    let mut wire = gate.wire();
    wire.send("POST /admin/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n");
    let answer = wire.answer().unwrap();
    assert_eq!(answer.status, 401, "and no 100 before it");
    assert_eq!(upstream.connections(), 0);

    let client: Client = gate.client2();
    let request = client.request("POST", "/admin/x", None, &[], full(vec![0; 1 << 20]));
    assert_eq!(client.send(request).status, 401);
}

#[test]
fn pipelined_calls_are_decided_one_by_one() {
    let (upstream, gate) = gate();
    let mut wire: Wire = gate.wire();
    wire.send(
        "GET /public/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /admin/2 HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /public/3 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let statuses: Vec<u16> = (0..3).map(|_| wire.answer().unwrap().status).collect();
    assert_eq!(statuses, [200, 401, 200]);
    let targets: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/public/1", "/public/3"]);
}
