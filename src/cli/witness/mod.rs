//! `portcullis witness …`: a witness of logs, for another machine than theirs.
//!
//! | file | what is there |
//! |---|---|
//! | [`serve`] | runs one |
//! | [`keygen`] | makes its key |

pub mod keygen;
pub mod serve;

pub(super) const AFTER_HELP: &str = "\
A witness cosigns a log's checkpoints, each only if it continues the one it cosigned before (C2SP tlog-witness, \
cosignature/v1). It stands on a machine that the log's operator does not have: then a log that is rewritten or forked \
finds no cosignature.

Examples:
  portcullis witness keygen --name witness.example.com/w1 --out witness.pem > witness.vkey
  portcullis witness serve --name witness.example.com/w1 --key witness.pem --state witness \\
      --log \"$(cat gate-1.vkey)\"

Exit codes: 0 fine, 1 nothing is checked here, 2 wrong use or unreadable input.";
