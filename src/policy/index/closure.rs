//! Which roles a caller has, of those that rows name.

use hashbrown::HashMap;

use crate::policy::roles::{Domain, LEVELS, Overlay, RoleGraph};

/// How many reached roles are remembered for one graph, over all names in it. A graph that reaches more is walked for each
/// request.
const MOST_REACHED: usize = 1 << 22;

/// The names of a column that rows have as roles, and how to get to them.
#[derive(Debug)]
pub(super) struct Closures {
    names: HashMap<Box<str>, u32>,
    domains: HashMap<Box<str>, Reached>,
}

/// What each name of a domain's graph reaches.
#[derive(Debug, Default)]
struct Reached {
    /// By node.
    of: Vec<Reach>,
    /// The names reached, by number, all in one.
    ids: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Reach {
    from: u32,
    to: u32,
    /// How many links the farthest node is away.
    depth: u8,
}

impl Closures {
    /// `names` are the distinct names of the column, by number.
    pub(super) fn new(names: HashMap<Box<str>, u32>, graph: &RoleGraph) -> Self {
        let domains =
            graph.domains().map(|(name, domain)| (Box::from(name), Reached::of(domain, &names))).collect();
        Self { names, domains }
    }

    /// Adds to `ids` the numbers of all names that `from` has as roles, each at least once.
    pub(super) fn collect(
        &self,
        graph: &RoleGraph,
        from: &str,
        domain: &str,
        overlay: Option<Overlay<'_>>,
        ids: &mut Vec<u32>,
    ) {
        // What holds of others because of a request's roles is not remembered.
        let overlay = overlay.filter(|overlay| !overlay.roles.is_empty());
        let remembered = overlay.is_none_or(|overlay| overlay.user == from)
            && self.remembered(graph, from, domain, overlay, ids);
        if !remembered {
            ids.clear();
            ids.extend(self.names.get(from));
            graph.for_each_reached(from, domain, overlay, |name| ids.extend(self.names.get(name)));
        }
        if ids.len() > 1 {
            ids.sort_unstable();
            ids.dedup();
        }
    }

    /// Does it from memory; `false` if some way is so long that the order of links might matter.
    fn remembered(
        &self,
        graph: &RoleGraph,
        from: &str,
        domain: &str,
        overlay: Option<Overlay<'_>>,
        ids: &mut Vec<u32>,
    ) -> bool {
        let known = graph.domain(domain).zip(self.domains.get(domain));
        let mut add = |name: &str, levels: usize| {
            let reach = known.and_then(|(graph, reached)| {
                let reach = reached.of.get(graph.node(name)?)?;
                Some((reach, reached.ids.get(reach.from as usize..reach.to as usize)?))
            });
            match reach {
                None => ids.extend(self.names.get(name)),
                Some((reach, reached)) => {
                    if usize::from(reach.depth) >= levels {
                        return false;
                    }
                    ids.extend_from_slice(reached);
                }
            }
            true
        };
        // A role of the request is a link away already.
        add(from, LEVELS)
            && overlay.is_none_or(|overlay| overlay.roles.iter().all(|role| add(role, LEVELS - 1)))
    }
}

impl Reached {
    fn of(domain: &Domain, names: &HashMap<Box<str>, u32>) -> Self {
        let mut numbers = vec![None; domain.nodes()];
        for (name, id) in names {
            if let Some(number) = domain.node(name).and_then(|node| numbers.get_mut(node)) {
                *number = Some(*id);
            }
        }
        let mut reached = Self::default();
        let mut walk = domain.walk();
        for node in 0..domain.nodes() {
            let from = reached.ids.len();
            let depth = walk.from(node, |node| reached.ids.extend(numbers.get(node).copied().flatten()));
            let depth = if reached.ids.len() > MOST_REACHED {
                reached.ids.truncate(from);
                u8::MAX
            } else {
                u8::try_from(depth).unwrap_or(u8::MAX)
            };
            // Their number is bounded far below 2³².
            let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            reached.of.push(Reach { from: place(from), to: place(reached.ids.len()), depth });
        }
        reached
    }
}

#[cfg(test)]
mod checks {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_roles_collected_are_those_that_are_reached_one_by_one(
            links in prop::collection::hash_set((0u8..20, 0u8..20), 0..24),
            chain in 0u8..20,
            roles in prop::collection::vec(0u8..22, 0..3),
            from in 0u8..22,
        ) {
            let name = |n: u8| format!("n{n}");
            let mut graph = RoleGraph::default();
            let mut links = links;
            links.extend((1..chain).map(|n| (n - 1, n)));
            links.iter().for_each(|(from, to)| graph.add(&name(*from), &name(*to), ""));
            // Some names are in rows only, and some in links only.
            let names: HashMap<Box<str>, u32> =
                (6u8..22).zip(0u32..).map(|(n, id)| (name(n).into_boxed_str(), id)).collect();
            let closures = Closures::new(names.clone(), &graph);
            let (user, roles): (String, Vec<String>) = (name(from), roles.into_iter().map(name).collect());
            let overlay = Some(Overlay { user: &user, roles: &roles });
            let mut ids = Vec::new();
            closures.collect(&graph, &user, "", overlay, &mut ids);
            let mut expected: Vec<u32> = names
                .iter()
                .filter(|(name, _)| graph.reaches(&user, name, "", overlay))
                .map(|(_, id)| *id)
                .collect();
            expected.sort_unstable();
            prop_assert_eq!(ids, expected);
        }
    }
}
