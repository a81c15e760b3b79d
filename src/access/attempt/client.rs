//! Where a call comes from.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::HeaderMap;
use ipnet::IpNet;

use crate::access::certificate::{ClientCertificate, Need};
use crate::access::host::Host;
use crate::access::route::{Route, Routes};

/// The connection a call came over.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The other end of the socket.
    pub peer: SocketAddr,
    /// The TLS version, e.g. `TLSv1.3`; `None` on a plain connection.
    pub tls: Option<&'static str>,
    /// The host its TLS handshake named (SNI), canonical.
    pub sni: Option<Arc<str>>,
    /// Whether the handshake asked for a client certificate.
    pub asked: bool,
    /// The one that was shown.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl Connection {
    /// A connection on which no certificate was asked for.
    pub const fn without_certificate(peer: SocketAddr, tls: Option<&'static str>) -> Self {
        Self { peer, tls, sni: None, asked: false, certificate: None }
    }

    /// Whether a call for `host` on `route` belongs on another connection: one whose handshake asks for certificates as
    /// the services of that host want it.
    pub(super) fn is_misdirected(&self, host: &Host, route: &Route, routes: &Routes) -> bool {
        let named =
            |sni: &str| sni == host.name() || routes.need(Some(sni)) == routes.need(Some(host.name()));
        (route.certificates.need != Need::Off && !self.asked)
            || self.sni.as_deref().is_some_and(|sni| !named(sni))
    }
}

/// Where a call comes from: the peer, or the client that a trusted proxy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The caller's address, IPv4-mapped addresses as IPv4.
    pub ip: IpAddr,
    /// The peer's port; 0 where a trusted proxy stands between.
    pub port: u16,
    /// The TLS version of the connection to the gate.
    pub tls: Option<&'static str>,
    /// The peer, where it is a configured trusted proxy.
    pub via: Option<IpAddr>,
}

/// The networks whose word on the client's address is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Trusts these networks and no others.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether `ip` is in one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }
}

impl Client {
    /// The peer, or behind trusted proxies the nearest address in `X-Forwarded-For` that is not one of them.
    pub(super) fn read(headers: &HeaderMap, connection: &Connection, trusted: &TrustedProxies) -> Self {
        let peer = connection.peer.ip().to_canonical();
        let via = trusted.contains(peer).then_some(peer);
        let direct = Self { ip: peer, port: connection.peer.port(), tls: connection.tls, via };
        if via.is_none() {
            return direct;
        }
        let mut ip = peer;
        'chain: for value in headers.get_all("x-forwarded-for").iter().rev() {
            let Ok(text) = value.to_str() else { break };
            for hop in text.rsplit(',') {
                // What a trusted proxy says is believed hop by hop; where it makes no sense, belief ends.
                let Ok(hop) = hop.trim().parse::<IpAddr>() else { break 'chain };
                ip = hop.to_canonical();
                if !trusted.contains(ip) {
                    break 'chain;
                }
            }
        }
        if ip == peer { direct } else { Self { ip, port: 0, ..direct } }
    }
}
