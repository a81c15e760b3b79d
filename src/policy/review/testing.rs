//! Policies for the tests of reviews.

use crate::policy::{PathForms, Policy, Text};

pub(crate) const ALLOW_ONLY: &str = "some(where (p.eft == allow))";
pub(crate) const DENY_OVERRIDES: &str = "some(where (p.eft == allow)) && !some(where (p.eft == deny))";
pub(crate) const DENY_ONLY: &str = "!some(where (p.eft == deny))";
pub(crate) const FIRST: &str = "priority(p.eft) || deny";

const MATCHER: &str =
    "r.dom == p.dom && g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && regexMatch(r.act, p.act)";

/// A policy over the shipped model.
pub(crate) fn policy(rows: &str) -> Policy {
    policy_of("r = sub, dom, obj, act", "p = sub, dom, obj, act, eft", DENY_OVERRIDES, MATCHER, rows)
}

/// A policy over the shipped model with another effect.
pub(crate) fn weighing(effect: &str, rows: &str) -> Policy {
    policy_of("r = sub, dom, obj, act", "p = sub, dom, obj, act, eft", effect, MATCHER, rows)
}

/// A policy over the shipped model with paths compared by `function`.
pub(crate) fn paths_by(function: &str, rows: &str) -> Policy {
    let matcher = MATCHER.replace("keyMatch2", function);
    policy_of("r = sub, dom, obj, act", "p = sub, dom, obj, act, eft", DENY_OVERRIDES, &matcher, rows)
}

/// A policy over a model of its own.
pub(crate) fn policy_of(request: &str, columns: &str, effect: &str, matcher: &str, rows: &str) -> Policy {
    let model = format!(
        "[request_definition]\n{request}\n[policy_definition]\n{columns}\n[role_definition]\ng = _, _\n\
         [policy_effect]\ne = {effect}\n[matchers]\nm = {matcher}\n"
    );
    Policy::load_text(&text("model.conf", &model), &[text("policy.csv", rows)], PathForms::default()).unwrap()
}

pub(crate) fn text(name: &str, text: &str) -> Text {
    Text { name: name.into(), text: text.into() }
}
