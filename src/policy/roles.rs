//! Role graphs, and a request's own roles laid over them without touching them.
//!
//! Reachability is that of casbin-rs's `DefaultRoleManager` with ten levels and no matching functions, to the letter:
//! a breadth-first walk, newest link first, whose level count rises only when the queue runs empty. (In a bushy graph
//! it therefore looks further than ten levels; what counts here is that the answer is the same.)

use std::collections::{HashSet, VecDeque};

use hashbrown::HashMap;

use super::decide::Question;

/// casbin-rs's own bound on levels.
pub const LEVELS: usize = 10;

/// The links of one role definition, by domain. Without domains, all links are in the domain `""`.
#[derive(Clone, Debug, Default)]
pub struct RoleGraph {
    domains: HashMap<String, Domain>,
    links: usize,
}

/// The links of one domain. Names have numbers, from 0.
#[derive(Clone, Debug, Default)]
pub struct Domain {
    ids: HashMap<String, usize>,
    /// Targets by source id, in the order the links were added.
    targets: Vec<Vec<usize>>,
}

/// Roles that come with a request: as if `g, <user>, <role>` were the last rows of the policy.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<'a> {
    /// The caller.
    pub user: &'a str,
    /// The caller's roles.
    pub roles: &'a [String],
}

impl<'a> Overlay<'a> {
    /// The roles of `question`, as far as they hold in `domain` of role definition `definition`.
    pub fn of(definition: usize, domain: Option<&str>, question: &Question<'a>) -> Option<Self> {
        Self::holds(definition, domain, question.service)
            .then_some(Self { user: question.user, roles: question.roles })
    }

    /// Whether a request's roles hold there: they are rows of `g`, in the request's own domain if it has domains.
    pub fn holds(definition: usize, domain: Option<&str>, service: &str) -> bool {
        definition == 0 && domain.is_none_or(|domain| domain == service)
    }
}

impl RoleGraph {
    /// Adds the link that a row `g, <from>, <to>[, <domain>]` makes. No row may be added twice.
    pub fn add(&mut self, from: &str, to: &str, domain: &str) {
        if from == to {
            return;
        }
        let domain = self.domains.entry(domain.to_owned()).or_default();
        let (from, to) = (domain.id(from), domain.id(to));
        if let Some(targets) = domain.targets.get_mut(from) {
            targets.push(to);
            self.links += 1;
        }
    }

    /// How many distinct links there are.
    pub fn links(&self) -> usize {
        self.links
    }

    /// The domains that have links.
    pub fn domains(&self) -> impl Iterator<Item = (&str, &Domain)> {
        self.domains.iter().map(|(name, domain)| (name.as_str(), domain))
    }

    /// The links of one domain, if it has any.
    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.get(name)
    }

    /// Whether `from` has `to` among its roles in `domain`, or is it. `overlay` holds in this domain if given.
    pub fn reaches(&self, from: &str, to: &str, domain: &str, overlay: Option<Overlay<'_>>) -> bool {
        if from == to {
            return true;
        }
        let view = View::of(self.domain(domain), overlay);
        let (Some(start), Some(goal)) = (view.node(from), view.node(to)) else { return false };
        view.walk(start, |node| node == goal)
    }

    /// Calls `visit` with the names of all the roles that `from` has in `domain`, itself among them if a link names it.
    pub fn for_each_reached(
        &self,
        from: &str,
        domain: &str,
        overlay: Option<Overlay<'_>>,
        mut visit: impl FnMut(&str),
    ) {
        let view = View::of(self.domain(domain), overlay);
        let Some(start) = view.node(from) else { return };
        let mut reached = HashSet::new();
        view.walk(start, |node| {
            reached.insert(node);
            false
        });
        let names = view.domain.into_iter().flat_map(|domain| domain.ids.keys().map(String::as_str));
        let overlaid = overlay.into_iter().flat_map(|overlay| overlay.roles.iter().map(String::as_str));
        names
            .chain(overlaid)
            .filter(|name| view.node(name).is_some_and(|node| reached.contains(&node)))
            .for_each(&mut visit);
    }
}

