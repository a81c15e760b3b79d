//! One call as it arrived, read once.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri, Version, request};
use ipnet::IpNet;

use super::certificate::{ClientCertificate, Need};
use super::decision::Reason;
use super::host::Host;
use super::identity::{CredentialFault, Identity};
use super::malformed::Malformed;
use super::path::{CanonicalPath, Reading};
use super::recording::{Detail, Recording};
use super::route::{Route, Routes};

/// A call as it arrived: its canonical form or the reason it has none, and what the record says of it.
#[derive(Debug)]
pub struct Attempt {
    /// The canonical form, or why there is none.
    pub access: Result<Access, Refusal>,
    /// The method as sent.
    pub method: Method,
    /// The target as sent.
    pub target: Uri,
    /// `Host` as sent, the first if there are several.
    pub host: Option<HeaderValue>,
    /// What the caller offers as proof.
    pub credential: Credential,
    /// The certificate its connection showed, where the service asks for one.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Where the call comes from.
    pub client: Client,
    /// The number by which the caller, the upstream and the record know this call.
    pub id: RequestId,
    /// The W3C trace it belongs to.
    pub trace: TraceContext,
    /// `User-Agent` as sent.
    pub user_agent: Option<HeaderValue>,
    /// Whether this is a CORS preflight: it asks as one, and carries neither credential nor body.
    pub preflight: bool,
    /// What else the head says, where the service's records are to have it.
    pub head: Option<Box<HeadDetail>>,
}

/// What a head says beside what it asks for; nothing of it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadDetail {
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub version: &'static str,
    /// The names of its fields, in lower case, each once.
    pub fields: Vec<HeaderName>,
    /// `Content-Type`.
    pub content_type: Option<HeaderValue>,
    /// `Content-Length`.
    pub content_length: Option<u64>,
}

impl HeadDetail {
    fn read(head: &request::Parts) -> Self {
        let length = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        Self {
            version: match head.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
            fields: head.headers.keys().cloned().collect(),
            content_type: head.headers.get(header::CONTENT_TYPE).cloned(),
            content_length: length.and_then(|length| length.parse().ok()),
        }
    }
}

/// The canonical form of a call: what is routed, decided, recorded and forwarded.
#[derive(Clone, Debug)]
pub struct Access {
    /// The service it is for.
    pub route: Arc<Route>,
    /// A method the gate forwards.
    pub method: Method,
    /// The one host it names.
    pub host: Host,
    /// The path the upstream will see.
    pub path: CanonicalPath,
}

/// A call without canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The host it names, where that much was clear.
    pub host: Option<Host>,
    /// The service it would have reached, where that much was clear.
    pub route: Option<Arc<Route>>,
    /// The target as it arrived, where it is no URI; empty where none could be made out.
    pub target: Option<Vec<u8>>,
    /// The pattern of a path with a secret that the target may be of: then it is not shown.
    pub redacted: Option<String>,
}

/// A call whose head has no reading at all: what could be made out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Why.
    pub fault: Malformed,
    /// The method, or `-` where none could be made out.
    pub method: Method,
    /// The target as it arrived, as far as one could be made out; else empty.
    pub target: Vec<u8>,
}

impl Unreadable {
    /// Makes out what can be of the bytes of a head, for its record: its first line is taken apart at its spaces.
    pub fn salvage(fault: Malformed, head: &[u8]) -> Self {
        let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let method = words.next().filter(|word| word.len() <= LONGEST_METHOD);
        match method.and_then(|word| Method::from_bytes(word).ok()) {
            Some(method) => Self { fault, method, target: words.next().unwrap_or_default().to_vec() },
            // A line that does not begin like a request says nothing; `-` is a token.
            None => Self { fault, method: Method::from_bytes(b"-").unwrap_or_default(), target: Vec::new() },
        }
    }
}

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
    fn is_misdirected(&self, host: &Host, route: &Route, routes: &Routes) -> bool {
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

/// What a caller offers as proof of who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    None,
    /// A bearer token (RFC 6750 §2.1).
    Bearer(Token),
    /// An `Authorization` of another scheme.
    Unsupported,
    /// An `Authorization` that is not well formed.
    Malformed,
}

/// A bearer token. It is a secret: it prints as `Token(..)`, and nothing writes it anywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    value: HeaderValue,
    start: usize,
}

