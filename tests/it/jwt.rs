//! Bearer tokens: each algorithm, what makes one fail, and keys that change while calls go on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::tokens::{
    ALGORITHMS, AUDIENCE, ISSUER, claims, key_set, rsa_public_pem, sign_by_hmac, with,
};
use crate::support::{Act, Gate, Setup, Signer, Upstream, until};

/// A gate that knows one issuer, of all algorithms.
fn gate_of(signers: &[&Signer]) -> (Upstream, Gate) {
    let upstream = Upstream::start(Act::Answer);
    let algorithms = json!(ALGORITHMS);
    let issuer = format!(
        "[[issuer]]\nname = \"main\"\nissuer = \"{ISSUER}\"\naudience = [\"other\", \"{AUDIENCE}\"]\n\
         algorithms = {algorithms}\njwks_file = \"jwks.json\"\nroles = [\"viewer\"]\n"
    );
    let gate = Setup::new(&upstream).issuers(&issuer).keys(key_set(signers)).start();
    (upstream, gate)
}

#[test]
fn a_token_of_each_algorithm_proves_its_caller() {
    let signers: Vec<Signer> =
        ALGORITHMS.iter().map(|algorithm| Signer::new(algorithm, &format!("key-{algorithm}"))).collect();
    let (upstream, gate) = gate_of(&signers.iter().collect::<Vec<_>>());
    for signer in &signers {
        let answer = gate.client().get("/docs/x", Some(&signer.token("alice", &["viewer", "unknown"])));
        assert_eq!(answer.status, 200, "{}", signer.algorithm);
        let identity = &gate.record(answer.record())["identity"];
        assert_eq!(identity["user"], "user:alice");
        assert_eq!(identity["roles"], json!(["role:viewer"]));
        assert_eq!(identity["issuer"], "main");
        assert!(identity.to_string().contains(&signer.kid), "{identity}");
        assert!(identity.to_string().contains("token-1"), "{identity}");
    }
    assert_eq!(upstream.count(), ALGORITHMS.len());
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let signer = Signer::new("RS256", "rsa");
    let (upstream, gate) = gate_of(&[&signer]);
    let pem = rsa_public_pem();
    for secret in [pem.as_bytes(), pem.trim().as_bytes(), signer.jwk["n"].as_str().unwrap().as_bytes()] {
        for algorithm in ["HS256", "HS384"] {
            let header = json!({ "alg": algorithm, "kid": "rsa" });
            let token = sign_by_hmac(&header, &claims("alice", &["viewer"]), secret);
            assert_eq!(gate.client().get("/public/x", Some(&token)).status, 401);
        }
    }
    // Nor does a key serve an algorithm of another family.
    let token = signer.sign_as(&json!({ "alg": "ES256", "kid": "rsa" }), &claims("alice", &["viewer"]));
    assert_eq!(gate.client().get("/public/x", Some(&token)).status, 401);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn no_header_of_a_token_makes_the_gate_fetch_anything() {
    let bait = KeyServer::start(&key_set(&[]));
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let stranger = Signer::new("ES256", "stranger");
    for header in [
        json!({ "alg": "ES256", "jku": bait.url() }),
        json!({ "alg": "ES256", "kid": "usual", "x5u": bait.url() }),
        json!({ "alg": "ES256", "jwk": stranger.jwk }),
        json!({ "alg": "ES256", "kid": bait.url() }),
    ] {
        let token = stranger.sign_as(&header, &claims("alice", &["viewer"]));
        assert_eq!(gate.client().get("/public/x", Some(&token)).status, 401, "{header}");
    }
    assert_eq!(bait.requests(), 0);
}

#[test]
fn two_issuers_subjects_never_share_a_name() {
    let upstream = Upstream::start(Act::Answer);
    let partner = Signer::new("ES256", "partner");
    let site = Setup::new(&upstream)
        .issuers(&format!(
            "[[issuer]]\nname = \"main\"\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\nalgorithms = [\"ES256\"]\n\
             jwks_file = \"jwks.json\"\nroles = [\"viewer\"]\nprimary = true\n\
             [[issuer]]\nname = \"partner\"\nissuer = \"https://partner.example.com\"\naudience = \"{AUDIENCE}\"\n\
             algorithms = [\"ES256\"]\njwks_file = \"partner.json\"\nroles_claim = \"realm_access.roles\"\nroles = [\"viewer\"]\n"
        ))
        .site_without_log();
    std::fs::write(site.path("partner.json"), key_set(&[&partner])).unwrap();
    portcullis::app::create_log(&site.settings()).unwrap_or_else(|error| panic!("{error}"));
    let gate = site.start();
    let theirs = with(claims("alice", &[]), "iss", json!("https://partner.example.com"));
    let theirs = with(theirs, "realm_access", json!({ "roles": ["viewer", "admin"] }));
    for (token, user) in [
        (Signer::usual().token("alice", &["viewer"]), "user:alice"),
        (partner.sign(&theirs), "user:partner:alice"),
    ] {
        let answer = gate.client().get("/docs/x", Some(&token));
        assert_eq!(answer.status, 200, "{user}");
        assert_eq!(gate.record(answer.record())["identity"]["user"], user);
        assert_eq!(gate.record(answer.record())["identity"]["roles"], json!(["role:viewer"]));
    }
    // One issuer's key is worth nothing in the other's name.
    let crossed = partner.sign_as(&json!({ "alg": "ES256", "kid": "usual" }), &claims("alice", &["viewer"]));
    assert_eq!(gate.client().get("/docs/x", Some(&crossed)).status, 401);
}

#[test]
fn keys_are_rotated_at_a_live_key_set_without_a_failed_request() {
    let (old, new) = (Signer::new("ES256", "2026-01"), Signer::new("ES256", "2026-02"));
    let keys = KeyServer::start(&key_set(&[&old]));
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).issuers(&live_issuer(&keys)).start();
    until("the first keys", || {
        gate.client().get("/docs/x", Some(&old.token("a", &["viewer"]))).status == 200
    });

    let stop = Arc::new(AtomicBool::new(false));
    let signing = Arc::new(Mutex::new(old.clone()));
    let calls = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..4)
        .map(|n| {
            let (client, stop, signing, calls) =
                (gate.client(), Arc::clone(&stop), Arc::clone(&signing), Arc::clone(&calls));
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let token = signing.lock().unwrap().token(&format!("caller-{n}"), &["viewer"]);
                    let answer = client.get("/docs/x", Some(&token));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let more = |than: usize| until("more calls", || calls.load(Ordering::SeqCst) > than + 20);
    more(0);
    // The issuer publishes both, then signs by the new one, which the gate has not seen yet.
    keys.publish(&key_set(&[&old, &new]));
    *signing.lock().unwrap() = new.clone();
    more(calls.load(Ordering::SeqCst));
    keys.publish(&key_set(&[&new]));
    more(calls.load(Ordering::SeqCst));
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.join().unwrap();
    }
    gate.stop().verify();
}

