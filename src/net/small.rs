//! Small writes in one piece.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Writes `bufs` as [`AsyncWrite::poll_write_vectored`] does; small ones by a plain write, which the kernel is quicker over
/// than over a list of pieces: a head alone, or a head and a short body.
pub fn poll_write_pieces<S: AsyncWrite>(
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [one] = bufs {
        return stream.poll_write(cx, one);
    }
    let length: usize = bufs.iter().map(|buf| buf.len()).sum();
    if length > SMALL {
        return stream.poll_write_vectored(cx, bufs);
    }
    let mut whole = [0; SMALL];
    let mut room = whole.as_mut_slice();
    for buf in bufs {
        let Some((piece, rest)) = room.split_at_mut_checked(buf.len()) else { break };
        piece.copy_from_slice(buf);
        room = rest;
    }
    stream.poll_write(cx, whole.get(..length).unwrap_or_default())
}

/// Copying so many bytes costs less than what it saves.
const SMALL: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes of each write, and says by which way they came.
    struct Sink {
        most: usize,
        heard: Vec<u8>,
        pieces: usize,
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let taken = buf.len().min(self.most);
            self.heard.extend_from_slice(&buf[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.pieces += bufs.len();
            let taken: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).take(self.most).collect();
            self.heard.extend_from_slice(&taken);
            Poll::Ready(Ok(taken.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn whatever_the_pieces_all_of_them_are_written_in_order() {
        let long = vec![b'x'; SMALL];
        let table: [&[&[u8]]; 6] =
            [&[], &[b"head"], &[b"head", b"", b"body"], &[b"", b"a"], &[&long, b"y"], &[&long[1..], b"y"]];
        for pieces in table {
            for most in [usize::MAX, 5] {
                let bufs: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                let mut sink = Sink { most, heard: Vec::new(), pieces: 0 };
                let mut cx = Context::from_waker(std::task::Waker::noop());
                let written = poll_write_pieces(Pin::new(&mut sink), &mut cx, &bufs);
                let whole = pieces.concat();
                let taken = whole.len().min(most);
                assert!(matches!(written, Poll::Ready(Ok(count)) if count == taken));
                assert_eq!(sink.heard, whole[..taken]);
                assert_eq!(sink.pieces > 0, whole.len() > SMALL, "only what is long goes in pieces");
            }
        }
    }
}
