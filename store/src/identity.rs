//! The identity of a data directory: its node and cluster. Written once; an emptied directory has no identity and so
//! can never act as its former node.

use std::io;

use evener_core::id::{ClusterId, Incarnation, NodeId};
use uuid::Uuid;

use crate::{
    chunk::CHUNK_DIR,
    disk::Disk,
    error::{Damage, OpenError},
    small::{BodyReader, SmallFile, put_sized},
};

/// The longest name of a node.
pub const NODE_NAME_BYTES_MAX: usize = 255;

const FILE: SmallFile =
    SmallFile { file: "identity", magic: b"EVNRNODE", version: 1, body_bytes_max: 64 + NODE_NAME_BYTES_MAX };

/// The identity of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The id of the node.
    pub node: NodeId,
    /// The name of the node.
    pub name: String,
    /// The incarnation of this directory.
    pub incarnation: Incarnation,
    /// The size of chunks, a constant of the cluster.
    pub chunk_bytes: u64,
}

impl Identity {
    /// Reads the identity; returns `None` if the directory has none yet. It is written before the first frame, so a log
    /// without an identity is damaged.
    pub fn read(disk: &dyn Disk) -> Result<Option<Self>, OpenError> {
        let action = || OpenError::io(format!("read the identity in {}", disk.name()));
        let Some(body) = FILE.read(disk).map_err(action())? else {
            if disk.list(CHUNK_DIR).map_err(action())?.is_empty() {
                return Ok(None);
            }
            return Err(Damage::new(FILE.file, 0, "the file is missing").into());
        };
        let identity = Self::decode(&body).ok_or_else(|| Damage::new(FILE.file, 0, "its content is inconsistent"))?;
        Ok(Some(identity))
    }

    /// Writes the identity once: writing it again changes nothing, writing another one fails.
    pub fn write(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        let action = format!("write the identity in {}", disk.name());
        if self.name.len() > NODE_NAME_BYTES_MAX {
            let length = self.name.len();
            return Err(OpenError::Setting(format!(
                "a node's name has at most {NODE_NAME_BYTES_MAX} bytes, but this one has {length}; choose a shorter one"
            )));
        }
        match Self::read(disk)? {
            None => disk.perform(FILE.replace(&self.encode())).map_err(OpenError::io(action)),
            Some(there) if there == *self => Ok(()),
            Some(there) => {
                let message = format!("the directory belongs to node '{}' of cluster {}", there.name, there.cluster);
                Err(OpenError::Io { action, source: io::Error::new(io::ErrorKind::AlreadyExists, message) })
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(self.cluster.0.as_bytes());
        body.extend_from_slice(self.incarnation.0.as_bytes());
        body.extend_from_slice(&self.node.0.to_le_bytes());
        body.extend_from_slice(&self.chunk_bytes.to_le_bytes());
        put_sized(self.name.as_bytes(), &mut body);
        body
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut body = BodyReader(body);
        let identity = Self {
            cluster: ClusterId(Uuid::from_slice(body.bytes(16)?).ok()?),
            incarnation: Incarnation(Uuid::from_slice(body.bytes(16)?).ok()?),
            node: NodeId(body.u64()?),
            chunk_bytes: body.u64()?,
            name: String::from_utf8(body.sized()?.to_vec()).ok()?,
        };
        body.0.is_empty().then_some(identity)
    }
}

#[cfg(test)]
mod tests {
    use evener_core::id::LogIndex;

    use super::*;
    use crate::disk::{MemoryDisk, Op};

    fn identity(name: &str) -> Identity {
        Identity {
            cluster: ClusterId(Uuid::from_u128(1)),
            node: NodeId(7),
            name: name.into(),
            incarnation: Incarnation(Uuid::from_u128(2)),
            chunk_bytes: 4096,
        }
    }

    #[test]
    fn an_identity_is_written_once() {
        let disk = MemoryDisk::new();
        assert_eq!(Identity::read(&disk).unwrap(), None);
        identity("a").write(&disk).unwrap();
        assert_eq!(Identity::read(&disk).unwrap(), Some(identity("a")));
        identity("a").write(&disk).unwrap();
        let error = identity("b").write(&disk).unwrap_err().to_string();
        assert!(error.contains("belongs to node 'a'"), "{error}");
        assert_eq!(Identity::read(&disk).unwrap(), Some(identity("a")));
        let error = identity(&"x".repeat(256)).write(&MemoryDisk::new()).unwrap_err().to_string();
        assert!(error.contains("at most 255 bytes"), "{error}");
    }

    #[test]
    fn p8_a_log_without_an_identity_is_damage() {
        let disk = MemoryDisk::new();
        disk.perform(vec![Op::Create { file: crate::chunk::chunk_file(LogIndex(0)), preallocate: 0 }]).unwrap();
        let error = Identity::read(&disk).unwrap_err().to_string();
        assert!(error.contains("damage in identity") && error.contains("missing"), "{error}");
    }
}
