//! Tiles: whoever holds one public key follows the log of a live gate with a client that was not written here.

use std::collections::{BTreeMap, BTreeSet};

use portcullis::audit::checkpoint::{Checkpoint, VerifierKey};
use portcullis::audit::hash::Hash;
use serde_json::Value;
use tlog_tiles::{Tile, TileHashReader, TileReader};

use crate::support::faulty::Fault;
use crate::support::gate::POLICY;
use crate::support::{Act, Answer, Gate, Setup, Signer, Upstream, Wire, log};

/// A gate with some hundred records, and who may read them.
struct Reader {
    gate: Gate,
    token: String,
    _upstream: Upstream,
}

impl Reader {
    fn of(calls: usize) -> Self {
        let upstream = Upstream::start(Act::Answer);
        // A service may have paths of these names, too.
        let rows = "p, anonymous, app, /checkpoint, GET, allow\np, anonymous, app, /tile/*, GET, allow\n";
        let gate = Setup::new(&upstream).policy(&format!("{POLICY}{rows}")).start();
        for n in 0..calls {
            assert_eq!(gate.client().get(&format!("/public/{n}"), None).status, 200);
        }
        Self { gate, token: Signer::usual().token("carol", &["auditor"]), _upstream: upstream }
    }

    fn get(&self, path: &str) -> Answer {
        self.gate.admin().get(path, Some(&self.token))
    }

    fn checkpoint(&self) -> Checkpoint {
        let note = self.get("/checkpoint").body;
        Checkpoint::open(&note, &VerifierKey::parse(&self.gate.vkey).unwrap()).unwrap()
    }

    fn tile(&self, path: &str) -> Vec<u8> {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"), "{path}");
        answer.body
    }
}

