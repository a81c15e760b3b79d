//! A narrow denial within a broad allow: what is denied by one spelling may be allowed by another that the origin
//! takes for the same. Found by trying: paths that the denial matches are spelt anew, and the spelling that an allow
//! matches and no denial does is told.

use std::collections::{HashMap, HashSet};

use super::super::METHODS;
use super::super::members::Members;
use super::super::shape::{Ruling, Shape};
use super::super::witness::{Services, Witnesses};
use super::{Code, KnownService, Look};
use crate::policy::model::Effect;
use crate::policy::rows::Row;

/// Bytes that may stand in a path both raw and encoded (RFC 3986 §2.2, §3.3), which are two paths here and one to most
/// origins.
pub(super) const DELIMITERS: &str = "!$&'()*+,=:@";
/// How many spellings are tried against rows.
const MOST_TRIES: usize = 4_000_000;
/// How many segments of a path are spelt anew, each by itself.
const MOST_SEGMENTS: usize = 8;
/// What stands for whatever is not said.
const WORD: &str = "any";

/// A way in which an origin may read two paths as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    FoldsCase,
    IgnoresTrailingSlash,
    DecodesDelimiters,
    DropsParameters,
}

/// Looks at every row that denies.
pub(super) fn look(look: &mut Look<'_>) {
    let (policy, shape) = (look.policy, look.shape);
    if shape.path.is_none() || policy.model().effect == Effect::AllowOverride {
        return;
    }
    let (denials, allows): (Vec<&Row>, Vec<&Row>) =
        policy.rows().iter().partition(|row| shape.ruling(row) == Ruling::Deny);
    let services = Services::of(policy, shape.service.as_ref());
    let mut field = Field {
        allows: By::service(shape, &allows),
        denials: By::service(shape, &denials),
        witnesses: Witnesses::of(policy, shape.path.as_ref(), WORD),
        tries: 0,
    };
    let dead: HashSet<(String, Option<u32>)> = look
        .report
        .findings
        .iter()
        .filter(|finding| finding.code == Code::DenyNeverWins)
        .map(|finding| (finding.file.clone(), finding.line))
        .collect();
    for denial in denials.iter().filter(|denial| !dead.contains(&(denial.file.clone(), Some(denial.line)))) {
        let service = services.of_field(Shape::text(shape.service.as_ref(), denial));
        let known = look.known.and_then(|known| known.services.iter().find(|known| known.name == service));
        for reading in Reading::ALL.into_iter().filter(|reading| reading.gets_in(known)) {
            if let Some((example, spelt, allow)) = field.slip(look, denial, reading) {
                tell(look, reading, denial, allow, (&example, &spelt));
            }
        }
        if field.tries > MOST_TRIES {
            let beyond = "denials that another spelling slips past, beyond the first 4,000,000 tries";
            look.report.skipped.push(beyond);
            return;
        }
    }
}

/// The rows that spellings are held against.
struct Field<'p> {
    allows: By<'p>,
    denials: By<'p>,
    witnesses: Witnesses<'p>,
    tries: usize,
}

impl<'p> Field<'p> {
    /// A path that `denial` matches, a spelling of it that slips past, and the row that allows that, if it takes one.
    fn slip(
        &mut self,
        look: &Look<'p>,
        denial: &Row,
        reading: Reading,
    ) -> Option<(String, String, Option<&'p Row>)> {
        let shape = look.shape;
        let open = look.policy.model().effect == Effect::AllowUnlessDenied;
        let (others, allows) = (self.denials.of(shape, denial), self.allows.of(shape, denial));
        for example in self.witnesses.of_field(Shape::text(shape.path.as_ref(), denial)).iter().take(3) {
            for spelt in reading.spellings(example).into_iter().filter(|spelt| spelt != example) {
                self.tries += others.len();
                if others.iter().any(|other| denies(look, other, denial, &spelt)) {
                    continue;
                }
                self.tries += allows.len();
                let allow = allows.iter().find(|allow| allows_both(look, allow, denial, example, &spelt));
                if open || allow.is_some() {
                    return Some((example.clone(), spelt, allow.copied()));
                }
            }
        }
        None
    }
}

fn tell(
    look: &mut Look<'_>,
    reading: Reading,
    denial: &Row,
    allow: Option<&Row>,
    (example, spelt): (&str, &str),
) {
    let by = allow.map_or("is allowed, for no row denies it,", |_| "the row below allows");
    let found = match allow {
        Some(_) => format!("{by} {spelt}, which an origin that {} reads as {example}", reading.words()),
        None => format!("{spelt} {by} and an origin that {} reads it as {example}", reading.words()),
    };
    look.find_beside(Code::SlipsPast, denial, allow, found, reading.advice());
}

