//! What a word is: something an operator can write, with its key and its place; and how a table of words is declared.

use super::error::{ConfigError, Fault, Place};
use super::tree::{Node, Value};

/// Something an operator can write.
pub(super) trait Word: Sized {
    /// The form in which it is looked at: `str` for a text, itself for all else.
    type View: ?Sized;

    /// It, to look at.
    fn view(&self) -> &Self::View;

    /// Reads it; what cannot be read is told to `faults`.
    fn read(node: &Node, key: &str, faults: &mut Vec<ConfigError>) -> Option<Self>;

    /// Adds the keys that lie in `key`, itself included; an element's index is written `[]`.
    fn keys(key: &str, out: &mut Vec<String>) {
        out.push(key.to_owned());
    }
}

/// A word, its key and its place.
#[derive(Clone, Debug)]
pub(super) struct Said<T> {
    pub(super) word: T,
    pub(super) spot: Spot,
}

/// A key, e.g. `service[0].upstreams[1]`, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) key: String,
    pub(super) place: Place,
}

impl Spot {
    /// This fault, here.
    pub(super) fn fault(&self, fault: Fault) -> ConfigError {
        ConfigError { place: self.place.clone(), key: self.key.clone(), fault }
    }
}

/// A key of a table.
#[derive(Clone, Debug, Default)]
pub(super) enum Field<T> {
    /// Not there.
    #[default]
    Absent,
    /// There, but not readable; that has been told.
    Broken,
    /// There.
    Said(Said<T>),
}

impl<T> Field<T> {
    /// The word, if it was said.
    pub(super) const fn said(&self) -> Option<&Said<T>> {
        match self {
            Self::Said(said) => Some(said),
            Self::Absent | Self::Broken => None,
        }
    }

    fn into_said(self) -> Option<Said<T>> {
        match self {
            Self::Said(said) => Some(said),
            Self::Absent | Self::Broken => None,
        }
    }

    /// Whether nothing was written.
    pub(super) const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A size: `65536` or `"64KiB"`.
#[derive(Clone, Debug)]
pub(super) enum Amount {
    Number(i128),
    Text(String),
}

/// `"a"` or `["a", "b"]`.
#[derive(Clone, Debug)]
pub(super) enum OneOrMany {
    One(Said<String>),
    Many(Vec<Said<String>>),
}

/// Declares a table: a struct of fields, and how it is read.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $word:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub(super) struct $name {
            $(pub(super) $field: Field<$word>,)*
        }

        impl Word for $name {
            type View = Self;

            fn view(&self) -> &Self {
                self
            }

            fn read(node: &Node, key: &str, faults: &mut Vec<ConfigError>) -> Option<Self> {
                let Value::Table(entries) = &node.value else {
                    faults.push(mistyped(node, key, concat!("a table of ", stringify!($($field),*))));
                    return None;
                };
                let mut table = Self::default();
                for entry in entries {
                    let key = join(key, &entry.key);
                    match entry.key.as_str() {
                        $(stringify!($field) => table.$field = read(&entry.node, key, faults),)*
                        _ => faults.push(unknown(&entry.place, key, &[$(stringify!($field)),*])),
                    }
                }
                Some(table)
            }

            fn keys(key: &str, out: &mut Vec<String>) {
                $(<$word as Word>::keys(&join(key, stringify!($field)), out);)*
            }
        }
    };
}
pub(super) use table;

impl Word for String {
    type View = str;

    fn view(&self) -> &str {
        self
    }

    fn read(node: &Node, key: &str, faults: &mut Vec<ConfigError>) -> Option<Self> {
        match (&node.value, &node.variable) {
            (Value::Text(text), _) => Some(text.clone()),
            // A variable that happens to look like a number is text where text is wanted.
            (Value::Flag(_) | Value::Number(_) | Value::Other(_), Some(text)) => Some(text.clone()),
            _ => refused(node, key, "text in quotes", faults),
        }
    }
}

impl Word for bool {
    type View = Self;

