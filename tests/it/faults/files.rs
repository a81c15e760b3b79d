//! A log's directory, kept and put back.

use std::path::PathBuf;

use crate::support::Site;

/// A log's files, byte by byte.
pub struct Files(Vec<(PathBuf, Vec<u8>)>);

impl Files {
    pub fn of(site: &Site) -> Self {
        let entries = std::fs::read_dir(site.log_dir()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        Self(paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect())
    }

    /// Puts them back, and takes away what else is there.
    pub fn restore(&self, site: &Site) {
        std::fs::remove_dir_all(site.log_dir()).unwrap();
        std::fs::create_dir(site.log_dir()).unwrap();
        for (path, bytes) in &self.0 {
            std::fs::write(path, bytes).unwrap();
        }
    }
}