impl TileReader for Reader {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        // Theirs names the height, as Go's checksum database does.
        Ok(tiles.iter().map(|tile| self.tile(&tile.path().replace("tile/8/", "/tile/"))).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

/// The paths of all tiles of a tree of `size`, as C2SP tlog-tiles counts them.
fn tiles_of(size: u64) -> Vec<(u8, u64, u64)> {
    let mut tiles = Vec::new();
    for level in 0..8 {
        let hashes = size >> (8 * u32::from(level));
        tiles.extend((0..hashes / 256).map(|n| (level, n, 256)));
        if !hashes.is_multiple_of(256) {
            tiles.push((level, hashes / 256, hashes % 256));
        }
    }
    tiles
}

fn path_of(what: &str, n: u64, width: u64) -> String {
    if width == 256 { format!("/tile/{what}/{n:03}") } else { format!("/tile/{what}/{n:03}.p/{width}") }
}

fn hashes(tile: &[u8]) -> Vec<Hash> {
    tile.chunks(32).map(|hash| Hash(hash.try_into().unwrap())).collect()
}

#[test]
fn an_independent_client_follows_a_live_log_from_root_to_record() {
    let reader = Reader::of(280);
    let old = reader.checkpoint();
    assert!(old.size() > 512, "there are full tiles and partial ones");
    for _ in 0..10 {
        reader.gate.client().get("/public/later", None);
    }
    let new = reader.checkpoint();
    let stored = log::stored(&reader.gate.log_dir());
    for checkpoint in [&old, &new] {
        let (size, root) = (checkpoint.size(), tlog_tiles::Hash(checkpoint.root().0));
        let client = TileHashReader::new(size, root, &reader);
        assert_eq!(tlog_tiles::tree_hash(size, &client).unwrap(), root);
        for index in [0, 100, 255, 256, size - 1] {
            let record = tlog_tiles::record_hash(&stored[index as usize]);
            let proof = tlog_tiles::prove_record(size, index, &client).unwrap();
            tlog_tiles::check_record(&proof, size, root, index, record).unwrap();
        }
    }
    let client = TileHashReader::new(new.size(), tlog_tiles::Hash(new.root().0), &reader);
    let proof = tlog_tiles::prove_tree(new.size(), old.size(), &client).unwrap();
    let (old_root, new_root) = (tlog_tiles::Hash(old.root().0), tlog_tiles::Hash(new.root().0));
    tlog_tiles::check_tree(&proof, new.size(), new_root, old.size(), old_root).unwrap();
    reader.gate.stop().verify();
}

#[test]
fn every_tile_and_every_record_of_a_live_log_leads_to_the_signed_root() {
    let reader = Reader::of(280);
    let checkpoint = reader.checkpoint();
    let (mut leaves, mut entries) = (Vec::new(), Vec::new());
    for (level, n, width) in tiles_of(checkpoint.size()) {
        let tile = hashes(&reader.tile(&path_of(&level.to_string(), n, width)));
        assert_eq!(tile.len() as u64, width);
        if level == 0 {
            leaves.extend(tile);
            let bundle = reader.tile(&path_of("entries", n, width));
            let mut rest = bundle.as_slice();
            while let Some((length, after)) = rest.split_first_chunk::<2>() {
                let (entry, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
                entries.push(entry.to_vec());
                rest = after;
            }
        } else {
            let below = 1 << (8 * u32::from(level));
            for (at, hash) in tile.iter().enumerate() {
                let first = (n as usize * 256 + at) * below;
                assert_eq!(
                    *hash,
                    log::mth(&leaves[first..first + below]),
                    "level {level}, tile {n}, hash {at}"
                );
            }
        }
    }
    assert_eq!(log::mth(&leaves), checkpoint.root());
    assert_eq!(entries.iter().map(|entry| Hash::leaf(entry)).collect::<Vec<_>>(), leaves);
    assert_eq!(entries, log::stored(&reader.gate.log_dir())[..entries.len()]);
    reader.gate.stop().verify();
}

#[test]
fn a_partial_tile_of_any_width_that_the_log_covers_is_the_beginning_of_the_full_one() {
    let reader = Reader::of(150);
    assert!(reader.checkpoint().size() > 300);
    for what in ["0", "entries"] {
        let full = reader.tile(&format!("/tile/{what}/000"));
        let mut seen = BTreeSet::new();
        for width in [1, 2, 100, 254, 255] {
            let part = reader.tile(&format!("/tile/{what}/000.p/{width}"));
            assert!(full.starts_with(&part), "{what} {width}");
            seen.insert(part.len());
        }
        assert_eq!(seen.len(), 5);
    }
    reader.gate.stop().verify();
}

#[test]
fn a_path_that_names_no_tile_is_refused_and_one_beyond_the_log_is_not_there() {
    let reader = Reader::of(3);
    for (path, status) in [
        ("/tile/0/000.p/0", 400),
        ("/tile/0/000.p/00", 400),
        ("/tile/0/000.p/01", 400),
        ("/tile/0/000.p/256", 400),
        ("/tile/0/000.p/+1", 400),
        ("/tile/0/000.p/-1", 400),
        ("/tile/0/000.p/1/", 400),
        ("/tile/0/000.p", 400),
        ("/tile/00/000.p/1", 400),
        ("/tile/64/000", 400),
        ("/tile/x/000", 400),
        ("/tile/0/0", 400),
        ("/tile/0/0000", 400),
        ("/tile/0/x000/000.p/1", 400),
        ("/tile/0/x001", 400),
        ("/tile/0/001/000", 400),
        ("/tile/0/x999/x999/x999/x999/x999/x999/x999/999", 400),
        ("/tile/8/0/000.p/1", 400),
        ("/tile/data/000.p/1", 400),
        ("/tile/entries/000.p/0", 400),
        ("/tile/entries/", 400),
        ("/tile/0", 400),
        ("/tile/", 404),
        ("/tile", 403),
        ("/tile/0/000", 404),
        ("/tile/0/000.p/255", 404),
        ("/tile/0/001.p/1", 404),
        ("/tile/0/x018/x446/x744/x073/x709/x551/615", 404),
        ("/tile/1/000.p/1", 404),
        ("/tile/63/000.p/1", 404),
        ("/tile/entries/000", 404),
    ] {
        let answer = reader.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    assert_eq!(reader.gate.admin().post("/tile/0/000.p/1", Some(&reader.token), "").status, 405);
    // One more than there is, and all there is.
    let size = reader.checkpoint().size();
    assert_eq!(reader.tile(&format!("/tile/0/000.p/{size}")).len() as u64, size * 32);
    reader.gate.stop().verify();
}

#[test]
fn what_never_changes_may_be_kept_by_its_reader_alone_and_the_checkpoint_by_nobody() {
    let reader = Reader::of(130);
    for path in ["/tile/0/000", "/tile/entries/000", "/tile/1/000.p/1", "/tile/0/001.p/1"] {
        let kept = reader.get(path).header("cache-control").map(str::to_owned);
        assert_eq!(kept.as_deref(), Some("private, max-age=31536000, immutable"), "{path}");
    }
    let checkpoint = reader.get("/checkpoint");
    assert_eq!(checkpoint.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(checkpoint.header("cache-control"), Some("no-store"));
    let head = reader.gate.admin().call("HEAD", "/tile/0/000", Some(&reader.token), &[]);
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("8192")));
    reader.gate.stop().verify();
}

#[test]
fn tiles_are_for_those_the_policy_lets_read_them() {
    let reader = Reader::of(3);
    let viewer = Signer::usual().token("alice", &["viewer"]);
    for path in ["/tile/0/000.p/1", "/tile/entries/000.p/1"] {
        for (token, status) in [(None, 401), (Some(viewer.as_str()), 403)] {
            let answer = reader.gate.admin().get(path, token);
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(reader.gate.record(answer.record())["decision"], "deny");
        }
    }
    reader.gate.stop().verify();
}

/// What is on record of reads of the log as tiles: how many each decision stands for, and how many of those were bundles.
fn reads(records: &[Value]) -> BTreeMap<u64, (u64, u64)> {
    let mut reads = BTreeMap::new();
    for record in records.iter().filter(|record| record["event"] == "reads") {
        let of = record["decision_index"].as_u64().unwrap();
        let (count, bundles) = reads.entry(of).or_insert((0, 0));
        *count += record["count"].as_u64().unwrap();
        *bundles += record["bundles"].as_u64().unwrap();
    }
    reads
}

#[test]
fn repeated_reads_of_checkpoint_and_tiles_by_one_caller_are_one_record_with_a_count() {
    let reader = Reader::of(3);
    let dave = Signer::usual().token("dave", &["auditor"]);
    let mut quoted: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for n in 0..60 {
        let path = ["/checkpoint", "/tile/0/000.p/3", "/tile/entries/000.p/2"][n % 3];
        let answer = reader.get(path);
        assert_eq!(answer.status, 200);
        let record = reader.gate.record(answer.record());
        assert_eq!(
            (&record["decision"], &record["identity"]["user"]),
            (&"allow".into(), &"user:carol".into())
        );
        let (times, bundles) = quoted.entry(answer.record()).or_default();
        *times += 1;
        *bundles += u64::from(path.contains("entries"));
    }
    let other = reader.gate.admin().get("/checkpoint", Some(&dave)).record();
    assert!(!quoted.contains_key(&other), "another caller has a record of its own");
    let site = reader.gate.stop();
    let records = site.records();
    // A minute may have ended meanwhile, but not many.
    assert!(quoted.len() < 10, "{quoted:?}");
    let reads = reads(&records);
    for (index, (times, bundles)) in &quoted {
        let (count, of_records) = reads.get(index).copied().unwrap_or_default();
        assert_eq!((1 + count, of_records), (*times, *bundles), "{index}");
    }
    let own = |user: &str| {
        let is = |record: &&Value| record["kind"] == "decision" && record["identity"]["user"] == user;
        records.iter().filter(is).count()
    };
    assert_eq!((own("user:carol"), own("user:dave")), (quoted.len(), 1));
    // The first has its outcome, as any allow.
    assert!(quoted.keys().all(|index| log::outcomes(&records).contains_key(index)));
    site.verify();
}

#[test]
fn every_other_read_of_the_log_is_a_record_of_its_own_and_so_is_every_denial() {
    let reader = Reader::of(1);
    let viewer = Signer::usual().token("alice", &["viewer"]);
    let mut quoted = BTreeSet::new();
    for _ in 0..5 {
        for path in ["/v1/records/0", "/v1/status", "/v1/policy"] {
            assert!(quoted.insert(reader.get(path).record()), "{path}");
        }
        for path in ["/checkpoint", "/tile/0/000.p/1"] {
            let denied = reader.gate.admin().get(path, Some(&viewer));
            assert!(denied.status == 403 && quoted.insert(denied.record()), "{path}");
            let of_service = reader.gate.client().get(path, None);
            assert!(of_service.status == 200 && quoted.insert(of_service.record()), "{path}");
        }
        // It is no read.
        let posted = reader.gate.admin().post("/checkpoint", Some(&reader.token), "");
        assert!(posted.status == 405 && quoted.insert(posted.record()));
    }
    let site = reader.gate.stop();
    assert!(reads(&site.records()).is_empty());
    site.verify();
}

#[test]
fn nobody_reads_the_log_by_a_first_record_that_is_not_durable() {
    let upstream = Upstream::start(Act::Answer);
    let gate = Setup::new(&upstream).site().start_here();
    let token = Signer::usual().token("carol", &["auditor"]);
    let ask = |path: &str| {
        let mut wire = gate.admin_wire();
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"));
        wire
    };
    gate.store.set(Fault::Block);
    let mut wires: Vec<Wire> = (0..5).map(|_| ask("/checkpoint")).collect();
    gate.store.wait_blocked();
    for _ in 0..30 {
        assert_eq!(gate.health().get("/livez", None).status, 200);
    }
    assert!(wires.iter_mut().all(Wire::is_silent));
    gate.store.set(Fault::None);
    let quoted: BTreeSet<u64> = wires.iter_mut().map(|wire| wire.answer().unwrap().record()).collect();
    assert_eq!(quoted.len(), 1);
    assert!(quoted.iter().all(|index| gate.record(*index)["decision"] == "allow"), "{quoted:?}");

    // And a log that takes nothing more is read by nobody on the strength of what it took before.
    gate.store.set(Fault::Fail);
    assert_eq!(gate.client().get("/public/x", None).status, 503);
    assert_eq!(ask("/checkpoint").answer().unwrap().status, 503);
    gate.stop().verify();
}
