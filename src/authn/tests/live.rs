use std::pin::pin;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use super::testing::*;
use super::*;
use CredentialFault::*;

/// Authentication by keys from a server, with the keys looked at in the background.
struct Live {
    authn: Arc<Authn>,
    clock: Clock,
    /// Dropping it stops the looking.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Live {
    async fn start(server: &KeyServer) -> Self {
        let live = Self::start_unready(server);
        live.settled().await;
        live
    }

    fn start_unready(server: &KeyServer) -> Self {
        let clock = Clock::manual(at(NOW));
        // Only a failing test waits as long as this.
        let limits = AuthnLimits { key_wait: Duration::from_secs(60), ..AuthnLimits::default() };
        let authn = Authn::new(vec![issuer(server.source())], limits, clock.clone()).unwrap();
        let authn = Arc::new(authn);
        let (stop, stopped) = oneshot::channel();
        let task = authn.spawn_refresh(async {
            let _ = stopped.await;
        });
        Self { authn, clock, stop, task }
    }

    /// Waits for the look under way, if any, or the first.
    async fn settled(&self) {
        let mut patience = self.authn.trusted[0].keyring.patience(Duration::from_secs(60));
        while !patience.newer_keys().await && !self.authn.keys()[0].usable {
            yield_now().await;
            patience = self.authn.trusted[0].keyring.patience(Duration::from_secs(60));
        }
    }

    /// Lets the gap between two looks pass.
    fn later(&self, seconds: i64) {
        self.clock.pass_to(at(self.clock.now().as_secs() + seconds));
    }

    async fn caller(&self, token: &str) -> Arc<Caller> {
        caller(&self.authn, token).await
    }

    async fn fault(&self, token: &str) -> CredentialFault {
        fault(&self.authn, token).await
    }
}

fn lasting(sub: &str) -> serde_json::Value {
    with(claims(sub), "exp", json!(NOW + 100_000_000))
}

#[tokio::test]
async fn no_identification_fails_while_keys_are_rotated() {
    let mut old = Signer::es256("k0");
    let server = KeyServer::start(&key_set(&[&old])).await;
    let live = Live::start(&server).await;
    for round in 1..=5 {
        live.later(10);
        let new = Signer::new(
            if round % 2 == 0 { Algorithm::EdDsa } else { Algorithm::Rs256 },
            &format!("k{round}"),
        );
        server.publish(&key_set(&[&old, &new]));
        // From here on tokens of both keys come, many at a time, and none remembered.
        let mut calls = JoinSet::new();
        for n in 0..100 {
            let authn = Arc::clone(&live.authn);
            let token = (if n % 2 == 0 { &old } else { &new }).token(&lasting(&format!("u{round}-{n}")));
            calls.spawn(async move { caller(&authn, &token).await.user.clone() });
        }
        let users = calls.join_all().await;
        assert_eq!(users.len(), 100);
        // One look found the new key for all of them.
        assert_eq!(server.requests(), 1 + round);
        old = new;
    }
}

#[tokio::test]
async fn a_withdrawn_key_proves_nobody_once_the_set_is_refreshed_remembered_or_not() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let server = KeyServer::start(&key_set(&[&old])).await;
    let live = Live::start(&server).await;
    let token = old.token(&lasting("alice"));
    live.caller(&token).await;
    server.publish(&key_set(&[&new]));
    live.later(10);
    live.caller(&new.token(&lasting("alice"))).await;
    assert_eq!(live.fault(&token).await, UnknownKey);
}

#[tokio::test]
async fn a_thousand_unknown_keys_cause_one_look_in_each_gap() {
    let signer = Signer::es256("k1");
    let server = KeyServer::start(&key_set(&[&signer])).await;
    let live = Live::start(&server).await;
    let stranger = Signer::es256("x");
    let tokens: Vec<String> = (0..1000)
        .map(|n| stranger.token_with(&json!({"alg": "ES256", "kid": format!("../../{n}")}), &claims("a")))
        .collect();
    // One of theirs beside the scheduled one, and within the gap after it none at all.
    for token in &tokens {
        assert_eq!(live.fault(token).await, UnknownKey);
    }
    assert_eq!(server.requests(), 2);
    // After it: one, however many ask at once or after one another.
    for looks in 3..=5 {
        live.later(10);
        let mut calls = JoinSet::new();
        for token in tokens.clone() {
            let authn = Arc::clone(&live.authn);
            calls.spawn(async move { fault(&authn, &token).await });
        }
        assert!(calls.join_all().await.iter().all(|fault| *fault == UnknownKey));
        for token in tokens.iter().take(10) {
            assert_eq!(live.fault(token).await, UnknownKey);
        }
        assert_eq!(server.requests(), looks);
    }
    // Tokens of known keys were never held up.
    live.caller(&signer.token(&claims("alice"))).await;
}