    fn view(&self) -> &Self {
        self
    }

    fn read(node: &Node, key: &str, faults: &mut Vec<ConfigError>) -> Option<Self> {
        match node.value {
            Value::Flag(flag) => Some(flag),
            _ => refused(node, key, "true or false, without quotes", faults),
        }
    }
}

impl Word for i128 {
    type View = Self;

    fn view(&self) -> &Self {
        self
    }

    fn read(node: &Node, key: &str, faults: &mut Vec<ConfigError>) -> Option<Self> {
        match node.value {
            Value::Number(number) => Some(number),
            _ => refused(node, key, "a whole number, without quotes", faults),
        }
    }
}

impl Word for Amount {
    type View = Self;

    fn view(&self) -> &Self {
        self
    }

    fn read(node: &Node, key: &str, faults: &mut Vec<ConfigError>) -> Option<Self> {
        match &node.value {
            Value::Number(number) => Some(Self::Number(*number)),
            Value::Text(text) => Some(Self::Text(text.clone())),
            _ => refused(node, key, "a number of bytes, or a size like \"10MiB\"", faults),
        }
    }
}

impl Word for OneOrMany {
    type View = Self;

    fn view(&self) -> &Self {
        self
    }

    fn read(node: &Node, key: &str, faults: &mut Vec<ConfigError>) -> Option<Self> {
        match &node.value {
            Value::List(_) => Word::read(node, key, faults).map(Self::Many),
            Value::Table(_) => refused(node, key, "text in quotes, or a list of texts", faults),
            _ => match read(node, key.to_owned(), faults) {
                Field::Said(said) => Some(Self::One(said)),
                Field::Absent | Field::Broken => None,
            },
        }
    }

    fn keys(key: &str, out: &mut Vec<String>) {
        <Vec<Said<String>> as Word>::keys(key, out);
    }
}

impl<T: Word> Word for Vec<Said<T>> {
    type View = Self;

    fn view(&self) -> &Self {
        self
    }

    fn read(node: &Node, key: &str, faults: &mut Vec<ConfigError>) -> Option<Self> {
        let items: Vec<Field<T>> = match (&node.value, &node.variable) {
            (Value::List(items), _) => {
                items.iter().enumerate().map(|(i, item)| read(item, format!("{key}[{i}]"), faults)).collect()
            }
            // A variable may say a list of one without brackets.
            (Value::Text(_), Some(_)) => vec![read(node, format!("{key}[0]"), faults)],
            (Value::Table(_), _) => {
                return refused(node, key, "a list; `[[…]]` begins a table of one", faults);
            }
            _ => return refused(node, key, "a list, in brackets", faults),
        };
        let count = items.len();
        let said: Self = items.into_iter().filter_map(Field::into_said).collect();
        // The good elements are worth checking even beside broken ones, but a list that only became empty is broken.
        (count == 0 || !said.is_empty()).then_some(said)
    }

    fn keys(key: &str, out: &mut Vec<String>) {
        out.push(key.to_owned());
        T::keys(&format!("{key}[]"), out);
    }
}

pub(super) fn read<T: Word>(node: &Node, key: String, faults: &mut Vec<ConfigError>) -> Field<T> {
    match T::read(node, &key, faults) {
        Some(word) => Field::Said(Said { word, spot: Spot { key, place: node.place.clone() } }),
        None => Field::Broken,
    }
}

fn refused<T>(node: &Node, key: &str, wanted: &'static str, faults: &mut Vec<ConfigError>) -> Option<T> {
    faults.push(mistyped(node, key, wanted));
    None
}

pub(super) fn mistyped(node: &Node, key: &str, wanted: &'static str) -> ConfigError {
    ConfigError {
        place: node.place.clone(),
        key: key.to_owned(),
        fault: Fault::Type { found: node.kind(), wanted },
    }
}

pub(super) fn join(table: &str, key: &str) -> String {
    // A key that is not a bare one is quoted, as TOML would have it.
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}
