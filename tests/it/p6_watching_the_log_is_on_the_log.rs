//! P6: calls to the admin API pass the same gate, the same policy and the same log.

use serde_json::{Value, json};

use crate::support::{Act, Setup, Signer, Upstream};

const VIEWS: [&str; 6] =
    ["/v1/records", "/v1/records/0", "/v1/records/0/proof", "/checkpoint", "/v1/policy", "/v1/status"];

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

const CANDIDATE_MODEL: &str = "[request_definition]\nr = sub, obj\n[policy_definition]\np = sub, obj\n\
    [policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\nm = keyMatch(r.obj, p.obj)\n";

#[test]
fn an_explanation_is_a_record_and_puts_nothing_in_force() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let token = Signer::usual().token("carol", &["auditor"]);
    let in_force = || gate.admin().get("/v1/policy", Some(&token)).json();
    let ask = |question: &Value| gate.admin().post("/v1/policy/explain", Some(&token), question.to_string());
    let before = in_force();
    assert_eq!(gate.client().get("/admin/x", None).status, 401);

    let call =
        json!({ "user": "user:someone-asked-about", "service": "app", "method": "GET", "path": "/admin/x" });
    let answer = ask(&call);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert_eq!((&told["decision"], &told["in_force"]), (&"deny".into(), &true.into()));
    assert_eq!(told["policy"], before["epoch"]);
    assert!(told["near"][0]["failed"][0]["text"].as_str().unwrap().contains("role:admin"), "{told}");

    let mut tried = call;
    tried["candidate"] = json!({ "model": CANDIDATE_MODEL, "policies": ["p, everybody, /*\n"] });
    let answer = ask(&tried);
    let told = answer.json();
    assert_eq!((&told["decision"], &told["in_force"]), (&"allow".into(), &false.into()), "{told}");
    assert_eq!((&told["rule"]["file"], &told["rule"]["line"]), (&"candidate.policies[0]".into(), &1.into()));
    assert_ne!(told["policy"], before["epoch"]);
    let record = gate.record(answer.record());
    assert_eq!(
        (&record["decision"], &record["request"]["path"]),
        (&"allow".into(), &"/v1/policy/explain".into())
    );
    assert_eq!((&record["request"]["method"], &record["policy"]), (&"POST".into(), &before["epoch"]));
    assert_eq!(record["identity"]["user"], "user:carol");
    gate.outcome_of(answer.record());

    assert_eq!(in_force(), before, "what was tried is not in force");
    assert_eq!(gate.client().get("/admin/x", None).status, 401);
    let records = gate.records();
    assert!(records.iter().filter(|record| record["kind"] == "policy").count() <= 1, "nothing was loaded");
    let all = records.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains("everybody") && !all.contains("someone-asked-about"), "no body is on record");
    gate.stop().verify();
}

#[test]
fn an_explanation_is_for_those_the_policy_lets_ask() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let admin = Signer::usual().token("erin", &["admin"]);
    let question = r#"{"service":"app","method":"GET","path":"/"}"#;
    for (token, status) in [(None, 401), (Some(admin.as_str()), 403)] {
        let answer = gate.admin().post("/v1/policy/explain", token, question);
        assert_eq!(answer.status, status);
        assert_eq!(gate.record(answer.record())["decision"], "deny");
        assert!(!answer.text().contains("conditions_told"));
    }
    gate.stop().verify();
}

#[test]
fn a_question_that_cannot_be_answered_is_a_problem_and_a_record() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let token = Signer::usual().token("carol", &["auditor"]);
    let broken = json!({
        "service": "app", "method": "GET", "path": "/",
        "candidate": { "model": CANDIDATE_MODEL, "policies": ["", "p, a\n"] },
    });
    for (question, status, told) in [
        ("what?".to_owned(), 400, "expected a JSON object"),
        (broken.to_string(), 422, "candidate.policies[1]:1:1: `p` takes 2 fields"),
        (format!("\"{}\"", "x".repeat(1 << 20)), 413, ""),
    ] {
        let answer = gate.admin().post("/v1/policy/explain", Some(&token), question);
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.text().contains(told), "{}", answer.text());
        assert_eq!(gate.record(answer.record())["request"]["path"], "/v1/policy/explain");
    }
    gate.stop().verify();
}
