//! Claims about whole policies: equality with casbin-rs, refusals at load, and the shipped sample.

use std::net::{IpAddr, Ipv4Addr};

use casbin::{CoreApi, DefaultModel, Enforcer, Model, NullAdapter};
use proptest::prelude::*;

use super::*;

const FORMS: PathForms = PathForms {
    encoded_slash: false,
    encoded_percent: false,
    semicolon: false,
    fragment: false,
    backslash: false,
    empty_segment: false,
};

fn text(name: &str, text: &str) -> Text {
    Text { name: name.into(), text: text.into() }
}

fn model(request: &str, columns: &str, roles: &str, effect: &str, matcher: &str) -> String {
    let roles = if roles.is_empty() { String::new() } else { format!("[role_definition]\n{roles}\n") };
    format!(
        "[request_definition]\nr = {request}\n[policy_definition]\np = {columns}\n{roles}\
         [policy_effect]\ne = {effect}\n[matchers]\nm = {matcher}\n"
    )
}

const ALLOW: &str = "some(where (p.eft == allow))";
const DENY_OVERRIDES: &str = "some(where (p.eft == allow)) && !some(where (p.eft == deny))";
const DENY_ONLY: &str = "!some(where (p.eft == deny))";
const PRIORITY: &str = "priority(p.eft) || deny";

fn rbac() -> String {
    let matcher = "r.dom == p.dom && g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act";
    model("sub, dom, obj, act", "sub, dom, obj, act, eft", "g = _, _", DENY_OVERRIDES, matcher)
}

fn load(model: &str, rows: &str) -> Result<Policy, LoadError> {
    Policy::load_text(&text("model.conf", model), &[text("policy.csv", rows)], FORMS)
}

fn question<'a>(user: &'a str, roles: &'a [String], path: &'a str) -> Question<'a> {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Question { user, roles, service: "app", path, method: "GET", host: "app.example.com", ip }
}

fn refusal(model: &str, rows: &str) -> String {
    load(model, rows).unwrap_err().to_string()
}

#[test]
fn a_policy_can_be_asked_from_many_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Policy>();
    let policy = load(&rbac(), "p, role:viewer, app, /docs/*, GET, allow\n").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let policy = &policy;
            scope.spawn(move || {
                let user = format!("user:{thread}");
                let viewer = ["role:viewer".to_owned()];
                for _ in 0..200 {
                    let with = policy.decide(&question(&user, &viewer, "/docs/a"));
                    let without = policy.decide(&question(&user, &[], "/docs/a"));
                    assert!(matches!((with, without), (Verdict::Allow { .. }, Verdict::Deny { rule: None })));
                }
            });
        }
    });
}

#[test]
fn the_row_that_decided_comes_with_the_decision_and_its_line() {
    let rows =
        "# one\np, role:viewer, app, /docs/*, GET, allow\n\np, role:viewer, app, /docs/secret, GET, deny\n";
    let policy = load(&rbac(), rows).unwrap();
    let roles = ["role:viewer".to_owned()];
    match policy.decide(&question("user:a", &roles, "/docs/a")) {
        Verdict::Allow { rule: Some(rule) } => {
            assert_eq!((rule.file.as_str(), rule.line), ("policy.csv", 2));
            assert_eq!(rule.text, "p, role:viewer, app, /docs/*, GET, allow");
        }
        other => panic!("{other:?}"),
    }
    match policy.decide(&question("user:a", &roles, "/docs/secret")) {
        Verdict::Deny { rule: Some(rule) } => assert_eq!(rule.line, 4),
        other => panic!("{other:?}"),
    }
    assert!(matches!(policy.decide(&question("user:a", &[], "/docs/a")), Verdict::Deny { rule: None }));
}

#[test]
fn a_compiled_decision_allocates_nothing() {
    let rows = "p, role:viewer, app, /docs/*, GET, allow\np, role:editor, app, /docs/:id/notes, GET, allow\n\
                p, role:fired, app, /*, GET, deny\ng, role:editor, role:viewer\ng, user:a, role:editor\n";
    let policy = load(&rbac(), rows).unwrap();
    assert!(policy.is_compiled());
    let roles = ["role:viewer".to_owned(), "role:else".to_owned()];
    for (user, path) in [("user:a", "/docs/1/notes"), ("user:b", "/docs/x"), ("user:c", "/nothing/here")] {
        let ask = || drop(policy.decide(&question(user, &roles, path)));
        // A thread makes its room once.
        ask();
        assert_eq!(allocation_counter::measure(ask).count_total, 0, "{user} {path}");
    }
}

