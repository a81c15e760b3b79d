//! Rows against rows: duplicates, rows that another covers, rows that never decide, rows that are too broad.

use std::collections::HashMap;

use super::super::METHODS;
use super::super::access::methods;
use super::super::cover::Cover;
use super::super::shape::{How, Ruling, Shape};
use super::{Code, Look};
use crate::policy::Text;
use crate::policy::error::Faults;
use crate::policy::model::Effect;
use crate::policy::rows::{self, Row};

/// How many pairs of rows are compared.
const MOST_PAIRS: usize = 4_000_000;

/// Looks for all of these.
pub(super) fn look(look: &mut Look<'_>, texts: &[Text]) {
    duplicates(look, texts);
    without_effect(look);
    if let Some(cover) = look.cover {
        covered(look, cover);
    }
    broad(look);
}

fn duplicates(look: &mut Look<'_>, texts: &[Text]) {
    let (mut all, mut faults) = (Vec::new(), Faults::default());
    texts.iter().for_each(|text| rows::read(text, &mut all, &mut faults));
    let mut first: HashMap<(&str, &[String]), &Row> = HashMap::new();
    for row in &all {
        if let Some(first) = first.get(&(row.ptype.as_str(), row.fields.as_slice())) {
            let advice = if look.policy.model().effect == Effect::Priority {
                "remove one: only the last place counts"
            } else {
                "remove one"
            };
            look.find_beside(Code::Duplicate, row, Some(first), "the same row again".to_owned(), advice);
        } else {
            first.insert((&row.ptype, &row.fields), row);
        }
    }
}

/// Rows whose ruling the effect never asks for.
fn without_effect(look: &mut Look<'_>) {
    let policy = look.policy;
    for row in policy.rows() {
        match (policy.model().effect, look.shape.ruling(row)) {
            (Effect::AllowOverride, Ruling::Deny) => look.find(
                Code::DenyNeverWins,
                row,
                "the model's effect counts rows that allow, and no others".to_owned(),
                "let the effect be: some(where (p.eft == allow)) && !some(where (p.eft == deny))",
            ),
            (Effect::AllowUnlessDenied, Ruling::Allow) => look.find(
                Code::AllowNeverCounts,
                row,
                "the model's effect allows all that no row denies, this or not".to_owned(),
                "remove it, or let the effect ask for a row that allows",
            ),
            _ => {}
        }
    }
}

/// Rows that another row covers: needless if it says the same, never heard if it says the opposite and goes first.
fn covered(look: &mut Look<'_>, cover: Cover<'_>) {
    let policy = look.policy;
    let rows = policy.rows();
    let buckets = Buckets::of(look);
    let mut pairs = 0;
    for (at, row) in rows.iter().enumerate() {
        let mut worst: Option<(Code, usize)> = None;
        for other in buckets.candidates(look, row) {
            pairs += 1;
            let Some(wide) = rows.get(other).filter(|_| other != at) else { continue };
            let code = code_if_covered(look, (at, row), (other, wide));
            let Some(code) = code.filter(|_| cover.rows(wide, row)) else { continue };
            // Of two rows that cover each other, the first stays.
            if code == Code::Shadowed && other > at && cover.rows(row, wide) {
                continue;
            }
            if worst.is_none_or(|(known, _)| known == Code::Shadowed && code != Code::Shadowed) {
                worst = Some((code, other));
            }
        }
        if let Some((code, other)) = worst {
            tell_covered(look, code, row, rows.get(other));
        }
        if pairs > MOST_PAIRS {
            look.report.skipped.push("shadowed rows beyond the first 4,000,000 pairs of rows");
            return;
        }
    }
}

