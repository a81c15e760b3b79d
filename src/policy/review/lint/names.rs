//! Names of services, methods, callers and roles that there are not, and roles that lead back to themselves.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::METHODS;
use super::super::shape::{Column, How};
use super::{Code, Finding, Look};
use crate::policy::expression::{Term, Test};
use crate::policy::patterns::Function;
use crate::policy::rows::Row;

/// Looks for all of these.
pub(super) fn look(look: &mut Look<'_>) {
    services(look);
    methods(look);
    if look.shape.who.as_ref().is_some_and(|who| !who.hows.iter().any(|how| matches!(how, How::Pattern(_)))) {
        callers(look);
        roles_nobody_has(look);
        roles_without_rows(look);
    }
    cycles(look);
}

/// The rows with each text that stands in a column, but for texts that match everything.
fn by_field<'p>(look: &Look<'p>, column: &Column) -> BTreeMap<&'p str, Vec<&'p Row>> {
    let mut fields: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in look.policy.rows().iter().filter(|row| !column.is_free(column.field(row))) {
        fields.entry(column.field(row)).or_default().push(row);
    }
    fields
}

fn services(look: &mut Look<'_>) {
    let (Some(known), Some(column)) = (look.known, &look.shape.service) else { return };
    let names: Vec<&str> = known.services.iter().map(|service| service.name.as_str()).collect();
    for (field, rows) in by_field(look, column) {
        if names.iter().any(|name| column.matches(look.policy, field, name)) {
            continue;
        }
        let close = names.iter().max_by(|a, b| strsim::jaro(a, field).total_cmp(&strsim::jaro(b, field)));
        let advice = match close.filter(|close| strsim::jaro(close, field) > 0.7) {
            Some(close) => format!("perhaps `{close}` is meant"),
            None => format!("the services are {}", names.join(", ")),
        };
        let found = format!("{} has no service `{field}`", known.file);
        rows.iter().for_each(|row| look.find(Code::UnknownService, row, found.clone(), &advice));
    }
}

fn methods(look: &mut Look<'_>) {
    let Some(column) = &look.shape.method else { return };
    for (field, rows) in by_field(look, column) {
        if !METHODS.iter().any(|method| column.matches(look.policy, field, method)) {
            let advice = if !column.hows.contains(&How::Pattern(Function::RegexMatch)) && field.contains('|')
            {
                "as the model compares methods, a row has one; a row for each, or regexMatch(r.act, …) in the matcher"
                    .to_owned()
            } else {
                format!("methods are upper-case; the gate forwards {}", METHODS.join(", "))
            };
            let found = format!("`{field}` matches no method");
            rows.iter().for_each(|row| look.find(Code::UnknownMethod, row, found.clone(), &advice));
        } else if column.hows == [How::Pattern(Function::RegexMatch)] {
            rows.iter().for_each(|row| words(look, field, row));
        }
    }
}

/// The words of a plain alternation: each should be a method.
fn words(look: &mut Look<'_>, field: &str, row: &Row) {
    let bare = field.strip_prefix('^').unwrap_or(field);
    let bare = bare.strip_suffix('$').unwrap_or(bare);
    let bare = bare.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(bare);
    if !bare.chars().all(|c| c.is_ascii_alphabetic() || c == '|') {
        return;
    }
    for word in bare.split('|').filter(|word| !METHODS.contains(word)) {
        let inside: Vec<&str> = METHODS.into_iter().filter(|method| method.contains(word)).collect();
        if word.is_empty() {
            let found = format!("an empty alternative in `{field}` matches every method");
            look.find(Code::Unanchored, row, found, "remove the | that has nothing beside it");
        } else if inside.is_empty() {
            let found = format!("`{word}` in `{field}` matches no method");
            let advice = format!("methods are upper-case; the gate forwards {}", METHODS.join(", "));
            look.find(Code::UnknownMethod, row, found, &advice);
        } else if !field.starts_with('^') {
            let found = format!("`{word}` is found inside {}", inside.join(", "));
            look.find(Code::Unanchored, row, found, "write methods out");
        }
    }
}

/// Names that no caller has and no link gives.
fn callers(look: &mut Look<'_>) {
    let Some(who) = &look.shape.who else { return };
    let given: HashSet<&str> = targets(look).collect();
    let is_callers = |name: &str| {
        name == "anonymous"
            || ["user:", "role:"].iter().any(|kind| name.len() > kind.len() && name.starts_with(kind))
    };
    let own = |link: &&Row| is_callers_link(look, link);
    let members =
        look.policy.links().iter().filter(own).filter_map(|link| Some((link.fields.first()?, link)));
    let rows = look.policy.rows().iter().filter_map(|row| Some((row.fields.get(who.index)?, row)));
    let unknown: Vec<(&String, &Row)> = rows
        .chain(members)
        .filter(|(name, _)| !is_callers(name) && !who.is_free(name) && !given.contains(name.as_str()))
        .collect();
    for (name, row) in unknown {
        let found = format!("no caller is called `{name}`, and no link leads to it");
        look.find(
            Code::UnknownCaller,
            row,
            found,
            "callers are user:<name> or anonymous, a token's roles role:<name>",
        );
    }
}

