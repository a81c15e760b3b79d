//! An explanation for scripts.

use serde_json::{Value, json};

use super::near::{Condition, Near};
use super::roles::{Held, Link, Reach};
use super::{Explanation, Matched};
use crate::access::Rule;
use crate::policy::Call;

impl Explanation {
    /// All of it as one JSON object.
    pub fn json(&self) -> Value {
        let grounds = self.answer.decision.grounds();
        json!({
            "call": self.call.json(),
            "path": self.path.as_ref().ok(),
            "decision": self.answer.decision.as_str(),
            "reason": grounds.reason.code(),
            "rule": grounds.rule.as_deref().map(rule),
            "error": self.answer.error.as_ref().map(ToString::to_string),
            "names": self.names.iter().map(reach).collect::<Vec<_>>(),
            "rows": self.rows,
            "matched": self.matched.iter().map(matched).collect::<Vec<_>>(),
            "near": self.near.iter().map(near).collect::<Vec<_>>(),
            "conditions_told": self.plain,
            "notes": self.notes,
        })
    }
}

impl Call {
    /// The call as a JSON object.
    pub fn json(&self) -> Value {
        json!({
            "user": self.user,
            "roles": self.roles,
            "service": self.service,
            "method": self.method,
            "path": self.path,
            "host": self.host,
            "ip": self.ip.to_string(),
        })
    }
}

/// A row and where it stands.
pub fn rule(rule: &Rule) -> Value {
    json!({ "text": rule.text, "file": rule.file, "line": rule.line })
}

fn matched(row: &Matched) -> Value {
    json!({ "rule": rule(&row.rule), "effect": if row.allows { "allow" } else { "deny" } })
}

fn reach(reach: &Reach) -> Value {
    json!({
        "definition": reach.definition,
        "of": reach.of.as_str(),
        "name": reach.name,
        "domain": reach.domain,
        "roles": reach.roles.iter().map(held).collect::<Vec<_>>(),
    })
}

fn held(held: &Held) -> Value {
    json!({ "role": held.role, "by": held.by.iter().map(link).collect::<Vec<_>>() })
}

/// A link; its row is null where the caller's credential gives it.
fn link(link: &Link) -> Value {
    json!({ "from": link.from, "to": link.to, "row": link.row.as_ref().map(rule) })
}

fn near(near: &Near) -> Value {
    json!({ "rule": rule(&near.rule), "failed": near.failed.iter().map(condition).collect::<Vec<_>>() })
}

fn condition(condition: &Condition) -> Value {
    json!({
        "about": condition.about,
        "value": condition.value,
        "wanted": condition.wanted,
        "test": condition.test,
        "text": condition.text,
    })
}
