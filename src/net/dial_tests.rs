use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::net::{Roots, pem};

const SOON: Duration = Duration::from_secs(10);

fn endpoint(url: &str) -> Result<Endpoint, EndpointError> {
    Endpoint::of(&url.parse::<Uri>().unwrap())
}

#[test]
fn a_url_names_its_endpoint_and_default_port() {
    for (url, shown, tls) in [
        ("http://app:9000/x", "app:9000", false),
        ("http://app", "app:80", false),
        ("https://app", "app:443", true),
        ("https://[::1]:8443/", "[::1]:8443", true),
        ("HTTPS://app/", "app:443", true),
    ] {
        let endpoint = endpoint(url).unwrap();
        assert_eq!((endpoint.to_string().as_str(), endpoint.is_tls()), (shown, tls), "{url}");
    }
}

#[test]
fn a_url_that_cannot_be_dialled_is_refused() {
    for (url, error) in [
        ("ftp://app/", EndpointError::Scheme),
        ("/path", EndpointError::Scheme),
        ("http://u:p@app/", EndpointError::UserInfo),
    ] {
        assert_eq!(endpoint(url), Err(error), "{url}");
    }
    let https = endpoint("https://app/").unwrap();
    assert_eq!(Dialer::new(https, None, SOON).unwrap_err(), EndpointError::NoTls);
}

#[tokio::test]
async fn a_closed_port_is_refused_and_a_name_that_is_none_does_not_resolve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let dialer = Dialer::new(endpoint(&format!("http://{address}")).unwrap(), None, SOON).unwrap();
    let error = dialer.dial().await.unwrap_err();
    assert!(matches!(error, DialError::Refused { address: a } if a == address), "{error}");

    // `.invalid` never resolves (RFC 6761 §6.4); a machine without a resolver may take its time to say so.
    let dialer = Dialer::new(endpoint("http://nowhere.invalid:80").unwrap(), None, SOON).unwrap();
    let error = dialer.dial().await.unwrap_err();
    assert!(matches!(error, DialError::Resolve { .. } | DialError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_peer_that_never_shakes_hands_runs_into_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (_dir, _, ca) = identity();
    let tls = ClientTls::new(Roots::File(&ca), &[]).unwrap();
    let dialer = Dialer::new(endpoint(&url).unwrap(), Some(&tls), Duration::from_millis(50)).unwrap();
    let error = dialer.dial().await.unwrap_err();
    assert!(matches!(error, DialError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_tls_connection_checks_the_name_and_agrees_on_a_protocol() {
    let (_dir, server, ca) = identity();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let Ok((tcp, _)) = listener.accept().await else { return };
            if let Ok(mut stream) = TlsAcceptor::from(Arc::clone(&server)).accept(tcp).await {
                let mut byte = [0];
                let _ = stream.read_exact(&mut byte).await;
                let _ = stream.write_all(&byte).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    let tls = ClientTls::new(Roots::File(&ca), &[b"http/1.1"]).unwrap();

    let there = endpoint(&format!("https://localhost:{port}")).unwrap();
    let mut stream = Dialer::new(there, Some(&tls), SOON).unwrap().dial().await.unwrap();
    assert_eq!(stream.alpn(), Some(&b"http/1.1"[..]));
    stream.write_all(b"!").await.unwrap();
    let mut echo = [0];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"!");

    // Same server, a name its certificate does not carry.
    let there = endpoint(&format!("https://127.0.0.1:{port}")).unwrap();
    let error = Dialer::new(there, Some(&tls), SOON).unwrap().dial().await.unwrap_err();
    assert!(matches!(error, DialError::Tls { .. }), "{error}");
}

/// A server for `localhost` and the file of the certificate to trust.
fn identity() -> (tempfile::TempDir, Arc<ServerConfig>, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert_file, cert.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(pem::certificates(&cert_file).unwrap(), pem::private_key(&key_file).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (dir, Arc::new(config), cert_file)
}
