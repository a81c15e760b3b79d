//! The index beside casbin-rs: generated models, policies and requests, the same answer and the same row.
//!
//! `PROPTEST_CASES=1000000 cargo test --lib policy::index::equality -- --nocapture` makes the long run.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use crate::policy::{PathForms, Policy, Question, Text, Verdict};

/// How many cases each claim is tried with in an ordinary run.
const CASES: u32 = 3000;

fn cases() -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: wanted.unwrap_or(CASES),
        max_global_rejects: u32::MAX,
        ..ProptestConfig::default()
    }
}

/// A test of one column, and what its fields may be.
fn tests_of(column: &'static str, in_domains: bool) -> Vec<String> {
    let domain = |domain: &str| if in_domains { format!(", {domain}") } else { String::new() };
    let roles = |text: &str| text.replace("DOM", &domain("r.dom")).replace("PDOM", &domain("p.dom"));
    match column {
        "sub" => vec![
            "g(r.sub, p.sub DOM)".into(),
            "g(r.sub, p.sub DOM)".into(),
            "g(r.sub, p.sub DOM)".into(),
            "r.sub == p.sub".into(),
            "(r.sub == p.sub || g(r.sub, p.sub DOM))".into(),
            "(p.sub == \"n1\" || g(r.sub, p.sub DOM))".into(),
            "g(p.sub, r.sub DOM)".into(),
            "(g(r.sub, \"n0\" DOM) || r.sub == p.sub)".into(),
        ],
        "obj" => vec![
            "keyMatch(r.obj, p.obj)".into(),
            "keyMatch2(r.obj, p.obj)".into(),
            "keyMatch3(r.obj, p.obj)".into(),
            "keyMatch4(r.obj, p.obj)".into(),
            "keyMatch5(r.obj, p.obj)".into(),
            "regexMatch(r.obj, p.obj)".into(),
            "globMatch(r.obj, p.obj)".into(),
            "r.obj == p.obj".into(),
            "(r.obj == p.obj || keyMatch2(r.obj, p.obj))".into(),
            "(keyMatch(r.obj, p.obj) && regexMatch(r.obj, p.obj))".into(),
            "g2(r.obj, p.obj)".into(),
            "(p.obj == \"/a\" && r.obj == \"/b\" || keyMatch(r.obj, \"/a/*\"))".into(),
        ],
        "act" => vec![
            "r.act == p.act".into(),
            "regexMatch(r.act, p.act)".into(),
            "(r.act == p.act || p.act == \".*\")".into(),
            "keyMatch(r.act, p.act)".into(),
        ],
        _ => vec![
            "r.dom == p.dom".into(),
            "(r.dom == p.dom || p.dom == \"t\")".into(),
            "r.act == r.act".into(),
        ],
    }
    .into_iter()
    .map(|text: String| roles(&text.replace(" DOM", "DOM")))
    .collect()
}

fn matcher(in_domains: bool) -> impl Strategy<Value = String> {
    let of = |column| prop::sample::select(tests_of(column, in_domains));
    let order = Just(vec![0usize, 1, 2, 3]).prop_shuffle();
    let address = prop::option::weighted(0.2, Just("ipMatch(r.ip, p.net)".to_owned()));
    let around =
        prop::sample::select(vec!["{}", "{}", "{}", "r.sub == \"n5\" || {}", "g2(r.sub, \"/c\") || ({})"]);
    (of("sub"), of("obj"), of("act"), of("dom"), order, 2usize..5, address, around).prop_map(
        |(sub, obj, act, dom, order, many, address, around)| {
            let parts = [sub, obj, act, dom];
            let mut parts: Vec<String> = order.into_iter().take(many).map(|at| parts[at].clone()).collect();
            parts.extend(address);
            around.replace("{}", &parts.join(" && "))
        },
    )
}

fn name() -> impl Strategy<Value = String> {
    (0u8..6).prop_map(|n| format!("n{n}"))
}

fn path_pattern() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec![
        "a", "b", "c", "*", ":x", "{x}", "a*", "a:x", "a{x}", "{x}b", ".*", "(a|b)", "[ab]", "?",
    ]);
    prop_oneof![
        6 => prop::collection::vec(segment.clone(), 1..4).prop_map(|segments| format!("/{}", segments.join("/"))),
        1 => prop::collection::vec(segment, 1..3).prop_map(|segments| format!("^/{}$", segments.join("/"))),
        1 => Just("*".to_owned()),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "c", "ab", "ac", ""]);
    prop::collection::vec(segment, 1..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn method() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["GET", "POST", "PURGE"]).prop_map(str::to_owned)
}

