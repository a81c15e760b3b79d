//! How a service's calls are recorded: in what detail, with what left out. Every allow has a record of its own whatever
//! stands here, but for repeated reads of the log as tiles.

use std::net::IpAddr;

use http::Method;
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
    /// Whether repeated [reads of the log](LogRead) by one caller become one record a minute with a count. That is so for
    /// the admin API, and for no service that a config names.
    pub log_reads: bool,
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
            log_reads: false,
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

/// A read of the log in the form that anyone follows it by (C2SP tlog-tiles): often, and over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRead {
    /// The latest checkpoint, or hashes of the tree.
    Tree,
    /// Records, in a bundle.
    Bundle,
}

impl LogRead {
    /// What a call to the log's admin API reads, if it is one of these.
    pub fn of(method: &Method, path: &str) -> Option<Self> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            None
        } else if path.starts_with("/tile/entries/") {
            Some(Self::Bundle)
        } else {
            (path == "/checkpoint" || path.starts_with("/tile/")).then_some(Self::Tree)
        }
    }
}

/// A pattern of paths some of whose segments are secrets: `/invite/{}/accept`. Read by [`Redaction::read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redaction {
    /// The pattern's segments; `None` stands for one that is a secret.
    pub segments: Vec<Option<String>>,
    /// Whether more segments may follow.
    pub open: bool,
}

impl Recording {
    /// `path`, canonical, with `{}` in the place of each segment that is a secret; `None` if none is. No canonical path has
    /// a brace of its own.
    pub fn redacted(&self, path: &str) -> Option<String> {
        if self.redact.is_empty() {
            return None;
        }
        let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let secret = |at: usize| self.redact.iter().any(|pattern| pattern.hides(at, &segments));
        let secrets: Vec<bool> = (0..segments.len()).map(secret).collect();
        secrets.contains(&true).then(|| {
            let shown =
                segments.iter().zip(secrets).map(|(segment, secret)| if secret { "{}" } else { segment });
            shown.fold(String::with_capacity(path.len()), |path, segment| path + "/" + segment)
        })
    }
}

impl HealthChecks {
    /// Whether a call only asks whether the service is alive.
    pub fn covers(&self, ip: IpAddr, method: &Method, path: &str, user_agent: Option<&[u8]>) -> bool {
        let named = |name: &str| match name.strip_suffix('*') {
            Some(beginning) => user_agent.is_some_and(|agent| agent.starts_with(beginning.as_bytes())),
            None => user_agent == Some(name.as_bytes()),
        };
        matches!(*method, Method::GET | Method::HEAD)
            && self.networks.iter().any(|network| network.contains(&ip.to_canonical()))
            && self.paths.iter().any(|other| other == path)
            && (self.user_agents.is_empty() || self.user_agents.iter().any(|name| named(name)))
    }
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

    /// Whether the path of these segments has a secret at this place. Case and a slash at the end make no difference: a
    /// secret is one in a misspelt path, too.
    fn hides(&self, at: usize, segments: &[&str]) -> bool {
        let segments = match segments {
            [rest @ .., ""] if !rest.is_empty() => rest,
            all => all,
        };
        let long_enough = if self.open {
            segments.len() >= self.segments.len()
        } else {
            segments.len() == self.segments.len()
        };
        let alike = |(pattern, segment): (&Option<String>, &&str)| {
            pattern.as_deref().is_none_or(|literal| literal.eq_ignore_ascii_case(segment))
        };
        matches!(self.segments.get(at), Some(None))
            && long_enough
            && self.segments.iter().zip(segments).all(alike)
    }

    /// Whether a target without canonical form may be of this pattern: all that is no secret in it stands somewhere there.
    pub fn may_be(&self, target: &[u8]) -> bool {
        let readable = decoded(target);
        self.segments.iter().flatten().all(|literal| {
            let literal = decoded(literal.as_bytes());
            literal.is_empty() || readable.windows(literal.len()).any(|window| window == literal)
        })
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

/// Percent-decoded as often as there is something to decode, in lower case: for looking, not for reading.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_ascii_lowercase();
    for _ in 0..3 {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text.as_slice();
        while let Some((&byte, after)) = rest.split_first() {
            let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
            match pair.filter(|_| byte == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
                Some(value) => {
                    out.push(value.to_ascii_lowercase());
                    rest = after.get(2..).unwrap_or_default();
                }
                None => {
                    out.push(byte);
                    rest = after;
                }
            }
        }
        if out.len() == text.len() {
            break;
        }
        text = out;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacting(patterns: &[&str]) -> Recording {
        let redact = patterns.iter().map(|pattern| Redaction::read(pattern).unwrap()).collect();
        Recording { redact, ..Recording::default() }
    }

    #[test]
    fn secret_segments_are_blotted_and_others_are_not() {
        let recording = redacting(&["/invite/{}/accept", "/reset/{}", "/s/{}/**"]);
        for (path, shown) in [
            ("/invite/k3y/accept", Some("/invite/{}/accept")),
            ("/invite/k3y/accept/", Some("/invite/{}/accept/")),
            ("/Invite/k3y/ACCEPT", Some("/Invite/{}/ACCEPT")),
            ("/invite/k3y/other", None),
            ("/reset/k3y", Some("/reset/{}")),
            ("/reset/k3y/x", None),
            ("/s/k3y/a/b", Some("/s/{}/a/b")),
            ("/s/k3y", Some("/s/{}")),
            ("/s", None),
            ("/", None),
        ] {
            assert_eq!(recording.redacted(path).as_deref(), shown, "{path}");
        }
    }

    #[test]
    fn a_target_that_may_be_a_secrets_is_taken_for_one() {
        let pattern = Redaction::read("/invite/{}/accept").unwrap();
        for target in [
            "/x/../invite/k3y/accept",
            "/%69nvite/k3y//ACCEPT",
            "/%2569nvite%2fk3y%2faccept",
            "invite k accept",
        ] {
            assert!(pattern.may_be(target.as_bytes()), "{target}");
        }
        assert!(!pattern.may_be(b"/invite/k3y"));
        assert!(Redaction::read("/{}").unwrap().may_be(b"anything"));
    }

    #[test]
    fn a_health_check_is_told_by_all_it_is() {
        let checks = HealthChecks {
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            paths: vec!["/healthz".into()],
            user_agents: vec!["kube-probe/*".into(), "check".into()],
        };
        let covers = |ip: &str, method: Method, path: &str, agent: Option<&str>| {
            checks.covers(ip.parse().unwrap(), &method, path, agent.map(str::as_bytes))
        };
        assert!(covers("10.1.2.3", Method::GET, "/healthz", Some("kube-probe/1.31")));
        assert!(covers("::ffff:10.1.2.3", Method::HEAD, "/healthz", Some("check")));
        assert!(!covers("11.1.2.3", Method::GET, "/healthz", Some("check")));
        assert!(!covers("10.1.2.3", Method::POST, "/healthz", Some("check")));
        assert!(!covers("10.1.2.3", Method::GET, "/healthz/", Some("check")));
        assert!(!covers("10.1.2.3", Method::GET, "/healthz", Some("checker")));
        assert!(!covers("10.1.2.3", Method::GET, "/healthz", None));
    }

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
