//! The stated size of a progress compared with its encoded size.

use super::*;

proptest! {
    /// A limit on the stated size also limits the encoded size.
    #[test]
    fn p10_an_encoded_progress_is_no_larger_than_its_stated_size(
        texts in vec((0_usize..300, 0_usize..300), 0..4),
        numbers in vec(any::<u64>(), 0..6),
    ) {
        let big = |n: usize| numbers.get(n).copied().unwrap_or(u64::MAX);
        let (segment, epoch, position) = (SegmentId(big(0) as u32), Epoch(big(1)), Position(big(2)));
        let mut letters = letters();
        for (name, cause) in texts {
            let sequence = SequenceKey { component: ComponentId(u16::MAX), name: "n".repeat(name) };
            let failure = Failure {
                attempt: big(3) as u32,
                cause: "c".repeat(cause),
                wait_ms: u32::MAX,
                random: u16::MAX,
                last: true,
            };
            let right = Right::Loan { epoch, segment, claim: Epoch(u64::MAX) };
            let kind = "k".repeat(name);
            letters.extend([
                LetterMove::Tried {
                    right,
                    sequence: sequence.clone(),
                    position,
                    revision: u32::MAX,
                    failure: failure.clone(),
                    unable: true,
                },
                LetterMove::SetAside { segment, epoch, sequence, position, kind, failure },
            ]);
        }
        let tokens = numbers.iter().map(|next| TokenMove { segment, epoch, next: Position(*next) }).collect();
        let (processor, scanned) = (ProcessorId(u32::MAX), Some(Position(u64::MAX)));
        let progress = Progress { processor, scanned, tokens, letters };
        let (stated, empty) = (progress.bytes(), Vec::new());
        let advance = |items| {
            let (node, session) = (NodeId(u64::MAX), SessionId(u64::MAX));
            EncodedCommand::new(&Command::Advance(Advance { node, session, as_of: LogIndex(u64::MAX), items })).bytes()
        };
        prop_assert!(advance(vec![progress]) - advance(empty) <= stated);
    }
}

#[test]
fn p10_the_largest_progress_fits_an_entry() {
    let most = evener_core::coordinator::Bounds::default().progress_bytes_max();
    assert!(most <= crate::codec::ENTRY_BYTES_MAX * 3 / 4, "{most} bytes");
}
