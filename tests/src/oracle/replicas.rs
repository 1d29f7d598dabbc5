//! All nodes have the same content: the same events at the end, the same state at the same applied index, and identical
//! sealed chunks.

use std::collections::BTreeMap;

use evener_core::id::LogIndex;

use super::{LogEvent, Violation};

/// The content of one node.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// The name of the node.
    pub node: String,
    /// All events that it returns to readers.
    pub log: Vec<LogEvent>,
    /// Hashes of its state, by the applied index.
    pub states: Vec<(LogIndex, u64)>,
    /// Hashes of its sealed chunks, by file name.
    pub chunks: BTreeMap<String, u64>,
}

/// Returns all differences between replicas.
#[must_use]
pub fn check(replicas: &[Replica]) -> Vec<Violation> {
    let mut found = Vec::new();
    for pair in replicas.windows(2) {
        let (one, other) = (&pair[0], &pair[1]);
        if let Some(position) = first_difference(&one.log, &other.log) {
            found.push(Violation {
                promise: "P2",
                what: format!("{} and {} differ at position {position}", one.node, other.node),
            });
        }
    }
    let states = replicas.iter().flat_map(|replica| replica.states.iter().map(move |(at, hash)| (at, *hash, replica)));
    found.extend(differ(states, "P2", "the state at index"));
    let chunks =
        replicas.iter().flat_map(|replica| replica.chunks.iter().map(move |(file, hash)| (file, *hash, replica)));
    found.extend(differ(chunks, "P8", "the sealed chunk"));
    found
}

fn first_difference(one: &[LogEvent], other: &[LogEvent]) -> Option<usize> {
    let common = one.iter().zip(other).position(|(a, b)| a != b);
    common.or_else(|| (one.len() != other.len()).then(|| one.len().min(other.len())))
}

fn differ<'r, K: Ord + std::fmt::Display>(
    hashes: impl Iterator<Item = (K, u64, &'r Replica)>,
    promise: &'static str,
    what: &str,
) -> Vec<Violation> {
    let mut first: BTreeMap<K, (u64, &str)> = BTreeMap::new();
    let mut found = Vec::new();
    for (key, hash, replica) in hashes {
        let name = format!("{what} {key}");
        let (known, node) = *first.entry(key).or_insert((hash, &replica.node));
        if known != hash {
            found.push(Violation { promise, what: format!("{name} differs between {node} and {}", replica.node) });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::samples::{Sample, event};

    fn two() -> [Replica; 2] {
        ["n1", "n2"].map(|node| Replica {
            node: node.into(),
            log: Sample::of_two_appends().log,
            states: vec![(LogIndex(4), 7), (LogIndex(5), 8)],
            chunks: BTreeMap::from([("0".to_string(), 1)]),
        })
    }

    #[track_caller]
    fn finds(change: impl FnOnce(&mut Replica)) {
        let mut replicas = two();
        assert_eq!(check(&replicas), []);
        change(&mut replicas[1]);
        assert_eq!(check(&replicas).len(), 1);
    }

    #[test]
    fn any_difference_is_found() {
        finds(|replica| drop(replica.log.pop()));
        finds(|replica| replica.log[1].event = event(9, "s"));
        finds(|replica| replica.states[1].1 = 9);
        finds(|replica| *replica.chunks.get_mut("0").unwrap() = 2);
        let mut replicas = two();
        replicas[1].states = vec![(LogIndex(6), 1)];
        assert_eq!(check(&replicas), [], "states at different indexes are not compared");
    }
}
