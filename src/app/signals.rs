//! What the process is told by signals.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::Reloader;

type Signals = (std::io::Result<Signal>, std::io::Result<Signal>, std::io::Result<Signal>);

/// Waits for SIGTERM or SIGINT, reloading at each SIGHUP.
pub(super) fn until_signalled(reloader: Reloader) -> impl Future<Output = ()> {
    // Listened for from now on, not from when this is first waited for.
    let signals =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    signalled(signals, reloader)
}

async fn signalled(signals: Signals, reloader: Reloader) {
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) = signals else {
        tracing::error!("signals cannot be listened for");
        return;
    };
    loop {
        tokio::select! {
            _ = term.recv() => return,
            _ = int.recv() => return,
            // On its own, so that a log that stands still does not keep the gate from hearing SIGTERM.
            _ = hup.recv() => {
                let reloader = reloader.clone();
                tokio::task::spawn_local(async move { reloader.reload_config().await });
            }
        }
    }
}
