//! Values as bytes, for digests that all nodes and all builds must compute in the same way: the state hash, and the
//! digest that distinguishes a repeated operation from another one. Every variant has a number that is written here,
//! and nothing is taken from names, from `Debug` or from a serializer, so wording and code may change and the digest
//! does not.
//!
//! A number is eight bytes, little-endian. A text is its length and its bytes, an option is 0 or 1 and the value, a
//! list is its count and the values, and a variant is its number and its fields in order.

#[cfg(any(test, feature = "testing"))]
pub mod samples;
#[cfg(test)]
mod tests;

use alloc::{string::String, vec::Vec};

use uuid::Uuid;

use crate::{
    append::{Appended, Expected, Refusal},
    backoff::Backoff,
    command::{Change, LetterChange, Outcome, Selection, Stale},
    criteria::{Criteria, Criterion},
    hash::Hasher,
    id::{ComponentId, ContextId, NodeId, Position, ProcessorId, SegmentId},
    limits::{EventPart, InvalidLimits, LimitExceeded, Limits, Measured},
    processor::{Definition, Handler, OnError, Start},
    reason::{Existing, Invalid, LimitReached, NotFound, RefusalReason},
    replay::ResetTo,
    sequence::Sequencing,
    subject::Subject,
};

/// Something with canonical bytes.
pub trait Canonical {
    /// Appends its canonical bytes.
    fn write(&self, out: &mut Vec<u8>);

    /// Returns the digest of its canonical bytes.
    fn canonical_digest(&self) -> u64 {
        let mut out = Vec::new();
        self.write(&mut out);
        let mut hasher = Hasher::new();
        hasher.part(Some(&out));
        hasher.finish()
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn list<'i, T: Canonical + 'i>(out: &mut Vec<u8>, items: impl ExactSizeIterator<Item = &'i T>) {
    number(out, items.len() as u64);
    items.for_each(|item| item.write(out));
}

/// Writes a variant: its number, and its fields in order.
macro_rules! variant {
    ($out:ident, $number:literal $(, $field:expr)*) => {{
        number($out, $number);
        $(Canonical::write($field, $out);)*
    }};
}

macro_rules! numbers {
    ($($inner:ident: $($name:ty),*;)*) => {$($(
        impl Canonical for $name {
            fn write(&self, out: &mut Vec<u8>) {
                number(out, u64::from(self.0));
            }
        }
    )*)*};
}

numbers! {
    u64: NodeId, Position, crate::id::Revision, crate::id::SessionId, crate::id::Term, crate::time::Timestamp;
    u32: ContextId, ProcessorId, SegmentId;
    u16: ComponentId;
}

macro_rules! integers {
    ($($name:ty),*) => {$(
        impl Canonical for $name {
            fn write(&self, out: &mut Vec<u8>) {
                number(out, u64::from(*self));
            }
        }
    )*};
}

integers!(bool, u16, u32, u64);

impl Canonical for String {
    fn write(&self, out: &mut Vec<u8>) {
        number(out, self.len() as u64);
        out.extend_from_slice(self.as_bytes());
    }
}

impl Canonical for Uuid {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl<T: Canonical> Canonical for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        number(out, u64::from(self.is_some()));
        if let Some(value) = self {
            value.write(out);
        }
    }
}

impl Canonical for (Uuid, Position) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }
}

impl Canonical for Outcome {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Done => variant!(out, 1),
            Self::Appended(Appended { first, next, repeated }) => variant!(out, 2, first, next, repeated),
            Self::AppendRefused(refusal) => variant!(out, 3, refusal),
            Self::Admitted(node) => variant!(out, 4, node),
            Self::Begun(session) => variant!(out, 5, session),
            Self::Advanced(stale) => {
                number(out, 6);
                list(out, stale.iter());
            }
            Self::Refused(reason) => variant!(out, 7, reason),
            Self::Changed(count) => variant!(out, 8, count),
        }
    }
}

