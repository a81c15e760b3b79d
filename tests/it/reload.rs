//! A new policy or config while the gate serves: whole or not at all, and on record either way.

use std::path::Path;

use serde_json::Value;

use crate::support::{Act, Gate, Setup, Signer, Site, Upstream, until};

const OPEN: &str = "p, anonymous, app, /public/*, .*, allow\np, anonymous, app, /new/*, .*, allow\n\
                    p, role:auditor, admin, /v1/*, .*, allow\n";
const BAD: &str = "p, anonymous, app, /public/*, .*, allow\np, anonymous, app, /new/*\n";

fn gate() -> (Upstream, Gate) {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).start();
    (upstream, gate)
}

/// The new policy lets in what the old one did not.
fn comes_into_force(gate: &Gate) {
    until("the new policy", || gate.client().get("/new/x", None).status == 200);
    let loaded =
        gate.record_where("its record", |record| record["kind"] == "policy" && record["event"] == "loaded");
    let passed = gate.record_where("the first call", |record| {
        record["request"]["path"] == "/new/x" && record["decision"] == "allow"
    });
    assert!(index(&loaded) < index(&passed), "it is recorded before it is in force");
    assert_eq!(loaded["policy"], passed["policy"], "decisions name the policy they are made by");
}

fn index(record: &Value) -> u64 {
    record["index"].as_u64().unwrap()
}

#[test]
fn a_policy_that_is_written_in_place_comes_into_force() {
    let (_upstream, gate) = gate();
    assert_eq!(gate.client().get("/new/x", None).status, 401);
    std::fs::write(gate.path("policy.csv"), OPEN).unwrap();
    comes_into_force(&gate);
    gate.stop().verify();
}

#[test]
fn a_policy_that_is_renamed_over_the_old_one_comes_into_force() {
    let (_upstream, gate) = gate();
    std::fs::write(gate.path("policy.csv.tmp"), OPEN).unwrap();
    std::fs::rename(gate.path("policy.csv.tmp"), gate.path("policy.csv")).unwrap();
    comes_into_force(&gate);
    // And once more: the watch has followed the name.
    std::fs::write(gate.path("policy.csv.tmp"), crate::support::gate::POLICY).unwrap();
    std::fs::rename(gate.path("policy.csv.tmp"), gate.path("policy.csv")).unwrap();
    until("the old policy again", || gate.client().get("/new/x", None).status == 401);
}

#[test]
fn a_directory_of_policies_is_one_policy_and_a_file_that_comes_to_it_counts() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site_without_log();
    std::fs::create_dir(site.path("rows")).unwrap();
    std::fs::rename(site.path("policy.csv"), site.path("rows/10-base.csv")).unwrap();
    site.edit_config("files = [\"policy.csv\"]", "files = [\"rows\"]");
    portcullis::app::create_log(&site.settings()).unwrap_or_else(|error| panic!("{error}"));
    let gate = site.start();
    assert_eq!(gate.client().get("/public/x", None).status, 200);
    assert_eq!(gate.client().get("/new/x", None).status, 401);
    std::fs::write(gate.path("rows/20-new.csv"), "p, anonymous, app, /new/*, .*, allow\n").unwrap();
    comes_into_force(&gate);
    let passed = gate.record_where("the first call", |record| {
        record["request"]["path"] == "/new/x" && record["decision"] == "allow"
    });
    assert!(passed["rule"]["file"].as_str().unwrap().ends_with("rows/20-new.csv"), "{passed}");
}

#[test]
fn a_large_policy_is_swapped_under_load_without_a_failed_call() {
    let (_upstream, gate) = gate();
    let large: String =
        (0..20_000).map(|n| format!("p, role:r{n}, app, /area{n}/:id/*, GET|HEAD, allow\n")).collect();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let (mut calls, client) = (0, gate.client());
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(client.get("/public/x", None).status, 200);
                calls += 1;
            }
            calls
        });
        for round in 0..3 {
            let rows = format!("{OPEN}{large}p, anonymous, app, /round{round}/*, .*, allow\n");
            std::fs::write(gate.path("policy.csv.tmp"), rows).unwrap();
            std::fs::rename(gate.path("policy.csv.tmp"), gate.path("policy.csv")).unwrap();
            until("the new policy", || gate.client().get(&format!("/round{round}/x"), None).status == 200);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(calling.join().unwrap() > 0);
    });
}

#[test]
fn a_policy_that_kubernetes_swaps_by_symlink_comes_into_force() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site_without_log();
    // As a mounted ConfigMap is laid out: names → ..data → a directory of one moment.
    let mount = site.path("mount");
    let moment = |name: &str, rows: &str| {
        let dir = mount.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("policy.csv"), rows).unwrap();
    };
    let link = |to: &str, at: &Path| std::os::unix::fs::symlink(to, at).unwrap();
    moment("..first", crate::support::gate::POLICY);
    link("..first", &mount.join("..data"));
    link("..data/policy.csv", &mount.join("policy.csv"));
    site.edit_config("files = [\"policy.csv\"]", "files = [\"mount/policy.csv\"]");
    portcullis::app::create_log(&site.settings()).unwrap_or_else(|error| panic!("{error}"));
    let gate = site.start();
    assert_eq!(gate.client().get("/new/x", None).status, 401);

    moment("..second", OPEN);
    link("..second", &mount.join("..data_tmp"));
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    comes_into_force(&gate);
}

