//! keyMatch and its kin, meaning what they mean in casbin-rs, but compiled once, bounded in size, and without panics.
//!
//! Most path patterns are literals, whole-segment wildcards and a tail; those run as a plain walk. Any other becomes
//! the very regex casbin-rs would build.

mod shape;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

use globset::{GlobBuilder, GlobMatcher};
use ipnet::IpNet;
use lru::LruCache;
use regex::{Regex, RegexBuilder};

pub(super) use self::shape::Shape;

/// The most memory one compiled regex may take, in bytes.
const REGEX_BYTES: usize = 1 << 20;
/// The most memory the lazy automaton of one regex may take, in bytes.
const AUTOMATON_BYTES: usize = 1 << 18;
/// The longest pattern, in bytes.
const PATTERN_BYTES: usize = 4096;
/// How many patterns made up during evaluation a thread remembers.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// casbin's built-in functions, all taking a value and a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the casbin function of its name")]
pub enum Function {
    KeyMatch,
    KeyMatch2,
    KeyMatch3,
    KeyMatch4,
    KeyMatch5,
    KeyGet,
    KeyGet2,
    KeyGet3,
    RegexMatch,
    GlobMatch,
    IpMatch,
}

impl Function {
    /// Every function.
    pub const ALL: [Self; 11] = [
        Self::KeyMatch,
        Self::KeyMatch2,
        Self::KeyMatch3,
        Self::KeyMatch4,
        Self::KeyMatch5,
        Self::KeyGet,
        Self::KeyGet2,
        Self::KeyGet3,
        Self::RegexMatch,
        Self::GlobMatch,
        Self::IpMatch,
    ];

    /// The name a matcher calls it by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyMatch => "keyMatch",
            Self::KeyMatch2 => "keyMatch2",
            Self::KeyMatch3 => "keyMatch3",
            Self::KeyMatch4 => "keyMatch4",
            Self::KeyMatch5 => "keyMatch5",
            Self::KeyGet => "keyGet",
            Self::KeyGet2 => "keyGet2",
            Self::KeyGet3 => "keyGet3",
            Self::RegexMatch => "regexMatch",
            Self::GlobMatch => "globMatch",
            Self::IpMatch => "ipMatch",
        }
    }

    /// Reads what [`Function::as_str`] writes.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.as_str() == name)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something is not a pattern, or cannot be matched.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PatternError {
    /// Longer than 4,096 bytes.
    #[error("it is longer than {PATTERN_BYTES} bytes")]
    TooLong,
    /// Not a regular expression, or one that compiles to more than 1 MiB.
    #[error("{}", last_line(.0))]
    Regex(#[source] regex::Error),
    /// Not a glob.
    #[error("{0}")]
    Glob(#[source] globset::Error),
    /// Not an IP address or network.
    #[error("it is not an IP address or network such as 10.0.0.0/8")]
    Network,
    /// The value compared with a network is not an address.
    #[error("the value compared with it is not an IP address")]
    Address,
    /// keyMatch4 counts its groups and cannot have others.
    #[error("keyMatch4 cannot have groups of its own, or optional names")]
    Groups,
}

/// A regex error's verdict without the picture of the pattern.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// What a function answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Whether the value matches.
    Matches(bool),
    /// The part asked for, empty if there is none.
    Part(String),
}

/// The patterns of a policy, compiled, by function.
#[derive(Debug, Default)]
pub struct Patterns {
    compiled: HashMap<Function, HashMap<String, Arc<Pattern>>>,
}

impl Patterns {
    /// Compiles `pattern` for `function`, once.
    ///
    /// # Errors
    /// What is wrong with it, be it only with some values.
    pub fn add(&mut self, function: Function, pattern: &str) -> Result<(), PatternError> {
        let of_function = self.compiled.entry(function).or_default();
        if !of_function.contains_key(pattern) {
            let compiled = Pattern::compile(function, pattern)?;
            if let Pattern::Repeated { regex, names } = &compiled
                && regex.captures_len() != names.len() + 1
            {
                return Err(PatternError::Groups);
            }
            of_function.insert(pattern.to_owned(), Arc::new(compiled));
        }
        Ok(())
    }

