//! For tests: keys made on the spot, tokens signed with them, and a little server that publishes key sets.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm as Jwa, EncodingKey, crypto, jwk};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::clock::Timestamp;

/// The moment at which tests begin: 2026-01-01T00:00:00Z.
pub(super) const NOW: i64 = 1_767_225_600;

pub(super) const ISS: &str = "https://issuer.example.com";
pub(super) const AUD: &str = "https://gate.example.com";

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

/// One RSA key for all tests: making one takes a while.
static RSA: LazyLock<String> =
    LazyLock::new(|| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap().serialize_pem());

/// A private key, and what its issuer publishes of it.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    pub(super) kid: String,
    pub(super) key: EncodingKey,
    pub(super) jwk: Value,
}

impl Signer {
    pub(super) fn new(algorithm: Algorithm, kid: &str) -> Self {
        let (key, mut jwk) = match algorithm {
            Algorithm::Es256 => elliptic(&PKCS_ECDSA_P256_SHA256, "P-256", 32),
            Algorithm::Es384 => elliptic(&PKCS_ECDSA_P384_SHA384, "P-384", 48),
            Algorithm::EdDsa => {
                let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
                let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
                (
                    EncodingKey::from_ed_der(pair.serialized_der()),
                    json!({"kty": "OKP", "crv": "Ed25519", "x": x}),
                )
            }
            _ => {
                let key = EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap();
                let jwk::AlgorithmParameters::RSA(public) =
                    jwk::Jwk::from_encoding_key(&key, Jwa::RS256).unwrap().algorithm
                else {
                    unreachable!("an RSA key")
                };
                (key, json!({"kty": "RSA", "n": public.n, "e": public.e}))
            }
        };
        jwk["kid"] = json!(kid);
        Self { algorithm, kid: kid.to_owned(), key, jwk }
    }

    pub(super) fn es256(kid: &str) -> Self {
        Self::new(Algorithm::Es256, kid)
    }

    /// A token with the usual header.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"typ": "JWT", "alg": self.algorithm.as_str(), "kid": self.kid}), claims)
    }

    /// A token with another header, signed all the same.
    pub(super) fn token_with(&self, header: &Value, claims: &Value) -> String {
        self.sign(&header.to_string(), &claims.to_string())
    }

    /// A token of any texts.
    pub(super) fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let jwa = self.algorithm.as_str().parse().unwrap();
        let signature = crypto::sign(message.as_bytes(), &self.key, jwa).unwrap();
        format!("{message}.{signature}")
    }
}

fn elliptic(
    algorithm: &'static rcgen::SignatureAlgorithm,
    curve: &str,
    coordinate: usize,
) -> (EncodingKey, Value) {
    let pair = KeyPair::generate_for(algorithm).unwrap();
    let (x, y) = pair.public_key_raw()[1..].split_at(coordinate);
    let [x, y] = [x, y].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    (EncodingKey::from_ec_der(pair.serialized_der()), json!({"kty": "EC", "crv": curve, "x": x, "y": y}))
}

/// The key set that publishes these.
pub(super) fn key_set(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| &signer.jwk).collect::<Vec<_>>()}).to_string()
}

/// Good claims of `sub`, for an hour from [`NOW`].
pub(super) fn claims(sub: &str) -> Value {
    json!({"iss": ISS, "aud": AUD, "sub": sub, "exp": NOW + 3600})
}

/// `claims` with one member set, or removed for `null`.
pub(super) fn with(mut claims: Value, member: &str, value: Value) -> Value {
    match value {
        Value::Null => {
            claims.as_object_mut().unwrap().remove(member);
        }
        value => claims[member] = value,
    }
    claims
}

