use serde_json::json;

use super::testing::*;
use super::*;
use CredentialFault::*;

fn remembers(authn: &Authn, token: &str) -> bool {
    authn.remembered.find(&Hash::of(token.as_bytes())).is_some()
}

#[tokio::test]
async fn a_verified_token_is_remembered_and_a_failed_one_is_not() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::new(&[&signer]);
    let good = signer.token(&claims("alice"));
    let first = fixture.caller(&good).await;
    assert!(remembers(&fixture.authn, &good));
    assert!(Arc::ptr_eq(&first, &fixture.caller(&good).await));
    let expired = signer.token(&with(claims("alice"), "exp", json!(NOW - 60)));
    let forged = Signer::es256("k1").token(&claims("alice"));
    for (token, expected) in [(&expired, Expired), (&forged, BadSignature)] {
        assert_eq!(fixture.fault(token).await, expected);
        assert!(!remembers(&fixture.authn, token));
    }
    // Another token that begins alike is another token.
    assert_eq!(fixture.fault(&good[..good.len() - 2]).await, BadSignature);
}

#[tokio::test]
async fn a_remembered_token_holds_as_long_as_it_would_if_it_were_not() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::new(&[&signer]);
    let token = signer.token(&with(claims("alice"), "nbf", json!(NOW)));
    for (moment, expected) in [
        (NOW, None),
        (NOW - 30, None),
        (NOW - 31, Some(NotYetValid)),
        (NOW + 3629, None),
        (NOW + 3630, Some(Expired)),
        (NOW + 100_000, Some(KeysUnavailable)),
        (NOW + 1, None),
    ] {
        fixture.clock.pass_to(at(moment));
        // Twice: once perhaps remembered, once perhaps not.
        for _ in 0..2 {
            match (fixture.authn.identify_token(&token).await, expected) {
                (Identity::Proved(_), None) => assert!(remembers(&fixture.authn, &token)),
                (Identity::Failed(fault), Some(expected)) => assert_eq!(fault, expected, "at {moment}"),
                (other, _) => panic!("{other:?} at {moment}"),
            }
        }
    }
}

#[tokio::test]
async fn no_jump_of_the_clock_ends_or_prolongs_a_token() {
    let signer = Signer::es256("k1");
    let token = signer.token(&with(claims("alice"), "nbf", json!(NOW)));
    for remembered in [true, false] {
        let fixture = Fixture::new(&[&signer]);
        if remembered {
            fixture.caller(&token).await;
        }
        for jumped in [NOW + 10_000_000, NOW - 10_000_000, NOW + 3_700, NOW - 100] {
            fixture.clock.set(at(jumped));
            fixture.caller(&token).await;
        }
        // It has 3,630 seconds, whatever the clock on the wall says meanwhile.
        fixture.clock.set(at(NOW - 10_000_000));
        fixture.clock.pass_to(at(NOW - 10_000_000 + 3_600));
        fixture.caller(&token).await;
        fixture.clock.pass_to(at(NOW - 10_000_000 + 3_631));
        assert_eq!(fixture.fault(&token).await, Expired);
        fixture.clock.set(at(NOW));
        assert_eq!(fixture.fault(&token).await, Expired);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_forward_does_not_shut_out_tokens_issued_since() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::new(&[&signer]);
    let later = NOW + 3_000;
    let token = signer.token(&with(claims("alice"), "nbf", json!(later)));
    assert_eq!(fixture.fault(&token).await, NotYetValid);
    fixture.clock.set(at(later));
    fixture.caller(&token).await;
}

#[tokio::test]
async fn keys_older_than_max_stale_prove_nobody_remembered_or_not() {
    let signer = Signer::es256("k1");
    let fixture = Fixture::new(&[&signer]);
    let token = signer.token(&with(claims("alice"), "exp", json!(NOW + 10_000_000)));
    fixture.caller(&token).await;
    fixture.clock.pass_to(at(NOW + 86_399));
    fixture.caller(&token).await;
    fixture.clock.pass_to(at(NOW + 86_400));
    assert_eq!(fixture.fault(&token).await, KeysUnavailable);
}

#[tokio::test]
async fn nothing_is_remembered_where_the_configuration_says_so() {
    let signer = Signer::es256("k1");
    let file = published(&key_set(&[&signer]));
    let limits = AuthnLimits { remember: 0, ..AuthnLimits::default() };
    let issuers = vec![issuer(KeySource::File(file.path().to_owned()))];
    let authn = Authn::new(issuers, limits, Clock::manual(at(NOW))).unwrap();
    let token = signer.token(&claims("alice"));
    for _ in 0..2 {
        caller(&authn, &token).await;
        assert!(!remembers(&authn, &token));
    }
}
