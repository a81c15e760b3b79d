//! Tiles of a tree: 256 hashes in a row, 8 levels apart, and the bundles of entries below them, by the paths that C2SP
//! tlog-tiles (<https://c2sp.org/tlog-tiles>) gives them.
//!
//! ```text
//! <level>/x001/x234/067        the full tile of index 1,234,067
//! <level>/x001/x234/067.p/8    its first 8 hashes
//! entries/x001/x234/067        the entries of the level 0 tile of that index
//! ```
//!
//! Invariant: a [`Tile`] has one path and a path names one tile: what can be read is written back as it was.

use std::fmt;

use super::NodeId;

/// One tile, full or partial, or the bundle of entries of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// What is in it.
    pub content: Content,
    /// Its position among those of its level, from 0.
    pub index: u64,
    /// How many hashes or entries it has: 1 to 256.
    pub width: u16,
}

/// What is in a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Hashes: of leaves at level 0, else each of a full tile of the level below. 0 to 63.
    Hashes(u8),
    /// The entries themselves, whose leaf hashes are the tile of this index at level 0.
    Entries,
}

/// Why a path names no tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TilePathError {
    /// Neither a level nor `entries`.
    #[error("a tile's level is a number from 0 to 63 without leading zeros, or `entries`")]
    Level,
    /// Not an index in groups of three digits.
    #[error(
        "a tile's index is written in groups of three digits, all but the last after an x, without leading groups of zeros, e.g. 067 or x001/x234/067"
    )]
    Index,
    /// Not the width of a partial tile.
    #[error("a partial tile's width is a number from 1 to 255 without leading zeros")]
    Width,
}

impl Tile {
    /// Reads what stands behind `/tile/`.
    ///
    /// # Errors
    /// If that is not the one way to write a tile.
    pub fn parse(path: &str) -> Result<Self, TilePathError> {
        let (content, rest) = path.split_once('/').ok_or(TilePathError::Level)?;
        let content = match content {
            "entries" => Content::Entries,
            level => Content::Hashes(
                number(level).filter(|level| *level <= LAST_LEVEL).ok_or(TilePathError::Level)?,
            ),
        };
        let (index, width) = match rest.split_once(".p/") {
            None => (rest, FULL),
            Some((index, width)) => {
                let width = number(width).filter(|width| *width > 0).ok_or(TilePathError::Width)?;
                (index, u16::from(width))
            }
        };
        Ok(Self { content, index: read_index(index).ok_or(TilePathError::Index)?, width })
    }

    /// Whether it is cut short at its right end.
    pub const fn is_partial(&self) -> bool {
        self.width < FULL
    }

    /// Whether a tree of `size` leaves has all of it.
    pub fn is_in(&self, size: u64) -> bool {
        let nodes = size.checked_shr(self.node_level()).unwrap_or(0);
        self.first().checked_add(u64::from(self.width)).is_some_and(|end| end <= nodes)
    }

    /// The position, within the level of the tree, of its first hash; of its first entry.
    pub const fn first(&self) -> u64 {
        // No tree has a tile so far out that this would overflow: it saturates, and is in no tree.
        self.index.saturating_mul(FULL as u64)
    }

    /// The nodes whose hashes it has, in order, of a tile that [is in](Self::is_in) some tree.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let level = self.node_level() as u8;
        (self.first()..).take(usize::from(self.width)).map(move |index| NodeId { level, index })
    }

    const fn node_level(&self) -> u32 {
        match self.content {
            Content::Hashes(level) => level as u32 * HEIGHT,
            Content::Entries => 0,
        }
    }
}

