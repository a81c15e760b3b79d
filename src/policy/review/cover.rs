//! Whether a row matches all that another matches. One-sided, as [`language`](super::language) is.

use super::METHODS;
use super::language::{covers, is_everything, plain};
use super::shape::{Column, How, Shape, reaches};
use crate::policy::Policy;
use crate::policy::expression::{Expression, Term, Test};
use crate::policy::model::RequestName;
use crate::policy::rows::Row;

/// Compares the rows of a policy.
#[derive(Clone, Copy, Debug)]
pub struct Cover<'p> {
    policy: &'p Policy,
    shape: &'p Shape,
}

impl<'p> Cover<'p> {
    /// `None` if the matcher cannot be taken apart into one condition for each column, so that rows cannot be compared
    /// column by column.
    pub fn of(policy: &'p Policy, shape: &'p Shape) -> Option<Self> {
        let expression = policy.expression()?;
        let seen = |column: usize| shape.columns.iter().any(|known| known.index == column);
        let mut columns = Vec::new();
        expression.for_each_test(&mut |test| columns.extend(columns_of(test)));
        (by_column(expression) && columns.into_iter().all(seen)).then_some(Self { policy, shape })
    }

    /// Whether `wide` matches every request that `narrow` matches.
    pub fn rows(&self, wide: &Row, narrow: &Row) -> bool {
        self.shape.columns.iter().all(|column| self.column(column, wide, narrow))
    }

    /// As [`Cover::rows`], of the one column.
    pub fn column(&self, column: &Column, wide: &Row, narrow: &Row) -> bool {
        let (a, b) = (column.field(wide), column.field(narrow));
        if a == b || column.is_free(a) {
            return true;
        }
        if column.is_free(b) {
            return false;
        }
        match column.request {
            Some(RequestName::Act) => METHODS.iter().all(|method| {
                !column.matches(self.policy, b, method) || column.matches(self.policy, a, method)
            }),
            Some(RequestName::Sub) => column.hows.iter().any(|how| match how {
                How::Linked(definition) => reaches(self.policy, *definition, b, a, self.domain(narrow)),
                How::Equal | How::Pattern(_) | How::Literal(_) => false,
            }),
            _ => column.hows.iter().all(|narrow| {
                matches!(narrow, How::Literal(_))
                    || column.hows.iter().any(|wide| self.pattern((wide, a), (narrow, b)))
            }),
        }
    }

    /// The domain that roles are looked up in for all requests that `row` matches; one without links if it can differ.
    fn domain<'r>(&self, row: &'r Row) -> Option<&'r str> {
        let service = self.shape.service.as_ref().filter(|service| service.hows == [How::Equal]);
        Some(service.map_or("", |service| service.field(row)))
    }

    fn pattern(&self, wide: (&How, &str), narrow: (&How, &str)) -> bool {
        if wide == narrow {
            return true;
        }
        let (wide_plain, narrow_plain) = (plain(wide.0, wide.1), plain(narrow.0, narrow.1));
        match (wide_plain, narrow_plain) {
            (Some(wide), _) if is_everything(&wide) => true,
            (Some(wide), Some(narrow)) => covers(&wide, &narrow),
            _ => *narrow.0 == How::Equal && wide.0.matches(self.policy, wide.1, narrow.1),
        }
    }
}

/// Whether `expression` can hold only by a test of this column.
pub fn requires(expression: &Expression, column: usize) -> bool {
    match expression {
        Expression::All(parts) => parts.iter().any(|part| requires(part, column)),
        Expression::Any(parts) => parts.iter().all(|part| requires(part, column)),
        Expression::Test(test) => columns_of(test).first() == Some(&column),
    }
}

/// Whether an expression is a conjunction of conditions on one column each, but for parts without any column.
fn by_column(expression: &Expression) -> bool {
    let Expression::All(parts) = expression else { return is_of_one_column(expression) };
    parts.iter().all(|part| match part {
        Expression::All(_) => by_column(part),
        Expression::Any(_) | Expression::Test(_) => is_of_one_column(part),
    })
}

fn is_of_one_column(expression: &Expression) -> bool {
    let (mut columns, mut conjunctions) = (Vec::new(), false);
    expression.for_each_test(&mut |test| columns.extend(columns_of(test)));
    if let Expression::Any(parts) = expression {
        conjunctions = parts.iter().any(|part| matches!(part, Expression::All(_)));
    }
    columns.dedup();
    columns.len() <= 1 && !conjunctions
}

/// The columns a test depends on; for a role function the role's first, then the domain's, which its own condition
/// speaks of elsewhere.
fn columns_of(test: &Test) -> Vec<usize> {
    let column = |term: &Term| match term {
        Term::Column(index) => Some(*index),
        Term::Request(_) | Term::Literal(_) => None,
    };
    let terms = match test {
        Test::Equal(left, right) => [left, right],
        Test::Linked { from, to, .. } => [to, from],
        Test::Matches { value, pattern, .. } => [pattern, value],
    };
    terms.into_iter().filter_map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::review::testing::{ALLOW_ONLY, policy, policy_of};

    fn first_covers_second(policy: &Policy) -> Option<bool> {
        let shape = Shape::of(policy);
        let cover = Cover::of(policy, &shape)?;
        Some(cover.rows(&policy.rows()[0], &policy.rows()[1]))
    }

    #[test]
    fn a_row_covers_another_if_every_column_does() {
        let wide = "p, role:viewer, app, /docs/*, GET|HEAD, allow";
        for (narrow, expected) in [
            ("p, role:viewer, app, /docs/a, GET, allow", true),
            ("p, role:editor, app, /docs/:id, GET, allow", true), // an editor is a viewer
            ("p, role:other, app, /docs/a, GET, allow", false),
            ("p, role:viewer, web, /docs/a, GET, allow", false),
            ("p, role:viewer, app, /reports/a, GET, allow", false),
            ("p, role:viewer, app, /docs/a, GET|PUT, allow", false),
            ("p, role:viewer, app, /*, GET, allow", false),
        ] {
            let policy = policy(&format!("{wide}\n{narrow}\ng, role:editor, role:viewer\n"));
            assert_eq!(first_covers_second(&policy), Some(expected), "{narrow}");
        }
    }

    #[test]
    fn rows_are_compared_only_where_the_matcher_falls_apart_by_column() {
        let (r, p) = ("r = sub, dom, obj, act", "p = sub, dom, obj, act");
        let rows = "p, *, app, /a/*, GET\np, user:a, app, /a/b, GET\n";
        for (matcher, expected) in [
            ("(r.sub == p.sub || p.sub == \"*\") && keyMatch(r.obj, p.obj)", Some(true)),
            ("r.sub == p.sub && keyMatch(r.obj, p.obj)", Some(false)),
            ("r.dom == \"x\" && (r.sub == p.sub || p.sub == \"*\") && keyMatch(r.obj, p.obj)", Some(true)),
            ("r.sub == p.sub || keyMatch(r.obj, p.obj)", None),
            ("r.sub != p.sub && keyMatch(r.obj, p.obj)", None),
        ] {
            let policy = policy_of(r, p, ALLOW_ONLY, matcher, rows);
            assert_eq!(first_covers_second(&policy), expected, "{matcher}");
        }
    }
}
