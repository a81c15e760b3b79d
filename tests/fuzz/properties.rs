//! What must hold of everything that strangers and files can bring, whatever bytes it is. Each property takes bytes and
//! panics where it does not hold. `make fuzz` looks for such bytes for as long as one likes, `make test` tries a bounded
//! number of them beside the seeds.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use http::{Method, Request, Uri};
use portcullis::access::attempt::{Connection, ReadRules, TrustedProxies};
use portcullis::access::framing::{Bounds, Framer, Segment};
use portcullis::access::path::{Reading, Tolerance};
use portcullis::access::recording::Detail;
use portcullis::access::route::{HostPattern, Preflights, Route, Routes};
use portcullis::access::{Attempt, Decision, Identity, Reason};
use portcullis::audit::checkpoint::{Checkpoint, Note, Origin, SigningKey};
use portcullis::audit::hash::Hash;
use portcullis::audit::record::{
    self, Body, ClientEntry, DecisionEntry, Epochs, Head, MAX_RECORD_BYTES, Record, RequestEntry, Shown,
};
use portcullis::authn::{Algorithm, Authn, AuthnLimits, Issuer, KeySource};
use portcullis::clock::{Clock, Timestamp};
use portcullis::config::{Environment, Settings};
use portcullis::policy::{PathForms, Policy, Question, Text, Verdict};

/// A property of bytes.
pub type Property = fn(&[u8]);

/// All of them, by the name of their target and their seeds' directory.
pub const ALL: [(&str, Property); 7] = [
    ("framing", framing),
    ("request", request),
    ("token", token),
    ("policy", policy),
    ("record", record),
    ("note", note),
    ("config", config),
];

/// Cutting makes no difference, and a head that goes by is the same head to another parser.
pub fn framing(bytes: &[u8]) {
    let whole = heads(&[bytes]);
    assert_eq!(whole, heads(&bytes.chunks(1).collect::<Vec<_>>()), "byte by byte");
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    assert_eq!(whole, heads(&[head, tail]), "in halves");
    let Some(end) = whole.0.first() else { return };
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(*end)));
    let named = |name: &str| {
        request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).collect::<Vec<_>>()
    };
    let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "two lengths");
    assert!(lengths.iter().all(|length| length.value.iter().all(u8::is_ascii_digit)));
    assert!(codings.iter().all(|coding| coding.value.eq_ignore_ascii_case(b"chunked")));
}

/// Where heads end, and whether the rest is refused.
fn heads(pieces: &[&[u8]]) -> (Vec<usize>, bool) {
    let mut framer = Framer::new(Bounds { bytes: 16_384, fields: 64 });
    let (mut ends, mut place) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let taken = match framer.read(rest) {
                Segment::Passing(count) | Segment::Head(count) => count,
                Segment::HeadEnd(count) => {
                    ends.push(place + count);
                    count
                }
                Segment::Refused { .. } => return (ends, true),
            };
            assert!(taken > 0, "it gets on");
            place += taken;
            rest = rest.get(taken..).unwrap();
        }
    }
    (ends, false)
}

/// A canonical path is its own canonical form, has nothing in it that two origins read in two ways, and is the one that
/// an attempt is decided on.
pub fn request(bytes: &[u8]) {
    let Ok(target) = std::str::from_utf8(bytes) else { return };
    let path = target.split('?').next().unwrap();
    let canonical = Reading::of(path).and_then(|reading| reading.under(Tolerance::default()));
    if let Ok(canonical) = &canonical {
        let text = canonical.as_str();
        let again = Reading::of(text).and_then(|reading| reading.under(Tolerance::default()));
        assert_eq!(again.as_ref().map(|path| path.as_str()), Ok(text), "it is its own");
        assert!(text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
        assert!(
            !text.contains(['\\', ';', '#', '?']) && !text.contains("//") && !text.contains("%25"),
            "{text}"
        );
        assert!(!text.split('/').any(|segment| matches!(segment, "." | "..")), "{text}");
    }
    let Ok(uri) = Uri::try_from(target) else { return };
    // The library cuts a fragment off; what is left is what counts.
    let left = Reading::of(uri.path()).and_then(|reading| reading.under(Tolerance::default()));
    let Ok(request) =
        Request::builder().method(Method::GET).uri(uri).header("host", "app.example.com").body(())
    else {
        return;
    };
    let (head, ()) = request.into_parts();
    let connection = Connection::without_certificate("192.0.2.1:7".parse().unwrap(), None);
    let rules = ReadRules { routes: &ROUTES, trusted: &TrustedProxies::default(), target_bytes: 8_192 };
    let attempt = Attempt::read(&head, &connection, &rules, 7);
    if let Ok(access) = &attempt.access {
        assert_eq!(Ok(&access.path), left.as_ref(), "decided is what was read");
    }
}

static ROUTES: LazyLock<Routes> = LazyLock::new(|| {
    Routes::new([Route {
        service: "app".into(),
        hosts: vec![HostPattern::Any],
        prefix: "/".into(),
        rewrite: None,
        tolerance: Tolerance::default(),
        preflights: Preflights::Off,
        certificates: Default::default(),
        recording: Default::default(),
    }])
});

/// No bytes without the issuer's signature prove anybody.
pub fn token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let identity = TOKENS.with(|(runtime, authn)| runtime.block_on(authn.identify_token(&text)));
    assert!(matches!(identity, Identity::Failed(_)), "{identity:?}");
}

