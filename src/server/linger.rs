//! The end of a connection whose peer is still sending.
//!
//! A socket that is closed with bytes unread resets the connection, and a reset takes from the peer what it has not read
//! yet: the answer that says why. So what goes on arriving is read and dropped for a while (RFC 9112 section 9.6).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How far the end has come.
#[derive(Debug, Default)]
pub struct Linger {
    /// Runs from when the peer has been told that nothing more comes.
    until: Option<Pin<Box<Sleep>>>,
}

impl Linger {
    /// Ends `stream` on this side, and then reads until its peer has ended it too, for five seconds at most.
    ///
    /// # Errors
    /// The stream's own, of its end.
    pub fn poll_shutdown<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let until = match &mut self.until {
            Some(until) => until,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                self.until.insert(Box::pin(tokio::time::sleep(LONGEST)))
            }
        };
        let mut dropped = [0; 8192];
        while until.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut dropped);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                // Its end, or an error that no longer matters.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// How long a peer that goes on sending is heard.
const LONGEST: Duration = Duration::from_secs(5);
