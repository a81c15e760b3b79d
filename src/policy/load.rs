//! From sources to a [`Policy`]: read, check, assemble, probe. Nothing is half loaded.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use casbin::{CoreApi, DefaultModel, Enforcer, Model, NullAdapter};

use super::asking::{Tables, equip};
use super::decide::{Counts, Engine, Policy};
use super::error::{Fault, Faults, LoadError, Problem};
use super::expression::Expression;
use super::files;
use super::index::Index;
use super::matcher::{Matcher, Operand, Use, evaluable};
use super::model::{ModelText, RequestName};
use super::paths::{Comparison, PathForms, matchable};
use super::patterns::{Function, Patterns};
use super::probe;
use super::roles::RoleGraph;
use super::rows::{self, Row};
use super::text::PolicyText;
use crate::access::Rule;

/// Where a policy comes from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The model file.
    pub model: PathBuf,
    /// The policy files, in order; a directory or a pattern stands for the files it names.
    pub policies: Vec<PathBuf>,
    /// What paths may look like, over all services.
    pub forms: PathForms,
}

/// A text and the name that faults and rules give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The file's name, as the config names it.
    pub name: String,
    /// What it holds.
    pub text: String,
}

impl Policy {
    /// Reads the files of `sources` and loads what they hold. Blocks on file reads and on the probes, some
    /// milliseconds for thousands of rows; call it off the request path.
    ///
    /// # Errors
    /// Everything found wrong with the first file, or stage, that has anything wrong with it.
    pub fn load(sources: &Sources) -> Result<Self, LoadError> {
        let model = Text::read(&sources.model)?;
        let policies: Result<Vec<Text>, LoadError> =
            files::expand(&sources.policies)?.iter().map(|path| Text::read(path)).collect();
        Self::load_text(&model, &policies?, sources.forms)
    }

    /// Loads a policy from texts.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn load_text(model: &Text, policies: &[Text], forms: PathForms) -> Result<Self, LoadError> {
        Self::assembled(model, policies, forms)
            .map_err(|error| error.quoting(std::iter::once(model).chain(policies)))
    }

    fn assembled(model: &Text, policies: &[Text], forms: PathForms) -> Result<Self, LoadError> {
        let text = PolicyText::of(model, policies);
        let read = ModelText::read(model)?;
        let in_matcher = |problem| LoadError::from(Fault::new(&model.name, Some(read.matcher_line), problem));
        let matcher = Matcher::read(&read).map_err(in_matcher)?;
        let rows = checked_rows(model, &read, policies)?;
        let (rules, links): (Vec<Row>, Vec<Row>) =
            distinct(rows).into_iter().partition(|row| row.ptype == "p");
        if rules.is_empty() && (read.allows_by_default() || needs_rows(&matcher)) {
            let file = policies.first().unwrap_or(model).name.clone();
            return Err(Fault::new(file, None, Problem::Empty).into());
        }
        let mut patterns = Patterns::default();
        compile_literals(&matcher, &mut patterns).map_err(in_matcher)?;
        check_columns(&read, &matcher, &rules, forms, &mut patterns)?;

        let tables = Arc::new(Tables { patterns, roles: role_graphs(&read, &links) });
        let expression = Expression::read(&read).map_err(in_matcher)?;
        let index = match &expression {
            Some(expression) if !rules.is_empty() => Index::compile(&read, expression, &rules, &tables),
            _ => None,
        };
        let engine = match index {
            Some(index) => Engine::Index(index),
            None => Engine::Casbin(Box::new(assemble(&read, &rules).map_err(in_matcher)?)),
        };
        let policy = Self {
            engine,
            expression,
            counts: Counts { rules: rules.len(), links: tables.roles.iter().map(RoleGraph::links).sum() },
            rules: rules.iter().map(|row| Arc::new(row.rule())).collect(),
            tables,
            model: read,
            rows: rules,
            links,
            epoch: text.epoch(),
            text,
            files: (model.name.clone(), policies.iter().map(|text| text.name.clone()).collect()),
            probe_cost: std::time::Duration::ZERO,
        };
        let probe_cost = probe::run(model, &matcher, &policy)?;
        Ok(Self { probe_cost, ..policy })
    }
}

