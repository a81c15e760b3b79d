//! Which bytes may stand where in a head.

/// How many bytes from `at` on are of a class.
pub(super) fn run(bytes: &[u8], at: usize, class: u8) -> usize {
    let bytes = bytes.get(at..).unwrap_or_default();
    // Most of a head is long values, such as tokens: many bytes at once, as far as all are visible.
    let visible =
        if class == VALUE { bytes.chunks_exact(BLOCK).take_while(|block| visible(block)).count() } else { 0 };
    let known = visible * BLOCK;
    known + bytes.get(known..).unwrap_or_default().iter().take_while(|byte| is(**byte, class)).count()
}

/// Without branches, so that it is compiled into a few comparisons of whole registers.
fn visible(block: &[u8]) -> bool {
    block.iter().fold(true, |so_far, byte| so_far & (*byte >= b' ') & (*byte != 0x7f))
}

const BLOCK: usize = 16;

#[expect(clippy::indexing_slicing, reason = "there is a class for every byte")]
pub(super) const fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// `tchar` (RFC 9110 §5.6.2).
pub(super) const TOKEN: u8 = 1;
/// What may stand in a field's value (RFC 9110 §5.5): visible, space, tab and obs-text.
pub(super) const VALUE: u8 = 2;
/// What every reader of URIs takes in paths and queries (RFC 3986 §3.3, §3.4).
pub(super) const PLAIN_TARGET: u8 = 4;

#[expect(clippy::indexing_slicing, reason = "evaluated when it is compiled")]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let alphanumeric = b.is_ascii_alphanumeric();
        if alphanumeric || is_one_of(b, b"!#$%&'*+-.^_`|~") {
            classes[byte] |= TOKEN;
        }
        if b == b'\t' || (b >= b' ' && b != 0x7f) {
            classes[byte] |= VALUE;
        }
        if alphanumeric || is_one_of(b, b"-._~!$&'()*+,;=:@/?%") {
            classes[byte] |= PLAIN_TARGET;
        }
        byte += 1;
    }
    classes
};

#[expect(clippy::indexing_slicing, reason = "evaluated when it is compiled")]
const fn is_one_of(byte: u8, among: &[u8]) -> bool {
    let mut at = 0;
    while at < among.len() {
        if among[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}