/// Whether `row` denies `path` to everybody whom `denial` denies something.
fn denies(look: &Look<'_>, row: &Row, denial: &Row, path: &str) -> bool {
    let shape = look.shape;
    let as_wide = match (&look.cover, &shape.who) {
        (_, None) => true,
        (Some(cover), Some(who)) => cover.column(who, row, denial),
        (None, Some(who)) => who.field(row) == who.field(denial),
    };
    let methods = METHODS.iter().all(|method| {
        !Shape::matches(look.policy, shape.method.as_ref(), denial, method)
            || Shape::matches(look.policy, shape.method.as_ref(), row, method)
    });
    as_wide && methods && Shape::matches(look.policy, shape.path.as_ref(), row, path)
}

/// Whether `allow` lets somebody whom `denial` denies have both paths by some method.
fn allows_both(look: &Look<'_>, allow: &Row, denial: &Row, example: &str, spelt: &str) -> bool {
    let shape = look.shape;
    let path = |path| Shape::matches(look.policy, shape.path.as_ref(), allow, path);
    let method = |row, method| Shape::matches(look.policy, shape.method.as_ref(), row, method);
    let who = |row| Shape::text(shape.who.as_ref(), row);
    path(spelt)
        && path(example)
        && METHODS.iter().any(|one| method(allow, one) && method(denial, one))
        && (free(look, allow) || free(look, denial) || can_be_one(&look.members, who(allow), who(denial)))
}

fn free(look: &Look<'_>, row: &Row) -> bool {
    look.shape.who.as_ref().is_none_or(|who| who.is_free(who.field(row)))
}

/// Whether some caller can have both names. A token can grant any roles together; users are who they are.
fn can_be_one(members: &Members<'_>, a: &str, b: &str) -> bool {
    let is_caller = |name: &str| name == "anonymous" || name.starts_with("user:");
    let has = |name: &str, other: &str| members.reached(name, &[]).contains(other);
    match (is_caller(a), is_caller(b)) {
        _ if a == b => true,
        (true, true) => has(a, b) || has(b, a),
        (true, false) if a == "anonymous" => has(a, b),
        (false, true) if b == "anonymous" => has(b, a),
        _ => true,
    }
}

/// Rows by what stands in their service column.
struct By<'p>(HashMap<&'p str, Vec<&'p Row>>);

impl<'p> By<'p> {
    fn service(shape: &Shape, rows: &[&'p Row]) -> Self {
        let mut by: HashMap<&str, Vec<&Row>> = HashMap::new();
        rows.iter().for_each(|row| by.entry(Shape::text(shape.service.as_ref(), row)).or_default().push(row));
        Self(by)
    }

    /// The rows for the service of `row`, or for every service.
    fn of(&self, shape: &Shape, row: &Row) -> Vec<&'p Row> {
        let own = Shape::text(shape.service.as_ref(), row);
        let free = |field: &&&str| shape.service.as_ref().is_some_and(|service| service.is_free(field));
        let wide = self.0.keys().filter(free).filter(|field| **field != own);
        wide.chain([&own]).filter_map(|field| self.0.get(*field)).flatten().copied().collect()
    }
}

impl Reading {
    const ALL: [Self; 4] =
        [Self::FoldsCase, Self::IgnoresTrailingSlash, Self::DecodesDelimiters, Self::DropsParameters];

    /// Whether the service lets such spellings in, as far as is known.
    fn gets_in(self, known: Option<&KnownService>) -> bool {
        match self {
            Self::FoldsCase => known.is_none_or(|known| !known.folds_refused),
            Self::DropsParameters => known.is_some_and(|known| known.semicolon),
            Self::IgnoresTrailingSlash | Self::DecodesDelimiters => true,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::FoldsCase => "folds case",
            Self::IgnoresTrailingSlash => "ignores a trailing slash",
            Self::DecodesDelimiters => "decodes all bytes",
            Self::DropsParameters => "drops ;parameters",
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::FoldsCase => {
                "allow what may be had instead of denying what may not, or set `fold_case = \"refuse\"` on the service"
            }
            Self::IgnoresTrailingSlash | Self::DecodesDelimiters => {
                "allow what may be had instead, or deny both spellings"
            }
            Self::DropsParameters => {
                "allow what may be had instead, or do not allow `semicolon` on the service"
            }
        }
    }

    /// Other spellings of `path` that such an origin takes for the same.
    fn spellings(self, path: &str) -> Vec<String> {
        match self {
            Self::FoldsCase => {
                let whole = other_case(path);
                std::iter::once(whole).chain(segment_by_segment(path, other_case)).collect()
            }
            Self::IgnoresTrailingSlash => match path.strip_suffix('/') {
                Some("") => Vec::new(),
                Some(without) => vec![without.to_owned()],
                None => vec![format!("{path}/")],
            },
            Self::DecodesDelimiters => vec![other_delimiters(path)],
            Self::DropsParameters => segment_by_segment(path, |segment| format!("{segment};x")),
        }
    }
}

