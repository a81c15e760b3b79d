//! Which column of a row says who, at which service, which paths and which methods: read off the matcher.

use std::collections::HashSet;

use crate::policy::Policy;
use crate::policy::matcher::{Matcher, Operand, Use};
use crate::policy::model::{ModelText, RequestName};
use crate::policy::patterns::{Answer, Function};
use crate::policy::rows::Row;

/// The columns of a policy by what they speak of. A column that the matcher compares with nothing of the request, or
/// in a way that cannot be seen through, is not here.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// The column compared with the caller.
    pub who: Option<Column>,
    /// The column compared with the service.
    pub service: Option<Column>,
    /// The column compared with the path.
    pub path: Option<Column>,
    /// The column compared with the method.
    pub method: Option<Column>,
    /// The column that holds allow or deny.
    pub effect: Option<usize>,
    /// Every column that is compared with something, these four among them.
    pub columns: Vec<Column>,
}

/// A column, and how it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its place in a row, from 0.
    pub index: usize,
    /// What it is compared with; `None` if only with strings.
    pub request: Option<RequestName>,
    /// The ways; any of them may hold.
    pub hows: Vec<How>,
}

/// How a column is compared with a value of the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// `r.x == p.x`.
    Equal,
    /// `g(r.x, p.x)`: the role definition, by position.
    Linked(usize),
    /// `function(r.x, p.x)`.
    Pattern(Function),
    /// `p.x == "text"`: a row that has this text there matches every value.
    Literal(String),
}

/// Whether a row allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ruling {
    /// It allows.
    Allow,
    /// It denies.
    Deny,
}

impl Ruling {
    /// `allow` or `deny`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl Shape {
    /// The shape of `policy`.
    pub fn of(policy: &Policy) -> Self {
        let model = policy.model();
        let Ok(matcher) = Matcher::read(model) else { return Self::default() };
        let columns: Vec<Column> =
            (0..model.columns.len()).filter_map(|index| Column::read(model, &matcher, index)).collect();
        let find = |name| columns.iter().find(|column| column.request == Some(name)).cloned();
        Self {
            who: find(RequestName::Sub),
            service: find(RequestName::Dom),
            path: find(RequestName::Obj),
            method: find(RequestName::Act),
            effect: model.effect_column(),
            columns,
        }
    }

    /// Whether `row` allows or denies; rows of a model without an effect column allow.
    pub fn ruling(&self, row: &Row) -> Ruling {
        match self.effect.and_then(|column| row.fields.get(column)).map(String::as_str) {
            Some("deny") => Ruling::Deny,
            _ => Ruling::Allow,
        }
    }

    /// Whether `row` can match a request with `value` where `column` looks; a column that there is none of matches all.
    pub fn matches(policy: &Policy, column: Option<&Column>, row: &Row, value: &str) -> bool {
        column.is_none_or(|column| column.matches(policy, column.field(row), value))
    }

    /// The methods that the gate forwards and that `row` matches.
    pub fn methods(&self, policy: &Policy, row: &Row) -> Vec<&'static str> {
        let matched = |method: &&str| Self::matches(policy, self.method.as_ref(), row, method);
        super::METHODS.into_iter().filter(matched).collect()
    }

    /// What stands in `column` of `row`; `*` where there is no such column.
    pub fn text<'r>(column: Option<&Column>, row: &'r Row) -> &'r str {
        column.map_or("*", |column| column.field(row))
    }
}

impl Column {
    fn read(model: &ModelText, matcher: &Matcher, index: usize) -> Option<Self> {
        let mut column = Self { index, request: None, hows: Vec::new() };
        for (_, use_) in matcher.uses.iter().filter(|(used, _)| *used == index) {
            match use_ {
                Use::Equal(name) => column.add(Some(*name), How::Equal)?,
                Use::Pattern(function, name) => column.add(Some(*name), How::Pattern(*function))?,
                Use::Literal(text) => column.add(None, How::Literal(text.clone()))?,
                Use::Other => {}
            }
        }
        for call in matcher.calls.iter().filter(|call| call.pattern == Operand::Column(index)) {
            if let Some(definition) = model.roles.iter().position(|roles| roles.name == call.name) {
                column.add(call.value, How::Linked(definition))?;
            }
        }
        (!column.hows.is_empty()).then_some(column)
    }