/// A primary issuer of every algorithm whose keys are in `file`.
pub(super) fn issuer(keys: KeySource) -> Issuer {
    Issuer {
        name: "main".to_owned(),
        issuer: ISS.to_owned(),
        audiences: vec![AUD.to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        keys,
        refresh: Duration::from_secs(600),
        max_stale: Duration::from_secs(86_400),
        subject_claim: "sub".to_owned(),
        roles_claim: "roles".to_owned(),
        roles: vec!["viewer".to_owned(), "editor".to_owned()],
        primary: true,
    }
}

/// A file that publishes `text`. It lives as long as what is returned.
pub(super) fn published(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// Authentication by keys from a file, at [`NOW`].
pub(super) struct Fixture {
    pub(super) authn: Authn,
    pub(super) clock: Clock,
    _file: tempfile::NamedTempFile,
}

impl Fixture {
    pub(super) fn new(signers: &[&Signer]) -> Self {
        Self::adjusted(&key_set(signers), |_| {})
    }

    pub(super) fn adjusted(keys: &str, adjust: impl FnOnce(&mut Issuer)) -> Self {
        let file = published(keys);
        let mut issuer = issuer(KeySource::File(file.path().to_owned()));
        adjust(&mut issuer);
        let clock = Clock::manual(at(NOW));
        let authn = Authn::new(vec![issuer], AuthnLimits::default(), clock.clone()).unwrap();
        Self { authn, clock, _file: file }
    }

    pub(super) async fn fault(&self, token: &str) -> CredentialFault {
        fault(&self.authn, token).await
    }

    pub(super) async fn caller(&self, token: &str) -> Arc<Caller> {
        caller(&self.authn, token).await
    }
}

pub(super) async fn fault(authn: &Authn, token: &str) -> CredentialFault {
    match authn.identify_token(token).await {
        Identity::Failed(fault) => fault,
        other => panic!("{other:?} for {token}"),
    }
}

pub(super) async fn caller(authn: &Authn, token: &str) -> Arc<Caller> {
    match authn.identify_token(token).await {
        Identity::Proved(caller) => caller,
        other => panic!("{other:?} for {token}"),
    }
}

/// A server that publishes a key set over HTTP, one request a connection.
pub(super) struct KeyServer {
    url: String,
    served: Arc<Served>,
    task: JoinHandle<()>,
}

struct Served {
    /// The whole response, as bytes on the wire.
    response: Mutex<Vec<u8>>,
    requests: AtomicUsize,
    /// One permit a response.
    gate: Semaphore,
}

impl KeyServer {
    pub(super) async fn start(keys: &str) -> Self {
        Self::start_with(keys, None).await
    }

    /// Over TLS, as `localhost`; and the file of the certificate to trust, in a directory that lives as long.
    pub(super) async fn start_tls(keys: &str) -> (Self, tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, cert.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        (Self::start_with(keys, Some(acceptor)).await, dir, file)
    }

    async fn start_with(keys: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = match &tls {
            Some(_) => format!("https://localhost:{port}/keys?v=1"),
            None => format!("http://127.0.0.1:{port}/keys?v=1"),
        };
        let served = Arc::new(Served {
            response: Mutex::new(Vec::new()),
            requests: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let task = tokio::spawn(serve(listener, tls, Arc::clone(&served)));
        let server = Self { url, served, task };
        server.publish(keys);
        server
    }

    pub(super) fn source(&self) -> KeySource {
        KeySource::Url { url: self.url.parse().unwrap(), ca_file: None }
    }

    pub(super) fn publish(&self, keys: &str) {
        self.respond("200 OK", "Content-Type: application/json\r\n", keys);
    }

    pub(super) fn respond(&self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let response = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        *self.served.response.lock().unwrap() = response.into_bytes();
    }

    /// How many requests have come.
    pub(super) fn requests(&self) -> usize {
        self.served.requests.load(Ordering::SeqCst)
    }

    /// From now on requests are taken but not answered.
    pub(super) fn hold(&self) {
        self.served.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Answers what was held, and what comes.
    pub(super) fn release(&self) {
        self.served.gate.add_permits(1000);
    }

    /// Stops listening; returns once connections are refused.
    pub(super) async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, served: Arc<Served>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let served = Arc::clone(&served);
        match tls.clone() {
            None => drop(tokio::spawn(answer(stream, served))),
            Some(tls) => drop(tokio::spawn(async move { answer(tls.accept(stream).await?, served).await })),
        }
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, served: Arc<Served>) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8(request).unwrap();
    assert!(request.starts_with("GET /keys?v=1 HTTP/1.1\r\n") && request.contains("\r\nhost: "), "{request}");
    served.requests.fetch_add(1, Ordering::SeqCst);
    served.gate.acquire().await.unwrap().forget();
    let response = served.response.lock().unwrap().clone();
    stream.write_all(&response).await?;
    stream.shutdown().await
}
