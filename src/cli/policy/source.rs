//! Where a policy is, and how it is loaded.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use crate::access::path::Tolerance;
use crate::app::assemble;
use crate::cli::audit;
use crate::config::Settings;
use crate::policy::{PathForms, Policy, Sources};

/// Where the policy is: in what a config names, or in files of its own.
#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// The config whose `[policy]` is meant; its services say what paths may look like
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "policies", "allow"])]
    config: Option<PathBuf>,
    /// The Casbin model, without a config
    #[arg(long, value_name = "FILE", requires = "policies")]
    model: Option<PathBuf>,
    /// A policy file, or a directory of *.csv, without a config; may be repeated, and the order counts
    #[arg(long = "policy", value_name = "FILE", requires = "model")]
    policies: Vec<PathBuf>,
    /// What services allow in paths, without a config: as `allow` in the config of a service
    #[arg(long, value_name = "FORM", requires = "model", value_delimiter = ',')]
    allow: Vec<Form>,
}

/// What a service can allow in its paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Form {
    /// `%2F` and `%5C`
    EncodedSlash,
    /// `%25`
    EncodedPercent,
    /// `;` and `%3B`
    Semicolon,
    /// Characters that some origins fold into a separator or a dot
    LookAlike,
}

/// A policy's files, and what is known of the services it is for.
#[derive(Debug)]
pub(super) struct Found {
    /// What to load.
    pub(super) sources: Sources,
    /// The config, if one was given: the services a policy may speak of.
    pub(super) settings: Option<Settings>,
    allowed: Tolerance,
}

impl Source {
    /// The policy's files.
    ///
    /// # Errors
    /// If none are named, or the config does not hold.
    pub(super) fn find(&self) -> Result<Found> {
        if let Some(config) = &self.config {
            let settings = audit::settings(config)?;
            let sources = assemble::sources(&settings);
            return Ok(Found { sources, settings: Some(settings), allowed: Tolerance::default() });
        }
        let Some(model) = &self.model else {
            bail!("name the policy: --config FILE, or --model FILE with --policy FILE for each policy file");
        };
        let allowed = self.allow.iter().fold(Tolerance::default(), |all, form| all.with(form.tolerance()));
        let sources = Sources {
            model: model.clone(),
            policies: self.policies.clone(),
            forms: PathForms::granted([allowed]),
        };
        Ok(Found { sources, settings: None, allowed })
    }

    /// The config, if one was given.
    pub(super) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The policy itself, loaded and checked as a gate would.
    ///
    /// # Errors
    /// As [`Source::find`], and if the policy does not hold.
    pub(super) fn load(&self) -> Result<(Found, Policy)> {
        let found = self.find()?;
        let policy =
            Policy::load(&found.sources).map_err(|error| anyhow!("the policy does not hold:\n{error:#}"))?;
        Ok((found, policy))
    }
}

impl Found {
    /// What `service` allows in its paths.
    pub(super) fn tolerance(&self, service: &str) -> Tolerance {
        let Some(settings) = &self.settings else { return self.allowed };
        let route =
            settings.services.iter().map(|known| &known.route).find(|route| &*route.service == service);
        route.map_or_else(Tolerance::default, |route| route.tolerance)
    }

    /// What to say if the config has no service of this name.
    pub(super) fn unknown(&self, service: &str) -> Option<String> {
        let settings = self.settings.as_ref()?;
        let mut known: Vec<&str> = settings.services.iter().map(|known| &*known.route.service).collect();
        known.push("admin");
        (!known.contains(&service))
            .then(|| format!("the config has no service {service}; it has {}", known.join(", ")))
    }
}

impl Form {
    const fn tolerance(self) -> Tolerance {
        match self {
            Self::EncodedSlash => Tolerance::ENCODED_SLASH,
            Self::EncodedPercent => Tolerance::ENCODED_PERCENT,
            Self::Semicolon => Tolerance::SEMICOLON,
            Self::LookAlike => Tolerance::LOOK_ALIKE,
        }
    }
}
