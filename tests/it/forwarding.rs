//! Carrying out what was allowed: bodies, trailers, limits, and what goes wrong behind the gate.

use std::net::TcpListener;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::HeaderMap;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use crate::support::client::{Sent, empty, full, whole};
use crate::support::{Act, Setup, Upstream, block_on};

#[test]
fn a_body_streams_both_ways_before_either_side_is_done() {
    let upstream = Upstream::start(Act::Echo);
    let gate = Setup::new(&upstream).start();
    for client in [gate.client(), gate.client2()] {
        let echoed = block_on(async {
            let (parts, sent) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
            let request = client.request("POST", "/public/echo", None, &[], streamed(sent));
            parts.send(Bytes::from_static(b"ping")).unwrap();
            let mut body = client.exchange(request).await.unwrap().into_body();
            // Each part comes back before the next is sent.
            let mut echoed = Vec::new();
            for part in ["pong", "end!"] {
                echoed.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
                parts.send(Bytes::from(part)).unwrap();
            }
            drop(parts);
            while let Some(frame) = body.frame().await {
                echoed.extend_from_slice(&frame.unwrap().into_data().unwrap());
            }
            echoed
        });
        assert_eq!(echoed, b"pingpongend!");
    }
}

#[test]
fn large_bodies_arrive_whole_in_both_directions() {
    let upstream = Upstream::start(Act::Echo);
    let gate = Setup::new(&upstream).tls().start();
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for client in [gate.client(), gate.client2()] {
        let answer = client.post("/public/echo", None, body.clone());
        assert!(answer.body == body);
        let outcome = gate.outcome_of(answer.record());
        assert_eq!(
            (&outcome["request_bytes"], &outcome["response_bytes"]),
            (&3_000_000.into(), &3_000_000.into())
        );
    }
}

#[test]
fn a_caller_that_does_not_read_stops_the_upstream_from_being_read() {
    let upstream = Upstream::start(Act::Flood);
    let gate = Setup::new(&upstream).start();
    for client in [gate.client(), gate.client2()] {
        block_on(async {
            let before = upstream.chunks();
            let request = client.request("GET", "/public/flood", None, &[], empty());
            let response = client.exchange(request).await.unwrap();
            // Other calls go on meanwhile; a gate that did not care would take gigabytes in their time.
            for _ in 0..100 {
                let other = gate.client();
                let response =
                    other.exchange(other.request("GET", "/admin/x", None, &[], empty())).await.unwrap();
                assert_eq!(response.status(), 401);
            }
            let taken = upstream.chunks() - before;
            assert!(taken < 1_000, "{taken} chunks of 64 KiB were taken from the upstream");
            drop(response);
        });
    }
    gate.record_where("the end of the call", |record| record["result"] == "aborted");
}

#[test]
fn trailers_are_kept_both_ways() {
    let upstream = Upstream::start(Act::Trailers);
    let gate = Setup::new(&upstream).start();
    for client in [gate.client(), gate.client2()] {
        let answer = client.call("GET", "/public/x", None, &[("te", "trailers")]);
        assert_eq!((answer.status, answer.text()), (200, "hello"));
        assert_eq!(answer.trailers.expect("trailers")["x-checksum"], "7", "{client:?}");
    }
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    for client in [gate.client(), gate.client2()] {
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "9".parse().unwrap())]);
        let frames = [Ok(Frame::data(Bytes::from_static(b"data"))), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let request = client.request("POST", "/public/x", None, &[("trailer", "x-sum")], body);
        assert_eq!(client.send(request).status, 200);
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.body, b"data");
        assert_eq!(seen.trailers.expect("trailers")["x-sum"], "9", "{client:?}");
        assert!(!seen.headers.contains_key("x-sum"), "trailers do not become headers");
    }
}

