//! Tokens verified before, so that the next call with the same one need not verify it again.
//!
//! Bounded in number; which token goes when room is needed is the one not seen for the longest. An entry proves
//! nothing by itself: whoever finds one checks time and key generation, see `Authn::recall`.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::access::Caller;
use crate::audit::hash::Hash;
use crate::clock::Timestamp;

/// Enough that threads seldom meet.
const SHARDS: usize = 16;

/// Callers by the SHA-256 of the whole token. The token itself is not kept.
pub(super) struct Remembered {
    shards: Vec<Mutex<LruCache<Hash, Entry>>>,
}

/// What a token proved.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) caller: Arc<Caller>,
    /// The issuer, by its place in the configuration.
    pub(super) issuer: usize,
    /// The generation of its keys that verified the token.
    pub(super) generation: u64,
    pub(super) not_before: Timestamp,
}

impl Remembered {
    /// Room for about `entries` tokens (rounded up so that each shard holds as many); 0 remembers none.
    pub(super) fn new(entries: usize) -> Self {
        let shards = match NonZeroUsize::new(entries.div_ceil(SHARDS)) {
            None => Vec::new(),
            Some(room) => (0..SHARDS).map(|_| Mutex::new(LruCache::new(room))).collect(),
        };
        Self { shards }
    }

    pub(super) fn find(&self, digest: &Hash) -> Option<Entry> {
        self.shard(digest)?.get(digest).cloned()
    }

    pub(super) fn keep(&self, digest: Hash, entry: Entry) {
        if let Some(mut shard) = self.shard(&digest) {
            shard.put(digest, entry);
        }
    }

    pub(super) fn forget(&self, digest: &Hash) {
        if let Some(mut shard) = self.shard(digest) {
            shard.pop(digest);
        }
    }

    /// The shard is held for one operation of the map, never across an await.
    fn shard(&self, digest: &Hash) -> Option<MutexGuard<'_, LruCache<Hash, Entry>>> {
        let &[first, ..] = &digest.0;
        let shard = self.shards.get(usize::from(first) % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::ProofMethod;

    fn entry() -> Entry {
        let caller = Caller {
            user: "user:alice".to_owned(),
            roles: Vec::new(),
            issuer: "main".to_owned(),
            method: ProofMethod::Jwt,
            token_id: None,
            key_id: None,
            expires: Timestamp::from_micros(0),
            also: None,
        };
        Entry { caller: Arc::new(caller), issuer: 0, generation: 0, not_before: Timestamp::from_micros(0) }
    }

    #[test]
    fn the_number_of_remembered_tokens_is_bounded() {
        let remembered = Remembered::new(160);
        let digests: Vec<Hash> = (0..10_000_u32).map(|n| Hash::of(&n.to_be_bytes())).collect();
        for digest in &digests {
            remembered.keep(*digest, entry());
        }
        let kept = digests.iter().filter(|digest| remembered.find(digest).is_some()).count();
        assert_eq!(kept, 160);
        let last = digests.last().unwrap();
        assert!(remembered.find(last).is_some());
        remembered.forget(last);
        assert!(remembered.find(last).is_none());
    }

    #[test]
    fn room_for_none_remembers_none() {
        let remembered = Remembered::new(0);
        remembered.keep(Hash::of(b"x"), entry());
        assert!(remembered.find(&Hash::of(b"x")).is_none());
    }
}
