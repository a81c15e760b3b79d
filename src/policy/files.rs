//! The files that a config's words for policy files name: a file, all `*.csv` of a directory, or a pattern such as
//! `policies/*.csv`.

use std::path::{Path, PathBuf};

use globset::GlobBuilder;

use super::error::{Fault, LoadError, Problem};

/// What stands for a directory itself.
const ALL: &str = "*.csv";

/// The files that `entries` name, in their order, those of one entry by name; hidden files only if they are named. A file
/// that several entries name comes once, at its first place.
///
/// # Errors
/// A directory that cannot be read, a pattern that is none, and one that no file fits: a policy that is not there is
/// no empty policy.
pub fn expand(entries: &[PathBuf]) -> Result<Vec<PathBuf>, LoadError> {
    let mut files = Vec::new();
    for entry in entries {
        let of_entry = match listing(entry) {
            None => vec![entry.clone()],
            Some((directory, pattern)) => {
                fitting(directory, &pattern).map_err(|problem| fault(entry, problem))?
            }
        };
        for file in of_entry {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// The directory to list for an entry and the pattern of names there; `None` if the entry is a file's name.
pub(super) fn listing(entry: &Path) -> Option<(&Path, String)> {
    if entry.is_dir() {
        return Some((entry, ALL.to_owned()));
    }
    let name = entry.file_name()?.to_str()?;
    let directory = match entry.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    name.contains(['*', '?', '[', '{']).then(|| (directory, name.to_owned()))
}

fn fitting(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, Problem> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build().map_err(Problem::FilePattern)?;
    let glob = glob.compile_matcher();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(Problem::Unreadable)? {
        let name = entry.map_err(Problem::Unreadable)?.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".") && !pattern.starts_with('.');
        if !hidden && glob.is_match(&name) {
            // A directory within it fails to be read as a file, with its name.
            files.push(if directory == Path::new(".") { PathBuf::from(name) } else { directory.join(name) });
        }
    }
    files.sort_unstable();
    if files.is_empty() { Err(Problem::NoFiles(pattern.to_owned())) } else { Ok(files) }
}

fn fault(entry: &Path, problem: Problem) -> LoadError {
    Fault::new(entry.display().to_string(), None, problem).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_directory_and_a_pattern_name_their_files_by_name_and_each_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["b.csv", "a.csv", ".hidden.csv", "c.txt"] {
            fs::write(at(name), "").unwrap();
        }
        let all = [at("a.csv"), at("b.csv")];
        assert_eq!(expand(&[directory.path().to_owned()]).unwrap(), all);
        assert_eq!(expand(&[at("*.csv")]).unwrap(), all);
        assert_eq!(expand(&[at("b.csv"), at("*.csv")]).unwrap(), [at("b.csv"), at("a.csv")]);
        assert_eq!(expand(&[at("missing.csv")]).unwrap(), [at("missing.csv")]);
    }

    #[test]
    fn what_names_no_file_is_an_error_and_no_empty_policy() {
        let directory = tempfile::tempdir().unwrap();
        let told = |entry: PathBuf| expand(&[entry]).unwrap_err().to_string();
        assert!(told(directory.path().to_owned()).ends_with("no file here fits *.csv"));
        assert!(told(directory.path().join("x*.csv")).ends_with("no file here fits x*.csv"));
        assert!(told(directory.path().join("x[.csv")).contains("is not a pattern"));
        assert!(told(directory.path().join("missing/*.csv")).contains("cannot be read"));
    }
}
