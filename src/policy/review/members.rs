//! Which rows a caller can match, by the roles that reach it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::shape::{How, Shape};
use crate::policy::Policy;
use crate::policy::rows::Row;

/// One who can be asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// A caller by name: `anonymous`, `user:<name>`, or another name that the policy has.
    Named(String),
    /// A caller that the policy does not name, whose token grants this role.
    Role(String),
    /// A caller that the policy does not name, without roles.
    Other,
}

/// The rows of a policy by whom they are for.
pub struct Members<'p> {
    policy: &'p Policy,
    /// The caller that the policy does not name.
    other: String,
    /// The roles given to each name by links of the caller's role definition, in any domain.
    given: HashMap<&'p str, Vec<&'p Row>>,
    /// Rows by the name they are for.
    named: HashMap<&'p str, Vec<usize>>,
    /// Rows that can be for anybody.
    anybody: Vec<usize>,
}

impl<'p> Members<'p> {
    /// The members of `policy`, whose shape is `shape`.
    pub fn of(policy: &'p Policy, shape: &Shape) -> Self {
        let mut members = Self {
            policy,
            other: String::new(),
            given: HashMap::new(),
            named: HashMap::new(),
            anybody: Vec::new(),
        };
        let by_name = policy.expression().and(shape.who.as_ref()).filter(|who| {
            who.hows.iter().all(|how| matches!(how, How::Equal | How::Linked(_) | How::Literal(_)))
        });
        let linked = |ptype: &str| {
            shape.who.iter().flat_map(|who| &who.hows).any(|how| match how {
                How::Linked(at) => policy.model().roles.get(*at).is_some_and(|roles| roles.name == ptype),
                How::Equal | How::Pattern(_) | How::Literal(_) => false,
            })
        };
        for (at, row) in policy.rows().iter().enumerate() {
            match by_name {
                // A matcher that also holds by what no row says lets a row match without its name.
                Some(who) if !who.is_free(who.field(row)) && every_way_names(policy, who.index) => {
                    members.named.entry(who.field(row)).or_default().push(at);
                }
                _ => members.anybody.push(at),
            }
        }
        for link in policy.links().iter().filter(|link| linked(&link.ptype)) {
            if let Some(member) = link.fields.first() {
                members.given.entry(member).or_default().push(link);
            }
        }
        members.other = unknown_name(&members.names());
        members
    }

    /// Every name in rows and links, and `anonymous`.
    pub fn names(&self) -> BTreeSet<&'p str> {
        let links = self.given.values().flatten().flat_map(|link| link.fields.iter().take(2));
        self.named.keys().copied().chain(links.map(String::as_str)).chain(["anonymous"]).collect()
    }

    /// Everybody to ask about: all names, each a caller or a role by how it begins, and one that is not named.
    pub fn principals(&self) -> BTreeSet<Principal> {
        self.names().into_iter().map(Principal::read).chain([Principal::Other]).collect()
    }

    /// The caller that stands for `principal` in a question, and its roles.
    pub fn caller(&self, principal: &Principal) -> (String, Vec<String>) {
        match principal {
            Principal::Named(name) => (name.clone(), Vec::new()),
            Principal::Role(role) => (self.other.clone(), vec![role.clone()]),
            Principal::Other => (self.other.clone(), Vec::new()),
        }
    }

    /// The positions of all rows that could be for a caller with these roles, in order: perhaps more than are, never
    /// fewer.
    pub fn rows(&self, user: &str, roles: &[String]) -> Vec<usize> {
        let mut rows = self.anybody.clone();
        for name in self.reached(user, roles) {
            rows.extend(self.named.get(name).into_iter().flatten());
        }
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    /// Every name that a caller with these roles has, in any domain.
    pub fn reached<'a>(&'a self, user: &'a str, roles: &'a [String]) -> HashSet<&'a str> {
        let mut reached = HashSet::from([user]);
        let mut open = vec![user];
        for role in roles {
            if reached.insert(role) {
                open.push(role);
            }
        }
        while let Some(name) = open.pop() {
            for role in self.given.get(name).into_iter().flatten().filter_map(|link| link.fields.get(1)) {
                if reached.insert(role) {
                    open.push(role);
                }
            }
        }
        reached
    }

    /// The shortest way from a caller to `goal` over roles at `service`, both ends included; `None` if there is none.
    pub fn path(&self, user: &str, roles: &[String], goal: &str, service: &str) -> Option<Vec<String>> {
        let mut from: HashMap<String, Option<String>> = HashMap::from([(user.to_owned(), None)]);
        let mut open = VecDeque::from([user.to_owned()]);
        while let Some(name) = open.pop_front() {
            if name == goal {
                let mut way = vec![name];
                while let Some(Some(before)) = way.last().and_then(|last| from.get(last)) {
                    way.push(before.clone());
                }
                way.reverse();
                return Some(way);
            }
            let own = if name == user { roles } else { &[] };
            let linked = self.given.get(name.as_str()).into_iter().flatten().filter_map(|link| {
                let here = link.fields.get(2).is_none_or(|domain| domain == service);
                link.fields.get(1).filter(|_| here)
            });
            for next in linked.chain(own) {
                if !from.contains_key(next) {
                    from.insert(next.clone(), Some(name.clone()));
                    open.push_back(next.clone());
                }
            }
        }
        None
    }

    /// The policy.
    pub fn policy(&self) -> &'p Policy {
        self.policy
    }
}