impl Domain {
    fn id(&mut self, name: &str) -> usize {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = self.targets.len();
        self.ids.insert(name.to_owned(), id);
        self.targets.push(Vec::new());
        id
    }

    /// The number of a name.
    pub fn node(&self, name: &str) -> Option<usize> {
        self.ids.get(name).copied()
    }

    /// How many names there are.
    pub fn nodes(&self) -> usize {
        self.targets.len()
    }

    /// Walks of this graph, from one node after another, without any bound on levels.
    pub fn walk(&self) -> Walk<'_> {
        Walk { domain: self, seen: vec![0; self.nodes()], round: 0, layer: Vec::new(), next: Vec::new() }
    }
}

/// Walks of a graph, whose room is used again and again.
#[derive(Debug)]
pub struct Walk<'a> {
    domain: &'a Domain,
    /// The last round that saw a node.
    seen: Vec<usize>,
    round: usize,
    layer: Vec<usize>,
    next: Vec<usize>,
}

impl Walk<'_> {
    /// Calls `visit` with each node that `start` leads to, itself first; returns how many links the farthest is away.
    pub fn from(&mut self, start: usize, mut visit: impl FnMut(usize)) -> usize {
        self.round += 1;
        self.layer.clear();
        self.layer.push(start);
        if let Some(seen) = self.seen.get_mut(start) {
            *seen = self.round;
        }
        let mut depth = 0;
        loop {
            for &node in &self.layer {
                visit(node);
                for &target in self.domain.targets.get(node).into_iter().flatten() {
                    if let Some(seen) = self.seen.get_mut(target)
                        && *seen != self.round
                    {
                        *seen = self.round;
                        self.next.push(target);
                    }
                }
            }
            self.layer.clear();
            std::mem::swap(&mut self.layer, &mut self.next);
            if self.layer.is_empty() {
                return depth;
            }
            depth += 1;
        }
    }
}

/// A domain's graph with an overlay. Names that only the overlay knows have ids after the graph's.
struct View<'a> {
    domain: Option<&'a Domain>,
    overlay: Option<Overlay<'a>>,
}

impl<'a> View<'a> {
    fn of(domain: Option<&'a Domain>, overlay: Option<Overlay<'a>>) -> Self {
        Self { domain, overlay: overlay.filter(|overlay| !overlay.roles.is_empty()) }
    }

    /// Visits what `start` leads to, as far as casbin looks, until `visit` says that it was found; returns whether it did.
    fn walk(&self, start: usize, mut visit: impl FnMut(usize) -> bool) -> bool {
        let mut queue = VecDeque::from([start]);
        let mut seen = HashSet::from([start]);
        let mut level = 0;
        while level < LEVELS {
            let Some(node) = queue.pop_front() else { return false };
            if visit(node) {
                return true;
            }
            if queue.is_empty() {
                level += 1;
            }
            self.for_each_target(node, |target| {
                if seen.insert(target) {
                    queue.push_back(target);
                }
            });
        }
        false
    }

    fn node(&self, name: &str) -> Option<usize> {
        if let Some(&id) = self.domain.and_then(|domain| domain.ids.get(name)) {
            return Some(id);
        }
        let overlay = self.overlay?;
        let nodes = self.domain.map_or(0, |domain| domain.targets.len());
        if overlay.user == name {
            return Some(nodes);
        }
        overlay.roles.iter().position(|role| role == name).map(|at| nodes + 1 + at)
    }