/// What it amounts to that `wide` covers `row`.
fn code_if_covered(look: &Look<'_>, (at, row): (usize, &Row), (other, wide): (usize, &Row)) -> Option<Code> {
    let (mine, theirs) = (look.shape.ruling(row), look.shape.ruling(wide));
    match (look.policy.model().effect, mine, theirs) {
        (Effect::Priority, ..) if other > at => None,
        (Effect::Priority, Ruling::Deny, Ruling::Allow) => Some(Code::DenyNeverWins),
        (Effect::Priority | Effect::DenyOverride, Ruling::Allow, Ruling::Deny) => Some(Code::Unreachable),
        // Told of already.
        (Effect::AllowOverride, Ruling::Deny, _) | (Effect::AllowUnlessDenied, Ruling::Allow, _) => None,
        (_, mine, theirs) => (mine == theirs).then_some(Code::Shadowed),
    }
}

fn tell_covered(look: &mut Look<'_>, code: Code, row: &Row, other: Option<&Row>) {
    let (found, advice) = match code {
        Code::Shadowed => {
            ("all that it matches another row matches, to the same effect", "remove it, or narrow the other")
        }
        Code::DenyNeverWins => (
            "all that it matches a row before it allows, and the first row that matches decides",
            "move it before that row",
        ),
        _ => ("all that it matches another row denies", "remove it, or narrow the row that denies"),
    };
    look.find_beside(code, row, other, found.to_owned(), advice);
}

/// Rows by service and name, where both are compared as names; all of them otherwise.
struct Buckets<'p> {
    by_name: Option<HashMap<(&'p str, &'p str), Vec<usize>>>,
    all: Vec<usize>,
}

impl<'p> Buckets<'p> {
    fn of(look: &Look<'p>) -> Self {
        let shape = look.shape;
        let named = |hows: &[How]| hows.iter().all(|how| matches!(how, How::Equal | How::Linked(_)));
        let by_name = [&shape.who, &shape.service]
            .into_iter()
            .all(|column| column.as_ref().is_none_or(|column| named(&column.hows)));
        let rows = look.policy.rows();
        let key =
            |row: &'p Row| (Shape::text(shape.service.as_ref(), row), Shape::text(shape.who.as_ref(), row));
        let mut buckets: HashMap<_, Vec<usize>> = HashMap::new();
        if by_name {
            rows.iter().enumerate().for_each(|(at, row)| buckets.entry(key(row)).or_default().push(at));
        }
        Self { by_name: by_name.then_some(buckets), all: (0..rows.len()).collect() }
    }

    /// The rows that can cover `row`.
    fn candidates(&self, look: &Look<'_>, row: &Row) -> Vec<usize> {
        let Some(by_name) = &self.by_name else { return self.all.clone() };
        let (service, who) =
            (Shape::text(look.shape.service.as_ref(), row), Shape::text(look.shape.who.as_ref(), row));
        let reached = look.members.reached(who, &[]);
        let mut found: Vec<usize> =
            reached.into_iter().filter_map(|name| by_name.get(&(service, name))).flatten().copied().collect();
        found.sort_unstable();
        found
    }
}