    /// `None` if the column speaks of two things.
    fn add(&mut self, request: Option<RequestName>, how: How) -> Option<()> {
        if request.is_some() && self.request.is_some() && request != self.request {
            return None;
        }
        self.request = self.request.or(request);
        if !self.hows.contains(&how) {
            self.hows.push(how);
        }
        Some(())
    }

    /// What stands in this column of `row`.
    pub fn field<'r>(&self, row: &'r Row) -> &'r str {
        row.fields.get(self.index).map_or("", String::as_str)
    }

    /// Whether `field` in this column matches `value`, by any of the ways. Links count in every domain.
    pub fn matches(&self, policy: &Policy, field: &str, value: &str) -> bool {
        self.hows.iter().any(|how| how.matches(policy, field, value))
    }

    /// Whether `field` in this column matches every value, being compared with a string that it equals.
    pub fn is_free(&self, field: &str) -> bool {
        self.hows.iter().any(|how| matches!(how, How::Literal(text) if text == field))
    }
}

impl How {
    /// Whether `field` matches `value` in this way.
    pub fn matches(&self, policy: &Policy, field: &str, value: &str) -> bool {
        match self {
            Self::Equal => field == value,
            Self::Literal(text) => field == text,
            Self::Linked(definition) => reaches(policy, *definition, value, field, None),
            Self::Pattern(function) => {
                matches!(policy.tables.patterns.call(*function, value, field, ""), Ok(Answer::Matches(true)))
            }
        }
    }
}

/// Whether `from` has the role `to`: in `domain`, or in any for `None`.
pub fn reaches(policy: &Policy, definition: usize, from: &str, to: &str, domain: Option<&str>) -> bool {
    let Some(graph) = policy.tables.roles.get(definition) else { return from == to };
    let in_domains = policy.model().roles.get(definition).is_some_and(|roles| roles.in_domains);
    match domain {
        _ if !in_domains => graph.reaches(from, to, "", None),
        Some(domain) => graph.reaches(from, to, domain, None),
        None => from == to || domains(policy).any(|domain| graph.reaches(from, to, domain, None)),
    }
}

/// Every domain that a link has.
fn domains(policy: &Policy) -> impl Iterator<Item = &str> {
    let named: HashSet<&str> =
        policy.links().iter().filter_map(|link| Some(link.fields.get(2)?.as_str())).collect();
    named.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::review::testing::{policy, policy_of};

    #[test]
    fn columns_are_known_by_what_they_are_compared_with() {
        let shape = Shape::of(&policy("p, role:a, app, /x, GET, allow"));
        let at = |column: &Option<Column>| column.as_ref().map(|column| column.index);
        assert_eq!(
            (at(&shape.who), at(&shape.service), at(&shape.path), at(&shape.method), shape.effect),
            (Some(0), Some(1), Some(2), Some(3), Some(4))
        );
        assert_eq!(shape.who.unwrap().hows, [How::Linked(0)]);
        assert_eq!(shape.path.unwrap().hows, [How::Pattern(Function::KeyMatch2)]);

        let other = policy_of(
            "r = act, obj, sub",
            "p = deed, thing, person",
            "some(where (p.eft == allow))",
            "r.act == p.deed && (r.obj == p.thing || keyMatch(r.obj, p.thing)) && (g(r.sub, p.person) || p.person == \"*\")",
            "p, GET, /a, *",
        );
        let shape = Shape::of(&other);
        assert_eq!(shape.path.unwrap().hows, [How::Equal, How::Pattern(Function::KeyMatch)]);
        let who = shape.who.unwrap();
        assert_eq!(who.index, 2);
        assert!(who.is_free("*") && !who.is_free("role:a"));
        assert_eq!(shape.service, None);
    }
}
