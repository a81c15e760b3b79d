//! One checkpoint brought to one witness.

use std::sync::Arc;

use http::StatusCode;

use super::post::{Peer, PostError};
use crate::audit::checkpoint::{CosignerKey, Note, Submission};
use crate::audit::hash::Hash;

/// A checkpoint that is to be cosigned.
#[derive(Debug)]
pub struct Target {
    /// How many records it covers.
    pub size: u64,
    /// The note, as the log's key signed it.
    pub note: Arc<str>,
}

/// A witness, and what is known of it.
#[derive(Debug)]
pub struct Asked {
    /// What it is called in figures and messages.
    pub name: Arc<str>,
    /// What its cosignatures are checked by.
    pub key: CosignerKey,
    peer: Peer,
    /// The size it holds, as far as is known.
    held: u64,
    /// The largest size of which a cosignature of it was seen to hold.
    cosigned: u64,
}

/// Why a witness did not cosign.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There was no answer.
    #[error(transparent)]
    Post(#[from] PostError),
    /// It does not know the log, or not its key.
    #[error("it answered {0}: it does not know this log, or not by this key")]
    Unknown(StatusCode),
    /// Another status, or an answer that is not of the form.
    #[error("it answered {0}, which is not what a witness answers here")]
    Answer(StatusCode),
    /// It holds a size that this log has not reached.
    #[error(
        "it says that it has cosigned {held} records of this log, which has {size}: another log is written under its \
         name, or this one was set back"
    )]
    Ahead {
        /// By the witness.
        held: u64,
        /// By the log.
        size: u64,
    },
    /// It holds less than it has cosigned.
    #[error(
        "it says that it has cosigned {held} records of this log, but it has cosigned {cosigned}: it was set back"
    )]
    SetBack {
        /// By the witness.
        held: u64,
        /// By its own cosignature.
        cosigned: u64,
    },
    /// It holds another history.
    #[error(
        "what it has cosigned of this log, {held} records, is not how this log begins: the log is forked, or was rewritten"
    )]
    Forked {
        /// The size at which they differ, or below.
        held: u64,
    },
    /// Its cosignature does not hold, or is not there.
    #[error("its cosignature is missing or does not hold")]
    BadCosignature,
    /// The proof could not be made.
    #[error("the proof for it could not be made: {0}")]
    Proof(String),
}

impl Failure {
    /// The word for figures.
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Post(_) => "unreachable",
            Self::Unknown(_) => "unknown_log",
            Self::Answer(_) => "answer",
            Self::Ahead { .. } => "ahead",
            Self::SetBack { .. } => "set_back",
            Self::Forked { .. } => "forked",
            Self::BadCosignature => "bad_cosignature",
            Self::Proof(_) => "proof",
        }
    }

    /// Whether somebody has to look, at the log or at the witness: time alone does not mend it.
    pub const fn is_alarm(&self) -> bool {
        match self {
            Self::Ahead { .. } | Self::SetBack { .. } | Self::Forked { .. } | Self::BadCosignature => true,
            Self::Post(_) | Self::Unknown(_) | Self::Answer(_) | Self::Proof(_) => false,
        }
    }
}

impl Asked {
    /// A witness that is known to have cosigned `cosigned` records, or 0.
    pub fn new(name: Arc<str>, key: CosignerKey, peer: Peer, cosigned: u64) -> Self {
        Self { name, key, peer, held: cosigned, cosigned }
    }

    /// Has `target` cosigned; the lines of the cosignature, checked. `prove` makes the consistency proof from a size.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask<P: Future<Output = Result<Vec<Hash>, String>>>(
        &mut self,
        target: &Target,
        prove: impl Fn(u64) -> P,
    ) -> Result<String, Failure> {
        // Once for the size it is thought to hold, once for the one it says it does; and once more, should another
        // gate's last request have come between.
        for _ in 0..3 {
            let old = self.held;
            let proof = prove(old).await.map_err(Failure::Proof)?;
            let body = Submission { old, proof, note: target.note.as_bytes() }.to_bytes();
            let reply = self.peer.post(body).await?;
            match reply.status {
                StatusCode::OK => return self.cosigned(target, &reply.body),
                StatusCode::CONFLICT if reply.is_size => {
                    self.held = self.believe(old, size(&reply.body), target.size)?;
                }
                StatusCode::UNPROCESSABLE_ENTITY => return Err(Failure::Forked { held: old }),
                status @ (StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) => {
                    return Err(Failure::Unknown(status));
                }
                status => return Err(Failure::Answer(status)),
            }
        }
        Err(Failure::Answer(StatusCode::CONFLICT))
    }

    /// The size that a witness says it holds, when it was thought to hold `old`; if that can be.
    fn believe(&self, old: u64, held: Option<u64>, size: u64) -> Result<u64, Failure> {
        let held = held.ok_or(Failure::Answer(StatusCode::CONFLICT))?;
        if held > size {
            return Err(Failure::Ahead { held, size });
        }
        if held < self.cosigned {
            return Err(Failure::SetBack { held, cosigned: self.cosigned });
        }
        if held == old {
            // It was given that very size: then it is the root that differs.
            return Err(Failure::Forked { held });
        }
        Ok(held)
    }

    fn cosigned(&mut self, target: &Target, lines: &[u8]) -> Result<String, Failure> {
        let note = [target.note.as_bytes(), lines].concat();
        let note = Note::parse(&note).map_err(|_| Failure::BadCosignature)?;
        match self.key.cosigned(&note) {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Err(Failure::BadCosignature),
        }
        (self.held, self.cosigned) = (target.size, target.size);
        // Its own lines alone: what else it sends, nobody has asked for.
        Ok(self.key.lines(&note))
    }
}

/// A 409's body: the size in decimal, and a newline.
fn size(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?.strip_suffix('\n')?;
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}
