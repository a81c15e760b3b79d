//! Records as stored, and whether they verify.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use portcullis::audit::checkpoint::VerifierKey;
use portcullis::audit::hash::Hash;
use portcullis::audit::rocks::RocksStore;
use portcullis::audit::storage::{Store, Walk};
use portcullis::audit::verify::{Fault, Report, Verifier};
use serde_json::Value;

/// All records of a log, as of now; a gate may be writing to it.
pub fn records(dir: &Path) -> Vec<Value> {
    stored(dir).iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect()
}

/// All records' bytes.
pub fn stored(dir: &Path) -> Vec<Vec<u8>> {
    let store = RocksStore::open_read_only(dir).unwrap();
    let mut records = Vec::new();
    store
        .scan(Walk::Up(0), &mut |_, bytes| {
            records.push(bytes.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    records
}

/// RFC 6962's MTH, as it stands there.
pub fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of(b""),
        [leaf] => *leaf,
        leaves => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Hash::node(&mth(left), &mth(right))
        }
    }
}

/// Verifies a log as an auditor would who has nothing but its directory and the key.
pub fn verify(dir: &Path, vkey: &str) -> Result<Report, Fault> {
    let store = RocksStore::open_read_only(dir).unwrap();
    let mut notes: Vec<String> =
        store.kept_checkpoints().unwrap().into_iter().map(|(_, note)| note).collect();
    notes.extend(store.latest_checkpoint().unwrap());
    notes.dedup();
    let mut verifier = Verifier::new(VerifierKey::parse(vkey).unwrap(), notes)?;
    let mut fed = Ok(());
    store
        .scan(Walk::Up(0), &mut |index, bytes| {
            fed = verifier.feed(index, bytes);
            if fed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
    fed?;
    verifier.finish()
}

/// What the records say of each other: every allow has exactly one outcome, every outcome exactly one allow. Returns
/// the outcome of each allow by its index.
pub fn outcomes(records: &[Value]) -> BTreeMap<u64, &Value> {
    let mut outcomes = BTreeMap::new();
    for record in records.iter().filter(|record| record["kind"] == "outcome") {
        let of = record["decision_index"].as_u64().unwrap();
        let decided = &records[usize::try_from(of).unwrap()];
        assert_eq!(decided["decision"], "allow", "{record} is the outcome of {decided}");
        assert!(outcomes.insert(of, record).is_none(), "a second outcome: {record}");
    }
    outcomes
}
