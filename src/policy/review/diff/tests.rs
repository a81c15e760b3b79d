//! Claims about differences.

use proptest::prelude::*;

use super::super::members::Members;
use super::*;
use crate::policy::review::testing::{ALLOW_ONLY, DENY_OVERRIDES, FIRST, paths_by, policy, weighing};

fn told(old: &Policy, new: &Policy) -> Vec<String> {
    diff(old, new, &From::default()).changes.iter().map(line).collect()
}

fn line(change: &Change) -> String {
    let who: Vec<String> = change.principals.iter().map(ToString::to_string).collect();
    let sign = if change.now == Ruling::Allow { '+' } else { '-' };
    let except = if change.except.is_empty() {
        String::new()
    } else {
        format!(" except {}", change.except.join(", "))
    };
    format!("{sign} {} {} {}{except}", who.join(","), change.methods(), change.pattern)
}

const BASE: &str = "p, role:viewer, app, /docs/*, GET|HEAD, allow\np, role:editor, app, /docs/*, PUT, allow\n\
    g, role:editor, role:viewer\ng, user:bob, role:editor\n";

fn changed(rows: &str) -> Vec<String> {
    told(&policy(BASE), &policy(rows))
}

#[test]
fn text_that_changes_without_effect_is_no_change() {
    assert_eq!(changed(BASE), [""; 0]);
    let other = BASE.replace("GET|HEAD", "^(HEAD|GET)$").replace("p, role:editor", "# why\np, role:editor");
    assert_eq!(changed(&other), [""; 0]);
    let split = BASE.replace(
        "p, role:viewer, app, /docs/*, GET|HEAD, allow",
        "p, role:viewer, app, /docs/*, GET, allow\np, role:viewer, app, /docs/*, HEAD, allow",
    );
    assert_eq!(changed(&split), [""; 0]);
    let needless = format!("{BASE}p, role:editor, app, /docs/:x, GET, allow\n");
    assert_eq!(changed(&needless), [""; 0]);
}

#[test]
fn a_right_that_comes_or_goes_is_told_for_all_whom_it_reaches() {
    let more = format!("{BASE}p, role:editor, app, /docs/*, DELETE, allow\n");
    assert_eq!(changed(&more), ["+ user:bob,role:editor DELETE /docs/*"]);
    assert_eq!(told(&policy(&more), &policy(BASE)), ["- user:bob,role:editor DELETE /docs/*"]);
    let unlinked = BASE.replace("g, user:bob, role:editor\n", "");
    assert_eq!(changed(&unlinked), ["- user:bob GET|HEAD|PUT /docs/*"]);
}

#[test]
fn a_deny_is_told_where_it_takes_something() {
    let denied = format!("{BASE}p, role:viewer, app, /docs/secret/*, .*, deny\n");
    assert_eq!(
        changed(&denied),
        ["- user:bob,role:editor GET|HEAD|PUT /docs/secret/*", "- role:viewer GET|HEAD /docs/secret/*"]
    );
    let all = format!("{BASE}p, role:viewer, app, /*, .*, deny\n");
    assert_eq!(
        changed(&all),
        ["- user:bob,role:editor GET|HEAD|PUT /docs/*", "- role:viewer GET|HEAD /docs/*"]
    );
}

#[test]
fn what_another_row_still_allows_is_excepted() {
    let wide = "p, role:a, app, /*, GET, allow\np, role:a, app, /docs/*, GET, allow\n";
    let narrow = "p, role:a, app, /docs/*, GET, allow\n";
    assert_eq!(told(&policy(wide), &policy(narrow)), ["- role:a GET /* except /docs/*"]);
}

#[test]
fn the_meaning_of_a_pattern_may_change_with_the_model() {
    let rows = "p, role:a, app, /docs/*/x, GET, allow\n";
    let told = told(&paths_by("keyMatch2", rows), &paths_by("keyMatch", rows));
    assert!(!told.is_empty() && told.iter().all(|line| line.starts_with("+ role:a GET ")), "{told:?}");
}

