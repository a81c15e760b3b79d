//! A table of expected answers, one case a line, columns parted by blanks:
//!
//! ```text
//! # answer  caller       roles        service  method  path        [ip]
//! allow     user:alice   role:viewer  app      GET     /docs/a
//! deny      anonymous    -            app      GET     /reports/q1
//! ```
//!
//! Roles are parted by commas, `-` where there are none. Lines beginning with `#` and blank lines are passed over.

use std::net::{IpAddr, Ipv4Addr};

use super::decide::{Policy, Question, Verdict};
use super::rows::lines;

/// One expected answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its line, from 1.
    pub line: u32,
    /// Whether the call should be allowed.
    pub allow: bool,
    /// The caller's principal.
    pub user: String,
    /// The roles the caller's credential grants.
    pub roles: Vec<String>,
    /// The service.
    pub service: String,
    /// The method.
    pub method: String,
    /// The canonical path.
    pub path: String,
    /// The client's address, 127.0.0.1 unless given.
    pub ip: IpAddr,
}

/// Why a table of cases could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CasesError {
    /// A line with too few or too many columns.
    #[error("line {0}: expected: allow|deny caller roles|- service method path [ip]")]
    Columns(u32),
    /// An answer other than allow or deny.
    #[error("line {0}: the answer is allow or deny, not `{1}`")]
    Answer(u32, String),
    /// An address that is none.
    #[error("line {0}: `{1}` is not an IP address")]
    Ip(u32, String),
}

impl Case {
    /// Reads a table.
    ///
    /// # Errors
    /// The first line that is not a case.
    pub fn read(text: &str) -> Result<Vec<Self>, CasesError> {
        lines(text)
            .map(|(line, content)| (line, content.trim()))
            .filter(|(_, content)| !content.is_empty() && !content.starts_with('#'))
            .map(|(line, content)| Self::parse(line, content))
            .collect()
    }

    fn parse(line: u32, content: &str) -> Result<Self, CasesError> {
        let columns: Vec<&str> = content.split_whitespace().collect();
        let (answer, user, roles, service, method, path, ip) = match *columns.as_slice() {
            [answer, user, roles, service, method, path] => {
                (answer, user, roles, service, method, path, None)
            }
            [answer, user, roles, service, method, path, ip] => {
                (answer, user, roles, service, method, path, Some(ip))
            }
            _ => return Err(CasesError::Columns(line)),
        };
        let allow = match answer {
            "allow" => true,
            "deny" => false,
            other => return Err(CasesError::Answer(line, other.to_owned())),
        };
        let ip = match ip {
            Some(ip) => ip.parse().map_err(|_| CasesError::Ip(line, ip.to_owned()))?,
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        Ok(Self {
            line,
            allow,
            user: user.to_owned(),
            roles: roles.split(',').filter(|role| *role != "-").map(str::to_owned).collect(),
            service: service.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            ip,
        })
    }

    /// What `policy` answers.
    pub fn ask(&self, policy: &Policy) -> Verdict {
        policy.decide(&Question {
            user: &self.user,
            roles: &self.roles,
            service: &self.service,
            path: &self.path,
            method: &self.method,
            host: "",
            ip: self.ip,
        })
    }

    /// Whether `policy` answers as expected. A policy that fails does not, whatever is expected.
    pub fn holds(&self, policy: &Policy) -> bool {
        match self.ask(policy) {
            Verdict::Allow { .. } => self.allow,
            Verdict::Deny { .. } => !self.allow,
            Verdict::Failed(_) => false,
        }
    }
}
