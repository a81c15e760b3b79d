//! `portcullis init`: a directory that is ready to serve.
//!
//! ```text
//! portcullis.toml    the config, commented
//! keys/              log.pem log.vkey    the log's signing key, and what verifies it
//!                    dev.pem dev.jwks.json    the development issuer
//! policies/          model.conf policy.csv cases.txt
//! tokens/            alice.jwt bob.jwt carol.jwt    for development
//! log/  state/       the audit log, and the mark that it was created
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use super::dev::{self, DevIssuer, Grant};
use super::out::{Paint, program, shell_word};
use super::{Outcome, files};
use crate::app;
use crate::audit::checkpoint::{Origin, SigningKey};
use crate::clock::Clock;
use crate::config::{Environment, Settings};

/// Makes a directory that is ready to serve.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The directory to make; it must be new or empty
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The log's name: a host name you own and a path. It cannot be changed later [default: one made up for development]
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// The service behind the gate
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9000")]
    upstream: String,
}

/// Makes the directory and tells what to type next.
///
/// # Errors
/// If the directory is not empty, or something in it cannot be made.
pub fn run(args: &Args) -> Result<Outcome> {
    let origin = match &args.origin {
        Some(origin) => origin.clone(),
        None => made_up_origin()?,
    };
    let changes = [
        Change::to_origin(&origin),
        Change::line(UPSTREAMS, format!("upstreams = [{}]", toml_text(&args.upstream))),
    ];
    let dir = Directory::make(&args.dir, &origin, &changes)?;
    tell(&dir)?;
    Ok(Outcome::Fine)
}

/// A directory that was made.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The log's verifier key.
    pub(crate) vkey: String,
}

impl Directory {
    /// Makes everything in `path`. `changes` are made to the shipped config.
    pub(crate) fn make(path: &Path, origin: &str, changes: &[Change]) -> Result<Self> {
        let origin = Origin::parse(origin).context("--origin")?;
        // Before anything is made: a wrong argument leaves nothing behind.
        let config = config_text(changes)?;
        files::claim_dir(path)?;
        let directory = Self::fill(path, origin, &config);
        directory
            .with_context(|| format!("{} is not complete; remove it before trying again", path.display()))
    }

    fn fill(path: &Path, origin: Origin, config: &str) -> Result<Self> {
        let directory = Self { path: path.to_owned(), vkey: write_log_key(path, origin)? };
        write_issuer(path)?;
        for (name, text) in [("model.conf", MODEL), ("policy.csv", POLICY), ("cases.txt", CASES)] {
            files::make_private_dir(&path.join("policies"))?;
            files::write_public(&path.join("policies").join(name), text.as_bytes())?;
        }
        let file = directory.config();
        files::write_public(&file, config.as_bytes())?;
        // The variables of this shell are not part of what is made.
        let settings =
            Settings::read(config, &file, &Environment::empty()).map_err(|errors| anyhow!("{errors}"))?;
        app::create_log(&settings)?;
        Ok(directory)
    }

    /// The config.
    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("portcullis.toml")
    }

    /// The file that holds the token of `name`.
    pub(crate) fn token(&self, name: &str) -> PathBuf {
        self.path.join("tokens").join(format!("{name}.jwt"))
    }
}

fn write_log_key(path: &Path, origin: Origin) -> Result<String> {
    let keys = path.join("keys");
    files::make_private_dir(&keys)?;
    let key = SigningKey::generate(origin)?;
    files::write_secret(&keys.join("log.pem"), key.to_pkcs8_pem()?.as_bytes())?;
    let vkey = key.verifier().to_string();
    files::write_public(&keys.join("log.vkey"), format!("{vkey}\n").as_bytes())?;
    Ok(vkey)
}

