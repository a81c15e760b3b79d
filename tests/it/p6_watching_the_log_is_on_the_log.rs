//! P6: calls to the admin API pass the same gate, the same policy and the same log.

use crate::support::{Act, Setup, Signer, Upstream};

const VIEWS: [&str; 5] = ["/v1/records", "/v1/records/0", "/checkpoint", "/v1/policy", "/v1/status"];

#[test]
fn each_read_of_the_log_is_a_record() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let token = Signer::usual().token("carol", &["auditor"]);
    for view in VIEWS {
        let answer = gate.admin().get(view, Some(&token));
        assert_eq!(answer.status, 200, "{view}: {}", answer.text());
        let record = gate.record(answer.record());
        assert_eq!(record["decision"], "allow");
        assert_eq!(record["request"]["service"], "admin");
        assert_eq!(record["request"]["path"], view);
        assert_eq!(record["identity"]["user"], "user:carol");
        let outcome = gate.outcome_of(answer.record());
        assert_eq!((&outcome["result"], &outcome["status"]), (&"completed".into(), &200.into()));
    }
    gate.stop().verify();
}

#[test]
fn only_who_may_read_the_log_reads_it() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let admin = Signer::usual().token("erin", &["admin"]);
    for view in VIEWS {
        for (token, status) in [(None, 401), (Some(admin.as_str()), 403), (Some("x.y.z"), 401)] {
            let answer = gate.admin().get(view, token);
            assert_eq!(answer.status, status, "{view}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            let record = gate.record(answer.record());
            assert_eq!(
                (&record["decision"], &record["request"]["service"]),
                (&"deny".into(), &"admin".into())
            );
        }
    }
    gate.stop().verify();
}

#[test]
fn the_admin_api_is_not_to_be_reached_through_the_front() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let token = Signer::usual().token("carol", &["auditor"]);
    for view in VIEWS {
        let answer = gate.client().get(view, Some(&token));
        assert_eq!(answer.status, 403, "{view}");
        assert_eq!(gate.record(answer.record())["request"]["service"], "app");
    }
    // Nor a service through the admin listener.
    assert_eq!(gate.admin().get("/public/x", None).status, 401);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn health_answers_without_a_credential_and_without_a_record() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let before = gate.records().len();
    for (path, expected) in [("/livez", "ok"), ("/readyz", "\"ready\":true"), ("/metrics", "# TYPE")] {
        let answer = gate.health().get(path, None);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text().contains(expected), "{path}: {}", answer.text());
    }
    assert_eq!(gate.health().get("/v1/records", None).status, 404);
    assert_eq!(gate.records().len(), before);
}
