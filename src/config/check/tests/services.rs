use super::{LEAST, fault_after, faults, good, message, with};

#[test]
fn a_service_asks_for_assertions_only_where_there_is_a_key() {
    let asking = format!("{LEAST}assertion = true\n");
    assert_eq!(
        message(&faults(&asking)),
        "service[0].assertion: has no key to sign with; write `[assertion]` with key_file = \
         \"../data/keys/assertion.pem\", as `portcullis keygen --assertion` makes it"
    );
    assert_eq!(good(&format!("{LEAST}assertion = false\n")).assertion, None);
    let settings = good(&format!("{asking}[assertion]\nkey_file = \"a.pem\"\n"));
    assert!(settings.services[0].assertion);
    assert_eq!(settings.assertion.unwrap().lifetime.as_secs(), 30);
    let lifetime = |text: &str| {
        message(&faults(&format!("{asking}[assertion]\nkey_file = \"a.pem\"\nlifetime = {text:?}\n")))
    };
    assert!(lifetime("6m").contains("from \"1s\" to \"5m\""), "{}", lifetime("6m"));
    assert!(lifetime("1500ms").contains("whole seconds"), "{}", lifetime("1500ms"));
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
fn what_records_leave_out_is_read_whole_or_refused() {
    for bad in ["", "/", "/a", "a/{}", "/a{}", "/a/*/{}", "/**"] {
        assert_eq!(
            fault_after(&format!("redact = [{bad:?}]")),
            format!(
                "service[0].redact[0]: {bad:?} is not a pattern; write whole segments, `{{}}` for those that are \
                 secrets, like \"/invite/{{}}/accept\" or \"/reset/{{}}/**\""
            )
        );
    }
    let service = good(&format!("{LEAST}redact = [\"/invite/{{}}/accept\"]")).services.remove(0);
    assert_eq!(service.route.recording.redact[0].to_string(), "/invite/{}/accept");
    assert_eq!(
        fault_after("records = { detail = \"most\" }"),
        "service[0].records.detail: \"most\" is none of `minimal`, `standard`, `full`; write one of those"
    );
}

#[test]
fn a_health_check_comes_from_somewhere_and_asks_for_something() {
    assert_eq!(
        fault_after("health_checks = { paths = [\"/healthz\"] }"),
        "service[0].health_checks.networks: missing; write networks = [\"10.0.0.0/8\"]"
    );
    assert_eq!(
        fault_after("health_checks = { networks = [\"10.0.0.0/8\"], paths = [] }"),
        "service[0].health_checks.paths: is empty; write paths = [\"/healthz\"]"
    );
    let with = |more: &str| {
        fault_after(&format!("health_checks = {{ networks = [\"::1\"], paths = [\"/healthz\"], {more} }}"))
    };
    assert_eq!(
        with("user_agents = [\"*probe\"]"),
        "service[0].health_checks.user_agents[0]: \"*probe\" has a `*` before its end; write the beginning of the \
         agent's name, like \"kube-probe/*\""
    );
}
