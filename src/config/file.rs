//! The operator's words: every key there is, as it may be written. What they mean is in [`super::settings`].
//!
//! A table's struct is its schema: a key that is no field of it is an error, and hints come from the fields. Nothing
//! is required here and nothing has a default.

use super::env::variable_of;
use super::error::{ConfigError, Fault, Place};
use super::tree::{Node, Value};

/// Something an operator can write.
pub(super) trait Word: Sized {
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

table! {
    /// The whole file.
    File {
        server: Server, admin: Admin, health: Health, log: Log, policy: Policy, identity: Identity,
        issuer: Vec<Said<Issuer>>, service: Vec<Said<Service>>, limits: Limits, logging: Logging,
    }
}

table! {
    /// `[server]`
    Server {
        listen: Vec<Said<String>>, workers: i128, tls: Tls, trusted_proxies: Vec<Said<String>>, drain_timeout: String,
    }
}

table! {
    /// `tls = { … }` of `[server]` and `[admin]`
    Tls { cert: String, key: String, }
}

table! {
    /// `[admin]`
    Admin { listen: String, tls: Tls, }
}

table! {
    /// `[health]`
    Health { listen: String, }
}

table! {
    /// `[log]`
    Log {
        dir: String, state_dir: String, origin: String, key_file: String, durability: String, timeout: String,
        queue: i128, memory: Memory,
    }
}

table! {
    /// `memory = { … }` of `[log]`
    Memory { write_buffer: Amount, block_cache: Amount, }
}

table! {
    /// `[policy]`
    Policy { model: String, files: Vec<Said<String>>, watch: bool, timeout: String, }
}

table! {
    /// `[identity]`
    Identity { leeway: String, remember: i128, headers: Headers, }
}

table! {
    /// `headers = { … }` of `[identity]`
    Headers { subject: String, roles: String, }
}

table! {
    /// `[[issuer]]`
    Issuer {
        name: String, issuer: String, audience: OneOrMany, algorithms: Vec<Said<String>>, jwks_file: String,
        jwks_url: String, allow_http_jwks: bool, ca_file: String, refresh: String, max_stale: String,
        subject_claim: OneOrMany, roles_claim: OneOrMany, roles: Vec<Said<String>>, primary: bool,
    }
}

table! {
    /// `[[service]]`
    Service {
        name: String, hosts: Vec<Said<String>>, path_prefix: String, upstreams: Vec<Said<String>>, ca_file: String,
        strip_prefix: bool, rewrite_prefix: String, forward_authorization: bool, allow: Vec<Said<String>>, cors: Cors,
        timeouts: Timeouts, max_body: Amount,
    }
}

table! {
    /// `cors = { … }` of `[[service]]`
    Cors {
        mode: String, origins: Vec<Said<String>>, methods: Vec<Said<String>>, headers: Vec<Said<String>>,
        max_age: String, credentials: bool,
    }
}

table! {
    /// `timeouts = { … }` of `[[service]]`
    Timeouts { connect: String, head: String, idle: String, }
}

table! {
    /// `[limits]`
    Limits {
        connections: i128, in_flight: i128, header_bytes: Amount, headers: i128, target_bytes: Amount,
        header_timeout: String, idle_timeout: String, h2_streams: i128,
    }
}

table! {
    /// `[logging]`
    Logging { level: String, format: String, }
}

impl Word for String {
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
    fn read(node: &Node, key: &str, faults: &mut Vec<ConfigError>) -> Option<Self> {
        match node.value {
            Value::Flag(flag) => Some(flag),
            _ => refused(node, key, "true or false, without quotes", faults),
        }
    }
}

impl Word for i128 {
    fn read(node: &Node, key: &str, faults: &mut Vec<ConfigError>) -> Option<Self> {
        match node.value {
            Value::Number(number) => Some(number),
            _ => refused(node, key, "a whole number, without quotes", faults),
        }
    }
}

impl Word for Amount {
    fn read(node: &Node, key: &str, faults: &mut Vec<ConfigError>) -> Option<Self> {
        match &node.value {
            Value::Number(number) => Some(Self::Number(*number)),
            Value::Text(text) => Some(Self::Text(text.clone())),
            _ => refused(node, key, "a number of bytes, or a size like \"10MiB\"", faults),
        }
    }
}

impl Word for OneOrMany {
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

fn read<T: Word>(node: &Node, key: String, faults: &mut Vec<ConfigError>) -> Field<T> {
    match T::read(node, &key, faults) {
        Some(word) => Field::Said(Said { word, spot: Spot { key, place: node.place.clone() } }),
        None => Field::Broken,
    }
}

fn refused<T>(node: &Node, key: &str, wanted: &'static str, faults: &mut Vec<ConfigError>) -> Option<T> {
    faults.push(mistyped(node, key, wanted));
    None
}

fn mistyped(node: &Node, key: &str, wanted: &'static str) -> ConfigError {
    ConfigError {
        place: node.place.clone(),
        key: key.to_owned(),
        fault: Fault::Type { found: node.kind(), wanted },
    }
}

fn unknown(place: &Place, key: String, known: &[&str]) -> ConfigError {
    let all = all_keys();
    // A variable's name can be wrong, or a key within its value.
    if let Place::Variable(name) = place
        && name.to_ascii_uppercase().starts_with(&variable_of(&key))
    {
        let fault =
            nearest_variable(name, &all).map_or(Fault::VariableName, |near| Fault::UnknownVariable { near });
        return ConfigError { place: place.clone(), key: String::new(), fault };
    }
    let word = key.rsplit('.').next().unwrap_or(&key);
    // Near by spelling here, or the same word in another table.
    let near = nearest(word, known.iter().copied()).map(str::to_owned);
    let fault = match near.or_else(|| all.into_iter().find(|other| other.rsplit('.').next() == Some(word))) {
        Some(near) => Fault::UnknownKey { near: near.replace("[]", "") },
        None => Fault::UnknownKeyAmong { known: listed(known.iter().copied()) },
    };
    ConfigError { place: place.clone(), key, fault }
}

fn all_keys() -> Vec<String> {
    let mut out = Vec::new();
    File::keys("", &mut out);
    out
}

/// The variable nearest to `name`, with the same indices.
fn nearest_variable(name: &str, keys: &[String]) -> Option<String> {
    let indices: Vec<&str> = name.split("__").filter(|part| is_index(part)).collect();
    let generic = |text: &str| {
        let parts: Vec<&str> = text.split("__").map(|part| if is_index(part) { "0" } else { part }).collect();
        parts.join("__").to_ascii_uppercase()
    };
    let variables: Vec<String> = keys.iter().map(|key| variable_of(&key.replace("[]", "[0]"))).collect();
    let near = nearest(&generic(name), variables.iter().map(String::as_str))?;
    let mut indices = indices.into_iter();
    let parts: Vec<&str> = near
        .split("__")
        .map(|part| if is_index(part) { indices.next().unwrap_or(part) } else { part })
        .collect();
    Some(parts.join("__"))
}

/// The nearest of `known` by spelling, if any is near enough to be meant: a third of the letters may differ.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let bare = |text: &str| text.strip_prefix(super::env::PREFIX).unwrap_or(text).to_ascii_lowercase();
    let word = bare(word);
    known
        .map(|key| (strsim::damerau_levenshtein(&word, &bare(key)), key))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, key)| *distance <= (word.len().min(bare(key).len()) / 3).max(1))
        .map(|(_, key)| key)
}

/// The words in backquotes, with commas, for messages.
pub(super) fn listed<'k>(words: impl Iterator<Item = &'k str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn is_index(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

fn join(table: &str, key: &str) -> String {
    // A key that is not a bare one is quoted, as TOML would have it.
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}
