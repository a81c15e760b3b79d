//! The addresses a gate listens on, and who is told of them.

use std::net::SocketAddr;
use std::path::Path;

use super::sockets::{Place, Sockets};

/// The addresses a gate listens on.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) front: Vec<SocketAddr>,
    pub(super) admin: SocketAddr,
    pub(super) health: SocketAddr,
}

impl Addresses {
    pub(super) fn of(sockets: &Sockets) -> std::io::Result<Self> {
        let all = |place| sockets.of(place).map(std::net::TcpListener::local_addr).collect::<Vec<_>>();
        let one = |place| all(place).pop().unwrap_or_else(|| Err(std::io::ErrorKind::NotFound.into()));
        Ok(Self {
            front: all(Place::Front).into_iter().collect::<Result<_, _>>()?,
            admin: one(Place::Admin)?,
            health: one(Place::Health)?,
        })
    }

    pub(super) fn tell(&self) {
        for address in &self.front {
            tracing::info!(face = "front", %address, "listening");
        }
        tracing::info!(face = "admin", address = %self.admin, "listening");
        tracing::info!(face = "health", address = %self.health, "listening");
    }

    /// Writes them as JSON, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> std::io::Result<()> {
        let json = serde_json::json!({
            "front": self.front.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "admin": self.admin.to_string(),
            "health": self.health.to_string(),
        });
        let partial = path.with_extension("partial");
        std::fs::write(&partial, format!("{json}\n"))?;
        std::fs::rename(partial, path)
    }
}