    /// A pattern that was compiled.
    pub(super) fn find(&self, function: Function, pattern: &str) -> Option<&Arc<Pattern>> {
        self.compiled.get(&function)?.get(pattern)
    }

    /// Calls `function`; `name` is keyGet2's and keyGet3's third argument. A pattern that is not a row's but made up
    /// during evaluation is compiled, and remembered by this thread.
    ///
    /// # Errors
    /// Where casbin-rs would panic.
    pub fn call(
        &self,
        function: Function,
        value: &str,
        pattern: &str,
        name: &str,
    ) -> Result<Answer, PatternError> {
        if let Some(known) = self.find(function, pattern) {
            return known.answer(value, name);
        }
        match remembered(function, pattern) {
            Ok(made) => made.answer(value, name),
            // casbin-rs answers these two without compiling its way to a panic.
            Err(PatternError::Regex(_)) if function == Function::KeyMatch4 => Ok(Answer::Matches(false)),
            Err(PatternError::Regex(_)) if function == Function::KeyGet2 => Ok(Answer::Part(String::new())),
            Err(error) => Err(error),
        }
    }
}

fn remembered(function: Function, pattern: &str) -> Result<Arc<Pattern>, PatternError> {
    thread_local! {
        static MADE_UP: RefCell<LruCache<(Function, String), Arc<Pattern>>> = RefCell::new(LruCache::new(REMEMBERED));
    }
    MADE_UP.with_borrow_mut(|made_up| {
        let key = (function, pattern.to_owned());
        if let Some(known) = made_up.get(&key) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(Pattern::compile(function, pattern)?);
        made_up.put(key, Arc::clone(&made));
        Ok(made)
    })
}

/// One compiled pattern.
#[derive(Debug)]
pub(super) enum Pattern {
    /// keyMatch: equal up to the first `*`, or equal.
    Prefix {
        pattern: String,
        star: Option<usize>,
    },
    /// keyGet: the part from the first `*` on.
    AfterPrefix {
        pattern: String,
        star: Option<usize>,
    },
    /// keyMatch2, 3, 5 in their plain form.
    Walk {
        steps: Vec<Step>,
        ignore_query: bool,
    },
    /// keyMatch2, 3, 5 in any other form, and regexMatch.
    Regex {
        regex: Regex,
        ignore_query: bool,
    },
    /// keyMatch4: groups of the same name must be equal.
    Repeated {
        regex: Regex,
        names: Vec<String>,
    },
    /// keyGet2, keyGet3: the group of a name.
    Named {
        regex: Regex,
        names: Vec<String>,
    },
    Glob(GlobMatcher),
    Address(IpAddr),
    Network(IpNet),
}

/// A step of a plain path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These bytes.
    Literal(String),
    /// One byte or more, up to the next slash or the end.
    Segment,
    /// The rest.
    Rest,
}

static COLON_NAME: LazyLock<Regex> = LazyLock::new(|| known(r":[^/]*"));
static COLON_NAME_1: LazyLock<Regex> = LazyLock::new(|| known(r":[^/]+"));
static BRACE_NAME: LazyLock<Regex> = LazyLock::new(|| known(r"\{[^/]*\}"));
static BRACE_NAME_1: LazyLock<Regex> = LazyLock::new(|| known(r"\{[^/]+?\}"));

#[expect(clippy::expect_used, reason = "the four patterns above are constants, and a test builds each")]
fn known(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern is valid")
}

