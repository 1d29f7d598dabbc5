//! One value of each form that has canonical bytes, for the golden files: every variant of every enum in the replicated
//! state is here.

use std::{vec, vec::Vec};

use super::*;
use crate::{
    id::{ClusterId, Revision, SegmentId, SessionId, Term},
    letter::SequenceKey,
    limits::LimitName,
    subject::ChangeKind,
    time::Timestamp,
};

fn subject() -> Subject {
    Subject {
        processor: Some("p".into()),
        segment: Some(SegmentId(1)),
        position: Some(Position(4)),
        sequence: Some(SequenceKey { component: ComponentId(2), name: "s".into() }),
        node: Some(NodeId(3)),
        member: Some("m".into()),
        address: Some("a".into()),
    }
}

fn measured() -> Vec<Measured> {
    let parts = [
        EventPart::Whole,
        EventPart::Tags,
        EventPart::Tag,
        EventPart::Id,
        EventPart::Source,
        EventPart::Type,
        EventPart::Stream,
        EventPart::Key,
        EventPart::Time,
        EventPart::ContentType,
        EventPart::Schema,
        EventPart::Extensions,
        EventPart::ExtensionName,
    ];
    let mut all = vec![
        Measured::AppendEvents,
        Measured::AppendBytes,
        Measured::Conditions,
        Measured::Expectations,
        Measured::AppendCriteria,
        Measured::ReadCriteria,
        Measured::ProcessorCriteria,
        Measured::Stream,
        Measured::ExtensionValue("e".into(), 1),
        Measured::CriteriaItems,
        Measured::CriteriaTypes,
        Measured::CriteriaTags,
        Measured::CriteriaType,
        Measured::CriteriaTag,
        Measured::ProcessorName,
        Measured::ProcessorCommand,
        Measured::ProcessorTexts,
        Measured::SequencedBy,
        Measured::SequenceName,
        Measured::MemberName,
        Measured::PeerAddress,
        Measured::HttpAddress,
        Measured::Capabilities,
        Measured::Versions,
        Measured::Reason,
        Measured::Principal,
        Measured::ResetContext,
    ];
    all.extend(parts.map(|part| Measured::Event(part, 2)));
    all
}

fn not_found() -> Vec<NotFound> {
    let processor = String::from("p");
    vec![
        NotFound::Context(ContextId(1)),
        NotFound::Processor("p".into()),
        NotFound::ProcessorNumber(ProcessorId(1)),
        NotFound::Segment { processor: processor.clone(), segment: SegmentId(1) },
        NotFound::Sequence { processor, component: ComponentId(1), sequence: "s".into() },
        NotFound::Member(NodeId(1)),
    ]
}

fn existing() -> Vec<Existing> {
    vec![
        Existing::Cluster(ClusterId(Uuid::from_u128(1))),
        Existing::Directory("m".into()),
        Existing::MemberName("m".into()),
        Existing::Incarnation("m".into()),
        Existing::Sequencing {
            processor: "p".into(),
            stored: Sequencing::KeyElseStream,
            wanted: Sequencing::Tag("t".into()),
        },
        Existing::Processor("p".into()),
        Existing::Operation {
            operation: Uuid::from_u128(1),
            kind: ChangeKind::Lead,
            subject: subject(),
            recorded: Timestamp(1),
        },
    ]
}

fn invalid() -> Vec<Invalid> {
    vec![
        Invalid::NotFounded,
        Invalid::Limits(InvalidLimits::Range { limit: LimitName::Letters, value: 0, least: 1, most: 2 }),
        Invalid::Limits(InvalidLimits::EventOverAppend { event: 2, append: 1 }),
        Invalid::ProcessorName("a/b".into()),
        Invalid::Segments { segments: 0, max: 1 },
        Invalid::Backoff,
        Invalid::StartBeyondHead { start: Position(2), head: Position(1) },
        Invalid::CannotRun { node: NodeId(1), processor: "p".into() },
        Invalid::LastMember("m".into()),
        Invalid::WaitsWithOther {
            processor: "p".into(),
            segment: SegmentId(1),
            position: Position(2),
            waits_with: Some(Position(3)),
        },
        Invalid::NotFirst { processor: "p".into(), segment: SegmentId(1), position: Position(2) },
        Invalid::ResetBeyondHead { position: Position(2), head: Position(1) },
        Invalid::NoReplay("p".into()),
        Invalid::NothingToSplit("p".into()),
        Invalid::NothingToMerge("p".into()),
        Invalid::CannotSplit { processor: "p".into(), segment: SegmentId(1) },
        Invalid::NoSibling { processor: "p".into(), segment: SegmentId(1) },
        Invalid::Reshaping { processor: "p".into(), segment: SegmentId(1) },
    ]
}

