//! Claims about explanations.

use proptest::prelude::*;

use super::*;
use crate::access::Decision;
use crate::policy::{PathForms, Text};

const RBAC: &str = "r.dom == p.dom && g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && regexMatch(r.act, p.act)";
const ROWS: &str = "p, role:viewer, app, /docs/*, GET|HEAD, allow\n\
    p, role:editor, app, /docs/*, POST|PUT, allow\n\
    p, role:suspended, app, /*, .*, deny\n\
    p, role:viewer, other, /docs/*, GET, allow\n\
    g, role:editor, role:viewer\n\
    g, user:dana, role:editor\n\
    g, role:viewer, role:all\n";

fn policy(matcher: &str, roles: &str, rows: &str) -> Policy {
    policy_of("some(where (p.eft == allow)) && !some(where (p.eft == deny))", matcher, roles, rows)
}

fn policy_of(effect: &str, matcher: &str, roles: &str, rows: &str) -> Policy {
    let model = format!(
        "[request_definition]\nr = sub, dom, obj, act\n[policy_definition]\np = sub, dom, obj, act, eft\n\
         [role_definition]\n{roles}\n[policy_effect]\n\
         e = {effect}\n[matchers]\nm = {matcher}\n"
    );
    let text = |name: &str, text: &str| Text { name: name.into(), text: text.into() };
    Policy::load_text(&text("model.conf", &model), &[text("policy.csv", rows)], PathForms::default()).unwrap()
}