impl fmt::Display for Tile {
    /// What [`Tile::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Content::Hashes(level) => write!(f, "{level}")?,
            Content::Entries => f.write_str("entries")?,
        }
        let (mut groups, mut left) = (vec![self.index % 1_000], self.index / 1_000);
        while left > 0 {
            groups.push(left % 1_000);
            left /= 1_000;
        }
        for (at, group) in groups.iter().enumerate().rev() {
            write!(f, "/{}{group:03}", if at > 0 { "x" } else { "" })?;
        }
        if self.is_partial() { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// A number in decimal, without sign or leading zeros.
fn number(text: &str) -> Option<u8> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

fn read_index(text: &str) -> Option<u64> {
    let mut groups = text.split('/').peekable();
    if groups.peek() == Some(&"x000") {
        return None;
    }
    let mut index = 0_u64;
    while let Some(group) = groups.next() {
        let digits = match groups.peek() {
            Some(_) => group.strip_prefix('x')?,
            None => group,
        };
        if digits.len() != 3 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
    }
    Some(index)
}

/// How many hashes a full tile has.
pub const FULL: u16 = 256;

/// How many levels of the tree a tile stands for.
const HEIGHT: u32 = 8;

const LAST_LEVEL: u8 = 63;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tlog_tiles::Tile as OracleTile;

    use super::*;

    #[test]
    fn a_path_that_is_not_the_one_of_a_tile_names_none() {
        use TilePathError::{Index, Level, Width};
        for (path, error) in [
            ("", Level),
            ("0", Level),
            ("64/000", Level),
            ("256/000", Level),
            ("00/000", Level),
            ("01/000", Level),
            ("-1/000", Level),
            ("+1/000", Level),
            ("x/000", Level),
            ("/000", Level),
            ("Entries/000", Level),
            ("data/000", Level),
            ("0/", Index),
            ("0/0", Index),
            ("0/00", Index),
            ("0/0000", Index),
            ("0/1000", Index),
            ("0/x001", Index),
            ("0/x000/001", Index),
            ("0/x000/x001/001", Index),
            ("0/001/001", Index),
            ("0/X001/001", Index),
            ("0/x01/001", Index),
            ("0/x001/01", Index),
            ("0/x001//001", Index),
            ("0/x001/001/", Index),
            ("0/+01", Index),
            ("0/ 01", Index),
            ("0/00a", Index),
            ("0/٠٠١", Index),
            // One more than the largest u64.
            ("0/x018/x446/x744/x073/x709/x551/616", Index),
            ("0/x999/x999/x999/x999/x999/x999/x999/999", Index),
            ("0/000.p", Index),
            ("0/000.p/", Width),
            ("0/000.p/0", Width),
            ("0/000.p/00", Width),
            ("0/000.p/01", Width),
            ("0/000.p/256", Width),
            ("0/000.p/-1", Width),
            ("0/000.p/+1", Width),
            ("0/000.p/1.p/1", Width),
            ("0/000.p/1/", Width),
            ("0/000.P/1", Index),
            ("entries/000.p/0", Width),
        ] {
            assert_eq!(Tile::parse(path), Err(error), "{path}");
        }
    }

    #[test]
    fn the_specifications_own_examples_are_read() {
        let tile = Tile::parse("0/x001/x234/067").unwrap();
        assert_eq!(tile, Tile { content: Content::Hashes(0), index: 1_234_067, width: 256 });
        // "A tree of size 70,000": 273 full level 0 tiles, one partial of width 112, one full level 1 tile, one partial
        // level 1 tile of width 17, and one partial level 2 tile of width 1.
        let is_in = |path: &str| Tile::parse(path).unwrap().is_in(70_000);
        for (there, beyond) in [
            ("0/272", "0/273"),
            ("0/273.p/112", "0/273.p/113"),
            ("1/000", "1/001"),
            ("1/001.p/17", "1/001.p/18"),
            ("2/000.p/1", "2/000.p/2"),
            ("entries/273.p/112", "entries/273.p/113"),
        ] {
            assert!(is_in(there), "{there}");
            assert!(!is_in(beyond), "{beyond}");
        }
        assert!(!is_in("3/000.p/1"));
        // "Note that a tree of size 256 will be represented by a full level 0 tile and a partial level 1 tile of width 1."
        assert!(
            Tile::parse("1/000.p/1").unwrap().is_in(256) && !Tile::parse("1/000.p/1").unwrap().is_in(255)
        );
    }

    #[test]
    fn no_tile_is_so_far_out_that_a_tree_seems_to_have_it() {
        for path in ["0/x018/x446/x744/x073/x709/x551/615", "63/000.p/1", "8/000.p/1", "7/000", "7/001.p/1"] {
            assert!(!Tile::parse(path).unwrap().is_in(u64::MAX), "{path}");
        }
        assert!(Tile::parse("7/000.p/255").unwrap().is_in(u64::MAX));
    }

    proptest! {
        #[test]
        fn a_path_is_that_of_an_independent_implementation(
            level in 0u8..=63,
            index in prop_oneof![0u64..3_000, 0..=u64::MAX],
            width in 1u16..=256,
            entries: bool,
        ) {
            let content = if entries { Content::Entries } else { Content::Hashes(level) };
            let tile = Tile { content, index, width };
            let path = tile.to_string();
            prop_assert_eq!(Tile::parse(&path), Ok(tile));
            let theirs = OracleTile::new(8, if entries { 0 } else { level }, index, u32::from(width), entries);
            // Theirs names the height, as Go's checksum database does, and calls entries data.
            let theirs = theirs.path().replace("tile/8/data/", "entries/").replace("tile/8/", "");
            prop_assert_eq!(path, theirs);
        }

        #[test]
        fn no_path_reads_but_as_it_is_written(path in "(entries|[0-9]{1,3})(/x?[0-9]{3}){1,4}(\\.p/[0-9]{1,3})?") {
            if let Ok(tile) = Tile::parse(&path) {
                prop_assert_eq!(tile.to_string(), path);
            }
        }
    }
}
