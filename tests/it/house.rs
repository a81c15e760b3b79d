//! The house: a module uses those on floors below its own, and nothing else. The sources are read and held to it.

use std::path::{Path, PathBuf};

/// The floors, by what a module's path begins with; the longest fit counts. Modules that share an entry's name are one
/// and may use each other.
const FLOORS: &[(&str, u8)] = &[
    ("clock", 0),
    ("net", 0),
    ("audit::hash", 0),
    ("access", 1),
    ("audit::record", 2),
    ("audit::merkle", 2),
    ("audit::checkpoint", 2),
    ("audit::verify", 2),
    ("audit::proof", 2),
    ("audit::bundle", 2),
    ("audit::storage", 3),
    ("audit::rocks", 3),
    ("audit::journal", 3),
    ("audit::query", 3),
    ("audit::tiles", 3),
    ("audit::marker", 3),
    ("audit::lent", 3),
    ("audit::space", 3),
    ("audit::mark", 3),
    ("audit::passes", 3),
    ("audit::release", 3),
    ("audit::witnesses", 3),
    ("authn", 3),
    ("policy", 3),
    ("config", 3),
    ("proxy", 4),
    ("server", 5),
    ("admin", 5),
    ("witness", 5),
    ("monitor", 5),
    ("app", 6),
    ("cli", 6),
    ("main", 6),
];

/// What may be used on one's own floor, and why.
const SIBLINGS: &[(&str, &str)] = &[
    // The verifier is made of the other three.
    ("audit::verify", "audit::record"),
    ("audit::verify", "audit::merkle"),
    ("audit::verify", "audit::checkpoint"),
    // Proofs are of the tree, under a checkpoint.
    ("audit::proof", "audit::merkle"),
    ("audit::proof", "audit::checkpoint"),
    // Bundles are made of all of these.
    ("audit::bundle", "audit::record"),
    ("audit::bundle", "audit::merkle"),
    ("audit::bundle", "audit::checkpoint"),
    ("audit::bundle", "audit::proof"),
    ("audit::bundle", "audit::verify"),
    // The log's parts stand on what they ask of a store.
    ("audit::rocks", "audit::storage"),
    ("audit::journal", "audit::storage"),
    ("audit::query", "audit::storage"),
    ("audit::tiles", "audit::storage"),
    ("audit::marker", "audit::storage"),
    ("audit::lent", "audit::storage"),
    ("audit::mark", "audit::storage"),
    ("audit::passes", "audit::storage"),
    ("audit::witnesses", "audit::storage"),
    // Who asks the witnesses tells it, who records waits for it.
    ("audit::journal", "audit::release"),
    ("audit::witnesses", "audit::release"),
    // Commands run what the app puts together.
    ("cli", "app"),
    ("main", "cli"),
    ("main", "app"),
];

