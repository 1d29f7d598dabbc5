//! The records that the demo checks: what the load, the nodes and the handlers saw, each recorded independently.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An acknowledgement that the load received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Acked {
    /// The event.
    pub id: Uuid,
    /// Its stream.
    pub stream: String,
    /// Its number within the stream, from 0: the load appends the next only when this is acknowledged.
    pub number: u64,
    /// Its position, as acknowledged.
    pub position: u64,
    /// When it was acknowledged, in milliseconds after the start.
    pub at_ms: u64,
}

/// An event read back from a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Read {
    /// The event.
    pub id: Uuid,
    /// Its position.
    pub position: u64,
    /// Its stream.
    pub stream: String,
    /// Its number within the stream.
    pub number: u64,
}

/// An event that a handler handled: one line of the handler's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handled {
    /// The event's position.
    pub position: u64,
    /// Its stream.
    pub stream: String,
    /// Its number within the stream.
    pub number: u64,
    /// The segment of the claim.
    pub segment: u32,
    /// The epoch of the claim.
    pub epoch: u64,
    /// The number of the attempt.
    pub attempt: u32,
    /// When, in microseconds of the system clock.
    pub at_us: u64,
}

/// All records of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    /// The acknowledgements of the load.
    pub acked: Vec<Acked>,
    /// The events of each node, by the node's name.
    pub read: BTreeMap<String, Vec<Read>>,
    /// The handled events, ordered by time.
    pub handled: Vec<Handled>,
}

/// Reads the files of the handlers and returns the handled events, ordered by time.
///
/// # Errors
///
/// If the folder or one of its files cannot be read, or a line is malformed. A last line without a line end was cut off
/// by a kill and is ignored.
pub(super) fn handled(folder: &Path) -> Result<Vec<Handled>, String> {
    let mut all = Vec::new();
    let files = std::fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    for file in files.flatten() {
        let path = file.path();
        let text =
            std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let handled = serde_json::from_str::<Handled>(line)
                .map_err(|error| format!("{} has a malformed line: {error}", path.display()))?;
            all.push(handled);
        }
    }
    all.sort_by_key(|handled| handled.at_us);
    Ok(all)
}

fn write(path: &Path, lines: &[impl Serialize]) -> io::Result<()> {
    let mut file = io::BufWriter::new(File::create(path)?);
    for line in lines {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// A fault injected into the records, to show that the checker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum InjectedFault {
    /// Remove an acknowledged event
    LoseOne,
    /// Store an event twice
    StoreTwice,
    /// Swap two handled events of a stream
    SwapTwo,
}

impl Records {
    /// Writes the records into the folder `records`: one file per source, one JSON object per line.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub(crate) fn save(&self, folder: &Path) -> io::Result<()> {
        let folder = folder.join("records");
        std::fs::create_dir_all(&folder)?;
        write(&folder.join("acknowledged.ndjson"), &self.acked)?;
        write(&folder.join("handled.ndjson"), &self.handled)?;
        self.read.iter().try_for_each(|(node, read)| write(&folder.join(format!("stored-on-{node}.ndjson")), read))
    }

    /// Injects a fault in the middle of the records.
    pub(crate) fn inject(&mut self, fault: InjectedFault) {
        match fault {
            InjectedFault::LoseOne => {
                let Some(acked) = self.acked.get(self.acked.len() / 2) else { return };
                for read in self.read.values_mut() {
                    read.retain(|read| read.id != acked.id);
                }
            }
            InjectedFault::StoreTwice => {
                for read in self.read.values_mut() {
                    let Some(mut copy) = read.get(read.len() / 2).cloned() else { continue };
                    copy.position = read.last().map_or(0, |last| last.position + 1);
                    read.push(copy);
                }
            }
            InjectedFault::SwapTwo => self.swap_two(),
        }
    }

    /// Swaps two first handlings of a stream. Redeliveries have no order to violate.
    fn swap_two(&mut self) {
        let mut seen = BTreeSet::new();
        let first_handlings = self.handled.iter().enumerate().filter(|(_, handled)| seen.insert(handled.position));
        let first_handlings: Vec<usize> = first_handlings.map(|(nth, _)| nth).collect();
        let (before, after) = first_handlings.split_at(first_handlings.len() / 2);
        let Some((&middle, after)) = after.split_first() else { return };
        let of_its_stream = |nth: &&usize| self.handled[**nth].stream == self.handled[middle].stream;
        let other = after.iter().find(of_its_stream).or_else(|| before.iter().rfind(of_its_stream));
        if let Some(other) = other.copied() {
            self.handled.swap(middle, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_are_saved_as_they_are_checked() {
        let id = Uuid::from_u128(7);
        let acked = Acked { id, stream: "s".into(), number: 0, position: 0, at_ms: 1 };
        let read = vec![Read { id, position: 0, stream: "s".into(), number: 0 }];
        let mut records = Records { acked: vec![acked], read: [("n1".into(), read)].into(), handled: Vec::new() };
        records.inject(InjectedFault::StoreTwice);
        let folder = tempfile::tempdir().unwrap();
        records.save(folder.path()).unwrap();
        let kept = |name: &str| std::fs::read_to_string(folder.path().join("records").join(name)).unwrap();
        assert_eq!(kept("acknowledged.ndjson").lines().count(), 1);
        assert_eq!(kept("stored-on-n1.ndjson").lines().count(), 2, "the injected copy is saved");
        assert!(kept("stored-on-n1.ndjson").contains(&id.to_string()));
    }
}
