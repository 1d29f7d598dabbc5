//! A map that grows without a pause: many small ones, so that when one doubles it moves a share of its items
//! only. With ten million names a single map would hold the log up for a second.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

use xxhash_rust::xxh3::xxh3_64;

/// How many small maps.
const SHARDS: usize = 256;

/// Items by name. Nothing ever walks over them, so their order in the map shows nowhere.
#[derive(Debug)]
pub struct ShardedMap<K, V>(Vec<HashMap<K, V>>);

impl<K, V> Default for ShardedMap<K, V> {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| HashMap::new()).collect())
    }
}

impl<K: Eq + Hash, V> ShardedMap<K, V> {
    /// What has this name.
    pub fn get<Q>(&self, name: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + AsRef<[u8]> + ?Sized,
    {
        self.0[shard(name.as_ref())].get(name)
    }

    /// Changes what has this name, or adds it: the name is copied only then.
    pub fn upsert<'n, Q, R>(&mut self, name: &'n Q, change: impl FnOnce(&mut V) -> R, new: impl FnOnce() -> (V, R)) -> R
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
    // The top bits: the map below uses another hash anyway.
    (xxh3_64(name) >> 56) as usize % SHARDS
}