impl Pattern {
    fn compile(function: Function, pattern: &str) -> Result<Self, PatternError> {
        if pattern.len() > PATTERN_BYTES {
            return Err(PatternError::TooLong);
        }
        let star = pattern.find('*');
        Ok(match function {
            Function::KeyMatch => Self::Prefix { pattern: pattern.to_owned(), star },
            Function::KeyGet => Self::AfterPrefix { pattern: pattern.to_owned(), star },
            Function::KeyMatch2 | Function::KeyMatch3 | Function::KeyMatch5 => {
                let ignore_query = function == Function::KeyMatch5;
                match steps(function, pattern) {
                    Some(steps) => Self::Walk { steps, ignore_query },
                    None => Self::Regex {
                        regex: anchored(&with_names(function, pattern, "[^/]+"))?,
                        ignore_query,
                    },
                }
            }
            Function::KeyMatch4 => {
                let names = names(function, pattern);
                Self::Repeated { regex: anchored(&with_names(function, pattern, "([^/]+)"))?, names }
            }
            Function::KeyGet2 => Self::Named {
                names: names(function, pattern),
                regex: anchored(&with_names(function, pattern, "([^/]+)"))?,
            },
            Function::KeyGet3 => Self::Named {
                names: names(function, pattern),
                regex: anchored(&with_names(function, pattern, "([^/]+?)").replace('{', "\\{"))?,
            },
            Function::RegexMatch => Self::Regex { regex: bounded(pattern)?, ignore_query: false },
            Function::GlobMatch => Self::Glob(
                GlobBuilder::new(pattern)
                    .literal_separator(true)
                    .build()
                    .map_err(PatternError::Glob)?
                    .compile_matcher(),
            ),
            Function::IpMatch => network(pattern)?,
        })
    }

    fn answer(&self, value: &str, name: &str) -> Result<Answer, PatternError> {
        Ok(Answer::Matches(match self {
            Self::Prefix { pattern, star: None } => value == pattern,
            Self::Prefix { pattern, star: Some(star) } => starts_alike(value, pattern, *star),
            Self::AfterPrefix { pattern, star } => {
                let part = star
                    .filter(|&star| starts_alike(value, pattern, star))
                    .and_then(|star| value.get(star..));
                return Ok(Answer::Part(part.unwrap_or_default().to_owned()));
            }
            Self::Walk { steps, ignore_query } => walk(steps, path_of(value, *ignore_query)),
            Self::Regex { regex, ignore_query } => regex.is_match(path_of(value, *ignore_query)),
            Self::Repeated { regex, names } => match regex.captures(value) {
                None => false,
                Some(groups) if groups.len() != names.len() + 1 => return Err(PatternError::Groups),
                Some(groups) => {
                    let mut values = HashMap::new();
                    let mut same = true;
                    for (name, group) in names.iter().zip(groups.iter().skip(1)) {
                        let group = group.ok_or(PatternError::Groups)?.as_str();
                        same &= *values.entry(name).or_insert(group) == group;
                    }
                    same
                }
            },
            Self::Named { regex, names } => {
                let at = names.iter().position(|known| known == name);
                let groups =
                    at.and_then(|at| regex.captures(value)?.get(at + 1).map(|part| part.as_str().to_owned()));
                return Ok(Answer::Part(groups.unwrap_or_default()));
            }
            Self::Glob(glob) => glob.is_match(value),
            Self::Address(_) | Self::Network(_) => self.covers(parse_address(value)?),
        }))
    }

    /// Whether the value matches. `false` where there is no answer, or one that is neither yes nor no.
    pub(super) fn is_match(&self, value: &str) -> bool {
        matches!(self.answer(value, ""), Ok(Answer::Matches(true)))
    }

    /// Whether it is an address or a network that has this address.
    pub(super) fn covers(&self, value: IpAddr) -> bool {
        match self {
            Self::Address(address) => same_address(value, *address),
            Self::Network(network) => network.contains(&value),
            Self::Prefix { .. }
            | Self::AfterPrefix { .. }
            | Self::Walk { .. }
            | Self::Regex { .. }
            | Self::Repeated { .. }
            | Self::Named { .. }
            | Self::Glob(_) => false,
        }
    }
}

/// Whether the first `star` bytes of both are equal. In bytes, since `star` need not fall between characters of
/// `value`, where casbin-rs panics.
fn starts_alike(value: &str, pattern: &str, star: usize) -> bool {
    match pattern.as_bytes().get(..star) {
        Some(prefix) => value.as_bytes().starts_with(prefix),
        None => false,
    }
}