thread_local! {
    static TOKENS: (tokio::runtime::Runtime, Authn) = {
        let file = tempfile::NamedTempFile::new().unwrap();
        // The example key of RFC 7517 appendix A.1.
        let keys = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
        std::fs::write(file.path(), keys).unwrap();
        let issuer = Issuer {
            name: "main".into(),
            issuer: "i".into(),
            audiences: vec!["a".into()],
            algorithms: vec![Algorithm::Es256],
            keys: KeySource::File(PathBuf::from(file.path())),
            refresh: std::time::Duration::from_secs(600),
            max_stale: std::time::Duration::from_secs(600),
            subject_claim: "sub".into(),
            roles_claim: "roles".into(),
            roles: Vec::new(),
            primary: true,
        };
        let authn = Authn::new(vec![issuer], AuthnLimits::default(), Clock::system()).unwrap();
        (tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(), authn)
    };
}

/// Rows and models of any bytes are loaded or refused, and what is loaded answers without a panic and allows nobody that
/// no row names.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let rows = Text { name: "policy.csv".into(), text: text.to_owned() };
    let model = Text { name: "model.conf".into(), text: MODEL.to_owned() };
    if let Ok(policy) = Policy::load_text(&model, &[rows], PathForms::default()) {
        for (user, path) in
            [("user:alice", "/public/x"), ("anonymous", "/"), ("user:nobody-names-me", "/a/b")]
        {
            let question = Question {
                user,
                roles: &["role:viewer".to_owned()],
                service: "app",
                path,
                method: "GET",
                host: "app.example.com",
                ip: "192.0.2.1".parse().unwrap(),
            };
            let verdict = policy.decide(&question);
            assert!(
                !matches!(verdict, Verdict::Allow { .. }) || text.contains("allow"),
                "an allow out of nothing: {verdict:?}"
            );
        }
    }
    // And as a model.
    let model = Text { name: "model.conf".into(), text: text.to_owned() };
    let rows = Text { name: "policy.csv".into(), text: "p, user:alice, app, /x, GET, allow\n".to_owned() };
    let _ = Policy::load_text(&model, &[rows], PathForms::default());
}

const MODEL: &str = include_str!("../../policies/model.conf");

/// Whatever a call brings, its record is one line of JSON within its bound that reads back; and whatever stands in a
/// store is read or refused.
pub fn record(bytes: &[u8]) {
    let _ = (Head::parse(bytes), Record::parse(bytes));
    let text = String::from_utf8_lossy(bytes);
    let pieces: Vec<&[u8]> = bytes.split(|byte| *byte == b'&').collect();
    let entry = DecisionEntry {
        decision: &Decision::deny(Reason::NoMatch, None),
        epochs: Epochs { policy: Hash::ZERO, config: Hash::ZERO },
        identity: &Identity::Anonymous,
        certificate: None,
        client: ClientEntry { ip: "192.0.2.1".parse().unwrap(), port: 7, via: None, tls: None },
        request: RequestEntry {
            id: "1",
            service: Some("app"),
            method: "GET",
            host: Some(bytes),
            path: Some(Shown::Whole(text.as_bytes())),
            target: Some(Shown::Whole(bytes)),
            query: &pieces,
            user_agent: Some(bytes),
            trace_id: None,
            head: None,
            tag: None,
        },
        detail: Detail::Standard,
        outcome_follows: true,
    };
    let mut out = Vec::new();
    let time = Timestamp::from_micros(1_700_000_000_000_000);
    let leaf = record::seal(3, &Hash::ZERO, time, &Body::decision(&entry), &mut out);
    assert!(out.len() <= MAX_RECORD_BYTES && out.iter().all(|byte| (0x20..=0x7e).contains(byte)));
    assert_eq!(leaf, Hash::leaf(&out));
    let read = Record::parse(&out).unwrap();
    assert_eq!((read.head().index, read.head().time), (3, time));
    if text.len() < 4_000 && text.as_bytes() == bytes {
        assert_eq!(read.text(&["request", "path"]), Some(&*text), "a text that is whole reads back");
    }
}

/// No bytes without the key's signature are a checkpoint.
pub fn note(bytes: &[u8]) {
    let _ = Note::parse(bytes);
    let genuine = KEY.sign(7, &Hash::of(b"root"));
    match Checkpoint::open(bytes, &KEY.verifier()) {
        // Signatures of others may stand beside it; what is signed is the same.
        Ok(checkpoint) => assert_eq!((checkpoint.size(), checkpoint.root()), (7, Hash::of(b"root"))),
        Err(_) => assert_ne!(bytes, genuine.as_bytes()),
    }
}

static KEY: LazyLock<Arc<SigningKey>> =
    LazyLock::new(|| Arc::new(SigningKey::from_seed(Origin::parse("fuzz.example/log").unwrap(), &[7; 32])));

/// A config is read or refused, the same each time, and with a message that names a place.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = || Settings::read(text, Path::new("etc/gate.toml"), &Environment::empty());
    match (read(), read()) {
        (Ok(one), Ok(other)) => assert_eq!(one.epoch(), other.epoch()),
        (Err(one), Err(other)) => {
            assert_eq!(one.to_string(), other.to_string());
            assert!(one.to_string().contains("etc/gate.toml"), "{one}");
        }
        _ => panic!("read in two ways"),
    }
}
