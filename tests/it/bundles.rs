//! Evidence bundles: made from a live log, checked elsewhere by nothing but their files and a key. And the policies that records
//! name, kept with the log.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::support::gate::ORIGIN;
use crate::support::{Act, Gate, Setup, Signer, Site, Upstream, until};

const OTHER_POLICY: &str = "p, anonymous, app, /public/*, .*, allow\np, anonymous, app, /new/*, .*, allow\n\
                            p, role:auditor, admin, /v1/*, .*, allow\n";

/// A site whose log has calls by two policies and under two keys; the first key, and the second.
fn used_site() -> (Arc<Site>, String, String) {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    call(&gate, "/public/a", 3);
    std::fs::write(gate.path("policy.csv"), OTHER_POLICY).unwrap();
    until("the other policy", || gate.client().get("/new/x", None).status == 200);
    call(&gate, "/new/b", 3);
    let site = gate.stop();
    let old = site.vkey.clone();
    let made = site.command(&["keygen", "--origin", ORIGIN, "--out", "next.pem"]);
    let new = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    site.edit_config(
        "\nkey_file = \"log.pem\"\n",
        "\nkey_file = \"next.pem\"\nretiring_key_file = \"log.pem\"\n",
    );
    let gate = site.start();
    call(&gate, "/new/c", 3);
    (gate.stop(), old, new)
}

fn call(gate: &Gate, path: &str, calls: usize) {
    for _ in 0..calls {
        assert_eq!(gate.client().get(path, None).status, 200);
    }
}

/// Makes a bundle and takes it away from its log; where it lies now.
fn bundle(site: &Site, name: &str, arguments: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let made = site.command(&[&["audit", "bundle", "--log", "log", "--out", name], arguments].concat());
    assert!(made.status.success(), "{made:?}");
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = elsewhere.path().join("bundle");
    copy(&site.path(name), &dir);
    (elsewhere, dir)
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// How `audit verify` ends, and what it says.
fn verify(dir: &Path, vkey: &str, arguments: &[&str]) -> (i32, Value) {
    let mut command = Command::new(crate::support::gate::BINARY);
    command.args(["audit", "verify", "--json", "--vkey", vkey]).args(arguments).arg(dir);
    let output = command.current_dir(dir.parent().unwrap()).output().unwrap();
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code().unwrap(), said)
}

#[test]
fn a_bundle_holds_elsewhere_by_any_key_of_the_log() {
    let (site, old, new) = used_site();
    let (_elsewhere, whole) = bundle(&site, "whole", &[]);
    let (_elsewhere2, some) =
        bundle(&site, "some", &["--path-prefix", "/new/", "--kind", "decision", "--decision", "allow"]);
    let records = site.records();
    for vkey in [&old, &new] {
        let (code, said) = verify(&whole, vkey, &[]);
        assert_eq!((code, &said["holds"], &said["complete"]), (0, &true.into(), &true.into()), "{said}");
        assert_eq!(said["records"].as_array().unwrap().len(), records.len());
        assert_eq!((&said["policies"], &said["policies_missing"]), (&2.into(), &serde_json::json!([])));
        let (code, said) = verify(&some, vkey, &[]);
        assert_eq!((code, &said["holds"], &said["complete"]), (0, &true.into(), &false.into()), "{said}");
        assert_eq!(said["policies"], 1);
        let calls = records.iter().filter(|record| {
            record["decision"] == "allow"
                && record["request"]["path"].as_str().is_some_and(|path| path.starts_with("/new/"))
        });
        let calls: Vec<Value> = calls.map(|record| record["index"].clone()).collect();
        assert!(calls.len() >= 7);
        assert_eq!(said["records"], Value::from(calls));
    }
    assert_eq!(
        std::fs::metadata(&some).unwrap().mode() & 0o777,
        0o700,
        "records are for their owner to hand on"
    );
    // By another log's key, or one that is this log's in name only, it does not.
    let made = site.command(&["keygen", "--origin", ORIGIN, "--out", "foreign.pem"]);
    let (code, said) = verify(&some, String::from_utf8(made.stdout).unwrap().trim(), &[]);
    assert_eq!(code, 1, "{said}");
}

