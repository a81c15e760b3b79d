//! The calls of the story, and the answer each must get.

use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};

use super::backstage::Backstage;
use super::client::{Client, Reply};
use super::stage::Stage;
use crate::cli::out::{Paint, printable};

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// What is to be seen.
    title: &'static str,
    /// Whose token it carries.
    credential: Credential,
    method: &'static str,
    /// The target, as sent.
    target: &'static str,
    /// Other headers, as sent.
    headers: &'static [&'static str],
    body: &'static str,
    /// The status it must get.
    status: u16,
    /// Whether it must reach the service behind the gate.
    forwarded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential {
    None,
    Of(&'static str),
    /// That person's token, with another person's name written into it.
    Forged(&'static str),
}

const ALLOWED: Call = Call {
    title: "",
    credential: Credential::None,
    method: "GET",
    target: "/",
    headers: &[],
    body: "",
    status: 200,
    forwarded: true,
};

const REFUSED: Call = Call { status: 403, forwarded: false, ..ALLOWED };

/// Through the front.
pub(super) const CALLS: &[Call] = &[
    Call { title: "Anybody may read what is public", target: "/public/welcome", ..ALLOWED },
    Call {
        title: "Alice, a viewer, may read. What she claims in headers does not reach the service",
        credential: Credential::Of("alice"),
        target: "/docs/intro",
        headers: &["X-Auth-Subject: user:root"],
        ..ALLOWED
    },
    Call {
        title: "She may not write. The refusal carries its record's number, and nothing about the policy",
        credential: Credential::Of("alice"),
        method: "PUT",
        target: "/docs/intro",
        body: "Alice was here",
        ..REFUSED
    },
    Call {
        title: "Bob is an administrator, so he may",
        credential: Credential::Of("bob"),
        method: "PUT",
        target: "/docs/intro",
        body: "Bob was here",
        ..ALLOWED
    },
    Call { title: "Without a token: who are you?", target: "/docs/intro", status: 401, ..REFUSED },
    Call {
        title: "Alice's token with Bob's name written into it: never mistaken for anonymous, either",
        credential: Credential::Forged("alice"),
        target: "/public/welcome",
        status: 401,
        ..REFUSED
    },
    Call {
        title: "A path that two programs could read in two ways is refused, not repaired",
        target: "/public/../admin",
        status: 400,
        ..REFUSED
    },
    Call {
        title: "And so is a slash in disguise",
        credential: Credential::Of("alice"),
        target: "/docs/..%2fadmin",
        status: 400,
        ..REFUSED
    },
];

/// To the admin API.
pub(super) const ADMIN_CALLS: &[Call] = &[
    Call {
        title: "Carol is an auditor: she may ask what Alice was refused",
        credential: Credential::Of("carol"),
        target: "/v1/records?subject=alice&decision=deny&limit=1",
        forwarded: false,
        ..ALLOWED
    },
    Call {
        title: "Bob administers the service, not the log",
        credential: Credential::Of("bob"),
        target: "/v1/records",
        ..REFUSED
    },
];

/// Makes calls and tells of them.
pub(super) struct Told<'a> {
    stage: &'a Stage,
    backstage: &'a Backstage,
    paint: Paint,
    number: usize,
    denied: Option<u64>,
    allowed: Option<u64>,
}

impl<'a> Told<'a> {
    pub(super) const fn new(stage: &'a Stage, backstage: &'a Backstage, paint: Paint) -> Self {
        Self { stage, backstage, paint, number: 0, denied: None, allowed: None }
    }

    /// The record of Alice's refused write.
    pub(super) fn denied(&self) -> Result<u64> {
        self.denied.context("no call was denied")
    }

    /// The record of Bob's write.
    pub(super) fn allowed(&self) -> Result<u64> {
        self.allowed.context("no write was allowed")
    }

    /// Makes the call, prints it, and holds the answer against what it must be.
    pub(super) fn make(&mut self, client: &Client, call: &Call) -> Result<()> {
        self.number += 1;
        let before = self.backstage.reached();
        let reply = client.call(&self.request(call)?).with_context(|| format!("call {}", self.number))?;
        self.print(call, &reply)?;
        let reached = self.backstage.reached() - before;
        let number = self.number;
        ensure!(
            reply.status == call.status,
            "call {number} should get {}, got {}",
            call.status,
            reply.status
        );
        ensure!(reached == u64::from(call.forwarded), "call {number} reached the service {reached} times");
        let index =
            index_of(&reply).with_context(|| format!("the answer to call {number} names no record"))?;
        match (call.credential, call.method) {
            (Credential::Of("alice"), "PUT") => self.denied = Some(index),
            (Credential::Of("bob"), "PUT") => self.allowed = Some(index),
            _ => {}
        }
        self.backstage.pause(std::time::Duration::ZERO)
    }

    fn request(&self, call: &Call) -> Result<String> {
        let mut request =
            format!("{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", call.method, call.target);
        if let Some(token) = self.token(call.credential)? {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        for header in call.headers {
            request.push_str(&format!("{header}\r\n"));
        }
        if !call.body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", call.body.len()));
        }
        Ok(format!("{request}\r\n{}", call.body))
    }

    fn token(&self, credential: Credential) -> Result<Option<String>> {
        Ok(match credential {
            Credential::None => None,
            Credential::Of(name) => Some(self.stage.token(name)?),
            Credential::Forged(name) => Some(forged(&self.stage.token(name)?, &self.stage.token("bob")?)?),
        })
    }

    fn print(&self, call: &Call, reply: &Reply) -> Result<()> {
        let (paint, mut out) = (self.paint, std::io::stdout().lock());
        writeln!(out, "{}. {}", self.number, call.title)?;
        writeln!(out, "   {} {} {}", paint.dim(">"), paint.bold(call.method), paint.bold(call.target))?;
        let bearer = match call.credential {
            Credential::None => None,
            Credential::Of(name) => Some(format!("Authorization: Bearer <{name}'s token>")),
            Credential::Forged(name) => Some(format!("Authorization: Bearer <{name}'s token, forged>")),
        };
        for line in bearer.iter().map(String::as_str).chain(call.headers.iter().copied()) {
            writeln!(out, "   {} {line}", paint.dim(">"))?;
        }
        if !call.body.is_empty() {
            writeln!(out, "   {} {}", paint.dim(">"), paint.dim(call.body))?;
        }
        let status = format!("{} {}", reply.status, reply.phrase);
        let status = if reply.status == 200 { paint.good(&status) } else { paint.bad(&status) };
        writeln!(out, "   {} {status}", paint.dim("<"))?;
        for (name, header) in
            [("Portcullis-Record", "portcullis-record"), ("WWW-Authenticate", "www-authenticate")]
        {
            if let Some(value) = reply.header(header) {
                writeln!(out, "   {} {name}: {}", paint.dim("<"), printable(value))?;
            }
        }
        for line in wrapped(&printable_lines(&reply.body)) {
            writeln!(out, "   {} {}", paint.dim("<"), paint.dim(&line))?;
        }
        Ok(writeln!(out)?)
    }
}

fn printable_lines(body: &str) -> Vec<String> {
    body.lines().map(printable).collect()
}

/// The first lines of a page of [`WIDTH`], long ones broken.
fn wrapped(lines: &[String]) -> Vec<String> {
    let mut page = Vec::new();
    for line in lines {
        let characters: Vec<char> = line.chars().collect();
        page.extend(characters.chunks(WIDTH).map(String::from_iter));
    }
    if page.len() > BODY_LINES {
        page.truncate(BODY_LINES - 1);
        page.push("...".to_owned());
    }
    page
}

/// A token of `ours` signature and `theirs` claims.
fn forged(ours: &str, theirs: &str) -> Result<String> {
    let (mut ours, mut theirs) = (ours.split('.'), theirs.split('.'));
    match (ours.next(), theirs.nth(1), ours.nth(1)) {
        (Some(header), Some(claims), Some(signature)) => Ok(format!("{header}.{claims}.{signature}")),
        _ => anyhow::bail!("a token has not three parts"),
    }
}

/// The index that the answer names.
fn index_of(reply: &Reply) -> Option<u64> {
    reply.header("portcullis-record")?.rsplit_once('/')?.1.parse().ok()
}

const BODY_LINES: usize = 6;
const WIDTH: usize = 90;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_token_has_other_claims_under_the_same_signature() {
        assert_eq!(forged("h.a.s", "h.b.t").unwrap(), "h.b.s");
        assert!(forged("h.a", "h.b.t").is_err());
    }

    #[test]
    fn long_bodies_are_broken_and_cut() {
        let page = wrapped(&["x".repeat(WIDTH + 1), "y".to_owned()]);
        assert_eq!(page, ["x".repeat(WIDTH), "x".to_owned(), "y".to_owned()]);
        let page = wrapped(&["x".repeat(WIDTH * BODY_LINES + 1)]);
        assert_eq!((page.len(), page.last().map(String::as_str)), (BODY_LINES, Some("...")));
    }

    #[test]
    fn titles_fit_the_page() {
        for call in CALLS.iter().chain(ADMIN_CALLS) {
            assert!(call.title.len() <= 90, "{}", call.title);
        }
    }
}
