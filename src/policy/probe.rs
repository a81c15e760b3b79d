//! Evaluations at load. casbin finds an unknown function, a wrong argument or a matcher that is no boolean only when an
//! evaluation gets there, which short-circuits can put off until production; here it gets there at load.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use casbin::{CoreApi, Enforcer};

use super::asking;
use super::decide::{EvaluationError, Policy, Question, Verdict};
use super::error::{Fault, Faults, LoadError, Problem};
use super::load::{self, Text};
use super::matcher::Matcher;
use super::model::{ModelText, RequestName};
use super::rows::Row;

/// How many rows are evaluated each by itself, if none of them is an expression. Rows are strings, and the patterns in
/// them are compiled by now, so that rows beyond these can hold no other errors than these.
const ROWS: usize = 64;
/// How often the costly denial is measured; the fastest counts, the others having been disturbed.
const MEASUREMENTS: usize = 3;

/// Evaluates every call of the matcher, then rows by themselves, then the whole; returns what a costly denial takes.
pub(super) fn run(text: &Text, matcher: &Matcher, policy: &Policy) -> Result<Duration, LoadError> {
    let (model, rows) = (policy.model(), policy.rows());
    let in_matcher = |problem| Fault::new(&text.name, Some(model.matcher_line), problem);
    for call in &matcher.calls {
        // Whatever the call yields, comparing it with itself is a boolean.
        let alone = format!("{0} == {0}", call.text);
        single(model, &alone, policy, rows.first()).map_err(in_matcher)?;
    }
    let each = if matcher.evaluated.is_empty() { ROWS } else { usize::MAX };
    let mut probe = Single::new(model, &model.matcher).map_err(in_matcher)?;
    let mut faults = Faults::default();
    for row in rows.iter().take(each).chain(rows.last().filter(|_| rows.len() > each)) {
        let whole = matcher
            .evaluated
            .iter()
            .filter_map(|column| row.fields.get(*column))
            .try_for_each(|expression| single(model, &format!("({expression}) == true"), policy, Some(row)))
            .and_then(|()| probe.evaluate(policy, Some(row)).map_err(Problem::Evaluation));
        // Without expressions in rows, what fails over one row is the matcher's fault and not the row's.
        if let Err(problem) = whole {
            if matcher.evaluated.is_empty() {
                return Err(in_matcher(problem).into());
            }
            if !faults.note(&row.file, Some(row.line), problem) {
                break;
            }
        }
    }
    faults.none_or_error()?;
    Ok(measure(policy, model, rows).map_err(|error| in_matcher(Problem::Evaluation(error)))?)
}

/// Evaluates `matcher` over one row, with a request made from that row.
fn single(model: &ModelText, matcher: &str, policy: &Policy, row: Option<&Row>) -> Result<(), Problem> {
    Single::new(model, matcher)?.evaluate(policy, row).map_err(Problem::Evaluation)
}

/// An enforcer that holds one row at a time.
pub(super) struct Single<'a> {
    enforcer: Enforcer,
    model: &'a ModelText,
}

impl<'a> Single<'a> {
    pub(super) fn new(model: &'a ModelText, matcher: &str) -> Result<Self, Problem> {
        let enforcer = load::enforcer(model, load::casbin_model(model, matcher))?;
        Ok(Self { enforcer, model })
    }

    fn evaluate(&mut self, policy: &Policy, row: Option<&Row>) -> Result<(), EvaluationError> {
        let sample = Sample::of(self.model, row);
        for question in [sample.question(), Sample::default().question()] {
            self.matches(policy, row, &question)?;
        }
        Ok(())
    }

    /// Whether the matcher holds for `row`, or without one, whatever the effect makes of that.
    pub(super) fn matches(
        &mut self,
        policy: &Policy,
        row: Option<&Row>,
        question: &Question<'_>,
    ) -> Result<bool, EvaluationError> {
        let casbin = self.enforcer.get_mut_model();
        casbin.clear_policy();
        if let Some(row) = row {
            casbin.add_policy("p", "p", row.fields.clone());
        }
        let values: Vec<_> = self.model.request.iter().map(|name| question.value(*name)).collect();
        let (answer, trace) = asking::ask(&policy.tables, question, || self.enforcer.enforce(values));
        if let Some(fault) = trace.fault {
            return Err(fault);
        }
        match answer {
            None => Err(EvaluationError::Panicked),
            Some(Err(error)) => Err(EvaluationError::Casbin(Box::new(error))),
            Some(Ok(_)) => Ok(trace.allowed_by.is_some() || trace.denied_by.is_some()),
        }
    }
}

/// Values of a request; those that a row has under the same name are the row's, so that its conditions hold as far as
/// a guess can make them.
#[derive(Default)]
struct Sample {
    values: HashMap<&'static str, String>,
}

impl Sample {
    fn of(model: &ModelText, row: Option<&Row>) -> Self {
        let mut values = HashMap::new();
        for name in
            [RequestName::Sub, RequestName::Dom, RequestName::Obj, RequestName::Act, RequestName::Host]
        {
            let column = model.columns.iter().position(|column| column == name.as_str());
            if let Some(value) = column.and_then(|column| row?.fields.get(column)) {
                values.insert(name.as_str(), value.clone());
            }
        }
        Self { values }
    }

    fn question(&self) -> Question<'_> {
        let value = |name: RequestName, or| self.values.get(name.as_str()).map_or(or, String::as_str);
        Question {
            user: value(RequestName::Sub, "user:probe"),
            roles: &[],
            service: value(RequestName::Dom, "probe"),
            path: value(RequestName::Obj, "/probe"),
            method: value(RequestName::Act, "GET"),
            host: value(RequestName::Host, "probe.invalid"),
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// What the costlier of two likely denials takes: of a stranger, and of someone who is in the last row but for the
/// path.
fn measure(policy: &Policy, model: &ModelText, rows: &[Row]) -> Result<Duration, EvaluationError> {
    let known = Sample::of(model, rows.last());
    let known = Question { path: "/probe/nothing/is/here", ..known.question() };
    let mut costliest = Duration::ZERO;
    for question in [known, Sample::default().question()] {
        let mut fastest = Duration::MAX;
        for _ in 0..MEASUREMENTS {
            let start = Instant::now();
            if let Verdict::Failed(error) = policy.decide(&question) {
                return Err(error);
            }
            fastest = fastest.min(start.elapsed());
        }
        costliest = costliest.max(fastest);
    }
    Ok(costliest)
}
