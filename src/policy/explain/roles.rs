//! How a name comes to its roles: the shortest way to each, link by link, and where each link stands.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::access::Rule;
use crate::policy::decide::{Policy, Question};
use crate::policy::expression::{Expression, Term, Test};
use crate::policy::model::RequestName;
use crate::policy::roles::Overlay;
use crate::policy::rows::Row;

/// A name of the request, and the roles it has under one role definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The role definition: `g`, `g2`, …
    pub definition: String,
    /// What of the request it is.
    pub of: RequestName,
    /// The name.
    pub name: String,
    /// Where the roles hold, if the definition has domains.
    pub domain: Option<String>,
    /// Its roles, nearest first.
    pub roles: Vec<Held>,
}

/// A role, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The role.
    pub role: String,
    /// The links that lead to it, in order; at least one.
    pub by: Vec<Link>,
}

/// One step to a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Who has the role.
    pub from: String,
    /// The role.
    pub to: String,
    /// The row that gives it; none where the caller's credential does.
    pub row: Option<Rule>,
}

/// What a matcher looks roles up for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lookup {
    definition: usize,
    of: RequestName,
    domain: Option<String>,
}

/// The roles of every name of the request that the matcher looks up.
pub fn reached(policy: &Policy, question: &Question<'_>) -> Vec<Reach> {
    lookups(policy, question)
        .into_iter()
        .filter_map(|lookup| {
            let definition = policy.model().roles.get(lookup.definition)?.name.clone();
            let name = question.with(lookup.of, str::to_owned);
            let roles = held(policy, &definition, &lookup, &name, question);
            Some(Reach { definition, of: lookup.of, name, domain: lookup.domain, roles })
        })
        .collect()
}

fn lookups(policy: &Policy, question: &Question<'_>) -> Vec<Lookup> {
    let mut lookups = Vec::new();
    let mut add = |lookup: Lookup| {
        if !lookups.contains(&lookup) {
            lookups.push(lookup);
        }
    };
    match policy.expression() {
        Some(expression) => expression.for_each_test(&mut |test| {
            if let Test::Linked { definition, from: Term::Request(of), domain, .. } = test {
                let domain = domain.as_ref().map(|domain| match domain {
                    Term::Request(name) => question.with(*name, str::to_owned),
                    Term::Literal(text) => text.clone(),
                    // Rows that matter for this request are those of its own service.
                    Term::Column(_) => question.service.to_owned(),
                });
                add(Lookup { definition: *definition, of: *of, domain });
            }
        }),
        // A matcher that cannot be seen through: the caller's own roles are what there most likely is.
        None => {
            if let Some(first) = policy.model().roles.first() {
                let domain = first.in_domains.then(|| question.service.to_owned());
                add(Lookup { definition: 0, of: RequestName::Sub, domain });
            }
        }
    }
    lookups
}

/// The roles of `name`, each by the shortest way, as far as the policy itself goes.
fn held(policy: &Policy, ptype: &str, lookup: &Lookup, name: &str, question: &Question<'_>) -> Vec<Held> {
    let domain = lookup.domain.as_deref();
    let overlay = Overlay::of(lookup.definition, domain, question);
    let mut links: HashMap<&str, Vec<(&str, Option<&Row>)>> = HashMap::new();
    if let Some(overlay) = overlay {
        let own = overlay.roles.iter().map(|role| (role.as_str(), None));
        links.entry(overlay.user).or_default().extend(own);
    }
    for row in policy.links().iter().filter(|row| row.ptype == ptype) {
        if let [from, to, rest @ ..] = row.fields.as_slice()
            && rest.first().map(String::as_str) == domain
        {
            links.entry(from).or_default().push((to, Some(row)));
        }
    }
    let mut ways: HashMap<&str, Vec<Link>> = HashMap::new();
    let (mut queue, mut seen) = (VecDeque::from([name]), HashSet::from([name]));
    let mut found = Vec::new();
    while let Some(from) = queue.pop_front() {
        for &(to, row) in links.get(from).map(Vec::as_slice).unwrap_or_default() {
            if !seen.insert(to) {
                continue;
            }
            let mut by = ways.get(from).cloned().unwrap_or_default();
            by.push(Link { from: from.to_owned(), to: to.to_owned(), row: row.map(Row::rule) });
            ways.insert(to, by.clone());
            queue.push_back(to);
            // The policy has the last word: it goes only so far, as casbin does.
            if reaches(policy, lookup, name, to, question) {
                found.push(Held { role: to.to_owned(), by });
            }
        }
    }
    found
}

fn reaches(policy: &Policy, lookup: &Lookup, from: &str, to: &str, question: &Question<'_>) -> bool {
    let test = Test::Linked {
        definition: lookup.definition,
        from: Term::Literal(from.to_owned()),
        to: Term::Literal(to.to_owned()),
        domain: lookup.domain.clone().map(Term::Literal),
    };
    let none = Row { ptype: String::new(), fields: Vec::new(), file: String::new(), line: 0 };
    policy.satisfies(&Expression::Test(test), &none, question).unwrap_or(false)
}
