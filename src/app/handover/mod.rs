//! A new process takes the place of a running one, on the same log and ports, with no failed request.
//!
//! They talk over a Unix socket in the state directory, one JSON object a line. The new process has proved everything
//! before it asks.
//!
//! | step | the new one | the old one | if the new one dies here | if the old one dies or hangs here |
//! |---|---|---|---|---|
//! | 1 | asks | offers its sockets and its claim | the old one serves on | the new one gives up |
//! | 2 | binds what else it needs, says *release* | lets kept connections go, each after a last call; still accepts and decides | it serves on | gives up |
//! | 3 | waits | accepts no more (connections wait in the kernel), decides what it has begun | it accepts again | gives up |
//! | 4 | waits | writes `handed_over`, closes log and mark, says *released* | it takes the log up again | gives up |
//! | 5 | takes up the log, begins to accept, says *serving* | waits | it takes the log up again, and accepts | serves |
//! | 6 | serves | finishes the answers it is sending, and ends | | |
//!
//! | file | what is there |
//! |---|---|
//! | this one | the words, the place |
//! | [`give`] | the old one's side |
//! | `order` | the order in which it goes, and comes back |
//! | [`take`] | the new one's side |

pub mod give;
pub(super) mod order;
pub mod take;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sockets::Place;
use crate::audit::hash::Hash;

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
enum Word {
    /// The new one: I want your place.
    TakeOver { pid: u32, version: String },
    /// The old one: here are my sockets, in this order, and my claim behind them.
    Offer { pid: u32, version: String, log: PathBuf, sockets: Vec<Listed> },
    /// The new one: let the log go.
    Release,
    /// The old one: it is yours.
    Released,
    /// The new one: I serve.
    Serving,
}

/// A socket on offer.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    place: Place,
    setting: SocketAddr,
}

impl Word {
    fn line(&self) -> std::io::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

/// Where the gate of an origin listens for its successor. Short, since a socket's path has room for 107 bytes.
fn socket_path(state_dir: &Path, origin: &str) -> PathBuf {
    let hash = Hash::leaf(origin.as_bytes()).to_string();
    state_dir.join(format!("{}.sock", hash.get(..16).unwrap_or(&hash)))
}

/// Most bytes in a line.
const MAX_LINE: usize = 64 << 10;
