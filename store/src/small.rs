//! Small files of one node: a header with a checksum, and a body that is read and written as a whole.
//!
//! ```text
//!  offset  bytes
//!       0      8  magic bytes of its kind, e.g. "EVNRVOTE"
//!       8      2  version of the format of this kind of file
//!      10      2  0
//!      12      4  length of the body
//!      16      4  crc32c of bytes 0..16 and the body
//!      20         the body; the file ends with it
//! ```

use std::io;

use bytes::Bytes;

use crate::{
    disk::{Disk, Op},
    error::Damage,
};

const HEADER_BYTES: usize = 20;

/// A kind of small file.
pub(crate) struct SmallFile {
    /// Its file name.
    pub file: &'static str,
    /// Its magic bytes.
    pub magic: &'static [u8; 8],
    /// The version of its format that this build reads and writes.
    pub version: u16,
    /// The maximum length of the body.
    pub body_bytes_max: usize,
}

impl SmallFile {
    /// Encodes the file with this body.
    pub(crate) fn encode(&self, body: &[u8]) -> Bytes {
        assert!(body.len() <= self.body_bytes_max, "{} is at most {} bytes", self.file, self.body_bytes_max);
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(self.magic);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&u32::try_from(body.len()).expect("bounded by its kind").to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&out), body);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(body);
        out.into()
    }

    /// Checks a file and returns its body.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, Damage> {
        let wrong = |found: &str| Err(Damage::new(self.file, 0, found));
        if bytes.len() < HEADER_BYTES {
            return wrong("the file ends within its header");
        }
        let (header, body) = bytes.split_at(HEADER_BYTES);
        if &header[..8] != self.magic {
            return wrong("its magic bytes are wrong");
        }
        if header[12..16] != (body.len() as u64).to_le_bytes()[..4] {
            return wrong("its length does not match its header");
        }
        let sum = crc32c::crc32c_append(crc32c::crc32c(&header[..16]), body);
        if header[16..] != sum.to_le_bytes() {
            return wrong("its checksum does not match");
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if version != self.version || header[10..12] != [0, 0] {
            let newer = if version > self.version { "; start a newer build" } else { "" };
            return wrong(&format!("its format {version} cannot be read by this build{newer}"));
        }
        Ok(body.to_vec())
    }

    /// Reads the body of the file; returns `None` if the file does not exist.
    pub(crate) fn read(&self, disk: &dyn Disk) -> io::Result<Option<Vec<u8>>> {
        self.read_as(disk, self.file)
    }

    /// Reads the body of a file of this kind with another name.
    pub(crate) fn read_as(&self, disk: &dyn Disk, file: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(len) = disk.len(file)? else { return Ok(None) };
        if len > (HEADER_BYTES + self.body_bytes_max) as u64 {
            let found = format!("it has {len} bytes, but at most {} are allowed", HEADER_BYTES + self.body_bytes_max);
            return Err(Damage::new(file, 0, found).into());
        }
        let bytes = disk.read(file, 0, len as usize)?;
        let body = self.decode(&bytes).map_err(|damage| Damage { file: file.to_owned(), ..damage })?;
        Ok(Some(body))
    }

    /// Returns the operations that replace the file atomically.
    pub(crate) fn replace(&self, body: &[u8]) -> Vec<Op> {
        let temporary = format!("{}.new", self.file);
        vec![
            // A file left by a crash may be longer.
            Op::Create { file: temporary.clone(), preallocate: 0 },
            Op::Truncate { file: temporary.clone(), len: 0 },
            Op::Write { file: temporary.clone(), offset: 0, bytes: self.encode(body) },
            Op::SyncData { file: temporary.clone() },
            Op::Rename { from: temporary, to: self.file.to_owned() },
            Op::SyncDir { dir: String::new() },
        ]
    }

    /// Returns the operation that overwrites the file without a sync. Only for a body of constant length within a
    /// sector.
    pub(crate) fn overwrite(&self, body: &[u8]) -> Op {
        Op::Write { file: self.file.to_owned(), offset: 0, bytes: self.encode(body) }
    }
}

/// Reads values from the front of a body.
pub(crate) struct BodyReader<'a>(pub &'a [u8]);

impl<'a> BodyReader<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|taken| taken[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.bytes(4).map(|taken| u32::from_le_bytes(taken.try_into().expect("four bytes")))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.bytes(8).map(|taken| u64::from_le_bytes(taken.try_into().expect("eight bytes")))
    }

    /// Reads an optional number: a flag byte, and the number or zeros.
    pub(crate) fn optional(&mut self) -> Option<Option<u64>> {
        match (self.u8()?, self.u64()?) {
            (0, 0) => Some(None),
            (1, number) => Some(Some(number)),
            _ => None,
        }
    }

    /// Reads bytes that follow their length.
    pub(crate) fn sized(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()? as usize;
        self.bytes(len)
    }
}