fn path_of(value: &str, ignore_query: bool) -> &str {
    if ignore_query { value.split('?').next().unwrap_or(value) } else { value }
}

fn bounded(pattern: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(AUTOMATON_BYTES)
        .build()
        .map_err(PatternError::Regex)
}

fn anchored(pattern: &str) -> Result<Regex, PatternError> {
    bounded(&format!("^{pattern}$"))
}

/// The regex source that casbin-rs makes of a path pattern: `/*` becomes `/.*`, and each name `class`.
fn with_names(function: Function, pattern: &str, class: &str) -> String {
    name_syntax(function).replace_all(&pattern.replace("/*", "/.*"), regex::NoExpand(class)).into_owned()
}

/// The names in a path pattern, in order, as casbin-rs finds them.
fn names(function: Function, pattern: &str) -> Vec<String> {
    let pattern = pattern.replace("/*", "/.*");
    let bare = |name: &str| match function {
        Function::KeyGet2 => name.strip_prefix(':').map(str::to_owned),
        _ => name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).map(str::to_owned),
    };
    name_syntax(function).find_iter(&pattern).filter_map(|found| bare(found.as_str())).collect()
}

fn name_syntax(function: Function) -> &'static Regex {
    match function {
        Function::KeyMatch2 => &COLON_NAME,
        Function::KeyGet2 => &COLON_NAME_1,
        Function::KeyMatch3 => &BRACE_NAME,
        _ => &BRACE_NAME_1,
    }
}

/// A path pattern of keyMatch2, 3 or 5 as steps, if it is plain: no other character has a meaning in a regex, each
/// name ends its segment, and `/*` ends the pattern. `None` for any other.
pub fn steps(function: Function, pattern: &str) -> Option<Vec<Step>> {
    const NAME: char = '\u{0}';
    let (body, rest) = match pattern.strip_suffix("/*") {
        Some(body) => (format!("{body}/"), true),
        None => (pattern.to_owned(), false),
    };
    if body.contains(NAME) {
        return None;
    }
    let marked = name_syntax(function).replace_all(&body, regex::NoExpand("\u{0}"));
    let mut steps = Vec::new();
    let mut parts = marked.split(NAME);
    let mut literal = parts.next()?;
    loop {
        if !literal.chars().all(|c| c.is_ascii_alphanumeric() || "-_~/%!@,=&';:".contains(c)) {
            return None;
        }
        if !literal.is_empty() {
            steps.push(Step::Literal(literal.to_owned()));
        }
        match parts.next() {
            None => break,
            Some(next) if next.is_empty() || next.starts_with('/') => {
                steps.push(Step::Segment);
                literal = next;
            }
            Some(_) => return None,
        }
    }
    // Two names with nothing between them would share a segment.
    if steps.windows(2).any(|pair| pair == [Step::Segment, Step::Segment]) {
        return None;
    }
    if rest {
        steps.push(Step::Rest);
    }
    Some(steps)
}

/// The regular expression that `pattern` is under `function`, if it is one and compiles.
pub fn regex_source(function: Function, pattern: &str) -> Option<String> {
    match function {
        Function::KeyMatch2 | Function::KeyMatch3 | Function::KeyMatch4 | Function::KeyMatch5 => {
            Some(format!("^{}$", with_names(function, pattern, "[^/]+")))
        }
        Function::RegexMatch => Some(pattern.to_owned()),
        Function::GlobMatch => {
            let glob = GlobBuilder::new(pattern).literal_separator(true).build().ok()?;
            Some(glob.regex().to_owned())
        }
        Function::KeyMatch | Function::KeyGet | Function::KeyGet2 | Function::KeyGet3 | Function::IpMatch => {
            None
        }
    }
}

fn walk(steps: &[Step], value: &str) -> bool {
    let mut left = value;
    for step in steps {
        match step {
            Step::Literal(text) => match left.strip_prefix(text.as_str()) {
                Some(after) => left = after,
                None => return false,
            },
            Step::Segment => {
                let end = left.find('/').unwrap_or(left.len());
                if end == 0 {
                    return false;
                }
                left = left.get(end..).unwrap_or_default();
            }
            // `.` matches all but a line feed.
            Step::Rest => return !left.contains('\n'),
        }
    }
    left.is_empty()
}

