//! Callers with certificates: who must show one, whom it proves, and what becomes of it when files change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::support::mutual::{Authority, Caller, Leaf, Says};
use crate::support::{Act, Gate, Setup, Signer, Site, Upstream, until};

const WEB: &str = "spiffe://example.org/ns/a/sa/web";

/// Rows for the hosts of [`mtls`]: whoever is called as these tests call them may pass.
const ROWS: &str = "\
p, anonymous, app, /public/*, .*, allow
p, anonymous, optional, /public/*, .*, allow
p, anonymous, required, /public/*, .*, allow
p, user:mtls:spiffe://example.org/ns/a/sa/web, optional, /web/*, .*, allow
p, user:mtls:spiffe://example.org/ns/a/sa/web, required, /web/*, .*, allow
p, user:mtls:spiffe://example.org/ns/a/sa/web, required-too, /web/*, .*, allow
p, user:mtls:spiffe://example.org/ns/a/sa/web, by-certificate, /web/*, .*, allow
p, user:mtls:db.example.org, required, /web/*, .*, allow
p, user:mtls:batch job, required, /web/*, .*, allow
p, user:alice, optional, /alice/*, .*, allow
p, user:alice, by-certificate, /alice/*, .*, allow
p, role:viewer, by-certificate, /roles/*, .*, allow
p, role:auditor, admin, /v1/*, .*, allow
";

/// A gate with services that ask for certificates, and one (`app`, for every other host) that does not.
fn mtls(upstream: &Upstream, authority: &Authority, certs: &str) -> Arc<Site> {
    let service = |name: &str, lines: &str| {
        let at = upstream.address;
        format!(
            "[[service]]\nname = \"{name}\"\nhosts = [\"{name}.example.org\"]\nupstreams = [\"http://{at}\"]\nrecords = {{ collapse = false }}\n{lines}\n"
        )
    };
    let services = [
        service("optional", "client_cert = \"optional\""),
        service("required", "client_cert = \"required\""),
        service("required-too", "client_cert = \"required\"\ncors = { mode = \"forward\" }"),
        service("by-certificate", "client_cert = \"optional\"\nsubject_from = \"certificate\""),
    ];
    let server = format!(
        "client_certs = {{ name = \"mtls\", ca_file = \"clients.pem\", subject = [\"spiffe\", \"dns\", \"cn\"], \
         trust_domain = \"example.org\"{certs} }}"
    );
    let setup = Setup::new(upstream)
        .tls()
        .service("records = { collapse = false }")
        .server(&server)
        .services(&services.concat())
        .policy(ROWS);
    let site = setup.site_without_log();
    std::fs::write(site.path("clients.pem"), &authority.pem).unwrap();
    site
}

fn started(site: &Arc<Site>) -> Gate {
    portcullis::app::create_log(&site.settings()).unwrap_or_else(|error| panic!("{error}"));
    site.start()
}

fn web(authority: &Authority) -> Leaf {
    authority.sign(&Says { serial: 7, uris: &[WEB], common: &["web"], ..Says::default() })
}

/// The same caller by HTTP/1.1 and by HTTP/2.
fn both<'a>(gate: &Gate, sni: &'a str, shows: Option<&'a Leaf>) -> [Caller<'a>; 2] {
    [false, true].map(|http2| Caller { address: gate.front, http2, sni, shows })
}

#[test]
fn a_certificate_proves_its_caller_where_it_is_asked_for() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let gate = started(&mtls(&upstream, &authority, ""));
    let leaf = web(&authority);
    for host in ["optional.example.org", "required.example.org"] {
        for caller in both(&gate, host, Some(&leaf)) {
            let answer = caller.get("/web/x", None).unwrap();
            assert_eq!(answer.status, 200, "{host}");
            let record = gate.record(answer.record());
            let identity = &record["identity"];
            assert_eq!(identity["user"], format!("user:mtls:{WEB}"), "{record}");
            assert_eq!((&identity["method"], &identity["issuer"]), (&"mtls".into(), &"mtls".into()));
            assert_eq!(identity["certificate"]["serial"], "07");
            assert_eq!(identity["certificate"]["sha256"].as_str().unwrap().len(), 64);
            assert!(identity["also"].is_null());
            let seen = upstream.seen().pop().unwrap();
            assert_eq!(seen.headers["x-auth-subject"], format!("mtls:{WEB}"));
        }
    }
    // Where it is not asked for, it says nothing.
    for caller in both(&gate, "elsewhere.example.org", Some(&leaf)) {
        let answer = caller.get("/public/x", None).unwrap();
        assert_eq!(answer.status, 200);
        let record = gate.record(answer.record());
        assert_eq!(record["identity"]["state"], "anonymous");
        assert!(record["identity"]["certificate"].is_null());
    }
    gate.stop().verify();
}

#[test]
fn without_a_certificate_nobody_passes_where_one_is_required() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let gate = started(&mtls(&upstream, &authority, ""));
    let token = Signer::usual().token("alice", &["viewer"]);
    for caller in both(&gate, "required.example.org", None) {
        for token in [None, Some(token.as_str())] {
            let answer = caller.get("/public/x", token).unwrap();
            assert_eq!((answer.status, answer.header("www-authenticate")), (403, None));
            let record = gate.record(answer.record());
            assert_eq!(
                (&record["decision"], &record["reason"]),
                (&"deny".into(), &"credential_certificate_missing".into())
            );
        }
    }
    // Not even a preflight that would be forwarded.
    let preflight = [("origin", "https://a.example.org"), ("access-control-request-method", "PUT")];
    for caller in both(&gate, "required-too.example.org", None) {
        let mut kept = caller.connect().unwrap();
        let answer = kept.call("OPTIONS", "required-too.example.org", "/public/x", None, &preflight).unwrap();
        assert_eq!(answer.status, 403);
    }
    assert_eq!(upstream.count(), 0);
    for caller in both(&gate, "optional.example.org", None) {
        assert_eq!(caller.get("/public/x", None).unwrap().status, 200);
        assert_eq!(caller.get("/alice/x", Some(&token)).unwrap().status, 200);
        assert_eq!(caller.get("/web/x", None).unwrap().status, 401);
    }
    gate.stop().verify();
}

#[test]
fn a_certificate_that_does_not_hold_ends_the_connection_even_where_none_is_required() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let site = mtls(&upstream, &authority, ", crl_files = [\"crl.pem\"]");
    std::fs::write(site.path("crl.pem"), authority.revokes(&[66], 2100)).unwrap();
    let gate = started(&site);
    let good = Says { serial: 7, uris: &[WEB], ..Says::default() };
    let bad = [
        // Another authority of the same name.
        Authority::new("clients").sign(&good),
        authority.sign(&Says { ended: Some(2021), ..good.clone() }),
        authority.sign(&Says { serial: 66, ..good.clone() }),
        authority.sign(&Says { server: true, ..good.clone() }),
        // No list says anything about what this one has signed.
        authority.below("below").sign(&good),
    ];
    for (number, leaf) in bad.iter().enumerate() {
        for host in ["optional.example.org", "required.example.org"] {
            for caller in both(&gate, host, Some(leaf)) {
                assert!(caller.get("/public/x", None).is_err(), "{number}");
            }
        }
    }
    assert_eq!(upstream.count(), 0);
    let good = authority.sign(&good);
    for caller in both(&gate, "required.example.org", Some(&good)) {
        assert_eq!(caller.get("/web/x", None).unwrap().status, 200);
    }
    // They are counted, and the sum is on the log.
    let site = gate.stop();
    site.verify();
    let sum = site.records().into_iter().find(|record| record["event"] == "tls_handshake").unwrap();
    assert_eq!(sum["count"], 2 * 2 * bad.len());
}

#[test]
fn a_list_of_revocations_that_has_run_out_lets_nobody_in() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let site = mtls(&upstream, &authority, ", crl_files = [\"crl.pem\"]");
    std::fs::write(site.path("crl.pem"), authority.revokes(&[], 2021)).unwrap();
    let gate = started(&site);
    let leaf = web(&authority);
    for caller in both(&gate, "required.example.org", Some(&leaf)) {
        assert!(caller.get("/web/x", None).is_err());
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_subject_is_one_name_or_the_certificate_proves_nobody() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let gate = started(&mtls(&upstream, &authority, ""));
    let none = Says::default();
    for (says, user) in [
        (
            Says { uris: &[WEB], dns: &["db.example.org"], ..none.clone() },
            Some("spiffe://example.org/ns/a/sa/web"),
        ),
        (Says { dns: &["DB.example.org"], common: &["batch job"], ..none.clone() }, Some("db.example.org")),
        (Says { common: &["batch job"], ..none.clone() }, Some("batch job")),
        (
            Says { uris: &["https://example.org/x"], common: &["batch job"], ..none.clone() },
            Some("batch job"),
        ),
        (Says { uris: &[WEB, "spiffe://example.org/other"], ..none.clone() }, None),
        (Says { uris: &[WEB, "https://example.org/x"], ..none.clone() }, None),
        (
            Says { uris: &["spiffe://example.net/ns/a/sa/web"], dns: &["db.example.org"], ..none.clone() },
            None,
        ),
        (Says { uris: &["spiffe://example.org"], ..none.clone() }, None),
        (Says { dns: &["db.example.org", "web.example.org"], ..none.clone() }, None),
        (Says { dns: &["*.example.org"], ..none.clone() }, None),
        (Says { common: &[WEB], ..none.clone() }, None),
        (none.clone(), None),
    ] {
        let leaf = authority.sign(&says);
        for caller in both(&gate, "required.example.org", Some(&leaf)) {
            let answer = caller.get("/web/x", None).unwrap();
            let record = gate.record(answer.record());
            match user {
                Some(user) => assert_eq!(record["identity"]["user"], format!("user:mtls:{user}"), "{record}"),
                None => {
                    assert_eq!(answer.status, 403);
                    assert_eq!(record["reason"], "credential_certificate_subject", "{record}");
                    assert!(record["identity"]["certificate"].is_object(), "{record}");
                    // Nor does a good token make up for it.
                    let token = Signer::usual().token("alice", &[]);
                    assert_eq!(caller.get("/public/x", Some(&token)).unwrap().status, 403);
                }
            }
        }
    }
    gate.stop().verify();
}

#[test]
fn a_host_that_asks_otherwise_than_the_handshakes_is_misdirected() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let gate = started(&mtls(&upstream, &authority, ""));
    let leaf = web(&authority);
    let token = Signer::usual().token("alice", &[]);
    for shows in [None, Some(&leaf)] {
        for (sni, host) in [
            ("public.example.org", "required.example.org"),
            ("public.example.org", "optional.example.org"),
            ("optional.example.org", "required.example.org"),
            ("required.example.org", "public.example.org"),
            ("required.example.org", "optional.example.org"),
        ] {
            for caller in both(&gate, sni, shows) {
                let mut kept = caller.connect().unwrap();
                for host in [host.to_owned(), host.to_uppercase(), format!("{host}.")] {
                    let answer = kept.get(&host, "/public/x", Some(&token)).unwrap();
                    assert_eq!(answer.status, 421, "{sni} and {host}");
                    let record = gate.record(answer.record());
                    assert_eq!(
                        (&record["decision"], &record["reason"]),
                        (&"deny".into(), &"misdirected".into())
                    );
                    assert_eq!(
                        record["identity"]["certificate"].is_object(),
                        shows.is_some() && sni != "public.example.org"
                    );
                }
            }
        }
    }
    assert_eq!(upstream.count(), 0);
    // What leads to the same is fine, whatever its name.
    for caller in both(&gate, "required.example.org", Some(&leaf)) {
        let mut kept = caller.connect().unwrap();
        assert_eq!(kept.get("required-too.example.org", "/web/x", None).unwrap().status, 200);
        assert_eq!(kept.get("required.example.org", "/web/x", None).unwrap().status, 200);
    }
    for caller in both(&gate, "public.example.org", None) {
        assert_eq!(
            caller.connect().unwrap().get("other.example.org", "/public/x", None).unwrap().status,
            200
        );
    }
    // A handshake that names no host is asked for a certificate, as any service might want one.
    for caller in both(&gate, "127.0.0.1", Some(&leaf)) {
        let mut kept = caller.connect().unwrap();
        assert_eq!(kept.get("required.example.org", "/web/x", None).unwrap().status, 200);
        assert_eq!(kept.get("public.example.org", "/public/x", None).unwrap().status, 200);
    }
    for caller in both(&gate, "127.0.0.1", None) {
        assert_eq!(
            caller.connect().unwrap().get("required.example.org", "/web/x", None).unwrap().status,
            403
        );
    }
    gate.stop().verify();
}

#[test]
fn of_certificate_and_token_the_service_says_which_names_the_caller_and_both_are_recorded() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let gate = started(&mtls(&upstream, &authority, ""));
    let leaf = web(&authority);
    let token = Signer::usual().token("alice", &["viewer"]);
    let bad = format!("{}x", Signer::new("ES256", "usual").token("alice", &["viewer"]));
    for (host, path, user, other, method) in [
        ("optional.example.org", "/alice/x", "user:alice".to_owned(), format!("user:mtls:{WEB}"), "mtls"),
        ("by-certificate.example.org", "/web/x", format!("user:mtls:{WEB}"), "user:alice".to_owned(), "jwt"),
    ] {
        for caller in both(&gate, host, Some(&leaf)) {
            let answer = caller.get(path, Some(&token)).unwrap();
            assert_eq!(answer.status, 200, "{host}");
            let record = gate.record(answer.record());
            let identity = &record["identity"];
            assert_eq!(identity["user"], user, "{record}");
            assert_eq!(
                (&identity["also"]["user"], &identity["also"]["method"]),
                (&other.clone().into(), &method.into())
            );
            assert_eq!(identity["certificate"]["serial"], "07");
            // A bad token is not made good by a certificate.
            let answer = caller.get(path, Some(&bad)).unwrap();
            assert_eq!(answer.status, 401, "{host}");
            let record = gate.record(answer.record());
            assert_eq!(record["identity"]["state"], "failed");
            assert_eq!(record["identity"]["certificate"]["serial"], "07");
        }
    }
    for caller in both(&gate, "by-certificate.example.org", Some(&leaf)) {
        // The token's roles are its own caller's.
        assert_eq!(caller.get("/roles/x", Some(&token)).unwrap().status, 403);
        assert_eq!(caller.get("/alice/x", Some(&token)).unwrap().status, 403);
    }
    for caller in both(&gate, "by-certificate.example.org", None) {
        // Where only one is shown, it names the caller.
        assert_eq!(caller.get("/roles/x", Some(&token)).unwrap().status, 200);
    }
    gate.stop().verify();
}

#[test]
fn a_certificate_that_is_revoked_proves_nobody_on_connections_that_are_there() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let site = mtls(&upstream, &authority, ", crl_files = [\"crl.pem\"]");
    std::fs::write(site.path("crl.pem"), authority.revokes(&[], 2100)).unwrap();
    let gate = started(&site);
    let (leaf, other) =
        (web(&authority), authority.sign(&Says { serial: 8, uris: &[WEB], ..Says::default() }));
    let mut kept: Vec<_> = [&leaf, &other]
        .into_iter()
        .flat_map(|leaf| both(&gate, "required.example.org", Some(leaf)))
        .map(|caller| (caller.config(), caller))
        .map(|(config, caller)| (caller.connect_by(&config).unwrap(), config, caller))
        .collect();
    for (kept, ..) in &mut kept {
        assert_eq!(kept.get("required.example.org", "/web/x", None).unwrap().status, 200);
    }
    std::fs::write(site.path("crl.pem"), authority.revokes(&[7], 2100)).unwrap();
    gate.record_where("the list to be loaded", |record| record["event"] == "certificates_loaded");
    until("the revoked one to be refused", || {
        kept[0].0.get("required.example.org", "/web/x", None).unwrap().status == 403
    });
    for (kept, config, caller) in &mut kept {
        // No connection has ended.
        let answer = kept.get("required.example.org", "/web/x", None).unwrap();
        // And no session can be resumed past it.
        let again =
            caller.connect_by(config).and_then(|mut kept| kept.get("required.example.org", "/web/x", None));
        if caller.shows.unwrap().serial == 7 {
            assert_eq!(answer.status, 403);
            assert_eq!(gate.record(answer.record())["reason"], "credential_certificate_rejected");
            assert!(again.is_err());
        } else {
            assert_eq!((answer.status, again.unwrap().status), (200, 200));
        }
    }
    gate.stop().verify();
}

#[test]
fn certificates_are_loaded_anew_under_load_without_a_dropped_connection() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let site = mtls(&upstream, &authority, "");
    let gate = started(&site);
    let next = Authority::new("next");
    let (leaf, later) = (web(&authority), web(&next));
    let server =
        Authority::new("servers").sign(&Says { server: true, dns: &["localhost"], ..Says::default() });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = both(&gate, "required.example.org", Some(&leaf))
            .into_iter()
            .chain(both(&gate, "public.example.org", None))
            .map(|caller| {
                let done = &done;
                scope.spawn(move || {
                    let mut kept = caller.connect().unwrap();
                    let path = if caller.shows.is_some() { "/web/x" } else { "/public/x" };
                    let mut calls = 0;
                    while !done.load(Ordering::Relaxed) || calls < 10 {
                        let answer = kept.get(caller.sni, path, None).expect("the connection stays");
                        assert_eq!(answer.status, 200);
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        // Both authorities for a while, as one would change them.
        std::fs::write(site.path("clients.pem"), [authority.pem.as_str(), &next.pem].concat()).unwrap();
        gate.record_where("the authorities", |record| record["event"] == "certificates_loaded");
        // A key that is not the certificate's, for a moment: the old pair serves on.
        std::fs::write(site.path("cert.pem"), &server.pem).unwrap();
        let refused = gate
            .record_where("the refusal", |record| record["kind"] == "config" && record["event"] == "refused");
        assert!(refused["error"].as_str().unwrap().contains("cert.pem"), "{refused}");
        let detail = gate.health().get("/readyz", None).json();
        assert!(
            detail["certificates"]["refused"]["message"].as_str().unwrap().contains("cert.pem"),
            "{detail}"
        );
        for caller in both(&gate, "required.example.org", Some(&later)) {
            assert_eq!(caller.get("/web/x", None).unwrap().status, 200);
        }
        std::fs::write(site.path("key.pem"), &server.key_pem).unwrap();
        let shown = CertificateDer::from_pem_slice(server.pem.as_bytes()).unwrap();
        until("the new certificate", || {
            both(&gate, "public.example.org", None)
                .iter()
                .all(|caller| caller.connect().unwrap().server == shown)
        });
        until("the refusal to be over", || {
            gate.health().get("/readyz", None).json()["certificates"]["refused"].is_null()
        });
        done.store(true, Ordering::Relaxed);
        for caller in callers {
            assert!(caller.join().unwrap() >= 10);
        }
    });
    gate.stop().verify();
}

#[test]
fn an_authority_that_is_no_longer_trusted_proves_nobody_and_sighup_may_turn_certificates_on() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let site = mtls(&upstream, &authority, "");
    let gate = started(&site);
    let leaf = web(&authority);
    let [caller, _] = both(&gate, "required.example.org", Some(&leaf));
    let mut kept = caller.connect().unwrap();
    assert_eq!(kept.get("required.example.org", "/web/x", None).unwrap().status, 200);
    std::fs::write(site.path("clients.pem"), &Authority::new("next").pem).unwrap();
    until("it to be refused", || kept.get("required.example.org", "/web/x", None).unwrap().status == 403);
    assert!(caller.get("/web/x", None).is_err());
    // A service that asks from now on: a connection that was not asked goes elsewhere.
    std::fs::write(site.path("clients.pem"), &authority.pem).unwrap();
    let [caller, _] = both(&gate, "app.example.org", Some(&leaf));
    let mut kept = caller.connect().unwrap();
    assert_eq!(kept.get("app.example.org", "/public/x", None).unwrap().status, 200);
    gate.edit_config("name = \"app\"", "name = \"app\"\nclient_cert = \"optional\"");
    gate.signal("HUP");
    until("it to be sent elsewhere", || {
        kept.get("app.example.org", "/public/x", None).unwrap().status == 421
    });
    let answer = caller.get("/public/x", None).unwrap();
    assert_eq!(answer.status, 403);
    assert_eq!(gate.record(answer.record())["identity"]["method"], "mtls");
    gate.stop().verify();
}

#[test]
fn a_gate_does_not_start_on_certificates_that_do_not_hold() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let site = mtls(&upstream, &authority, ", crl_files = [\"crl.pem\"]");
    std::fs::write(site.path("crl.pem"), authority.revokes(&[], 2100)).unwrap();
    portcullis::app::create_log(&site.settings()).unwrap_or_else(|error| panic!("{error}"));
    for (file, text) in [("crl.pem", authority.pem.as_str()), ("clients.pem", ""), ("key.pem", "no key")] {
        let before = std::fs::read(site.path(file)).unwrap();
        std::fs::write(site.path(file), text).unwrap();
        let (status, said) = site.refuses_to_start();
        assert_eq!(status.code(), Some(2), "{file}");
        assert!(said.contains(file), "{said}");
        let checked = site.command(&["check", "--config", "gate.toml"]);
        assert!(String::from_utf8_lossy(&checked.stdout).contains(file));
        std::fs::write(site.path(file), before).unwrap();
    }
    site.start().stop().verify();
}

#[test]
fn the_admin_listener_asks_for_certificates_as_services_do() {
    let (upstream, authority) = (Upstream::start(Act::Answer), Authority::new("clients"));
    let site = mtls(&upstream, &authority, "");
    site.edit_config(
        "[admin]\n",
        "[admin]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\nclient_cert = \"required\"\n",
    );
    let rows = format!("{ROWS}p, user:mtls:{WEB}, admin, /v1/status, GET, allow\n");
    std::fs::write(site.path("policy.csv"), rows).unwrap();
    let gate = started(&site);
    let (leaf, auditor) = (web(&authority), Signer::usual().token("alice", &["auditor"]));
    let of = |http2, shows| Caller { address: gate.admin, http2, sni: "admin.example.org", shows };
    for http2 in [false, true] {
        // A certificate proves its caller; what it may see is policy.
        let answer = of(http2, Some(&leaf)).get("/v1/status", None).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(gate.record(answer.record())["identity"]["user"], format!("user:mtls:{WEB}"));
        assert_eq!(of(http2, Some(&leaf)).get("/v1/records", None).unwrap().status, 403);
        // A token alone is not enough, and beside a certificate it names the caller.
        let answer = of(http2, None).get("/v1/status", Some(&auditor)).unwrap();
        assert_eq!(answer.status, 403);
        assert_eq!(gate.record(answer.record())["reason"], "credential_certificate_missing");
        let answer = of(http2, Some(&leaf)).get("/v1/records", Some(&auditor)).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(gate.record(answer.record())["identity"]["user"], "user:alice");
    }
}
