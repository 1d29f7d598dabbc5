//! Bytes on disk: the Raft log, which is also the event log, the vote of a node, and the checkpoints of its state.
//!
//! Read in this order: the interface to the disk ([`disk`]); the formats ([`frame`], [`chunk`], `footer`, and the
//! small files `watermark`, `vote`, [`identity`], [`checkpoint`]); the log in memory (`log`); the order of writes
//! (`writer`); recovery at a start ([`recovery`]); the handle for users ([`journal`]). Then the encoding of an entry
//! ([`payload`], [`codec`]), the index of events ([`index`]), reading events ([`events`]), and the history that
//! conditions of appends are checked against ([`history`]).

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
mod settings;
mod writer;

pub mod codec;
pub mod fields;
pub mod index;
pub mod payload;
#[cfg(test)]
mod samples;

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
    journal::{ChunkInfo, Journal},
    recovery::{Recovered, TornWrite},
    settings::JournalSettings,
    verdict::Verdict,
    writer::GROUP_BYTES_MAX,
};
