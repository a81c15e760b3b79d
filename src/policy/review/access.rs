//! Who may do this, and what may this one do: every answer is a decision of the policy, with the row that made it.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::METHODS;
use super::members::{Members, Principal};
use super::shape::{Ruling, Shape};
use super::witness::{Services, Witnesses, fresh_word};
use crate::access::Rule;
use crate::policy::rows::Row;
use crate::policy::{Policy, Question, Verdict};

/// What is asked about beside who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// The service's name.
    pub service: String,
    /// The canonical path.
    pub path: String,
    /// The method.
    pub method: String,
}

/// What stays the same in all questions of a review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// The host asked for.
    pub host: String,
    /// The client's address.
    pub ip: IpAddr,
}

/// One who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub principal: Principal,
    /// The row that allows; none under an effect that allows what no row denies.
    pub rule: Option<Arc<Rule>>,
    /// From the caller to the name in that row, over roles; one name where the row names the caller, empty where the
    /// row is for anybody.
    pub path: Vec<String>,
}

/// What a caller may or may not do, by the pattern of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// The service as the row has it; `*` where rows have none.
    pub service: String,
    /// The path pattern as the row has it; `*` where rows have none.
    pub pattern: String,
    /// The methods with this answer from this row.
    pub methods: Vec<&'static str>,
    /// The answer.
    pub ruling: Ruling,
    /// The row that decided.
    pub rule: Option<Arc<Rule>>,
    /// The path that was asked about.
    pub example: String,
}

/// What a caller may do, and what could not be told.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    /// By service, pattern and answer.
    pub rights: Vec<Right>,
    /// How many questions the policy was asked.
    pub asked: u64,
    /// Rows for this caller whose pattern no example path could be made of.
    pub without_example: Vec<Arc<Rule>>,
}