impl Text {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let name = path.display().to_string();
        let fault = |line, problem| Fault::new(&name, line, problem);
        let bytes = std::fs::read(path).map_err(|error| fault(None, Problem::Unreadable(error)))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => {
                let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
                let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                Err(fault(u32::try_from(line).ok(), Problem::NotUtf8).into())
            }
        }
    }
}

impl Row {
    /// The row as decisions name it.
    pub fn rule(&self) -> Rule {
        Rule { text: self.text(), file: self.file.clone(), line: self.line }
    }
}

/// All rows, each of a known type, with the right number of fields and a known effect.
fn checked_rows(model: &Text, read: &ModelText, policies: &[Text]) -> Result<Vec<Row>, LoadError> {
    let (mut rows, mut faults) = (Vec::new(), Faults::default());
    policies.iter().for_each(|text| rows::read(text, &mut rows, &mut faults));
    for row in &rows {
        if let Err(problem) = check_row(model, read, row)
            && !faults.note(&row.file, Some(row.line), problem)
        {
            break;
        }
    }
    faults.none_or_error().map(|()| rows)
}

fn check_row(model: &Text, read: &ModelText, row: &Row) -> Result<(), Problem> {
    let names = if row.ptype == "p" {
        read.columns.clone()
    } else if let Some(roles) = read.roles.iter().find(|roles| roles.name == row.ptype) {
        let places: &[&str] =
            if roles.in_domains { &["member", "role", "domain"] } else { &["member", "role"] };
        places.iter().map(|place| (*place).to_owned()).collect()
    } else {
        let mut known = vec!["p"];
        known.extend(read.roles.iter().map(|roles| roles.name.as_str()));
        return Err(Problem::RowType(row.ptype.clone(), format!("{} ({})", known.join(", "), model.name)));
    };
    if row.fields.len() != names.len() {
        return Err(Problem::FieldCount {
            ptype: row.ptype.clone(),
            expected: names.len(),
            names: names.join(", "),
            found: row.fields.len(),
        });
    }
    let effect = read.effect_column().filter(|_| row.ptype == "p").and_then(|column| row.fields.get(column));
    match effect {
        Some(effect) if effect != "allow" && effect != "deny" => Err(Problem::RowEffect(effect.clone())),
        _ => Ok(()),
    }
}

/// Whether the matcher looks at rows at all. One that does not is evaluated by casbin even without any.
fn needs_rows(matcher: &Matcher) -> bool {
    !matcher.uses.is_empty() || !matcher.evaluated.is_empty()
}

/// Compiles the patterns that stand in the matcher itself.
fn compile_literals(matcher: &Matcher, patterns: &mut Patterns) -> Result<(), Problem> {
    for call in &matcher.calls {
        if let (Some(function), Operand::Literal(pattern)) = (Function::parse(&call.name), &call.pattern) {
            patterns.add(function, pattern).map_err(|source| Problem::Pattern {
                function,
                pattern: pattern.clone(),
                source,
            })?;
        }
    }
    Ok(())
}

/// Checks and compiles the columns that hold patterns, paths or expressions, row by row.
fn check_columns(
    read: &ModelText,
    matcher: &Matcher,
    rules: &[Row],
    forms: PathForms,
    patterns: &mut Patterns,
) -> Result<(), LoadError> {
    let mut faults = Faults::default();
    for row in rules {
        for (column, field) in row.fields.iter().enumerate() {
            let checked = check_field(read, matcher, column, field, patterns)
                .and_then(|()| check_path(matcher, column, field, forms));
            if let Err(problem) = checked
                && !faults.note(&row.file, Some(row.line), problem)
            {
                return faults.none_or_error();
            }
        }
    }
    faults.none_or_error()
}

fn check_field(
    read: &ModelText,
    matcher: &Matcher,
    column: usize,
    field: &str,
    patterns: &mut Patterns,
) -> Result<(), Problem> {
    if matcher.evaluated.contains(&column) {
        evaluable(field)?;
        let inner = ModelText { matcher: field.to_owned(), ..read.clone() };
        compile_literals(&Matcher::read(&inner)?, patterns)?;
    }
    for call in &matcher.calls {
        if let Some(function) = Function::parse(&call.name)
            && call.pattern == Operand::Column(column)
        {
            patterns.add(function, field).map_err(|source| Problem::Pattern {
                function,
                pattern: field.to_owned(),
                source,
            })?;
        }
    }
    Ok(())
}

