//! One of two policies that are compared, and what is read off it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::super::language::{Plain, covers};
use super::super::members::Members;
use super::super::shape::Shape;
use super::super::witness::{Services, Witnesses};
use super::AND;
use crate::policy::Policy;
use crate::policy::rows::Row;

/// One policy and what is read off it.
pub(super) struct Side<'p> {
    pub(super) policy: &'p Policy,
    pub(super) shape: &'p Shape,
    pub(super) members: Members<'p>,
    pub(super) witnesses: Witnesses<'p>,
    pub(super) services: Services<'p>,
    symbols: RefCell<HashMap<String, Option<Rc<Plain>>>>,
}

impl<'p> Side<'p> {
    pub(super) fn of(policy: &'p Policy, shape: &'p Shape, word: &str) -> Self {
        Self {
            policy,
            shape,
            members: Members::of(policy, shape),
            witnesses: Witnesses::of(policy, shape.path.as_ref(), word),
            services: Services::of(policy, shape.service.as_ref()),
            symbols: RefCell::default(),
        }
    }

    /// A pattern taken apart, once.
    pub(super) fn symbols(&self, pattern: &str) -> Option<Rc<Plain>> {
        let mut known = self.symbols.borrow_mut();
        match known.get(pattern) {
            Some(symbols) => symbols.clone(),
            None => {
                let symbols = self.witnesses.symbols(pattern).map(Rc::new);
                known.insert(pattern.to_owned(), symbols.clone());
                symbols
            }
        }
    }

    pub(super) fn row(&self, at: usize) -> Option<&'p Row> {
        self.policy.rows().get(at)
    }

    pub(super) fn pattern(&self, row: &'p Row) -> &'p str {
        Shape::text(self.shape.path.as_ref(), row)
    }

    pub(super) fn service(&self, row: &Row) -> String {
        self.services.of_field(Shape::text(self.shape.service.as_ref(), row))
    }
}

/// What to call the paths that two patterns share: the narrower one, or both.
pub(super) fn narrower(side: &Side<'_>, a: &str, b: &str) -> String {
    match (side.symbols(a), side.symbols(b)) {
        (Some(wide), Some(narrow)) if covers(&wide, &narrow) => b.to_owned(),
        (Some(narrow), Some(wide)) if covers(&wide, &narrow) => a.to_owned(),
        _ => format!("{a}{AND}{b}"),
    }
}
