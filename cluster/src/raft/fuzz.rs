//! The decoders of Raft's messages, for fuzz tests. The first byte chooses the type.

use bytes::Bytes;
use evener_core::fuzz::Decoder;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest, VoteResponse};

use super::{
    layout::{Appended, Layout},
    types::{Membership, Types, Vote},
};

/// Returns every decoder of this folder.
pub(crate) fn decoders() -> Vec<Decoder> {
    vec![Decoder::new("raft-message", decode, samples)]
}

fn decode(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    match choice % 7 {
        0 => again::<AppendEntriesRequest<Types>>(bytes),
        1 => again::<Appended>(bytes),
        2 => again::<VoteRequest<Types>>(bytes),
        3 => again::<VoteResponse<Types>>(bytes),
        4 => again::<TransferLeaderRequest<Types>>(bytes),
        5 => again::<Membership>(bytes),
        _ => again::<Vote>(bytes),
    }
}

fn again<T: Layout>(bytes: Bytes) {
    if let Ok(value) = T::from_bytes(bytes) {
        let bytes = value.to_bytes();
        let same = T::from_bytes(bytes.clone()).is_ok_and(|again| again.to_bytes() == bytes);
        assert!(same, "a decoded {} is encoded to the same bytes", T::WHAT);
    }
}

/// Returns one sample of each message, written as hex by the documented layout.
fn samples() -> Vec<Vec<u8>> {
    const VOTE: &str = "01 0300000000000000 0200000000000000 01";
    const PLACE: &str = "0200000000000000 0700000000000000";
    const MEMBERSHIP: &str = "01 01 0100 0100000000000000 0100 0100000000000000
        0100 61 0300 683a31 0a00 687474703a2f2f683a32 0102030405060708090a0b0c0d0e0f10";
    let samples = [
        format!(
            "00 {VOTE} 01 {PLACE} 00 03000000 {PLACE} 00 00000000 00000000 00000000
             {PLACE} 01 00000000 00000000 3a000000 {MEMBERSHIP}
             {PLACE} 02 07000000 02000000 03000000 78797a"
        ),
        format!("01 00 01 {PLACE}"),
        format!("01 01 {PLACE}"),
        format!("01 02 {VOTE}"),
        format!("02 {VOTE} 01 {PLACE} 01"),
        format!("03 {VOTE} 01 00"),
        format!("04 {VOTE} 0400000000000000 01 {PLACE}"),
        format!("05 {MEMBERSHIP}"),
        format!("06 {VOTE}"),
    ];
    samples.iter().map(|hex| unhex(hex)).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_valid() {
        for sample in samples() {
            let bytes = Bytes::copy_from_slice(&sample[1..]);
            let read = match sample[0] {
                0 => AppendEntriesRequest::<Types>::from_bytes(bytes).is_ok(),
                1 => Appended::from_bytes(bytes).is_ok(),
                2 => VoteRequest::<Types>::from_bytes(bytes).is_ok(),
                3 => VoteResponse::<Types>::from_bytes(bytes).is_ok(),
                4 => TransferLeaderRequest::<Types>::from_bytes(bytes).is_ok(),
                5 => Membership::from_bytes(bytes).is_ok(),
                _ => Vote::from_bytes(bytes).is_ok(),
            };
            assert!(read, "sample {sample:02x?}");
        }
    }
}