#[test]
fn a_row_that_comes_twice_moves_to_the_end_as_in_casbin() {
    let priority = model(
        "sub, obj, act",
        "sub, obj, act, eft",
        "",
        PRIORITY,
        "r.sub == p.sub && keyMatch(r.obj, p.obj)",
    );
    let rows = "p, user:a, /*, GET, allow\np, user:a, /x*, GET, deny\np, user:a, /*, GET, allow\n";
    match load(&priority, rows).unwrap().decide(&question("user:a", &[], "/x")) {
        Verdict::Deny { rule: Some(rule) } => assert_eq!(rule.line, 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_role_definition_has_a_graph_of_its_own() {
    let two = model(
        "sub, obj, act",
        "sub, obj, act, eft",
        "g = _, _\ng2 = _, _",
        ALLOW,
        "g(r.sub, p.sub) && g2(r.obj, p.obj) && r.act == p.act",
    );
    let rows = "p, role:viewer, docs, GET, allow\ng2, /docs/a, docs\ng2, user:eve, role:viewer\ng, user:a, role:viewer\n";
    let policy = load(&two, rows).unwrap();
    assert!(matches!(policy.decide(&question("user:a", &[], "/docs/a")), Verdict::Allow { .. }));
    // In casbin-rs, g2's link would make eve a viewer.
    assert!(matches!(policy.decide(&question("user:eve", &[], "/docs/a")), Verdict::Deny { .. }));
    // A request's roles are rows of g and of no other definition.
    let roles = ["role:viewer".to_owned(), "docs".to_owned()];
    assert!(matches!(policy.decide(&question("/docs/a", &roles, "/docs/a")), Verdict::Allow { .. }));
    assert!(matches!(policy.decide(&question("/docs/b", &roles, "/docs/b")), Verdict::Deny { .. }));
}

#[test]
fn roles_of_a_request_do_not_hold_in_another_domain() {
    let three = model(
        "sub, dom, obj, act",
        "sub, dom, obj",
        "g = _, _, _",
        ALLOW,
        "g(r.sub, p.sub, p.dom) && keyMatch(r.obj, p.obj)",
    );
    let policy = load(&three, "p, role:viewer, app, /docs/*\np, role:viewer, billing, /bills/*\n").unwrap();
    let viewer = ["role:viewer".to_owned()];
    assert!(matches!(policy.decide(&question("user:a", &viewer, "/docs/a")), Verdict::Allow { .. }));
    assert!(matches!(policy.decide(&question("user:a", &viewer, "/bills/a")), Verdict::Deny { .. }));
}

#[test]
fn what_casbin_drops_or_trips_over_is_refused_at_load_with_its_line() {
    let good = "p, role:viewer, app, /docs/*, GET, allow\n";
    for (rows, expected) in [
        ("", "policy.csv: there is no p row"),
        ("# only a comment\n", "policy.csv: there is no p row"),
        ("g, user:a, role:b\n", "policy.csv: there is no p row"),
        (
            "p, role:viewer, app, /docs/*, GET\n",
            "policy.csv:1:1: `p` takes 5 fields (sub, dom, obj, act, eft), this row has 4",
        ),
        ("p, role:viewer, app, /docs/*, GET, allow, x\n", "policy.csv:1:1: `p` takes 5 fields"),
        ("\n#\np, role:viewer, app, /docs/*, GET, alow\n", "policy.csv:3:36: unknown effect `alow`"),
        ("p, role:viewer, app, /docs/*, GET, al", "policy.csv:1:36: unknown effect `al`"),
        (
            "p2, role:viewer, app, /docs/*, GET, allow\n",
            "policy.csv:1:1: unknown row type `p2`; the model defines p, g",
        ),
        ("P, role:viewer, app, /docs/*, GET, allow\n", "policy.csv:1:1: unknown row type `P`"),
        ("g, user:a\n", "policy.csv:1:1: `g` takes 2 fields"),
        ("g, user:a, role:b, app\n", "policy.csv:1:1: `g` takes 2 fields"),
        (
            "p, role:viewer, app, /docs/*, GET, allow # why\n",
            "policy.csv:1:42: a comment must have a line of its own",
        ),
        (
            "p, role:viewer, app, docs/*, GET, allow\n",
            "policy.csv:1:22: no path can match `docs/*`: a path begins with /",
        ),
        ("p, role:viewer, app, /%61/*, GET, allow\n", "policy.csv:1:22: no path can match"),
        (
            "p, role:viewer, app, /(a, GET, allow\n",
            "policy.csv:1:22: `/(a` is not a pattern for keyMatch2: unclosed group",
        ),
        (&format!("{good}p, role:viewer, app, /[, GET, allow\n"), "policy.csv:2:22: `/[` is not a pattern"),
    ] {
        let refused = refusal(&rbac(), rows);
        assert!(refused.contains(expected), "{rows:?}: {refused}");
    }
    let bom = load(&rbac(), &format!("\u{feff}{good}")).unwrap();
    assert_eq!(bom.counts().rules, 1);
}

#[test]
fn every_fault_of_a_file_is_told_at_once() {
    let refused = load(&rbac(), "p, a\nq, b\np, role:v, app, /a, GET, allow\ng, x\n").unwrap_err();
    let lines: Vec<Option<u32>> = refused.faults().iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [Some(1), Some(2), Some(4)]);
}

#[test]
fn an_empty_policy_that_denies_only_is_refused_and_one_that_needs_no_rows_is_not() {
    let deny_only = model("sub, obj, act", "sub, obj, act, eft", "", DENY_ONLY, "r.sub == \"user:root\"");
    assert!(refusal(&deny_only, "").contains("there is no p row"));
    let no_rows = model("sub, obj, act", "sub, obj, act, eft", "", ALLOW, "r.sub == \"user:root\"");
    let policy = load(&no_rows, "").unwrap();
    assert!(matches!(policy.decide(&question("user:root", &[], "/")), Verdict::Allow { rule: None }));
    assert!(matches!(policy.decide(&question("user:a", &[], "/")), Verdict::Deny { rule: None }));
}

#[test]
fn errors_of_a_matcher_surface_at_load_even_behind_a_short_circuit() {
    let matcher = |matcher: &str| model("sub, obj, act", "sub, obj, act", "g = _, _", ALLOW, matcher);
    for (text, expected) in [
        ("r.sub == p.sub && keyMatch9(r.obj, p.obj)", "Function not found: keyMatch9"),
        ("r.sub == p.sub && keyMatch(r.obj)", "Function not found: keyMatch"),
        ("r.sub == p.sub && g(r.sub, p.sub, p.obj)", "Function not found: g"),
        ("r.sub == p.sub && g2(r.sub, p.sub)", "Function not found: g2"),
        ("r.sub == p.sub && g(r.sub, 1)", "a role function takes names"),
        ("r.sub == p.sub && regexMatch(r.obj, \"*/x\")", "is not a pattern for regexMatch"),
        ("r.sub == p.sub && ipMatch(r.obj, \"10.0.0.0/8\")", "not an IP address"),
        ("r.sub", "expecting bool"),
        ("r.sub == ", "model.conf:10:1: casbin does not accept the model: Failed to compile"),
        ("r.sub.name == p.sub", "model.conf"),
    ] {
        let refused = refusal(&matcher(text), "p, user:a, /a, GET\n");
        assert!(refused.contains(expected), "{text}: {refused}");
    }
}

#[test]
fn what_only_casbin_for_go_has_is_refused_by_name() {
    let rows = "p, user:a, /a, GET, allow, 1\n";
    let columns = "sub, obj, act, eft, priority";
    let matcher = "g(r.sub, p.sub) && r.obj == p.obj";
    for (roles, effect, matcher, expected) in [
        ("g = _, _", PRIORITY, matcher, "casbin-rs does not order rows by a column `priority`"),
        ("g = _, _", "subjectPriority(p.eft) || deny", matcher, "unsupported effect `subjectPriority(p.eft)"),
        ("g = _, _, (_, _)", ALLOW, matcher, "`_, _, (_, _)`"),
        ("g = _, _", ALLOW, "timeMatch(\"_\", p.obj)", "Function not found: timeMatch"),
    ] {
        let refused = refusal(&model("sub, obj, act", columns, roles, effect, matcher), rows);
        assert!(refused.contains(expected) && refused.starts_with("model.conf:"), "{effect}: {refused}");
    }
    // As a name like any other it does no harm where order does not matter.
    assert!(load(&model("sub, obj, act", columns, "g = _, _", ALLOW, matcher), rows).is_ok());
}

#[test]
fn rules_that_are_evaluated_are_checked_row_by_row() {
    let abac = model(
        "sub, obj, act",
        "rule, obj, act",
        "",
        ALLOW,
        "r.act == p.act && eval(p.rule) && keyMatch(r.obj, p.obj)",
    );
    let policy = load(&abac, "p, r.sub == \"user:a\", /a/*, GET\n").unwrap();
    assert!(matches!(policy.decide(&question("user:a", &[], "/a/b")), Verdict::Allow { .. }));
    assert!(matches!(policy.decide(&question("user:b", &[], "/a/b")), Verdict::Deny { .. }));
    for (rule, expected) in [
        ("r.age > 18", "policy.csv:2:4: the matcher uses `r.age`"),
        ("r.sub == nobody", "policy.csv:2:1: evaluating the matcher fails here"),
        ("loop {}", "policy.csv:2:4: `loop` may not stand"),
        ("r.sub ==", "policy.csv:2:"),
        ("\"regexMatch(r.obj, \"\"*\"\")\"", "policy.csv:2:25: `*` is not a pattern"),
    ] {
        let refused = refusal(&abac, &format!("p, true, /b, GET\np, {rule}, /a/*, POST\n"));
        assert!(refused.contains(expected), "{rule}: {refused}");
    }
}

#[test]
fn a_pattern_made_up_from_the_request_fails_closed() {
    let matcher = "regexMatch(r.obj, \"^/home/\" + r.sub + \"$\") || !regexMatch(r.obj, r.sub)";
    let policy = load(&model("sub, obj, act", "sub, obj, act", "", ALLOW, matcher), "p, x, y, z\n").unwrap();
    assert!(matches!(policy.decide(&question("user:a", &[], "/home/user:a")), Verdict::Allow { .. }));
    let verdict = policy.decide(&question("user:(", &[], "/home/x"));
    assert!(matches!(verdict, Verdict::Failed(EvaluationError::Pattern { .. })), "{verdict:?}");
}

#[test]
fn the_largest_matcher_that_loads_fits_a_small_stack() {
    let deep = format!("{}r.sub == p.sub{}", "(".repeat(48), ")".repeat(48));
    let busy = format!("r.sub == p.sub{}", " && r.sub == p.sub".repeat(250));
    let mixed = (0..40).fold("r.sub == p.sub".to_owned(), |inner, _| format!("({inner} || r.act == p.act)"));
    for matcher in [deep, busy, mixed] {
        let model = model("sub, obj, act", "sub, obj, act", "", ALLOW, &matcher);
        std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(move || {
                let policy = load(&model, "p, user:a, /a, POST\n").unwrap();
                assert!(matches!(policy.decide(&question("user:b", &[], "/a")), Verdict::Deny { .. }));
            })
            .unwrap()
            .join()
            .unwrap();
    }
}

#[test]
fn the_epoch_is_the_policy_and_nothing_else() {
    let epoch = |rows: &[&str]| {
        let rows: Vec<Text> =
            rows.iter().enumerate().map(|(i, rows)| text(&format!("{i}.csv"), rows)).collect();
        Policy::load_text(&text("m", &rbac()), &rows, FORMS).unwrap().epoch()
    };
    let (a, b) = ("p, a, app, /a, GET, allow\n", "p, b, app, /b, GET, allow\n");
    assert_eq!(epoch(&[a, b]), epoch(&[a, b]));
    assert_ne!(epoch(&[a, b]), epoch(&[b, a]));
    assert_ne!(epoch(&[a, b]), epoch(&[&format!("{a}{b}")]));
}

#[test]
fn the_shipped_policy_answers_its_cases() {
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let sources = Sources {
        model: shipped.join("model.conf"),
        policies: vec![shipped.join("policy.csv")],
        forms: PathForms::default(),
    };
    let policy = Policy::load(&sources).unwrap();
    let cases = Case::read(&std::fs::read_to_string(shipped.join("cases.txt")).unwrap()).unwrap();
    assert!(cases.len() > 30);
    for case in &cases {
        let found = case.call.ask(&policy, Default::default());
        assert!(case.holds(&found), "cases.txt:{}: {case:?} {found:?}", case.line);
    }
}

#[test]
fn a_missing_or_unreadable_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (model, rows) = (directory.path().join("model.conf"), directory.path().join("policy.csv"));
    let sources = Sources { model: model.clone(), policies: vec![rows.clone()], forms: FORMS };
    let refused = || Policy::load(&sources).unwrap_err().to_string();
    assert!(refused().contains("model.conf: cannot be read"));
    std::fs::write(&model, rbac()).unwrap();
    std::fs::write(&rows, b"p, a\n\xff\n").unwrap();
    assert!(refused().contains("policy.csv:2: is not UTF-8"));
}

// Equality with casbin-rs.

/// Plain casbin-rs over the same rows, with a row for each role of the request.
fn casbin_answer(model: &str, rows: &[Vec<String>], values: Vec<String>) -> Option<bool> {
    let definitions: Vec<(String, String)> = model
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let evaluate = move || {
        let mut casbin = DefaultModel::default();
        for (key, value) in &definitions {
            let section = &key[..1];
            casbin.add_def(section, key, value);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut enforcer = runtime.block_on(Enforcer::new(casbin, NullAdapter)).unwrap();
        for row in rows {
            enforcer.get_mut_model().add_policy(&row[0][..1], &row[0], row[1..].to_vec());
        }
        enforcer.build_role_links().ok()?;
        enforcer.enforce(values).ok()
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(evaluate)).ok().flatten()
}

const MATCHERS: [&str; 12] = [
    "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
    "g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && r.act == p.act",
    "r.act == p.act && keyMatch2(r.obj, p.obj) && g(r.sub, p.sub)",
    "g(r.sub, p.sub) && keyMatch3(r.obj, p.obj) && regexMatch(r.act, p.act)",
    "g(r.sub, p.sub) && keyMatch4(r.obj, p.obj)",
    "g(r.sub, p.sub) && keyMatch5(r.obj, p.obj)",
    "g(r.sub, p.sub) && globMatch(r.obj, p.obj)",
    "g(r.sub, p.sub) && (p.obj == \"/a\" || keyMatch(r.obj, p.obj))",
    "g(r.sub, p.sub) && !(r.obj == p.obj)",
    "r.sub == \"n0\" || (g(r.sub, p.sub) && keyMatch(r.obj, p.obj))",
    "g(r.sub, p.sub) && keyGet(r.obj, p.obj) != \"\"",
    "p.sub == \"n1\" || r.sub in [\"n2\", p.sub]",
];

fn name() -> impl Strategy<Value = String> {
    (0u8..6).prop_map(|n| format!("n{n}"))
}

fn path_pattern() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "*", ":x", "{x}", "a*"]), 1..4)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 1..4)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn decisions_are_those_of_casbin_with_a_row_for_each_role(
        in_domains: bool,
        effect in prop::sample::select(vec![ALLOW, DENY_OVERRIDES, DENY_ONLY, PRIORITY]),
        matcher in prop::sample::select(MATCHERS.to_vec()),
        policies in prop::collection::vec((name(), path_pattern(), "(GET|POST)", "(allow|deny)", "[st]"), 1..6),
        links in prop::collection::vec((name(), name(), "[st]"), 0..8),
        roles in prop::collection::hash_set(name(), 0..3),
        user in name(),
        obj in path(),
        act in "(GET|POST)",
        service in "[st]",
    ) {
        let (matcher, g) = if in_domains {
            (format!("r.dom == p.dom && {}", matcher.replace("g(r.sub, p.sub)", "g(r.sub, p.sub, r.dom)")), "g = _, _, _")
        } else {
            (matcher.to_owned(), "g = _, _")
        };
        let model = model("sub, dom, obj, act", "sub, obj, act, eft, dom", g, effect, &matcher);
        let mut rows: Vec<Vec<String>> = policies
            .into_iter()
            .map(|(sub, obj, act, eft, dom)| vec!["p".into(), sub, obj, act, eft, dom])
            .collect();
        let link = |from: &str, to: &str, domain: &str| {
            let mut row = vec!["g".to_owned(), from.to_owned(), to.to_owned()];
            if in_domains { row.push(domain.to_owned()) }
            row
        };
        rows.extend(links.iter().map(|(from, to, domain)| link(from, to, domain)));
        let csv: String = rows.iter().map(|row| format!("{}\n", row.join(", "))).collect();
        // Patterns that are regular expressions to one function and not to another are refused here.
        let Ok(policy) = load(&model, &csv) else { return Ok(()) };
        let roles: Vec<String> = roles.into_iter().collect();
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let question = Question { user: &user, roles: &roles, service: &service, path: &obj, method: &act, host: "", ip };
        rows.extend(roles.iter().map(|role| link(&user, role, &service)));
        let expected = casbin_answer(&model, &rows, vec![user.clone(), service.clone(), obj.clone(), act.clone()]);
        let verdict = policy.decide(&question);
        let answer = match &verdict {
            Verdict::Allow { .. } => Some(true),
            Verdict::Deny { .. } => Some(false),
            Verdict::Failed(_) => None,
        };
        prop_assert_eq!(answer, expected, "{}\n{}\n{:?}", model, csv, verdict);
    }

    #[test]
    fn loading_any_text_ends_in_a_policy_or_an_error(model in "\\PC{0,200}", rows in "\\PC{0,200}") {
        let _ = load(&model, &rows);
        let _ = load(&rbac(), &rows);
    }
}
