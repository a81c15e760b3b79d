//! Generated neighbours of every row: under an allow-list, no path that the gate takes for public is read as protected by
//! an origin, however that origin reads paths. The origins here are written from their documentation and known quirks, and
//! share no code with the gate.

use portcullis::access::path::{Reading, Tolerance};
use proptest::prelude::*;

/// A way to read a target, to the path that is served.
type Origin = fn(&str) -> String;

const ORIGINS: &[(&str, Origin)] = &[
    ("RFC 3986 §6.2.2", rfc3986),
    ("decoding twice", decoding_twice),
    ("Java servlet", servlet),
    ("IIS", iis),
    ("nginx merge_slashes", nginx),
    ("PHP", php),
    ("WHATWG URL (Node)", whatwg),
];

/// The gate's view: the canonical path, if it is public.
fn public(target: &str, granted: Tolerance) -> Option<String> {
    let path = target.split('?').next().unwrap();
    let canonical = Reading::of(path).and_then(|reading| reading.under(granted)).ok()?;
    canonical.as_str().starts_with("/public/").then(|| canonical.as_str().to_owned())
}

fn protected(path: &str) -> bool {
    let path = path.trim_start_matches('/').to_ascii_lowercase();
    path == "admin" || path.starts_with("admin/") || path.starts_with("admin.")
}

/// As a policy's row has it, letter by letter.
fn protected_by_name(path: &str) -> bool {
    path == "/admin" || path.starts_with("/admin/")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_forwarded_as_public_is_protected_to_no_origin(target in target()) {
        if let Some(path) = public(&target, Tolerance::default()) {
            let query = target.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
            for (name, read) in ORIGINS {
                let served = read(&format!("{path}{query}"));
                prop_assert!(!protected(&served), "{target:?}, forwarded as {path:?}, is {served:?} to {name}");
            }
        }
    }

    /// A service that opts in says that its origin takes that byte for a letter like any other; such an origin is safe.
    #[test]
    fn an_opt_in_is_safe_with_an_origin_as_it_says(target in target()) {
        let all = Tolerance::ENCODED_SLASH.with(Tolerance::ENCODED_PERCENT).with(Tolerance::SEMICOLON).with(Tolerance::LOOK_ALIKE);
        if let Some(path) = public(&target, all) {
            let segments: Vec<&str> = path.split('/').collect();
            prop_assert!(!protected(&resolve(&segments)), "{target:?} as {path:?}");
        }
    }

    /// What is denied by name under a broad allow is denied to an origin that folds case, where the service says so.
    #[test]
    fn a_narrow_deny_holds_where_case_is_folded_and_capitals_are_refused(target in target()) {
        let path = target.split('?').next().unwrap();
        if let Ok(path) = Reading::of(path).and_then(|reading| reading.under(Tolerance::NONE)) {
            let named = protected_by_name(path.as_str());
            let served = rfc3986(path.as_str());
            for folded in [served.to_lowercase(), served.to_uppercase().to_lowercase()] {
                prop_assert_eq!(protected_by_name(&folded), named, "{:?}", target);
            }
        }
    }

    #[test]
    fn the_canonical_form_is_its_own(target in target()) {
        let path = target.split('?').next().unwrap();
        if let Ok(canonical) = Reading::of(path).and_then(|reading| reading.under(Tolerance::default())) {
            let again = Reading::of(canonical.as_str()).and_then(|reading| reading.under(Tolerance::default()));
            prop_assert_eq!(again.as_ref().map(|path| path.as_str()), Ok(canonical.as_str()));
        }
    }
}

#[test]
fn the_generator_gets_by_and_the_origins_can_be_fooled() {
    // What the gate refuses would have been read as protected: the claims above are not empty.
    for (name, target) in [
        ("RFC 3986 §6.2.2", "/public/%2e%2e/admin"),
        ("decoding twice", "/public/%252e%252e/admin"),
        ("Java servlet", "/public/..;/admin"),
        ("IIS", "/public/..\\admin"),
        ("IIS", "/public/%u002e%u002e/ADMIN"),
        ("nginx merge_slashes", "/public//../../admin"),
        ("PHP", "/public/../admin%00.html"),
        ("WHATWG URL (Node)", "/public/.%2E\\admin"),
    ] {
        let read = ORIGINS.iter().find(|(other, _)| *other == name).unwrap().1;
        assert!(protected(&read(target)), "{target} is {:?} to {name}", read(target));
        assert_eq!(public(target, Tolerance::default()), None, "{target}");
    }
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let passed = (0..2_000)
        .filter(|_| {
            let tree = target().new_tree(&mut runner).unwrap();
            public(&proptest::strategy::ValueTree::current(&tree), Tolerance::default()).is_some()
        })
        .count();
    assert!(passed > 20, "only {passed} of 2000 targets pass");
}

