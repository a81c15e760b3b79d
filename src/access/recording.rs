//! How a service's calls are recorded: in what detail, with what left out. Every allow has a record of its own whatever
//! stands here.

use ipnet::IpNet;

/// What a service says of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// How much a decision's record tells.
    pub detail: Detail,
    /// Whether an allow is followed by a record of what became of it.
    pub outcomes: bool,
    /// Whether identical denials in a row of one caller become one record with a count.
    pub collapse: bool,
    /// Which calls only ask whether the service is alive; `None` knows none.
    pub health_checks: Option<HealthChecks>,
    /// Paths with segments that are secrets.
    pub redact: Vec<Redaction>,
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            detail: Detail::Standard,
            outcomes: true,
            collapse: true,
            health_checks: None,
            redact: Vec::new(),
        }
    }
}

/// How much a decision's record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Who, what, and the decision.
    Minimal,
    /// And by which rule, with which token and agent.
    Standard,
    /// And everything about the request that is never secret.
    Full,
}

/// Calls that only ask whether a service is alive: all three must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChecks {
    /// Where they come from; at least one.
    pub networks: Vec<IpNet>,
    /// What they ask for, canonical paths; at least one.
    pub paths: Vec<String>,
    /// What they call themselves; a `*` may stand at an end. None means that any will do.
    pub user_agents: Vec<String>,
}

/// A pattern of paths some of whose segments are secrets: `/invite/{}/accept`. Read by [`Redaction::read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redaction {
    /// The pattern's segments; `None` stands for one that is a secret.
    pub segments: Vec<Option<String>>,
    /// Whether more segments may follow.
    pub open: bool,
}

impl Redaction {
    /// Reads a pattern: whole segments, at least one of them `{}`, and at the end perhaps `/**` for whatever follows.
    /// `None` if `text` is no such pattern.
    pub fn read(text: &str) -> Option<Self> {
        let (text, open) = text.strip_suffix("/**").map_or((text, false), |text| (text, true));
        let segments: Vec<Option<String>> = text
            .strip_prefix('/')?
            .split('/')
            .map(|segment| match segment {
                "{}" => Some(None),
                segment if segment.contains(['{', '}', '*', '?', '#']) => None,
                segment => Some(Some(segment.to_owned())),
            })
            .collect::<Option<_>>()?;
        segments.contains(&None).then_some(Self { segments, open })
    }
}

impl std::fmt::Display for Redaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for segment in &self.segments {
            write!(f, "/{}", segment.as_deref().unwrap_or("{}"))?;
        }
        f.write_str(if self.open { "/**" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_a_secret_segment_and_only_whole_ones() {
        for good in ["/{}", "/invite/{}/accept", "/a/{}/{}", "/reset/{}/**"] {
            assert_eq!(Redaction::read(good).unwrap().to_string(), good);
        }
        for bad in ["", "/", "invite/{}", "/invite", "/in{}", "/{}*", "/**", "/{}/**/a", "/a?{}"] {
            assert_eq!(Redaction::read(bad), None, "{bad}");
        }
    }
}
