//! Connections outward, to upstreams and to where issuers publish their keys; and TLS on those that come in.
//!
//! | file | what is there |
//! |---|---|
//! | [`dial`] | [`Endpoint`] and [`Dialer`]: resolve, connect, TLS, under one deadline |
//! | [`tls`] | [`ClientTls`]: whom we trust, and which protocols we offer |
//! | [`serving`] | [`ServerTls`]: our certificate, and whose client certificates we believe |
//! | `small` | small writes in one piece |
//! | [`pem`] | certificates and private keys from PEM files |
//!
//! Invariants:
//! 1. Every failure says which step failed: resolving, connecting, or TLS.
//! 2. The name a certificate is checked against is the host of the URL, never something a peer said.
//! 3. Nothing here knows HTTP; nothing here retries.

pub mod dial;
pub mod pem;
pub mod serving;
mod small;
pub mod tls;

pub use dial::{DialError, Dialer, Endpoint, EndpointError, Stream};
pub use pem::PemError;
pub use serving::{ServerTls, ServingError, client_verifier};
pub use small::poll_write_pieces;
pub use tls::{ClientTls, Roots, TlsError};