/// Made by a gate of the first version that makes bundles; its records and policy were also checked by hand, as its README says.
#[test]
fn a_bundle_of_the_first_format_still_holds() {
    let vectors = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/bundle-v1"));
    for vkey in std::fs::read_to_string(vectors.join("vkeys")).unwrap().lines() {
        let (code, said) = verify(&vectors.join("bundle"), vkey, &[]);
        assert_eq!((code, &said["holds"]), (0, &true.into()), "{said}");
        assert_eq!((said["records"].as_array().unwrap().len(), &said["policies"]), (7, &1.into()), "{said}");
    }
}

#[test]
fn whatever_is_changed_dropped_or_added_in_a_bundle_is_found_and_named() {
    let (site, old, _) = used_site();
    let (_elsewhere, good) = bundle(&site, "whole", &[]);
    let names = |sub: &str| -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(good.join(sub))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let policy = names("policies").remove(0);
    let key = names("keys").into_iter().find(|name| name.ends_with(".json") && name != "0.json").unwrap();
    let key_index = key.strip_suffix(".json").unwrap().to_owned();
    let edit = |name: &str, from: &str, to: &str| {
        let (name, from, to) = (name.to_owned(), from.to_owned(), to.to_owned());
        move |dir: &Path| {
            let text = std::fs::read_to_string(dir.join(&name)).unwrap();
            assert!(text.contains(&from), "{name} has no {from:?}: {text}");
            std::fs::write(dir.join(&name), text.replacen(&from, &to, 1)).unwrap();
        }
    };
    let remove = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        move |dir: &Path| names.iter().for_each(|name| std::fs::remove_file(dir.join(name)).unwrap())
    };
    let swap = |a: &str, b: &str| {
        let (a, b) = (a.to_owned(), b.to_owned());
        move |dir: &Path| {
            std::fs::rename(dir.join(&a), dir.join("swap")).unwrap();
            std::fs::rename(dir.join(&b), dir.join(&a)).unwrap();
            std::fs::rename(dir.join("swap"), dir.join(&b)).unwrap();
        }
    };
    type Tampering<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>, String);
    let all: Vec<Tampering<'_>> = vec![
        (
            "a changed record",
            Box::new(edit("records/4.json", "\"time\":\"20", "\"time\":\"21")),
            "record 4: it is not what the log has".into(),
        ),
        (
            "a dropped record",
            Box::new(remove(&["records/4.json", "records/4.tlog-proof"])),
            "record 4: manifest.json lists it, and it is not here".into(),
        ),
        (
            "a dropped record, also from the manifest",
            Box::new(|dir| {
                remove(&["records/4.json", "records/4.tlog-proof"])(dir);
                edit("manifest.json", "    4,\n", "")(dir);
            }),
            "lists no record 4".into(),
        ),
        (
            "records that changed places",
            Box::new(swap("records/4.json", "records/5.json")),
            "record 4: what stands here is record 5".into(),
        ),
        (
            "a record twice",
            Box::new(|dir| drop(std::fs::copy(dir.join("records/4.json"), dir.join("records/5.json")))),
            "record 5: what stands here is record 4".into(),
        ),
        (
            "proofs that changed places",
            Box::new(swap("records/4.tlog-proof", "records/5.tlog-proof")),
            "record 4: its proof is of record 5".into(),
        ),
        ("a changed proof", Box::new(edit("records/4.tlog-proof", "=\n", "A\n")), "record 4: ".into()),
        (
            "a proof that is missing",
            Box::new(remove(&["records/4.tlog-proof"])),
            "records/4.tlog-proof is missing".into(),
        ),
        (
            "another checkpoint",
            Box::new(edit("checkpoint", ORIGIN, "gate.example.com/other")),
            "record 0: its proof is under another checkpoint".into(),
        ),
        (
            "another signature, wherever it stands",
            Box::new(|dir| {
                let note = std::fs::read_to_string(dir.join("checkpoint")).unwrap();
                let part = &note[note.len() - 20..note.len() - 10];
                let other = "A".repeat(part.len());
                for sub in [".", "records", "keys"] {
                    for entry in std::fs::read_dir(dir.join(sub)).unwrap() {
                        let path = entry.unwrap().path();
                        if path.ends_with("checkpoint")
                            || path.extension().is_some_and(|end| end == "tlog-proof")
                        {
                            let text = std::fs::read_to_string(&path).unwrap();
                            std::fs::write(&path, text.replace(part, &other)).unwrap();
                        }
                    }
                }
            }),
            "checkpoint: ".into(),
        ),
        (
            "a signature less",
            Box::new(|dir| edit("checkpoint", "\u{2014} ", "- ")(dir)),
            "checkpoint: ".into(),
        ),
        (
            "a changed policy",
            Box::new(edit(&format!("policies/{policy}"), "allow", "deny")),
            format!("policies/{policy}: it does not hash to its name"),
        ),
        (
            "a policy that is missing",
            Box::new(remove(&[&format!("policies/{policy}")])),
            format!("policies/{policy}: record "),
        ),
        (
            "a policy that is here and said to be missing",
            Box::new(|dir| {
                let listed = format!("\"policies_missing\": [\"{policy}\"]");
                edit("manifest.json", "\"policies_missing\": []", &listed)(dir);
            }),
            "manifest.json: it says that the log had no text of policy".into(),
        ),
        (
            "a change of key that is missing",
            Box::new(remove(&[&format!("keys/{key}"), &format!("keys/{key_index}.tlog-proof")])),
            "keys: manifest.json lists [0, ".into(),
        ),
        (
            "a changed change of key",
            Box::new(edit(&format!("keys/{key}"), "\"time\":\"20", "\"time\":\"21")),
            format!("record {key_index}: it is not what the log has"),
        ),
        (
            "a file that does not belong there",
            Box::new(|dir| std::fs::write(dir.join("records/more.txt"), "").unwrap()),
            "records/more.txt: no file of a bundle".into(),
        ),
        (
            "a number written otherwise",
            Box::new(|dir| std::fs::rename(dir.join("records/4.json"), dir.join("records/04.json")).unwrap()),
            "records/04.json: no file of a bundle".into(),
        ),
        (
            "a link",
            Box::new(|dir| {
                std::fs::remove_file(dir.join("records/4.json")).unwrap();
                symlink(good.join("records/4.json"), dir.join("records/4.json")).unwrap();
            }),
            "records/4.json: no file of a bundle".into(),
        ),
        ("no manifest", Box::new(remove(&["manifest.json"])), "manifest.json is missing".into()),
        (
            "a manifest of another format",
            Box::new(edit("manifest.json", "bundle-v1", "bundle-v2")),
            "manifest.json: the format".into(),
        ),
        (
            "a manifest of another size",
            Box::new(edit("manifest.json", "\"size\": ", "\"size\": 1")),
            "checkpoint: it covers ".into(),
        ),
        (
            "a policy that is missing, said to be another that no record names",
            Box::new(edit(
                "manifest.json",
                "\"policies_missing\": []",
                &format!("\"policies_missing\": [\"{}\"]", "0".repeat(64)),
            )),
            "which is here, or which no record names".into(),
        ),
        (
            "a policy that is here, said to be missing",
            Box::new(edit(
                "manifest.json",
                "\"policies_missing\": []",
                &format!("\"policies_missing\": [\"{policy}\"]"),
            )),
            format!("it says that the log had no text of policy {policy}, which is here"),
        ),
        (
            "words for the terminal where an epoch belongs",
            Box::new(edit(
                "manifest.json",
                "\"policies_missing\": []",
                "\"policies_missing\": [\"\\u001b[2J\"]",
            )),
            "policies_missing is no ascending list of epochs".into(),
        ),
        (
            "a claim of completeness for what only fits a filter",
            Box::new(edit("manifest.json", "\"asked\": {}", "\"asked\": {\"subject\": \"alice\"}")),
            "it says that the bundle is complete, and was asked for by \"subject\"".into(),
        ),
        (
            "a record among those of the keys that is none of them",
            Box::new(|dir| {
                for end in ["json", "tlog-proof"] {
                    let (from, to) = (format!("records/4.{end}"), format!("keys/4.{end}"));
                    std::fs::copy(dir.join(from), dir.join(to)).unwrap();
                }
                edit("manifest.json", "\"keys\": [\n    0,", "\"keys\": [\n    0,\n    4,")(dir);
            }),
            "keys/4.json: it is neither".into(),
        ),
        (
            "a record nobody lists",
            Box::new(|dir| {
                edit("manifest.json", "    4,\n", "")(dir);
                edit("manifest.json", "\"complete\": true", "\"complete\": false")(dir);
            }),
            "record 4: manifest.json does not list it".into(),
        ),
    ];
    for (what, tamper, named) in all {
        let elsewhere = tempfile::tempdir().unwrap();
        let dir = elsewhere.path().join("bundle");
        copy(&good, &dir);
        assert_eq!(verify(&dir, &old, &[]).0, 0);
        tamper(&dir);
        let (code, said) = verify(&dir, &old, &[]);
        assert_eq!((code, &said["holds"]), (1, &false.into()), "{what}: {said}");
        assert!(said["fault"].as_str().unwrap().contains(&named), "{what}: {said}");
    }
}

