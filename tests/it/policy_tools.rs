//! What authors of policies use: test, explain, fmt and enforce, as they are typed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::cli::{run, text};

/// A directory with a model and a policy of its own.
struct Policies {
    dir: tempfile::TempDir,
}

const MODEL: &str = "[request_definition]\nr = sub, dom, obj, act\n[policy_definition]\np = sub, dom, obj, act, eft\n\
    [role_definition]\ng = _, _\n[policy_effect]\ne = some(where (p.eft == allow)) && !some(where (p.eft == deny))\n\
    [matchers]\nm = r.dom == p.dom && g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && regexMatch(r.act, p.act)\n";
const ROWS: &str =
    "# Who reads.\np, role:viewer, app, /docs/*, GET|HEAD, allow\n\ng, user:dana, role:viewer\n";

impl Policies {
    fn new(rows: &str, cases: &str) -> Self {
        let policies = Self { dir: tempfile::tempdir().unwrap() };
        for (name, content) in [("model.conf", MODEL), ("policy.csv", rows), ("cases.txt", cases)] {
            std::fs::write(policies.path(name), content).unwrap();
        }
        policies
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// `portcullis policy …` over these files.
    fn policy(&self, arguments: &[&str]) -> Output {
        policy(arguments, &self.path("model.conf"), &self.path("policy.csv"))
    }
}

fn policy(arguments: &[&str], model: &Path, rows: &Path) -> Output {
    let mut all = vec!["policy"];
    all.extend(arguments);
    all.extend(["--model", model.to_str().unwrap(), "--policy", rows.to_str().unwrap()]);
    run(&all)
}

/// What a command said that ended with `code`.
fn said(code: i32, output: &Output) -> String {
    let (said, complaint) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}{complaint}");
    if code == 2 { complaint } else { said }
}

fn json(code: i32, output: &Output) -> Value {
    serde_json::from_str(&said(code, output)).unwrap()
}

#[test]
fn the_shipped_policy_answers_its_cases_and_is_laid_out() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let output = policy(&["test"], &shipped.join("model.conf"), &shipped.join("policy.csv"));
    assert!(said(0, &output).starts_with("holds: "), "quiet but for the sum");
    said(0, &run(&["policy", "fmt", "--check", shipped.to_str().unwrap()]));
}

#[test]
fn a_case_that_fails_is_told_with_what_was_expected_what_was_found_and_the_row() {
    let cases = "allow user:dana - app GET /docs/a\ndeny user:dana - app GET /docs/a\n\
        allow user:dana - app GET /docs/a by policy.csv:3\ndeny user:eve - app GET /docs/a by -\n";
    let policies = Policies::new(ROWS, cases);
    let told = said(1, &policies.policy(&["test"]));
    let row =
        format!("{}:2: p, role:viewer, app, /docs/*, GET|HEAD, allow", policies.path("policy.csv").display());
    for expected in [
        "cases.txt:2 user:dana - app GET /docs/a\n  - deny\n  + allow by ",
        "cases.txt:3 user:dana - app GET /docs/a\n  - allow by policy.csv:3\n  + allow by ",
        &row,
        "does not hold: 2 of 4 cases",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    assert!(!told.contains("cases.txt:1 ") && !told.contains("cases.txt:4 "), "{told}");
    assert!(said(1, &policies.policy(&["test", "-v"])).contains("cases.txt:4 user:eve"));
    let told = json(1, &policies.policy(&["test", "--json"]));
    assert_eq!((&told["cases"], &told["failed"]), (&4.into(), &2.into()));
    assert_eq!(told["results"][1]["found"]["rule"]["line"], 2);
    let file = policies.path("cases.txt");
    assert_eq!(json(1, &policies.policy(&["test", file.to_str().unwrap(), "--json"]))["failed"], 2);
}

#[test]
fn what_cannot_be_tested_is_no_success() {
    let policies = Policies::new(ROWS, "allow user:dana - app\n");
    assert!(said(2, &policies.policy(&["test"])).contains("cases.txt: line 1: expected: allow|deny"));
    let empty = Policies::new(ROWS, "# none yet\n");
    assert!(said(2, &empty.policy(&["test"])).contains("has no cases"));
    std::fs::remove_file(empty.path("cases.txt")).unwrap();
    assert!(said(2, &empty.policy(&["test"])).contains("name a table of cases"));
    let broken = Policies::new("p, role:viewer, app, /docs/*, GET, alow\n", "allow a - app GET /\n");
    assert!(said(2, &broken.policy(&["test"])).contains("policy.csv:1:36: unknown effect `alow`"));
    assert!(said(2, &run(&["policy", "test"])).contains("name the policy: --config FILE, or --model FILE"));
}

#[test]
fn a_policy_is_found_by_its_config() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    said(0, &run(&["init", gate.to_str().unwrap(), "--upstream", "http://127.0.0.1:9"]));
    let config = gate.join("portcullis.toml");
    let config = config.to_str().unwrap();
    assert!(said(0, &run(&["policy", "test", "--config", config])).starts_with("holds: "));
    said(0, &run(&["policy", "fmt", "--check", "--config", config]));
    let told = said(1, &run(&["policy", "explain", "ap", "GET", "/docs/a", "--config", config]));
    assert!(told.contains("note: the config has no service ap; it has app, admin"), "{told}");
}

