//! Where to look for the values that a pattern matches.

use ipnet::IpNet;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, Look};

use super::{Pattern, Step};

/// How many beginnings are told apart.
const MOST_BEGINNINGS: usize = 32;

/// Where the values are that a pattern matches. It matches no others, but maybe not all of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Shape {
    /// Those that go like this.
    Steps(Vec<Step>),
    /// Those that begin with one of these.
    Begins(Vec<String>),
    /// The addresses of these networks.
    Networks(Vec<IpNet>),
}

impl Pattern {
    /// Where to look for what it matches; `None` if it is none that just matches or does not.
    pub(in crate::policy) fn shape(&self) -> Option<Shape> {
        Some(match self {
            Self::Prefix { pattern, star: None } => Shape::Steps(vec![Step::Literal(pattern.clone())]),
            Self::Prefix { pattern, star: Some(star) } => {
                Shape::Steps(vec![Step::Literal(pattern.get(..*star)?.to_owned()), Step::Rest])
            }
            Self::Walk { steps, .. } => Shape::Steps(steps.clone()),
            Self::Regex { regex, .. } => Shape::Begins(beginnings(regex.as_str())),
            // Every group must have taken part, or the match has no answer.
            Self::Repeated { regex, names } if regex.static_captures_len() == Some(names.len() + 1) => {
                Shape::Begins(beginnings(regex.as_str()))
            }
            Self::Glob(glob) => Shape::Begins(beginnings(glob.glob().regex())),
            Self::Address(address) => {
                // An address of IPv4 equals its forms in IPv6.
                let also = match address {
                    std::net::IpAddr::V6(address) => {
                        address.to_ipv4().map(|address| IpNet::from(std::net::IpAddr::V4(address)))
                    }
                    std::net::IpAddr::V4(_) => None,
                };
                Shape::Networks(std::iter::once(IpNet::from(*address)).chain(also).collect())
            }
            Self::Network(network) => Shape::Networks(vec![*network]),
            Self::Repeated { .. } | Self::AfterPrefix { .. } | Self::Named { .. } => return None,
        })
    }
}

/// What every text that `regex` finds itself in begins with; one empty beginning if that is not known.
fn beginnings(regex: &str) -> Vec<String> {
    let unknown = || vec![String::new()];
    // Globs are made for bytes.
    let Ok(hir) = ParserBuilder::new().utf8(false).build().parse(regex) else { return unknown() };
    if !is_anchored(&hir) {
        return unknown();
    }
    let found = Extractor::new().kind(ExtractKind::Prefix).limit_total(MOST_BEGINNINGS).extract(&hir);
    let texts = found.literals().map(|literals| {
        literals
            .iter()
            .map(|literal| String::from_utf8(literal.as_bytes().to_vec()))
            .collect::<Result<_, _>>()
    });
    match texts {
        Some(Ok(texts)) => texts,
        Some(Err(_)) | None => unknown(),
    }
}

fn is_anchored(hir: &Hir) -> bool {
    hir.properties().look_set_prefix().contains(Look::Start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_those_of_every_match() {
        for (regex, expected) in [
            ("^/a/.*$", vec!["/a/"]),
            ("^/(a|b)/c$", vec!["/a/c", "/b/c"]),
            ("^/a?b", vec!["/ab", "/b"]),
            ("^(GET|HEAD)$", vec!["GET", "HEAD"]),
            ("^/é", vec!["/é"]),
            ("/a/", vec![""]),
            ("^/a|/b", vec![""]),
            ("(?m)^/a", vec![""]),
            (".*", vec![""]),
            ("^.*$", vec![""]),
        ] {
            assert_eq!(beginnings(regex), expected, "{regex}");
        }
    }
}
