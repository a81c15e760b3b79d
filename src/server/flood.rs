//! HTTP/2 frames that cost the gate work and bring no call further (CVE-2019-9512 and its kin, CVE-2023-44487): pings,
//! settings, priorities, windows by the byte, empty data, calls that are taken back.
//!
//! The library answers or follows each of them, for as long as they come. Here a connection has a stock of patience: such
//! frames use it up, calls and data restore some of it, and so does time. A caller that goes about its business never
//! comes near its end.
//!
//! Invariant: how bytes are cut into pieces makes no difference.

use tokio::time::Instant;

/// Follows the frames of one connection on their way in (RFC 9113 §4.1).
#[derive(Clone, Debug)]
pub struct Flood {
    /// The frame's head, as far as it has come.
    head: [u8; HEAD],
    there: usize,
    /// Bytes of the payload that are still to come.
    payload: usize,
    stock: i64,
    since: Option<Instant>,
}

impl Default for Flood {
    fn default() -> Self {
        Self { head: [0; HEAD], there: 0, payload: 0, stock: STOCK, since: None }
    }
}

impl Flood {
    /// Takes the next bytes that came in.
    ///
    /// # Errors
    /// Patience has ended: at the end of a frame, after so many of these bytes. Nothing is to be read after them.
    pub fn follow(&mut self, bytes: &[u8], now: Instant) -> Result<(), usize> {
        self.restore(now);
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.payload > 0 {
                let passed = self.payload.min(rest.len());
                self.payload -= passed;
                at += passed;
                self.patience(at)?;
                continue;
            }
            for byte in rest.iter().take(HEAD - self.there) {
                if let Some(slot) = self.head.get_mut(self.there) {
                    *slot = *byte;
                }
                self.there += 1;
                at += 1;
            }
            if self.there == HEAD {
                self.there = 0;
                self.frame();
                self.patience(at)?;
            }
        }
        Ok(())
    }

    /// What was sent restores patience, or uses it up.
    pub fn sent(&mut self, worth: i64) {
        self.stock = self.stock.saturating_add(worth).min(STOCK);
    }

    const fn patience(&self, at: usize) -> Result<(), usize> {
        if self.payload == 0 && self.stock < 0 { Err(at) } else { Ok(()) }
    }

    fn frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.sent(match kind {
            DATA if self.payload > 0 => 1,
            // The end of a body may be a frame of its own.
            DATA if flags & END_STREAM != 0 => 0,
            HEADERS => A_CALL,
            RST_STREAM => -TAKEN_BACK,
            _ => -1,
        });
    }

    fn restore(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let seconds = now.duration_since(since).as_secs();
        if seconds > 0 {
            self.sent(i64::try_from(seconds).unwrap_or(STOCK).saturating_mul(A_SECOND));
            self.since = Some(now);
        }
    }
}

/// A frame that the library answers with the end of the connection: settings of a stream (RFC 9113 §6.5).
pub const FATAL: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 1];

/// What a call is worth: as many small frames may come with each.
const A_CALL: i64 = 4;

/// What it costs when it is taken back, by its caller or since it broke the rules: more than it was worth.
pub const TAKEN_BACK: i64 = 8;

/// What data sent to the caller is worth: it widens its windows for it, one for the stream and one for all.
pub const DATA_SENT: i64 = 2;

/// What comes back each second.
const A_SECOND: i64 = 50;

/// What there is at most, and at first.
const STOCK: i64 = 1000;

const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        [&head[..], &vec![7; payload]].concat()
    }

    /// How many of these frames go by; all of them, if patience does not end.
    fn gone_by(frames: &[Vec<u8>], cut: usize) -> usize {
        let (mut flood, now) = (Flood::default(), Instant::now());
        let bytes = frames.concat();
        let mut before = 0;
        for piece in bytes.chunks(cut) {
            if let Err(at) = flood.follow(piece, now) {
                let ends = frames.iter().scan(0, |end, frame| {
                    *end += frame.len();
                    Some(*end)
                });
                return ends.take_while(|end| *end <= before + at).count();
            }
            before += piece.len();
        }
        frames.len()
    }

    #[test]
    fn each_kind_of_flood_uses_up_patience_within_a_bounded_number_of_frames() {
        for (what, frames, most) in [
            ("pings", vec![frame(PING, 0, 8)], 1001),
            ("settings", vec![frame(SETTINGS, 0, 6)], 1001),
            ("windows", vec![frame(WINDOW_UPDATE, 0, 4)], 1001),
            ("empty data", vec![frame(DATA, 0, 0)], 1001),
            ("continuations", vec![frame(9, 0, 0)], 1001),
            ("of no known kind", vec![frame(200, 0, 300)], 1001),
            ("calls taken back", vec![frame(HEADERS, 5, 20), frame(RST_STREAM, 0, 4)], 503),
        ] {
            let flood: Vec<_> = frames.iter().cycle().take(10_000).cloned().collect();
            let gone = gone_by(&flood, flood.concat().len());
            assert!((most - 10..=most).contains(&gone), "{what}: {gone}");
        }
    }

    #[test]
    fn how_the_bytes_are_cut_makes_no_difference() {
        let flood: Vec<_> = (0..3000).map(|n| frame([PING, 200, SETTINGS][n % 3], 0, n % 40)).collect();
        for cut in [1, 2, 7, 9, 10, 1000] {
            assert_eq!(gone_by(&flood, cut), 1001, "cut by {cut}");
        }
    }

    #[test]
    fn calls_and_bodies_go_on_for_ever() {
        let call = [
            frame(HEADERS, 4, 100),
            frame(DATA, 0, 1000),
            frame(WINDOW_UPDATE, 0, 4),
            frame(WINDOW_UPDATE, 0, 4),
            frame(PING, 0, 8),
            frame(DATA, END_STREAM, 0),
        ];
        let calls: Vec<_> = call.iter().cycle().take(60_000).cloned().collect();
        assert_eq!(gone_by(&calls, 777), calls.len());
        let upload: Vec<_> = (0..50_000).map(|_| frame(DATA, 0, 9)).collect();
        assert_eq!(gone_by(&upload, 777), upload.len());
    }

    #[test]
    fn time_and_what_is_sent_restore_patience() {
        let (mut flood, mut now) = (Flood::default(), Instant::now());
        for _ in 0..3600 {
            now += Duration::from_secs(1);
            assert_eq!(flood.follow(&frame(PING, 0, 8).repeat(50), now), Ok(()));
        }
        for _ in 0..10_000 {
            flood.sent(DATA_SENT);
            assert_eq!(flood.follow(&frame(WINDOW_UPDATE, 0, 4).repeat(2), now), Ok(()));
        }
        assert!(flood.follow(&frame(PING, 0, 8).repeat(1001), now).is_err());
    }
}