#[test]
fn a_body_over_the_limit_is_413() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).service("max_body = \"1KiB\"").start();
    for client in [gate.client(), gate.client2()] {
        assert_eq!(client.post("/public/x", None, vec![b'x'; 1024]).status, 200);
        let answer = client.post("/public/big", None, vec![b'x'; 1025]);
        assert_eq!(answer.status, 413);
        assert_eq!(gate.outcome_of(answer.record())["detail"], "request_body_too_large");
        assert!(!upstream.seen().iter().any(|seen| seen.target == "/public/big"), "its length was known");

        // One of unknown length is cut off where it passes the limit.
        let chunks =
            futures_util::stream::iter((0..8).map(|_| Ok(Frame::data(Bytes::from(vec![b'x'; 512])))));
        let body = StreamBody::new(chunks).boxed_unsync();
        let answer = client.send(client.request("POST", "/public/chunked", None, &[], body));
        assert_eq!(answer.status, 413, "{client:?}");
        let seen = upstream.seen().into_iter().rfind(|seen| seen.target == "/public/chunked");
        assert!(seen.is_none_or(|seen| seen.body.len() <= 1024));
    }
}

#[test]
fn what_goes_wrong_behind_the_gate_is_told_apart() {
    // A port that nobody listens on: bound, and let go.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gate = Setup::at(&format!("http://{nobody}")).start();
    let answer = gate.client().get("/public/x", None);
    assert_eq!((answer.status, answer.header("content-type")), (502, Some("application/problem+json")));
    let outcome = gate.outcome_of(answer.record());
    assert_eq!(
        (&outcome["result"], &outcome["detail"]),
        (&"upstream_error".into(), &"connect_refused".into())
    );

    let hanging = Upstream::start(Act::Hang);
    let gate = Setup::new(&hanging).start();
    for client in [gate.client(), gate.client2()] {
        let answer = client.get("/public/x", None);
        assert_eq!(answer.status, 502);
        assert_eq!(gate.outcome_of(answer.record())["detail"], "broken_answer");
    }
    assert_eq!(hanging.count(), 2, "nothing is tried twice");

    let slow = Upstream::start(Act::Hold);
    let gate = Setup::new(&slow).service("timeouts = { head = \"100ms\" }").start();
    for client in [gate.client(), gate.client2()] {
        let answer = client.get("/public/x", None);
        assert_eq!(answer.status, 504);
        assert_eq!(gate.outcome_of(answer.record())["detail"], "head_timeout");
    }
    gate.stop().verify();
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_caller_too() {
    for http2 in [false, true] {
        let upstream = Upstream::start(Act::Cut);
        let gate = Setup::new(&upstream).start();
        let client = if http2 { gate.client2() } else { gate.client() };
        let index = block_on(async {
            let request = client.request("GET", "/public/x", None, &[], empty());
            let response = client.exchange(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let record = response.headers()["portcullis-record"].to_str().unwrap().to_owned();
            upstream.release();
            whole(response).await.expect_err("it is not taken for whole");
            record.rsplit('/').next().unwrap().parse().unwrap()
        });
        let outcome = gate.outcome_of(index);
        assert_eq!(
            (&outcome["result"], &outcome["detail"]),
            (&"upstream_error".into(), &"response_body_broken".into())
        );
    }
}

#[test]
fn an_answer_that_stands_still_is_given_up() {
    let upstream = Upstream::start(Act::HoldBody);
    let gate = Setup::new(&upstream).service("timeouts = { idle = \"200ms\" }").start();
    block_on(async {
        let client = gate.client();
        let response = client.exchange(client.request("GET", "/public/x", None, &[], empty())).await.unwrap();
        whole(response).await.expect_err("it is not taken for whole");
    });
    let outcome = gate.record_where("its outcome", |record| record["kind"] == "outcome");
    assert_ne!(outcome["result"], "completed");
}

#[test]
fn a_caller_that_leaves_during_the_answer_is_an_aborted_outcome() {
    let upstream = Upstream::start(Act::HoldBody);
    let gate = Setup::new(&upstream).start();
    for client in [gate.client(), gate.client2()] {
        let index = block_on(async {
            let request = client.request("GET", "/public/x", None, &[], empty());
            let response = client.exchange(request).await.unwrap();
            let record = response.headers()["portcullis-record"].to_str().unwrap().to_owned();
            let first = response.into_body().frame().await.unwrap().unwrap();
            assert_eq!(first.into_data().unwrap(), "first ");
            record.rsplit('/').next().unwrap().parse().unwrap()
        });
        let outcome = gate.outcome_of(index);
        assert_eq!(outcome["result"], "aborted", "{outcome}");
    }
    gate.stop().verify();
}

#[test]
fn upstreams_are_taken_in_turn_and_named_in_outcomes() {
    let (one, two) = (Upstream::start(Act::Answer), Upstream::start(Act::Answer));
    let gate = Setup::new(&one).and_upstream(&format!("http://{}", two.address)).start();
    let mut last = 0;
    for _ in 0..6 {
        last = gate.client().get("/public/x", None).record();
    }
    assert_eq!((one.count(), two.count()), (3, 3));
    let named = gate.outcome_of(last)["upstream"].to_string();
    assert!(named.contains(&one.address.to_string()) || named.contains(&two.address.to_string()), "{named}");
}

#[test]
fn upstreams_over_tls_are_checked_against_their_authority() {
    let upstream = Upstream::start_tls(Act::Answer);
    let url = format!("https://localhost:{}", upstream.address.port());
    let gate = Setup::at(&url).service("ca_file = \"cert.pem\"").start();
    assert_eq!(gate.client().get("/public/x", None).status, 200);

    // Without it the system's authorities are asked, and they do not know it.
    let gate = Setup::at(&url).start();
    let answer = gate.client().get("/public/y", None);
    assert_eq!(answer.status, 502);
    assert_eq!(gate.outcome_of(answer.record())["detail"], "tls");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn the_token_is_forwarded_only_where_the_service_asks_for_it() {
    let upstream = Upstream::start(Act::Answer);
    let token = crate::support::Signer::usual().token("alice", &["viewer"]);
    for (lines, forwarded) in [("", false), ("forward_authorization = true", true)] {
        let gate = Setup::new(&upstream).service(lines).start();
        assert_eq!(gate.client().get("/docs/x", Some(&token)).status, 200);
        assert_eq!(upstream.seen().pop().unwrap().headers.contains_key("authorization"), forwarded);
    }
}

#[test]
fn head_has_no_body_and_is_an_act_of_its_own() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream)
        .policy("p, anonymous, app, /both, GET|HEAD, allow\np, anonymous, app, /get, GET, allow\n")
        .start();
    for client in [gate.client(), gate.client2()] {
        let answer = client.call("HEAD", "/both", None, &[]);
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(client.call("HEAD", "/get", None, &[]).status, 401);
    }
    assert!(upstream.seen().iter().all(|seen| seen.method == "HEAD"));
}

#[test]
fn preflights_are_answered_forwarded_or_left_to_policy() {
    let origin = "https://app.example.com";
    let preflight = |allowed: bool| {
        let from = if allowed { origin } else { "https://evil.example.com" };
        [
            ("origin", from),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "x-a"),
        ]
    };
    let upstream = Upstream::start(Act::Answer);

    let gate = Setup::new(&upstream).policy("p, role:viewer, app, /docs/*, GET, allow\n").start();
    let answer = gate.client().call("OPTIONS", "/docs/x", None, &preflight(true));
    assert_eq!((answer.status, upstream.count()), (401, 0), "off: it is decided like any call");

    let gate = Setup::new(&upstream)
        .policy("p, role:viewer, app, /docs/*, GET, allow\n")
        .service("cors = { mode = \"forward\" }")
        .start();
    let answer = gate.client().call("OPTIONS", "/docs/x", None, &preflight(true));
    assert_eq!((answer.status, upstream.count()), (200, 1), "forward: the service answers");
    let record = gate.record(answer.record());
    assert_eq!((&record["decision"], &record["reason"]), (&"allow".into(), &"cors_preflight".into()));
    assert_eq!(
        gate.client().call("OPTIONS", "/docs/x", None, &[]).status,
        401,
        "what is no preflight is decided"
    );

    let gate = Setup::new(&upstream)
        .service(&format!("cors = {{ mode = \"answer\", origins = [\"{origin}\"], methods = [\"GET\", \"POST\"], headers = [\"x-a\"], max_age = \"10m\" }}"))
        .start();
    for client in [gate.client(), gate.client2()] {
        let answer = client.call("OPTIONS", "/docs/x", None, &preflight(true));
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET, POST"));
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
        assert_eq!(gate.record(answer.record())["reason"], "cors_preflight");
        let answer = client.call("OPTIONS", "/docs/x", None, &preflight(false));
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let answer = client.call("GET", "/public/x", None, &[("origin", origin)]);
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(origin)));
        let refused = client.call("GET", "/docs/x", None, &[("origin", origin)]);
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some(origin)));
        assert_eq!(
            refused.header("access-control-expose-headers"),
            Some("Portcullis-Record, X-Request-Id"),
            "the page may tell its user the record's number"
        );
    }
    assert_eq!(
        upstream.seen().iter().filter(|seen| seen.method == "OPTIONS").count(),
        1,
        "answered by the gate alone"
    );
}