pub(crate) fn put_optional(number: Option<u64>, out: &mut Vec<u8>) {
    out.push(u8::from(number.is_some()));
    out.extend_from_slice(&number.unwrap_or(0).to_le_bytes());
}

pub(crate) fn put_sized(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(bytes.len()).expect("bounded by the file's kind").to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The golden bytes of small files, readable for ever.
#[cfg(test)]
mod golden {
    use evener_core::id::{ClusterId, Incarnation, LogIndex, NodeId, Term};
    use uuid::Uuid;

    use super::*;
    use crate::{disk::MemoryDisk, frame::FrameLocation, identity::Identity, vote::VoteRecord, watermark::Watermark};

    /// Returns the bytes of a hex string, which may contain spaces.
    fn bytes_of(hex: &str) -> Bytes {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect::<Vec<u8>>().into()
    }

    /// Returns disks with the golden files of one name. Each line of the golden text is a file name and its bytes.
    fn golden(name: &str) -> Vec<MemoryDisk> {
        let lines = include_str!("small/golden.txt").lines().filter_map(|line| line.split_once(": "));
        let disks = lines.filter(|(file, _)| *file == name).map(|(_, hex)| {
            let (disk, file) = (MemoryDisk::new(), name.to_owned());
            let create = Op::Create { file: file.clone(), preallocate: 0 };
            disk.perform(vec![create, Op::Write { file, offset: 0, bytes: bytes_of(hex) }]).unwrap();
            disk
        });
        disks.collect()
    }

    fn whole(disk: &MemoryDisk, name: &str) -> Vec<u8> {
        disk.read(name, 0, disk.len(name).unwrap().unwrap() as usize).unwrap()
    }

    /// Checks that the golden files of one name are read as these values, and the values are written as the files.
    #[track_caller]
    fn check<T: PartialEq + std::fmt::Debug>(
        name: &str,
        values: &[T],
        read: impl Fn(&dyn Disk) -> Option<T>,
        write: impl Fn(&T, &dyn Disk),
    ) {
        let written = values.iter().map(|value| {
            let disk = MemoryDisk::new();
            write(value, &disk);
            disk
        });
        let (written, golden): (Vec<_>, _) = (written.collect(), golden(name));
        let shown = written.iter().map(|disk| whole(disk, name).iter().map(|byte| format!("{byte:02x}")).collect());
        let shown: Vec<String> = shown.collect();
        assert_eq!(golden.len(), values.len(), "lines of {name}: {shown:#?}");
        for ((disk, value), written) in golden.iter().zip(values).zip(&written) {
            assert_eq!(read(disk).as_ref(), Some(value), "an older file {name} can no longer be read");
            assert_eq!(whole(disk, name), whole(written, name), "the format of {name} changed: raise its version");
        }
    }

    #[test]
    fn golden_identities() {
        let identity = |name: &str| Identity {
            cluster: ClusterId(Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10)),
            node: NodeId(7),
            name: name.into(),
            incarnation: Incarnation(Uuid::from_u128(2)),
            chunk_bytes: 65_536,
        };
        let read = |disk: &dyn Disk| Identity::read(disk).unwrap();
        check("identity", &[identity("n1"), identity("")], read, |identity, disk| identity.write(disk).unwrap());
    }

    #[test]
    fn golden_votes() {
        let vote = Bytes::from_static(&[1, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
        let vote_records = [
            VoteRecord::default(),
            VoteRecord { vote: Some(vote.clone()), hidden: None },
            VoteRecord { vote: Some(vote), hidden: Some((LogIndex(3), Term(2))) },
        ];
        let read = |disk: &dyn Disk| VoteRecord::read(disk).unwrap();
        check("vote", &vote_records, read, |vote_record, disk| disk.perform(vote_record.replace()).unwrap());
    }

    #[test]
    fn golden_watermarks() {
        let end = Some((FrameLocation { chunk: LogIndex(5), offset: 0x1234 }, LogIndex(9)));
        let watermarks =
            [Watermark::default(), Watermark { base: Some(LogIndex(0)), end, committed: Some(LogIndex(8)) }];
        let read = |disk: &dyn Disk| Watermark::read(disk).unwrap();
        check("watermark", &watermarks, read, |watermark, disk| disk.perform(watermark.write_and_sync()).unwrap());
    }
}