impl Default for From {
    /// No host, and the loopback address.
    fn default() -> Self {
        Self { host: String::new(), ip: IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }
}

/// Asks `policy` and returns its answer: whether it allows, and by which row. A failure is a denial by no row.
pub fn ask(
    policy: &Policy,
    from: &From,
    (user, roles): (&str, &[String]),
    call: &Call,
) -> (Ruling, Option<Arc<Rule>>) {
    let question = Question {
        user,
        roles,
        service: &call.service,
        path: &call.path,
        method: &call.method,
        host: &from.host,
        ip: from.ip,
    };
    match policy.decide(&question) {
        Verdict::Allow { rule } => (Ruling::Allow, rule),
        Verdict::Deny { rule } => (Ruling::Deny, rule),
        Verdict::Failed(_) => (Ruling::Deny, None),
    }
}

/// Everybody the policy knows who may make `call`: callers by name, roles as the only one of a caller that is not
/// named, and that caller without roles.
pub fn who_can(policy: &Policy, from: &From, call: &Call) -> Vec<Grant> {
    let shape = Shape::of(policy);
    let members = Members::of(policy, &shape);
    let rows: HashMap<(&str, u32), &Row> =
        policy.rows().iter().map(|row| ((row.file.as_str(), row.line), row)).collect();
    let mut grants = Vec::new();
    for principal in members.principals() {
        let (user, roles) = members.caller(&principal);
        let (Ruling::Allow, rule) = ask(policy, from, (&user, &roles), call) else { continue };
        let path = rule
            .as_ref()
            .and_then(|rule| rows.get(&(rule.file.as_str(), rule.line)))
            .and_then(|row| members.path(&user, &roles, shape.who.as_ref()?.field(row), &call.service));
        let path = path.unwrap_or_default().into_iter().filter(|name| !is_stand_in(&principal, name, &user));
        grants.push(Grant { path: path.collect(), principal, rule });
    }
    grants
}

/// What a caller with these roles may do: for each row that is for the caller, the policy's answer for each method at
/// a path made from the row's pattern. Services and methods are those the rows name.
pub fn what_can(policy: &Policy, from: &From, user: &str, roles: &[String]) -> Rights {
    let shape = Shape::of(policy);
    let members = Members::of(policy, &shape);
    let texts = policy.rows().iter().map(|row| Shape::text(shape.path.as_ref(), row));
    let witnesses = Witnesses::of(policy, shape.path.as_ref(), &fresh_word(texts));
    let services = Services::of(policy, shape.service.as_ref());
    let mut rights = Rights::default();
    let mut seen = HashSet::new();
    for at in members.rows(user, roles) {
        let (Some(row), Some(rule)) = (policy.rows().get(at), policy.rules.get(at)) else { continue };
        let (service, pattern) =
            (Shape::text(shape.service.as_ref(), row), Shape::text(shape.path.as_ref(), row));
        let Some(example) = witnesses.of_field(pattern).into_iter().next() else {
            rights.without_example.push(Arc::clone(rule));
            continue;
        };
        if !seen.insert((service, pattern, shape.methods(policy, row))) {
            continue;
        }
        let asked = services.of_field(service);
        for method in shape.methods(policy, row) {
            let call = Call { service: asked.clone(), path: example.clone(), method: method.to_owned() };
            let (ruling, decided) = ask(policy, from, (user, roles), &call);
            rights.asked += 1;
            // What is denied by no row is denied to everybody, unless a row was meant to allow it.
            if ruling == Ruling::Allow || decided.is_some() {
                rights.add((service, pattern), method, (ruling, decided), &example);
            }
        }
    }
    rights.rights.sort_by(|a, b| (&a.service, &a.pattern).cmp(&(&b.service, &b.pattern)));
    rights
}

impl Rights {
    fn add(
        &mut self,
        (service, pattern): (&str, &str),
        method: &'static str,
        (ruling, rule): (Ruling, Option<Arc<Rule>>),
        example: &str,
    ) {
        let same = |right: &&mut Right| {
            right.service == service
                && right.pattern == pattern
                && right.ruling == ruling
                && right.rule == rule
        };
        match self.rights.iter_mut().rev().find(same) {
            Some(right) if right.methods.contains(&method) => {}
            Some(right) => right.methods.push(method),
            None => self.rights.push(Right {
                service: service.to_owned(),
                pattern: pattern.to_owned(),
                methods: vec![method],
                ruling,
                rule,
                example: example.to_owned(),
            }),
        }
    }
}

impl Right {
    /// Its methods in one word: `*` for all that the gate forwards.
    pub fn methods(&self) -> String {
        methods(&self.methods)
    }
}

/// Methods in one word: `GET|HEAD`, or `*` for all that the gate forwards.
pub fn methods(methods: &[&str]) -> String {
    if METHODS.iter().all(|method| methods.contains(method)) { "*".to_owned() } else { methods.join("|") }
}

/// Whether `name` stands for a caller that the policy does not name.
fn is_stand_in(principal: &Principal, name: &str, user: &str) -> bool {
    name == user && !matches!(principal, Principal::Named(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::review::testing::{DENY_ONLY, policy, policy_of, weighing};

    fn call(method: &str, path: &str) -> Call {
        Call { service: "app".into(), path: path.into(), method: method.into() }
    }

    const ROWS: &str = "p, anonymous, app, /public/*, GET, allow\np, role:viewer, app, /docs/*, GET, allow\n\
        p, role:suspended, app, /*, .*, deny\np, user:eve, app, /docs/secret/*, GET, deny\n\
        g, role:editor, role:viewer\ng, user:dana, role:editor\ng, user:eve, role:viewer\n";

    fn names(grants: &[Grant]) -> Vec<String> {
        grants.iter().map(|grant| grant.principal.to_string()).collect()
    }

    #[test]
    fn everybody_who_may_is_told_and_nobody_else() {
        let policy = policy(ROWS);
        let from = From::default();
        let may = |method, path| names(&who_can(&policy, &from, &call(method, path)));
        assert_eq!(may("GET", "/docs/a"), ["user:dana", "user:eve", "role:editor", "role:viewer"]);
        assert_eq!(may("GET", "/docs/secret/a"), ["user:dana", "role:editor", "role:viewer"]);
        assert_eq!(may("GET", "/public/a"), ["anonymous"]);
        assert_eq!(may("PUT", "/docs/a"), [""; 0]);
    }

    #[test]
    fn a_grant_names_its_row_and_the_way_to_it() {
        let policy = policy(ROWS);
        let grants = who_can(&policy, &From::default(), &call("GET", "/docs/a"));
        let dana = &grants[0];
        assert_eq!(dana.path, ["user:dana", "role:editor", "role:viewer"]);
        assert_eq!(dana.rule.as_ref().unwrap().line, 2);
        let editor = grants.iter().find(|grant| grant.principal.to_string() == "role:editor").unwrap();
        assert_eq!(editor.path, ["role:editor", "role:viewer"]);
    }

    #[test]
    fn a_caller_that_no_row_names_is_asked_about_too() {
        let open = weighing(DENY_ONLY, "p, user:eve, app, /a, GET, deny\n");
        assert_eq!(
            names(&who_can(&open, &From::default(), &call("GET", "/a"))),
            ["anonymous", "any other user"]
        );
        let matcher = "(p.sub == \"*\" || r.sub == p.sub) && keyMatch(r.obj, p.obj)";
        let all = policy_of(
            "r = sub, obj",
            "p = sub, obj",
            super::super::testing::ALLOW_ONLY,
            matcher,
            "p, *, /a*\n",
        );
        let grants = who_can(&all, &From::default(), &call("GET", "/a"));
        assert_eq!(names(&grants), ["anonymous", "any other user"]);
        assert!(grants.iter().all(|grant| grant.path.is_empty() && grant.rule.is_some()));
    }

    #[test]
    fn what_one_can_is_told_by_pattern_with_the_row_that_decides() {
        let policy = policy(ROWS);
        let told = |user: &str, roles: &[&str]| -> Vec<String> {
            let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
            let rights = what_can(&policy, &From::default(), user, &roles).rights;
            let line = |right: &Right| right.rule.as_ref().map_or(0, |rule| rule.line);
            rights
                .iter()
                .map(|right| {
                    format!("{:?} {} {} {}", right.ruling, right.methods(), right.pattern, line(right))
                })
                .collect()
        };
        assert_eq!(told("user:dana", &[]), ["Allow GET /docs/* 2"]);
        assert_eq!(told("user:eve", &[]), ["Allow GET /docs/* 2", "Deny GET /docs/secret/* 4"]);
        // What a row would allow is told as the denial that it is.
        assert_eq!(told("user:dana", &["role:suspended"]), ["Deny * /* 3", "Deny GET /docs/* 3"]);
        assert_eq!(told("user:nobody", &[]), [""; 0]);
    }
}