/// Rows that allow every path by every method, or every path to callers without a token.
fn broad(look: &mut Look<'_>) {
    let (policy, shape) = (look.policy, look.shape);
    let Some(path) = &shape.path else { return };
    for row in policy.rows() {
        let field = path.field(row);
        let everything = ["/q", "/q/w.z/k9", "/Q-1/"].iter().all(|any| path.matches(policy, field, any));
        if shape.ruling(row) == Ruling::Deny || !(everything || path.is_free(field)) {
            continue;
        }
        let by = shape.methods(policy, row);
        let open =
            shape.who.as_ref().is_none_or(|who| who.field(row) == "anonymous" || who.is_free(who.field(row)));
        let service = Shape::text(shape.service.as_ref(), row);
        if open && !by.is_empty() {
            look.find(
                Code::Broad,
                row,
                format!("everybody, without a token, may {} every path of {service}", methods(&by)),
                "name the paths that are public",
            );
        } else if by.len() == METHODS.len() {
            look.find(
                Code::Broad,
                row,
                format!("it allows every method on every path of {service}, those to come among them"),
                "name paths or methods; what is meant so stays with `# lint: allow broad` before it",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, found_in};
    use crate::policy::review::testing::{ALLOW_ONLY, DENY_ONLY, FIRST, weighing};

    #[test]
    fn a_row_that_comes_twice_is_found_and_one_that_differs_is_not() {
        let row = "p, role:a, app, /a, GET, allow\n";
        assert_eq!(found(&format!("{row}{row}")), [("duplicate", 2)]);
        assert_eq!(found(&format!("{row}p, role:a, app, /b, GET, allow\n")), []);
        let link = "g, role:b, role:a\n";
        assert_eq!(found(&format!("{row}{link}{link}")), [("duplicate", 3)]);
    }

    #[test]
    fn a_row_that_another_makes_needless_is_found() {
        let wide = "p, role:a, app, /docs/*, GET|HEAD, allow\ng, role:b, role:a\n";
        for (row, expected) in [
            ("p, role:a, app, /docs/:id, GET, allow", &[("shadowed", 3)][..]),
            ("p, role:b, app, /docs/*, HEAD, allow", &[("shadowed", 3)]),
            ("p, role:b, app, /docs/*, PUT, allow", &[]),
            ("p, role:c, app, /docs/:id, GET, allow", &[]),
            ("p, role:a, web, /docs/:id, GET, allow", &[]),
        ] {
            assert_eq!(found(&format!("{wide}{row}\n")), expected, "{row}");
        }
        // A wider row that comes later shadows as well, and of two that cover each other one is told.
        assert_eq!(
            found("p, role:a, app, /a/b, GET, allow\np, role:a, app, /a/*, GET, allow\n"),
            [("shadowed", 1)]
        );
        assert_eq!(
            found("p, role:a, app, /a, GET, allow\np, role:a, app, /a, ^GET$, allow\n"),
            [("shadowed", 2)]
        );
    }

    #[test]
    fn an_allow_that_is_always_overridden_is_found() {
        let deny = "p, role:a, app, /docs/*, .*, deny\n";
        assert_eq!(found(&format!("{deny}p, role:a, app, /docs/x, GET, allow\n")), [("unreachable", 2)]);
        assert_eq!(found(&format!("{deny}p, role:b, app, /docs/x, GET, allow\n")), []);
    }

    #[test]
    fn a_deny_that_never_wins_is_found() {
        let rows = "p, role:a, app, /docs/*, GET, allow\np, role:a, app, /docs/x, GET, deny\n";
        assert_eq!(found_in(&weighing(ALLOW_ONLY, rows), rows, None), [("deny-never-wins", 2)]);
        assert_eq!(found_in(&weighing(FIRST, rows), rows, None), [("deny-never-wins", 2)]);
        let other = "p, role:a, app, /docs/x, GET, deny\np, role:a, app, /docs/y, GET, allow\n";
        assert_eq!(found_in(&weighing(FIRST, other), other, None), []);
        assert_eq!(found(other), []);
    }

    #[test]
    fn an_allow_that_counts_for_nothing_is_found() {
        let rows = "p, role:a, app, /docs/*, GET, allow\np, role:b, app, /*, .*, deny\n";
        assert_eq!(found_in(&weighing(DENY_ONLY, rows), rows, None), [("allow-never-counts", 1)]);
        assert_eq!(found(rows), []);
    }

    #[test]
    fn what_allows_everything_is_found_and_what_denies_everything_is_not() {
        for (row, expected) in [
            ("p, role:a, app, /*, .*, allow", &[("broad", 1)][..]),
            ("p, role:a, app, /:x, .*, allow", &[]),
            ("p, role:a, app, /*, GET, allow", &[]),
            ("p, anonymous, app, /*, GET, allow", &[("broad", 1)]),
            ("p, anonymous, app, /public/*, GET, allow", &[]),
            ("p, role:a, app, /*, .*, deny", &[]),
        ] {
            assert_eq!(found(&format!("{row}\n")), expected, "{row}");
        }
    }
}