    /// Calls `visit` with each target of `node`, newest link first.
    fn for_each_target(&self, node: usize, mut visit: impl FnMut(usize)) {
        // A link that the overlay repeats is a row that moved to the end of the policy, as in casbin's set of rows;
        // `visit` passes over its older place, having seen it.
        if let Some(overlay) = self.overlay
            && self.node(overlay.user) == Some(node)
        {
            overlay.roles.iter().rev().filter(|role| *role != overlay.user).for_each(|role| {
                if let Some(target) = self.node(role) {
                    visit(target);
                }
            });
        }
        if let Some(targets) = self.domain.and_then(|domain| domain.targets.get(node)) {
            targets.iter().rev().for_each(|&target| visit(target));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casbin::{DefaultRoleManager, RoleManager};
    use proptest::prelude::*;

    fn graph(links: &[(&str, &str, &str)]) -> RoleGraph {
        let mut graph = RoleGraph::default();
        links.iter().for_each(|(from, to, domain)| graph.add(from, to, domain));
        graph
    }

    #[test]
    fn roles_of_a_request_hold_in_its_own_domain_only() {
        let graph = graph(&[("role:admin", "role:viewer", "app"), ("role:admin", "role:owner", "billing")]);
        let roles = ["role:admin".to_owned()];
        let overlay = Some(Overlay { user: "user:alice", roles: &roles });
        assert!(graph.reaches("user:alice", "role:viewer", "app", overlay));
        assert!(!graph.reaches("user:alice", "role:owner", "app", overlay));
        assert!(!graph.reaches("user:alice", "role:viewer", "app", None));
        assert!(!graph.reaches("user:bob", "role:viewer", "app", overlay));
        assert!(graph.reaches("user:alice", "role:admin", "elsewhere", overlay));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// Against casbin-rs's own role manager, with the overlay written as links at the end. Few names make deep and
        /// bushy graphs with cycles, so that the level count matters.
        #[test]
        fn reachability_is_that_of_casbin_with_the_overlay_as_last_rows(
            links in prop_oneof![
                prop::collection::vec((0u8..16, 0u8..16), 0..40),
                // A chain with some side branches, in any order.
                (Just((0u8..15).map(|n| (n, n + 1)).collect::<Vec<_>>()), prop::collection::vec((0u8..16, 0u8..16), 0..6))
                    .prop_map(|(chain, sides)| [chain, sides].concat())
                    .prop_shuffle(),
            ],
            roles in prop::collection::hash_set(0u8..18, 0..4),
            user in 0u8..18,
            from in 0u8..18,
        ) {
            let name = |n: u8| format!("n{n}");
            let roles: Vec<String> = roles.into_iter().map(name).collect();
            // As casbin's set of rows does it, a row that is added again moves to the end.
            let mut rows: Vec<(String, String)> = Vec::new();
            let own = roles.iter().map(|role| (name(user), role.clone()));
            for row in links.iter().map(|&(a, b)| (name(a), name(b))).chain(own.clone()) {
                rows.retain(|known| known != &row);
                rows.push(row);
            }
            let mut theirs = DefaultRoleManager::new(10);
            rows.iter().for_each(|(a, b)| theirs.add_link(a, b, None));

            let mut base: Vec<(String, String)> = Vec::new();
            for row in links.iter().map(|&(a, b)| (name(a), name(b))) {
                base.retain(|known| known != &row);
                base.push(row);
            }
            let mut ours = RoleGraph::default();
            base.iter().for_each(|(a, b)| ours.add(a, b, ""));

            let user = name(user);
            let overlay = Some(Overlay { user: &user, roles: &roles });
            for to in (0..18).map(name) {
                prop_assert_eq!(
                    ours.reaches(&name(from), &to, "", overlay),
                    theirs.has_link(&name(from), &to, None),
                    "{} -> {}", name(from), to
                );
            }
        }
    }

    #[test]
    fn a_chain_ends_at_the_tenth_level_as_in_casbin() {
        let mut theirs = DefaultRoleManager::new(10);
        let mut ours = RoleGraph::default();
        for i in 0..20 {
            theirs.add_link(&format!("n{i}"), &format!("n{}", i + 1), None);
            ours.add(&format!("n{i}"), &format!("n{}", i + 1), "");
        }
        let reached = |i: i32| ours.reaches("n0", &format!("n{i}"), "", None);
        for i in 0..20 {
            assert_eq!(reached(i), theirs.has_link("n0", &format!("n{i}"), None), "{i}");
        }
        assert!(reached(9) && !reached(10));
    }
}