/// Paths between public and protected, with everything that has ever come between two readers.
fn target() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "public",
        "admin",
        "ADMIN",
        "Admin",
        "publi%63",
        "%61dmin",
        "x",
        "..",
        ".",
        "...",
        "%2e%2e",
        "%2E.",
        ".%2e",
        "%252e%252e",
        "%u002e%u002e",
        "%c0%ae%c0%ae",
        "..;",
        "..;a=b",
        "..%3b",
        "%2e%2e%3B",
        "admin;x",
        "admin%00",
        "admin%20",
        "admin.",
        "..%00",
        "..%20",
        "..%09",
        "\u{ff0e}\u{ff0e}",
        "%ef%bc%8e%ef%bc%8e",
        "%e2%80%a5",
        "a%2f..",
        "..%2f",
        "..%5c",
        "..\\",
        "%2e%2e%5Cadmin",
        "a%23",
        "#",
        "a:b@c",
        "~",
        "%7E",
        "a+b",
        "%3f",
        "&",
        "%26",
    ]);
    let between = prop::sample::select(vec![
        "/",
        "/",
        "/",
        "/",
        "//",
        "%2f",
        "%2F",
        "\\",
        "%5c",
        "%5C",
        "/./",
        "/;/",
        "%252f",
        "%c0%af",
        "%ef%bc%8f",
        "/%2e/",
        "",
    ]);
    let end = prop::sample::select(vec![
        "",
        "",
        "/",
        ".",
        "/.",
        "/..",
        ";",
        "%20",
        "?",
        "?/../admin",
        "?x=/admin",
        "%3F",
        "#",
    ]);
    (prop::bool::weighted(0.8), prop::collection::vec((between, name), 1..6), end).prop_map(
        |(public, steps, end)| {
            let start = if public { "/public" } else { "" };
            steps.into_iter().fold(start.to_owned(), |path, (between, name)| path + between + name) + end
        },
    )
}

fn path_of(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap()
}

/// Percent-decoding, what is no encoding left as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Takes dot segments out.
fn resolve(segments: &[&str]) -> String {
    let mut out: Vec<&str> = Vec::new();
    for segment in segments {
        match *segment {
            "." => {}
            ".." => drop(out.pop()),
            other => out.push(other),
        }
    }
    out.join("/")
}

fn without_dots(path: &str) -> String {
    resolve(&path.split('/').collect::<Vec<_>>())
}

fn rfc3986(target: &str) -> String {
    without_dots(&decode(path_of(target)))
}

fn decoding_twice(target: &str) -> String {
    without_dots(&decode(&decode(path_of(target))))
}

/// Path parameters go first, then decoding, then dot segments; empty segments are none.
fn servlet(target: &str) -> String {
    let decoded = decode(path_of(target));
    let segments: Vec<&str> = decoded
        .split('/')
        .map(|segment| segment.split(';').next().unwrap())
        .filter(|segment| !segment.is_empty())
        .collect();
    resolve(&segments)
}

/// `%uXXXX`, a second decoding, backslashes as slashes, dots and spaces at the end of names cut off, case folded.
fn iis(target: &str) -> String {
    let mut text = path_of(target).to_owned();
    while let Some(at) = text.find("%u") {
        let Some(decoded) = text
            .get(at + 2..at + 6)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .and_then(char::from_u32)
        else {
            break;
        };
        text.replace_range(at..at + 6, &decoded.to_string());
    }
    let text = decode(&decode(&text))
        .replace('\\', "/")
        .replace(['\u{ff0f}', '\u{2215}'], "/")
        .replace('\u{ff0e}', ".");
    let segments: Vec<&str> = text
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| match segment {
            "." | ".." => segment,
            other => other.trim_end_matches(['.', ' ']),
        })
        .collect();
    resolve(&segments).to_ascii_lowercase()
}

fn nginx(target: &str) -> String {
    let decoded = decode(path_of(target));
    let segments: Vec<&str> = decoded.split('/').filter(|segment| !segment.is_empty()).collect();
    resolve(&segments)
}

/// The file system's reading: what comes after NUL is not there.
fn php(target: &str) -> String {
    let decoded = decode(path_of(target));
    nginx(decoded.split('\0').next().unwrap())
}

/// Backslashes are slashes, tabs and newlines are nothing, `%2e` is a dot where it makes a dot segment.
fn whatwg(target: &str) -> String {
    let text = path_of(target).replace(['\t', '\n', '\r'], "").replace('\\', "/");
    let segments: Vec<String> = text
        .split('/')
        .map(|segment| match segment.replace("%2e", ".").replace("%2E", ".").as_str() {
            dots @ ("." | "..") => dots.to_owned(),
            _ => segment.to_owned(),
        })
        .collect();
    decode(&resolve(&segments.iter().map(String::as_str).collect::<Vec<_>>()))
}