impl Canonical for Stale {
    fn write(&self, out: &mut Vec<u8>) {
        let Self { processor, segment, reason } = self;
        variant!(out, 1, processor, segment, reason);
    }
}

impl Canonical for Refusal {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Conflict { condition, position, kind } => variant!(out, 1, condition, position, kind),
            Self::Revision { stream, expected, actual } => variant!(out, 2, stream, expected, actual),
            Self::Duplicate { stored, other } => {
                number(out, 3);
                list(out, stored.iter());
                list(out, other.iter());
            }
            Self::Retry => variant!(out, 4),
            Self::Limit(exceeded) => variant!(out, 5, exceeded),
            Self::SameIdTwice(id) => variant!(out, 6, id),
            Self::NoType(id) => variant!(out, 7, id),
            Self::Ahead { condition, marker, head } => variant!(out, 8, condition, marker, head),
        }
    }
}

impl Canonical for Expected {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Any => variant!(out, 1),
            Self::NoStream => variant!(out, 2),
            Self::At(revision) => variant!(out, 3, revision),
        }
    }
}

impl Canonical for RefusalReason {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Fenced => variant!(out, 1),
            Self::Outdated => variant!(out, 2),
            Self::NotFound(not_found) => variant!(out, 3, not_found),
            Self::Exists(existing) => variant!(out, 4, existing),
            Self::Limit(LimitReached { limit, max, sequence }) => variant!(out, 5, &limit.number(), max, sequence),
            Self::Invalid(invalid) => variant!(out, 6, invalid),
            Self::Unreadable(kind) => variant!(out, 7, kind),
        }
    }
}

impl Canonical for NotFound {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Context(context) => variant!(out, 1, context),
            Self::Processor(name) => variant!(out, 2, name),
            Self::ProcessorNumber(id) => variant!(out, 3, id),
            Self::Segment { processor, segment } => variant!(out, 4, processor, segment),
            Self::Sequence { processor, component, sequence } => variant!(out, 5, processor, component, sequence),
            Self::Member(node) => variant!(out, 6, node),
        }
    }
}

impl Canonical for Existing {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Cluster(cluster) => variant!(out, 1, &cluster.0),
            Self::Directory(member) => variant!(out, 2, member),
            Self::MemberName(member) => variant!(out, 3, member),
            Self::Incarnation(member) => variant!(out, 4, member),
            Self::Sequencing { processor, stored, wanted } => variant!(out, 5, processor, stored, wanted),
            Self::Processor(name) => variant!(out, 6, name),
            Self::Operation { operation, kind, subject, recorded } => {
                variant!(out, 7, operation, &kind.number(), subject, recorded);
            }
        }
    }
}

impl Canonical for Subject {
    fn write(&self, out: &mut Vec<u8>) {
        let Self { processor, segment, position, sequence, node, member, address } = self;
        variant!(out, 1, processor, segment, position, sequence, node, member, address);
    }
}

impl Canonical for crate::letter::SequenceKey {
    fn write(&self, out: &mut Vec<u8>) {
        let Self { component, name } = self;
        variant!(out, 1, component, name);
    }
}

