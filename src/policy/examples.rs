//! casbin's own published examples, as the crate brings them: every request that their rows suggest gets casbin's answer.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::model::RequestName;
use super::{LoadError, PathForms, Policy, Question, Text, Verdict, raw};

/// Model, rows, and whether an index is compiled for them.
const PAIRS: [(&str, &str, bool); 18] = [
    ("basic_model", "basic_policy", true),
    ("basic_with_root_model", "basic_policy", true),
    ("basic_without_resources_model", "basic_without_resources_policy", true),
    ("basic_without_users_model", "basic_without_users_policy", true),
    ("keymatch_model", "keymatch_policy", true),
    ("keymatch2_model", "keymatch2_policy", true),
    ("priority_model", "priority_policy", true),
    ("rbac_model", "rbac_policy", true),
    ("rbac_model", "rbac_with_hierarchy_policy", true),
    ("rbac_model_in_multi_line", "rbac_policy", true),
    ("rbac_model_matcher_using_in_op", "rbac_policy", false),
    ("rbac_basic_role_model", "rbac_basic_role_policy", true),
    ("rbac_with_deny_model", "rbac_with_deny_policy", true),
    ("rbac_with_not_deny_model", "rbac_with_deny_policy", true),
    ("rbac_with_domains_model", "rbac_with_domains_policy", true),
    ("rbac_with_domains_model", "rbac_with_hierarchy_with_domains_policy", true),
    ("rbac_with_pattern_model", "rbac_with_pattern_policy", true),
    ("rbac_with_resource_roles_model", "rbac_with_resource_roles_policy", true),
];

/// Where cargo keeps the crate.
fn examples() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let told = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let casbin = metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == "casbin");
    let manifest = casbin.unwrap()["manifest_path"].as_str().unwrap();
    Path::new(manifest).parent().unwrap().join("examples")
}

/// The examples' objects are names such as `data1`; a gate's are paths.
fn as_paths(text: &str) -> String {
    let object = regex::Regex::new(r"\b(data\d?(?:_group)?|book_group|pen_group)\b(,|$|\s*$)").unwrap();
    let rows = text.lines().map(|line| {
        let line = line.trim();
        if line.starts_with('p') || line.starts_with("g2") {
            object.replace_all(line, "/$1$2").into_owned()
        } else {
            line.to_owned()
        }
    });
    rows.map(|row| format!("{row}\n")).collect()
}

fn ask(policy: &Policy, values: &[String]) -> bool {
    let value = |name: RequestName| {
        let at = policy.model().request.iter().position(|known| *known == name);
        at.map_or("", |at| values[at].as_str())
    };
    let question = Question {
        user: value(RequestName::Sub),
        roles: &[],
        service: value(RequestName::Dom),
        path: value(RequestName::Obj),
        method: value(RequestName::Act),
        host: "",
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    match policy.decide(&question) {
        Verdict::Allow { .. } => true,
        Verdict::Deny { .. } => false,
        Verdict::Failed(error) => panic!("{error}"),
    }
}

/// Everything the rows have in the column of this name or as a member of a link, and something they do not have.
fn suggested(policy: &Policy, name: RequestName) -> Vec<String> {
    let column = policy.model().columns.iter().position(|column| column == name.as_str());
    let mut values: BTreeSet<String> = column
        .into_iter()
        .flat_map(|column| policy.rows().iter().map(move |row| row.fields[column].clone()))
        .collect();
    if matches!(name, RequestName::Sub | RequestName::Obj) {
        values.extend(policy.links().iter().map(|link| link.fields[0].clone()));
    }
    values.insert(if name == RequestName::Obj { "/alice_data2/x/using/y".into() } else { "root".into() });
    values.into_iter().collect()
}

/// Those that a gate has no use for: rows that never count, functions and graphs that only code can add, and what is no
/// caller. They are refused, and none of them loads as something else.
const REFUSED: [(&str, &str, &str); 4] = [
    ("priority_model", "priority_indeterminate_policy", "unknown effect `indeterminate`"),
    ("keymatch_custom_model", "keymatch2_policy", "Function not found: keyMatchCustom"),
    ("ipmatch_model", "ipmatch_policy", "not an IP address"),
    ("multi_section_model", "multi_section_policy", "`r2` is never consulted"),
];

fn texts(examples: &Path, model: &str, rows: &str) -> (String, String) {
    let text = |name: &str, suffix: &str| {
        std::fs::read_to_string(examples.join(name).with_extension(suffix)).unwrap()
    };
    (text(model, "conf"), as_paths(&text(rows, "csv")))
}

fn load(model: (&str, &str), rows: (&str, &str)) -> Result<Policy, LoadError> {
    let named = |(name, text): (&str, &str)| Text { name: name.to_owned(), text: text.to_owned() };
    Policy::load_text(&named(model), &[named(rows)], PathForms::default())
}

#[test]
fn casbins_examples_that_are_not_for_a_gate_are_refused() {
    let examples = examples();
    for (model, rows, expected) in REFUSED {
        let (model_text, rows_text) = texts(&examples, model, rows);
        let refused = load((model, &model_text), (rows, &rows_text)).unwrap_err().to_string();
        assert!(refused.contains(expected), "{model}: {refused}");
    }
}

#[test]
fn casbins_own_examples_get_casbins_answers() {
    let (examples, here) = (examples(), tempfile::tempdir().unwrap());
    for (model, rows, compiled) in PAIRS {
        let (model_text, rows_text) = texts(&examples, model, rows);
        let (model_file, rows_file) = (here.path().join("model.conf"), here.path().join("policy.csv"));
        std::fs::write(&model_file, &model_text).unwrap();
        std::fs::write(&rows_file, &rows_text).unwrap();
        let policy = load((model, &model_text), (rows, &rows_text)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(policy.is_compiled(), compiled, "{model}");
        let mut tuples: Vec<Vec<String>> = vec![Vec::new()];
        for name in &policy.model().request {
            let values = suggested(&policy, *name);
            tuples = tuples
                .iter()
                .flat_map(|tuple| {
                    values.iter().map(|value| [tuple.as_slice(), std::slice::from_ref(value)].concat())
                })
                .collect();
        }
        let mut answers = BTreeSet::new();
        for tuple in tuples {
            let theirs = raw::enforce(model_file.clone(), vec![rows_file.clone()], &tuple).unwrap();
            assert_eq!(ask(&policy, &tuple), theirs, "{model}, {rows}: {tuple:?}");
            answers.insert(theirs);
        }
        assert_eq!(answers.len(), 2, "{model}, {rows}: some are allowed and some are not");
    }
}