#[test]
fn a_policy_that_was_left_out_is_told_of_and_completeness_claimed_for_time_alone() {
    let (site, old, _) = used_site();
    let (_elsewhere, dir) = bundle(&site, "whole", &[]);
    let policy = std::fs::read_dir(dir.join("policies")).unwrap().next().unwrap().unwrap();
    let epoch = policy.file_name().into_string().unwrap();
    std::fs::remove_file(policy.path()).unwrap();
    let manifest = std::fs::read_to_string(dir.join("manifest.json")).unwrap();
    let said = format!("\"policies_missing\": [\"{epoch}\"]");
    std::fs::write(dir.join("manifest.json"), manifest.replace("\"policies_missing\": []", &said)).unwrap();
    let (code, said) = verify(&dir, &old, &[]);
    assert_eq!((code, &said["policies_missing"]), (0, &serde_json::json!([epoch])), "{said}");
    let told = Command::new(crate::support::gate::BINARY)
        .args(["audit", "verify", "--vkey", &old])
        .arg(&dir)
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains(&format!("no text of policy {epoch} is here; manifest.json says")), "{told}");
    // One record has no gap between its first and its last, and says nothing of others that fit.
    let (_elsewhere, one) = bundle(&site, "one", &["--kind", "key"]);
    let (code, said) = verify(&one, &old, &[]);
    assert_eq!((code, &said["complete"]), (0, &false.into()), "{said}");
    assert_eq!(said["records"].as_array().unwrap().len(), 1);
    let (_elsewhere, all) = bundle(&site, "all", &["--from", "24h", "--health-checks", "include"]);
    assert_eq!(verify(&all, &old, &[]).1["complete"], true);
}

