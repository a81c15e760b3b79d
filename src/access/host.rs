//! The canonical host: exactly one, valid, lower-case, without default port or trailing dot (RFC 9110 §7.2).

use std::net::Ipv6Addr;

use super::malformed::Malformed;

/// A host in canonical form, with its port where that is not the scheme's default.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    text: Box<str>,
    name_len: usize,
}

impl Host {
    /// Reads an authority without userinfo: `name`, `name:port`, `1.2.3.4:port`, `[::1]:port`. `tls` says whether the
    /// default port is 443 or 80.
    ///
    /// # Errors
    /// [`Malformed::Host`] for anything else.
    pub fn read(raw: &str, tls: bool) -> Result<Self, Malformed> {
        let (name, port) = split_port(raw).ok_or(Malformed::Host)?;
        let mut text = if let Some(inner) = name.strip_prefix('[') {
            let address: Ipv6Addr =
                inner.strip_suffix(']').and_then(|a| a.parse().ok()).ok_or(Malformed::Host)?;
            format!("[{address}]")
        } else {
            let name = name.strip_suffix('.').unwrap_or(name);
            if !is_name(name) {
                return Err(Malformed::Host);
            }
            name.to_ascii_lowercase()
        };
        let name_len = text.len();
        if let Some(port) = port.filter(|port| *port != if tls { 443 } else { 80 }) {
            text.push(':');
            text.push_str(&port.to_string());
        }
        Ok(Self { text: text.into_boxed_str(), name_len })
    }

    /// Name or address, and port if it is not the default.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Name or address alone: what services and policies are matched on.
    pub fn name(&self) -> &str {
        self.text.get(..self.name_len).unwrap_or(&self.text)
    }
}

fn split_port(raw: &str) -> Option<(&str, Option<u16>)> {
    let border = if raw.starts_with('[') { raw.find(']')? + 1 } else { raw.find(':').unwrap_or(raw.len()) };
    let (name, port) = raw.split_at_checked(border)?;
    match port.strip_prefix(':') {
        None => port.is_empty().then_some((name, None)),
        // An empty port is allowed by RFC 3986 §3.2.3; proxies differ on it, so it is refused.
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some((name, Some(digits.parse().ok().filter(|port| *port != 0)?)))
        }
        Some(_) => None,
    }
}

/// Host names as DNS and its users write them: labels of letters, digits, `-` and `_`, at most 63 bytes each.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_lower_cased_and_loses_default_port_and_trailing_dot() {
        for (raw, tls, text, name) in [
            ("App.Example.COM", false, "app.example.com", "app.example.com"),
            ("app.", false, "app", "app"),
            ("app:80", false, "app", "app"),
            ("app:443", true, "app", "app"),
            ("app:80", true, "app:80", "app"),
            ("app.:8080", false, "app:8080", "app"),
            ("127.0.0.1:8080", false, "127.0.0.1:8080", "127.0.0.1"),
            ("[::1]", false, "[::1]", "[::1]"),
            ("[0:0:0:0:0:0:0:1]:8443", true, "[::1]:8443", "[::1]"),
            ("a_b-c", false, "a_b-c", "a_b-c"),
        ] {
            let host = Host::read(raw, tls).unwrap();
            assert_eq!((host.as_str(), host.name()), (text, name), "{raw}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for raw in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a b",
            "a;for=1.2.3.4",
            "a,b",
            "user@a",
            "a/b",
            "..",
            "a..b",
            "[::1",
            "::1",
            "[::1]x",
            "[a]",
            "a%2eb",
            "é",
            "a:80:80",
            "-\u{0}",
        ] {
            assert_eq!(Host::read(raw, false), Err(Malformed::Host), "{raw:?}");
        }
    }
}