fn method_pattern() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["GET", "POST", "GET|POST", ".*", "P*"]).prop_map(str::to_owned)
}

fn network() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "10.0.0.1",
        "10.0.0.0/8",
        "::/0",
        "0.0.0.0/0",
        "::ffff:10.0.0.1",
        "192.0.2.0/24",
    ])
    .prop_map(str::to_owned)
}

/// One row of each kind: sub, obj, act, eft, dom, net.
fn row() -> impl Strategy<Value = String> {
    (name(), path_pattern(), method_pattern(), "(allow|deny)", "[st]", network())
        .prop_map(|(sub, obj, act, eft, dom, net)| format!("p, {sub}, {obj}, {act}, {eft}, {dom}, {net}\n"))
}

#[derive(Clone, Debug)]
struct World {
    model: String,
    rows: String,
}

fn world() -> impl Strategy<Value = World> {
    any::<bool>().prop_flat_map(|in_domains| {
        let effect = prop::sample::select(vec![
            "some(where (p.eft == allow))",
            "some(where (p.eft == allow)) && !some(where (p.eft == deny))",
            "!some(where (p.eft == deny))",
            "priority(p.eft) || deny",
        ]);
        let links = prop::collection::vec((name(), name(), "[st]"), 0..10);
        let objects = prop::collection::vec((path(), prop::sample::select(vec!["/a", "/b", "/c"])), 0..4);
        (effect, matcher(in_domains), prop::collection::vec(row(), 1..14), links, objects).prop_map(
            move |(effect, matcher, rows, links, objects)| {
                let g = if in_domains { "g = _, _, _" } else { "g = _, _" };
                let model = format!(
                    "[request_definition]\nr = sub, dom, obj, act, ip\n[policy_definition]\n\
                     p = sub, obj, act, eft, dom, net\n[role_definition]\n{g}\ng2 = _, _\n[policy_effect]\n\
                     e = {effect}\n[matchers]\nm = {matcher}\n"
                );
                let mut rows = rows.concat();
                for (from, to, domain) in links {
                    let domain = if in_domains { format!(", {domain}") } else { String::new() };
                    rows.push_str(&format!("g, {from}, {to}{domain}\n"));
                }
                for (from, to) in objects {
                    rows.push_str(&format!("g2, {from}, {to}\n"));
                }
                World { model, rows }
            },
        )
    })
}

fn load(world: &World) -> Option<Policy> {
    let text = |name: &str, text: &str| Text { name: name.into(), text: text.into() };
    let forms = PathForms { empty_segment: true, ..PathForms::default() };
    Policy::load_text(&text("model.conf", &world.model), &[text("policy.csv", &world.rows)], forms).ok()
}

/// Allowed or not, and by which line; `None` if there is no answer.
fn told(verdict: &Verdict) -> Option<(bool, Option<u32>)> {
    match verdict {
        Verdict::Allow { rule } => Some((true, rule.as_ref().map(|rule| rule.line))),
        Verdict::Deny { rule } => Some((false, rule.as_ref().map(|rule| rule.line))),
        Verdict::Failed(_) => None,
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn an_index_gives_the_answers_and_the_rows_that_casbin_gives(
        world in world(),
        asked in prop::collection::vec(
            (name(), prop::collection::vec(name(), 0..3), "[stu]", path(), method(), prop::sample::select(vec![
                IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
                IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)),
                "2001:db8::1".parse().unwrap(),
            ])),
            1..6,
        ),
    ) {
        // Of the policies made up here, some do not load, and some are for casbin to evaluate.
        let policy = load(&world).filter(Policy::is_compiled);
        prop_assume!(policy.is_some());
        let Some(policy) = policy else { return Ok(()) };
        let casbin = policy.uncompiled();
        for (user, roles, service, path, method, ip) in &asked {
            let question = Question { user, roles, service, path, method, host: "", ip: *ip };
            let (ours, theirs) = (policy.decide(&question), casbin.decide(&question));
            prop_assert_eq!(told(&ours), told(&theirs), "{}\n{}\n{:?}", world.model, world.rows, question);
        }
    }
}
