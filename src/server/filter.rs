//! The framing filter between socket and hyper: hands on only heads and bodies that have one reading.
//!
//! A head is held back until it is whole and good. In the place of one that is not, hyper gets a request of the
//! filter's own, so that what was refused is answered in its turn and recorded on the same path as every other call;
//! nothing of the connection is read after it.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::faults::Fault;
use super::flood::{FATAL, Flood};
use super::linger::Linger;
use super::resets::Resets;
use crate::access::attempt::Unreadable;
use crate::access::framing::{Bounds, Framer, Segment};
use crate::access::malformed::Malformed;

/// What the filter of one connection has found, for the calls on it.
#[derive(Debug, Default)]
pub struct Findings {
    /// How many heads were handed on.
    heads: Cell<u64>,
    /// The head that was refused, and how many came before it.
    refused: RefCell<Option<(u64, Unreadable)>>,
}

impl Findings {
    /// What was refused in the place of the call that is the `number`th on its connection, from 0.
    pub fn take(&self, number: u64) -> Option<Unreadable> {
        self.refused.borrow_mut().take_if(|(place, _)| *place == number).map(|(_, unreadable)| unreadable)
    }
}

/// A socket whose bytes have one reading.
#[derive(Debug)]
pub struct Filtered<S> {
    stream: S,
    framer: Framer,
    findings: Rc<Findings>,
    resets: Resets,
    flood: Flood,
    /// What was read and not handed on yet: `clear` bytes that may be, and a head that is not whole.
    held: BytesMut,
    clear: usize,
    end: Option<End>,
    linger: Linger,
}

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// A head.
    Head(Malformed),
    /// A body.
    Body,
    /// Frames that bring no call further.
    Flood,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// What was refused is answered by what was put in its place.
    Answered,
    /// A body was; its call ends in an error.
    Body,
}

impl<S> Filtered<S> {
    /// Filters what `stream` hears.
    pub fn new(stream: S, bounds: Bounds, findings: Rc<Findings>, resets: Resets) -> Self {
        let framer = Framer::new(bounds);
        let flood = Flood::default();
        Self {
            stream,
            framer,
            findings,
            resets,
            flood,
            held: BytesMut::new(),
            clear: 0,
            end: None,
            linger: Linger::default(),
        }
    }

    /// Looks through what was read into `buf` from `start` on and leaves there what may be handed on.
    fn look(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        if self.held.is_empty() {
            let read = buf.filled().get(start..).unwrap_or_default();
            let (clear, stop) = self.follow(read, 0);
            if clear < read.len() || stop.is_some() {
                self.held.extend_from_slice(read.get(clear..).unwrap_or_default());
                buf.set_filled(start + clear);
                self.stop(0, stop);
            }
            return;
        }
        let known = self.held.len();
        self.held.extend_from_slice(buf.filled().get(start..).unwrap_or_default());
        buf.set_filled(start);
        let held = std::mem::take(&mut self.held);
        let (clear, stop) = self.follow(&held, known);
        (self.held, self.clear) = (held, clear);
        self.stop(clear, stop);
    }

    /// Puts something of the filter's own, which the library answers and ends the connection for, in the place of what was
    /// refused, which begins at `from` of what is held.
    fn stop(&mut self, from: usize, stop: Option<Stop>) {
        let Some(stop) = stop else { return };
        let in_its_place = match stop {
            Stop::Head(fault) => {
                let unreadable = Unreadable::salvage(fault, self.held.get(from..).unwrap_or_default());
                *self.findings.refused.borrow_mut() = Some((self.findings.heads.get(), unreadable));
                IN_ITS_PLACE
            }
            Stop::Flood => {
                self.resets.count(Fault::Flood);
                FATAL
            }
            Stop::Body => {
                self.held.truncate(from);
                self.end = Some(End::Body);
                return;
            }
        };
        self.held.truncate(from);
        self.held.extend_from_slice(in_its_place);
        self.clear = self.held.len();
        self.end = Some(End::Answered);
    }

    /// Follows `bytes`, of which the first `known` were followed before and belong to a head: how many may be handed on,
    /// and what is refused after them.
    fn follow(&mut self, bytes: &[u8], known: usize) -> (usize, Option<Stop>) {
        let (mut clear, mut at) = (0, known);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.framer.is_framed() {
                return match self.flood.follow(rest, Instant::now()) {
                    Ok(()) => (bytes.len(), None),
                    Err(end) => (at + end, Some(Stop::Flood)),
                };
            }
            match self.framer.read(rest) {
                Segment::Passing(count) => {
                    at += count;
                    clear = at;
                }
                Segment::Head(count) => at += count,
                Segment::HeadEnd(count) => {
                    at += count;
                    if self.framer.has_odd_target()
                        && let Some(fault) = odd_target(bytes.get(clear..at).unwrap_or_default())
                    {
                        return (clear, Some(Stop::Head(fault)));
                    }
                    clear = at;
                    self.findings.heads.set(self.findings.heads.get() + 1);
                }
                Segment::Refused { in_body: true, .. } => return (clear, Some(Stop::Body)),
                Segment::Refused { fault, .. } => return (clear, Some(Stop::Head(fault))),
            }
        }
        (clear, None)
    }

    /// Hands on what is held and clear.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.clear.min(buf.remaining());
        buf.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.advance(count);
        self.clear -= count;
        if self.held.is_empty() {
            // A connection that lies idle holds nothing.
            self.held = BytesMut::new();
        }
    }
}

