//! The model file, read strictly: casbin's own reader passes over misspelt sections, keys after a gap and repeated
//! definitions without a word.

use std::collections::BTreeMap;

use super::asking::ROLE_DEFINITIONS;
use super::error::{Fault, LoadError, Problem};
use super::load::Text;
use super::rows::lines;

/// How the rows that match make an answer: the four effects that casbin-rs implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A row allows.
    AllowOverride,
    /// A row allows, and none denies.
    DenyOverride,
    /// No row denies.
    AllowUnlessDenied,
    /// The first row that matches allows.
    Priority,
}

impl Effect {
    const ALL: [Self; 4] = [Self::AllowOverride, Self::DenyOverride, Self::AllowUnlessDenied, Self::Priority];

    /// The effect as a model writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllowOverride => "some(where (p.eft == allow))",
            Self::DenyOverride => "some(where (p.eft == allow)) && !some(where (p.eft == deny))",
            Self::AllowUnlessDenied => "!some(where (p.eft == deny))",
            Self::Priority => "priority(p.eft) || deny",
        }
    }

    /// The answer, from the positions of the first matching row that allows and the first that denies.
    pub fn of(self, allow: Option<usize>, deny: Option<usize>) -> bool {
        match self {
            Self::AllowOverride => allow.is_some(),
            Self::DenyOverride => allow.is_some() && deny.is_none(),
            Self::AllowUnlessDenied => deny.is_none(),
            Self::Priority => allow.is_some_and(|allow| deny.is_none_or(|deny| allow < deny)),
        }
    }
}

/// A model, each part with its line.
#[derive(Clone, Debug)]
pub struct ModelText {
    /// The names of `r`, in order.
    pub request: Vec<RequestName>,
    /// The names of `p`, in order.
    pub columns: Vec<String>,
    /// The role definitions: `g`, `g2`, … in order.
    pub roles: Vec<RoleDefinition>,
    /// How matching rows make an answer.
    pub effect: Effect,
    /// The matcher as written, continuation lines joined, comment removed.
    pub matcher: String,
    /// The line the matcher begins on.
    pub matcher_line: u32,
}

/// One role definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleDefinition {
    /// `g`, `g2`, …
    pub name: String,
    /// Whether it has a third place, the domain.
    pub in_domains: bool,
}

/// The values of a request that a model can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestName {
    /// The caller's own principal, or `anonymous`.
    Sub,
    /// The service's name.
    Dom,
    /// The canonical path.
    Obj,
    /// The method.
    Act,
    /// The host.
    Host,
    /// The client's address.
    Ip,
}

impl RequestName {
    /// The name as a model writes it after `r.`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sub => "sub",
            Self::Dom => "dom",
            Self::Obj => "obj",
            Self::Act => "act",
            Self::Host => "host",
            Self::Ip => "ip",
        }
    }

    /// Reads what [`RequestName::as_str`] writes.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Sub, Self::Dom, Self::Obj, Self::Act, Self::Host, Self::Ip]
            .into_iter()
            .find(|known| known.as_str() == name)
    }
}

impl ModelText {
    /// Reads a model.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn read(text: &Text) -> Result<Self, LoadError> {
        let definitions = definitions(text)?;
        let find = |key: &'static str, section: &'static str| {
            definitions.get(key).ok_or_else(|| Fault::at(text, None, Problem::Lacks { key, section }))
        };
        let (r, p) = (find("r", "request_definition")?, find("p", "policy_definition")?);
        let (e, m) = (find("e", "policy_effect")?, find("m", "matchers")?);
        let columns = names(&p.value).map_err(|problem| Fault::at(text, Some(p.line), problem))?;
        Ok(Self {
            request: request_names(&r.value).map_err(|problem| Fault::at(text, Some(r.line), problem))?,
            effect: effect(&e.value, &columns).map_err(|problem| Fault::at(text, Some(e.line), problem))?,
            columns,
            roles: role_definitions(text, &definitions)?,
            matcher: m.value.clone(),
            matcher_line: m.line,
        })
    }

    /// The position of `eft` among the columns.
    pub fn effect_column(&self) -> Option<usize> {
        self.columns.iter().position(|column| column == "eft")
    }

    /// Whether what no row denies is allowed.
    pub fn allows_by_default(&self) -> bool {
        self.effect == Effect::AllowUnlessDenied
    }
}

impl Fault {
    fn at(text: &Text, line: Option<u32>, problem: Problem) -> Self {
        Self::new(&text.name, line, problem)
    }
}

struct Definition {
    value: String,
    line: u32,
}

