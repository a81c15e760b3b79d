//! Questions to the log: filters, pages, cursors. A page is found by scanning.

use std::ops::ControlFlow;

use super::record::{Kind, Record};
use super::storage::{Store, StoreError, Walk};
use crate::clock::Timestamp;

/// Which records are wanted. What is `None` is not asked; a record without the field asked for is not wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// What the record is about.
    pub kind: Option<Kind>,
    /// One of the caller's principals: `user:alice`, or `alice` for short; `role:viewer`; `anonymous`.
    pub subject: Option<String>,
    /// The service's name.
    pub service: Option<String>,
    /// `allow` or `deny`.
    pub decision: Option<String>,
    /// The reason's code.
    pub reason: Option<String>,
    /// Not before this.
    pub from: Option<Timestamp>,
    /// Before this.
    pub to: Option<Timestamp>,
    /// What the canonical path, as it is shown, begins with.
    pub path_prefix: Option<String>,
    /// Whether calls that only ask if a service is alive are wanted, and their outcomes.
    pub health_checks: HealthChecks,
}

/// What becomes of calls that only ask if a service is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthChecks {
    /// They are left out.
    #[default]
    Exclude,
    /// They are there like any other.
    Include,
    /// Nothing else is.
    Only,
}

impl HealthChecks {
    /// What this word says: `exclude`, `include` or `only`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "exclude" => Some(Self::Exclude),
            "include" => Some(Self::Include),
            "only" => Some(Self::Only),
            _ => None,
        }
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exclude => "exclude",
            Self::Include => "include",
            Self::Only => "only",
        }
    }

    fn wants(self, record: &Record<'_>) -> bool {
        let tagged =
            [&["request", "tag"][..], &["tag"]].iter().any(|path| record.text(path) == Some("health_check"));
        match self {
            Self::Exclude => !tagged,
            Self::Include => true,
            Self::Only => tagged,
        }
    }
}

/// Which end of the log comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest record.
    #[default]
    NewestFirst,
    /// The oldest record.
    OldestFirst,
}

/// A page of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Indexes and stored bytes, in the order asked for.
    pub records: Vec<(u64, Vec<u8>)>,
    /// The index to go on from (inclusive); `None` at the end of the log. A page may be short, even empty, and still
    /// have one, when much had to be looked through.
    pub next: Option<u64>,
}

/// Finds up to `limit` records that `filter` wants among the first `size` of the log, from index `start` on.
///
/// # Errors
/// What the store says.
pub fn page(
    store: &dyn Store,
    size: u64,
    filter: &Filter,
    (order, start): (Order, Option<u64>),
    limit: usize,
) -> Result<Page, StoreError> {
    let mut page = Page::default();
    let Some(last) = size.checked_sub(1) else { return Ok(page) };
    let walk = match order {
        Order::NewestFirst => Walk::Down(start.unwrap_or(last).min(last)),
        Order::OldestFirst => Walk::Up(start.unwrap_or(0)),
    };
    let (mut examined, mut held) = (0, 0);
    store.scan(walk, &mut |index, bytes| {
        if index > last {
            return ControlFlow::Break(());
        }
        if page.records.len() == limit || held >= PAGE_BYTES || examined == SCAN_LIMIT {
            page.next = Some(index);
            return ControlFlow::Break(());
        }
        examined += 1;
        match filter.judge(bytes, order) {
            Judgement::Wanted => {
                held += bytes.len();
                page.records.push((index, bytes.to_vec()));
            }
            Judgement::Unwanted => {}
            Judgement::Past => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    })?;
    Ok(page)
}

enum Judgement {
    Wanted,
    Unwanted,
    /// Nor is any that follows.
    Past,
}

impl Filter {
    fn judge(&self, bytes: &[u8], order: Order) -> Judgement {
        // A record that cannot be read is shown to nobody here; `audit verify` names it.
        let Ok(record) = Record::parse(bytes) else { return Judgement::Unwanted };
        let time = record.head().time;
        let (early, late) = (self.from.is_some_and(|from| time < from), self.to.is_some_and(|to| time >= to));
        match (order, early, late) {
            (_, false, false) => {}
            (Order::NewestFirst, true, _) | (Order::OldestFirst, _, true) => return Judgement::Past,
            _ => return Judgement::Unwanted,
        }
        let is = |wanted: &Option<String>, path: &[&str]| {
            wanted.as_deref().is_none_or(|wanted| record.text(path) == Some(wanted))
        };
        let wanted = self.kind.is_none_or(|kind| record.head().kind == kind)
            && is(&self.service, &["request", "service"])
            && is(&self.decision, &["decision"])
            && is(&self.reason, &["reason"])
            && self.path_prefix.as_deref().is_none_or(|prefix| {
                let path = record.text(&["request", "path"]);
                let shown = path.or_else(|| record.text(&["request", "path", "redacted"]));
                shown.is_some_and(|path| path.starts_with(prefix))
            })
            && self.health_checks.wants(&record)
            && self.subject.as_deref().is_none_or(|subject| has_principal(&record, subject));
        if wanted { Judgement::Wanted } else { Judgement::Unwanted }
    }
}

fn has_principal(record: &Record<'_>, subject: &str) -> bool {
    let user = record.text(&["identity", "user"]);
    let roles = record.value(&["identity", "roles"]).and_then(|roles| roles.as_array());
    user == Some(subject)
        || user.and_then(|user| user.strip_prefix("user:")) == Some(subject)
        || roles.into_iter().flatten().any(|role| role.as_str() == Some(subject))
}

/// Most records one page looks at.
const SCAN_LIMIT: usize = 100_000;

/// A page ends with the record that takes it over this.
const PAGE_BYTES: usize = 4 << 20;
