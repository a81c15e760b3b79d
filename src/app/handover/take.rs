//! The side of the process that takes over. It has nothing else to do meanwhile, so it waits where it stands.

use std::io::{ErrorKind, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{Listed, MAX_LINE, Word, socket_path};
use crate::app::claim::Claim;
use crate::app::sockets::Given;

/// A running gate that is ready to be replaced. Dropping this before [`Successor::serving`] tells it to go on itself.
#[derive(Debug)]
pub struct Successor {
    stream: UnixStream,
    heard: Vec<u8>,
    /// The other's number, for messages.
    pub pid: u32,
}

/// What a running gate offered.
#[derive(Debug)]
pub struct Offer {
    /// The conversation, to go on with.
    pub successor: Successor,
    /// Its sockets.
    pub sockets: Vec<Given>,
    /// Its claim on the origin, shared.
    pub claim: Claim,
}

/// Why a running gate's place could not be taken. It serves on, if it did.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// It does not answer, or went away.
    #[error("the running gate {step}: {source}; nothing was changed")]
    Silent {
        /// What it did not do.
        step: &'static str,
        /// What came instead.
        source: std::io::Error,
    },
    /// It said something else.
    #[error("the running gate said something unexpected; is it of another version? Nothing was changed")]
    Unexpected,
    /// It writes another log.
    #[error(
        "the running gate's log is in {theirs}, this config's log.dir is {ours}: a gate is replaced on its own log"
    )]
    OtherLog {
        /// Where it is.
        theirs: PathBuf,
        /// Where it should be.
        ours: PathBuf,
    },
}

/// Asks the gate that serves `origin` for its place; `None` if there is none.
///
/// # Errors
/// [`TakeOverError`]; nothing was changed.
pub fn ask(state_dir: &Path, origin: &str, log: &Path) -> Result<Option<Offer>, TakeOverError> {
    let silent = |source| TakeOverError::Silent { step: "did not answer", source };
    let stream = match UnixStream::connect(socket_path(state_dir, origin)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(silent(error)),
    };
    let mut successor = Successor { stream, heard: Vec::new(), pid: 0 };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    successor.say(&Word::TakeOver { pid: std::process::id(), version }).map_err(silent)?;
    let mut files = Vec::new();
    let (pid, theirs, listed) = match successor.hear(ANSWER, &mut files).map_err(silent)? {
        Word::Offer { pid, log, sockets, .. } => (pid, log, sockets),
        _ => return Err(TakeOverError::Unexpected),
    };
    successor.pid = pid;
    let ours = std::fs::canonicalize(log).unwrap_or_else(|_| log.to_owned());
    if ours != theirs {
        return Err(TakeOverError::OtherLog { theirs, ours });
    }
    let claim = files.pop().filter(|_| files.len() == listed.len()).ok_or(TakeOverError::Unexpected)?;
    let sockets = listed.into_iter().zip(files).map(|(Listed { place, setting }, file)| {
        let socket = TcpListener::from(file);
        Given { place: Some(place), setting: Some(setting), socket }
    });
    Ok(Some(Offer { sockets: sockets.collect(), claim: Claim::inherit(claim), successor }))
}

impl Successor {
    /// Has the running gate let go of the log, and returns when it has.
    ///
    /// # Errors
    /// [`TakeOverError`]; the running gate goes on, if it can.
    pub fn release(&mut self) -> Result<(), TakeOverError> {
        let silent = |source| TakeOverError::Silent { step: "did not let go of the log", source };
        self.say(&Word::Release).map_err(silent)?;
        match self.hear(RELEASE, &mut Vec::new()).map_err(silent)? {
            Word::Released => Ok(()),
            _ => Err(TakeOverError::Unexpected),
        }
    }

    /// Tells the running gate that its place is taken.
    pub fn serving(mut self) {
        // Should it have gone, then not with the log, which is open here.
        if let Err(error) = self.say(&Word::Serving) {
            tracing::warn!(%error, "the gate before this one could not be told that its place is taken");
        }
    }

    fn say(&mut self, word: &Word) -> std::io::Result<()> {
        self.stream.set_write_timeout(Some(ANSWER))?;
        self.stream.write_all(word.line()?.as_bytes())
    }

    /// The next word, and the files that came with it.
    fn hear(&mut self, limit: Duration, files: &mut Vec<OwnedFd>) -> std::io::Result<Word> {
        self.stream.set_read_timeout(Some(limit))?;
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line)?);
            }
            if self.heard.len() > MAX_LINE {
                return Err(ErrorKind::InvalidData.into());
            }
            let mut bytes = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received = match recvmsg(
                &self.stream,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(ErrorKind::TimedOut.into()),
                received => received?,
            };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    files.extend(received);
                }
            }
            if received.bytes == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.heard.extend_from_slice(bytes.get(..received.bytes).unwrap_or_default());
        }
    }
}

/// How long a running gate may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How long it may take to let go: it decides what it has begun, and waits for its disk.
const RELEASE: Duration = Duration::from_secs(45);

/// Most files that come with one word (`SCM_MAX_FD` of Linux).
const MAX_FILES: usize = 253;
