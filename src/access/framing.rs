//! Where one HTTP/1 request ends and the next begins, followed byte by byte before anything else reads them.
//!
//! Only what RFC 9112 gives one reading gets by: what libraries repair in silence or read in two ways is refused. The
//! rules, each for a class of attacks on servers that disagree about a message's end (request smuggling):
//!
//! - lines end in CRLF, and CR, LF and NUL stand nowhere else (RFC 9112 §2.2);
//! - a request line is method, space, target, space, `HTTP/1.0` or `HTTP/1.1` (§3), and nothing comes before it;
//! - a field line is a token, a colon and a value, on one line (§5, RFC 9110 §5.5);
//! - a body has at most one length: one `Content-Length` of digits, or `Transfer-Encoding: chunked` in HTTP/1.1 (§6);
//! - a chunk is a size in hexadecimal, printable extensions, data and CRLF (§7.1); trailers do not frame anything.
//!
//! An HTTP/2 connection (RFC 9113 §3.4) is told by its preface and let through: its frames say their own length.
//!
//! Invariant: how bytes are cut into pieces makes no difference.

mod class;

use self::class::{PLAIN_TARGET, TOKEN, VALUE, is, run};
use super::malformed::Malformed;

/// Follows the bytes of one connection.
#[derive(Clone, Debug)]
pub struct Framer {
    state: State,
    bounds: Bounds,
    head: Head,
    chunk: Chunk,
}

/// Bounds on a head.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes, its last empty line included.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
}

/// What the bytes given are, up to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// So many bytes go by: of a body, or of HTTP/2.
    Passing(usize),
    /// So many bytes, all there were, belong to a head that goes on.
    Head(usize),
    /// A head ends after so many bytes.
    HeadEnd(usize),
    /// The byte at this place must not be there. `in_body`: the head before it was whole.
    Refused {
        /// How many bytes before it were well.
        at: usize,
        /// What is wrong.
        fault: Malformed,
        /// Whether it lies in the body of a request whose head was good.
        in_body: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The connection's first bytes; so many are those of the HTTP/2 preface.
    Preface(usize),
    /// HTTP/2 from here on.
    Framed,
    /// Before a request line.
    Start,
    Method,
    TargetStart,
    Target,
    /// So many bytes of `HTTP/1.` are there.
    Version(usize),
    Minor,
    RequestLineCr,
    RequestLineLf,
    /// At the start of a field line, or of the empty one.
    FieldStart,
    Name,
    /// Between colon and value.
    Lead,
    Value,
    FieldLf,
    EndLf,
    /// The head, or the trailers, are whole.
    Ended,
    /// So many bytes of a body with a length are to come.
    Body(u64),
    ChunkStart,
    ChunkSize,
    ChunkExtension,
    ChunkLf,
    ChunkData(u64),
    ChunkDataCr,
    ChunkDataLf,
    /// Nothing more is read.
    Refused(Malformed),
}

/// What is known of the head, or of the trailers, under way.
#[derive(Clone, Debug, Default)]
struct Head {
    bytes: usize,
    fields: usize,
    /// These are the fields after a chunked body.
    trailers: bool,
    target: usize,
    odd_target: bool,
    http10: bool,
    name: Name,
    value: Value,
    length: Option<u64>,
    chunked: bool,
}

/// A chunk's line so far.
#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    size: u64,
    digits: u8,
    extension: usize,
}

/// A field's name in lower case, as far as it may be one that frames.
#[derive(Clone, Debug, Default)]
struct Name {
    bytes: [u8; LONGEST_FRAMING_NAME],
    len: usize,
}

/// A framing field's value so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Value {
    /// Of a field that does not frame.
    #[default]
    Any,
    /// `Content-Length`, as far as its digits have come.
    Length(Option<u64>),
    /// `Transfer-Encoding`: so many bytes of `chunked`.
    Coding(usize),
}

impl Framer {
    /// The beginning of a connection.
    pub fn new(bounds: Bounds) -> Self {
        Self { state: State::Preface(0), bounds, head: Head::default(), chunk: Chunk::default() }
    }

    /// Reads on, at most to the end of a head or a body.
    pub fn read(&mut self, bytes: &[u8]) -> Segment {
        match self.state {
            State::Preface(matched) => self.preface(matched, bytes),
            State::Framed => Segment::Passing(bytes.len()),
            State::Refused(fault) => Segment::Refused { at: 0, fault, in_body: false },
            state if state.is_head() && !self.head.trailers => self.head(bytes),
            _ => self.body(bytes),
        }
    }

