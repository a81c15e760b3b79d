use std::collections::BTreeMap;
use std::convert::Infallible;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;

use super::super::Frontier;
use super::*;

/// A tree of our own, from which leaves and stored nodes can be fetched, beside one that was not written here.
struct Grown {
    nodes: BTreeMap<NodeId, Hash>,
    /// By size, from 0.
    roots: Vec<Hash>,
}

impl Grown {
    fn to(size: u64) -> Self {
        let (mut nodes, mut frontier) = (BTreeMap::new(), Frontier::new());
        let mut roots = vec![frontier.root()];
        for n in 0..size {
            let leaf = Hash::leaf(&n.to_be_bytes());
            nodes.insert(NodeId { level: 0, index: n }, leaf);
            frontier.push(leaf, |id, hash| _ = nodes.insert(id, hash));
            roots.push(frontier.root());
        }
        Self { nodes, roots }
    }

    fn fetch(&self, id: NodeId) -> Result<Hash, Infallible> {
        assert!(id.level == 0 || id.is_stored(), "{id:?} was asked for, and is not stored");
        Ok(self.nodes[&id])
    }

    fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
        inclusion(index, size, |id| self.fetch(id)).unwrap()
    }

    fn consistency(&self, from: u64, to: u64) -> Vec<Hash> {
        consistency(from, to, |id| self.fetch(id)).unwrap()
    }

    fn leaf(&self, index: u64) -> &Hash {
        &self.nodes[&NodeId { level: 0, index }]
    }

    fn root(&self, size: u64) -> &Hash {
        &self.roots[size as usize]
    }

    fn verify_inclusion(&self, index: u64, size: u64, proof: &[Hash]) -> Result<(), InclusionError> {
        verify_inclusion(self.leaf(index), index, size, proof, self.root(size))
    }

    fn verify_consistency(&self, from: u64, to: u64, proof: &[Hash]) -> Result<(), ConsistencyError> {
        verify_consistency(from, self.root(from), to, self.root(to), proof)
    }
}

fn oracle(size: u64) -> MemoryBackedTree<Sha256, [u8; 8]> {
    let mut tree = MemoryBackedTree::new();
    (0..size).for_each(|n| tree.push(n.to_be_bytes()));
    tree
}