/// Roles of rows that no issuer grants and no link gives to anybody.
fn roles_nobody_has(look: &mut Look<'_>) {
    let (Some(known), Some(who)) = (look.known, &look.shape.who) else { return };
    let callers = look
        .policy
        .links()
        .iter()
        .filter(|link| is_callers_link(look, link))
        .filter_map(|link| link.fields.first())
        .filter(|name| !name.starts_with("role:"));
    let mut had: HashSet<&str> = HashSet::new();
    for name in callers.chain(&known.granted) {
        if !had.contains(name.as_str()) {
            had.extend(look.members.reached(name, &[]));
        }
    }
    let missing: Vec<_> = by_field(look, who)
        .into_iter()
        .filter(|(field, _)| field.starts_with("role:") && !had.contains(field))
        .collect();
    for (field, rows) in missing {
        let found = format!("no issuer of {} grants `{field}`, and no link gives it", known.file);
        let advice = "add it to `roles` of an issuer, or give it by a g row";
        rows.iter().for_each(|row| look.find(Code::RoleNobodyHas, row, found.clone(), advice));
    }
}

/// Roles that are given and that no row is for.
fn roles_without_rows(look: &mut Look<'_>) {
    let (Some(who), Some(expression)) = (&look.shape.who, look.policy.expression()) else { return };
    let mut named: HashSet<&str> = look.policy.rows().iter().map(|row| who.field(row)).collect();
    expression.for_each_test(&mut |test| {
        if let Test::Linked { to: Term::Literal(name), .. } | Test::Equal(_, Term::Literal(name)) = test {
            named.insert(name);
        }
    });
    let useless = |role: &str| !look.members.reached(role, &[]).iter().any(|name| named.contains(name));
    let links: Vec<(&String, &Row)> = look
        .policy
        .links()
        .iter()
        .filter(|link| is_callers_link(look, link))
        .filter_map(|link| Some((link.fields.get(1).filter(|role| useless(role))?, link)))
        .collect();
    let granted: Vec<&String> =
        look.known.iter().flat_map(|known| &known.granted).filter(|role| useless(role)).collect();
    for (role, link) in links {
        let found = format!("no row is for `{role}`, so that it grants nothing");
        look.find(Code::RoleWithoutRows, link, found, "add a row for it, or remove the link");
    }
    for role in granted {
        let file = look.known.map(|known| known.file.clone()).unwrap_or_default();
        look.report.findings.push(Finding {
            code: Code::RoleWithoutRows,
            file,
            line: None,
            row: None,
            found: format!("issuers may grant `{role}`, and no row is for it"),
            advice: "add a row for it, or take it from `roles` of the issuer".to_owned(),
            other: None,
        });
    }
}

/// Cycles, one for each link that closes one.
fn cycles(look: &mut Look<'_>) {
    let mut graphs: BTreeMap<(&str, &str), HashMap<&str, Vec<&Row>>> = BTreeMap::new();
    for link in look.policy.links() {
        let domain = link.fields.get(2).map_or("", String::as_str);
        if let Some(from) = link.fields.first() {
            graphs.entry((&link.ptype, domain)).or_default().entry(from).or_default().push(link);
        }
    }
    let mut found = Vec::new();
    for graph in graphs.values() {
        let mut starts: Vec<&str> = graph.keys().copied().collect();
        starts.sort_unstable();
        let mut done = HashSet::new();
        starts.into_iter().for_each(|start| walk(graph, start, &mut done, &mut found));
    }
    for (link, names) in found {
        look.find(
            Code::Cycle,
            link,
            format!("leads in a circle: {}", names.join(", ")),
            "remove one of the links: as it is, each of these has the rights of all",
        );
    }
}

/// Walks from `start` in depth, without recursion, noting links that lead back onto the way.
fn walk<'p>(
    graph: &HashMap<&'p str, Vec<&'p Row>>,
    start: &'p str,
    done: &mut HashSet<&'p str>,
    found: &mut Vec<(&'p Row, Vec<String>)>,
) {
    let mut way: Vec<(&str, usize)> = vec![(start, 0)];
    let mut on_way = HashSet::from([start]);
    while let Some((name, next)) = way.last_mut() {
        let link = graph.get(name).filter(|_| !done.contains(name)).and_then(|links| links.get(*next));
        let Some(link) = link else {
            on_way.remove(name);
            done.insert(name);
            way.pop();
            continue;
        };
        *next += 1;
        let Some(to) = link.fields.get(1).map(String::as_str) else { continue };
        if on_way.contains(to) {
            let circle = way.iter().map(|(name, _)| *name).skip_while(|name| *name != to);
            found.push((link, circle.chain([to]).map(str::to_owned).collect()));
        } else if !done.contains(to) {
            on_way.insert(to);
            way.push((to, 0));
        }
    }
}

