//! What two policies answer differently.
//!
//! Rows are not compared: both policies are asked. What to ask comes from the rows, though. A caller's answers can
//! differ only at calls that match a row which is for that caller in one policy and not in the other, or whose place
//! among the rows differs where places count. So for each caller these rows are looked for, and paths made of their
//! patterns: of each by itself, and of where it meets each other row for the same caller.

mod side;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use self::side::{Side, narrower};
use super::access::{Call, From, ask, methods};
use super::language::{covers, meet};
use super::members::Principal;
use super::shape::{Ruling, Shape};
use super::witness::fresh_word;
use super::{METHODS, cover};
use crate::access::Rule;
use crate::policy::Policy;
use crate::policy::model::Effect;
use crate::policy::rows::Row;

/// How many questions are asked of each policy before it is left at that.
pub const MOST_QUESTIONS: u64 = 5_000_000;

/// What stands between two patterns whose common paths have no pattern of their own.
const AND: &str = " and ";

/// How many pairs of patterns are laid over each other.
const MOST_PAIRS: u64 = 20_000_000;

/// What differs, and how far was looked.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// What differs, by what and to whom.
    pub changes: Vec<Change>,
    /// How many callers were looked at.
    pub callers: usize,
    /// How many questions each policy was asked.
    pub asked: u64,
    /// Whether a bound left some unasked: [`MOST_QUESTIONS`], or one on patterns that overlap.
    pub is_cut: bool,
    /// Patterns that no example path could be made of.
    pub without_example: BTreeSet<String>,
}

/// One thing that some may now do, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// To whom, in order.
    pub principals: Vec<Principal>,
    /// The new answer.
    pub now: Ruling,
    /// The service.
    pub service: String,
    /// The path pattern.
    pub pattern: String,
    /// The methods, in the order of [`METHODS`].
    pub methods: Vec<&'static str>,
    /// Narrower patterns at which nothing of this changes.
    pub except: Vec<String>,
    /// Whether it changes at the example and not at all paths of the pattern.
    pub is_part: bool,
    /// A path that was asked about.
    pub example: String,
    /// The row that decided before.
    pub before_by: Option<Arc<Rule>>,
    /// The row that decides now.
    pub now_by: Option<Arc<Rule>>,
}

/// A place to ask about: a service, a pattern, and a path that it matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Spot {
    service: String,
    pattern: String,
    path: String,
}

/// Compares what `old` and `new` answer.
pub fn diff(old: &Policy, new: &Policy, from: &From) -> Difference {
    let shapes = (Shape::of(old), Shape::of(new));
    let texts = |policy: &Policy, shape: &Shape| -> Vec<String> {
        policy.rows().iter().map(|row| Shape::text(shape.path.as_ref(), row).to_owned()).collect()
    };
    let all = [texts(old, &shapes.0), texts(new, &shapes.1)].concat();
    let word = fresh_word(all.iter().map(String::as_str));
    let sides = (Side::of(old, &shapes.0, &word), Side::of(new, &shapes.1, &word));
    let mut comparison =
        Comparison { old: &sides.0, new: &sides.1, from, result: Difference::default(), pairs: 0 };
    comparison.run();
    comparison.result
}

struct Comparison<'a, 'p> {
    old: &'a Side<'p>,
    new: &'a Side<'p>,
    from: &'a From,
    result: Difference,
    pairs: u64,
}

/// What two callers must have in common to have the same answers: the positions of the rows for them in both policies.
type Likeness = (Vec<usize>, Vec<usize>);

