//! Client certificates: what a service asks of them, and what one that was shown says.

use std::sync::{Arc, Mutex, PoisonError};

use super::identity::{Caller, CredentialFault};
use crate::audit::hash::Hash;
use crate::clock::Timestamp;

/// What a service asks of its callers' certificates. The order is that of strictness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing: none is asked for, and none is looked at.
    #[default]
    Off,
    /// One that is shown must hold.
    Optional,
    /// Nobody passes without one.
    Required,
}

/// Which credential says who calls, where a certificate and a token were both shown. Where only one was, it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubjectFrom {
    /// The token.
    #[default]
    Token,
    /// The certificate.
    Certificate,
}

/// What a service does with certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// What it asks of them.
    pub need: Need,
    /// What they count for beside a token.
    pub subject_from: SubjectFrom,
}

/// A certificate that a caller showed, with proof of its key, when its connection began. It is read once.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The chain as shown, DER, the caller's own first; at least that one.
    pub chain: Vec<Vec<u8>>,
    /// SHA-256 over the caller's own, DER.
    pub fingerprint: Hash,
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// The names it is made out to.
    pub names: Names,
    /// When it ceases to hold.
    pub expires: Timestamp,
    proof: Mutex<Option<Proof>>,
}

/// The names that a certificate is made out to, of the kinds that can name a caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// URIs among its subject alternative names.
    pub uris: Vec<String>,
    /// DNS names among them.
    pub dns: Vec<String>,
    /// The common names of its subject.
    pub common: Vec<String>,
}

/// Whom a certificate proves, by those who vouched for it at a moment.
#[derive(Clone, Debug)]
struct Proof {
    by: u64,
    at: Timestamp,
    proved: Result<Arc<Caller>, CredentialFault>,
}

impl ClientCertificate {
    /// What has been read of `chain`; nobody is proved by it yet.
    pub const fn new(
        chain: Vec<Vec<u8>>,
        fingerprint: Hash,
        serial: String,
        names: Names,
        expires: Timestamp,
    ) -> Self {
        Self { chain, fingerprint, serial, names, expires, proof: Mutex::new(None) }
    }

    /// Whom it proves: as found by the same ones (`by` is their number) less than a minute ago, or else by asking
    /// `prove` now.
    ///
    /// # Errors
    /// Why it proves nobody.
    pub fn proof(
        &self,
        by: u64,
        now: Timestamp,
        prove: impl FnOnce() -> Result<Arc<Caller>, CredentialFault>,
    ) -> Result<Arc<Caller>, CredentialFault> {
        let mut held = self.proof.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |proof: &Proof| now.as_micros().saturating_sub(proof.at.as_micros());
        match held.as_ref() {
            Some(proof) if proof.by == by && (0..FRESH_US).contains(&age(proof)) => proof.proved.clone(),
            _ => {
                let proved = prove();
                *held = Some(Proof { by, at: now, proved: proved.clone() });
                proved
            }
        }
    }
}

/// How long a proof is not asked for anew, microseconds: a list of revocations may run out meanwhile.
const FRESH_US: i64 = 60_000_000;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_proof_is_kept_for_a_minute_and_for_those_who_vouched() {
        let certificate = ClientCertificate::new(
            vec![vec![1]],
            Hash::ZERO,
            "01".into(),
            Names::default(),
            Timestamp::from_micros(0),
        );
        let asked = Cell::new(0);
        let ask = |by, at| {
            let _ = certificate.proof(by, Timestamp::from_micros(at), || {
                asked.set(asked.get() + 1);
                Err(CredentialFault::CertificateSubject)
            });
            asked.get()
        };
        assert_eq!(ask(1, 0), 1);
        assert_eq!(ask(1, FRESH_US - 1), 1, "still fresh");
        assert_eq!(ask(2, FRESH_US - 1), 2, "others vouch");
        assert_eq!(ask(2, 2 * FRESH_US), 3, "a minute is over");
        assert_eq!(ask(2, 0), 4, "the clock was set back");
    }
}