#[test]
fn a_kept_policy_that_is_another_s_is_found_and_goes_into_no_bundle() {
    let (site, _, new) = used_site();
    let log = site.log_dir();
    let verified = || {
        let output = site.command(&["audit", "verify", "--log", "log", "--vkey", &new, "--json"]);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.code(), said["kept_policies"].clone())
    };
    let none = serde_json::json!([]);
    let (code, policies) = verified();
    assert_eq!((code, &policies["kept"], &policies["bad"]), (Some(0), &2.into(), &none), "{policies}");
    let epoch = site.records().last().unwrap()["policy"].as_str().unwrap().to_owned();
    {
        let families = rocksdb::DB::list_cf(&rocksdb::Options::default(), &log).unwrap();
        let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), &log, families).unwrap();
        let policies = db.cf_handle("policies").unwrap();
        let key: Vec<u8> =
            (0..64).step_by(2).map(|at| u8::from_str_radix(&epoch[at..at + 2], 16).unwrap()).collect();
        let mut text = db.get_cf(policies, &key).unwrap().unwrap();
        *text.last_mut().unwrap() ^= 1;
        db.put_cf(policies, &key, text).unwrap();
        db.flush_wal(true).unwrap();
    }
    let (code, policies) = verified();
    assert_eq!(code, Some(1));
    assert_eq!((&policies["hold"], &policies["bad"]), (&false.into(), &serde_json::json!([epoch])));
    assert_eq!(site.command(&["audit", "policy", &epoch, "--log", "log"]).status.code(), Some(1));
    let made = site.command(&["audit", "bundle", "--log", "log", "--out", "new"]);
    assert_eq!(made.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&made.stderr).contains("is not that policy"), "{made:?}");
    assert!(!site.path("new").exists());
}