    /// Whether HTTP/2 is spoken.
    pub fn is_framed(&self) -> bool {
        self.state == State::Framed
    }

    /// Whether more is to come of what an HTTP/1 peer has begun, head or body, or something was refused.
    pub fn is_amid(&self) -> bool {
        !matches!(self.state, State::Preface(_) | State::Framed | State::Start)
    }

    /// Whether the target of the head that just ended has bytes or a form that not everybody reads as a URI.
    pub const fn has_odd_target(&self) -> bool {
        self.head.odd_target
    }

    fn preface(&mut self, matched: usize, bytes: &[u8]) -> Segment {
        let expected = PREFACE.get(matched..).unwrap_or_default();
        let same = expected.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        if same == expected.len() {
            self.state = State::Framed;
            return Segment::Passing(same);
        }
        if same == bytes.len() {
            self.state = State::Preface(matched + same);
            return Segment::Head(same);
        }
        // It is HTTP/1, and what matched is how its first head begins; no head ends within it.
        self.state = State::Start;
        match self.head(PREFACE.get(..matched).unwrap_or_default()) {
            Segment::Refused { fault, .. } => Segment::Refused { at: 0, fault, in_body: false },
            Segment::Passing(_) | Segment::Head(_) | Segment::HeadEnd(_) => self.head(bytes),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Segment {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.state == State::Start {
                self.head = Head::default();
            }
            match self.line(bytes, at, byte) {
                Ok(taken) => at += taken,
                Err(fault) => {
                    self.state = State::Refused(fault);
                    return Segment::Refused { at, fault, in_body: false };
                }
            }
            if self.state == State::Ended {
                self.state = self.head.body();
                return Segment::HeadEnd(at);
            }
        }
        Segment::Head(at)
    }

    /// Takes a byte of a head or of trailers, or as many as are plain; how many.
    fn line(&mut self, bytes: &[u8], at: usize, byte: u8) -> Result<usize, Malformed> {
        // Names, values and targets are long, and most of it is plain.
        let plain = match (self.state, self.head.value) {
            (State::Value, Value::Any) => run(bytes, at, VALUE),
            (State::Target, _) => run(bytes, at, PLAIN_TARGET),
            (State::Name, _) => run(bytes, at, TOKEN),
            _ => 0,
        };
        if self.state == State::Name {
            self.head.name.push(bytes.get(at..at + plain).unwrap_or_default())?;
        }
        if self.state == State::Target {
            self.head.target += plain.max(1);
            if self.head.target > LONGEST_TARGET {
                return Err(Malformed::TargetTooLong);
            }
        }
        if plain == 0 {
            self.state = self.step(byte)?;
        }
        self.head.bytes += plain.max(1);
        if self.head.bytes > self.bounds.bytes {
            return Err(Malformed::HeadTooLong);
        }
        Ok(plain.max(1))
    }

    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        use State as S;
        match self.state {
            S::Start | S::Method | S::TargetStart | S::Target => self.head.before_version(self.state, byte),
            S::Version(n) if VERSION.get(n) == Some(&byte) => {
                Ok(if n + 1 == VERSION.len() { S::Minor } else { S::Version(n + 1) })
            }
            S::Minor if matches!(byte, b'0' | b'1') => {
                self.head.http10 = byte == b'0';
                Ok(S::RequestLineCr)
            }
            S::RequestLineCr if byte == b'\r' => Ok(S::RequestLineLf),
            S::RequestLineLf if byte == b'\n' => Ok(S::FieldStart),
            S::Version(_) | S::Minor | S::RequestLineCr | S::RequestLineLf => Err(Malformed::RequestLine),
            S::FieldStart if byte == b'\r' => Ok(S::EndLf),
            S::FieldStart if self.head.fields == self.bounds.fields => Err(Malformed::TooManyFields),
            S::FieldStart | S::Name | S::Lead | S::Value | S::FieldLf | S::EndLf => {
                self.head.field(self.state, byte)
            }
            S::Preface(_) | S::Framed | S::Ended | S::Refused(_) => Err(Malformed::Framing),
            S::Body(_) | S::ChunkStart | S::ChunkSize | S::ChunkExtension => Err(Malformed::Framing),
            S::ChunkLf | S::ChunkData(_) | S::ChunkDataCr | S::ChunkDataLf => Err(Malformed::Framing),
        }
    }