fn streamed(parts: tokio::sync::mpsc::UnboundedReceiver<Bytes>) -> Sent {
    let frames = futures_util::stream::unfold(parts, |mut parts| async {
        parts.recv().await.map(|part| (Ok(Frame::data(part)), parts))
    });
    StreamBody::new(frames.boxed()).boxed_unsync()
}

#[test]
fn what_only_looks_like_a_preflight_is_decided_by_policy() {
    let origin = "https://app.example.com";
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream)
        .policy("p, role:viewer, app, /docs/*, GET, allow\n")
        .service("cors = { mode = \"forward\" }")
        .start();
    let asking = [("origin", origin), ("access-control-request-method", "POST")];
    for client in [gate.client(), gate.client2()] {
        let with_token = client.call("OPTIONS", "/docs/x", Some("no.real.token"), &asking);
        assert_eq!(with_token.status, 401);
        assert_eq!(gate.record(with_token.record())["reason"], "credential_malformed");
        let with_body = client.send(client.request("OPTIONS", "/docs/x", None, &asking, full("payload")));
        assert_eq!(with_body.status, 401);
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn no_trailer_passes_for_the_gates_word() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    for client in [gate.client(), gate.client2()] {
        let claims = [
            "x-auth-subject",
            "x_auth_roles",
            "x-forwarded-for",
            "authorization",
            "host",
            "portcullis-record",
        ];
        let named = |name: &&str| (name.parse().unwrap(), "SPOOF".parse().unwrap());
        let trailers = HeaderMap::from_iter(claims.iter().map(named).chain([named(&"x-sum")]));
        let frames = [Ok(Frame::data(Bytes::from_static(b"data"))), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let announced =
            [("trailer", "X-Auth-Subject, x_auth_roles, X-Forwarded-For, portcullis-record, x-sum")];
        let request = client.request("POST", "/public/x", None, &announced, body);
        assert_eq!(client.send(request).status, 200);
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.headers["trailer"], "x-sum", "{client:?}");
        let arrived: Vec<_> =
            seen.trailers.iter().flat_map(HeaderMap::keys).map(|name| name.as_str()).collect();
        assert_eq!(arrived, ["x-sum"], "{client:?}");
    }
}

