//! What the tests stand on: gates, upstreams, clients, tokens and readers of the log. All of it is real: processes,
//! sockets, TLS, RocksDB.
//!
//! | file | what is there |
//! |---|---|
//! | [`gate`] | a gate's directory, and its process |
//! | [`upstream`] | a service behind the gate that keeps a list of what reached it |
//! | [`client`] | HTTP/1.1 and HTTP/2, plain and over TLS |
//! | [`wire`] | bytes on a socket, for what no HTTP client would send |
//! | [`frames`] | HTTP/2 by hand, for the same |
//! | [`mutual`] | callers with certificates, and authorities that sign them |
//! | [`tokens`] | an issuer's keys and tokens |
//! | [`log`] | records as stored; verification |
//! | [`shim`] | a disk that fails when told to, beneath the real binary |
//! | [`mounted`] | a small file system that can be filled |
//! | [`faulty`] | a store that blocks, fails or is slow when told to |

pub mod client;
pub mod faulty;
pub mod frames;
pub mod gate;
pub mod log;
pub mod mounted;
pub mod mutual;
pub mod shim;
pub mod strict;
pub mod tokens;
pub mod upstream;
pub mod wire;

use std::time::{Duration, Instant};

use serde_json::Value;

pub use self::client::{Answer, Client};
pub use self::gate::{Gate, Setup, Site};
pub use self::shim::Shim;
pub use self::tokens::Signer;
pub use self::upstream::{Act, Upstream};
pub use self::wire::Wire;

/// How long anything may take before a test gives up. Nothing is measured by it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Looks until there is something to be seen.
pub fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Looks until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    poll(what, || so().then_some(()));
}

/// What the gate's health listener says of it.
pub fn readiness(health: Client) -> Value {
    health.get("/readyz", None).json()
}

/// Waits until nothing is left of any call: none in flight, no connection of a caller, nothing that waits for the log, no
/// open allow.
pub fn nothing_is_left(site: &Site, health: Client) {
    until("everything to be let go", || {
        let ready = readiness(health);
        ready["in_flight"] == 0 && ready["connections"] == 0 && ready["log"]["waiting"] == 0
    });
    until("every allow to be closed", || site.open_allows().is_empty());
}

/// Runs `future` to its end, within the deadline, on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(DEADLINE, future).await });
    runtime.shutdown_background();
    done.expect("done within the deadline")
}
