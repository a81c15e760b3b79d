//! One call as it arrived, read once.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri, Version, request};

use super::certificate::{ClientCertificate, Need};
use super::decision::Reason;
use super::host::Host;
use super::identity::{CredentialFault, Identity};
use super::malformed::Malformed;
use super::path::{CanonicalPath, Reading};
use super::recording::{Detail, LogRead, Recording};
use super::route::{Route, Routes};

mod client;
mod credential;
mod ids;
mod refusal;

pub use self::client::{Client, Connection, TrustedProxies};
pub use self::credential::{Credential, Token};
pub use self::ids::{RequestId, TraceContext};
pub use self::refusal::{Refusal, Unreadable};

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

    /// What it reads of the log, if it is a read whose repetitions are counted, not recorded one by one.
    pub fn log_read(&self) -> Option<LogRead> {
        let access = self.access.as_ref().ok()?;
        access.route.recording.log_reads.then(|| LogRead::of(&access.method, access.path.as_str())).flatten()
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

#[cfg(test)]
mod tests;