impl Token {
    /// The token's characters.
    pub fn as_str(&self) -> &str {
        // It was found to be ASCII when it was read; this looks at many bytes at a time.
        let token = self.value.as_bytes().get(self.start..).unwrap_or_default();
        std::str::from_utf8(token).unwrap_or_default()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A request's number: 1 to 128 characters of `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

/// The W3C trace context of a call: a valid `traceparent` (version 00), 55 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext(HeaderValue);

/// The networks whose word on the client's address is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// What reading an attempt needs to know of the configuration.
#[derive(Debug)]
pub struct ReadRules<'a> {
    /// The services.
    pub routes: &'a Routes,
    /// Who may speak for a client.
    pub trusted: &'a TrustedProxies,
    /// The longest request target, in bytes.
    pub target_bytes: usize,
}

impl Attempt {
    /// Reads a request's head. `fresh` becomes the request's id, and its trace's, where it brings none to be believed.
    pub fn read(head: &request::Parts, connection: &Connection, rules: &ReadRules<'_>, fresh: u128) -> Self {
        let by_proxy = rules.trusted.contains(connection.peer.ip());
        let (credential, credential_fault) = Credential::read(&head.headers);
        let access = match credential_fault {
            Some(fault) => Err(Refusal::new(Reason::Malformed(fault), None, None)),
            None => Access::read(head, connection, rules),
        }
        .map_err(|refusal| refusal.guarded(head.uri.path().as_bytes(), rules.routes));
        let full = access.as_ref().is_ok_and(|access| access.route.recording.detail == Detail::Full);
        let wanted = access.as_ref().map_or(true, |access| access.route.certificates.need != Need::Off);
        Self {
            access,
            method: head.method.clone(),
            target: head.uri.clone(),
            host: head.headers.get(header::HOST).cloned(),
            credential,
            certificate: connection.certificate.clone().filter(|_| wanted),
            client: Client::read(&head.headers, connection, rules.trusted),
            id: RequestId::read(&head.headers, by_proxy, fresh),
            trace: TraceContext::read(&head.headers, fresh),
            user_agent: head.headers.get(header::USER_AGENT).cloned(),
            preflight: is_preflight(head),
            head: full.then(|| Box::new(HeadDetail::read(head))),
        }
    }

    /// A call that was refused before its head could be read.
    pub fn unreadable(
        unreadable: Unreadable,
        connection: &Connection,
        rules: &ReadRules<'_>,
        fresh: u128,
    ) -> Self {
        let Unreadable { fault, method, target } = unreadable;
        let none = HeaderMap::new();
        Self {
            access: Err(Refusal::new(Reason::Malformed(fault), None, None)
                .guarded(&target, rules.routes)
                .of(target)),
            method,
            target: Uri::default(),
            host: None,
            credential: Credential::None,
            certificate: connection.certificate.clone(),
            client: Client::read(&none, connection, &TrustedProxies::default()),
            id: RequestId::read(&none, false, fresh),
            trace: TraceContext::read(&none, fresh),
            user_agent: None,
            preflight: false,
            head: None,
        }
    }

    /// The target as it arrived, where the call has no canonical form.
    pub fn refused_target(&self) -> Option<&[u8]> {
        let refusal = self.access.as_ref().err()?;
        let target = refusal.target.as_deref().unwrap_or(self.target.path().as_bytes());
        (!target.is_empty()).then_some(target)
    }

    /// What is shown in the place of a refused target that may have a secret.
    pub fn redacted_target(&self) -> Option<&str> {
        self.access.as_ref().err()?.redacted.as_deref()
    }

    /// The host: canonical, or as sent where it has no canonical form.
    pub fn host_bytes(&self) -> Option<&[u8]> {
        match &self.access {
            Ok(access) => Some(access.host.as_str().as_bytes()),
            Err(Refusal { host: Some(host), .. }) => Some(host.as_str().as_bytes()),
            Err(_) => self
                .host
                .as_ref()
                .map(HeaderValue::as_bytes)
                .or_else(|| self.target.authority().map(|authority| authority.as_str().as_bytes())),
        }
    }

