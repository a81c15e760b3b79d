//! `[server]`, `[admin]`, `[health]` and `[limits]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::error::{Fault, Place};
use super::super::file::{self, File};
use super::super::settings::{Admin, Health, Holds, Limits, Server, Tls};
use super::super::word::{Field, Said, Spot};
use super::scalar::{address, duration, limit, network, number, rate, size};
use super::{Check, section};

impl Check {
    pub(super) fn server(&mut self, words: &Field<file::Server>, root: &Spot) -> Option<Server> {
        let (words, spot) = section(words, root, "server")?;
        let listen = match words.listen.is_absent() {
            true => Some(vec![PUBLIC]),
            false => self.some_texts(&words.listen, spot.missing("listen", "[\"127.0.0.1:8080\"]"), address),
        };
        let workers = self.value(&words.workers, 0, number(0, 1024));
        let tls = self.tls(&words.tls, &spot);
        let client_certs = self.client_certs(&words.client_certs, &spot);
        let trusted_proxies = match &words.trusted_proxies {
            Field::Absent => Some(Vec::new()),
            Field::Broken => None,
            Field::Said(said) => self.texts(&said.word, network),
        };
        let drain_timeout =
            self.value(&words.drain_timeout, Duration::from_secs(30), duration("100ms", "1h"));
        Some(Server {
            listen: listen?,
            workers: workers?,
            tls: tls?,
            client_certs: client_certs?,
            trusted_proxies: trusted_proxies?,
            drain_timeout: drain_timeout?,
        })
    }

    pub(super) fn admin(&mut self, words: &Field<file::Admin>, root: &Spot) -> Option<Admin> {
        let (words, spot) = section(words, root, "admin")?;
        let listen = self.value(&words.listen, ADMIN, address);
        let tls = self.tls(&words.tls, &spot);
        if let (Some(address), Some(said)) = (listen, words.listen.said())
            && !address.ip().to_canonical().is_loopback()
            && words.tls.is_absent()
        {
            self.fault(&said.spot, Fault::AdminInTheOpen { found: address });
        }
        let certificates = self.certificates(&words.client_cert, &words.subject_from);
        Some(Admin { listen: listen?, tls: tls?, certificates: certificates? })
    }

    pub(super) fn health(&mut self, words: &Field<file::Health>, root: &Spot) -> Option<Health> {
        let (words, _) = section(words, root, "health")?;
        Some(Health { listen: self.value(&words.listen, HEALTH, address)? })
    }

    fn tls(&mut self, words: &Field<file::Tls>, parent: &Spot) -> Option<Option<Tls>> {
        if words.is_absent() {
            return Some(None);
        }
        let (words, spot) = section(words, parent, "tls")?;
        let cert =
            self.named(&words.cert, spot.missing("cert", "cert = \"server.pem\""), Holds::Certificates);
        let key = self.named(&words.key, spot.missing("key", "key = \"server-key.pem\""), Holds::PrivateKey);
        Some(Some(Tls { cert: cert?, key: key? }))
    }

    /// No two listeners may want the same address, those that stand by default among them.
    pub(super) fn listeners_apart(&mut self, words: &File) {
        let mut taken: Vec<Listener> = Vec::new();
        for listener in listeners(words) {
            let clash = taken.iter().find(|other| collide(other.address, listener.address));
            // The defaults come first and lie apart, so a clash is always at one that is written.
            if let (Some(other), Some(place)) = (clash, &listener.place) {
                let spot = Spot { key: listener.key.clone(), place: place.clone() };
                let fault = Fault::ListenerTaken { found: listener.address, other: other.key.clone() };
                self.fault(&spot, fault);
            }
            taken.push(listener);
        }
    }

    pub(super) fn limits(&mut self, words: &Field<file::Limits>, root: &Spot) -> Option<Limits> {
        let (words, spot) = section(words, root, "limits")?;
        let connections = self.value(&words.connections, 10_000, number(1, 1_000_000));
        let connections_per_address = self.value(&words.connections_per_address, 1000, number(1, 1_000_000));
        let rate_per_address = self.optional(&words.rate_per_address, rate);
        let in_flight = self.value(&words.in_flight, 4096, number(1, 1_000_000));
        let header_bytes = self.value(&words.header_bytes, 32 << 10, size("8KiB", "1MiB"));
        let headers = self.value(&words.headers, 100, number(16, 1000));
        let target_bytes = self.value(&words.target_bytes, 8 << 10, size("256B", "32KiB"));
        let header_timeout =
            self.value(&words.header_timeout, Duration::from_secs(10), duration("100ms", "5m"));
        let idle_timeout = self.value(&words.idle_timeout, Duration::from_secs(75), duration("100ms", "1h"));
        let h2_streams = self.value(&words.h2_streams, 128, number(1, 10_000));
        let denial_bytes = self.value(&words.denial_bytes, Some(64 << 10), limit("4KiB", "1GiB"));
        if let (Some(target), Some(head)) = (target_bytes, header_bytes)
            && target > head
        {
            let spot = words
                .target_bytes
                .said()
                .or(words.header_bytes.said())
                .map_or(spot, |said| said.spot.clone());
            self.fault(&spot, Fault::TargetBeyondHead { target, head });
        }
        Some(Limits {
            connections: connections?,
            connections_per_address: connections_per_address?,
            rate_per_address: rate_per_address?,
            in_flight: in_flight?,
            header_bytes: usize::try_from(header_bytes?).ok()?,
            headers: headers?,
            target_bytes: usize::try_from(target_bytes?).ok()?,
            header_timeout: header_timeout?,
            idle_timeout: idle_timeout?,
            h2_streams: h2_streams?,
            denial_bytes: denial_bytes?,
        })
    }
}

struct Listener {
    key: String,
    /// `None` if nothing is written and the default stands.
    place: Option<Place>,
    address: SocketAddr,
}

/// Every listener that can be read, those that stand by default first.
fn listeners(words: &File) -> Vec<Listener> {
    let mut all = Vec::new();
    let standing = |key: &str, address| Listener { key: key.to_owned(), place: None, address };
    let written = |said: &Said<String>| {
        let Spot { key, place } = said.spot.clone();
        address(&said.word).ok().map(|address| Listener { key, place: Some(place), address })
    };
    match words.server.said().map_or(&Field::Absent, |said| &said.word.listen) {
        Field::Absent => all.push(standing("server.listen", PUBLIC)),
        field => all.extend(field.said().iter().flat_map(|said| &said.word).filter_map(written)),
    }
    let admin = words.admin.said().map_or(&Field::Absent, |said| &said.word.listen);
    let health = words.health.said().map_or(&Field::Absent, |said| &said.word.listen);
    for (field, key, default) in [(admin, "admin.listen", ADMIN), (health, "health.listen", HEALTH)] {
        match field {
            Field::Absent => all.push(standing(key, default)),
            field => all.extend(field.said().and_then(written)),
        }
    }
    all.sort_by_key(|listener| listener.place.is_some());
    all
}

/// Whether binding one address keeps the other from being bound. `[::]` takes IPv4's too, on the systems we run on.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let wide = |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || wide(a, b) || wide(b, a))
}

const PUBLIC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9902);