#[test]
fn no_import_climbs() {
    let sources = sources();
    assert!(sources.len() > 50, "the sources were not found");
    let faults: Vec<String> = sources.iter().flat_map(|(module, text)| climbs(module, text)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn an_import_that_climbs_is_seen() {
    for (module, text) in [
        ("access::path", "use crate::proxy::Face;"),
        ("access::path", "use crate::{clock::Clock, audit::{hash::Hash, journal::Journal}};"),
        ("audit::record::entry", "use super::super::storage::Store;"),
        ("audit::merkle", "use super::record::Body;"),
        ("config::file", "fn f() { crate::policy::Policy::load(); }"),
        ("policy::load", "use crate::config::Settings;"),
        ("proxy::gate", "use crate::admin::router;"),
        ("server::health", "use crate::admin::router;"),
        ("net::dial", "use crate::access::Client;"),
    ] {
        assert_eq!(climbs(module, text).len(), 1, "{module}: {text}");
    }
}

#[test]
fn imports_from_below_and_within_are_fine() {
    for (module, text) in [
        ("proxy::gate", "use crate::policy::Policy; use crate::access::{Attempt, Identity};"),
        ("audit::verify", "use super::merkle::Frontier; use super::hash::Hash;"),
        ("audit::journal::writer", "use super::queue::Queue; use super::super::storage::Store;"),
        ("cli::audit::verify", "use super::source; use crate::cli::out::Paint; use crate::app;"),
        ("access::path", "// use crate::proxy::Face;\nuse crate::clock::Clock;"),
        ("access::path", "/// See [`crate::proxy`].\nfn f() {}"),
        ("config", "#[cfg(test)]\nmod tests {\n    use crate::policy::Policy;\n}"),
    ] {
        assert_eq!(climbs(module, text), Vec::<String>::new());
    }
}

/// What in `text`, the source of `module`, uses a module that it may not.
fn climbs(module: &str, text: &str) -> Vec<String> {
    let Some((own, floor)) = floor_of(module) else {
        // `lib.rs` and `audit/mod.rs` only list what there is.
        return Vec::new();
    };
    let text = code(text);
    let mut faults = Vec::new();
    for used in paths(module, &text) {
        let Some((theirs, their_floor)) = floor_of(&used) else { continue };
        if theirs == own || their_floor < floor || SIBLINGS.contains(&(own, theirs)) {
            continue;
        }
        faults.push(format!("{module} (floor {floor}) uses {used} (floor {their_floor})"));
    }
    faults.sort();
    faults.dedup();
    faults
}

fn floor_of(module: &str) -> Option<(&'static str, u8)> {
    let below =
        |name: &str| module == name || module.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"));
    FLOORS.iter().filter(|(name, _)| below(name)).max_by_key(|(name, _)| name.len()).copied()
}

/// The code of a source: no comments, no unit tests (by house rule these stand at the end).
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Every path in `text` that begins with `crate` or `super`, spelled out from the crate's root.
fn paths(module: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in ["crate::", "super::", "portcullis::"] {
        for (at, _) in text.match_indices(word) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let mut base: Vec<&str> = match word {
                "super::" => module.split("::").collect(),
                _ => Vec::new(),
            };
            let mut rest = &text[at..];
            while let Some(after) = rest.strip_prefix("super::") {
                base.pop();
                rest = after;
            }
            let rest = rest.strip_prefix("crate::").or(rest.strip_prefix("portcullis::")).unwrap_or(rest);
            spell_out(&base.join("::"), rest, &mut found);
        }
    }
    found
}

/// Spells out a use tree: `a::{b, c::{d, e}}` is `a::b`, `a::c::d`, `a::c::e`. Returns how much of `rest` it was.
fn spell_out(base: &str, rest: &str, found: &mut Vec<String>) -> usize {
    let join = |name: &str| if base.is_empty() { name.to_owned() } else { format!("{base}::{name}") };
    if let Some(inner) = rest.strip_prefix('{') {
        let mut at = 1;
        let mut tree = inner;
        loop {
            let blank = tree.len() - tree.trim_start_matches([',', ' ', '\n', '\t']).len();
            tree = &tree[blank..];
            at += blank;
            if tree.is_empty() || tree.starts_with('}') {
                return at + 1;
            }
            let used = spell_out(base, tree, found).max(1);
            at += used.min(tree.len());
            tree = &tree[used.min(tree.len())..];
        }
    }
    let name = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
    let path = join(&rest[..name]);
    match rest[name..].strip_prefix("::") {
        Some(deeper) => name + 2 + spell_out(&path, deeper, found),
        None => {
            found.push(path);
            // `x as y` is one entry.
            name + rest[name..].find([',', '}', ';', '\n']).unwrap_or(0)
        }
    }
}

/// All sources, by module.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files
        .into_iter()
        // Files of unit tests alone are outside the floors.
        .filter(|path| {
            !path
                .components()
                .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs" | "testing.rs")))
        })
        .map(|path| {
            let relative = path.strip_prefix(&root).unwrap().with_extension("");
            let parts: Vec<&str> = relative.iter().map(|part| part.to_str().unwrap()).collect();
            let module = parts.join("::");
            let module = module.strip_suffix("::mod").unwrap_or(&module).to_owned();
            (module, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}
