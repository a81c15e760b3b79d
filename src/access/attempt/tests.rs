//! Claims about reading a head.

use super::super::path::Tolerance;
use super::super::route::{HostPattern, Preflights};
use super::ids::is_traceparent;
use super::*;
use http::Request;

fn routes() -> Routes {
    Routes::new([Route {
        service: "app".into(),
        hosts: vec![HostPattern::Exact("app".into())],
        prefix: "/".into(),
        rewrite: None,
        tolerance: Tolerance::default(),
        preflights: Preflights::Off,
        certificates: Default::default(),
        recording: Default::default(),
    }])
}

fn read(request: request::Builder) -> Attempt {
    read_from(request, "192.0.2.1:5000")
}

fn read_from(request: request::Builder, peer: &str) -> Attempt {
    let (head, ()) = request.body(()).unwrap().into_parts();
    let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
    let connection = Connection::without_certificate(peer.parse().unwrap(), None);
    Attempt::read(
        &head,
        &connection,
        &ReadRules { routes: &routes(), trusted: &trusted, target_bytes: 100 },
        7,
    )
}

fn reason(attempt: &Attempt) -> Option<Reason> {
    attempt.access.as_ref().err().map(|refusal| refusal.reason)
}

fn get(target: &str) -> request::Builder {
    Request::get(target).header("host", "app")
}

#[test]
fn a_plain_request_reads_as_its_canonical_form() {
    let attempt = read(get("/a%2Db?x=secret&y=&z&=q").header("host", "app").header("user-agent", "t"));
    assert_eq!(reason(&attempt), Some(Reason::Malformed(Malformed::HostRepeated)));
    let attempt = read(get("/a%2Db?x=secret&y=&z&=q"));
    let access = attempt.access.as_ref().unwrap();
    assert_eq!((&*access.route.service, access.host.as_str(), access.path.as_str()), ("app", "app", "/a-b"));
    assert_eq!(attempt.query_names().collect::<Vec<_>>(), ["x", "y", "z"]);
}

#[test]
fn what_has_no_one_reading_is_refused_by_name() {
    use Malformed as M;
    let post = |a: &str, b: &str| Request::post("/").header("host", "app").header(a, b);
    for (request, fault) in [
        (Request::get("/"), M::HostMissing),
        (Request::get("/").header("host", "a;for=1.2.3.4"), M::Host),
        (Request::get("http://other/admin").header("host", "app"), M::HostMismatch),
        (Request::get("http://app/"), M::HostMissing),
        (Request::get("http://u@app/").header("host", "app"), M::Host),
        (get("/public/../admin"), M::DotSegment),
        (get(&format!("/{}", "a".repeat(100))), M::TargetTooLong),
        (
            get("/").header("authorization", "Bearer a").header("authorization", "Bearer b"),
            M::AuthorizationRepeated,
        ),
        (post("content-length", "3").header("transfer-encoding", "chunked"), M::Framing),
        (post("transfer-encoding", "gzip, chunked"), M::Framing),
        (post("transfer-encoding", "chunked\t"), M::Framing),
        (post("transfer-encoding", "chunked").header("transfer-encoding", "chunked"), M::Framing),
        (post("transfer-encoding", "chunked").version(Version::HTTP_10), M::Framing),
        (post("content-length", "3").header("content-length", "3"), M::Framing),
        (post("content-length", "+3"), M::Framing),
        (post("expect", "200-maybe"), M::Expect),
    ] {
        let shown = format!("{request:?}");
        assert_eq!(reason(&read(request)), Some(Reason::Malformed(fault)), "{shown}");
    }
    for request in [
        Request::builder().method("CONNECT").uri("h:443"),
        Request::builder().method("OPTIONS").uri("*").header("host", "app"),
        Request::builder().method("TRACE").uri("/").header("host", "app"),
        Request::builder().method("FOO").uri("/").header("host", "app"),
    ] {
        assert_eq!(reason(&read(request)), Some(Reason::MethodNotAllowed));
    }
    assert_eq!(reason(&read(Request::get("/").header("host", "other"))), Some(Reason::NoService));
}

#[test]
fn absolute_form_that_agrees_with_host_is_accepted() {
    assert_eq!(reason(&read(Request::get("http://APP:80/x").header("host", "app."))), None);
}

#[test]
fn credentials_are_read_by_scheme_and_print_no_secret() {
    let credential = |value: &str| read(get("/").header("authorization", value)).credential;
    assert_eq!(read(get("/")).credential, Credential::None);
    for value in ["Bearer abc.def", "bearer abc.def", "BEARER   abc.def"] {
        let Credential::Bearer(token) = credential(value) else { panic!("{value}") };
        assert_eq!(token.as_str(), "abc.def");
        assert!(!format!("{token:?}").contains("abc"));
    }
    for value in ["Bearer", "Bearer ", "Bearer a b", "Bearer a,b", " x"] {
        assert_eq!(credential(value), Credential::Malformed, "{value}");
    }
    assert_eq!(credential("Basic dTpw"), Credential::Unsupported);
}

#[test]
fn a_clients_word_on_its_address_and_id_is_believed_only_behind_a_trusted_proxy() {
    let request =
        || get("/").header("x-forwarded-for", "203.0.113.9, 10.1.1.1").header("x-request-id", "mine");
    let direct = read(request());
    assert_eq!((direct.client.ip.to_string(), direct.client.port), ("192.0.2.1".into(), 5000));
    assert_eq!(direct.id.as_str(), format!("{:032x}", 7));
    let proxied = read_from(request(), "10.0.0.1:80");
    assert_eq!((proxied.client.ip.to_string(), proxied.client.port), ("203.0.113.9".into(), 0));
    assert_eq!(proxied.id.as_str(), "mine");
    let mapped = read_from(request(), "[::ffff:10.0.0.1]:80");
    assert_eq!(mapped.client.ip.to_string(), "203.0.113.9");
    let nonsense = read_from(get("/").header("x-forwarded-for", "1.2.3.4, unknown"), "10.0.0.1:80");
    assert_eq!(nonsense.client.ip.to_string(), "10.0.0.1");
}

#[test]
fn a_trace_is_carried_if_valid_and_begun_if_not() {
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let attempt = read(get("/").header("traceparent", valid));
    assert_eq!(attempt.trace.header(), valid);
    assert_eq!(attempt.trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    for bad in ["", "00-0-0-0", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "ff-x"] {
        let begun = read(get("/").header("traceparent", bad));
        assert!(is_traceparent(begun.trace.header().as_bytes()), "{bad}");
    }
}
