//! An event: an immutable fact, with the attributes of CloudEvents 1.0 and what Evener adds to them.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::hash;

/// A fact as its producer tells it. Position, revision and `recorded` are not part of it: they follow from
/// its place in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unique for ever within a context (P3).
    pub id: Uuid,
    /// The producer's own id where that was no UUID; `id` is then the UUIDv5 of source and this.
    pub given_id: Option<String>,
    /// Who tells it (CloudEvents `source`).
    pub source: String,
    /// What happened (CloudEvents `type`).
    pub kind: String,
    /// The aggregate it happened to (CloudEvents `subject`).
    pub stream: Option<String>,
    /// What orders it, if not its stream.
    pub key: Option<String>,
    /// Labels, `key=value` by habit.
    pub tags: Vec<String>,
    /// The producer's time, as it wrote it (RFC 3339).
    pub time: Option<String>,
    /// What `data` is; none means JSON.
    pub content_type: Option<String>,
    /// CloudEvents `dataschema`.
    pub schema: Option<String>,
    /// Further CloudEvents extension attributes, as JSON values.
    pub extensions: Vec<(String, String)>,
    /// The key its data is encrypted with; 0 is none.
    pub key_id: u32,
    /// How `data` came: it goes out the same way.
    pub data_kind: DataKind,
    /// The payload: the JSON text, or the bytes.
    pub data: Vec<u8>,
}

/// How a payload is carried in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataKind {
    /// No payload at all.
    #[default]
    None,
    /// `data`: JSON text.
    Json,
    /// `data_base64`: bytes.
    Binary,
}

impl Event {
    /// A number that two events with the same content share, and others practically never.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = hash::Hasher::new();
        let texts = [Some(&self.source), Some(&self.kind), self.stream.as_ref(), self.key.as_ref()];
        for text in texts {
            digest.part(text.map(String::as_bytes));
        }
        let texts = [self.given_id.as_ref(), self.time.as_ref(), self.content_type.as_ref(), self.schema.as_ref()];
        for text in texts {
            digest.part(text.map(String::as_bytes));
        }
        for tag in &self.tags {
            digest.part(Some(tag.as_bytes()));
        }
        for (name, value) in &self.extensions {
            digest.part(Some(name.as_bytes()));
            digest.part(Some(value.as_bytes()));
        }
        digest.part(Some(&self.data));
        digest.finish()
    }

    /// Bytes of its attributes and payload together.
    #[must_use]
    pub fn size(&self) -> usize {
        let texts = [&self.given_id, &self.stream, &self.key, &self.time, &self.content_type, &self.schema];
        16 + self.source.len()
            + self.kind.len()
            + texts.iter().map(|t| t.as_ref().map_or(0, String::len)).sum::<usize>()
            + self.tags.iter().map(String::len).sum::<usize>()
            + self.extensions.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
            + self.data.len()
    }
}
