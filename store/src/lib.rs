//! Bytes on disk: the Raft log that is the event log, what a node has promised, and the images a start begins with.
//!
//! Read in this order: the mouth ([`disk`]), the formats ([`frame`], [`chunk`], `footer`, and the small files
//! `watermark`, `vote`, [`identity`], [`checkpoint`]), what readers see (`log`), the order of writes (`writer`), what
//! a start makes of it all ([`recovery`]), and the handle on it ([`journal`]); then what an entry looks like in a
//! frame ([`payload`], [`codec`]), what is found in them ([`index`]), how they are read ([`events`]), and what
//! appends are checked against ([`history`]).

pub mod disk;
pub mod error;

pub mod chunk;
mod footer;
pub mod frame;
mod varint;
pub mod verdict;

pub mod checkpoint;
pub mod identity;
mod small;
pub mod vote;
mod watermark;

pub mod journal;
mod log;
pub mod recovery;
mod scan;
mod writer;

pub mod codec;
pub mod fields;
pub mod index;
pub mod payload;
#[cfg(test)]
mod samples;

mod blocks;
pub mod events;
pub mod history;

#[cfg(any(test, feature = "testing"))]
pub mod fuzz;

pub use self::{
    checkpoint::Checkpoint,
    disk::{Disk, Done, FileDisk},
    error::{Damage, OpenError},
    events::{EventReader, Stored},
    frame::{Frame, FrameKind},
    identity::Identity,
    journal::{ChunkInfo, Journal, JournalSettings},
    recovery::{Recovered, TornWrite},
    verdict::Verdict,
    writer::GROUP_BYTES_MAX,
};