/// What changes alike may be told together: all of a [`Change`] but to whom.
type Alike = (Ruling, String, String, Vec<&'static str>, Vec<String>, Option<String>);

impl<'p> Comparison<'_, 'p> {
    fn run(&mut self) {
        let is_same_matcher = self.old.policy.model().matcher == self.new.policy.model().matcher
            && self.old.policy.model().effect == self.new.policy.model().effect
            && self.old.policy.model().columns == self.new.policy.model().columns;
        let in_domains = [self.old, self.new]
            .iter()
            .any(|side| side.policy.model().roles.iter().any(|roles| roles.in_domains));
        let mut principals = self.old.members.principals();
        principals.extend(self.new.members.principals());
        self.result.callers = principals.len();
        let mut groups: BTreeMap<(Likeness, Option<Principal>), Vec<Principal>> = BTreeMap::new();
        for principal in principals {
            let rows = |side: &Side<'_>| {
                let (user, roles) = side.members.caller(&principal);
                side.members.rows(&user, &roles)
            };
            // Roles at single services, or matchers that names are given to otherwise, make callers unlike each other.
            let alone = (in_domains || !self.is_by_name()).then(|| principal.clone());
            groups.entry(((rows(self.old), rows(self.new)), alone)).or_default().push(principal);
        }
        let mut told: BTreeMap<Alike, Change> = BTreeMap::new();
        for (((old, new), _), principals) in groups {
            let spots = self.spots(&old, &new, is_same_matcher, in_domains);
            let Some(first) = principals.first() else { continue };
            for change in self.changes(first, &spots) {
                let alike = (
                    change.now,
                    change.service.clone(),
                    change.pattern.clone(),
                    change.methods.clone(),
                    change.except.clone(),
                    change.is_part.then(|| change.example.clone()),
                );
                let known = told.entry(alike).or_insert(change);
                known.principals.extend(principals.iter().cloned());
            }
            if self.result.is_cut {
                break;
            }
        }
        self.result.changes = told.into_values().collect();
        for change in &mut self.result.changes {
            change.principals.sort();
            change.principals.dedup();
        }
        self.result.changes.sort_by(|a, b| {
            (&a.service, &a.pattern, a.now, &a.principals).cmp(&(
                &b.service,
                &b.pattern,
                b.now,
                &b.principals,
            ))
        });
    }

    /// Whether both matchers tell callers apart by the rows that are for them, and by nothing else.
    fn is_by_name(&self) -> bool {
        [self.old, self.new].iter().all(|side| {
            let who = side.shape.who.as_ref();
            side.policy
                .expression()
                .zip(who)
                .is_some_and(|(expression, who)| cover::requires(expression, who.index))
        })
    }

    /// The places where answers for a caller with these rows can differ.
    fn spots(&mut self, old: &[usize], new: &[usize], is_same: bool, in_domains: bool) -> BTreeSet<Spot> {
        let old_rows: Vec<&'p Row> = old.iter().filter_map(|at| self.old.row(*at)).collect();
        let new_rows: Vec<&'p Row> = new.iter().filter_map(|at| self.new.row(*at)).collect();
        let ordered = self.new.policy.model().effect == Effect::Priority
            && old_rows.iter().map(|row| &row.fields).ne(new_rows.iter().map(|row| &row.fields));
        let links = |side: &Side<'_>| -> Vec<Vec<String>> {
            side.policy.links().iter().map(|link| link.fields.clone()).collect()
        };
        // With domains, the same rows may be for a caller at other services than before.
        let all = !is_same || ordered || (in_domains && links(self.old) != links(self.new));
        let known = |rows: &[&'p Row]| -> HashSet<&'p [String]> {
            rows.iter().map(|row| row.fields.as_slice()).collect()
        };
        let (in_old, in_new) = (known(&old_rows), known(&new_rows));
        let mut spots = BTreeSet::new();
        for (side, rows, others) in [(self.old, &old_rows, &in_new), (self.new, &new_rows, &in_old)] {
            for row in rows.iter().filter(|row| all || !others.contains(row.fields.as_slice())) {
                self.around(side, row, (&old_rows, &new_rows), &mut spots);
            }
        }
        spots
    }

    /// Adds what a row matches by itself, and where it meets others.
    fn around(
        &mut self,
        side: &Side<'p>,
        row: &'p Row,
        (old_rows, new_rows): (&[&'p Row], &[&'p Row]),
        spots: &mut BTreeSet<Spot>,
    ) {
        let (service, pattern) = (side.service(row), side.pattern(row));
        let paths = side.witnesses.of_field(pattern);
        if paths.is_empty() {
            self.result.without_example.insert(pattern.to_owned());
        }
        let mut services = BTreeSet::from([service]);
        // A row for several services is asked about at each that has a name.
        if let Some(column) = &side.shape.service {
            let named = self.old.services.named().chain(self.new.services.named());
            let field = column.field(row);
            services.extend(
                named
                    .filter(|name| column.is_free(field) || column.matches(side.policy, field, name))
                    .map(str::to_owned),
            );
        }
        for service in services {
            let spot = |pattern: &str, path: String| Spot {
                service: service.clone(),
                pattern: pattern.to_owned(),
                path,
            };
            spots.extend(paths.iter().map(|path| spot(pattern, path.clone())));
            let symbols = side.symbols(pattern);
            let others = [(self.old, old_rows), (self.new, new_rows)]
                .into_iter()
                .flat_map(|(side, rows)| rows.iter().map(move |row| (side, *row)))
                .filter(|(side, other)| {
                    Shape::matches(side.policy, side.shape.service.as_ref(), other, &service)
                })
                .map(|(side, other)| side.pattern(other));
            let others: HashSet<&str> = others.filter(|other| *other != pattern).collect();
            for other in others {
                self.pairs += 1;
                if self.pairs > MOST_PAIRS {
                    self.result.is_cut = true;
                    return;
                }
                let both = (symbols.as_deref(), side.symbols(other));
                // Most patterns meet nowhere, which is soon seen.
                if matches!(&both, (Some(a), Some(b)) if meet(a, b).is_none()) {
                    continue;
                }
                let label = narrower(side, pattern, other);
                let paths = side.witnesses.of_both(pattern, other);
                spots.extend(paths.into_iter().map(|path| spot(&label, path)));
            }
        }
    }

    /// What changes for `principal` at these places.
    fn changes(&mut self, principal: &Principal, spots: &BTreeSet<Spot>) -> Vec<Change> {
        let mut answers: Vec<Answer<'_>> = Vec::new();
        for spot in spots {
            for method in METHODS {
                if self.result.asked >= MOST_QUESTIONS {
                    self.result.is_cut = true;
                    break;
                }
                self.result.asked += 1;
                answers.push((spot, method, self.compare(principal, spot, method)));
            }
        }
        self.by_pattern(&answers, spots)
    }

    /// The answers that differ, by pattern, without those that another pattern tells already.
    fn by_pattern(&self, answers: &[Answer<'_>], spots: &BTreeSet<Spot>) -> Vec<Change> {
        let mut asked: HashMap<(&str, &str, &str), (usize, usize)> = HashMap::new();
        for (spot, method, seen) in answers {
            let (paths, differing) = asked.entry((&spot.service, &spot.pattern, method)).or_default();
            *paths += 1;
            *differing += usize::from(seen.is_some());
        }
        // Where not all paths of a pattern differ, each is told by itself.
        let mut found: BTreeMap<(&str, &str, Ruling, Option<&str>), Differing<'_>> = BTreeMap::new();
        for (spot, method, seen) in answers {
            let Some(seen) = seen else { continue };
            let part = asked
                .get(&(spot.service.as_str(), spot.pattern.as_str(), *method))
                .filter(|(paths, differing)| differing < paths)
                .map(|_| spot.path.as_str());
            let key = (spot.service.as_str(), spot.pattern.as_str(), seen.now, part);
            let known = found.entry(key).or_insert_with(|| Differing { methods: Vec::new(), spot, seen });
            if !known.methods.contains(method) {
                known.methods.push(method);
            }
        }
        let is_told = |(service, pattern, now, part): &(&str, &str, Ruling, Option<&str>),
                       methods: &[&str]| {
            found.iter().any(|((at, wide, ruling, whole), by)| {
                at == service
                    && ruling == now
                    && whole.is_none()
                    && match part {
                        None => by.methods == methods && wide != pattern && self.covers(wide, pattern),
                        Some(path) => {
                            methods.iter().all(|method| by.methods.contains(method))
                                && self.matches(wide, path)
                        }
                    }
            })
        };
        let same = |service: &str, pattern: &str, methods: &[&str]| {
            methods.iter().all(|method| {
                asked.get(&(service, pattern, *method)).is_none_or(|(_, differing)| *differing == 0)
            })
        };
        let mut changes = Vec::new();
        for (key, Differing { methods, spot, seen }) in &found {
            let (service, pattern, now, part) = *key;
            if is_told(key, methods) {
                continue;
            }
            let except: BTreeSet<&str> = spots
                .iter()
                .filter(|other| part.is_none() && other.service == service && other.pattern != pattern)
                .map(|other| other.pattern.as_str())
                .filter(|other| same(service, other, methods) && self.covers(pattern, other))
                .collect();
            changes.push(Change {
                principals: Vec::new(),
                now,
                service: service.to_owned(),
                pattern: pattern.to_owned(),
                methods: METHODS.into_iter().filter(|method| methods.contains(method)).collect(),
                except: except.into_iter().map(str::to_owned).collect(),
                is_part: part.is_some(),
                example: spot.path.clone(),
                before_by: seen.before_by.clone(),
                now_by: seen.now_by.clone(),
            });
        }
        changes
    }

    /// Whether a pattern, or each of two that are told as one, matches a path under either policy.
    fn matches(&self, pattern: &str, path: &str) -> bool {
        [self.old, self.new].iter().any(|side| {
            let matches = |pattern| match &side.shape.path {
                Some(column) => column.is_free(pattern) || column.matches(side.policy, pattern, path),
                None => true,
            };
            pattern.split(AND).all(matches)
        })
    }

    /// Whether one pattern covers the other by the function of either policy.
    fn covers(&self, wide: &str, narrow: &str) -> bool {
        [self.old, self.new].iter().any(|side| {
            let symbols = (side.symbols(wide), side.symbols(narrow));
            matches!(symbols, (Some(wide), Some(narrow)) if covers(&wide, &narrow))
        })
    }

    fn compare(&self, principal: &Principal, spot: &Spot, method: &str) -> Option<Seen> {
        let call = Call { service: spot.service.clone(), path: spot.path.clone(), method: method.to_owned() };
        let answer = |side: &Side<'_>| {
            let (user, roles) = side.members.caller(principal);
            ask(side.policy, self.from, (&user, &roles), &call)
        };
        let ((before, before_by), (now, now_by)) = (answer(self.old), answer(self.new));
        (before != now).then_some(Seen { now, before_by, now_by })
    }
}

/// What was asked, and what differed.
type Answer<'a> = (&'a Spot, &'static str, Option<Seen>);

/// The methods that differ at a pattern, and what was seen first.
struct Differing<'a> {
    methods: Vec<&'static str>,
    spot: &'a Spot,
    seen: &'a Seen,
}

/// A difference in one answer.
#[derive(Clone, Debug)]
struct Seen {
    now: Ruling,
    before_by: Option<Arc<Rule>>,
    now_by: Option<Arc<Rule>>,
}

impl Change {
    /// Its methods in one word.
    pub fn methods(&self) -> String {
        methods(&self.methods)
    }
}

#[cfg(test)]
mod tests;
