//! Power cuts for real: the log on a file system of its own, which is shut down without writing what it holds back.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, LazyLock};

use super::ledger::{Closed, judge};
use super::load::Load;
use super::table::{calls, settle};
use crate::support::shim::compile;
use crate::support::{Act, Setup, Shim, Site, Upstream, until};

/// An ext4 file system in a file, mounted where the site's log is. Unmounted when dropped.
pub struct Disk {
    pub site: Arc<Site>,
}

impl Disk {
    /// Makes one for a site without log, and creates the log.
    ///
    /// # Errors
    /// Why it cannot be: it needs root, loop devices and `mkfs.ext4`.
    pub fn under(site: Arc<Site>) -> Result<Self, String> {
        let image = site.path("disk.img");
        std::fs::File::create(&image).and_then(|image| image.set_len(IMAGE_BYTES)).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-J", "size=8"]).arg(&image))?;
        let disk = Self { site };
        let _ = std::fs::create_dir(disk.mount_point());
        disk.mount()?;
        std::fs::create_dir(disk.mount_point().join("log")).unwrap();
        std::os::unix::fs::symlink(disk.mount_point().join("log"), disk.site.log_dir()).unwrap();
        portcullis::app::create_log(&disk.site.settings()).unwrap_or_else(|error| panic!("{error}"));
        Ok(disk)
    }

    /// As [`Disk::under`]; `None`, loudly, where it cannot be.
    pub fn or_skip(site: Arc<Site>) -> Option<Self> {
        match Self::under(site) {
            Ok(disk) => Some(disk),
            Err(reason) => {
                // Not by `eprintln`, which is only heard of tests that fail.
                let told =
                    writeln!(std::io::stderr(), "SKIPPED: no power cut on a real file system: {reason}");
                told.unwrap();
                None
            }
        }
    }

    /// The power goes: from now on nothing is written, and what was not synced is lost.
    ///
    /// For a cut under load kill the gate first: ext4 may report success for an fdatasync that is under way while the
    /// journal is aborted, which no machine without power would live to hear.
    pub fn cut(&self) {
        run(Command::new(&*SHUTDOWN).arg(self.mount_point())).unwrap();
    }

    /// The power comes back; the gate must be down.
    pub fn restore(&self) {
        run(Command::new("umount").arg(self.mount_point())).unwrap();
        self.mount().unwrap();
    }

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(self.site.path("disk.img"))
            .arg(self.mount_point()))
    }

    fn mount_point(&self) -> PathBuf {
        self.site.path("disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(self.mount_point()));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// With holes, so that it takes little; large enough that the gate does not find the disk low.
const IMAGE_BYTES: u64 = 3 << 30;

static SHUTDOWN: LazyLock<PathBuf> = LazyLock::new(|| compile("shutdown.c", &[]));

#[test]
fn a_power_cut_under_load_loses_nothing_that_was_acknowledged() {
    let upstream = Upstream::start(Act::Answer);
    let Some(disk) = Disk::or_skip(Setup::new(&upstream).tables(super::UNBOUNDED).site_without_log()) else {
        return;
    };
    let (mut told, number) = (Vec::new(), Arc::default());
    for round in 0..6 {
        let gate = disk.site.start();
        let load = Load::start(&gate, &number);
        until("some load", || load.answers() > 100 + 40 * round);
        gate.kill();
        disk.cut();
        told.extend(load.finish());
        disk.restore();
        judge(&disk.site, &told, &upstream, Closed::NotYet).assert_none("after the cut");
    }
    disk.site.start().stop();
    judge(&disk.site, &told, &upstream, Closed::All).assert_none("at the end");
}

#[test]
fn a_file_system_that_goes_away_beneath_the_gate_takes_nothing_for_written() {
    let upstream = Upstream::start(Act::Answer);
    let Some(disk) = Disk::or_skip(Setup::new(&upstream).site_without_log()) else { return };
    let gate = disk.site.start();
    let mut told = calls("before", &[gate.client(), gate.client2()]);
    settle(&disk.site);
    disk.cut();
    let gone = calls("gone", &[gate.client(), gate.client2()]);
    assert!(gone.iter().all(|told| (told.status, told.record) == (503, None)), "{gone:?}");
    assert_eq!(gate.health().get("/readyz", None).status, 503);
    assert_eq!(gate.health().get("/livez", None).status, 200);
    gate.kill();
    disk.restore();
    told.extend(gone);
    disk.site.start().stop();
    judge(&disk.site, &told, &upstream, Closed::All).assert_none("at the end");
}

/// That the cut above does lose what was not synced, and that the ledgers would tell.
#[test]
fn a_log_that_is_not_synced_loses_records_in_a_power_cut_and_the_ledgers_tell() {
    let upstream = Upstream::start(Act::Answer);
    let setup = Setup::new(&upstream).log("durability = \"os\"");
    let Some(disk) = Disk::or_skip(setup.site_without_log()) else { return };
    let gate = disk.site.start();
    let told = calls("lost", &[gate.client(), gate.client2()]);
    disk.cut();
    gate.kill();
    disk.restore();
    let findings = judge(&disk.site, &told, &upstream, Closed::NotYet);
    assert!(!findings.lost.is_empty(), "{findings:?}");
}

/// A disk that says it has synced and has not: beneath the lie a real file system, or else one that is made up.
#[test]
fn a_disk_that_lies_about_fsync_is_found_out_by_the_outside_mark() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).log(MARK).site_without_log();
    std::fs::create_dir(site.path("mark")).unwrap();
    let disk = Disk::or_skip(Arc::clone(&site));
    if disk.is_none() {
        portcullis::app::create_log(&site.settings()).unwrap_or_else(|error| panic!("{error}"));
    }
    let shim = Shim::under(&site);
    let gate = site.start();
    shim.lie(true);
    let told = calls("lost", &[gate.client(), gate.client2()]);
    settle(&site);
    let held = site.records().len() as u64;
    until("the mark to have seen it", || marked(&site) >= held);
    gate.kill();
    match &disk {
        Some(disk) => {
            disk.cut();
            disk.restore();
        }
        None => shim.cut_power(),
    }
    shim.lie(false);
    let findings = judge(&site, &told, &upstream, Closed::NotYet);
    assert!(!findings.lost.is_empty() && findings.unverifiable.is_empty(), "{findings:?}");
    let (status, said) = site.refuses_to_start();
    assert_eq!(status.code(), Some(2));
    assert!(said.contains("its disk lost what it said it had written"), "{said}");
}

/// How many records the site's mark covers.
fn marked(site: &Site) -> u64 {
    let note = std::fs::read_to_string(site.path("mark/gate.mark")).unwrap_or_default();
    note.lines().nth(1).map_or(0, |size| size.parse().unwrap())
}

/// A mark on a disk that does not fail; its directory is for the test to make.
pub const MARK: &str = "mark_file = \"mark/gate.mark\"";