#[test]
fn kept_checkpoints_come_along_and_are_held_to_the_latest() {
    let (site, old, _) = used_site();
    // The first checkpoint of each start is kept.
    let (_elsewhere, dir) = bundle(&site, "whole", &[]);
    let kept: Vec<u64> = std::fs::read_dir(dir.join("checkpoints"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().ok())
        .collect();
    assert!(kept.len() >= 2, "{kept:?}");
    let (code, said) = verify(&dir, &old, &[]);
    assert_eq!((code, &said["checkpoints"]), (0, &kept.len().into()), "{said}");
    let (small, large) = (kept.iter().min().unwrap(), kept.iter().max().unwrap());
    std::fs::copy(dir.join(format!("checkpoints/{small}")), dir.join(format!("checkpoints/{large}")))
        .unwrap();
    let (code, said) = verify(&dir, &old, &[]);
    assert_eq!(code, 1);
    assert!(
        said["fault"]
            .as_str()
            .unwrap()
            .starts_with(&format!("checkpoints/{large}: it covers {small} records")),
        "{said}"
    );
}

#[test]
fn a_bundle_is_checked_by_hand_as_its_readme_says() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    call(&gate, "/public/a", 5);
    let vkey = gate.vkey.clone();
    let site = gate.stop();
    let (_elsewhere, dir) = bundle(&site, "some", &["--kind", "decision"]);
    let script = include_str!("../../docs/verify.md")
        .split_once("```python\n")
        .unwrap()
        .1
        .split_once("```")
        .unwrap()
        .0;
    std::fs::write(dir.parent().unwrap().join("verify.py"), script).unwrap();
    let readme = std::fs::read_to_string(dir.join("README.md")).unwrap();
    let commands: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let [_, by_hand, policies] = commands[..] else { panic!("{commands:?}") };
    let run = |command: &str| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).current_dir(&dir).env("VKEY", &vkey).env("PATH", "/usr/bin:/bin");
        shell.output().unwrap()
    };
    let index = std::fs::read_dir(dir.join("records")).unwrap().find_map(|entry| {
        entry.unwrap().file_name().to_str().unwrap().strip_suffix(".json").map(str::to_owned)
    });
    let index = index.unwrap();
    let output = run(&by_hand.replace("N.", &format!("{index}.")));
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with(&format!("record {index} is in the log of ")),
        "{output:?}"
    );
    let output = run(policies);
    assert!(output.status.success(), "{policies}: {output:?}");
    let named = std::fs::read_dir(dir.join("policies")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(named, "another").unwrap();
    assert!(!run(policies).status.success());
}

#[test]
fn a_bundle_is_never_made_over_anything_and_never_silently_short() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    call(&gate, "/public/a", 5);
    let site = gate.stop();
    let refused = |arguments: &[&str], told: &str| {
        let output = site.command(&[&["audit", "bundle", "--log", "log"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(told), "{output:?}");
    };
    std::fs::write(site.path("taken"), "").unwrap();
    refused(&["--out", "taken"], "is there already and is not overwritten");
    refused(&["--out", "new", "--limit", "3"], "more than 3 records fit");
    refused(&["--out", "new", "--subject", "nobody"], "no record fits");
    refused(&["--out", "missing/new"], "cannot be made");
    assert!(!site.path("new").exists());
    let left = std::fs::read_dir(site.path("."))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("partial"));
    assert_eq!(left.count(), 0);
}