    /// Who makes it, as long as nobody has looked at its credential.
    pub const fn unchecked(&self) -> Identity {
        match self.credential {
            Credential::None => Identity::Anonymous,
            Credential::Bearer(_) | Credential::Unsupported | Credential::Malformed => {
                Identity::Failed(CredentialFault::Unchecked)
            }
        }
    }

    /// The service, where that much was clear.
    pub fn service(&self) -> Option<&str> {
        match &self.access {
            Ok(access) => Some(&access.route.service),
            Err(refusal) => refusal.route.as_ref().map(|route| &*route.service),
        }
    }

    /// How the service's calls are recorded; `None` where it is not known which one it is.
    pub fn recording(&self) -> Option<&Recording> {
        match &self.access {
            Ok(access) => Some(&access.route.recording),
            Err(refusal) => refusal.route.as_ref().map(|route| &route.recording),
        }
    }

    /// Whether the call only asks if its service is alive, as that service says.
    pub fn is_health_check(&self) -> bool {
        let Ok(access) = &self.access else { return false };
        let agent = self.user_agent.as_ref().map(HeaderValue::as_bytes);
        access
            .route
            .recording
            .health_checks
            .as_ref()
            .is_some_and(|checks| checks.covers(self.client.ip, &access.method, access.path.as_str(), agent))
    }

    /// The names of the query's parameters, as sent, without their values.
    pub fn query_names(&self) -> impl Iterator<Item = &str> {
        self.target
            .query()
            .into_iter()
            .flat_map(|query| query.split('&'))
            .map(|pair| pair.split('=').next().unwrap_or(pair))
            .filter(|name| !name.is_empty())
    }
}

impl Refusal {
    const fn new(reason: Reason, host: Option<Host>, route: Option<Arc<Route>>) -> Self {
        Self { reason, host, route, target: None, redacted: None }
    }

    /// This refusal, of a target that is no URI.
    fn of(self, target: Vec<u8>) -> Self {
        Self { target: Some(target), ..self }
    }

    /// This refusal, its target not to be shown if it may have a secret: what has no canonical form may have been meant for
    /// any service.
    fn guarded(self, target: &[u8], routes: &Routes) -> Self {
        let mut patterns = routes.iter().flat_map(|route| &route.recording.redact);
        let redacted = patterns.find(|pattern| pattern.may_be(target)).map(ToString::to_string);
        Self { redacted, ..self }
    }
}

impl Access {
    fn read(head: &request::Parts, connection: &Connection, rules: &ReadRules<'_>) -> Result<Self, Refusal> {
        let refuse = Refusal::new;
        let malformed = |fault| refuse(Reason::Malformed(fault), None, None);
        // Methods first: CONNECT and `OPTIONS *` have targets that are not paths.
        if !is_forwarded(&head.method) || head.uri.path() == "*" {
            return Err(refuse(Reason::MethodNotAllowed, None, None));
        }
        check_framing(head).map_err(malformed)?;
        let host = read_host(head, connection.tls.is_some()).map_err(malformed)?;
        let refuse_on = |reason, route, host: &Host| refuse(reason, Some(host.clone()), route);
        let target_len = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target_len > rules.target_bytes {
            return Err(refuse_on(Reason::Malformed(Malformed::TargetTooLong), None, &host));
        }
        let reading =
            Reading::of(head.uri.path()).map_err(|f| refuse_on(Reason::Malformed(f), None, &host))?;
        let route = rules
            .routes
            .find(host.name(), reading.for_routing())
            .ok_or_else(|| refuse_on(Reason::NoService, None, &host))?;
        if connection.is_misdirected(&host, route, rules.routes) {
            return Err(refuse_on(Reason::Misdirected, Some(Arc::clone(route)), &host));
        }
        let path = reading
            .under(route.tolerance)
            .map_err(|f| refuse_on(Reason::Malformed(f), Some(Arc::clone(route)), &host))?;
        let path = match &route.rewrite {
            Some(to) => path.rewritten(&route.prefix, to),
            None => path,
        };
        Ok(Self { route: Arc::clone(route), method: head.method.clone(), host, path })
    }
}

/// WHATWG Fetch §4.8: browsers send preflights without credentials and without a body. What only looks like one is
/// decided as any other call.
fn is_preflight(head: &request::Parts) -> bool {
    let has = |name| head.headers.contains_key(name);
    let empty = head.headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0");
    head.method == Method::OPTIONS
        && has(header::ORIGIN)
        && has(header::ACCESS_CONTROL_REQUEST_METHOD)
        && !has(header::AUTHORIZATION)
        && !has(header::TRANSFER_ENCODING)
        && empty
}

/// The methods that are forwarded; CONNECT, TRACE and unknown ones are not (RFC 9110 §9.3).
pub fn is_forwarded(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::OPTIONS
    )
}