fn write_issuer(path: &Path) -> Result<()> {
    let (keys, tokens) = (path.join("keys"), path.join("tokens"));
    let issuer = DevIssuer::generate()?;
    files::write_secret(&keys.join("dev.pem"), issuer.to_pem().as_bytes())?;
    files::write_public(&keys.join("dev.jwks.json"), issuer.jwks()?.as_bytes())?;
    files::make_private_dir(&tokens)?;
    let clock = Clock::system();
    for (subject, role) in PEOPLE {
        let grant = Grant {
            issuer: dev::ISSUER,
            audience: dev::AUDIENCE,
            subject,
            roles: &[(*role).to_owned()],
            ttl: TOKEN_TTL,
        };
        let token = issuer.token(&grant, &clock)?;
        files::write_secret(&tokens.join(format!("{subject}.jwt")), token.as_bytes())?;
    }
    Ok(())
}

/// A change to the shipped config.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The line as it stands.
    line: &'static str,
    /// What stands there instead.
    instead: String,
}

impl Change {
    pub(crate) const fn line(line: &'static str, instead: String) -> Self {
        Self { line, instead }
    }

    pub(crate) fn to_origin(origin: &str) -> Self {
        Self::line(ORIGIN, format!("origin = {}", toml_text(origin)))
    }
}

