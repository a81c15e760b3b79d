use super::*;
use crate::audit::merkle::tile::Content;
use crate::audit::record::{Body, Epochs, Event, seal};

const EPOCHS: Epochs = Epochs { policy: Hash([0x11; 32]), config: Hash([0x22; 32]) };

fn record(index: u64, prev: &Hash, micros: i64) -> (Vec<u8>, Hash) {
    let mut bytes = Vec::new();
    let body = Body::event(&EPOCHS, &Event::ConfigLoaded);
    let leaf = seal(index, prev, Timestamp::from_micros(micros), &body, &mut bytes);
    (bytes, leaf)
}

#[test]
fn records_that_the_log_signed_and_no_gate_would_have_written_are_named() {
    let (first, leaf) = record(0, &Hash::ZERO, 10);
    let (second, second_leaf) = record(1, &leaf, 20);
    let after_first = || {
        let mut reading = Reading::default();
        reading.read(0, &first, &leaf).unwrap();
        reading
    };
    assert_eq!(after_first().read(1, &second, &second_leaf).unwrap().index, 1);
    assert_eq!(after_first().read(1, &second, &leaf), Err(RecordFault::Leaf { index: 1 }));
    let (late, late_leaf) = record(2, &leaf, 20);
    assert_eq!(after_first().read(1, &late, &late_leaf), Err(RecordFault::Index { index: 1, found: 2 }));
    let (loose, loose_leaf) = record(1, &Hash::ZERO, 20);
    assert_eq!(after_first().read(1, &loose, &loose_leaf), Err(RecordFault::Chain { index: 1 }));
    let (old, old_leaf) = record(1, &leaf, 9);
    assert_eq!(after_first().read(1, &old, &old_leaf), Err(RecordFault::Time { index: 1 }));
    let (begun, begun_leaf) = record(0, &leaf, 10);
    assert_eq!(Reading::default().read(0, &begun, &begun_leaf), Err(RecordFault::Chain { index: 0 }));
    let mut broken = second.clone();
    broken.insert(second.len() - 1, b'x');
    let format = after_first().read(1, &broken, &Hash::leaf(&broken));
    assert_eq!(format, Err(RecordFault::Format { index: 1, error: RecordError::Json }));
    let kind = String::from_utf8(second).unwrap().replace("\"config\"", "\"other\"").into_bytes();
    let format = after_first().read(1, &kind, &Hash::leaf(&kind));
    assert_eq!(format, Err(RecordFault::Format { index: 1, error: RecordError::Kind }));
}

#[test]
fn a_bundle_has_as_many_entries_as_its_tile_and_nothing_else() {
    let tile = Tile { content: Content::Entries, index: 0, width: 2 };
    assert_eq!(unbundle(&tile, b"\0\x01a\0\x02bc").unwrap(), [&b"a"[..], b"bc"]);
    assert_eq!(unbundle(&tile, b"\0\0\0\0").unwrap(), [b"", b""]);
    for bad in [
        &b""[..],
        b"\0\x01a",
        b"\0\x01a\0\x02b",
        b"\0\x01a\0\x02bc\0",
        b"\0\x01a\0\x02bc\0\0",
        b"\xff\xffa\0\0",
    ] {
        assert_eq!(unbundle(&tile, bad), Err(RecordFault::Bundle { tile }), "{bad:?}");
    }
    assert_eq!(bundle_most(2), 2 * 65_537);
}