#[test]
fn a_body_that_its_method_rarely_has_arrives_all_the_same() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    // The test's own client, too, has to be told that there is a body.
    let chunked: &[(&str, &str)] = &[("transfer-encoding", "chunked")];
    for (client, headers) in [(gate.client(), chunked), (gate.client2(), &[])] {
        let frames = [Ok(Frame::data(Bytes::from_static(b"question")))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let answer = client.send(client.request("GET", "/public/x", None, headers, body));
        assert_eq!(answer.status, 200);
        assert_eq!(upstream.seen().pop().unwrap().body, b"question", "{client:?}");
        assert_eq!(gate.outcome_of(answer.record())["request_bytes"], 8);
    }
}

#[test]
fn cookies_that_http2_split_are_one_field_again() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let cookies = [("cookie", "a=1"), ("cookie", "b=2")];
    assert_eq!(gate.client2().call("GET", "/public/x", None, &cookies).status, 200);
    let seen = upstream.seen().pop().unwrap();
    assert_eq!(seen.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
}

#[test]
fn an_answer_whose_length_has_two_readings_is_no_answer() {
    for head in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream
                .write_all(
                    format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\na\r\n0123456789\r\n0\r\n\r\n").as_bytes(),
                )
                .unwrap();
            // Until the gate lets go.
            let _ = stream.read(&mut [0]);
        });
        let gate = Setup::at(&format!("http://{address}")).start();
        let answer = gate.client().get("/public/x", None);
        assert_eq!(answer.status, 502, "{head}");
        let outcome = gate.outcome_of(answer.record());
        assert_eq!(outcome["result"], "upstream_error");
        answering.join().unwrap();
    }
}