fn refusals() -> Vec<Refusal> {
    let at = |number| vec![(Uuid::from_u128(number), Position(number as u64))];
    let expected = [Expected::Any, Expected::NoStream, Expected::At(Revision(1))];
    let mut all = vec![
        Refusal::Conflict { condition: 1, position: Position(2), kind: "k".into() },
        Refusal::Duplicate { stored: at(1), other: at(2) },
        Refusal::Retry,
        Refusal::SameIdTwice(Uuid::from_u128(1)),
        Refusal::NoType(Uuid::from_u128(1)),
        Refusal::Ahead { condition: 1, marker: Position(2), head: Position(1) },
    ];
    let actual = Some(Revision(3));
    all.extend(expected.map(|expected| Refusal::Revision { stream: "s".into(), expected, actual }));
    let passed = |of| Refusal::Limit(LimitExceeded { limit: LimitName::EventBytes, max: 1, got: 2, of });
    all.extend(measured().into_iter().map(passed));
    all
}

fn refusal_reasons() -> Vec<RefusalReason> {
    let sequence = Some("s".into());
    let mut all = vec![
        RefusalReason::Fenced,
        RefusalReason::Outdated,
        RefusalReason::Limit(LimitReached { limit: LimitName::Letters, max: 1, sequence }),
        RefusalReason::Limit(LimitReached::new(LimitName::Members, 1)),
        RefusalReason::Unreadable(2),
    ];
    all.extend(not_found().into_iter().map(RefusalReason::NotFound));
    all.extend(existing().into_iter().map(RefusalReason::Exists));
    all.extend(invalid().into_iter().map(RefusalReason::Invalid));
    let of = Measured::Reason;
    all.push(LimitExceeded { limit: LimitName::ReasonBytes, max: 1, got: 2, of }.into());
    all
}

/// Returns one outcome of each form.
#[must_use]
pub fn outcomes() -> Vec<Outcome> {
    let stale = |segment| Stale { processor: ProcessorId(1), segment, reason: RefusalReason::Fenced };
    let mut all = vec![
        Outcome::Done,
        Outcome::Appended(Appended { first: Position(1), next: Position(2), repeated: true }),
        Outcome::Admitted(NodeId(1)),
        Outcome::Begun(SessionId(1)),
        Outcome::Advanced(vec![stale(None), stale(Some(SegmentId(1)))]),
        Outcome::Changed(1),
    ];
    all.extend(refusals().into_iter().map(Outcome::AppendRefused));
    all.extend(refusal_reasons().into_iter().map(Outcome::Refused));
    all
}

/// Returns one change of each form.
#[must_use]
pub fn changes() -> Vec<Change> {
    let p = || String::from("p");
    let definition = |handler, start, sequencing, on_error| {
        let criteria = Criteria(vec![Criterion { types: vec!["k".into()], tags: vec!["t".into()] }]);
        let backoff = Backoff { first_ms: 1, max_ms: 2, attempts: 3 };
        let (name, context, segments) = (p(), ContextId(1), 2);
        Change::Create(
            Definition { name, context, handler, segments, start, criteria, sequencing, on_error, backoff }.into(),
        )
    };
    let sequence = Selection::Sequence(ComponentId(1), "s".into());
    let (exec, webhook) = (Handler::Exec("c".into()), Handler::Webhook("u".into()));
    vec![
        definition(Handler::Embedded, Start::Beginning, Sequencing::KeyElseStream, OnError::SetAside),
        definition(exec, Start::Head, Sequencing::Tag("t".into()), OnError::Stop),
        definition(webhook, Start::At(Position(1)), Sequencing::Extension("e".into()), OnError::Skip),
        definition(Handler::Embedded, Start::Beginning, Sequencing::Stream, OnError::SetAside),
        definition(Handler::Embedded, Start::Beginning, Sequencing::Whole, OnError::SetAside),
        definition(Handler::Embedded, Start::Beginning, Sequencing::None, OnError::SetAside),
        Change::Delete(p()),
        Change::Pause(p(), true),
        Change::Pause(p(), false),
        Change::Release(p(), SegmentId(1)),
        Change::Claim(p(), SegmentId(1), NodeId(2)),
        Change::Unpin(p(), SegmentId(1)),
        Change::Letters(p(), sequence, LetterChange::Retry),
        Change::Letters(p(), Selection::All, LetterChange::Skip),
        Change::Letters(p(), Selection::All, LetterChange::Drop),
        Change::SetLimits(Limits::DEFAULT),
        Change::Expect("a".into()),
        Change::Leave(NodeId(1)),
        Change::Lead(NodeId(1), Term(2)),
        Change::SkipEvent("p".into(), SegmentId(1), Position(2)),
        Change::Reset(p(), ResetTo::Beginning, None),
        Change::Reset(p(), ResetTo::Head, Some("{}".into())),
        Change::Reset(p(), ResetTo::At(Position(2)), None),
        Change::Reset(p(), ResetTo::ReplayEnd, None),
        Change::Split(p(), None),
        Change::Split(p(), Some(SegmentId(1))),
        Change::Merge(p(), Some(SegmentId(1))),
        Change::Move(p(), SegmentId(1), NodeId(2)),
    ]
}
