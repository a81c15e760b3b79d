//! casbin-rs as it is: any model and rows, any request, nothing of ours in between. For comparing, and for models that
//! are not made for a gate.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use casbin::rhai::Dynamic;
use casbin::rhai::serde::to_dynamic;
use casbin::{Adapter as _, CoreApi as _, DefaultModel, Enforcer, FileAdapter, NullAdapter};

use super::decide::plainly;

/// Why casbin gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// No runtime to read files with.
    #[error("the files cannot be read: {0}")]
    Runtime(#[source] std::io::Error),
    /// casbin ended with an error.
    #[error("casbin: {}", plainly(.0))]
    Casbin(#[source] Box<casbin::Error>),
    /// casbin panicked.
    #[error("casbin panicked: {0}")]
    Panicked(String),
}

impl From<casbin::Error> for RawError {
    fn from(error: casbin::Error) -> Self {
        Self::Casbin(Box::new(error))
    }
}

/// What casbin-rs's own `enforce` answers for `values`, by a model and the rows of files, in their order. A value that is a
/// JSON object or list is given as one, any other as a string. Blocks; must not be called where a runtime runs.
///
/// # Errors
/// [`RawError`]: what casbin says, or that it panicked.
pub fn enforce(model: PathBuf, policies: Vec<PathBuf>, values: &[String]) -> Result<bool, RawError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(RawError::Runtime)?;
    // Nothing of what a panic may have left half done is looked at again.
    guarded(|| {
        let enforcer = runtime.block_on(enforcer(model, policies))?;
        let values: Result<Vec<Dynamic>, casbin::Error> = values.iter().map(|value| dynamic(value)).collect();
        Ok(enforcer.enforce(values?)?)
    })
}

async fn enforcer(model: PathBuf, policies: Vec<PathBuf>) -> Result<Enforcer, casbin::Error> {
    let mut enforcer = Enforcer::new_raw(DefaultModel::from_file(model).await?, NullAdapter).await?;
    for policy in policies {
        FileAdapter::new(policy).load_policy(enforcer.get_mut_model()).await?;
    }
    enforcer.build_role_links()?;
    Ok(enforcer)
}

fn dynamic(value: &str) -> Result<Dynamic, casbin::Error> {
    match serde_json::from_str(value) {
        Ok(object @ (serde_json::Value::Object(_) | serde_json::Value::Array(_))) => Ok(to_dynamic(object)?),
        Ok(_) | Err(_) => Ok(value.to_owned().into()),
    }
}

fn guarded<T>(ask: impl FnOnce() -> Result<T, RawError>) -> Result<T, RawError> {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        Err(RawError::Panicked(said.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act\n\
        [role_definition]\ng = _, _\n[policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\n";

    fn answer(matcher: &str, rows: &[&str], values: &[&str]) -> Result<bool, RawError> {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let model = write("model.conf", &format!("{MODEL}m = {matcher}\n"));
        let rows = rows.iter().enumerate().map(|(at, text)| write(&format!("{at}.csv"), text)).collect();
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        enforce(model, rows, &values)
    }

    const RBAC: &str = "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act";

    #[test]
    fn the_answer_is_that_of_casbin_over_the_rows_of_all_files() {
        let rows = ["p, admin, data, read\n", "# roles\ng, alice, admin\n"];
        assert!(answer(RBAC, &rows, &["alice", "data", "read"]).unwrap());
        assert!(!answer(RBAC, &rows, &["bob", "data", "read"]).unwrap());
        assert!(!answer(RBAC, &rows[..1], &["alice", "data", "read"]).unwrap());
    }

    #[test]
    fn an_object_is_given_as_one() {
        let matcher = "r.sub.age > 18 && r.obj == p.obj";
        let rows = ["p, any, data, read\n"];
        assert!(answer(matcher, &rows, &[r#"{"age": 19}"#, "data", "read"]).unwrap());
        assert!(!answer(matcher, &rows, &[r#"{"age": 18}"#, "data", "read"]).unwrap());
    }

    #[test]
    fn what_casbin_cannot_answer_is_an_error_and_never_an_answer() {
        let rows = ["p, [, data, read\n"];
        assert!(matches!(answer(RBAC, &rows, &["alice", "data"]), Err(RawError::Casbin(_))));
        assert!(matches!(answer("nothing(r.sub)", &rows, &["a", "b", "c"]), Err(RawError::Casbin(_))));
        let panics = answer("regexMatch(r.sub, p.sub)", &rows, &["a", "data", "read"]);
        assert!(matches!(panics, Err(RawError::Panicked(_))), "{panics:?}");
        let values = vec!["a".to_owned()];
        assert!(enforce("/nowhere/model.conf".into(), Vec::new(), &values).is_err());
    }
}