/// Refuses heads that leave the body's length open to interpretation (RFC 9112 §6.3), as far as they can still be
/// seen here.
fn check_framing(head: &request::Parts) -> Result<(), Malformed> {
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        let alone = codings.next().is_none() && !head.headers.contains_key(header::CONTENT_LENGTH);
        if !chunked || !alone || head.version != Version::HTTP_11 {
            return Err(Malformed::Framing);
        }
    }
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next()
        && (lengths.next().is_some()
            || length.is_empty()
            || !length.as_bytes().iter().all(u8::is_ascii_digit))
    {
        return Err(Malformed::Framing);
    }
    match head.headers.get(header::EXPECT) {
        Some(expect) if !expect.as_bytes().eq_ignore_ascii_case(b"100-continue") => Err(Malformed::Expect),
        _ => Ok(()),
    }
}

/// The one host a request names: `Host` and the target's authority must agree where both are there.
fn read_host(head: &request::Parts, tls: bool) -> Result<Host, Malformed> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let from_header = match hosts.next() {
        Some(value) => Some(Host::read(value.to_str().map_err(|_| Malformed::Host)?, tls)?),
        None => None,
    };
    if hosts.next().is_some() {
        return Err(Malformed::HostRepeated);
    }
    let from_target = match head.uri.authority() {
        Some(authority) => Some(Host::read(authority.as_str(), tls)?),
        None => None,
    };
    match (from_header, from_target) {
        (Some(header), Some(target)) if header != target => Err(Malformed::HostMismatch),
        // RFC 9112 §3.2: an HTTP/1.1 request without Host is refused, whatever its target says.
        (None, Some(_)) if head.version < Version::HTTP_2 => Err(Malformed::HostMissing),
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(Malformed::HostMissing),
    }
}

impl Credential {
    fn read(headers: &HeaderMap) -> (Self, Option<Malformed>) {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return (Self::None, None) };
        if values.next().is_some() {
            return (Self::Malformed, Some(Malformed::AuthorizationRepeated));
        }
        (Self::parse(value), None)
    }

    fn parse(value: &HeaderValue) -> Self {
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else { return Self::Malformed };
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            let odd = scheme.is_empty() || value.to_str().is_err();
            return if odd { Self::Malformed } else { Self::Unsupported };
        }
        let token = rest.trim_start_matches(' ');
        // RFC 6750 §2.1: b64token.
        let well_formed = !token.is_empty()
            && token.bytes().fold(true, |all, b| all & B64TOKEN.get(usize::from(b)).is_some_and(|is| *is));
        if !well_formed {
            return Self::Malformed;
        }
        Self::Bearer(Token { start: text.len() - token.len(), value: value.clone() })
    }
}