/// All definitions by key. Keys are unlike across sections, so the key alone names one.
fn definitions(text: &Text) -> Result<BTreeMap<String, Definition>, LoadError> {
    let mut found = BTreeMap::<String, Definition>::new();
    let mut section = None;
    let mut lines = lines(&text.text).map(|(line, content)| (line, content.trim())).peekable();
    while let Some((line, content)) = lines.next() {
        if is_blank(content) {
            continue;
        }
        if let Some(name) = header(content) {
            let known = Section::parse(name)
                .ok_or_else(|| Fault::at(text, Some(line), Problem::UnknownSection(name.to_owned())))?;
            section = Some(known);
            continue;
        }
        // A backslash at the end joins the next line, as in casbin; a blank line, a comment or a header ends it.
        let mut whole = content.to_owned();
        while let Some(open) = whole.strip_suffix('\\') {
            whole.truncate(open.trim_end().len());
            match lines.next_if(|(_, next)| !is_blank(next) && header(next).is_none()) {
                Some((_, next)) => whole.push_str(next),
                None => break,
            }
        }
        let (key, definition) =
            definition(&whole, section, line).map_err(|problem| Fault::at(text, Some(line), problem))?;
        if let Some(first) = found.get(&key) {
            return Err(Fault::at(text, Some(line), Problem::DefinedTwice(key, first.line)).into());
        }
        found.insert(key, definition);
    }
    Ok(found)
}

fn definition(text: &str, section: Option<Section>, line: u32) -> Result<(String, Definition), Problem> {
    let section = section.ok_or(Problem::OutsideSection)?;
    let (key, value) = text.split_once('=').ok_or(Problem::NotADefinition)?;
    let (key, value) = (key.trim(), value.trim());
    section.admits(key)?;
    // casbin cuts a definition at its first `#`, quoted or not.
    let value = match value.split_once('#') {
        Some((before, _)) if before.matches('"').count() % 2 == 1 => return Err(Problem::HashInString),
        Some((before, _)) => before.trim_end(),
        None => value,
    };
    if value.is_empty() {
        return Err(Problem::NoValue(key.to_owned()));
    }
    Ok((key.to_owned(), Definition { value: value.to_owned(), line }))
}

fn is_blank(line: &str) -> bool {
    line.is_empty() || line.starts_with('#') || line.starts_with(';')
}

fn header(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']')
}

#[derive(Clone, Copy)]
enum Section {
    Request,
    Policy,
    Roles,
    Effect,
    Matchers,
}

impl Section {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "request_definition" => Self::Request,
            "policy_definition" => Self::Policy,
            "role_definition" => Self::Roles,
            "policy_effect" => Self::Effect,
            "matchers" => Self::Matchers,
            _ => return None,
        })
    }

    /// Checks that `key` may stand in this section.
    fn admits(self, key: &str) -> Result<(), Problem> {
        let only = match self {
            Self::Request => "r",
            Self::Policy => "p",
            Self::Roles => "g",
            Self::Effect => "e",
            Self::Matchers => "m",
        };
        match key.strip_prefix(only) {
            Some("") => Ok(()),
            Some(number) if is_number(number) => match self {
                Self::Roles => Ok(()),
                _ => Err(Problem::SecondDefinition(key.to_owned())),
            },
            _ => Err(Problem::UnknownKey(key.to_owned(), only)),
        }
    }
}

/// A suffix casbin counts in: 2, 3, … without leading zeros.
fn is_number(suffix: &str) -> bool {
    suffix.parse::<u32>().is_ok_and(|n| n >= 2 && n.to_string() == suffix)
}

