//! Single values: text in, value out.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::super::error::Fault;
use super::super::hint::{listed, nearest};
use super::super::word::Amount;
use crate::access::host::Host;
use crate::access::rate::Rate;

/// A duration within bounds, which are durations as written.
pub(super) fn duration(least: &'static str, most: &'static str) -> impl Fn(&str) -> Result<Duration, Fault> {
    move |text| {
        let value = parse_duration(text).ok_or_else(|| Fault::Duration { found: text.to_owned() })?;
        let bound = |text| parse_duration(text).unwrap_or_default();
        if (bound(least)..=bound(most)).contains(&value) {
            Ok(value)
        } else {
            Err(Fault::DurationBounds { found: text.to_owned(), least, most })
        }
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
}

/// A number of bytes within bounds, which are sizes as written.
pub(super) fn size(least: &'static str, most: &'static str) -> impl Fn(&Amount) -> Result<u64, Fault> {
    move |amount| {
        let found = match amount {
            Amount::Number(number) => *number,
            Amount::Text(text) => {
                parse_size(text).ok_or_else(|| Fault::Size { found: text.to_owned() })?.into()
            }
        };
        let bound = |text| parse_size(text).unwrap_or_default();
        u64::try_from(found)
            .ok()
            .filter(|bytes| (bound(least)..=bound(most)).contains(bytes))
            .ok_or(Fault::SizeBounds { found, least, most })
    }
}

/// As [`size`], or `unlimited`.
pub(super) fn limit(
    least: &'static str,
    most: &'static str,
) -> impl Fn(&Amount) -> Result<Option<u64>, Fault> {
    move |amount| match amount {
        Amount::Text(text) if text == "unlimited" => Ok(None),
        amount => size(least, most)(amount).map(Some),
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}

/// So many in so long.
pub(super) fn rate(text: &str) -> Result<Rate, Fault> {
    Rate::read(text).ok_or_else(|| Fault::Rate { found: text.to_owned() })
}

/// `5s` into 5 and `s`; a space may stand between.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit())?;
    let (digits, unit) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

/// A whole number within bounds.
pub(super) fn number<N: TryFrom<i128>>(least: u64, most: u64) -> impl Fn(&i128) -> Result<N, Fault> {
    move |found| {
        let fault = Fault::Number { found: *found, least, most };
        if !(i128::from(least)..=i128::from(most)).contains(found) {
            return Err(fault);
        }
        N::try_from(*found).map_err(|_| fault)
    }
}

/// One of a closed list of words.
pub(super) fn choice<T: Clone>(found: &str, choices: &[(&str, T)]) -> Result<T, Fault> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == found) {
        return Ok(value.clone());
    }
    let words = || choices.iter().map(|(word, _)| *word);
    let (found, near) = (found.to_owned(), nearest(found, words()).map(str::to_owned));
    let choices = listed(words());
    Err(match near {
        Some(near) => Fault::ChoiceNear { found, choices, near },
        None => Fault::Choice { found, choices },
    })
}

/// A text that is not empty.
pub(super) fn some_text(write: &'static str) -> impl Fn(&str) -> Result<String, Fault> {
    move |text| if text.trim().is_empty() { Err(Fault::Empty { write }) } else { Ok(text.to_owned()) }
}

/// A path, relative ones from `dir`.
pub(super) fn path(text: &str, dir: &Path) -> Result<PathBuf, Fault> {
    if text.is_empty() { Err(Fault::Empty { write: "a path" }) } else { Ok(dir.join(text)) }
}

/// Address and port to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| Fault::Address { found: text.to_owned() })
}

/// A network, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, Fault> {
    let found = text.to_owned();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| Fault::Network { found: text.to_owned() })?;
    if network == network.trunc() {
        Ok(network)
    } else {
        Err(Fault::NetworkBits { found, network: network.trunc().to_string() })
    }
}

/// The name of a service or an issuer. It stands in policy rows and principals, so it holds no colon, comma or space.
pub(super) fn name(text: &str) -> Result<String, Fault> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let good = text.len() <= 64
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|b| plain(b) || matches!(b, b'-' | b'_' | b'.'));
    if good { Ok(text.to_owned()) } else { Err(Fault::Name { found: text.to_owned() }) }
}

/// A header the gate may set for upstreams. Underscores and dots are out, since some servers fold them into `-`.
pub(super) fn identity_header(text: &str) -> Result<HeaderName, Fault> {
    let found = text.to_owned();
    let header = HeaderName::try_from(text)
        .ok()
        .filter(|name| name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        .ok_or_else(|| Fault::Header { found: found.clone() })?;
    let name = header.as_str();
    let reserved = HOP_BY_HOP.contains(&name)
        || SPOKEN_FOR.contains(&name)
        || SPOKEN_FOR_FAMILIES.iter().any(|family| name.starts_with(family));
    if reserved { Err(Fault::HeaderReserved { found }) } else { Ok(header) }
}

/// The canonical host of `authority`, and its port if one is written or implied. All-digit names that are no address
/// are refused: resolvers read them as addresses in ways of their own.
pub(super) fn authority(text: &str, tls: bool) -> Option<(Host, u16)> {
    let host = Host::read(text, tls).ok()?;
    let port = host.as_str().strip_prefix(host.name())?;
    let port = match port.strip_prefix(':') {
        Some(digits) => digits.parse().ok()?,
        None => {
            if tls {
                443
            } else {
                80
            }
        }
    };
    (!looks_like_an_address(host.name())).then_some((host, port))
}

fn looks_like_an_address(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    !name.starts_with('[')
        && last.bytes().all(|b| b.is_ascii_digit())
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

/// Whether a canonical host name is this machine itself.
pub(super) fn is_loopback(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// RFC 9110 §7.6.1, and `Keep-Alive` and `Proxy-Connection` of old.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that mean something else already.
const SPOKEN_FOR: [&str; 14] = [
    "accept",
    "authorization",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "traceparent",
    "tracestate",
    "via",
    "x-request-id",
];

/// And families of them.
const SPOKEN_FOR_FAMILIES: [&str; 4] = ["portcullis-", "x-forwarded-", "if-", "sec-"];
