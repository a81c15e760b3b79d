//! Reviews of policies from the command line: lint, who-can, what-can, diff.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::gate::BINARY;

/// A directory with a policy of its own, over the shipped model.
struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    fn new(rows: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(shipped("policies/model.conf"), dir.path().join("model.conf")).unwrap();
        std::fs::write(dir.path().join("policy.csv"), rows).unwrap();
        Self { dir }
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    /// `policy <command>` on this policy, which must end with `code`.
    fn policy(&self, code: i32, command: &[&str]) -> String {
        let (model, rows) = (self.file("model.conf"), self.file("policy.csv"));
        ends(code, &[&["policy"], command, &["--model", &model, "--policy", &rows]].concat())
    }
}

fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn ends(code: i32, arguments: &[&str]) -> String {
    let output: Output = Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{said}{complaint}");
    said
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn codes(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

const ROWS: &str = "p, role:viewer, app, /docs/*, GET|HEAD, allow\n\
    p, role:viewer, app, /docs/secret, GET, deny\n\
    g, role:editor, role:viewer\n\
    g, user:dana, role:editor\n";

#[test]
fn the_shipped_policy_lints_clean_with_and_without_its_config() {
    let config = shipped("config/portcullis.toml");
    let told = json(&ends(
        0,
        &["policy", "lint", "--config", config.to_str().unwrap(), "--deny", "notes", "--json"],
    ));
    assert_eq!((told["holds"].as_bool(), codes(&told)), (Some(true), vec![]));
    let (model, rows) = (shipped("policies/model.conf"), shipped("policies/policy.csv"));
    let files = ["--model", model.to_str().unwrap(), "--policy", rows.to_str().unwrap()];
    let told = ends(0, &[&["policy", "lint", "--deny", "notes"][..], &files].concat());
    assert!(told.contains("holds: 0 errors, 0 warnings, 0 notes"), "{told}");
    assert!(told.contains("not looked for: unknown services"), "{told}");
}

#[test]
fn lint_fails_on_errors_and_on_warnings_if_told_to() {
    let repository = Repository::new(ROWS);
    let told = repository.policy(0, &["lint"]);
    let place = format!("{}:2: warning[slips-past]:", repository.file("policy.csv"));
    assert!(told.contains(&place) && told.contains("/docs/SECRET"), "{told}");
    let report = json(&repository.policy(1, &["lint", "--deny", "warnings", "--json"]));
    assert_eq!(report["holds"], false);
    assert!(codes(&report).iter().all(|code| *code == "slips-past"), "{report}");
    assert_eq!(report["findings"][0]["other"]["line"], 1);

    let allowed = ROWS.replace(
        "p, role:viewer, app, /docs/secret",
        "# lint: allow slips-past\np, role:viewer, app, /docs/secret",
    );
    let report = json(&Repository::new(&allowed).policy(0, &["lint", "--deny", "notes", "--json"]));
    assert_eq!((codes(&report), report["allowed"].as_u64().unwrap() > 0), (vec![], true));

    let wrong = Repository::new(&ROWS.replace("GET|HEAD", "get"));
    assert_eq!(codes(&json(&wrong.policy(1, &["lint", "--json"]))), ["unknown-method"]);
    Repository::new("p, role:viewer, app\n").policy(2, &["lint"]);
}

#[test]
fn lint_knows_the_services_and_roles_of_a_config() {
    let repository = Repository::new("p, role:viewer, ap, /docs/*, GET|HEAD, allow\n");
    let config = std::fs::read_to_string(shipped("config/portcullis.toml")).unwrap();
    let roles = r#"roles = ["admin", "analyst", "auditor", "editor", "operator", "suspended", "viewer"]"#;
    assert!(config.contains(roles));
    let config = config.replace("../policies/", "").replace(roles, r#"roles = ["reader"]"#);
    std::fs::write(repository.file("portcullis.toml"), config).unwrap();
    let report =
        json(&ends(1, &["policy", "lint", "--config", &repository.file("portcullis.toml"), "--json"]));
    let mut found = codes(&report);
    found.sort_unstable();
    assert_eq!(found, ["role-nobody-has", "role-without-rows", "unknown-service"]);
}

#[test]
fn a_service_that_refuses_capitals_cannot_be_slipped_past_by_them() {
    let repository = Repository::new(ROWS);
    let config =
        std::fs::read_to_string(shipped("config/portcullis.toml")).unwrap().replace("../policies/", "");
    let finds = |config: &str| {
        std::fs::write(repository.file("portcullis.toml"), config).unwrap();
        ends(0, &["policy", "lint", "--config", &repository.file("portcullis.toml")]).contains("folds case")
    };
    assert!(finds(&config));
    let fold_case = "# fold_case = \"distinct\"";
    assert!(config.contains(fold_case));
    assert!(!finds(&config.replace(fold_case, "fold_case = \"refuse\"")));
}

#[test]
fn who_can_tells_everybody_by_way_of_their_roles() {
    let repository = Repository::new(ROWS);
    let table = repository.policy(0, &["who-can", "GET", "app", "/docs/a"]);
    assert!(table.contains("3 principals may GET app /docs/a"), "{table}");
    assert!(table.contains("role:editor > role:viewer"), "{table}");
    let told = json(&repository.policy(0, &["who-can", "GET", "app", "/docs/a", "--json"]));
    let names: Vec<&str> =
        told["may"].as_array().unwrap().iter().map(|grant| grant["principal"].as_str().unwrap()).collect();
    assert_eq!(names, ["user:dana", "role:editor", "role:viewer"]);
    assert_eq!(told["may"][0]["rule"]["line"], 1);
    let csv = repository.policy(0, &["who-can", "GET", "app", "/docs/a", "--csv"]);
    assert!(
        csv.starts_with("principal,path,file,line,row\nuser:dana,user:dana > role:editor > role:viewer,"),
        "{csv}"
    );
    assert!(repository.policy(0, &["who-can", "GET", "app", "/docs/secret"]).starts_with("nobody may"));
    // The path is the one that a gate decides; what it refuses by itself nobody may have.
    assert!(repository.policy(0, &["who-can", "GET", "app", "/docs/%61"]).contains("may GET app /docs/a"));
    repository.policy(2, &["who-can", "GET", "app", "/docs//a"]);
}

#[test]
fn what_can_tells_rights_by_pattern_and_what_denies_them() {
    let repository = Repository::new(ROWS);
    let told = json(&repository.policy(0, &["what-can", "user:dana", "--json"]));
    let rights: Vec<(&str, &str, u64)> = told["rights"]
        .as_array()
        .unwrap()
        .iter()
        .map(|right| {
            let line = right["rule"]["line"].as_u64().unwrap();
            (right["answer"].as_str().unwrap(), right["pattern"].as_str().unwrap(), line)
        })
        .collect();
    assert_eq!(rights, [("allow", "/docs/*", 1), ("deny", "/docs/secret", 2)]);
    let table = repository.policy(0, &["what-can", "role:viewer"]);
    assert!(table.contains("role:viewer has 1 right"), "{table}");
    let csv = repository.policy(0, &["what-can", "user:other", "--role", "role:editor", "--csv"]);
    assert!(csv.contains("\nallow,app,/docs/*,GET|HEAD,"), "{csv}");
    assert!(repository.policy(0, &["what-can", "user:other"]).contains("may do nothing"));
}

#[test]
fn diff_tells_effects_and_not_text() {
    let old = Repository::new(ROWS);
    let same = Repository::new(&format!("# the same\n{}", ROWS.replace("GET|HEAD", "HEAD|GET")));
    assert!(ends(0, &["policy", "diff", old.path(), same.path()]).contains("no change"));

    let new = Repository::new(&format!("{ROWS}p, role:editor, app, /docs/*, DELETE, allow\n"));
    let told = ends(1, &["policy", "diff", old.path(), new.path()]);
    assert!(told.contains("+ user:dana, role:editor may now DELETE app /docs/*"), "{told}");
    let told = ends(1, &["policy", "diff", new.path(), old.path()]);
    assert!(told.contains("- user:dana, role:editor may no longer DELETE app /docs/*"), "{told}");

    let (model, before, after) = (old.file("model.conf"), old.file("policy.csv"), new.file("policy.csv"));
    let told = json(&ends(1, &["policy", "diff", "--model", &model, &before, &after, "--json"]));
    assert_eq!((told["changes"][0]["now"].as_str(), told["complete"].as_bool()), (Some("allow"), Some(true)));
    let pairs = [format!("{model},{before}"), format!("{model},{after}")];
    ends(1, &["policy", "diff", &pairs[0], &pairs[1]]);
    ends(2, &["policy", "diff", old.path(), "/nowhere"]);
    std::fs::write(new.file("policy.csv"), "p, role:viewer\n").unwrap();
    ends(2, &["policy", "diff", old.path(), new.path()]);
}
