//! Each connection is an open file, and so is its upstream's.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes as many open files as the system lets this process have, and says so if they are fewer than `connections` need.
/// The soft limit is low for the sake of programs that use `select`, which this is not.
pub(super) fn allow(connections: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
        return;
    }
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(SPARE);
    if let Some(maximum) = maximum.filter(|maximum| *maximum < needed) {
        tracing::warn!(
            maximum,
            needed,
            "the system lets this process open fewer files than limits.connections need: raise its hard limit (systemd: \
             LimitNOFILE) or lower the other"
        );
    }
}

/// Files of the log, and all others.
const SPARE: u64 = 1024;