#[test]
fn unknown_keys_do_not_make_the_gate_a_hammer() {
    let signer = Signer::new("ES256", "known");
    let keys = KeyServer::start(&key_set(&[&signer]));
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).issuers(&live_issuer(&keys)).start();
    until("the first keys", || {
        gate.client().get("/docs/x", Some(&signer.token("a", &["viewer"]))).status == 200
    });
    let before = keys.requests();
    for n in 0..50 {
        let header = json!({ "alg": "ES256", "kid": format!("unknown-{n}") });
        let token = signer.sign_as(&header, &claims("alice", &["viewer"]));
        let answer = gate.client().get("/public/x", Some(&token));
        assert_eq!(answer.status, 401);
        assert_eq!(gate.record(answer.record())["reason"], "credential_unknown_key");
    }
    let fetched = keys.requests() - before;
    assert!(fetched <= 10, "{fetched} fetches for 50 tokens");
    assert_eq!(gate.client().get("/docs/x", Some(&signer.token("b", &["viewer"]))).status, 200);
}

#[test]
fn an_issuer_that_is_away_fails_nobody_whose_keys_are_known() {
    let signer = Signer::new("ES256", "known");
    let keys = KeyServer::start(&key_set(&[&signer]));
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).issuers(&live_issuer(&keys)).start();
    until("the first keys", || {
        gate.client().get("/docs/x", Some(&signer.token("a", &["viewer"]))).status == 200
    });
    keys.fail();
    for n in 0..5 {
        let answer = gate.client().get("/docs/x", Some(&signer.token(&format!("b-{n}"), &["viewer"])));
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn an_issuer_that_was_never_there_is_a_503_and_no_anonymous_pass() {
    let keys = KeyServer::start("");
    keys.fail();
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).issuers(&live_issuer(&keys)).start();
    let answer = gate.client().get("/public/x", Some(&Signer::usual().token("a", &["viewer"])));
    assert_eq!(answer.status, 503);
    let record = gate.record(answer.record());
    assert_eq!(
        (&record["decision"], &record["reason"]),
        (&"deny".into(), &"credential_keys_unavailable".into())
    );
    assert_eq!(gate.client().get("/public/x", None).status, 200, "who brings no token is not held up");
    assert_eq!(upstream.count(), 1);
}

fn live_issuer(keys: &KeyServer) -> String {
    format!(
        "[[issuer]]\nname = \"main\"\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\nalgorithms = [\"ES256\"]\n\
         jwks_url = \"{}\"\nroles = [\"viewer\"]\n",
        keys.url()
    )
}

/// An endpoint that publishes a key set. It ends with the test's process.
struct KeyServer {
    address: SocketAddr,
    shared: Arc<Published>,
}

struct Published {
    answer: Mutex<Option<String>>,
    requests: AtomicUsize,
}

impl KeyServer {
    fn start(keys: &str) -> Self {
        use std::io::{BufRead as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Published { answer: Mutex::new(Some(keys.to_owned())), requests: AtomicUsize::new(0) });
        let published = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let head = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
                // A gate that is killed may leave half a request.
                head.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
                published.requests.fetch_add(1, Ordering::SeqCst);
                let _ = match &*published.answer.lock().unwrap() {
                    Some(keys) => write!(
                        stream,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{keys}",
                        keys.len()
                    ),
                    None => {
                        write!(stream, "HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                    }
                };
            }
        });
        Self { address, shared }
    }

    fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    fn publish(&self, keys: &str) {
        *self.shared.answer.lock().unwrap() = Some(keys.to_owned());
    }

    fn fail(&self) {
        *self.shared.answer.lock().unwrap() = None;
    }

    fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}
