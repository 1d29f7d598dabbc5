//! Who a data directory belongs to. Written once; a directory that was emptied has none, and so can never speak
//! for the node it was.

use std::io;

use evener_core::id::{ClusterId, Incarnation, NodeId};
use uuid::Uuid;

use crate::{
    disk::Disk,
    error::{Damage, OpenError},
    small::{Body, Small, put_sized},
};

/// The longest name of a node.
pub const NODE_NAME_BYTES_MAX: usize = 255;

const FILE: Small = Small { file: "identity", magic: b"EVNRNODE", body_bytes_max: 64 + NODE_NAME_BYTES_MAX };

/// Who a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Which member.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The life of this directory.
    pub incarnation: Incarnation,
    /// The cluster's constant.
    pub chunk_bytes: u64,
}

impl Identity {
    /// Reads it; none if the directory has none yet.
    pub fn read(disk: &dyn Disk) -> Result<Option<Self>, OpenError> {
        let doing = || format!("read the identity in {}", disk.name());
        let Some(body) = FILE.read(disk).map_err(OpenError::io(doing()))? else { return Ok(None) };
        let identity = Self::decode(&body).ok_or_else(|| Damage::new(FILE.file, 0, "it contradicts itself"))?;
        Ok(Some(identity))
    }

    /// Writes it, once: the same again changes nothing, another one is refused.
    pub fn write(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        let doing = format!("write the identity in {}", disk.name());
        if self.name.len() > NODE_NAME_BYTES_MAX {
            let length = self.name.len();
            return Err(OpenError::Setting(format!(
                "a node's name has at most {NODE_NAME_BYTES_MAX} bytes, and this one has {length}; choose a shorter one"
            )));
        }
        match Self::read(disk)? {
            None => disk.perform(FILE.replace(&self.encode())).map_err(OpenError::io(doing)),
            Some(there) if there == *self => Ok(()),
            Some(there) => {
                let told = format!("the directory belongs to node '{}' of cluster {}", there.name, there.cluster);
                Err(OpenError::Io { doing, source: io::Error::new(io::ErrorKind::AlreadyExists, told) })
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
        let mut body = Body(body);
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
