//! The vote of this node and its last hidden frame. A node that lost its vote could vote twice, so the file exists from
//! the first start, and a missing or invalid one is damage.

use std::io;

use bytes::Bytes;
use evener_core::id::{LogIndex, Term};

use crate::{
    disk::{Disk, Op},
    error::Damage,
    small::{BodyReader, SmallFile, put_optional, put_sized},
};

/// The longest vote.
pub const VOTE_BYTES_MAX: usize = 1024;

const FILE: SmallFile = SmallFile { file: "vote", magic: b"EVNRVOTE", version: 1, body_bytes_max: VOTE_BYTES_MAX + 64 };

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VoteRecord {
    /// The vote, opaque to this crate; `None` before the first vote.
    pub vote: Option<Bytes>,
    /// The last hidden frame.
    pub hidden: Option<(LogIndex, Term)>,
}

impl VoteRecord {
    pub(crate) fn read(disk: &dyn Disk) -> io::Result<Option<Self>> {
        let Some(body) = FILE.read(disk)? else { return Ok(None) };
        Self::decode(&body).map(Some).ok_or_else(|| Damage::new(FILE.file, 0, "its content is inconsistent").into())
    }

    pub(crate) fn replace(&self) -> Vec<Op> {
        FILE.replace(&self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_optional(self.hidden.map(|(index, _)| index.0), &mut body);
        put_optional(self.hidden.map(|(_, term)| term.0), &mut body);
        body.push(u8::from(self.vote.is_some()));
        put_sized(self.vote.as_deref().unwrap_or_default(), &mut body);
        body
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut body = BodyReader(body);
        let hidden = match (body.optional()?, body.optional()?) {
            (None, None) => None,
            (Some(index), Some(term)) => Some((LogIndex(index), Term(term))),
            _ => return None,
        };
        let vote = match (body.u8()?, body.sized()?) {
            (0, []) => None,
            (1, vote) => Some(Bytes::copy_from_slice(vote)),
            _ => return None,
        };
        body.0.is_empty().then_some(Self { vote, hidden })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_record_round_trips() {
        let vote_records = [
            VoteRecord::default(),
            VoteRecord { vote: Some(Bytes::new()), hidden: None },
            VoteRecord { vote: Some(Bytes::from_static(b"me")), hidden: Some((LogIndex(3), Term(2))) },
        ];
        for vote_record in vote_records {
            assert_eq!(VoteRecord::decode(&vote_record.encode()), Some(vote_record));
        }
    }
}
