//! What the HTTP/2 library answers by itself: streams that it resets and connections that it ends for a fault, which no
//! call ever hears of. They are counted by the frames that say so on their way out (RFC 9113 §4.1, §6.4, §6.8).

use super::faults::{Fault, Faults};
use super::flood::{DATA_SENT, TAKEN_BACK};

/// Follows the frames of one connection on their way out.
#[derive(Clone, Debug, Default)]
pub struct Resets {
    faults: Option<Faults>,
    /// The frame's head, and the beginning of its payload, as far as it has come.
    head: [u8; HEAD + CODE],
    there: usize,
    /// Bytes of the payload that are still to come.
    payload: usize,
    /// What was sent, in the caller's favour or against it.
    worth: i64,
}

impl Resets {
    /// Counts into `faults`.
    pub fn new(faults: Faults) -> Self {
        Self { faults: Some(faults), ..Self::default() }
    }

    /// Counts a fault of the connection.
    pub fn count(&self, fault: Fault) {
        if let Some(faults) = &self.faults {
            faults.count(fault);
        }
    }

    /// Takes the next bytes that went out.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.there >= HEAD {
                let taken = self.payload.min(bytes.len());
                let (payload, rest) = bytes.split_at(taken);
                self.keep(payload);
                self.payload -= taken;
                bytes = rest;
            } else {
                let (head, rest) = bytes.split_at((HEAD - self.there).min(bytes.len()));
                self.keep(head);
                bytes = rest;
                if self.there == HEAD {
                    let [a, b, c, ..] = self.head;
                    self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                }
            }
            if self.there >= HEAD && self.payload == 0 {
                self.ended();
                self.there = 0;
            }
        }
    }

    /// What was sent since this was asked last, as [`Flood`](super::flood::Flood) counts.
    pub const fn take_worth(&mut self) -> i64 {
        std::mem::replace(&mut self.worth, 0)
    }

    fn keep(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.head.iter_mut().skip(self.there).zip(bytes) {
            *slot = *byte;
            self.there += 1;
        }
    }

    fn ended(&mut self) {
        let [a, b, c, kind, ..] = self.head;
        let code_at = match kind {
            RST_STREAM => HEAD,
            // After the last stream's number.
            GOAWAY => HEAD + 4,
            DATA if [a, b, c] != [0; 3] => {
                self.worth += DATA_SENT;
                return;
            }
            _ => return,
        };
        let code = match self.head.get(code_at..code_at + 4) {
            Some(&[a, b, c, d]) if self.there >= code_at + 4 => u32::from_be_bytes([a, b, c, d]),
            _ => return,
        };
        if HARMLESS.contains(&code) {
            return;
        }
        self.worth -= TAKEN_BACK;
        self.count(Fault::Http2);
    }
}

const HEAD: usize = 9;
const CODE: usize = 8;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// NO_ERROR and CANCEL: an answer that came before its request had ended, a caller or upstream that went away.
const HARMLESS: [u32; 2] = [0, 8];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, 0, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn faults_are_counted_however_their_frames_are_cut() {
        let bytes = [
            frame(1, b"headers"),
            frame(RST_STREAM, &[0, 0, 0, 1]),
            frame(0, &[3; 200]),
            frame(RST_STREAM, &[0, 0, 0, 0]),
            frame(RST_STREAM, &[0, 0, 0, 8]),
            frame(4, b""),
            frame(GOAWAY, &[0, 0, 0, 9, 0, 0, 0, 11, b'd', b'e', b'b', b'u', b'g']),
            frame(GOAWAY, &[0, 0, 0, 9, 0, 0, 0, 0]),
        ]
        .concat();
        for cut in [1, 2, 3, 7, 10, 64, bytes.len()] {
            let faults = Faults::new(Clock::system());
            let mut resets = Resets::new(faults.clone());
            bytes.chunks(cut).for_each(|piece| resets.follow(piece));
            assert_eq!(faults.since_last_sum(Fault::Http2), 2, "cut by {cut}");
            assert_eq!(resets.take_worth(), DATA_SENT - 2 * TAKEN_BACK);
        }
    }
}
