//! A configuration as values that know where they stand.
//!
//! serde would stop at the first fault and forget places below the top; this tree keeps both, and lets a variable's
//! value stand among the file's.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::error::{ConfigError, Fault, Place};

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
    /// The text of the variable that this whole value comes from.
    pub(super) variable: Option<String>,
}

/// What TOML can say, as far as a setting can be it.
#[derive(Debug)]
pub(super) enum Value {
    Flag(bool),
    Number(i128),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// What no setting is: a fraction or a date.
    Other(&'static str),
}

/// A key of a table, its place, and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    /// Parses the text of a config file.
    ///
    /// # Errors
    /// Every fault of syntax.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, Vec<ConfigError>> {
        let path: Arc<Path> = path.into();
        let lines = Lines::of(text, path.clone());
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            let value = table_value(table.into_inner(), &|start| lines.place(start));
            return Ok(Self { place: Place::File(path), value, variable: None });
        }
        let fault = |error: &toml::de::Error| ConfigError {
            place: error.span().map_or_else(|| Place::File(path.clone()), |span| lines.place(span.start)),
            key: String::new(),
            fault: Fault::Syntax(error.message().trim().replace('\n', "; ")),
        };
        let mut faults: Vec<ConfigError> = errors.iter().map(fault).collect();
        faults.sort_by(|a, b| a.place.cmp(&b.place));
        Err(faults)
    }

    /// A variable's value: TOML if it is that, else text.
    pub(super) fn of_variable(name: &str, text: &str) -> Self {
        let place = Place::Variable(name.to_owned());
        let value = DeValue::parse(text).map_or_else(
            |_| Value::Text(text.to_owned()),
            |value| plain_value(value.into_inner(), &|_| place.clone()),
        );
        Self { place, value, variable: Some(text.to_owned()) }
    }

    /// What this is, in words, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match &self.value {
            Value::Flag(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(kind) => kind,
        }
    }
}

fn table_value(table: DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Value {
    let entry = |(key, value): (Spanned<toml::de::DeString<'_>>, Spanned<DeValue<'_>>)| Entry {
        place: place(key.span().start),
        key: key.into_inner().into_owned(),
        node: node(value, place),
    };
    Value::Table(table.into_iter().map(entry).collect())
}

fn node(value: Spanned<DeValue<'_>>, place: &dyn Fn(usize) -> Place) -> Node {
    Node { place: place(value.span().start), value: plain_value(value.into_inner(), place), variable: None }
}

fn plain_value(value: DeValue<'_>, place: &dyn Fn(usize) -> Place) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => number_value(&number),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| node(item, place)).collect()),
        DeValue::Table(table) => table_value(table, place),
    }
}

fn number_value(number: &DeInteger<'_>) -> Value {
    i128::from_str_radix(number.as_str(), number.radix())
        .map_or(Value::Other("a number of too many digits"), Value::Number)
}

/// Where each line of a text begins.
struct Lines<'t> {
    text: &'t str,
    path: Arc<Path>,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str, path: Arc<Path>) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, path, starts }
    }

    fn place(&self, at: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= at);
        let start = line.checked_sub(1).and_then(|i| self.starts.get(i)).copied().unwrap_or(0);
        let column = self.text.get(start..at).map_or(1, |before| before.chars().count() + 1);
        Place::Line(self.path.clone(), line, column)
    }
}
