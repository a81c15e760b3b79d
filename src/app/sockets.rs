//! The sockets a gate listens on: bound by itself, or given to it by the gate whose place it takes or by systemd.

use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use crate::config::Settings;
use crate::server::listen::{BindError, bind};

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Calls to services.
    Front,
    /// The admin API.
    Admin,
    /// Health and figures.
    Health,
}

/// A socket that somebody else bound.
#[derive(Debug)]
pub struct Given {
    /// What it is for, if that was said.
    pub place: Option<Place>,
    /// The setting it was bound by, if it was one.
    pub setting: Option<SocketAddr>,
    /// The socket.
    pub socket: TcpListener,
}

/// All sockets of a gate, with the setting each stands for, in the settings' order.
#[derive(Debug)]
pub struct Sockets(pub Vec<(Place, SocketAddr, TcpListener)>);

/// A gate's sockets could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// One could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// One that systemd passed is for nothing.
    #[error(
        "systemd passed a socket at {address} (named {name:?}) that no setting wants: give it \
         FileDescriptorName=front, admin or health, or the address of server.listen, admin.listen or health.listen"
    )]
    Unwanted {
        /// Where it listens.
        address: String,
        /// Its name.
        name: String,
    },
    /// One that systemd passed is not a listening TCP socket, or cannot be asked.
    #[error("socket {number} (named {name:?}) that systemd passed cannot be used: {source}")]
    Unusable {
        /// Which, from 0.
        number: usize,
        /// Its name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Sockets {
    /// Finds for each setting the socket that was given for it, and binds those that were not. Returns what nobody
    /// wants, too.
    ///
    /// # Errors
    /// [`SocketError::Bind`].
    pub fn gather(settings: &Settings, mut given: Vec<Given>) -> Result<(Self, Vec<Given>), SocketError> {
        let wanted = settings
            .server
            .listen
            .iter()
            .map(|address| (Place::Front, *address))
            .chain([(Place::Admin, settings.admin.listen), (Place::Health, settings.health.listen)])
            .collect::<Vec<_>>();
        let mut found: Vec<Option<TcpListener>> = wanted.iter().map(|_| None).collect();
        // An address says more than a name: those go first.
        let by_address = |given: &Given, place: Place, address: SocketAddr| {
            given.place.is_none_or(|said| said == place)
                && (given.setting == Some(address)
                    || given.socket.local_addr().is_ok_and(|bound| bound == address))
        };
        let by_name = |given: &Given, place: Place, _: SocketAddr| {
            given.setting.is_none() && given.place == Some(place)
        };
        type Fits<'a> = &'a dyn Fn(&Given, Place, SocketAddr) -> bool;
        for fits in [&by_address as Fits<'_>, &by_name] {
            for ((place, address), found) in wanted.iter().zip(&mut found) {
                if found.is_none()
                    && let Some(at) = given.iter().position(|given| fits(given, *place, *address))
                {
                    *found = Some(given.remove(at).socket);
                }
            }
        }
        let sockets = wanted.into_iter().zip(found).map(|((place, address), found)| {
            let socket = found.map_or_else(|| bind(address), Ok)?;
            Ok((place, address, socket))
        });
        Ok((Self(sockets.collect::<Result<_, SocketError>>()?), given))
    }

    /// The sockets of one place.
    pub fn of(&self, place: Place) -> impl Iterator<Item = &TcpListener> {
        self.0.iter().filter(move |socket| socket.0 == place).map(|socket| &socket.2)
    }
}

/// The sockets that systemd passed to this process (`sd_listen_fds(3)`), by their names; none if it passed none.
///
/// # Errors
/// [`SocketError::Unusable`].
pub fn activated() -> Result<Vec<Given>, SocketError> {
    let mut passed = ListenFd::from_env();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    (0..passed.len())
        .map(|number| {
            let name = names.next().unwrap_or_default();
            let unusable = |source| SocketError::Unusable { number, name: name.to_owned(), source };
            let place = match name {
                "front" => Some(Place::Front),
                "admin" => Some(Place::Admin),
                "health" => Some(Place::Health),
                _ => None,
            };
            let socket = passed
                .take_tcp_listener(number)
                .map_err(unusable)?
                .ok_or_else(|| unusable(std::io::Error::other("it was taken already")))?;
            socket.set_nonblocking(true).map_err(unusable)?;
            Ok(Given { place, setting: None, socket })
        })
        .collect()
}

/// Says of the first socket that systemd passed for nothing that it is so.
///
/// # Errors
/// [`SocketError::Unwanted`] if there is one.
pub fn none_unwanted(left: &[Given]) -> Result<(), SocketError> {
    let Some(given) = left.first() else { return Ok(()) };
    let address = given.socket.local_addr().map_or_else(|error| error.to_string(), |at| at.to_string());
    let name = given.place.map_or("none of ours", |place| match place {
        Place::Front => "front",
        Place::Admin => "admin",
        Place::Health => "health",
    });
    Err(SocketError::Unwanted { address, name: name.to_owned() })
}
