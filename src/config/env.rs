//! Settings given as environment variables.
//!
//! `PORTCULLIS__LOG__ORIGIN` is `log.origin`, `PORTCULLIS__SERVICE__0__UPSTREAMS` is `service[0].upstreams`: two
//! underscores separate, letter case makes no difference, elements are numbered from 0. A value that is TOML is read
//! as that, any other as text; one text where a list is wanted is a list of one. A variable wins over the file; one
//! that names no setting is an error.

use std::ffi::OsString;

use super::error::{ConfigError, Fault, Place};
use super::tree::{Entry, Node, Value};

/// What every variable's name begins with.
pub const PREFIX: &str = "PORTCULLIS__";

/// The variables that begin with [`PREFIX`] in any letter case, by name.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<(String, OsString)>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self::of(std::env::vars_os())
    }

    /// None: the file alone counts.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// Those among `variables`.
    pub fn of<N: Into<OsString>, V: Into<OsString>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        let ours = |(name, value): (N, V)| {
            let name = name.into().to_string_lossy().into_owned();
            let prefixed = name.get(..PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(PREFIX));
            prefixed.then(|| (name, value.into()))
        };
        let mut found: Vec<_> = variables.into_iter().filter_map(ours).collect();
        found.sort();
        Self(found)
    }

    /// Lays the variables over `root`, whole values before their parts and elements in their order.
    pub(super) fn overlay(&self, root: &mut Node, faults: &mut Vec<ConfigError>) {
        let mut variables: Vec<Variable<'_>> = Vec::new();
        for (name, value) in &self.0 {
            match Variable::read(name, value) {
                Ok(variable) => variables.push(variable),
                Err(fault) => faults.push(at(name, fault)),
            }
        }
        variables.sort_by(|a, b| (a.path.len(), &a.path).cmp(&(b.path.len(), &b.path)));
        let mut before: Option<&Variable<'_>> = None;
        for variable in &variables {
            match before.filter(|before| before.path == variable.path) {
                Some(before) => {
                    faults.push(at(variable.name, Fault::VariableTwice { other: before.name.to_owned() }))
                }
                None => {
                    if let Err(fault) = variable.lay_over(root) {
                        faults.push(at(variable.name, fault));
                    }
                }
            }
            before = Some(variable);
        }
    }
}

/// The variable for a key, e.g. `PORTCULLIS__SERVICE__0__NAME` for `service[0].name`.
pub fn variable_of(key: &str) -> String {
    let parts = key.replace('[', ".").replace(']', "").replace('.', "__");
    format!("{PREFIX}{}", parts.to_ascii_uppercase())
}

struct Variable<'e> {
    name: &'e str,
    path: Vec<Step>,
    value: &'e str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Element(usize),
    Key(String),
}

impl<'e> Variable<'e> {
    fn read(name: &'e str, value: &'e OsString) -> Result<Self, Fault> {
        let step = |part: &str| match part.parse() {
            Ok(index) if part.bytes().all(|b| b.is_ascii_digit()) => Some(Step::Element(index)),
            _ => (!part.is_empty()).then(|| Step::Key(part.to_ascii_lowercase())),
        };
        let rest = name.get(PREFIX.len()..).unwrap_or_default();
        let path: Option<Vec<Step>> = rest.split("__").map(step).collect();
        let path = path.ok_or(Fault::VariableName)?;
        let value = value.to_str().ok_or(Fault::VariableText)?;
        Ok(Self { name, path, value })
    }

    fn lay_over(&self, root: &mut Node) -> Result<(), Fault> {
        let place = Place::Variable(self.name.to_owned());
        let mut node = root;
        let mut whole = String::new();
        for step in &self.path {
            let empty = || Node { place: place.clone(), value: Value::Table(Vec::new()), variable: None };
            // A value made just now for this variable takes the shape its first step asks for.
            if let (Step::Element(_), Value::Table(entries), Place::Variable(_)) =
                (step, &node.value, &node.place)
                && entries.is_empty()
            {
                node.value = Value::List(Vec::new());
            }
            node = match (&mut node.value, step) {
                (Value::Table(entries), step) => {
                    let key = match step {
                        Step::Key(key) => key.clone(),
                        Step::Element(index) => index.to_string(),
                    };
                    whole = if whole.is_empty() { key.clone() } else { format!("{whole}.{key}") };
                    child(entries, key, &place, empty)?
                }
                (Value::List(items), Step::Element(index)) => {
                    let count = items.len();
                    if *index > count {
                        return Err(Fault::VariableIndex { next: variable_of(&format!("{whole}[{count}]")) });
                    }
                    if *index == count {
                        items.push(empty());
                    }
                    whole = format!("{whole}[{index}]");
                    items.get_mut(*index).ok_or(Fault::VariableName)?
                }
                (Value::List(_), Step::Key(_)) => {
                    return Err(Fault::VariableNumber { first: variable_of(&format!("{whole}[0]")) });
                }
                (Value::Flag(_) | Value::Number(_) | Value::Text(_) | Value::Other(_), _) => {
                    return Err(Fault::VariablePart { whole: variable_of(&whole) });
                }
            };
        }
        *node = Node::of_variable(self.name, self.value);
        Ok(())
    }
}

fn child<'n>(
    entries: &'n mut Vec<Entry>,
    key: String,
    place: &Place,
    empty: impl Fn() -> Node,
) -> Result<&'n mut Node, Fault> {
    let at = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
        entries.push(Entry { key, place: place.clone(), node: empty() });
        entries.len() - 1
    });
    entries.get_mut(at).map(|entry| &mut entry.node).ok_or(Fault::VariableName)
}

fn at(name: &str, fault: Fault) -> ConfigError {
    ConfigError { place: Place::Variable(name.to_owned()), key: String::new(), fault }
}