fn bytes(proof: &[Hash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

/// Every proof that differs from this one by a bit, a hash left out, doubled or added, or two hashes swapped.
fn spoilt(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = vec![[proof, &[Hash::of(b"one more")]].concat(), [&[Hash::ZERO], proof].concat()];
    for at in 0..proof.len() {
        for bit in 0..256 {
            let mut changed = proof.to_vec();
            changed[at].0[bit / 8] ^= 1 << (bit % 8);
            all.push(changed);
        }
        let (mut less, mut more) = (proof.to_vec(), proof.to_vec());
        less.remove(at);
        more.insert(at, proof[at]);
        all.extend([less, more]);
        for other in 0..at {
            let mut swapped = proof.to_vec();
            swapped.swap(at, other);
            all.push(swapped);
        }
    }
    all
}

#[test]
fn every_proof_of_every_small_tree_is_that_of_an_independent_implementation_and_holds() {
    let grown = Grown::to(70);
    for size in 1..=70u64 {
        let theirs = oracle(size);
        for index in 0..size {
            let ours = grown.inclusion(index, size);
            assert_eq!(
                bytes(&ours),
                theirs.prove_inclusion(index as usize).as_bytes(),
                "leaf {index} of {size}"
            );
            assert_eq!(grown.verify_inclusion(index, size, &ours), Ok(()), "leaf {index} of {size}");
        }
        for from in 1..size {
            let ours = grown.consistency(from, size);
            assert_eq!(
                bytes(&ours),
                theirs.prove_consistency((size - from) as usize).as_bytes(),
                "{from} to {size}"
            );
            assert_eq!(grown.verify_consistency(from, size, &ours), Ok(()), "{from} to {size}");
        }
    }
}

#[test]
fn every_single_change_to_a_proof_is_refused() {
    let grown = Grown::to(40);
    for size in [1u64, 2, 3, 7, 8, 13, 32, 33, 40] {
        for index in 0..size {
            for proof in spoilt(&grown.inclusion(index, size)) {
                assert!(
                    grown.verify_inclusion(index, size, &proof).is_err(),
                    "leaf {index} of {size}: {proof:?}"
                );
            }
        }
        for from in 0..=size {
            for proof in spoilt(&grown.consistency(from, size)) {
                assert!(grown.verify_consistency(from, size, &proof).is_err(), "{from} to {size}: {proof:?}");
            }
        }
    }
}

#[test]
fn a_proof_holds_for_its_own_leaf_index_size_and_roots_only() {
    let grown = Grown::to(34);
    let proof = grown.inclusion(11, 33);
    for index in (0..33).filter(|index| *index != 11) {
        assert!(verify_inclusion(grown.leaf(11), index, 33, &proof, grown.root(33)).is_err(), "at {index}");
        assert!(verify_inclusion(grown.leaf(index), 11, 33, &proof, grown.root(33)).is_err(), "leaf {index}");
    }
    assert!(verify_inclusion(grown.leaf(11), 11, 33, &proof, grown.root(34)).is_err());

    let proof = grown.consistency(11, 33);
    for from in (0..=33).filter(|from| *from != 11) {
        assert!(grown.verify_consistency(from, 33, &proof).is_err(), "from {from}");
        assert!(
            verify_consistency(11, grown.root(from), 33, grown.root(33), &proof).is_err(),
            "from the root of {from}"
        );
    }
    assert!(verify_consistency(11, grown.root(11), 33, grown.root(34), &proof).is_err());
}

#[test]
fn what_is_wrong_with_a_proof_is_named() {
    let grown = Grown::to(9);
    let path = grown.inclusion(4, 9);
    assert_eq!(path.len(), 4);
    let (leaf, root) = (grown.leaf(4), grown.root(9));
    assert_eq!(
        verify_inclusion(leaf, 9, 9, &path, root),
        Err(InclusionError::NoSuchLeaf { index: 9, size: 9 })
    );
    assert_eq!(
        verify_inclusion(leaf, 4, 9, &path[..3], root),
        Err(InclusionError::TooShort { index: 4, size: 9, hashes: 3 })
    );
    assert_eq!(
        verify_inclusion(leaf, 4, 9, &[path.as_slice(), &path[..1]].concat(), root),
        Err(InclusionError::TooLong { index: 4, size: 9, hashes: 5 })
    );
    assert_eq!(
        verify_inclusion(leaf, 4, 9, &path, grown.root(8)),
        Err(InclusionError::Root { computed: *root, root: *grown.root(8) })
    );

    let path = grown.consistency(3, 9);
    let (three, nine) = (grown.root(3), grown.root(9));
    assert_eq!(
        verify_consistency(9, nine, 3, three, &path),
        Err(ConsistencyError::Backwards { from: 9, to: 3 })
    );
    assert_eq!(
        verify_consistency(9, nine, 9, three, &[]),
        Err(ConsistencyError::Fork { size: 9, from_root: *nine, to_root: *three })
    );
    assert_eq!(verify_consistency(0, nine, 9, nine, &[]), Err(ConsistencyError::EmptyRoot { root: *nine }));
    let hashes = path.len();
    assert_eq!(
        verify_consistency(3, three, 9, nine, &path[..hashes - 1]),
        Err(ConsistencyError::TooShort { from: 3, to: 9, hashes: hashes - 1 })
    );
    assert_eq!(
        verify_consistency(3, three, 9, nine, &[]),
        Err(ConsistencyError::TooShort { from: 3, to: 9, hashes: 0 })
    );
    assert_eq!(
        verify_consistency(3, three, 9, nine, &[path.as_slice(), &path[..1]].concat()),
        Err(ConsistencyError::TooLong { from: 3, to: 9, hashes: hashes + 1 })
    );
    assert_eq!(
        verify_consistency(3, nine, 9, nine, &path),
        Err(ConsistencyError::FromRoot { from: 3, computed: *three, root: *nine })
    );
    assert_eq!(
        verify_consistency(3, three, 9, three, &path),
        Err(ConsistencyError::ToRoot { to: 9, computed: *nine, root: *three })
    );
}

#[test]
fn everything_continues_the_empty_tree_and_itself() {
    let grown = Grown::to(5);
    for size in 0..=5 {
        for from in [0, size] {
            assert_eq!(grown.consistency(from, size), []);
            assert_eq!(grown.verify_consistency(from, size, &[]), Ok(()));
            assert!(grown.verify_consistency(from, size, &[Hash::ZERO]).is_err());
        }
    }
}

#[test]
fn a_proof_of_what_is_not_there_is_not_made() {
    let none = |_| -> Result<Hash, Infallible> { panic!("nothing is fetched") };
    assert_eq!(inclusion(5, 5, none), Err(MakeError::NoSuchLeaf { index: 5, size: 5 }));
    assert_eq!(inclusion(0, 0, none), Err(MakeError::NoSuchLeaf { index: 0, size: 0 }));
    assert_eq!(consistency(6, 5, none), Err(MakeError::Backwards { from: 6, to: 5 }));
    assert_eq!(inclusion(1, 3, |_| Err("gone")), Err(MakeError::Fetch("gone")));
}

#[test]
fn the_largest_trees_there_can_be_overflow_nothing() {
    for size in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) + 1] {
        for other in [0, 1, size / 2, size - 1] {
            let fetch = |id: NodeId| {
                Ok::<_, Infallible>(Hash::of(&[&id.index.to_be_bytes()[..], &[id.level]].concat()))
            };
            let root = Range { start: 0, leaves: size }.root(&mut { fetch }).unwrap();
            let leaf = fetch(NodeId { level: 0, index: other }).unwrap();
            // Stored nodes of a made-up tree do not hash to one another, so only the length is known to be right.
            let proof = inclusion(other, size, fetch).unwrap();
            assert!(matches!(
                verify_inclusion(&leaf, other, size, &proof, &root),
                Ok(()) | Err(InclusionError::Root { .. })
            ));
            let proof = consistency(other, size, fetch).unwrap();
            let found = verify_consistency(other, &Hash::of(b""), size, &root, &proof);
            let whole = matches!(
                found,
                Ok(()) | Err(ConsistencyError::FromRoot { .. } | ConsistencyError::ToRoot { .. })
            );
            assert!(whole, "{other} to {size}: {found:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn proofs_are_those_of_an_independent_implementation(size in 1u64..3000, places in prop::collection::vec(any::<u64>(), 8)) {
        let (grown, theirs) = (Grown::to(size), oracle(size));
        for place in places {
            let (index, from) = (place % size, 1 + place % size);
            let ours = grown.inclusion(index, size);
            prop_assert_eq!(bytes(&ours), theirs.prove_inclusion(index as usize).as_bytes().to_vec());
            prop_assert_eq!(grown.verify_inclusion(index, size, &ours), Ok(()));
            let ours = grown.consistency(from, size);
            if from < size {
                prop_assert_eq!(bytes(&ours), theirs.prove_consistency((size - from) as usize).as_bytes().to_vec());
            }
            prop_assert_eq!(grown.verify_consistency(from, size, &ours), Ok(()));
        }
    }

    #[test]
    fn a_proof_costs_at_most_thirty_fetches_for_every_four_levels(size in 1u64..100_000_000, place in any::<u64>()) {
        // Which hashes come back does not matter here.
        let mut fetched = 0;
        let mut count = |id: NodeId| {
            assert!(id.level == 0 || id.is_stored(), "{id:?} is not stored");
            assert!((id.index + 1) << id.level <= size, "{id:?} is not complete");
            fetched += 1;
            Ok::<_, Infallible>(Hash::ZERO)
        };
        let levels = size.next_power_of_two().trailing_zeros();
        let path = inclusion(place % size, size, &mut count).unwrap();
        prop_assert!(path.len() as u32 <= levels);
        let path = consistency(1 + place % size, size, &mut count).unwrap();
        prop_assert!(path.len() as u32 <= levels + 1);
        prop_assert!(fetched <= 2 * 30 * levels.div_ceil(4), "{} fetches over {} levels", fetched, levels);
    }
}
