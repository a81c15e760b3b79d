use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::audit::merkle::proof::{consistency, inclusion};
use crate::audit::merkle::{Frontier, NodeId};

/// The frozen log of `tests/vectors/log-v1`, and the proofs over it.
struct Frozen {
    records: Vec<Vec<u8>>,
    nodes: std::collections::BTreeMap<NodeId, Hash>,
    /// By size, from 0.
    notes: Vec<String>,
    key: VerifierKey,
}

fn directory(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

impl Frozen {
    fn read() -> Self {
        let log: Value = serde_json::from_slice(&fs::read(directory("log-v1/log.json")).unwrap()).unwrap();
        let records = fs::read_to_string(directory("log-v1/records.jsonl")).unwrap();
        let records: Vec<Vec<u8>> = records.lines().map(|line| line.as_bytes().to_vec()).collect();
        let (mut nodes, mut frontier) = (std::collections::BTreeMap::new(), Frontier::new());
        for (index, record) in (0..).zip(&records) {
            nodes.insert(NodeId { level: 0, index }, Hash::leaf(record));
            frontier.push(Hash::leaf(record), |id, hash| _ = nodes.insert(id, hash));
        }
        let notes = log["checkpoints"].as_array().unwrap();
        let notes = notes.iter().map(|note| note.as_str().unwrap().to_owned()).collect();
        Self { records, nodes, notes, key: VerifierKey::parse(log["vkey"].as_str().unwrap()).unwrap() }
    }

    fn fetch(&self) -> impl Fn(NodeId) -> Result<Hash, Infallible> {
        |id| Ok(self.nodes[&id])
    }

    fn record_proof(&self, index: u64, size: u64) -> RecordProof {
        let path = inclusion(index, size, self.fetch()).unwrap();
        RecordProof { index, path, checkpoint: self.notes[size as usize].clone() }
    }

    fn consistency_proof(&self, from: u64, to: u64) -> ConsistencyProof {
        let path = consistency(from, to, self.fetch()).unwrap();
        let checkpoint = Some(self.notes[to as usize].clone());
        ConsistencyProof { origin: self.key.name().to_owned(), from, to, path, checkpoint }
    }

    fn checkpoint(&self, size: u64) -> Checkpoint {
        Checkpoint::open(self.notes[size as usize].as_bytes(), &self.key).unwrap()
    }

    /// The frozen files, as they come out today.
    fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let hashes = |width: u64| (0..width).flat_map(|n| Hash::leaf(&self.records[n as usize]).0).collect();
        let bundle = self.records[..3].iter().flat_map(|record| {
            [&u16::try_from(record.len()).unwrap().to_be_bytes()[..], record.as_slice()].concat()
        });
        vec![
            ("record-5.tlog-proof", self.record_proof(5, 17).to_text().into_bytes()),
            ("record-16.tlog-proof", self.record_proof(16, 17).to_text().into_bytes()),
            ("record-0-of-1.tlog-proof", self.record_proof(0, 1).to_text().into_bytes()),
            ("from-6-to-17.json", self.consistency_proof(6, 17).to_json().into_bytes()),
            ("tile-0-000.p-17", hashes(17)),
            ("tile-entries-000.p-3", bundle.collect()),
        ]
    }
}

#[test]
fn what_is_written_today_is_what_was_frozen() {
    for (name, bytes) in Frozen::read().files() {
        assert_eq!(fs::read(directory("proofs-v1").join(name)).unwrap(), bytes, "{name}");
    }
}

#[test]
fn the_frozen_proofs_hold() {
    let frozen = Frozen::read();
    let read = |name: &str| fs::read(directory("proofs-v1").join(name)).unwrap();
    for (name, index, size) in
        [("record-5.tlog-proof", 5, 17), ("record-16.tlog-proof", 16, 17), ("record-0-of-1.tlog-proof", 0, 1)]
    {
        let proof = RecordProof::parse(&read(name)).unwrap();
        assert_eq!(proof, frozen.record_proof(index, size));
        let checkpoint = proof.check(&frozen.records[index as usize], &frozen.key).unwrap();
        assert_eq!(checkpoint.size(), size);
    }
    let proof = ConsistencyProof::parse(&read("from-6-to-17.json")).unwrap();
    assert_eq!(proof, frozen.consistency_proof(6, 17));
    assert_eq!(proof.check(&frozen.checkpoint(6), &frozen.checkpoint(17)), Ok(()));
}

