//! The kinds of findings, and how much each weighs.

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// It may do more, or less, than was meant.
    Warning,
    /// It does not do what it says.
    Error,
}

/// What kind of finding it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is told by `Code::about`")]
pub enum Code {
    AllowNeverCounts,
    Alternation,
    Broad,
    Cycle,
    DenyNeverWins,
    DotIsAny,
    Duplicate,
    EncodedDelimiter,
    LiteralWildcard,
    OneLevel,
    RoleNobodyHas,
    RoleWithoutRows,
    Shadowed,
    SlipsPast,
    StarCrosses,
    StarRepeats,
    TextAfterStar,
    Unanchored,
    UnknownAllow,
    UnknownCaller,
    UnknownMethod,
    UnknownService,
    Unreachable,
}

impl Code {
    /// Every code, with its word, its weight, and what it is about.
    pub const ALL: [(Self, &'static str, Severity, &'static str); 23] = [
        (
            Self::AllowNeverCounts,
            "allow-never-counts",
            Severity::Warning,
            "allow rows where the effect asks for denials only",
        ),
        (Self::Alternation, "alternation", Severity::Warning, "a | whose sides are not both held by ^ and $"),
        (
            Self::Broad,
            "broad",
            Severity::Warning,
            "every path by every method, or every path without a token",
        ),
        (Self::Cycle, "cycle", Severity::Warning, "roles that lead back to themselves"),
        (Self::DenyNeverWins, "deny-never-wins", Severity::Error, "a deny row that denies nothing"),
        (Self::DotIsAny, "dot-is-any", Severity::Warning, "a . that is any character"),
        (Self::Duplicate, "duplicate", Severity::Warning, "the same row again"),
        (
            Self::EncodedDelimiter,
            "encoded-delimiter",
            Severity::Note,
            "a byte like %3A, which is another than : here",
        ),
        (
            Self::LiteralWildcard,
            "literal-wildcard",
            Severity::Warning,
            "what looks like a wildcard and is none",
        ),
        (Self::OneLevel, "one-level", Severity::Note, "a * that ends at the next slash"),
        (
            Self::RoleNobodyHas,
            "role-nobody-has",
            Severity::Warning,
            "a role that no issuer grants and no link gives",
        ),
        (Self::RoleWithoutRows, "role-without-rows", Severity::Warning, "a role that no row is for"),
        (Self::Shadowed, "shadowed", Severity::Warning, "a row that another makes needless"),
        (
            Self::SlipsPast,
            "slips-past",
            Severity::Warning,
            "a narrow deny in a broad allow, by another reading of a path",
        ),
        (Self::StarCrosses, "star-crosses", Severity::Warning, "a * that matches several segments"),
        (Self::StarRepeats, "star-repeats", Severity::Warning, "a * that repeats the character before it"),
        (
            Self::TextAfterStar,
            "text-after-star",
            Severity::Warning,
            "what stands after the first * of keyMatch",
        ),
        (
            Self::Unanchored,
            "unanchored",
            Severity::Warning,
            "a regular expression that matches inside other names",
        ),
        (
            Self::UnknownAllow,
            "unknown-allow",
            Severity::Warning,
            "a lint comment with a word that is no code",
        ),
        (Self::UnknownCaller, "unknown-caller", Severity::Error, "a name that no caller can have"),
        (Self::UnknownMethod, "unknown-method", Severity::Error, "a method that the gate does not forward"),
        (Self::UnknownService, "unknown-service", Severity::Error, "a service that the config does not have"),
        (Self::Unreachable, "unreachable", Severity::Warning, "an allow row that is always overridden"),
    ];

    fn entry(self) -> Option<&'static (Self, &'static str, Severity, &'static str)> {
        Self::ALL.iter().find(|(code, ..)| *code == self)
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        self.entry().map_or("", |(_, word, ..)| word)
    }

    /// How much it weighs.
    pub fn severity(self) -> Severity {
        self.entry().map_or(Severity::Warning, |(_, _, severity, _)| *severity)
    }

    /// Reads what [`Code::as_str`] writes.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, ..)| *known == word).map(|(code, ..)| *code)
    }
}

impl Severity {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}