/// `path` once for each of its first segments, that one changed.
fn segment_by_segment(path: &str, change: fn(&str) -> String) -> Vec<String> {
    let segments: Vec<&str> = path.split('/').collect();
    let changed = |at: usize| -> Vec<String> {
        let one =
            |(i, segment): (usize, &&str)| if i == at { change(segment) } else { (*segment).to_owned() };
        segments.iter().enumerate().map(one).collect()
    };
    let used = segments.iter().enumerate().filter(|(_, segment)| !segment.is_empty()).take(MOST_SEGMENTS);
    used.map(|(at, _)| changed(at).join("/")).collect()
}

fn other_case(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    if upper == text { fold_letters(text) } else { upper }
}

fn other_delimiters(path: &str) -> String {
    let mut spelt = path.to_owned();
    for raw in DELIMITERS.chars() {
        let (raw, encoded) = (raw.to_string(), format!("%{:02X}", u32::from(raw)));
        let (from, to) = if path.contains(&encoded) { (encoded, raw) } else { (raw, encoded) };
        spelt = spelt.replace(&from, &to);
    }
    spelt
}

/// Letters in small, but for the digits of encoded bytes.
fn fold_letters(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut digits = 0;
    for c in path.chars() {
        out.push(if digits > 0 { c } else { c.to_ascii_lowercase() });
        digits = if c == '%' { 2 } else { usize::saturating_sub(digits, 1) };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, found_in};
    use super::super::{Known, KnownService, lint};
    use crate::policy::review::testing::{DENY_ONLY, policy, text, weighing};

    const SLIPS: (&str, u32) = ("slips-past", 2);

    #[test]
    fn a_narrow_deny_in_a_broad_allow_is_found() {
        for (allow, deny, expected) in [
            ("role:a, app, /*, GET", "role:a, app, /admin, GET", &[SLIPS, SLIPS][..]), // case, slash
            ("role:a, app, /*, GET", "role:b, app, /Admin/:x, GET", &[SLIPS, SLIPS]),
            ("role:a, app, /*, GET", "role:a, web, /admin, GET", &[]),
            ("role:a, app, /*, GET", "role:a, app, /admin, PUT", &[]),
            ("role:a, app, /docs/*, GET", "role:a, app, /admin, GET", &[]),
            ("role:a, app, /docs/*, GET", "role:suspended, app, /*, .*", &[]), // a denial of everything
            ("role:a, app, /docs/*, GET", "role:b, app, /docs/*, GET", &[]),
            ("user:a, app, /*, GET", "user:b, app, /admin, GET", &[]), // nobody is both
            ("anonymous, app, /public/*, GET", "role:b, app, /public/x, GET", &[]),
        ] {
            assert_eq!(found(&format!("p, {allow}, allow\np, {deny}, deny\n")), expected, "{allow} {deny}");
        }
    }

    #[test]
    fn a_byte_that_can_be_encoded_is_found_in_a_deny() {
        let rows =
            |path: &str| format!("p, role:a, app, /x/*, GET, allow\np, role:b, app, {path}, GET, deny\n");
        let readings = |path: &str| -> Vec<bool> {
            let rows = rows(path);
            let report = lint(&policy(&rows), &[text("policy.csv", &rows)], None);
            report.findings.iter().map(|finding| finding.found.contains("decodes all bytes")).collect()
        };
        assert!(readings("/x/a@b").contains(&true));
        assert!(readings("/x/a%40b").contains(&true));
        assert!(!readings("/x/a-b").contains(&true));
    }

    #[test]
    fn what_the_service_refuses_does_not_slip_past() {
        let rows = "p, role:a, app, /docs/:x, GET, allow\np, role:a, app, /docs/secret, GET, deny\n";
        let known = |folds_refused, semicolon| Known {
            services: vec![KnownService { name: "app".into(), semicolon, folds_refused }],
            granted: vec!["role:a".into()],
            ..Known::default()
        };
        assert_eq!(found(rows), [SLIPS]);
        assert_eq!(found_in(&policy(rows), rows, Some(&known(true, false))), []);
        let deep = "p, role:a, app, /*, GET, allow\np, role:a, app, /docs/*, GET, deny\n";
        let count = |known: &Known| found_in(&policy(deep), deep, Some(known)).len();
        assert_eq!(count(&known(true, true)), count(&known(true, false)) + 1);
    }

    #[test]
    fn a_denial_under_an_effect_that_allows_the_rest_slips_as_well() {
        let rows = "p, role:a, app, /admin/*, .*, deny\n";
        let found = found_in(&weighing(DENY_ONLY, rows), rows, None);
        assert_eq!(found, [("slips-past", 1), ("slips-past", 1)]);
        let all = "p, role:a, app, /*, .*, deny\n";
        assert_eq!(found_in(&weighing(DENY_ONLY, all), all, None), []);
    }
}