/// RFC 6750 §2.1: what a `b64token` is made of. Tokens are long and come with every call.
static B64TOKEN: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0u8);
    loop {
        #[allow(clippy::indexing_slicing, reason = "in a constant, what is out of bounds does not compile")]
        {
            table[byte as usize] = byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
        }
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

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
    fn read(headers: &HeaderMap, connection: &Connection, trusted: &TrustedProxies) -> Self {
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

impl RequestId {
    fn read(headers: &HeaderMap, by_proxy: bool, fresh: u128) -> Self {
        let well_formed = |value: &HeaderValue| {
            (1..=128).contains(&value.len())
                && value
                    .as_bytes()
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        match headers.get(X_REQUEST_ID) {
            Some(value) if by_proxy && well_formed(value) => Self(value.clone()),
            _ => {
                let mut id = [0; 32];
                write_hex(&mut id, fresh);
                Self(ascii_value(&id))
            }
        }
    }

    /// The id as a header value.
    pub const fn header(&self) -> &HeaderValue {
        &self.0
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl TraceContext {
    fn read(headers: &HeaderMap, fresh: u128) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(value), None) if is_traceparent(value.as_bytes()) => Self(value.clone()),
            // The low half of a trace id that is not all zero makes the first span's id.
            _ => {
                let mut context = *b"00-00000000000000000000000000000000-0000000000000000-00";
                let (_, ids) = context.split_at_mut(3);
                let (trace, rest) = ids.split_at_mut(32);
                let (_, span) = rest.split_at_mut(1);
                write_hex(trace, fresh | 1);
                write_hex(span.split_at_mut(16).0, u128::from(fresh as u64 | 1));
                Self(ascii_value(&context))
            }
        }
    }

    /// The `traceparent` header.
    pub const fn header(&self) -> &HeaderValue {
        &self.0
    }

    /// The trace id, 32 hex digits.
    pub fn trace_id(&self) -> &str {
        self.0.to_str().ok().and_then(|text| text.get(3..35)).unwrap_or_default()
    }
}

/// W3C Trace Context §3.2, version 00.
fn is_traceparent(value: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let not_zero = |part: &[u8]| part.iter().any(|b| *b != b'0');
    match value.split(|b| *b == b'-').collect::<Vec<_>>().as_slice() {
        [b"00", trace, span, flags] => {
            trace.len() == 32
                && span.len() == 16
                && flags.len() == 2
                && is_hex(trace)
                && is_hex(span)
                && is_hex(flags)
                && not_zero(trace)
                && not_zero(span)
        }
        _ => false,
    }
}

/// Writes the low hex digits of `number`, as many as `out` has room for.
fn write_hex(out: &mut [u8], number: u128) {
    let mut left = number;
    for digit in out.iter_mut().rev() {
        let nibble = (left & 0xf) as u8;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        left >>= 4;
    }
}

fn ascii_value(text: &[u8]) -> HeaderValue {
    // Hex digits and dashes are always a valid value; the fallback only spares a panic path.
    HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static("0"))
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Of a method that a record should name, bytes.
const LONGEST_METHOD: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::path::Tolerance;
    use super::super::route::{HostPattern, Preflights};
    use super::*;
    use http::Request;

    fn routes() -> Routes {
        Routes::new([Route {
            service: "app".into(),
            hosts: vec![HostPattern::Exact("app".into())],
            prefix: "/".into(),
            rewrite: None,
            tolerance: Tolerance::default(),
            preflights: Preflights::Off,
            certificates: Default::default(),
            recording: Default::default(),
        }])
    }

    fn read(request: request::Builder) -> Attempt {
        read_from(request, "192.0.2.1:5000")
    }

    fn read_from(request: request::Builder, peer: &str) -> Attempt {
        let (head, ()) = request.body(()).unwrap().into_parts();
        let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let connection = Connection::without_certificate(peer.parse().unwrap(), None);
        Attempt::read(
            &head,
            &connection,
            &ReadRules { routes: &routes(), trusted: &trusted, target_bytes: 100 },
            7,
        )
    }

    fn reason(attempt: &Attempt) -> Option<Reason> {
        attempt.access.as_ref().err().map(|refusal| refusal.reason)
    }

    fn get(target: &str) -> request::Builder {
        Request::get(target).header("host", "app")
    }

    #[test]
    fn a_plain_request_reads_as_its_canonical_form() {
        let attempt = read(get("/a%2Db?x=secret&y=&z&=q").header("host", "app").header("user-agent", "t"));
        assert_eq!(reason(&attempt), Some(Reason::Malformed(Malformed::HostRepeated)));
        let attempt = read(get("/a%2Db?x=secret&y=&z&=q"));
        let access = attempt.access.as_ref().unwrap();
        assert_eq!(
            (&*access.route.service, access.host.as_str(), access.path.as_str()),
            ("app", "app", "/a-b")
        );
        assert_eq!(attempt.query_names().collect::<Vec<_>>(), ["x", "y", "z"]);
    }

    #[test]
    fn what_has_no_one_reading_is_refused_by_name() {
        use Malformed as M;
        let post = |a: &str, b: &str| Request::post("/").header("host", "app").header(a, b);
        for (request, fault) in [
            (Request::get("/"), M::HostMissing),
            (Request::get("/").header("host", "a;for=1.2.3.4"), M::Host),
            (Request::get("http://other/admin").header("host", "app"), M::HostMismatch),
            (Request::get("http://app/"), M::HostMissing),
            (Request::get("http://u@app/").header("host", "app"), M::Host),
            (get("/public/../admin"), M::DotSegment),
            (get(&format!("/{}", "a".repeat(100))), M::TargetTooLong),
            (
                get("/").header("authorization", "Bearer a").header("authorization", "Bearer b"),
                M::AuthorizationRepeated,
            ),
            (post("content-length", "3").header("transfer-encoding", "chunked"), M::Framing),
            (post("transfer-encoding", "gzip, chunked"), M::Framing),
            (post("transfer-encoding", "chunked\t"), M::Framing),
            (post("transfer-encoding", "chunked").header("transfer-encoding", "chunked"), M::Framing),
            (post("transfer-encoding", "chunked").version(Version::HTTP_10), M::Framing),
            (post("content-length", "3").header("content-length", "3"), M::Framing),
            (post("content-length", "+3"), M::Framing),
            (post("expect", "200-maybe"), M::Expect),
        ] {
            let shown = format!("{request:?}");
            assert_eq!(reason(&read(request)), Some(Reason::Malformed(fault)), "{shown}");
        }
        for request in [
            Request::builder().method("CONNECT").uri("h:443"),
            Request::builder().method("OPTIONS").uri("*").header("host", "app"),
            Request::builder().method("TRACE").uri("/").header("host", "app"),
            Request::builder().method("FOO").uri("/").header("host", "app"),
        ] {
            assert_eq!(reason(&read(request)), Some(Reason::MethodNotAllowed));
        }
        assert_eq!(reason(&read(Request::get("/").header("host", "other"))), Some(Reason::NoService));
    }

    #[test]
    fn absolute_form_that_agrees_with_host_is_accepted() {
        assert_eq!(reason(&read(Request::get("http://APP:80/x").header("host", "app."))), None);
    }

    #[test]
    fn credentials_are_read_by_scheme_and_print_no_secret() {
        let credential = |value: &str| read(get("/").header("authorization", value)).credential;
        assert_eq!(read(get("/")).credential, Credential::None);
        for value in ["Bearer abc.def", "bearer abc.def", "BEARER   abc.def"] {
            let Credential::Bearer(token) = credential(value) else { panic!("{value}") };
            assert_eq!(token.as_str(), "abc.def");
            assert!(!format!("{token:?}").contains("abc"));
        }
        for value in ["Bearer", "Bearer ", "Bearer a b", "Bearer a,b", " x"] {
            assert_eq!(credential(value), Credential::Malformed, "{value}");
        }
        assert_eq!(credential("Basic dTpw"), Credential::Unsupported);
    }

    #[test]
    fn a_clients_word_on_its_address_and_id_is_believed_only_behind_a_trusted_proxy() {
        let request =
            || get("/").header("x-forwarded-for", "203.0.113.9, 10.1.1.1").header("x-request-id", "mine");
        let direct = read(request());
        assert_eq!((direct.client.ip.to_string(), direct.client.port), ("192.0.2.1".into(), 5000));
        assert_eq!(direct.id.as_str(), format!("{:032x}", 7));
        let proxied = read_from(request(), "10.0.0.1:80");
        assert_eq!((proxied.client.ip.to_string(), proxied.client.port), ("203.0.113.9".into(), 0));
        assert_eq!(proxied.id.as_str(), "mine");
        let mapped = read_from(request(), "[::ffff:10.0.0.1]:80");
        assert_eq!(mapped.client.ip.to_string(), "203.0.113.9");
        let nonsense = read_from(get("/").header("x-forwarded-for", "1.2.3.4, unknown"), "10.0.0.1:80");
        assert_eq!(nonsense.client.ip.to_string(), "10.0.0.1");
    }

    #[test]
    fn a_trace_is_carried_if_valid_and_begun_if_not() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let attempt = read(get("/").header("traceparent", valid));
        assert_eq!(attempt.trace.header(), valid);
        assert_eq!(attempt.trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        for bad in ["", "00-0-0-0", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "ff-x"] {
            let begun = read(get("/").header("traceparent", bad));
            assert!(is_traceparent(begun.trace.header().as_bytes()), "{bad}");
        }
    }
}
