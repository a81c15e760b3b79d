//! One call, asked of a policy as a gate would ask it: by those who have no request at hand, only its words.

use std::net::IpAddr;

use http::Method;

use super::decide::{EvaluationError, Policy, Question, Verdict};
use crate::access::attempt::is_forwarded;
use crate::access::path::{Reading, Tolerance};
use crate::access::{Decision, Malformed, Reason};

/// A call in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The caller's principal: `user:<name>` or `anonymous`.
    pub user: String,
    /// The roles the caller's credential grants, each `role:<name>`.
    pub roles: Vec<String>,
    /// The service.
    pub service: String,
    /// The method.
    pub method: String,
    /// The path, as a caller would send it.
    pub path: String,
    /// The host asked for, without a port.
    pub host: String,
    /// The client's address.
    pub ip: IpAddr,
}

/// What a call was answered.
#[derive(Debug)]
pub struct Answer {
    /// The gate's decision: the policy's, or a refusal before it is asked.
    pub decision: Decision,
    /// Why the policy had no answer, where it had none.
    pub error: Option<EvaluationError>,
}

impl Call {
    /// What a gate answers by `policy`, where the service allows `granted` in its paths. Whether the path leads to the
    /// service is not asked.
    pub fn ask(&self, policy: &Policy, granted: Tolerance) -> Answer {
        match self.read(granted) {
            Err(reason) => Answer { decision: Decision::deny(reason, None), error: None },
            Ok(path) => match policy.decide(&self.question(&path)) {
                Verdict::Failed(error) => {
                    Answer { decision: Decision::deny(Reason::PolicyError, None), error: Some(error) }
                }
                verdict => Answer { decision: verdict.into_decision(), error: None },
            },
        }
    }

    /// The canonical path.
    ///
    /// # Errors
    /// Why a gate refuses the call before any policy is asked.
    pub fn read(&self, granted: Tolerance) -> Result<String, Reason> {
        let forwarded = Method::from_bytes(self.method.as_bytes()).is_ok_and(|method| is_forwarded(&method));
        if !forwarded {
            return Err(Reason::MethodNotAllowed);
        }
        canonical(&self.path, granted).map_err(Reason::Malformed)
    }

    /// The question that the policy is asked, with `path` in its canonical form.
    pub fn question<'a>(&'a self, path: &'a str) -> Question<'a> {
        Question {
            user: &self.user,
            roles: &self.roles,
            service: &self.service,
            path,
            method: &self.method,
            host: &self.host,
            ip: self.ip,
        }
    }
}

/// The path of a target as a gate reads it, for a service that allows `granted`: without a query, in canonical form.
///
/// # Errors
/// Why the gate refuses it.
pub fn canonical(target: &str, granted: Tolerance) -> Result<String, Malformed> {
    let path = target.split('?').next().unwrap_or_default();
    Reading::of(path)?.under(granted).map(|path| path.as_str().to_owned())
}