#[tokio::test]
async fn a_key_that_is_published_just_after_a_scheduled_look_need_not_wait() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let server = KeyServer::start(&key_set(&[&old])).await;
    let live = Live::start(&server).await;
    server.publish(&key_set(&[&old, &new]));
    live.caller(&new.token(&lasting("alice"))).await;
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn one_call_causes_at_most_one_look_even_where_no_gap_is_configured() {
    let signer = Signer::es256("k1");
    let server = KeyServer::start(&key_set(&[&signer])).await;
    let day = Duration::from_secs(86_400);
    let limits = AuthnLimits { refresh_gap: Duration::ZERO, key_wait: day, ..AuthnLimits::default() };
    let authn = Authn::new(vec![issuer(server.source())], limits, Clock::manual(at(NOW))).unwrap();
    let authn = Arc::new(authn);
    let _refresh = authn.spawn_refresh(std::future::pending());
    caller(&authn, &signer.token(&claims("alice"))).await;
    assert_eq!(server.requests(), 1);
    let stranger = Signer::es256("x").token(&claims("a"));
    let call = authn.identify_token(&stranger);
    let fault = tokio::time::timeout(Duration::from_secs(10), call).await;
    assert!(matches!(fault, Ok(Identity::Failed(UnknownKey))), "{fault:?}");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn old_keys_go_on_while_the_issuer_is_away_and_then_no_longer() {
    let signer = Signer::es256("k1");
    let server = KeyServer::start(&key_set(&[&signer])).await;
    let live = Live::start(&server).await;
    let remembered = signer.token(&lasting("alice"));
    live.caller(&remembered).await;
    server.die().await;
    live.later(3600);
    // The unknown key causes a look, which fails.
    assert_eq!(live.fault(&Signer::es256("x").token(&lasting("a"))).await, UnknownKey);
    let status = &live.authn.keys()[0];
    assert!(status.last_failure.as_ref().is_some_and(|failure| failure.contains("refused")), "{status:?}");
    assert_eq!((status.usable, status.keys, status.seen), (true, 1, Some(at(NOW))));
    live.caller(&remembered).await;
    live.caller(&signer.token(&lasting("bob"))).await;
    live.clock.pass_to(at(NOW + 86_399));
    live.caller(&signer.token(&lasting("carol"))).await;
    live.clock.pass_to(at(NOW + 86_400));
    assert_eq!(live.fault(&remembered).await, KeysUnavailable);
    assert_eq!(live.fault(&signer.token(&lasting("dave"))).await, KeysUnavailable);
    assert!(!live.authn.keys()[0].usable);
}

#[tokio::test]
async fn stale_keys_come_back_with_the_issuer() {
    let signer = Signer::es256("k1");
    let server = KeyServer::start(&key_set(&[&signer])).await;
    let live = Live::start(&server).await;
    server.respond("500 Internal Server Error", "", "");
    live.later(86_400);
    let token = signer.token(&lasting("alice"));
    assert_eq!(live.fault(&token).await, KeysUnavailable);
    server.publish(&key_set(&[&signer]));
    // Within the gap nobody asks again.
    assert_eq!(live.fault(&token).await, KeysUnavailable);
    live.later(10);
    live.caller(&token).await;
}

#[tokio::test]
async fn an_answer_that_is_no_key_set_changes_nothing() {
    let (signer, other) = (Signer::es256("k1"), Signer::es256("k2"));
    let server = KeyServer::start(&key_set(&[&signer])).await;
    let elsewhere = KeyServer::start(&key_set(&[&other])).await;
    let KeySource::Url { url, .. } = elsewhere.source() else { unreachable!() };
    let live = Live::start(&server).await;
    let keys = key_set(&[&other]);
    let huge = format!("{{\"pad\":\"{}\",{}", "x".repeat(1024 * 1024), &keys[1..]);
    let location = format!("Location: {url}\r\n");
    let cases = [
        ("302 Found", location.as_str(), keys.as_str(), "redirect"),
        ("308 Permanent Redirect", &location, &keys, "redirect"),
        ("404 Not Found", "", &keys, "404"),
        ("503 Service Unavailable", "", &keys, "503"),
        ("206 Partial Content", "", &keys, "206"),
        ("200 OK", "Content-Encoding: gzip\r\n", &keys, "Content-Encoding"),
        ("200 OK", "", "<html>", "not a JSON Web Key Set"),
        ("200 OK", "", "{}", "not a JSON Web Key Set"),
        ("200 OK", "", "", "not a JSON Web Key Set"),
        ("200 OK", "", &huge, "larger than 1024 KiB"),
        ("200 OK", "Transfer-Encoding: chunked\r\n", "zz", "exchange failed"),
    ];
    for (status, headers, body, expected) in cases {
        server.respond(status, headers, body);
        live.later(10);
        let before = server.requests();
        assert_eq!(live.fault(&other.token(&lasting("mallory"))).await, UnknownKey, "{status} {expected}");
        assert_eq!(server.requests(), before + 1);
        let failure = live.authn.keys()[0].last_failure.clone().unwrap_or_default();
        assert!(failure.contains(expected) || failure.contains("broke off"), "{status}: {failure}");
        live.caller(&signer.token(&lasting(expected))).await;
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn keys_come_over_tls_from_whom_the_ca_file_trusts_and_nobody_else() {
    let signer = Signer::es256("k1");
    let (server, _dir, ca) = KeyServer::start_tls(&key_set(&[&signer])).await;
    let (_other_server, _other_dir, other_ca) = KeyServer::start_tls("{}").await;
    let KeySource::Url { url, .. } = server.source() else { unreachable!() };
    let token = signer.token(&claims("alice"));
    for (ca_file, expected) in [(ca, None), (other_ca, Some(KeysUnavailable))] {
        let keys = KeySource::Url { url: url.clone(), ca_file: Some(ca_file) };
        let clock = Clock::manual(at(NOW));
        let authn = Arc::new(Authn::new(vec![issuer(keys)], AuthnLimits::default(), clock).unwrap());
        let _refresh = authn.spawn_refresh(std::future::pending());
        match expected {
            None => drop(caller(&authn, &token).await),
            Some(expected) => {
                assert_eq!(fault(&authn, &token).await, expected);
                let failure = authn.keys()[0].last_failure.clone().unwrap();
                assert!(failure.contains("TLS with localhost"), "{failure}");
            }
        }
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn an_issuer_that_withdraws_all_keys_is_taken_at_its_word() {
    let signer = Signer::es256("k1");
    let server = KeyServer::start(&key_set(&[&signer])).await;
    let live = Live::start(&server).await;
    live.caller(&signer.token(&lasting("alice"))).await;
    server.publish(r#"{"keys":[]}"#);
    live.later(10);
    assert_eq!(live.fault(&Signer::es256("x").token(&lasting("a"))).await, UnknownKey);
    assert_eq!(live.fault(&signer.token(&lasting("alice"))).await, UnknownKey);
}

#[tokio::test]
async fn a_look_outlives_the_call_that_caused_it() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let server = KeyServer::start(&key_set(&[&old])).await;
    let live = Live::start(&server).await;
    server.publish(&key_set(&[&old, &new]));
    server.hold();
    live.later(10);
    let token = new.token(&lasting("alice"));
    {
        // The client goes away once its look has reached the server.
        let mut call = pin!(live.authn.identify_token(&token));
        let reached = async {
            while server.requests() < 2 {
                yield_now().await;
            }
        };
        tokio::select! {
            identity = &mut call => panic!("{identity:?} before the keys were there"),
            () = reached => {}
        }
    }
    server.release();
    // The next one joins it: no further look, and within the gap none would be allowed.
    live.caller(&token).await;
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_call_waits_no_longer_than_it_may() {
    let signer = Signer::es256("k1");
    let server = KeyServer::start(&key_set(&[&signer])).await;
    server.hold();
    let limits = AuthnLimits { key_wait: Duration::from_millis(20), ..AuthnLimits::default() };
    let authn = Authn::new(vec![issuer(server.source())], limits, Clock::manual(at(NOW))).unwrap();
    let authn = Arc::new(authn);
    // Nobody looks yet: no use in waiting.
    let token = signer.token(&lasting("alice"));
    assert_eq!(fault(&authn, &token).await, KeysUnavailable);
    let _refresh = authn.spawn_refresh(std::future::pending());
    while server.requests() == 0 {
        yield_now().await;
    }
    assert_eq!(fault(&authn, &token).await, KeysUnavailable);
}

#[tokio::test]
async fn tokens_that_come_before_the_first_keys_wait_for_them() {
    let signer = Signer::es256("k1");
    let server = KeyServer::start(&key_set(&[&signer])).await;
    server.hold();
    let live = Live::start_unready(&server);
    while server.requests() == 0 {
        yield_now().await;
    }
    let token = signer.token(&lasting("alice"));
    let (caller, ()) = tokio::join!(live.caller(&token), async { server.release() });
    assert_eq!(caller.user, "user:alice");
}

#[tokio::test]
async fn refreshing_ends_when_told_and_lets_go_whoever_waits() {
    let signer = Signer::es256("k1");
    let server = KeyServer::start(&key_set(&[&signer])).await;
    server.hold();
    let Live { authn, clock, stop, task } = Live::start_unready(&server);
    while server.requests() == 0 {
        yield_now().await;
    }
    let token = signer.token(&lasting("alice"));
    let (fault, ended) = tokio::join!(fault(&authn, &token), async {
        drop(stop);
        task.await
    });
    assert_eq!(fault, KeysUnavailable);
    ended.unwrap();
    // Nobody would look any more, so the next call does not wait at all.
    clock.pass_to(at(NOW + 10));
    let next = authn.identify_token(&token);
    let next = tokio::time::timeout(Duration::from_secs(10), next).await;
    assert!(matches!(next, Ok(Identity::Failed(KeysUnavailable))), "{next:?}");
}

#[tokio::test]
async fn a_new_configuration_takes_over_the_keys_of_the_old() {
    let signer = Signer::es256("k1");
    let server = KeyServer::start(&key_set(&[&signer])).await;
    let live = Live::start(&server).await;
    let new = |issuer| Authn::new(vec![issuer], AuthnLimits::default(), live.clock.clone()).unwrap();
    let token = signer.token(&lasting("alice"));
    let same = new(issuer(server.source()));
    assert_eq!(fault(&same, &token).await, KeysUnavailable);
    same.adopt_keys(&live.authn);
    caller(&same, &token).await;
    let elsewhere = KeyServer::start("{}").await;
    let other = new(issuer(elsewhere.source()));
    other.adopt_keys(&live.authn);
    assert_eq!(fault(&other, &token).await, KeysUnavailable);
}

#[test]
fn threads_with_runtimes_of_their_own_share_the_keys_that_one_runtime_refreshes() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let control = runtime();
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let (server, live) = control.block_on(async {
        let server = KeyServer::start(&key_set(&[&old])).await;
        let live = Live::start(&server).await;
        server.publish(&key_set(&[&old, &new]));
        live.later(10);
        (server, live)
    });
    let (done, mut finished) = tokio::sync::mpsc::channel::<()>(1);
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let (authn, old, new, done) = (Arc::clone(&live.authn), old.clone(), new.clone(), done.clone());
            std::thread::spawn(move || {
                runtime().block_on(async {
                    for n in 0..50 {
                        let signer = if n % 2 == 0 { &new } else { &old };
                        let token = signer.token(&lasting(&format!("u{worker}-{n}")));
                        assert_eq!(caller(&authn, &token).await.user, format!("user:u{worker}-{n}"));
                    }
                });
                drop(done);
            })
        })
        .collect();
    drop(done);
    control.block_on(finished.recv());
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_key_file_that_is_replaced_is_read_anew() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let file = published(&key_set(&[&old]));
    let clock = Clock::manual(at(NOW));
    let issuers = vec![issuer(KeySource::File(file.path().to_owned()))];
    let authn = Arc::new(Authn::new(issuers, AuthnLimits::default(), clock.clone()).unwrap());
    let _refresh = authn.spawn_refresh(std::future::pending());
    caller(&authn, &old.token(&claims("alice"))).await;
    std::fs::write(file.path(), key_set(&[&new])).unwrap();
    clock.pass_to(at(NOW + 10));
    caller(&authn, &new.token(&claims("alice"))).await;
    // A file that is torn or gone changes nothing.
    std::fs::write(file.path(), "{").unwrap();
    clock.pass_to(at(NOW + 20));
    assert_eq!(fault(&authn, &old.token(&claims("alice"))).await, UnknownKey);
    caller(&authn, &new.token(&claims("bob"))).await;
}