/// What is wrong with a head's target, if the library cannot read it as a URI.
fn odd_target(head: &[u8]) -> Option<Malformed> {
    let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    if Uri::try_from(target).is_ok() {
        return None;
    }
    let path_end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    Some(match target.get(..path_end) {
        Some(path) if path.contains(&b'\\') => Malformed::Backslash,
        Some([b'/', ..]) => Malformed::RawByte,
        _ => Malformed::Target,
    })
}

impl<S: AsyncRead + Unpin> AsyncRead for Filtered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.clear > 0 {
                this.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            match this.end {
                Some(End::Body) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, Malformed::Framing)));
                }
                // The answer closes the connection; until then nothing more is heard.
                Some(End::Answered) => return Poll::Pending,
                None => {}
            }
            let start = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            if buf.filled().len() == start {
                return Poll::Ready(Ok(()));
            }
            this.look(buf, start);
            if buf.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Filtered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        if self.framer.is_framed() {
            self.resets.follow(buf.get(..written).unwrap_or_default());
            let worth = self.resets.take_worth();
            self.flood.sent(worth);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.framer.is_amid() {
            return Pin::new(&mut this.stream).poll_shutdown(cx);
        }
        this.linger.poll_shutdown(&mut this.stream, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        if self.framer.is_framed() {
            let mut left = written;
            for buf in bufs {
                let taken = left.min(buf.len());
                self.resets.follow(buf.get(..taken).unwrap_or_default());
                left -= taken;
            }
            let worth = self.resets.take_worth();
            self.flood.sent(worth);
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A request that is answered and ends the connection; its own words mean nothing.
const IN_ITS_PLACE: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    const BOUNDS: Bounds = Bounds { bytes: 4_096, fields: 16 };

    /// What hyper would read of `pieces`, and what was found.
    fn read(pieces: &[&str]) -> (String, Rc<Findings>) {
        let findings = Rc::<Findings>::default();
        let mut script = tokio_test::io::Builder::new();
        for piece in pieces {
            script.read(piece.as_bytes());
        }
        let mut filtered = Filtered::new(script.build(), BOUNDS, Rc::clone(&findings), Resets::default());
        let mut heard = Vec::new();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let reading = async {
                let mut some = [0; 64];
                while let Ok(count @ 1..) = filtered.read(&mut some).await {
                    heard.extend_from_slice(&some[..count]);
                }
            };
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), reading).await;
        });
        // The script minds what it was not asked for; here that is the claim.
        std::mem::forget(filtered);
        (String::from_utf8(heard).unwrap(), findings)
    }

    const GOOD: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn what_is_good_goes_by_as_it_came() {
        let body = "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        for pieces in
            [vec![GOOD, body, GOOD], vec!["GE", "T /a HTTP/1.1\r\nHo", "st: a\r\n\r", "\nPO", &body[2..]]]
        {
            let (heard, findings) = read(&pieces);
            assert_eq!(heard, pieces.concat());
            assert!(findings.refused.borrow().is_none());
        }
    }

    #[test]
    fn what_is_refused_is_answered_in_its_turn_and_nothing_after_it_is_heard() {
        let bad = "POST /b?secret HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx";
        for pieces in [
            vec![GOOD, GOOD, bad, GOOD],
            vec![
                "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b",
                &bad[7..],
                GOOD,
            ],
        ] {
            let (heard, findings) = read(&pieces);
            assert_eq!(heard, [GOOD, GOOD, std::str::from_utf8(IN_ITS_PLACE).unwrap()].concat());
            assert!(findings.take(0).is_none() && findings.take(1).is_none());
            let refused = findings.take(2).unwrap();
            assert_eq!((refused.fault, refused.method.as_str()), (Malformed::Framing, "POST"));
            assert_eq!(refused.target, b"/b?secret");
            assert!(findings.take(2).is_none(), "it is answered once");
        }
    }

    #[test]
    fn a_head_that_is_not_whole_is_not_handed_on() {
        let (heard, _) = read(&["GET /a HTTP/1.1\r\nHost: a\r\n"]);
        assert_eq!(heard, "");
    }

    #[test]
    fn a_bad_chunk_ends_in_an_error_after_what_was_good() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (heard, findings) = read(&[head, "1\r\na\r\n", "zz"]);
        assert_eq!(heard, format!("{head}1\r\na\r\n"));
        assert!(findings.refused.borrow().is_none());
    }

    #[test]
    fn a_target_the_library_cannot_read_is_refused_here() {
        for (target, fault) in [
            ("/a<b", Malformed::RawByte),
            ("/a\\<b", Malformed::Backslash),
            ("a b", Malformed::RequestLine),
            ("http://", Malformed::Target),
            ("?x", Malformed::Target),
        ] {
            let (_, findings) = read(&[&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")]);
            assert_eq!(findings.take(0).map(|refused| refused.fault), Some(fault), "{target}");
        }
    }
}