impl Canonical for Invalid {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::NotFounded => variant!(out, 1),
            Self::LimitExceeded(exceeded) => variant!(out, 2, exceeded),
            Self::Limits(InvalidLimits::Range { limit, value, least, most }) => {
                variant!(out, 3, &limit.number(), value, least, most);
            }
            Self::Limits(InvalidLimits::EventOverAppend { event, append }) => variant!(out, 4, event, append),
            Self::ProcessorName(name) => variant!(out, 5, name),
            Self::Segments { segments, max } => variant!(out, 6, segments, max),
            Self::Backoff => variant!(out, 7),
            Self::StartBeyondHead { start, head } => variant!(out, 8, start, head),
            Self::CannotRun { node, processor } => variant!(out, 9, node, processor),
            Self::LastMember(name) => variant!(out, 10, name),
            Self::WaitsWithOther { processor, segment, position, waits_with } => {
                variant!(out, 11, processor, segment, position, waits_with);
            }
            Self::NotFirst { processor, segment, position } => variant!(out, 12, processor, segment, position),
            Self::ResetBeyondHead { position, head } => variant!(out, 13, position, head),
            Self::NoReplay(processor) => variant!(out, 14, processor),
            Self::NothingToSplit(processor) => variant!(out, 15, processor),
            Self::NothingToMerge(processor) => variant!(out, 16, processor),
            Self::CannotSplit { processor, segment } => variant!(out, 17, processor, segment),
            Self::NoSibling { processor, segment } => variant!(out, 18, processor, segment),
            Self::Reshaping { processor, segment } => variant!(out, 19, processor, segment),
        }
    }
}

impl Canonical for LimitExceeded {
    fn write(&self, out: &mut Vec<u8>) {
        let Self { limit, max, got, of } = self;
        variant!(out, 1, &limit.number(), max, got, of);
    }
}

impl Canonical for Measured {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::AppendEvents => variant!(out, 1),
            Self::AppendBytes => variant!(out, 2),
            Self::Conditions => variant!(out, 3),
            Self::Expectations => variant!(out, 4),
            Self::AppendCriteria => variant!(out, 5),
            Self::ReadCriteria => variant!(out, 6),
            Self::ProcessorCriteria => variant!(out, 7),
            Self::Stream => variant!(out, 8),
            Self::Event(part, nth) => variant!(out, 9, part, nth),
            Self::ExtensionValue(name, nth) => variant!(out, 10, name, nth),
            Self::CriteriaItems => variant!(out, 11),
            Self::CriteriaTypes => variant!(out, 12),
            Self::CriteriaTags => variant!(out, 13),
            Self::CriteriaType => variant!(out, 14),
            Self::CriteriaTag => variant!(out, 15),
            Self::ProcessorName => variant!(out, 16),
            Self::ProcessorCommand => variant!(out, 17),
            Self::ProcessorTexts => variant!(out, 18),
            Self::SequencedBy => variant!(out, 19),
            Self::SequenceName => variant!(out, 20),
            Self::MemberName => variant!(out, 21),
            Self::PeerAddress => variant!(out, 22),
            Self::HttpAddress => variant!(out, 23),
            Self::Capabilities => variant!(out, 24),
            Self::Versions => variant!(out, 25),
            Self::Reason => variant!(out, 26),
            Self::Principal => variant!(out, 27),
            Self::ResetContext => variant!(out, 28),
        }
    }
}

impl Canonical for EventPart {
    fn write(&self, out: &mut Vec<u8>) {
        let part = match self {
            Self::Whole => 1,
            Self::Tags => 2,
            Self::Tag => 3,
            Self::Id => 4,
            Self::Source => 5,
            Self::Type => 6,
            Self::Stream => 7,
            Self::Key => 8,
            Self::Time => 9,
            Self::ContentType => 10,
            Self::Schema => 11,
            Self::Extensions => 12,
            Self::ExtensionName => 13,
        };
        number(out, part);
    }
}

