//! A map that grows without long pauses: it consists of many small maps, each of which moves only its own items when it
//! grows. A single map with ten million names would delay the log by a second.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

use xxhash_rust::xxh3::xxh3_64;

/// The number of small maps.
const SHARDS: usize = 256;

/// Items by name. They are never iterated, so their order in the map has no effect.
#[derive(Debug)]
pub(super) struct ShardedMap<K, V>(Vec<HashMap<K, V>>);

impl<K, V> Default for ShardedMap<K, V> {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| HashMap::new()).collect())
    }
}

impl<K: Eq + Hash, V> ShardedMap<K, V> {
    /// Returns the item with this name.
    pub(super) fn get<Q>(&self, name: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + AsRef<[u8]> + ?Sized,
    {
        self.0[shard(name.as_ref())].get(name)
    }

    /// Changes the item with this name, or adds it; the name is copied only if it is added.
    pub(super) fn upsert<'n, Q, R>(
        &mut self,
        name: &'n Q,
        change: impl FnOnce(&mut V) -> R,
        new: impl FnOnce() -> (V, R),
    ) -> R
    where
        K: Borrow<Q> + From<&'n Q>,
        Q: Eq + Hash + AsRef<[u8]> + ?Sized,
    {
        let shard = &mut self.0[shard(name.as_ref())];
        if let Some(value) = shard.get_mut(name) {
            return change(value);
        }
        let (value, result) = new();
        shard.insert(K::from(name), value);
        result
    }
}

fn shard(name: &[u8]) -> usize {
    // The small maps use another hash, so any bits do.
    (xxh3_64(name) >> 56) as usize % SHARDS
}
