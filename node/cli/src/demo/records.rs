//! What the demo goes by when it judges: three records, each from another witness.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the load was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acked {
    /// The event.
    pub id: Uuid,
    /// Its stream.
    pub stream: String,
    /// Its number within the stream, from 0: the load appends the next only when this is acknowledged.
    pub number: u64,
    /// Where it stands, says the acknowledgement.
    pub position: u64,
    /// When that came, in milliseconds after the start.
    pub at_ms: u64,
}

/// What a node gave when all of it was read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Read {
    /// The event.
    pub id: Uuid,
    /// Where it stands.
    pub position: u64,
    /// Its stream.
    pub stream: String,
    /// Its number within the stream.
    pub number: u64,
}

/// What a handler wrote down: one line of its own file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handled {
    /// Where the event stands.
    pub position: u64,
    /// Its stream.
    pub stream: String,
    /// Its number within the stream.
    pub number: u64,
    /// Under which claim.
    pub segment: u32,
    /// Under which epoch.
    pub epoch: u64,
    /// Which attempt.
    pub attempt: u32,
    /// When, in microseconds of the machine's clock.
    pub at_us: u64,
}

/// All three records.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The load's.
    pub acked: Vec<Acked>,
    /// Each node's, by its name.
    pub read: BTreeMap<String, Vec<Read>>,
    /// The handlers', in the order of their clocks.
    pub handled: Vec<Handled>,
}

/// What the handlers wrote into their files, in the order of their clocks.
///
/// # Errors
///
/// Where the folder or one of its files cannot be read, or a line makes no sense. A last line without its end was
/// cut by a kill and tells nothing.
pub fn handled(folder: &Path) -> Result<Vec<Handled>, String> {
    let mut all = Vec::new();
    let files = std::fs::read_dir(folder).map_err(|error| format!("cannot look into {}: {error}", folder.display()))?;
    for file in files.flatten() {
        let path = file.path();
        let text =
            std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let handled = serde_json::from_str::<Handled>(line)
                .map_err(|error| format!("{} has a line that makes no sense: {error}", path.display()))?;
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

/// A fault planted into the record, so that one can see that it would be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum InjectedFault {
    /// An acknowledged event is not there.
    LoseOne,
    /// An event stands there twice.
    StoreTwice,
    /// Two events of a stream were handled in the wrong order.
    SwapTwo,
}

impl Records {
    /// Writes the records as they are judged into the folder `judged`, one file a witness, one JSON object a line.
    ///
    /// # Errors
    ///
    /// Where one cannot be written.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        let folder = folder.join("judged");
        std::fs::create_dir_all(&folder)?;
        write(&folder.join("acknowledged.ndjson"), &self.acked)?;
        write(&folder.join("handled.ndjson"), &self.handled)?;
        self.read.iter().try_for_each(|(node, read)| write(&folder.join(format!("stored-on-{node}.ndjson")), read))
    }

    /// Plants a fault in the middle of the record.
    pub fn inject(&mut self, fault: InjectedFault) {
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

    /// Only first handlings are in an order: what is handled again is not looked at.
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
    fn the_record_is_kept_as_it_is_judged() {
        let id = Uuid::from_u128(7);
        let acked = Acked { id, stream: "s".into(), number: 0, position: 0, at_ms: 1 };
        let read = vec![Read { id, position: 0, stream: "s".into(), number: 0 }];
        let mut records = Records { acked: vec![acked], read: [("n1".into(), read)].into(), handled: Vec::new() };
        records.inject(InjectedFault::StoreTwice);
        let folder = tempfile::tempdir().unwrap();
        records.save(folder.path()).unwrap();
        let kept = |name: &str| std::fs::read_to_string(folder.path().join("judged").join(name)).unwrap();
        assert_eq!(kept("acknowledged.ndjson").lines().count(), 1);
        assert_eq!(kept("stored-on-n1.ndjson").lines().count(), 2, "what was planted is there");
        assert!(kept("stored-on-n1.ndjson").contains(&id.to_string()));
    }
}
