//! How a gate comes to its claim and its sockets: on its own, activated by systemd, or in the place of another.

use super::StartError;
use super::check;
use super::claim::Claim;
use super::handover::take::{self, Successor};
use super::sockets::{self, Sockets};
use crate::config::Settings;

/// A gate that may begin: nobody else serves its origin, and it has its sockets.
pub(super) struct Entry {
    pub(super) claim: Claim,
    pub(super) sockets: Sockets,
    /// The gate whose place it takes, if it does; until it hears otherwise that one goes on.
    pub(super) successor: Option<Successor>,
    /// Whether others hold its sockets open beyond its end.
    pub(super) activated: bool,
}

impl Entry {
    /// Claims the origin and finds the sockets. With `take_over` a running gate is asked for both; without one it goes
    /// on alone.
    pub(super) fn new(settings: &Settings, take_over: bool) -> Result<Self, StartError> {
        let log = &settings.log;
        let offer = if take_over {
            check::check_log(settings)?;
            take::ask(&log.state_dir, &log.origin, &log.dir)?
        } else {
            None
        };
        if let Some(offer) = offer {
            tracing::info!(pid = offer.successor.pid, "taking over from the running gate");
            // What it listens on and this config does not want is closed with it.
            let (sockets, _) = Sockets::gather(settings, offer.sockets)?;
            let successor = Some(offer.successor);
            return Ok(Self { claim: offer.claim, sockets, successor, activated: false });
        }
        if take_over {
            tracing::warn!("no gate that could be replaced serves this origin; starting on its own");
        }
        // The claim comes first: that another gate runs says more than that a port is taken.
        let claim = Claim::new(&log.state_dir, &log.origin)?;
        let given = sockets::activated()?;
        let activated = !given.is_empty();
        let (sockets, left) = Sockets::gather(settings, given)?;
        sockets::none_unwanted(&left)?;
        Ok(Self { claim, sockets, successor: None, activated })
    }
}