/// The shipped config with its paths as they are in the directory, and with `changes`. A change that finds its line in
/// several places is made in all.
fn config_text(changes: &[Change]) -> Result<String> {
    let text = CONFIG
        .replace("../data/", "")
        .replace("../policies/", "policies/")
        .replace("config/portcullis.toml", "portcullis.toml")
        .replace(
            "# Portcullis: the configuration that runs as it is.",
            "# Portcullis: made by `portcullis init`.",
        );
    let mut lines: Vec<&str> = text.lines().collect();
    for change in changes {
        let mut found = false;
        for line in &mut lines {
            let (setting, comment) = split_comment(line);
            if setting == change.line || comment == change.line {
                *line = &change.instead;
                found = true;
            }
        }
        if !found {
            bail!("the shipped config has no line {:?}", change.line);
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// A line's setting without the comment behind it; and, if the line is a comment, what a setting in it would be.
fn split_comment(line: &str) -> (&str, &str) {
    let bare = |text: &'_ str| -> usize { text.find("  #").unwrap_or(text.len()) };
    let setting = line.get(..bare(line)).unwrap_or(line).trim_end();
    let comment = line.strip_prefix("# ").unwrap_or_default();
    (setting, comment.get(..bare(comment)).unwrap_or(comment).trim_end())
}

/// `text` as TOML writes a string. JSON's escapes are TOML's, too.
pub(crate) fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An origin nobody else has, for who has not chosen one.
fn made_up_origin() -> Result<String> {
    let mut salt = [0; 4];
    getrandom::fill(&mut salt).context("no random bytes from the operating system")?;
    Ok(format!("dev.portcullis.example.com/gate-{:08x}", u32::from_be_bytes(salt)))
}

fn tell(directory: &Directory) -> Result<()> {
    let paint = Paint::of_stdout();
    let mut out = std::io::stdout().lock();
    let path = directory.path.display();
    writeln!(out, "{} is ready to serve.\n", paint.bold(&path.to_string()))?;
    for (file, what) in [
        ("portcullis.toml", "the config: listeners, log, issuers, services"),
        ("policies/", "who may do what, and the cases that must hold"),
        ("keys/log.pem", "signs the log's checkpoints; keep it secret"),
        ("keys/log.vkey", "verifies them; give it to your auditor"),
        ("keys/dev.pem", "the development issuer; replace it before anybody depends on the gate"),
        ("tokens/", "alice (viewer), bob (admin), carol (auditor); for 7 days, for development"),
        ("log/  state/", "the audit log, and the mark that its name is taken"),
    ] {
        writeln!(out, "  {file:<16} {}", paint.dim(what))?;
    }
    writeln!(out, "\nNext, with a service at the upstream's address:\n")?;
    let (us, config) = (program(), shell_word(&directory.config().to_string_lossy()));
    let token = shell_word(&directory.token("alice").to_string_lossy());
    for command in [
        format!("{us} check --config {config}"),
        format!("{us} serve --config {config}"),
        format!("curl -i -H \"Authorization: Bearer $(cat {token})\" http://127.0.0.1:8080/docs/intro"),
        format!("{us} audit list --config {config}"),
        format!("{us} audit verify --config {config}"),
    ] {
        writeln!(out, "  {}", paint.accent(&command))?;
    }
    Ok(())
}

const AFTER_HELP: &str = "\
The directory holds a commented config, the log's key, a development issuer with tokens for alice (viewer), bob (admin) \
and carol (auditor), sample policies, and the log itself. Nothing is ever overwritten.

Examples:
  portcullis init gate
  portcullis init gate --origin portcullis.example.com/gate-1 --upstream http://127.0.0.1:3000

Exit codes: 0 made, 2 the directory is not empty, or cannot be filled.";

/// The lines of the shipped config that are changed.
const ORIGIN: &str = "origin = \"portcullis.example.com/gate-1\"";
pub(crate) const UPSTREAMS: &str = "upstreams = [\"http://127.0.0.1:9000\"]";

/// Who gets a token, and with which role.
const PEOPLE: &[(&str, &str)] = &[("alice", "viewer"), ("bob", "admin"), ("carol", "auditor")];

const TOKEN_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

const CONFIG: &str = include_str!("../../config/portcullis.toml");
const MODEL: &str = include_str!("../../policies/model.conf");
const POLICY: &str = include_str!("../../policies/policy.csv");
const CASES: &str = include_str!("../../policies/cases.txt");

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(changes: &[Change]) -> Settings {
        let text = config_text(changes).unwrap();
        Settings::read(&text, Path::new("/gate/portcullis.toml"), &Environment::empty()).unwrap()
    }

    #[test]
    fn the_config_of_a_new_directory_names_files_within_it() {
        let settings = settings(&[]);
        for file in &settings.files {
            assert!(
                file.path.starts_with("/gate") && !file.path.to_string_lossy().contains(".."),
                "{:?}",
                file.path
            );
        }
        assert_eq!(settings.log.dir, Path::new("/gate/log"));
        assert_eq!(settings.policy.model, Path::new("/gate/policies/model.conf"));
    }

    #[test]
    fn the_development_issuer_of_the_config_is_the_one_that_signs() {
        let settings = settings(&[]);
        let issuer = settings.issuers.first().unwrap();
        assert_eq!(
            (issuer.issuer.as_str(), issuer.audience.as_slice()),
            (dev::ISSUER, &[dev::AUDIENCE.to_owned()][..])
        );
        for (_, role) in PEOPLE {
            assert!(issuer.roles.iter().any(|granted| granted == role), "{role} is not granted");
        }
    }

    #[test]
    fn changes_reach_the_settings() {
        let upstream = format!("upstreams = [{}]", toml_text("http://127.0.0.1:3000"));
        let settings = settings(&[Change::to_origin("gate.example/7"), Change::line(UPSTREAMS, upstream)]);
        assert_eq!(settings.log.origin, "gate.example/7");
        assert_eq!(settings.services.first().unwrap().upstreams.first().unwrap().port, 3000);
    }

    #[test]
    fn a_change_of_a_line_that_is_not_there_is_an_error() {
        assert!(config_text(&[Change::line("no = \"such\"", String::new())]).is_err());
    }

    #[test]
    fn comments_behind_a_setting_do_not_belong_to_it() {
        assert_eq!(split_comment("a = 1    # why"), ("a = 1", ""));
        assert_eq!(split_comment("# a = 1   # why"), ("# a = 1", "a = 1"));
        assert_eq!(split_comment("a = \"#1\""), ("a = \"#1\"", ""));
    }
}
