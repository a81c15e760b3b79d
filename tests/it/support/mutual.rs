//! Callers with certificates: authorities that sign them and take them back, and connections that show them.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::DEADLINE;
use super::client::{Answer, Client, Sent, empty, whole};
use super::gate::provider;

/// One who signs certificates.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
    chain: Vec<CertificateDer<'static>>,
}

/// A certificate, and the key it is for.
pub struct Leaf {
    pub pem: String,
    pub key_pem: String,
    pub serial: u64,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// What a certificate shall say.
#[derive(Clone, Default)]
pub struct Says<'a> {
    pub serial: u64,
    pub common: &'a [&'a str],
    pub dns: &'a [&'a str],
    pub uris: &'a [&'a str],
    /// The year it ran out in, if it did.
    pub ended: Option<i32>,
    /// Whether it is for servers.
    pub server: bool,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority(name);
        let cert = params.self_signed(&key).unwrap();
        Self { pem: cert.pem(), issuer: Issuer::new(params, key), chain: Vec::new() }
    }

    /// An authority below this one.
    pub fn below(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = authority(name);
        params.serial_number = Some(SerialNumber::from(900));
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let chain = [vec![cert.der().clone()], self.chain.clone()].concat();
        Self { pem: cert.pem(), issuer: Issuer::new(params, key), chain }
    }

    pub fn sign(&self, says: &Says<'_>) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // rcgen keeps one of each kind; a second common name goes by the number of the same kind.
        for common in says.common {
            params.distinguished_name.push(DnType::CommonName, *common);
        }
        let dns = says.dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
        let uris = says.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names = dns.chain(uris).collect();
        params.serial_number = Some(SerialNumber::from(says.serial));
        params.extended_key_usages = vec![if says.server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        if let Some(year) = says.ended {
            params.not_before = date_time_ymd(year - 1, 1, 1);
            params.not_after = date_time_ymd(year, 1, 1);
        }
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let chain = [vec![cert.der().clone()], self.chain.clone()].concat();
        Leaf { pem: cert.pem(), key_pem: key.serialize_pem(), serial: says.serial, chain, key: key.into() }
    }

    /// The list of what it has taken back; it runs out with the beginning of `until`.
    pub fn revokes(&self, serials: &[u64], until: i32) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 2),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A caller: which host its handshake names, and what it shows.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    pub address: SocketAddr,
    pub http2: bool,
    pub sni: &'a str,
    pub shows: Option<&'a Leaf>,
}

/// A connection that is kept, with a runtime of its own.
pub struct Kept {
    runtime: Runtime,
    sender: Sender,
    /// The certificate that the gate showed.
    pub server: CertificateDer<'static>,
}

enum Sender {
    Http1(http1::SendRequest<Sent>),
    Http2(http2::SendRequest<Sent>),
}

impl Caller<'_> {
    pub fn connect(&self) -> Result<Kept, String> {
        self.connect_by(&self.config())
    }

    pub fn config(&self) -> Arc<rustls::ClientConfig> {
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer));
        let mut config = match self.shows {
            Some(leaf) => builder.with_client_auth_cert(leaf.chain.clone(), leaf.key.clone_key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![if self.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Arc::new(config)
    }

    /// Connects by a config that may hold sessions to resume.
    pub fn connect_by(&self, config: &Arc<rustls::ClientConfig>) -> Result<Kept, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connected = runtime.block_on(async {
            let stream = TcpStream::connect(self.address).await.map_err(told)?;
            stream.set_nodelay(true).map_err(told)?;
            let name = ServerName::try_from(self.sni.to_owned()).unwrap();
            let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(told)?;
            let server = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
            let stream = TokioIo::new(stream);
            let sender = if self.http2 {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), stream).await.map_err(told)?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            } else {
                let (sender, connection) = http1::handshake(stream).await.map_err(told)?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            };
            Ok::<_, String>((sender, server))
        });
        let (sender, server) = connected?;
        Ok(Kept { runtime, sender, server })
    }

    /// One call on a connection of its own, for the host that the handshake names.
    pub fn get(&self, path: &str, token: Option<&str>) -> Result<Answer, String> {
        self.connect()?.get(self.sni, path, token)
    }
}

impl Kept {
    pub fn get(&mut self, host: &str, path: &str, token: Option<&str>) -> Result<Answer, String> {
        self.call("GET", host, path, token, &[])
    }

    pub fn call(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let http2 = matches!(self.sender, Sender::Http2(_));
        let client = Client { address: ([127, 0, 0, 1], 0).into(), http2, tls: true };
        let named = [headers, &[("host", host)]].concat();
        let mut request =
            client.request(method, path, token, if http2 { headers } else { named.as_slice() }, empty());
        if http2 {
            *request.uri_mut() = format!("https://{host}{path}").parse().unwrap();
        }
        let Self { runtime, sender, .. } = self;
        runtime.block_on(async {
            let exchange = async {
                let answer = match sender {
                    Sender::Http1(sender) => {
                        sender.ready().await.map_err(told)?;
                        sender.send_request(request).await
                    }
                    Sender::Http2(sender) => {
                        sender.ready().await.map_err(told)?;
                        sender.send_request(request).await
                    }
                };
                whole(answer.map_err(told)?).await.map_err(told)
            };
            tokio::time::timeout(DEADLINE, exchange).await.expect("an answer within the deadline")
        })
    }
}

fn told(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

/// Believes any server: these tests are about whom the gate believes.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