impl Canonical for Change {
    /// Appends a change as it was requested, without the term in which a member is to lead: that comes from the
    /// cluster, and may be a later one when the same request is repeated.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Create(definition) => variant!(out, 1, definition.as_ref()),
            Self::Delete(name) => variant!(out, 2, name),
            Self::Pause(name, paused) => variant!(out, 3, name, paused),
            Self::Release(name, segment) => variant!(out, 4, name, segment),
            Self::Claim(name, segment, node) => variant!(out, 5, name, segment, node),
            Self::Unpin(name, segment) => variant!(out, 6, name, segment),
            Self::Letters(name, selection, change) => variant!(out, 7, name, selection, change),
            Self::SetLimits(limits) => variant!(out, 8, limits),
            Self::Expect(peer) => variant!(out, 9, peer),
            Self::Leave(node) => variant!(out, 10, node),
            Self::Lead(node, _) => variant!(out, 11, node),
            Self::SkipEvent(name, segment, position) => variant!(out, 12, name, segment, position),
            Self::Reset(name, to, context) => variant!(out, 13, name, to, context),
            Self::Split(name, segment) => variant!(out, 14, name, segment),
            Self::Merge(name, segment) => variant!(out, 15, name, segment),
            Self::Move(name, segment, node) => variant!(out, 16, name, segment, node),
        }
    }
}

impl Canonical for ResetTo {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Beginning => variant!(out, 1),
            Self::Head => variant!(out, 2),
            Self::At(position) => variant!(out, 3, position),
            Self::ReplayEnd => variant!(out, 4),
        }
    }
}

impl Canonical for Selection {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sequence(component, name) => variant!(out, 1, component, name),
            Self::All => variant!(out, 2),
        }
    }
}

impl Canonical for LetterChange {
    fn write(&self, out: &mut Vec<u8>) {
        let change = match self {
            Self::Retry => 1,
            Self::Skip => 2,
            Self::Drop => 3,
        };
        number(out, change);
    }
}

/// The limits that every build knows.
const LIMITS_OF_ALL_BUILDS: u16 = 26;

impl Canonical for Limits {
    /// Limits that older builds do not know are written only if they differ from what those builds assume.
    fn write(&self, out: &mut Vec<u8>) {
        let rows = || {
            let absent = Self::IF_NOT_STORED.rows().map(|(_, value, ..)| value);
            let rows = self.rows().zip(absent);
            rows.filter(|((limit, value, ..), absent)| limit.number() <= LIMITS_OF_ALL_BUILDS || value != absent)
        };
        number(out, rows().count() as u64);
        for ((limit, value, ..), _) in rows() {
            variant!(out, 1, &limit.number(), &value);
        }
    }
}

impl Canonical for Definition {
    fn write(&self, out: &mut Vec<u8>) {
        let Self { name, context, handler, segments, start, criteria, sequencing, on_error, backoff } = self;
        variant!(out, 1, name, context, handler, segments, start, criteria, sequencing, on_error, backoff);
    }
}

impl Canonical for Handler {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Embedded => variant!(out, 1),
            Self::Exec(command) => variant!(out, 2, command),
            Self::Webhook(url) => variant!(out, 3, url),
        }
    }
}

impl Canonical for Start {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Beginning => variant!(out, 1),
            Self::Head => variant!(out, 2),
            Self::At(position) => variant!(out, 3, position),
        }
    }
}

impl Canonical for Criteria {
    fn write(&self, out: &mut Vec<u8>) {
        list(out, self.0.iter());
    }
}

impl Canonical for Criterion {
    fn write(&self, out: &mut Vec<u8>) {
        let Self { types, tags } = self;
        list(out, types.iter());
        list(out, tags.iter());
    }
}

impl Canonical for Sequencing {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::KeyElseStream => variant!(out, 1),
            Self::Stream => variant!(out, 2),
            Self::Tag(name) => variant!(out, 3, name),
            Self::Extension(name) => variant!(out, 4, name),
            Self::Whole => variant!(out, 5),
            Self::None => variant!(out, 6),
        }
    }
}

impl Canonical for OnError {
    fn write(&self, out: &mut Vec<u8>) {
        let on_error = match self {
            Self::SetAside => 1,
            Self::Stop => 2,
            Self::Skip => 3,
        };
        number(out, on_error);
    }
}

impl Canonical for Backoff {
    fn write(&self, out: &mut Vec<u8>) {
        let Self { first_ms, max_ms, attempts } = self;
        variant!(out, 1, first_ms, max_ms, attempts);
    }
}
