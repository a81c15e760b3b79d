use serde_json::{Value, json};

use super::testing::*;
use super::*;
use CredentialFault::*;

const PARTNER: &str = "https://partner.example.com";

/// Two issuers, `main` (primary) and `partner`, with keys of the same `kid`.
fn two() -> (Authn, Signer, Signer, [tempfile::NamedTempFile; 2]) {
    let (main, partner) = (Signer::es256("k1"), Signer::es256("k1"));
    let files = [&main, &partner].map(|signer| published(&key_set(&[signer])));
    let [first, second] = [&files[0], &files[1]].map(|file| issuer(KeySource::File(file.path().to_owned())));
    let second = Issuer {
        name: "partner".to_owned(),
        issuer: PARTNER.to_owned(),
        primary: false,
        roles: vec!["guest".to_owned()],
        ..second
    };
    let authn = Authn::new(vec![first, second], AuthnLimits::default(), Clock::manual(at(NOW))).unwrap();
    (authn, main, partner, files)
}

fn from_partner(sub: &str) -> Value {
    with(claims(sub), "iss", json!(PARTNER))
}

#[tokio::test]
async fn callers_of_two_issuers_never_share_a_name() {
    let (authn, main, partner, _files) = two();
    assert_eq!(caller(&authn, &main.token(&claims("bob"))).await.user, "user:bob");
    let theirs = caller(&authn, &partner.token(&from_partner("bob"))).await;
    assert_eq!((theirs.user.as_str(), theirs.issuer.as_str()), ("user:partner:bob", "partner"));
    // A primary subject that would read as bob of partner.
    assert_eq!(fault(&authn, &main.token(&claims("partner:bob"))).await, BadClaims);
    assert_eq!(fault(&authn, &main.token(&claims("partner:"))).await, BadClaims);
    for sub in ["system:serviceaccount:default:web", "partner", "partners:bob", "main:bob", "x:partner:bob"] {
        assert_eq!(caller(&authn, &main.token(&claims(sub))).await.user, format!("user:{sub}"));
    }
    // The first colon ends the name, so whatever follows is the subject.
    let odd = caller(&authn, &partner.token(&from_partner("main:bob"))).await;
    assert_eq!(odd.user, "user:partner:main:bob");
}

#[tokio::test]
async fn one_issuers_key_proves_nothing_of_another() {
    let (authn, main, partner, _files) = two();
    assert_eq!(fault(&authn, &partner.token(&claims("bob"))).await, BadSignature);
    assert_eq!(fault(&authn, &main.token(&from_partner("bob"))).await, BadSignature);
}

#[tokio::test]
async fn each_issuer_grants_only_the_roles_it_may() {
    let (authn, main, partner, _files) = two();
    let roles = json!(["viewer", "guest", "admin", "viewer", "editor", "Viewer", "role:viewer", ""]);
    let ours = caller(&authn, &main.token(&with(claims("bob"), "roles", roles.clone()))).await;
    assert_eq!(ours.roles, ["role:viewer", "role:editor"]);
    let theirs = caller(&authn, &partner.token(&with(from_partner("bob"), "roles", roles))).await;
    assert_eq!(theirs.roles, ["role:guest"]);
}

#[tokio::test]
async fn roles_are_an_array_or_words_and_nothing_else() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::new(&[&signer]);
    let token = |roles: Value| {
        let mut claims = claims("alice");
        claims["roles"] = roles;
        signer.token(&claims)
    };
    let both = ["role:editor", "role:viewer"];
    assert_eq!(fixture.caller(&token(json!(["editor", "viewer"]))).await.roles, both);
    assert_eq!(fixture.caller(&token(json!("editor  viewer other "))).await.roles, both);
    for none in [json!([]), json!(""), json!(null)] {
        assert!(fixture.caller(&token(none)).await.roles.is_empty());
    }
    assert!(fixture.caller(&signer.token(&claims("alice"))).await.roles.is_empty());
    for wrong in [json!(7), json!(true), json!({"viewer": true}), json!(["viewer", 7]), json!([["viewer"]])] {
        assert_eq!(fixture.fault(&token(wrong.clone())).await, BadClaims, "{wrong}");
    }
}

#[tokio::test]
async fn subject_and_roles_come_from_the_claims_the_issuer_is_configured_with() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::adjusted(&key_set(&[&signer]), |issuer| {
        issuer.subject_claim = "https://example.com/user".to_owned();
        issuer.roles_claim = "realm_access.roles".to_owned();
    });
    let claims = claims("ignored");
    let claims = with(claims, "https://example.com/user", json!("alice"));
    let claims = with(claims, "realm_access", json!({"roles": ["viewer"]}));
    let caller = fixture.caller(&signer.token(&claims)).await;
    assert_eq!(
        (caller.user.as_str(), caller.roles.as_slice()),
        ("user:alice", &["role:viewer".to_owned()][..])
    );
}

#[test]
fn issuers_that_contradict_themselves_or_each_other_are_refused() {
    let file = published(&key_set(&[&Signer::es256("k1")]));
    let good = || issuer(KeySource::File(file.path().to_owned()));
    let second = || Issuer { name: "b".to_owned(), issuer: "b".to_owned(), primary: false, ..good() };
    let new = |issuers| Authn::new(issuers, AuthnLimits::default(), Clock::manual(at(NOW)));
    assert!(new(vec![good(), second()]).is_ok());
    assert!(new(vec![]).is_ok());
    let https = |url: &str, ca: Option<&str>| KeySource::Url {
        url: url.parse().unwrap(),
        ca_file: ca.map(Into::into),
    };
    let cases: Vec<(Vec<Issuer>, &str)> = vec![
        (vec![Issuer { name: "a:b".to_owned(), ..good() }], "must have no colon"),
        (vec![Issuer { name: String::new(), ..good() }], "must not be empty"),
        (vec![good(), Issuer { issuer: "b".to_owned(), ..good() }], "configured twice"),
        (vec![good(), Issuer { issuer: ISS.to_owned(), ..second() }], "belongs to another"),
        (vec![good(), Issuer { primary: true, ..second() }], "primary already"),
        (vec![Issuer { issuer: String::new(), ..good() }], "must be the `iss`"),
        (vec![Issuer { audiences: vec![], ..good() }], "at least one audience"),
        (vec![Issuer { audiences: vec![String::new()], ..good() }], "at least one audience"),
        (vec![Issuer { algorithms: vec![], ..good() }], "at least one algorithm"),
        (vec![Issuer { subject_claim: String::new(), ..good() }], "claims for subject"),
        (vec![Issuer { roles: vec!["a\n".to_owned()], ..good() }], "is not a role"),
        (vec![Issuer { max_stale: Duration::from_secs(1), ..good() }], "must be at least refresh"),
        (vec![Issuer { keys: KeySource::File("/nowhere/keys.json".into()), ..good() }], "/nowhere/keys.json"),
        (vec![Issuer { keys: https("ftp://x/", None), ..good() }], "must begin with http"),
        (vec![Issuer { keys: https("https://x/", Some("/nowhere/ca.pem")), ..good() }], "/nowhere/ca.pem"),
    ];
    for (issuers, expected) in cases {
        let Err(error) = new(issuers) else { panic!("accepted: {expected}") };
        assert!(error.to_string().contains(expected), "{error}");
    }
}
