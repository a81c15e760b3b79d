//! P5: no role, call, flag or command alters or deletes a record.

use crate::support::{Act, Setup, Signer, Site, Upstream, log};

#[test]
fn no_method_but_reading_does_anything_at_the_admin_api() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    gate.client().get("/public/x", None);
    let token = Signer::usual().token("carol", &["auditor"]);
    let before = log::stored(&gate.log_dir());
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        for path in ["/v1/records", "/v1/records/0", "/v1/policy", "/v1/status", "/checkpoint", "/v1/nothing"]
        {
            let answer = gate.admin().call(method, path, Some(&token), &[]);
            assert!(matches!(answer.status, 404 | 405), "{method} {path}: {}", answer.status);
            assert_eq!(gate.record(answer.record())["request"]["path"], path, "the attempt is on record");
        }
    }
    for method in ["CONNECT", "TRACE", "PURGE"] {
        let mut wire = crate::support::Wire::open(gate.admin);
        wire.send(format!(
            "{method} /v1/records/0 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
        ));
        assert!(matches!(wire.answer().unwrap().status, 400 | 405), "{method}");
    }
    let site = gate.stop();
    let after = log::stored(&site.log_dir());
    assert_eq!(after[..before.len()], before, "what was there is there, byte for byte");
    site.verify();
}

#[test]
fn no_command_writes_to_a_log_that_is_there() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let before = log::stored(&site.log_dir());
    let output = site.command(&["audit", "create", "--config", "gate.toml"]);
    assert_eq!(output.status.code(), Some(2));
    for arguments in [
        ["audit", "delete", "--config", "gate.toml"],
        ["audit", "edit", "--config", "gate.toml"],
        ["audit", "truncate", "--config", "gate.toml"],
    ] {
        assert_eq!(site.command(&arguments).status.code(), Some(2), "there is no such command");
    }
    assert_eq!(log::stored(&site.log_dir()), before);
}

#[test]
fn a_lost_log_is_not_begun_anew_under_its_origin() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    std::fs::rename(site.log_dir(), site.path("lost")).unwrap();
    refuses(&site, "has been used");
    // Nor by creating it: the mark says that there was one.
    let output = site.command(&["audit", "create", "--config", "gate.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!site.log_dir().exists());
    std::fs::rename(site.path("lost"), site.log_dir()).unwrap();
    site.start().stop().verify();
}

#[test]
fn a_gate_without_a_log_says_how_to_create_it() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site_without_log();
    refuses(&site, "portcullis audit create");
    assert_eq!(site.command(&["audit", "create", "--config", "gate.toml"]).status.code(), Some(0));
    site.start().stop().verify();
}

#[test]
fn another_origins_log_is_not_taken_up() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let before = log::stored(&site.log_dir());
    site.edit_config("gate.example.com/it", "gate.example.com/other");
    refuses(&site, "belongs to origin");
    assert_eq!(log::stored(&site.log_dir()), before);
}

#[test]
fn another_key_does_not_sign_on() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let before = log::stored(&site.log_dir());
    let made = site.command(&["keygen", "--origin", "gate.example.com/it", "--out", "other.pem"]);
    assert!(made.status.success());
    site.edit_config("log.pem", "other.pem");
    refuses(&site, "not the key it was created with");
    assert_eq!(log::stored(&site.log_dir()), before);
}

#[test]
fn a_log_has_one_writer() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let gate = site.start();
    let output = site.command(&["serve", "--config", "gate.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("one origin has one writer"), "{said}");
    assert_eq!(gate.client().get("/public/x", None).status, 200);
    gate.stop().verify();
}

fn refuses(site: &Site, why: &str) {
    let (status, said) = site.refuses_to_start();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains(why), "{said}");
}