#[test]
fn sighup_loads_the_policy_where_files_are_not_watched() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).policy_keys("watch = false").start();
    std::fs::write(gate.path("policy.csv"), OPEN).unwrap();
    gate.signal("HUP");
    comes_into_force(&gate);
}

#[test]
fn a_bad_policy_is_refused_recorded_and_shown_and_the_old_one_serves_on() {
    let (upstream, gate) = gate();
    assert_eq!(gate.client().get("/public/x", None).status, 200);
    let before = ready(&gate)["policy"]["epoch"].clone();
    std::fs::write(gate.path("policy.csv"), BAD).unwrap();
    let refused = gate.record_where("the refusal's record", |record| {
        record["kind"] == "policy" && record["event"] == "refused"
    });
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("policy.csv") && error.contains('2'), "it names file and line: {error}");

    assert_eq!(gate.client().get("/public/x", None).status, 200);
    assert_eq!(gate.client().get("/new/x", None).status, 401);
    let detail = ready(&gate);
    assert_eq!(detail["ready"], true);
    assert_eq!(detail["policy"]["epoch"], before);
    assert!(detail["policy"]["refused"]["message"].as_str().unwrap().contains("policy.csv"), "{detail}");
    assert!(
        gate.health()
            .get("/metrics", None)
            .text()
            .contains("portcullis_policy_loads_total{result=\"refused\"}"),
        "it can be alarmed on"
    );
    let token = Signer::usual().token("carol", &["auditor"]);
    let policy = gate.admin().get("/v1/policy", Some(&token)).json();
    assert!(policy["refused"]["message"].as_str().unwrap().contains("policy.csv"), "{policy}");

    // The next good one takes its place, and the refusal is over.
    std::fs::write(gate.path("policy.csv"), OPEN).unwrap();
    comes_into_force(&gate);
    until("the refusal to be over", || ready(&gate)["policy"]["refused"].is_null());
    assert!(upstream.count() > 0);
    gate.stop().verify();
}

#[test]
fn a_gate_does_not_start_on_a_bad_policy() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    for rows in
        [BAD, "", "\u{feff}p, anonymous, app\n", "q, a, b, c, d, e\n", "p, anonymous, app, /x, {, allow\n"]
    {
        std::fs::write(site.path("policy.csv"), rows).unwrap();
        let (status, said) = site.refuses_to_start();
        assert_eq!(status.code(), Some(2), "{rows:?}");
        assert!(said.contains("policy"), "{rows:?}: {said}");
    }
}

#[test]
fn a_policy_of_any_fault_is_refused_while_the_old_one_serves() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).policy_keys("watch = false").start();
    for (turn, rows) in [
        BAD,
        "",
        "q, a, b, c, d, e\n",
        "p, anonymous, app, /x, {, allow\n",
        "p, anonymous, app, /x, GET, allow # why not\n",
        "p, anonymous, app, /a//b, GET, allow\n",
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(gate.path("policy.csv"), rows).unwrap();
        gate.signal("HUP");
        until("the refusal's record", || {
            gate.records().iter().filter(|record| record["event"] == "refused").count() == turn + 1
        });
        assert_eq!(gate.client().get("/public/x", None).status, 200, "{rows:?}");
        assert_eq!(gate.client().get("/x", None).status, 401, "{rows:?}");
    }
    gate.stop().verify();
}

#[test]
fn sighup_takes_up_a_new_config_as_one_snapshot() {
    let (first, second) = (Upstream::start(Act::Answer), Upstream::start(Act::Answer));
    let gate = Setup::new(&first).start();
    assert_eq!(gate.client().get("/public/x", None).status, 200);
    let epoch = ready(&gate)["config"]["epoch"].clone();
    gate.edit_config(&first.address.to_string(), &second.address.to_string());
    gate.signal("HUP");
    let loaded =
        gate.record_where("its record", |record| record["kind"] == "config" && record["event"] == "loaded");
    assert_ne!(loaded["config"], epoch);
    until("the other upstream", || {
        assert_eq!(gate.client().get("/public/x", None).status, 200);
        second.count() > 0
    });
    gate.stop().verify();
}

#[test]
fn a_config_that_does_not_hold_or_needs_a_restart_is_refused_whole() {
    let (upstream, gate) = gate();
    let original = std::fs::read_to_string(gate.config()).unwrap();
    for (turn, (from, to, named)) in [
        ("workers = 2", "wrokers = 2", "wrokers"),
        ("gate.example.com/it", "gate.example.com/other", "log.origin"),
        ("key_file = \"log.pem\"", "key_file = \"elsewhere.pem\"", "log.key_file"),
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(gate.config(), &original).unwrap();
        gate.edit_config(from, to);
        gate.signal("HUP");
        until("the refusal's record", || refusals(&gate).len() == turn + 1);
        let refused = refusals(&gate).pop().unwrap();
        assert!(refused["error"].as_str().unwrap().contains(named), "{refused}");
        assert_eq!(gate.client().get("/public/x", None).status, 200);
    }
    assert!(ready(&gate)["config"]["refused"]["message"].is_string());
    assert_eq!(upstream.count(), 3);
    std::fs::write(gate.config(), &original).unwrap();
    gate.stop().verify();
}

fn refusals(site: &Site) -> Vec<Value> {
    let records = site.records().into_iter();
    records.filter(|record| record["kind"] == "config" && record["event"] == "refused").collect()
}

fn ready(gate: &Gate) -> Value {
    gate.health().get("/readyz", None).json()
}
