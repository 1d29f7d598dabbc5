//! Finds the entry, command and event of a position, with one short record per append, one per entry and none per
//! event.

use evener_core::{
    id::{LogIndex, Position},
    time::Timestamp,
};

use super::postings::{Ordinal, ordinal};

/// The location of an event in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLocation {
    /// Its position.
    pub position: Position,
    /// The entry that holds it.
    pub index: LogIndex,
    /// The command of the entry that appended it.
    pub command: u32,
    /// Its number in that append.
    pub nth: u32,
    /// When the log recorded it.
    pub recorded: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct EntryAt {
    index: LogIndex,
    recorded: Timestamp,
    /// The number of its first append.
    append: u32,
    first: Ordinal,
}

#[derive(Clone, Copy, Debug)]
struct AppendAt {
    first: Ordinal,
    command: u32,
}

/// The locations of all events of one context.
#[derive(Debug, Default)]
pub(super) struct EventLocations {
    entries: Vec<EntryAt>,
    appends: Vec<AppendAt>,
}

impl EventLocations {
    /// Adds an entry with its appends: for each, the position of its first event and its command.
    pub(super) fn add(&mut self, index: LogIndex, recorded: Timestamp, appends: impl Iterator<Item = (Position, u32)>) {
        let append = u32::try_from(self.appends.len()).expect("there are not more appends than events");
        self.appends.extend(appends.map(|(first, command)| AppendAt { first: ordinal(first.0), command }));
        let first = self.appends[append as usize].first;
        debug_assert!(self.entries.last().is_none_or(|last| last.index < index && last.recorded <= recorded));
        self.entries.push(EntryAt { index, recorded, append, first });
    }

    /// Returns the locations of existing events in the given order. Adjacent events are found without a search.
    pub(super) fn of(&self, ordinals: impl Iterator<Item = Ordinal>) -> Vec<EventLocation> {
        let mut near = None;
        ordinals
            .map(|at| {
                let (entry, append) = self.find(at, near);
                near = Some((entry, append));
                let (entry, append) = (&self.entries[entry], &self.appends[append]);
                EventLocation {
                    position: Position(u64::from(at)),
                    index: entry.index,
                    command: append.command,
                    nth: at - append.first,
                    recorded: entry.recorded,
                }
            })
            .collect()
    }

    fn find(&self, at: Ordinal, near: Option<(usize, usize)>) -> (usize, usize) {
        let append = near
            .and_then(|(_, append)| (append..append + 2).find(|append| holds(&self.appends, *append, at, |a| a.first)))
            .unwrap_or_else(|| self.appends.partition_point(|append| append.first <= at) - 1);
        let entry = near
            .and_then(|(entry, _)| (entry..entry + 2).find(|entry| holds(&self.entries, *entry, at, |e| e.first)))
            .unwrap_or_else(|| self.entries.partition_point(|entry| entry.first <= at) - 1);
        debug_assert!(self.entries[entry].append as usize <= append, "an append belongs to its entry");
        (entry, append)
    }
}

fn holds<T>(items: &[T], nth: usize, at: Ordinal, first: impl Fn(&T) -> Ordinal) -> bool {
    items.get(nth).is_some_and(|item| first(item) <= at) && items.get(nth + 1).is_none_or(|next| at < first(next))
}