/// Every name that a link of callers' roles gives.
fn targets<'p>(look: &Look<'p>) -> impl Iterator<Item = &'p str> {
    let links = look.policy.links().iter().filter(|link| is_callers_link(look, link));
    links.filter_map(|link| Some(link.fields.get(1)?.as_str())).collect::<Vec<_>>().into_iter()
}

/// Whether a link is of a role definition that callers are looked up in.
fn is_callers_link(look: &Look<'_>, link: &Row) -> bool {
    look.shape.who.iter().flat_map(|who| &who.hows).any(|how| match how {
        How::Linked(at) => look.policy.model().roles.get(*at).is_some_and(|roles| roles.name == link.ptype),
        How::Equal | How::Pattern(_) | How::Literal(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, found_in};
    use super::super::{Known, KnownService};
    use crate::policy::review::testing::{ALLOW_ONLY, policy, policy_of};

    fn known() -> Known {
        let service = |name: &str| KnownService { name: name.into(), ..KnownService::default() };
        Known {
            file: "portcullis.toml".into(),
            services: vec![service("app"), service("admin")],
            granted: vec!["role:a".into()],
        }
    }

    fn with_config(rows: &str) -> Vec<(&'static str, u32)> {
        found_in(&policy(rows), rows, Some(&known()))
    }

    #[test]
    fn a_service_that_the_config_lacks_is_found() {
        assert_eq!(
            with_config("p, role:a, ap, /a, GET, allow\np, role:a, ap, /b, GET, allow\n"),
            [("unknown-service", 1), ("unknown-service", 2)]
        );
        assert_eq!(with_config("p, role:a, app, /a, GET, allow\np, role:a, admin, /b, GET, allow\n"), []);
        assert_eq!(found("p, role:a, ap, /a, GET, allow\n"), [], "not without a config");
    }

    #[test]
    fn a_method_that_is_not_forwarded_is_found() {
        for (methods, expected) in [
            ("get", &[("unknown-method", 1)][..]),
            ("TRACE", &[("unknown-method", 1)]),
            ("GET|FETCH", &[("unknown-method", 1)]),
            ("GET|", &[("unanchored", 1)]),
            ("P", &[("unanchored", 1)]),
            ("OPTION|GET", &[("unanchored", 1)]),
            ("GET", &[]),
            ("GET|HEAD", &[]),
            ("^(GET|HEAD)$", &[]),
            ("^P", &[]), // a regular expression by intent
            (".*", &[]),
        ] {
            assert_eq!(found(&format!("p, role:a, app, /a, {methods}, allow\n")), expected, "{methods}");
        }
        let rows = "p, user:a, /a, GET|HEAD\np, user:a, /b, GET\n";
        let matcher = "r.sub == p.sub && r.obj == p.obj && r.act == p.act";
        let equal = policy_of("r = sub, obj, act", "p = sub, obj, act", ALLOW_ONLY, matcher, rows);
        assert_eq!(found_in(&equal, rows, None), [("unknown-method", 1)]);
    }

    #[test]
    fn a_name_that_no_caller_has_is_found() {
        assert_eq!(found("p, alice, app, /a, GET, allow\n"), [("unknown-caller", 1)]);
        assert_eq!(found("p, editors, app, /a, GET, allow\ng, user:a, editors\n"), []);
        let link = "p, role:a, app, /a, GET, allow\ng, alice, role:a\n";
        assert_eq!(found(link), [("unknown-caller", 2)]);
    }

    #[test]
    fn a_role_that_nobody_has_is_found() {
        let rows = "p, role:a, app, /a, GET, allow\np, role:b, app, /b, GET, allow\n";
        assert_eq!(with_config(rows), [("role-nobody-has", 2)]);
        assert_eq!(with_config(&format!("{rows}g, user:x, role:b\n")), []);
        assert_eq!(with_config(&format!("{rows}g, role:a, role:b\n")), []);
        assert_eq!(with_config(&format!("{rows}g, role:c, role:b\n")), [("role-nobody-has", 2)]);
        assert_eq!(found(rows), [], "not without a config");
    }

    #[test]
    fn a_role_that_no_row_is_for_is_found() {
        let row = "p, role:a, app, /a, GET, allow\n";
        assert_eq!(found(&format!("{row}g, user:x, role:ghost\n")), [("role-without-rows", 2)]);
        assert_eq!(found(&format!("{row}g, user:x, role:b\ng, role:b, role:a\n")), []);
        assert_eq!(with_config("p, user:x, app, /a, GET, allow\n"), [("role-without-rows", 0)]);
    }

    #[test]
    fn a_circle_of_roles_is_found() {
        let row = "p, role:a, app, /a, GET, allow\n";
        assert_eq!(
            found(&format!("{row}g, role:a, role:b\ng, role:b, role:c\ng, role:c, role:a\n")),
            [("cycle", 4)]
        );
        assert_eq!(found(&format!("{row}g, role:a, role:a\n")), [("cycle", 2)]);
        assert_eq!(found(&format!("{row}g, role:b, role:a\ng, role:c, role:a\ng, role:c, role:b\n")), []);
    }
}