fn names(value: &str) -> Result<Vec<String>, Problem> {
    let mut names = Vec::<String>::new();
    for name in value.split(',').map(str::trim) {
        let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !good {
            return Err(Problem::BadName(name.to_owned()));
        }
        if names.iter().any(|known| known == name) {
            return Err(Problem::NameTwice(name.to_owned()));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn request_names(value: &str) -> Result<Vec<RequestName>, Problem> {
    names(value)?
        .into_iter()
        .map(|name| RequestName::parse(&name).ok_or(Problem::RequestName(name)))
        .collect()
}

fn effect(value: &str, columns: &[String]) -> Result<Effect, Problem> {
    // `p_eft` is what casbin makes of `p.eft`; both spellings reach it as the same.
    let written = value.replace("p_eft", "p.eft");
    let effect = Effect::ALL
        .into_iter()
        .find(|effect| effect.as_str() == written)
        .ok_or_else(|| Problem::Effect(value.to_owned()))?;
    if effect == Effect::AllowUnlessDenied && !columns.iter().any(|column| column == "eft") {
        return Err(Problem::NeverDenies);
    }
    if effect == Effect::Priority && columns.iter().any(|column| column == "priority") {
        return Err(Problem::PriorityColumn);
    }
    Ok(effect)
}

fn role_definitions(
    text: &Text,
    definitions: &BTreeMap<String, Definition>,
) -> Result<Vec<RoleDefinition>, LoadError> {
    let mut roles = Vec::new();
    let mut defined: Vec<(u32, &String, &Definition)> = definitions
        .iter()
        .filter_map(|(key, definition)| {
            let suffix = key.strip_prefix('g')?;
            Some((suffix.parse().unwrap_or(1), key, definition))
        })
        .collect();
    defined.sort_by_key(|(number, ..)| *number);
    for ((number, key, definition), place) in defined.into_iter().zip(1u32..) {
        let fault = |problem| Fault::at(text, Some(definition.line), problem);
        if number != place {
            let missing = if place == 1 { "g".to_owned() } else { format!("g{place}") };
            return Err(fault(Problem::RoleGap(key.clone(), missing)).into());
        }
        let places: Vec<&str> = definition.value.split(',').map(str::trim).collect();
        let in_domains = match places.as_slice() {
            ["_", "_"] => false,
            ["_", "_", "_"] => true,
            _ => return Err(fault(Problem::RolePlaces(definition.value.clone())).into()),
        };
        if roles.len() == ROLE_DEFINITIONS {
            return Err(fault(Problem::TooManyRoles).into());
        }
        roles.push(RoleDefinition { name: key.clone(), in_domains });
    }
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act, eft\n\
        [role_definition]\ng = _, _\n[policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\n\
        m = g(r.sub, p.sub) && \\\n    r.obj == p.obj \\\n  && r.act == p.act # why\n";

    fn read(text: &str) -> Result<ModelText, LoadError> {
        ModelText::read(&Text { name: "model.conf".into(), text: text.into() })
    }

    #[test]
    fn a_model_is_read_with_its_continuation_lines_and_comments() {
        let model = read(GOOD).unwrap();
        assert_eq!(model.request, [RequestName::Sub, RequestName::Obj, RequestName::Act]);
        assert_eq!(model.columns, ["sub", "obj", "act", "eft"]);
        assert_eq!(model.roles, [RoleDefinition { name: "g".into(), in_domains: false }]);
        assert_eq!(model.matcher, "g(r.sub, p.sub) &&r.obj == p.obj&& r.act == p.act");
        assert_eq!(model.matcher_line, 10);
    }

    #[test]
    fn what_casbin_would_pass_over_is_a_fault_with_its_line() {
        for (from, to, expected) in [
            ("[matchers]", "[matcher]", "model.conf:9: unknown section [matcher]"),
            ("[matchers]", "[Matchers]", "model.conf:9: unknown section [Matchers]"),
            ("r = sub", "R = sub", "model.conf:2: unknown key `R`"),
            ("r = sub", "r = sub, uid", "model.conf:2: the gate has no request value `uid`"),
            ("r = sub", "r = sub, sub", "model.conf:2: `sub` is named twice"),
            ("p = sub", "p = 1sub", "model.conf:4: `1sub` is not a name"),
            ("g = _, _", "g = _", "model.conf:6: a role definition is"),
            ("g = _, _", "g = _, _, _, _", "model.conf:6: a role definition is"),
            ("g = _, _", "g = _, _\ng3 = _, _", "model.conf:7: `g3` is defined but `g2` is not"),
            (
                "g = _, _",
                "g = _, _\ng = _, _",
                "model.conf:7: `g` is defined twice; it first stands at line 6",
            ),
            ("g = _, _", "g = _, _\np2 = sub", "model.conf:7: unknown key `p2`"),
            ("p = sub", "p2 = sub\np = sub", "model.conf:4: `p2` is never consulted"),
            ("p.eft == allow", "p.eft==allow", "model.conf:8: unsupported effect"),
            ("m = g", "m = r.sub == \"#\" && g", "model.conf:10: `#` inside a string"),
            ("m = g", "m g", "model.conf:10: expected `key = value`"),
            ("e = some(where (p.eft == allow))", "e =", "model.conf:8: `e` has no value"),
            ("[request_definition]\n", "", "model.conf:1: a definition stands before any [section]"),
            (
                "[policy_effect]\ne = some(where (p.eft == allow))",
                "",
                "the model lacks `e` in [policy_effect]",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            // `m g` still has an `=` further on, so it is a key that does not exist.
            let matches = error.contains(expected) || (to == "m g" && error.contains("unknown key"));
            assert!(matches, "{to}: {error}");
        }
    }

    #[test]
    fn a_deny_only_effect_needs_rows_that_can_deny() {
        let deny_only = GOOD.replace("some(where (p.eft == allow))", "!some(where (p.eft == deny))");
        assert!(read(&deny_only).unwrap().allows_by_default());
        let error = read(&deny_only.replace(", eft", "")).unwrap_err().to_string();
        assert!(error.contains("no row can deny"), "{error}");
    }
}
