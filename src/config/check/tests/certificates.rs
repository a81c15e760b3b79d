use super::{ISSUER, LEAST, fault_after, faults, good};
use crate::access::certificate::{Certificates, Need, SubjectFrom};
use crate::config::settings::Subject;

const TLS: &str = "tls = { cert = \"a.pem\", key = \"b.pem\" }\n";

/// A configuration whose `client_certs` are these, with `service` in its service.
fn written(certs: &str, service: &str) -> String {
    format!("{LEAST}{service}\n[server]\n{TLS}client_certs = {{ {certs} }}\n")
}

#[test]
fn client_certificates_mean_what_they_say() {
    let settings = good(&written(
        "name = \"mtls\", ca_file = \"ca.pem\", subject = [\"spiffe\", \"cn\"], trust_domain = \"example.org\"",
        "client_cert = \"required\"\nsubject_from = \"certificate\"",
    ));
    let certs = settings.server.client_certs.unwrap();
    assert_eq!((certs.name.as_str(), certs.primary, certs.crl_files.len()), ("mtls", false, 0));
    assert_eq!(certs.subject, [Subject::Spiffe, Subject::CommonName]);
    assert_eq!(certs.ca_file, std::path::Path::new("etc/ca.pem"));
    let asked = Certificates { need: Need::Required, subject_from: SubjectFrom::Certificate };
    assert_eq!(settings.services[0].route.certificates, asked);
}

#[test]
fn what_is_missing_or_has_no_use_is_told() {
    let dns = "name = \"mtls\", ca_file = \"ca.pem\", subject = \"dns\"";
    for (text, expected) in [
        (
            written("name = \"mtls\", ca_file = \"ca.pem\"", ""),
            "client_certs.subject: missing; write subject =",
        ),
        (written("name = \"mtls\", subject = \"dns\"", ""), "client_certs.ca_file: missing; write ca_file ="),
        (written("ca_file = \"ca.pem\", subject = \"dns\"", ""), "client_certs.name: missing; write name ="),
        (
            written("name = \"mtls\", ca_file = \"ca.pem\", subject = \"spiffe\"", ""),
            "client_certs.trust_domain: missing; write trust_domain =",
        ),
        (written(&format!("{dns}, trust_domain = \"example.org\""), ""), "`subject` has no \"spiffe\""),
        (
            written(
                "name = \"mtls\", ca_file = \"ca.pem\", subject = \"spiffe\", trust_domain = \"spiffe://x\"",
                "",
            ),
            "\"spiffe://x\" is not a trust domain",
        ),
        (written("name = \"mtls\", ca_file = \"ca.pem\", subject = \"san\"", ""), "\"san\" is none of"),
        (written("name = \"mtls\", ca_file = \"ca.pem\", subject = []", ""), "is empty; write subject ="),
        (written(dns, "client_cert = \"must\""), "\"must\" is none of"),
        (written(dns, "subject_from = \"certificate\""), "this service asks for no certificate"),
        (written(dns, "").replace(TLS, ""), "has no use without TLS; write `tls ="),
        (
            format!("{}\n[admin]\nclient_cert = \"required\"\n", written(dns, "")),
            "has no use without TLS; write `tls =",
        ),
        (
            written(&dns.replace("mtls", "main"), "") + ISSUER,
            "\"main\" is the name of server.client_certs.name too",
        ),
        (
            format!("{}{ISSUER}primary = true\n", written(&format!("{dns}, primary = true"), "")),
            "server.client_certs is primary already",
        ),
        (format!("{LEAST}client_cert = \"optional\"\n"), "nobody says whose are good; write `client_certs ="),
        (format!("{LEAST}client_cert = \"required\"\n[server]\n{TLS}"), "nobody says whose are good"),
    ] {
        let told = faults(&text);
        assert!(told.lines().count() == 1 && told.contains(expected), "{told:?} should say {expected:?}");
    }
}

#[test]
fn who_is_primary_is_one_of_all_who_vouch() {
    let dns = "name = \"mtls\", ca_file = \"ca.pem\", subject = \"dns\"";
    let beside = good(&(written(dns, "") + ISSUER));
    assert!(beside.issuers[0].primary && !beside.server.client_certs.unwrap().primary);
    let before = good(&(written(&format!("{dns}, primary = true"), "") + ISSUER));
    assert!(!before.issuers[0].primary && before.server.client_certs.unwrap().primary);
}

#[test]
fn the_admin_api_is_not_open_to_other_machines_in_plain_text() {
    for open in ["0.0.0.0:9901", "[::]:9901", "192.0.2.1:9901"] {
        let told = fault_after(&format!("[admin]\nlisten = \"{open}\""));
        assert!(told.contains("loopback") && told.contains("tls = {"), "{told}");
        good(&format!("{LEAST}[admin]\nlisten = \"{open}\"\n{TLS}"));
    }
    for closed in ["127.0.0.1:9901", "127.8.8.8:9901", "[::1]:9901", "[::ffff:127.0.0.1]:9901"] {
        good(&format!("{LEAST}[admin]\nlisten = \"{closed}\""));
    }
}
