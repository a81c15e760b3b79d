//! How much room the log's disk has, as a record says it.

/// How much room there is for the log to grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// Enough.
    #[default]
    Ample,
    /// Less than an operator asked for; decisions are taken.
    Low,
    /// Only for what must still be said; decisions are refused.
    Full,
}

impl Room {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ample => "ample",
            Self::Low => "low",
            Self::Full => "full",
        }
    }

    /// The word for the event of coming to it.
    pub(super) const fn event(self) -> &'static str {
        match self {
            Self::Ample => "disk_ample",
            Self::Low => "disk_low",
            Self::Full => "disk_full",
        }
    }
}