fn call(user: &str, roles: &[&str], method: &str, path: &str) -> Call {
    Call {
        user: user.into(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        service: "app".into(),
        method: method.into(),
        path: path.into(),
        host: String::new(),
        ip: std::net::Ipv4Addr::LOCALHOST.into(),
    }
}

fn explain(policy: &Policy, call: Call) -> Explanation {
    Explanation::of(policy, call, Tolerance::default(), 5)
}

/// Rows by their lines.
fn lines(rules: impl Iterator<Item = u32>) -> Vec<u32> {
    rules.collect()
}

#[test]
fn a_role_is_shown_with_the_rows_that_lead_to_it() {
    let told = explain(&policy(RBAC, "g = _, _", ROWS), call("user:dana", &["role:x"], "GET", "/docs/a"));
    let [names] = told.names.as_slice() else { panic!("{:?}", told.names) };
    assert_eq!((names.definition.as_str(), names.name.as_str()), ("g", "user:dana"));
    let ways: Vec<(&str, Vec<Option<u32>>)> = names
        .roles
        .iter()
        .map(|held| {
            (held.role.as_str(), held.by.iter().map(|link| link.row.as_ref().map(|row| row.line)).collect())
        })
        .collect();
    let expected = vec![
        ("role:x", vec![None]),
        ("role:editor", vec![Some(6)]),
        ("role:viewer", vec![Some(6), Some(5)]),
        ("role:all", vec![Some(6), Some(5), Some(7)]),
    ];
    assert_eq!(ways, expected);
}

#[test]
fn roles_are_shown_as_far_as_the_policy_follows_them() {
    let chain: String = (0..20).map(|at| format!("g, role:{at}, role:{}\n", at + 1)).collect();
    let policy = policy(RBAC, "g = _, _", &format!("p, role:20, app, /*, GET, allow\n{chain}"));
    let told = explain(&policy, call("role:0", &[], "GET", "/docs"));
    assert_eq!(told.names[0].roles.last().unwrap().role, "role:9", "ten levels, the first of them itself");
    assert_eq!(told.names[0].roles.len(), 9);
}

#[test]
fn roles_of_another_domain_are_not_shown() {
    let rows = "p, role:viewer, app, /*, GET, allow\ng, user:a, role:viewer, other\ng, user:a, role:b, app\n";
    let matcher = "g(r.sub, p.sub, r.dom) && r.dom == p.dom && keyMatch(r.obj, p.obj) && r.act == p.act";
    let told = explain(&policy(matcher, "g = _, _, _", rows), call("user:a", &[], "GET", "/docs"));
    let [names] = told.names.as_slice() else { panic!("{:?}", told.names) };
    assert_eq!(names.domain.as_deref(), Some("app"));
    assert_eq!(names.roles.iter().map(|held| held.role.as_str()).collect::<Vec<_>>(), ["role:b"]);
    let text = &told.near[0].failed[0].text;
    assert_eq!(text, "sub: user:a neither is nor has role:viewer in app");
}

#[test]
fn every_row_that_matches_is_told_and_the_one_that_decided_is_the_policys() {
    let policy = policy(RBAC, "g = _, _", ROWS);
    let told = explain(&policy, call("user:a", &["role:viewer"], "GET", "/docs/a"));
    assert!(matches!(told.answer.decision, Decision::Allow(_)));
    assert_eq!(lines(told.matched.iter().map(|row| row.rule.line)), [1]);
    let told = explain(&policy, call("user:a", &["role:viewer", "role:suspended"], "GET", "/docs/a"));
    assert_eq!(lines(told.matched.iter().map(|row| row.rule.line)), [1, 3]);
    assert_eq!(told.answer.decision.grounds().rule.as_ref().unwrap().line, 3);
    assert!(told.near.is_empty(), "another allow would not help: {:?}", told.near);
}

#[test]
fn the_nearest_rows_say_which_of_their_conditions_fails() {
    let policy = policy(RBAC, "g = _, _", ROWS);
    let told = explain(&policy, call("user:a", &["role:viewer"], "PUT", "/docs/a"));
    let near: Vec<(u32, Vec<&str>)> = told
        .near
        .iter()
        .map(|near| (near.rule.line, near.failed.iter().map(|failed| failed.text.as_str()).collect()))
        .collect();
    let method = vec!["act: PUT is not matched by GET|HEAD (regexMatch)"];
    let caller = vec!["sub: user:a neither is nor has role:editor"];
    assert_eq!(near, [(1, method), (2, caller)]);
    let refused = explain(&policy, call("user:a", &["role:suspended"], "PUT", "/docs/a"));
    assert!(refused.near.is_empty(), "no allow would help against a deny: {:?}", refused.near);
    let told = explain(&policy, call("user:a", &["role:viewer"], "GET", "/doc/a"));
    assert_eq!(told.near[0].failed[0].text, "obj: /doc/a is not matched by /docs/* (keyMatch2)");
    // A denied caller is not told that it might have been denied; an allowed one is.
    let told = explain(&policy, call("user:a", &["role:viewer"], "GET", "/docs/a"));
    assert_eq!(lines(told.near.iter().map(|near| near.rule.line)), [3]);
}

#[test]
fn where_one_of_several_would_do_the_nearest_is_told() {
    let matcher = "(r.sub == \"user:root\" || g(r.sub, p.sub) && r.dom == p.dom) && keyMatch2(r.obj, p.obj)";
    let rows = "p, role:viewer, other, /docs/*, GET, allow\n";
    let told = explain(&policy(matcher, "g = _, _", rows), call("user:a", &[], "GET", "/docs/a"));
    let failed: Vec<&str> = told.near[0].failed.iter().map(|failed| failed.text.as_str()).collect();
    assert_eq!(failed, ["sub: user:a is not user:root"]);
}

#[test]
fn a_matcher_that_cannot_be_seen_through_still_tells_which_rows_match() {
    let matcher =
        "g(r.sub, p.sub) && !(r.dom != p.dom) && keyMatch2(r.obj, p.obj) && regexMatch(r.act, p.act)";
    let policy = policy(matcher, "g = _, _", ROWS);
    let told = explain(&policy, call("user:dana", &["role:suspended"], "GET", "/docs/a"));
    assert!(!told.plain && told.near.is_empty());
    assert_eq!(lines(told.matched.iter().map(|row| row.rule.line)), [1, 3]);
    assert_eq!(told.matched.iter().map(|row| row.allows).collect::<Vec<_>>(), [true, false]);
    assert!(told.names[0].roles.iter().any(|held| held.role == "role:viewer"));
}

#[test]
fn under_priorities_only_what_stands_before_matters() {
    let rows =
        "p, role:x, app, /*, GET, deny\np, user:a, app, /*, GET, allow\np, role:y, app, /*, GET, deny\n";
    let policy = policy_of("priority(p.eft) || deny", RBAC, "g = _, _", rows);
    let told = explain(&policy, call("user:a", &[], "GET", "/docs"));
    assert!(matches!(told.answer.decision, Decision::Allow(_)));
    assert_eq!(lines(told.near.iter().map(|near| near.rule.line)), [1]);
}

proptest! {
    /// The explanation's rows make its decision, and are the same whether the matcher is seen through or not.
    #[test]
    fn the_rows_that_match_make_the_decision(
        user in prop::sample::select(vec!["user:dana", "user:a", "anonymous"]),
        roles in prop::sample::subsequence(vec!["role:viewer", "role:editor", "role:suspended", "role:x"], 0..3),
        method in prop::sample::select(vec!["GET", "PUT", "DELETE"]),
        path in prop::sample::select(vec!["/docs/a", "/docs", "/x"]),
    ) {
        thread_local! {
            static BOTH: (Policy, Policy) = (
                policy(RBAC, "g = _, _", ROWS),
                policy(&format!("!(r.sub == \"\") && {RBAC}"), "g = _, _", ROWS),
            );
        }
        let (plain, opaque) = BOTH.with(|(plain, opaque)| {
            let told = |policy| explain(policy, call(user, &roles, method, path));
            (told(plain), told(opaque))
        });
        prop_assert!(plain.plain && !opaque.plain);
        prop_assert_eq!(&plain.matched, &opaque.matched);
        let allowed = plain.matched.iter().any(|row| row.allows) && plain.matched.iter().all(|row| row.allows);
        prop_assert_eq!(matches!(plain.answer.decision, Decision::Allow(_)), allowed);
        if let Some(rule) = &plain.answer.decision.grounds().rule {
            prop_assert!(plain.matched.iter().any(|row| row.rule == **rule));
        }
        for near in &plain.near {
            prop_assert!(!near.failed.is_empty() && plain.matched.iter().all(|row| row.rule != near.rule));
        }
    }
}

#[test]
fn what_a_gate_refuses_is_not_put_to_the_policy() {
    let policy = policy(RBAC, "g = _, _", ROWS);
    for (method, path, code) in [
        ("GET", "/docs/../docs/a", "malformed_dot_segment"),
        ("GET", "docs/a", "malformed_target"),
        ("TRACE", "/docs/a", "method_not_allowed"),
        ("get", "/docs/a", "method_not_allowed"),
    ] {
        let told = explain(&policy, call("user:dana", &[], method, path));
        assert_eq!(told.answer.decision.grounds().reason.code(), code);
        assert!(told.path.is_err() && told.matched.is_empty() && told.near.is_empty());
    }
    let told = explain(&policy, call("user:dana", &[], "GET", "/%64ocs/a?q=1"));
    assert_eq!(told.path.as_deref(), Ok("/docs/a"));
    assert!(matches!(told.answer.decision, Decision::Allow(_)));
}

#[test]
fn names_that_no_caller_can_have_are_pointed_out() {
    let policy = policy(RBAC, "g = _, _", ROWS);
    let told = explain(&policy, call("dana", &["viewer"], "GET", "/docs/a"));
    assert_eq!(told.notes.len(), 2, "{:?}", told.notes);
    assert!(explain(&policy, call("user:dana", &[], "GET", "/docs/a")).notes.is_empty());
}
