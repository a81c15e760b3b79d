//! Claims about differences.

use super::*;
use crate::policy::review::testing::{FIRST, paths_by, policy, weighing};

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