#[test]
fn a_changed_record_proof_or_checkpoint_is_refused_and_named() {
    let frozen = Frozen::read();
    let proof = frozen.record_proof(5, 17);
    let check = |proof: &RecordProof, record: u64| proof.check(&frozen.records[record as usize], &frozen.key);
    assert!(check(&proof, 5).is_ok());
    assert!(matches!(check(&proof, 6), Err(RecordProofError::Inclusion(InclusionError::Root { .. }))));
    let elsewhere = RecordProof { index: 6, ..proof.clone() };
    assert!(matches!(check(&elsewhere, 5), Err(RecordProofError::Inclusion(InclusionError::Root { .. }))));
    let beyond = RecordProof { index: 17, ..proof.clone() };
    assert!(matches!(check(&beyond, 5), Err(RecordProofError::Inclusion(InclusionError::NoSuchLeaf { .. }))));
    let other = RecordProof { checkpoint: frozen.notes[16].clone(), ..proof.clone() };
    assert!(matches!(check(&other, 5), Err(RecordProofError::Inclusion(_))));
    let forged = RecordProof { checkpoint: proof.checkpoint.replacen("\n17\n", "\n18\n", 1), ..proof };
    assert!(matches!(check(&forged, 5), Err(RecordProofError::Checkpoint(_))));

    let proof = frozen.consistency_proof(6, 17);
    let (old, new) = (frozen.checkpoint(6), frozen.checkpoint(17));
    assert_eq!(proof.check(&old, &new), Ok(()));
    let sizes = GrowthError::Sizes { from: 6, to: 17, old: 7, new: 17 };
    assert_eq!(proof.check(&frozen.checkpoint(7), &new), Err(sizes));
    let mut changed = proof;
    changed.path[0].0[0] ^= 1;
    assert!(matches!(changed.check(&old, &new), Err(GrowthError::Consistency(_))));
}

#[test]
fn any_changed_byte_of_a_record_proof_is_refused() {
    let frozen = Frozen::read();
    let text = frozen.record_proof(5, 17).to_text().into_bytes();
    for at in 0..text.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = text.clone();
            changed[at] ^= flip;
            let holds = RecordProof::parse(&changed)
                .is_ok_and(|proof| proof.check(&frozen.records[5], &frozen.key).is_ok());
            assert!(!holds, "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn extra_data_is_passed_over_and_what_is_no_proof_is_refused() {
    use ProofFormatError::{Checkpoint as NoCheckpoint, Extra, Header, Index};
    let hash = STANDARD.encode([7; 32]);
    let good = format!("{HEADER}\nextra AAEC\nindex 7\n{hash}\n\nnote");
    let proof = RecordProof::parse(good.as_bytes()).unwrap();
    assert_eq!(
        (proof.index, proof.path.as_slice(), proof.checkpoint.as_str()),
        (7, &[Hash([7; 32])][..], "note")
    );
    for (text, error) in [
        (String::new(), NoCheckpoint),
        ("\n\n".into(), Header),
        (good.replace("@v1", "@v2"), Header),
        (format!(" {good}"), Header),
        (good.replace("AAEC", "AAE"), Extra),
        (good.replace("index 7\n", ""), Index),
        (good.replace("index 7", "index 07"), Index),
        (good.replace("index 7", "index +7"), Index),
        (good.replace("index 7", "index 18446744073709551616"), Index),
        (good.replace("index 7", "index"), Index),
        (good.replace("index 7", "Index 7"), Index),
        (good.replace(&hash, &hash[1..]), ProofFormatError::Hash(4)),
        (good.replace(&hash, &STANDARD.encode([7; 31])), ProofFormatError::Hash(4)),
        (good.replace(&hash, &format!("{hash} ")), ProofFormatError::Hash(4)),
        (good.replace(&hash, &format!("{hash}\r")), ProofFormatError::Hash(4)),
        (good.replace("extra AAEC\nindex 7", "index 7\nextra AAEC"), ProofFormatError::Hash(3)),
        (good.replace("\n\n", "\n"), NoCheckpoint),
    ] {
        assert_eq!(RecordProof::parse(text.as_bytes()), Err(error), "{text:?}");
    }
    assert_eq!(RecordProof::parse(b"\xff"), Err(Header));
    let good = format!("{{\"origin\":\"o\",\"from\":1,\"to\":2,\"proof\":[\"{hash}\"],\"later\":1}}");
    assert!(ConsistencyProof::parse(good.as_bytes()).is_ok());
    for bad in [
        "",
        "[]",
        &good.replace("\"from\":1", "\"from\":-1"),
        &good.replace("\"from\":1", "\"from\":\"1\""),
        &good.replace("\"to\":2,", ""),
        &good.replace(&hash, &hash[4..]),
        &good.replace("\"origin\":\"o\",", ""),
        &good.replace("later\":1", "checkpoint\":1"),
    ] {
        assert_eq!(ConsistencyProof::parse(bad.as_bytes()), Err(ProofFormatError::Json), "{bad}");
    }
}

#[test]
#[ignore = "writes the vectors anew; only before a version of the format is released"]
fn write_the_vectors() {
    fs::create_dir_all(directory("proofs-v1")).unwrap();
    for (name, bytes) in Frozen::read().files() {
        fs::write(directory("proofs-v1").join(name), bytes).unwrap();
    }
}
