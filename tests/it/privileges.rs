//! What the gate keeps to itself: its files, its key, its memory; and whom it asks for keys.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::gate::private;
use crate::support::{Act, Setup, Signer, Upstream, until};

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    found.push(dir.to_owned());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

#[test]
fn files_of_the_log_are_their_owners_alone_whatever_the_umask() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site_without_log();
    // As gates are started here, with a umask of 0.
    let created = std::process::Command::new("sh")
        .args(["-c", "umask 0 && exec \"$0\" audit create --config gate.toml", crate::support::gate::BINARY])
        .current_dir(site.path(""))
        .output()
        .unwrap();
    assert!(created.status.success(), "{created:?}");
    let private_all = || {
        for dir in ["log", "state"] {
            let mut found = Vec::new();
            walk(&site.path(dir), &mut found);
            assert!(found.len() > 1, "{dir} is empty");
            for path in found {
                // The gate may be about to remove what it no longer needs.
                let Ok(metadata) = path.metadata() else { continue };
                assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", path.display());
            }
        }
    };
    private_all();
    // A gate of old left them to everybody.
    let mut found = Vec::new();
    walk(&site.log_dir(), &mut found);
    for file in found.iter().filter(|path| path.is_file()) {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let gate = site.start();
    for _ in 0..20 {
        assert_eq!(gate.client().get("/public/x", None).status, 200);
    }
    private_all();
    gate.stop().verify();
    private_all();
}

#[test]
fn a_key_that_others_can_use_is_refused_with_what_to_do() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    for mode in [0o644, 0o640, 0o604, 0o660] {
        std::fs::set_permissions(site.path("log.pem"), std::fs::Permissions::from_mode(mode)).unwrap();
        let (status, said) = site.refuses_to_start();
        assert_eq!(status.code(), Some(2), "{mode:o}");
        assert!(said.contains("chmod 600") && said.contains("log.pem"), "{said}");
        let checked = site.command(&["check", "--config", "gate.toml"]);
        assert_eq!(checked.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&checked.stdout).contains("chmod 600"));
    }
    private(&site.path("log.pem"));
    site.start().stop().verify();
}

#[test]
fn the_key_is_in_no_message_answer_or_record() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).tls().site();
    let pems = ["log.pem", "key.pem"].map(|name| (name, std::fs::read_to_string(site.path(name)).unwrap()));
    // The lines of a PEM file, and its seed as any of the usual ways to print bytes would show it.
    let mut needles = Vec::new();
    for (_, pem) in &pems {
        let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let body = lines.concat();
        needles.extend(lines.iter().filter(|line| line.len() >= 16).map(|line| (*line).to_owned()));
        // The tail: heads of such files are alike.
        needles.push(body[body.len() - 24..].to_owned());
        use base64::Engine as _;
        let der = base64::engine::general_purpose::STANDARD.decode(&body).unwrap();
        let tail = &der[der.len() - 12..];
        needles.push(tail.iter().map(|byte| format!("{byte:02x}")).collect());
        needles.push(format!("{tail:?}").trim_matches(['[', ']']).to_owned());
    }
    let mut said = String::new();
    let gate = site.start();
    assert_eq!(gate.client().get("/public/x", None).status, 200);
    let token = Signer::usual().token("carol", &["auditor"]);
    for path in ["/v1/status", "/v1/policy", "/v1/records", "/checkpoint"] {
        said.push_str(gate.admin().get(path, Some(&token)).text());
    }
    for path in ["/metrics", "/readyz"] {
        said.push_str(gate.health().get(path, None).text());
    }
    // A config that names another key, and certificates that do not fit.
    gate.edit_config("key_file = \"log.pem\"", "key_file = \"key.pem\"");
    gate.signal("HUP");
    gate.record_where("the refusal", |record| record["kind"] == "config" && record["event"] == "refused");
    gate.edit_config("key_file = \"key.pem\"", "key_file = \"log.pem\"");
    std::fs::write(site.path("cert.pem"), &pems[1].1).unwrap();
    until("the other refusal", || {
        site.records()
            .iter()
            .filter(|record| record["kind"] == "config" && record["event"] == "refused")
            .count()
            == 2
    });
    gate.stop();
    said.push_str(&site.said());
    said.extend(site.records().iter().map(ToString::to_string));
    // Keys that are cut, swapped, twisted, or where something else is due.
    private(&site.path("key.pem"));
    for (name, pem) in &pems {
        for broken in [
            pem[..pem.len() - 40].to_owned(),
            pem.replacen("PRIVATE", "PUBLIC", 2),
            pem.replace("-----", "----"),
            pem.replacen("M", "!", 1),
            pems[usize::from(*name == "log.pem")].1.clone(),
        ] {
            std::fs::write(site.path(name), broken).unwrap();
            let checked = site.command(&["check", "--config", "gate.toml"]);
            assert_eq!(checked.status.code(), Some(1));
            said.push_str(&String::from_utf8_lossy(&checked.stdout));
            said.push_str(&String::from_utf8_lossy(&checked.stderr));
            said.push_str(&site.refuses_to_start().1);
        }
        std::fs::write(site.path(name), pem).unwrap();
    }
    assert!(said.contains("log.key_file"), "{said}");
    for needle in &needles {
        assert!(!said.contains(needle.as_str()), "a key is told: {needle}");
    }
}

#[test]
fn a_gate_leaves_no_core_file() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gate.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let figures: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(figures, ["0", "0"], "{core}");
    gate.stop();
}

#[test]
fn a_redirect_leads_the_gate_nowhere() {
    let elsewhere = Upstream::start(Act::Answer);
    let redirecting = Upstream::start(Act::Redirect(elsewhere.address));
    let issuer = format!(
        "[[issuer]]\nname = \"main\"\nissuer = \"{}\"\naudience = \"{}\"\nalgorithms = [\"ES256\"]\n\
         jwks_url = \"http://{}/keys\"\nroles = [\"viewer\"]\n",
        crate::support::tokens::ISSUER,
        crate::support::tokens::AUDIENCE,
        redirecting.address
    );
    // Neither to fetch keys…
    let gate = Setup::new(&redirecting).issuers(&issuer).start();
    let answer = gate.client().get("/public/x", Some(&Signer::usual().token("alice", &["viewer"])));
    assert_eq!(answer.status, 503);
    assert_eq!(gate.record(answer.record())["reason"], "credential_keys_unavailable");
    assert!(redirecting.seen().iter().any(|seen| seen.target == "/keys"), "it was asked");
    until("it to be told", || gate.said().contains("redirect"));
    // …nor for a call: the answer is the caller's to follow.
    let answer = gate.client().get("/public/x", None);
    assert_eq!(answer.status, 302);
    assert_eq!(elsewhere.count(), 0);
    gate.stop().verify();
}
