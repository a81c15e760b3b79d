//! The side of the gate whose place is taken.

use std::io::{Error, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};

use super::{Listed, MAX_LINE, Word, socket_path};
use crate::app::claim::Claim;
use crate::app::sockets::Sockets;

/// Where a running gate hears that another process wants its place.
#[derive(Debug)]
pub struct Threshold {
    listener: UnixListener,
    path: PathBuf,
}

/// Another process that wants this one's place.
#[derive(Debug)]
pub struct Visitor {
    stream: BufReader<UnixStream>,
    /// Its number, for messages.
    pub pid: u32,
}

impl Threshold {
    /// Begins to listen, in the place of whoever listened there before: whoever has the origin's claim may.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(state_dir: &Path, origin: &str) -> std::io::Result<Self> {
        let path = socket_path(state_dir, origin);
        // Made under another name first, so that nobody finds it before it is closed to others.
        let partial = path.with_extension(format!("{}", std::process::id()));
        let _ = std::fs::remove_file(&partial);
        let listener = UnixListener::bind(&partial)?;
        std::fs::set_permissions(&partial, PermissionsExt::from_mode(0o600))?;
        std::fs::rename(&partial, &path)?;
        Ok(Self { listener, path })
    }

    /// The next process that wants this one's place, and may: it is the same user's, or root's.
    pub async fn next(&self) -> Visitor {
        loop {
            let visited = async {
                let (stream, _) = self.listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                if uid != 0 && uid != rustix::process::geteuid().as_raw() {
                    return Err(Error::new(ErrorKind::PermissionDenied, format!("user {uid} may not")));
                }
                let mut visitor = Visitor { stream: BufReader::new(stream), pid: 0 };
                match visitor.hear(BRIEF).await? {
                    Word::TakeOver { pid, version } => {
                        tracing::info!(pid, version, "another process asks to take over");
                        visitor.pid = pid;
                        Ok(visitor)
                    }
                    _ => Err(ErrorKind::InvalidData.into()),
                }
            };
            match visited.await {
                Ok(visitor) => return visitor,
                Err(error) => {
                    tracing::warn!(%error, "a visitor at the socket for take-overs was turned away");
                    // Out of files, it may be.
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Takes the socket's name away: nobody is there any more.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Visitor {
    /// Offers sockets and claim.
    pub(super) async fn offer(
        &mut self,
        log: &Path,
        sockets: &Sockets,
        claim: &Claim,
    ) -> std::io::Result<()> {
        let listed = sockets.0.iter().map(|(place, setting, _)| Listed { place: *place, setting: *setting });
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let log = std::fs::canonicalize(log)?;
        let offer = Word::Offer { pid: std::process::id(), version, log, sockets: listed.collect() };
        let files: Vec<BorrowedFd<'_>> =
            sockets.0.iter().map(|socket| socket.2.as_fd()).chain([claim.as_fd()]).collect();
        let line = offer.line()?;
        let stream = self.stream.get_mut();
        let sent = stream
            .async_io(Interest::WRITABLE, || {
                let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(files.len()))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
                    return Err(ErrorKind::OutOfMemory.into());
                }
                let bytes = [IoSlice::new(line.as_bytes())];
                Ok(sendmsg(&*stream, &bytes, &mut ancillary, SendFlags::NOSIGNAL)?)
            })
            .await?;
        self.stream.get_mut().write_all(line.as_bytes().get(sent..).unwrap_or_default()).await
    }

    /// Waits to be told to let go.
    pub(super) async fn released(&mut self) -> std::io::Result<()> {
        match self.hear(PATIENCE).await? {
            Word::Release => Ok(()),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// Says that the log is free, and waits until the other serves.
    pub(super) async fn serves(&mut self) -> std::io::Result<()> {
        self.say(&Word::Released).await?;
        match self.hear(PATIENCE).await? {
            Word::Serving => Ok(()),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// Returns once the other has gone; it says nothing while it waits.
    pub(super) async fn gone(&mut self) {
        let _ = self.stream.fill_buf().await;
    }

    async fn say(&mut self, word: &Word) -> std::io::Result<()> {
        self.stream.get_mut().write_all(word.line()?.as_bytes()).await
    }

    async fn hear(&mut self, limit: Duration) -> std::io::Result<Word> {
        let mut line = Vec::new();
        let mut stream = (&mut self.stream).take(MAX_LINE as u64);
        match tokio::time::timeout(limit, stream.read_until(b'\n', &mut line)).await {
            Err(_) => Err(ErrorKind::TimedOut.into()),
            Ok(Err(error)) => Err(error),
            Ok(Ok(0)) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) => Ok(serde_json::from_slice(&line)?),
        }
    }
}

/// How long a visitor may take to say what it wants.
const BRIEF: Duration = Duration::from_secs(5);

/// How long the other process may take over a step: it may have to read much of the log.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the threshold rests after a visitor that was turned away.
const PAUSE: Duration = Duration::from_millis(50);
