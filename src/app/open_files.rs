//! Each connection is an open file, and so is its upstream's.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::settings::Limits;

/// Takes as many open files as the system lets this process have, and says so if they are fewer than `limits` need.
/// The soft limit is low for the sake of programs that use `select`, which this is not.
pub(super) fn allow(limits: &Limits) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
        return;
    }
    // A call in flight has an upstream's connection too.
    let needed = limits.connections.saturating_add(limits.in_flight).saturating_add(SPARE);
    let needed = u64::try_from(needed).unwrap_or(u64::MAX);
    if let Some(maximum) = maximum.filter(|maximum| *maximum < needed) {
        tracing::warn!(
            maximum,
            needed,
            "the system lets this process open fewer files than limits.connections and limits.in_flight need: raise its \
             hard limit (systemd: LimitNOFILE) or lower those"
        );
    }
}

/// Files of the log, and all others.
const SPARE: usize = 1024;
