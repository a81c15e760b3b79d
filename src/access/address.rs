//! Addresses as text.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

/// Appends `ip` as text (RFC 5952 for IPv6).
pub fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => write_ipv4(ip, out),
        // Writing to a Vec cannot fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

/// The general machinery for writing text takes several times as long, and every call has an address written twice.
fn write_ipv4(ip: Ipv4Addr, out: &mut Vec<u8>) {
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        if octet >= 100 {
            out.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            out.push(b'0' + octet / 10 % 10);
        }
        out.push(b'0' + octet % 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_the_standard_library_writes_it() {
        let some = (0..=255).flat_map(|n| [[n, 0, 9, 10], [99, 100, n, 255], [1, n, 200, n]]);
        let four = some.map(IpAddr::from);
        let six = ["::", "::1", "2001:db8::7", "::ffff:192.0.2.1"].map(|text| text.parse().unwrap());
        for ip in four.chain(six) {
            let mut out = Vec::new();
            write_ip(ip, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), ip.to_string());
        }
    }
}
