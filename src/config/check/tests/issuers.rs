use super::{ISSUER, LEAST, fault_after, good};

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