    fn body(&mut self, bytes: &[u8]) -> Segment {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let taken = match self.state {
                State::Body(left) => self.pass(bytes.len() - at, left, State::Body, State::Ended),
                State::ChunkData(left) => {
                    self.pass(bytes.len() - at, left, State::ChunkData, State::ChunkDataCr)
                }
                state if state.is_head() => match self.line(bytes, at, byte) {
                    Ok(taken) => taken,
                    Err(fault) => return self.refuse_body(at, fault),
                },
                state => match self.chunk.step(state, byte) {
                    Ok(next) => {
                        if next == State::FieldStart {
                            self.head = Head { trailers: true, ..Head::default() };
                        }
                        self.state = next;
                        1
                    }
                    Err(fault) => return self.refuse_body(at, fault),
                },
            };
            at += taken;
            if self.state == State::Ended {
                self.state = State::Start;
                self.head = Head::default();
                return Segment::Passing(at);
            }
        }
        Segment::Passing(at)
    }

    /// Lets up to `left` of the `there` bytes pass; how many.
    fn pass(&mut self, there: usize, left: u64, more: fn(u64) -> State, end: State) -> usize {
        let taken = usize::try_from(left).map_or(there, |left| left.min(there));
        let left = left - taken as u64;
        self.state = if left == 0 { end } else { more(left) };
        taken
    }

    fn refuse_body(&mut self, at: usize, fault: Malformed) -> Segment {
        self.state = State::Refused(fault);
        Segment::Refused { at, fault, in_body: true }
    }
}

impl State {
    /// Whether it is one of a head's, or of trailers'.
    const fn is_head(self) -> bool {
        use State as S;
        match self {
            S::Start | S::Method | S::TargetStart | S::Target | S::Version(_) | S::Minor => true,
            S::RequestLineCr | S::RequestLineLf => true,
            S::FieldStart | S::Name | S::Lead | S::Value | S::FieldLf | S::EndLf | S::Ended => true,
            S::Preface(_) | S::Framed | S::Refused(_) => false,
            S::Body(_) | S::ChunkStart | S::ChunkSize | S::ChunkExtension => false,
            S::ChunkLf | S::ChunkData(_) | S::ChunkDataCr | S::ChunkDataLf => false,
        }
    }
}

impl Head {
    fn before_version(&mut self, state: State, byte: u8) -> Result<State, Malformed> {
        match state {
            State::Start | State::Method if is(byte, TOKEN) => Ok(State::Method),
            State::Method if byte == b' ' => Ok(State::TargetStart),
            State::Start | State::Method => Err(Malformed::RequestLine),
            State::Target if byte == b' ' => Ok(State::Version(0)),
            _ => match byte {
                b'#' => Err(Malformed::Fragment),
                b' ' | b'\r' | b'\n' => Err(Malformed::RequestLine),
                0x80.. => Err(Malformed::RawByte),
                0x21..=0x7e => {
                    self.odd_target |= match state {
                        State::TargetStart => byte != b'/',
                        _ => !is(byte, PLAIN_TARGET),
                    };
                    Ok(State::Target)
                }
                _ => Err(Malformed::ControlByte),
            },
        }
    }

    fn field(&mut self, state: State, byte: u8) -> Result<State, Malformed> {
        match state {
            State::FieldStart if is(byte, TOKEN) => {
                self.fields += 1;
                self.name = Name::default();
                self.name.push(&[byte])?;
                Ok(State::Name)
            }
            State::Name if byte == b':' => self.begin_value().map(|()| State::Lead),
            State::Lead if byte == b' ' || (byte == b'\t' && self.value == Value::Any) => Ok(State::Lead),
            State::Lead | State::Value if byte == b'\r' => self.end_value().map(|()| State::FieldLf),
            State::Lead | State::Value if is(byte, VALUE) => self.value.push(byte).map(|()| State::Value),
            State::FieldLf if byte == b'\n' => Ok(State::FieldStart),
            State::EndLf if byte == b'\n' => self.check().map(|()| State::Ended),
            _ => Err(Malformed::FieldLine),
        }
    }