#[test]
fn a_decision_is_explained_to_people_and_scripts() {
    let policies = Policies::new(ROWS, "");
    let told = said(0, &policies.policy(&["explain", "app", "GET", "/docs/%61", "--user", "user:dana"]));
    let file = policies.path("policy.csv").display().to_string();
    for expected in [
        "allow policy_allow user:dana GET /docs/%61 at app".to_owned(),
        format!("  by {file}:2: p, role:viewer, app, /docs/*, GET|HEAD, allow"),
        "the path is read as /docs/a".to_owned(),
        format!("role:viewer  by {file}:4"),
        "1 of 1 row matches".to_owned(),
    ] {
        assert!(told.contains(&expected), "{expected}\n{told}");
    }
    let asked = ["explain", "app", "PUT", "/docs/a", "--role", "role:viewer", "--user", "user:a"];
    let told = said(1, &policies.policy(&asked));
    assert!(told.contains("act: PUT is not matched by GET|HEAD (regexMatch)"), "{told}");
    let told = json(1, &policies.policy(&[&asked[..], &["--json"]].concat()));
    assert_eq!((&told["decision"], &told["reason"]), (&"deny".into(), &"no_match".into()));
    assert_eq!(told["near"][0]["failed"][0]["wanted"], "GET|HEAD");
    assert_eq!(told["names"][0]["roles"][0]["by"][0]["row"], Value::Null, "by the credential");
    let told = said(1, &policies.policy(&["explain", "app", "GET", "/docs/..;/a"]));
    assert!(told.contains("a gate refuses this before it asks any policy: the path has a"), "{told}");
}

#[test]
fn layout_is_checked_and_made_and_a_file_that_cannot_be_read_is_left() {
    let before =
        "\u{feff}p,role:viewer,app,\"/docs/*\",GET|HEAD,allow\r\n# kept\r\n\r\ng, user:dana ,role:viewer";
    let after = "p, role:viewer, app, /docs/*, GET|HEAD, allow\n# kept\n\ng, user:dana, role:viewer\n";
    let policies = Policies::new(before, "");
    let file = policies.path("policy.csv");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let fmt = |arguments: &[&str]| run(&[&["policy", "fmt"], arguments].concat());
    let (name, dir) = (file.to_str().unwrap(), policies.dir.path().to_str().unwrap());
    assert_eq!(said(1, &fmt(&["--check", dir])), format!("not laid out: {name}\n"));
    assert_eq!(policies.read("policy.csv"), before);
    assert_eq!(json(0, &fmt(&[name, "--json"]))["changed"][0], name);
    assert_eq!(policies.read("policy.csv"), after);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    said(0, &fmt(&["--check", name]));

    std::fs::write(&file, before).unwrap();
    let broken = policies.path("broken.csv");
    std::fs::write(&broken, "p,  a\np, \"open\n").unwrap();
    let told = said(2, &fmt(&[name, broken.to_str().unwrap()]));
    assert!(told.contains("broken.csv:2:1: a quoted field does not end"), "{told}");
    assert_eq!((policies.read("policy.csv").as_str(), policies.read("broken.csv").len()), (before, 15));
}

#[test]
fn one_decision_is_told_as_a_gate_makes_it() {
    let policies = Policies::new(ROWS, "");
    let told = said(0, &policies.policy(&["enforce", "user:dana", "app", "GET", "/docs/a"]));
    assert!(
        told.starts_with("allow policy_allow ") && told.contains("policy.csv:2: p, role:viewer"),
        "{told}"
    );
    assert_eq!(
        said(1, &policies.policy(&["enforce", "user:eve", "app", "GET", "/docs/a"])),
        "deny no_match\n"
    );
    let dots = policies.policy(&["enforce", "user:dana", "app", "GET", "/docs/./a", "--json"]);
    assert_eq!(json(1, &dots)["reason"], "malformed_dot_segment");
    said(2, &policies.policy(&["enforce", "user:dana", "app"]));
}

#[test]
fn raw_enforcement_is_that_of_casbin() {
    let policies = Policies::new(ROWS, "");
    let raw = |values: &[&str]| policies.policy(&[&["enforce", "--raw"], values].concat());
    assert_eq!(said(0, &raw(&["user:dana", "app", "/docs/a", "GET"])), "true\n");
    // What a gate would refuse, casbin takes as it is.
    assert_eq!(said(0, &raw(&["user:dana", "app", "/docs/../a", "GET"])), "true\n");
    assert_eq!(said(1, &raw(&["user:eve", "app", "/docs/a", "GET"])), "false\n");
    assert_eq!(json(1, &raw(&["user:eve", "app", "/docs/a", "GET", "--json"]))["allowed"], false);
    assert!(said(2, &raw(&["user:eve", "app"])).contains("casbin: "));
    std::fs::write(policies.path("policy.csv"), "p, user:a, app, /docs/(, GET, allow\n").unwrap();
    let panicked = said(2, &raw(&["user:a", "app", "/docs/a", "GET"]));
    assert!(panicked.starts_with("portcullis: casbin panicked: "), "{panicked}");
}