/// Refuses a field that is only ever compared with the path, and that no path can match in any of these ways.
fn check_path(matcher: &Matcher, column: usize, field: &str, forms: PathForms) -> Result<(), Problem> {
    if !matcher.plain || matcher.evaluated.contains(&column) {
        return Ok(());
    }
    let mut first = None;
    for (_, use_) in matcher.uses.iter().filter(|(used, _)| *used == column) {
        let comparison = match use_ {
            Use::Equal(RequestName::Obj) => Comparison::Equal,
            Use::Pattern(function, RequestName::Obj) => Comparison::Call(*function),
            Use::Literal(text) if text != field => continue,
            Use::Literal(_) | Use::Equal(_) | Use::Pattern(..) | Use::Other => return Ok(()),
        };
        match matchable(comparison, field, forms) {
            Ok(()) => return Ok(()),
            Err(source) => first = first.or(Some(source)),
        }
    }
    match first {
        Some(source) => Err(Problem::Unmatchable { pattern: field.to_owned(), source }),
        None => Ok(()),
    }
}

/// The rows without repeats: one that comes again moves to the end, as in casbin's set of rows.
fn distinct(rows: Vec<Row>) -> Vec<Row> {
    let last: HashMap<(&str, &[String]), usize> =
        rows.iter().enumerate().map(|(at, row)| ((row.ptype.as_str(), row.fields.as_slice()), at)).collect();
    if last.len() == rows.len() {
        return rows;
    }
    let kept: HashSet<usize> = last.into_values().collect();
    rows.into_iter().enumerate().filter(|(at, _)| kept.contains(at)).map(|(_, row)| row).collect()
}

/// A graph for each role definition.
fn role_graphs(read: &ModelText, links: &[Row]) -> Vec<RoleGraph> {
    let mut graphs = Vec::new();
    for definition in &read.roles {
        let mut graph = RoleGraph::default();
        for row in links.iter().filter(|row| row.ptype == definition.name) {
            match row.fields.as_slice() {
                [from, to] => graph.add(from, to, ""),
                [from, to, domain] => graph.add(from, to, domain),
                _ => {}
            }
        }
        graphs.push(graph);
    }
    graphs
}

#[cfg(test)]
impl Policy {
    /// The same policy, evaluated by casbin.
    pub(super) fn uncompiled(&self) -> Self {
        Self {
            engine: Engine::Casbin(Box::new(assemble(&self.model, &self.rows).unwrap())),
            tables: Arc::clone(&self.tables),
            model: self.model.clone(),
            expression: self.expression.clone(),
            rows: self.rows.clone(),
            rules: self.rules.clone(),
            links: self.links.clone(),
            text: self.text.clone(),
            files: self.files.clone(),
            ..*self
        }
    }
}

/// An enforcer over these rows, in this order.
fn assemble(read: &ModelText, rules: &[Row]) -> Result<Enforcer, Problem> {
    let mut model = casbin_model(read, &read.matcher);
    for row in rules {
        model.add_policy("p", "p", row.fields.clone());
    }
    enforcer(read, model)
}

/// The model as casbin has it, without role definitions: roles are functions of ours.
pub(super) fn casbin_model(read: &ModelText, matcher: &str) -> DefaultModel {
    let request: Vec<&str> = read.request.iter().map(|name| name.as_str()).collect();
    let mut model = DefaultModel::default();
    model.add_def("r", "r", &request.join(", "));
    model.add_def("p", "p", &read.columns.join(", "));
    model.add_def("e", "e", read.effect.as_str());
    model.add_def("m", "m", matcher);
    model
}

/// An enforcer over `model`, with our functions in place of casbin's.
pub(super) fn enforcer(read: &ModelText, model: DefaultModel) -> Result<Enforcer, Problem> {
    let made = catch_unwind(AssertUnwindSafe(move || at_once(Enforcer::new_raw(model, NullAdapter))));
    let mut enforcer = match made {
        Err(_) | Ok(None) => return Err(Problem::ModelPanics),
        Ok(Some(made)) => made.map_err(|error| Problem::Model(Box::new(error)))?,
    };
    equip(&mut enforcer, &read.roles);
    Ok(enforcer)
}

/// What a future yields that never waits: casbin's constructors are `async` for adapters that do I/O, and ours has
/// none.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