    /// The name is whole: is it one that frames?
    fn begin_value(&mut self) -> Result<(), Malformed> {
        self.value = match self.name.as_bytes() {
            b"content-length" => Value::Length(None),
            b"transfer-encoding" => Value::Coding(0),
            _ => Value::Any,
        };
        // A trailer that frames or routes is a second word on what has been read already.
        if self.trailers && (self.value != Value::Any || self.name.as_bytes() == b"host") {
            return Err(Malformed::Framing);
        }
        Ok(())
    }

    fn end_value(&mut self) -> Result<(), Malformed> {
        match self.value {
            Value::Any => {}
            Value::Length(Some(length)) if self.length.is_none() => self.length = Some(length),
            Value::Coding(matched) if matched == CHUNKED.len() && !self.chunked => self.chunked = true,
            Value::Length(_) | Value::Coding(_) => return Err(Malformed::Framing),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Malformed> {
        let two_lengths = self.chunked && self.length.is_some();
        if two_lengths || (self.chunked && self.http10) { Err(Malformed::Framing) } else { Ok(()) }
    }

    /// What comes after this head.
    const fn body(&self) -> State {
        match self.length {
            _ if self.chunked => State::ChunkStart,
            None | Some(0) => State::Start,
            Some(length) => State::Body(length),
        }
    }
}

impl Chunk {
    /// A byte of a chunked body that is neither data nor trailer.
    fn step(&mut self, state: State, byte: u8) -> Result<State, Malformed> {
        use State as S;
        match state {
            S::ChunkStart if byte.is_ascii_hexdigit() => {
                *self = Self::default();
                self.digit(byte)
            }
            S::ChunkSize if byte.is_ascii_hexdigit() => self.digit(byte),
            S::ChunkSize if byte == b';' => Ok(S::ChunkExtension),
            S::ChunkSize | S::ChunkExtension if byte == b'\r' => Ok(S::ChunkLf),
            S::ChunkExtension if is(byte, VALUE) && self.extension < LONGEST_EXTENSION => {
                self.extension += 1;
                Ok(S::ChunkExtension)
            }
            S::ChunkLf if byte == b'\n' && self.size == 0 => Ok(S::FieldStart),
            S::ChunkLf if byte == b'\n' => Ok(S::ChunkData(self.size)),
            S::ChunkDataCr if byte == b'\r' => Ok(S::ChunkDataLf),
            S::ChunkDataLf if byte == b'\n' => Ok(S::ChunkStart),
            _ => Err(Malformed::Framing),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<State, Malformed> {
        self.digits += 1;
        if self.digits > LONGEST_SIZE {
            return Err(Malformed::Framing);
        }
        let digit = char::from(byte).to_digit(16).unwrap_or_default();
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::ChunkSize)
    }
}

impl Value {
    fn push(&mut self, byte: u8) -> Result<(), Malformed> {
        match self {
            Self::Any => Ok(()),
            Self::Length(number) if byte.is_ascii_digit() => {
                let digit = u64::from(byte - b'0');
                let longer = number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(digit));
                *number = Some(longer.filter(|n| *n <= LONGEST_BODY).ok_or(Malformed::Framing)?);
                Ok(())
            }
            Self::Coding(matched) if CHUNKED.get(*matched) == Some(&byte.to_ascii_lowercase()) => {
                *matched += 1;
                Ok(())
            }
            Self::Length(_) | Self::Coding(_) => Err(Malformed::Framing),
        }
    }
}

impl Name {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        for (slot, byte) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *slot = byte.to_ascii_lowercase();
        }
        self.len += bytes.len();
        if self.len > LONGEST_NAME { Err(Malformed::HeadTooLong) } else { Ok(()) }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const VERSION: &[u8] = b"HTTP/1.";
const CHUNKED: &[u8] = b"chunked";

/// `transfer-encoding`.
const LONGEST_FRAMING_NAME: usize = 17;
/// Of a field's name, bytes.
const LONGEST_NAME: usize = 1_024;
/// Of a target, bytes: what URIs are read up to.
const LONGEST_TARGET: usize = 65_534;
/// Of the extensions of a chunk, bytes.
const LONGEST_EXTENSION: usize = 256;
/// Of a chunk's size, digits: less than 2^60.
const LONGEST_SIZE: u8 = 15;
/// Of a body, bytes.
const LONGEST_BODY: u64 = 1 << 62;

#[cfg(test)]
mod tests;
