//! The decision: total, and synchronous but for policies too slow for that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::route::Preflights;
use crate::access::{Access, Attempt, CredentialFault, Decision, Identity, Reason};
use crate::policy::{Policy, Question, Verdict};

/// Decides attempts by one loaded policy.
#[derive(Clone)]
pub struct Gate {
    policy: Arc<Policy>,
    timeout: Duration,
    // Room for evaluations aside: what cannot begin waits here, where giving up leaves nothing behind.
    aside: Arc<Semaphore>,
}

impl Gate {
    /// A gate that asks `policy`, for at most `timeout` where it is asked off the reactor.
    pub fn new(policy: Arc<Policy>, timeout: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { policy, timeout, aside: Arc::new(Semaphore::new(cores)) }
    }

    /// The policy it asks.
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Decides. Whatever goes wrong on the way is a deny that says so.
    pub async fn decide(&self, attempt: &Attempt, identity: &Identity) -> Decision {
        let access = match &attempt.access {
            Ok(access) => access,
            Err(refusal) => return Decision::deny(refusal.reason, None),
        };
        // A service that requires a certificate has nothing forwarded to it without one, not even this.
        let bare = matches!(identity, Identity::Failed(CredentialFault::CertificateMissing));
        let answered = match access.route.preflights {
            Preflights::Off => false,
            Preflights::Forward => !bare,
            Preflights::Answer => true,
        };
        if attempt.preflight && answered {
            return Decision::allow(Reason::CorsPreflight, None);
        }
        let (user, roles): (&str, &[String]) = match identity {
            Identity::Anonymous => (ANONYMOUS, &[]),
            Identity::Proved(caller) => (&caller.user, &caller.roles),
            Identity::Failed(fault) => return Decision::deny(Reason::Credential(*fault), None),
        };
        if self.policy.is_compiled() || self.policy.probe_cost() <= QUICK {
            return ask(&self.policy, &question(attempt, access, user, roles));
        }
        // Boxed, since a call's state has room for it else, used or not.
        Box::pin(self.decide_aside(attempt, access, identity)).await
    }

    /// Asks a slow policy on a thread where it holds nobody else up.
    async fn decide_aside(&self, attempt: &Attempt, access: &Access, identity: &Identity) -> Decision {
        let policy = Arc::clone(&self.policy);
        let (access, identity, ip) = (access.clone(), identity.clone(), attempt.client.ip);
        let aside = Arc::clone(&self.aside);
        let evaluate = move |room: OwnedSemaphorePermit| {
            let _room = room;
            let (user, roles): (&str, &[String]) = match &identity {
                Identity::Proved(caller) => (&caller.user, &caller.roles),
                Identity::Anonymous | Identity::Failed(_) => (ANONYMOUS, &[]),
            };
            ask(&policy, &question_of(&access, ip, user, roles))
        };
        let asked = async {
            let room = aside.acquire_owned().await.ok()?;
            tokio::task::spawn_blocking(move || evaluate(room)).await.ok()
        };
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(Some(decision)) => decision,
            Ok(None) => Decision::deny(Reason::Internal, None),
            Err(_) => Decision::deny(Reason::PolicyTimeout, None),
        }
    }
}

fn question<'a>(attempt: &Attempt, access: &'a Access, user: &'a str, roles: &'a [String]) -> Question<'a> {
    question_of(access, attempt.client.ip, user, roles)
}

fn question_of<'a>(
    access: &'a Access,
    ip: std::net::IpAddr,
    user: &'a str,
    roles: &'a [String],
) -> Question<'a> {
    Question {
        user,
        roles,
        service: &access.route.service,
        path: access.path.as_str(),
        method: access.method.as_str(),
        host: access.host.name(),
        ip,
    }
}

fn ask(policy: &Policy, question: &Question<'_>) -> Decision {
    match catch_unwind(AssertUnwindSafe(|| policy.decide(question))) {
        Ok(verdict) => {
            if let Verdict::Failed(error) = &verdict {
                tracing::error!(%error, "the policy could not be evaluated");
            }
            verdict.into_decision()
        }
        Err(_) => Decision::deny(Reason::Internal, None),
    }
}

/// The principal of a caller without credential.
pub const ANONYMOUS: &str = "anonymous";

/// A policy that is not compiled and answers its slowest probe within this is asked where it stands; a slower one on a thread aside.
const QUICK: Duration = Duration::from_micros(500);