#[test]
fn under_priority_the_order_of_rows_counts() {
    let (allow, deny) = ("p, role:a, app, /a/*, GET, allow\n", "p, role:a, app, /a/b, GET, deny\n");
    let first = weighing(FIRST, &format!("{deny}{allow}"));
    let second = weighing(FIRST, &format!("{allow}{deny}"));
    assert_eq!(told(&first, &second), ["+ role:a GET /a/b"]);
}

const PATTERNS: [&str; 8] = ["/a", "/a/*", "/:x", "/:x/b", "/*", "/a/b", "/c/:y", "/:x/*"];
const PATHS: [&str; 10] = ["/", "/a", "/a/", "/a/b", "/a/z", "/q", "/q/b", "/c/z", "/a/b/c", "/q/b/c"];

prop_compose! {
    fn rows()(
        rows in proptest::collection::vec((0..3usize, 0..8usize, 0..3usize, any::<bool>()), 1..6),
        links in proptest::collection::vec((0..3usize, 0..2usize), 0..3),
    ) -> String {
        let who = ["role:r", "role:s", "user:u"];
        let mut text = String::new();
        for (at, pattern, methods, allow) in rows {
            let (pattern, methods) = (PATTERNS[pattern], ["GET", "PUT", "GET|PUT"][methods]);
            let ruling = if allow { "allow" } else { "deny" };
            text.push_str(&format!("p, {}, app, {pattern}, {methods}, {ruling}\n", who[at]));
        }
        for (member, role) in links {
            text.push_str(&format!("g, {}, {}\n", who[member], who[role]));
        }
        text
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The oracle asks about every caller, path and method there is, and knows nothing of rows.
    #[test]
    fn no_difference_goes_untold_and_none_is_told_that_is_not_there(
        before in rows(), after in rows(), effect in 0..3usize,
    ) {
        let effect = [DENY_OVERRIDES, FIRST, ALLOW_ONLY][effect];
        let (old, new) = (weighing(effect, &before), weighing(effect, &after));
        let found = diff(&old, &new, &From::default());
        prop_assert!(!found.is_cut && found.without_example.is_empty());
        let members = Members::of(&old, &Shape::of(&old)).caller(&Principal::Other);
        for principal in ["role:r", "role:s", "user:u", "anonymous"].map(Principal::read) {
            let (user, roles) = match &principal {
                Principal::Role(role) => (members.0.clone(), vec![role.clone()]),
                other => (other.to_string(), Vec::new()),
            };
            for path in PATHS {
                for method in ["GET", "PUT"] {
                    let call = Call { service: "app".into(), path: path.into(), method: method.into() };
                    let ask = |policy| ask(policy, &From::default(), (&user, &roles), &call).0;
                    if ask(&old) == ask(&new) {
                        continue;
                    }
                    let told = found.changes.iter().any(|change| {
                        change.now == ask(&new)
                            && change.methods.contains(&method)
                            && change.principals.contains(&principal)
                            && change.pattern.split(AND).all(|pattern| matches(pattern, path))
                    });
                    prop_assert!(told, "{principal} {method} {path}\n{before}\n{after}\n{:#?}", found.changes);
                }
            }
        }
        for change in &found.changes {
            let principal = &change.principals[0];
            let (user, roles) = Members::of(&old, &Shape::of(&old)).caller(principal);
            for method in &change.methods {
                let (service, path) = (change.service.clone(), change.example.clone());
                let call = Call { service, path, method: (*method).to_owned() };
                let ask = |policy| ask(policy, &From::default(), (&user, &roles), &call).0;
                prop_assert!(ask(&old) != ask(&new) && ask(&new) == change.now, "{method} {change:?}");
            }
        }
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let patterns = crate::policy::patterns::Patterns::default();
    let answer = patterns.call(crate::policy::patterns::Function::KeyMatch2, path, pattern, "");
    matches!(answer, Ok(crate::policy::patterns::Answer::Matches(true)))
}