impl Principal {
    /// Reads a name as the policy writes it.
    pub fn read(name: &str) -> Self {
        if name.starts_with("role:") { Self::Role(name.to_owned()) } else { Self::Named(name.to_owned()) }
    }
}

impl std::fmt::Display for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Named(name) | Self::Role(name) => name,
            Self::Other => "any other user",
        })
    }
}

/// Whether a row can match only by its name: every way through the matcher asks for the column.
fn every_way_names(policy: &Policy, column: usize) -> bool {
    policy.expression().is_some_and(|expression| super::cover::requires(expression, column))
}

/// A user that none of `names` is.
fn unknown_name(names: &BTreeSet<&str>) -> String {
    let mut name = "user:anyone".to_owned();
    while names.contains(name.as_str()) {
        name.push('-');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::review::testing::{DENY_OVERRIDES, policy, policy_of};

    const ROWS: &str = "p, role:viewer, app, /docs/*, GET, allow\np, role:editor, app, /docs/*, PUT, allow\n\
        p, user:eve, app, /x, GET, deny\ng, role:editor, role:viewer\ng, user:dana, role:editor\n";

    fn lines(policy: &Policy, user: &str, roles: &[&str]) -> Vec<u32> {
        let members = Members::of(policy, &Shape::of(policy));
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        members.rows(user, &roles).iter().map(|at| policy.rows()[*at].line).collect()
    }

    #[test]
    fn rows_are_found_by_name_and_by_role() {
        let policy = policy(ROWS);
        assert_eq!(lines(&policy, "user:eve", &[]), [3]);
        assert_eq!(lines(&policy, "user:dana", &[]), [1, 2]);
        assert_eq!(lines(&policy, "user:anyone", &["role:viewer"]), [1]);
        assert_eq!(lines(&policy, "anonymous", &[]), [0u32; 0]);
    }

    #[test]
    fn the_way_to_a_role_is_told() {
        let policy = policy(ROWS);
        let members = Members::of(&policy, &Shape::of(&policy));
        let way = members.path("user:dana", &[], "role:viewer", "app").unwrap();
        assert_eq!(way, ["user:dana", "role:editor", "role:viewer"]);
        assert_eq!(members.path("user:eve", &[], "role:viewer", "app"), None);
    }

    #[test]
    fn a_row_that_can_match_without_its_name_is_for_anybody() {
        let (r, p) = ("r = sub, dom, obj, act", "p = sub, dom, obj, act, eft");
        let rows = "p, user:a, app, /x, GET, allow\n";
        for (matcher, anybody) in [
            ("r.sub == p.sub && r.obj == p.obj", false),
            ("(g(r.sub, p.sub) || r.sub == p.sub) && r.obj == p.obj", false),
            ("r.sub == p.sub || r.obj == p.obj", true),
            ("r.sub == \"root\" || r.sub == p.sub && r.obj == p.obj", true),
            ("r.sub != p.sub && r.obj == p.obj", true),
        ] {
            let policy = policy_of(r, p, DENY_OVERRIDES, matcher, rows);
            assert_eq!(lines(&policy, "user:other", &[]).len() == 1, anybody, "{matcher}");
        }
    }
}