#[test]
fn the_policy_that_made_a_decision_can_be_read_for_good() {
    let (site, _, _) = used_site();
    let decided: Vec<Value> =
        site.records().into_iter().filter(|record| record["kind"] == "decision").collect();
    let (first, last) =
        (decided.first().unwrap()["policy"].clone(), decided.last().unwrap()["policy"].clone());
    assert_ne!(first, last);
    for (epoch, rows) in [(&first, crate::support::gate::POLICY), (&last, OTHER_POLICY)] {
        let epoch = epoch.as_str().unwrap();
        let shown = site.command(&["audit", "policy", epoch, "--log", "log"]);
        assert!(shown.status.success(), "{shown:?}");
        let text = String::from_utf8(shown.stdout).unwrap();
        assert!(
            text.starts_with("# model\n") && text.ends_with(&format!("# policy file 1 of 1\n{rows}")),
            "{text}"
        );
        // The name is the hash, by anybody's hand.
        let raw = site.command(&["audit", "policy", epoch, "--log", "log", "--raw"]).stdout;
        std::fs::write(site.path("piece"), raw).unwrap();
        let summed = Command::new("sha256sum").arg(site.path("piece")).output().unwrap();
        assert!(String::from_utf8(summed.stdout).unwrap().starts_with(epoch));
    }
    let gate = site.start();
    let token = Signer::usual().token("carol", &["auditor"]);
    let answer = gate.admin().get(&format!("/v1/policies/{}", first.as_str().unwrap()), Some(&token));
    assert_eq!(
        (answer.status, &answer.json()["policies"]),
        (200, &serde_json::json!([crate::support::gate::POLICY]))
    );
    assert_eq!(gate.admin().get(&format!("/v1/policies/{}", "0".repeat(64)), Some(&token)).status, 404);
    assert_eq!(gate.admin().get("/v1/policies/x", Some(&token)).status, 400);
    let read = gate.record_where("the read", |record| {
        record["request"]["path"] == format!("/v1/policies/{}", first.as_str().unwrap())
    });
    assert_eq!(read["identity"]["user"], "user:carol");
}

#[test]
fn a_policy_is_kept_before_anything_is_decided_by_it() {
    use crate::support::faulty::Fault;
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).site().start_here();
    assert_eq!(gate.client().get("/public/x", None).status, 200);
    gate.store.set(Fault::KeepNoPolicy);
    std::fs::write(gate.path("policy.csv"), OTHER_POLICY).unwrap();
    until("the refusal", || {
        gate.records().iter().any(|record| record["event"] == "refused" && record["kind"] == "policy")
    });
    assert_ne!(gate.client().get("/new/x", None).status, 200, "it is not in force");
    assert_eq!(gate.client().get("/public/x", None).status, 200, "the old one is");
}

#[test]
fn a_log_from_before_policies_were_kept_is_read_and_taken_up() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    call(&gate, "/public/a", 3);
    let vkey = gate.vkey.clone();
    let site = gate.stop();
    let epoch = site.records()[0]["policy"].as_str().unwrap().to_owned();
    {
        let families = rocksdb::DB::list_cf(&rocksdb::Options::default(), site.log_dir()).unwrap();
        let mut db = rocksdb::DB::open_cf(&rocksdb::Options::default(), site.log_dir(), families).unwrap();
        db.drop_cf("policies").unwrap();
    }
    let (_elsewhere, dir) = bundle(&site, "before", &[]);
    let (code, said) = verify(&dir, &vkey, &[]);
    assert_eq!(
        (code, &said["policies"], &said["policies_missing"]),
        (0, &0.into(), &serde_json::json!([epoch])),
        "{said}"
    );
    assert_eq!(site.command(&["audit", "policy", &epoch, "--log", "log"]).status.code(), Some(2));
    let gate = site.start();
    call(&gate, "/public/a", 1);
    let site = gate.stop();
    assert!(
        site.command(&["audit", "policy", &epoch, "--log", "log"]).status.success(),
        "the one in force is kept from now on"
    );
    site.verify();
}
