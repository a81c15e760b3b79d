//! What an operator may have meant by a word that is not known.

use super::env::{PREFIX, variable_of};
use super::error::{ConfigError, Fault, Place};
use super::file::File;
use super::word::Word;

/// The fault of `key`, which is none of `known`, the keys of its table.
pub(super) fn unknown(place: &Place, key: String, known: &[&str]) -> ConfigError {
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
    let bare = |text: &str| text.strip_prefix(PREFIX).unwrap_or(text).to_ascii_lowercase();
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