fn network(pattern: &str) -> Result<Pattern, PatternError> {
    let (address, length) = match pattern.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (pattern, None),
    };
    let address: IpAddr = address.parse().map_err(|_| PatternError::Network)?;
    Ok(match length {
        None => Pattern::Address(address),
        Some(length) => {
            let length = length.parse().map_err(|_| PatternError::Network)?;
            Pattern::Network(IpNet::new(address, length).map_err(|_| PatternError::Network)?.trunc())
        }
    })
}

fn parse_address(value: &str) -> Result<IpAddr, PatternError> {
    value.parse().map_err(|_| PatternError::Address)
}

/// casbin-rs takes an IPv4 address for equal to its IPv4-mapped or -compatible form in the pattern.
fn same_address(value: IpAddr, pattern: IpAddr) -> bool {
    match (value, pattern) {
        (IpAddr::V4(value), IpAddr::V6(pattern)) => pattern.to_ipv4() == Some(value),
        _ => value == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casbin::function_map as theirs;
    use proptest::prelude::*;
    use std::panic::catch_unwind;

    /// What casbin-rs answers; `None` where it panics.
    fn casbin(function: Function, value: &str, pattern: &str, name: &str) -> Option<Answer> {
        let matches = |f: fn(&str, &str) -> bool| catch_unwind(|| Answer::Matches(f(value, pattern))).ok();
        match function {
            Function::KeyMatch => matches(theirs::key_match),
            Function::KeyMatch2 => matches(theirs::key_match2),
            Function::KeyMatch3 => matches(theirs::key_match3),
            Function::KeyMatch4 => matches(theirs::key_match4),
            Function::KeyMatch5 => matches(theirs::key_match5),
            Function::RegexMatch => matches(theirs::regex_match),
            Function::GlobMatch => matches(theirs::glob_match),
            Function::IpMatch => matches(theirs::ip_match),
            Function::KeyGet => catch_unwind(|| Answer::Part(theirs::key_get(value, pattern))).ok(),
            Function::KeyGet2 => catch_unwind(|| Answer::Part(theirs::key_get2(value, pattern, name))).ok(),
            Function::KeyGet3 => catch_unwind(|| Answer::Part(theirs::key_get3(value, pattern, name))).ok(),
        }
    }

    fn ours(function: Function, value: &str, pattern: &str, name: &str) -> Option<Answer> {
        Patterns::default().call(function, value, pattern, name).ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn answers_are_those_of_casbin_wherever_it_does_not_panic(
            function in prop::sample::select(Function::ALL.to_vec()),
            value in "(/|a|b|\\.|é|\\?|\n|-){0,8}",
            pattern in "(/|a|b|\\.|é|\\*|/\\*|:a|:|\\{a\\}|\\{b\\}|\\{|\\}|\\(|\\)|\\?|-){0,8}",
            name in "[ab]",
        ) {
            if let Some(expected) = casbin(function, &value, &pattern, &name) {
                prop_assert_eq!(ours(function, &value, &pattern, &name), Some(expected));
            }
        }

        #[test]
        fn likely_paths_get_the_answers_of_casbin(
            function in prop::sample::select(vec![
                Function::KeyMatch, Function::KeyMatch2, Function::KeyMatch3, Function::KeyMatch4, Function::KeyMatch5,
                Function::KeyGet, Function::KeyGet2, Function::KeyGet3, Function::GlobMatch,
            ]),
            value in "(/(a|b|ab|v1\\.0|)){0,4}(\\?x)?",
            pattern in "(/(a|b|:x|:|\\{x\\}|\\{y\\}|\\*|\\*\\*|v1\\.0|a:x|\\{x\\}-b|)){0,4}",
            name in "[xy]",
        ) {
            if let Some(expected) = casbin(function, &value, &pattern, &name) {
                prop_assert_eq!(ours(function, &value, &pattern, &name), Some(expected));
            }
        }

        #[test]
        fn addresses_get_the_answers_of_casbin(
            value in prop::sample::select(vec!["10.0.0.1", "10.0.1.1", "::ffff:10.0.0.1", "::1", "fe80::1", "x", ""]),
            pattern in prop::sample::select(vec![
                "10.0.0.1", "10.0.0.0/24", "10.0.0.1/24", "::ffff:10.0.0.1", "::10.0.0.1", "::/0", "0.0.0.0/0",
                "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "fe80::/10", "10.0.0", "",
            ]),
        ) {
            let expected = casbin(Function::IpMatch, value, pattern, "");
            prop_assert_eq!(ours(Function::IpMatch, value, pattern, ""), expected);
        }
    }

    #[test]
    fn what_makes_casbin_panic_is_an_error_here() {
        for (function, value, pattern) in [
            (Function::RegexMatch, "/a", "*/admin"),
            (Function::RegexMatch, "/a", "{"),
            (Function::KeyMatch2, "/a", "/(a"),
            (Function::KeyMatch3, "/a", "/a["),
            (Function::KeyMatch5, "/a", "/a["),
            (Function::KeyMatch4, "/a/b", "/{x}/(b)"),
            (Function::GlobMatch, "/a", "/["),
            (Function::IpMatch, "10.0.0.1", "10.0.0.0/99"),
            (Function::IpMatch, "x", "10.0.0.0/8"),
        ] {
            assert!(casbin(function, value, pattern, "").is_none(), "{function} {pattern}");
            assert!(ours(function, value, pattern, "").is_none(), "{function} {pattern}");
        }
        // Here casbin slices inside a character, and the answer is plain.
        assert!(casbin(Function::KeyMatch, "/é", "/a*", "").is_none());
        assert_eq!(ours(Function::KeyMatch, "/é", "/a*", ""), Some(Answer::Matches(false)));
    }

    #[test]
    fn a_tail_stops_at_a_line_feed_and_a_segment_does_not() {
        for (function, value, pattern, expected) in [
            (Function::KeyMatch2, "/a/b", "/a/*", true),
            (Function::KeyMatch2, "/a/", "/a/*", true),
            (Function::KeyMatch2, "/a/\n", "/a/*", false),
            (Function::KeyMatch2, "/a\nb", "/:x", true),
            (Function::KeyMatch2, "/", "/:x", false),
            (Function::KeyMatch5, "/a?b", "/a", true),
            (Function::KeyMatch3, "/a?b", "/a", false),
        ] {
            let expected = Some(Answer::Matches(expected));
            assert_eq!(casbin(function, value, pattern, ""), expected, "{function} {pattern}");
            assert_eq!(ours(function, value, pattern, ""), expected, "{function} {pattern}");
        }
    }

    #[test]
    fn a_regex_is_bounded_in_size() {
        let huge = r"\pL{1000}{10}";
        assert!(matches!(
            Patterns::default().add(Function::RegexMatch, huge),
            Err(PatternError::Regex(regex::Error::CompiledTooBig(_)))
        ));
        assert!(matches!(
            Patterns::default().add(Function::RegexMatch, &"a".repeat(PATTERN_BYTES + 1)),
            Err(PatternError::TooLong)
        ));
    }

    #[test]
    fn plain_path_patterns_need_no_regex() {
        for (function, pattern) in [
            (Function::KeyMatch2, "/docs/*"),
            (Function::KeyMatch2, "/users/:id/posts/:post"),
            (Function::KeyMatch3, "/users/{id}"),
            (Function::KeyMatch5, "/users/{id}/*"),
            (Function::KeyMatch2, "/"),
        ] {
            assert!(steps(function, pattern).is_some(), "{pattern}");
        }
        for (function, pattern) in [
            (Function::KeyMatch2, "/v1.0/*"),
            (Function::KeyMatch2, "/*/edit"),
            (Function::KeyMatch3, "/{a}-x"),
            (Function::KeyMatch2, "/a|/b"),
        ] {
            assert!(steps(function, pattern).is_none(), "{pattern}");
        }
    }
}
