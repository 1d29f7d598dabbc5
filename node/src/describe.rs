//! Describes why something was refused or is stalled. The replicated state and the messages between nodes hold
//! such reasons as values; this is the one place that words them, so a build may change its wording freely.

use evener_core::{
    append::{Expected, Refusal},
    command::RefusalReason,
    coordinator::Halt,
    limits::{EventPart, InvalidLimits, LimitExceeded, LimitName, Measured},
    reason::{Existing, Invalid, LimitReached, NotFound},
    state::{ChangeKind, Subject},
    time::Timestamp,
};

/// Returns why something was refused, as a sentence without a full stop.
#[must_use]
pub(crate) fn refusal_reason(reason: &RefusalReason) -> String {
    match reason {
        RefusalReason::Fenced => "the claim has another owner now".into(),
        RefusalReason::Outdated => "the state has changed since the request was made".into(),
        RefusalReason::NotFound(thing) => not_found(thing),
        RefusalReason::Exists(existing) => exists(existing),
        RefusalReason::Limit(reached) => format!("the limit {}", limit_reached(reached)),
        RefusalReason::Invalid(wrong) => invalid(wrong),
        RefusalReason::Unreadable(kind) => {
            format!("the log holds bytes there that cannot be read as a command of kind {kind}")
        }
    }
}

/// Returns why an append was refused.
#[must_use]
pub(crate) fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Conflict { condition, position, kind } => {
            format!("condition {condition} of the append does not hold: '{kind}' is at position {position}")
        }
        Refusal::Revision { stream, expected, actual } => {
            let found = actual.map_or_else(|| "has no event yet".into(), |at| format!("is at revision {at}"));
            let expected = match expected {
                Expected::Any => "anywhere".to_owned(),
                Expected::NoStream => "to have no event".to_owned(),
                Expected::At(revision) => format!("at revision {revision}"),
            };
            format!("stream '{stream}' was expected {expected} and {found}")
        }
        Refusal::Duplicate { stored, other } => {
            let (ids, what) = if other.is_empty() {
                (stored, "of the append's events are stored already, and the others are not")
            } else {
                (other, "of the append's ids already exist with different content")
            };
            let first =
                ids.first().map_or_else(String::new, |(id, at)| format!(": the first is {id} at position {at}"));
            format!("{} {what}{first}", ids.len())
        }
        Refusal::Retry => {
            "the append waited so long that its conditions must be re-checked; nothing of it is stored".into()
        }
        Refusal::Limit(limit) => limit_exceeded(limit),
        Refusal::SameIdTwice(id) => format!("the append has two events with the id {id}"),
        Refusal::NoType(id) => format!("the event {id} has no type"),
        Refusal::Ahead { condition, marker, head } => {
            format!("the marker {marker} of condition {condition} lies beyond the head of the log, {head}")
        }
    }
}

/// Returns which limit is passed, and by what.
#[must_use]
pub(crate) fn limit_exceeded(exceeded: &LimitExceeded) -> String {
    let LimitExceeded { limit, max, got, of } = exceeded;
    format!("{} allows {max} {}, and there are {got}", limit.name(), measured(of))
}

/// Returns why a segment is stalled on its node.
#[must_use]
pub(crate) fn halt(halt: &Halt) -> String {
    match halt {
        Halt::Limit(reached) => format!("a limit is reached: {}", limit_reached(reached)),
        Halt::HandOverPostponed => "its move is put off: the handler runs too long".into(),
        Halt::WorkerDied(cause) => format!("its worker died: {cause}"),
        Halt::Preparing => "it waits until the hook that prepares the replay has run".into(),
        Halt::HookFailed(cause) => format!("the hook that prepares the replay failed, and is run again: {cause}"),
    }
}

fn not_found(thing: &NotFound) -> String {
    match thing {
        NotFound::Context(context) => format!("there is no context {context}"),
        NotFound::Processor(name) => format!("there is no processor {name}"),
        NotFound::ProcessorNumber(id) => format!("the processor with number {id} was deleted"),
        NotFound::Segment { processor, segment } => format!("there is no segment {processor}/{segment}"),
        NotFound::Sequence { processor, sequence, .. } => {
            format!("the processor {processor} has no sequence {sequence:?} set aside")
        }
        NotFound::Member(node) => format!("there is no member {node}"),
    }
}

fn exists(existing: &Existing) -> String {
    match existing {
        Existing::Cluster(cluster) => format!("this is the cluster {cluster}"),
        Existing::Directory(member) => format!("this data directory is the member {member}"),
        Existing::MemberName(name) => format!(
            "a member named {name} exists with another data directory; start it with that directory, \
             or choose another name and let {name} leave once the new node is alive"
        ),
        Existing::Incarnation(member) => format!("member {member} has another data directory"),
        Existing::Sequencing { processor, stored, wanted } => format!(
            "the processor {processor} has another sequencing policy: with {wanted:?} in place of {stored:?} its \
             events would change segments and lose their order; give it another name, or delete it first"
        ),
        Existing::Processor(name) => format!(
            "a processor named {name} exists and was created otherwise; give it another name, or delete it first"
        ),
        Existing::Operation { operation, kind, subject: of, recorded } => {
            format!("the operation {operation} was already used to {} at {}", change(*kind, of), time_text(*recorded))
        }
    }
}

/// Returns the word of a kind of change: the last word of the command that makes it.
#[must_use]
pub(crate) const fn kind_word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Create => "create",
        ChangeKind::Delete => "delete",
        ChangeKind::Pause => "pause",
        ChangeKind::Resume => "resume",
        ChangeKind::Release => "release",
        ChangeKind::Claim => "claim",
        ChangeKind::Unpin => "unpin",
        ChangeKind::Retry => "retry",
        ChangeKind::Skip => "skip",
        ChangeKind::Drop => "drop",
        ChangeKind::SetLimits => "set-limits",
        ChangeKind::Expect => "join",
        ChangeKind::Leave => "leave",
        ChangeKind::Lead => "transfer",
        ChangeKind::SkipEvent => "skip-event",
        ChangeKind::Reset => "reset",
        ChangeKind::Split => "split",
        ChangeKind::Merge => "merge",
        ChangeKind::Move => "move",
    }
}

/// Returns a time of the log in RFC 3339.
pub(crate) fn time_text(time: Timestamp) -> String {
    let millis = i64::try_from(time.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| time.0.to_string(), |time| time.to_string())
}

/// Returns what a change does, and to what: `pause processor mail`.
#[must_use]
pub(crate) fn change(kind: ChangeKind, of: &Subject) -> String {
    let verb = match kind {
        ChangeKind::Leave => "let leave",
        ChangeKind::Lead => "let lead",
        ChangeKind::SetLimits => "set",
        ChangeKind::SkipEvent => "skip",
        kind => kind_word(kind),
    };
    format!("{verb} {}", subject(kind, of))
}

/// Returns what a change is made to: `segment 3 of processor mail`.
#[must_use]
pub(crate) fn subject(kind: ChangeKind, of: &Subject) -> String {
    let mut parts = Vec::new();
    match kind {
        ChangeKind::SetLimits => parts.push("the limits".to_owned()),
        ChangeKind::Retry | ChangeKind::Skip | ChangeKind::Drop if of.sequence.is_none() => {
            parts.push("all sequences set aside".to_owned());
        }
        _ => {}
    }
    parts.extend(of.sequence.iter().map(|sequence| format!("sequence {:?}", sequence.name)));
    parts.extend(of.position.iter().map(|at| format!("the event at position {at}")));
    parts.extend(of.segment.iter().map(|segment| format!("segment {segment}")));
    parts.extend(of.processor.iter().map(|name| format!("processor {name}")));
    let processor = parts.join(" of ");
    let node = match (&of.member, of.node) {
        (Some(name), _) => Some(format!("node {name}")),
        (None, node) => node.map(|node| format!("node {node}")),
    };
    let node = node.or_else(|| of.address.as_ref().map(|at| format!("the node at {at}")));
    match (processor.is_empty(), node) {
        (true, node) => node.unwrap_or_default(),
        (false, Some(node)) => format!("{processor} for {node}"),
        (false, None) => processor,
    }
}

fn limit_reached(reached: &LimitReached) -> String {
    let LimitReached { limit, max, sequence } = reached;
    let what = match (limit, sequence) {
        (_, Some(sequence)) => format!("the sequence {sequence:?} has {max} letters already"),
        (LimitName::Sequences, None) => format!("{max} sequences are set aside already"),
        _ => format!("there are {max} already"),
    };
    format!("{}: {what}", limit.name())
}

fn invalid(wrong: &Invalid) -> String {
    match wrong {
        Invalid::NotFounded => "the cluster is not founded yet".into(),
        Invalid::LimitExceeded(limit) => limit_exceeded(limit),
        Invalid::Limits(InvalidLimits::Range { limit, value, least, most }) => {
            format!("{} is {least} to {most}, not {value}", limit.name())
        }
        Invalid::Limits(InvalidLimits::EventOverAppend { event, append }) => {
            format!("event_bytes_max ({event}) is at most append_bytes_max ({append})")
        }
        Invalid::ProcessorName(_) => "a processor has a name, without a slash".into(),
        Invalid::Segments { segments, max } => {
            format!("a processor has 1 to {max} segments (segments_max), not {segments}")
        }
        Invalid::Backoff => "a processor tries at least once, and waits at least a millisecond before the next".into(),
        Invalid::StartBeyondHead { start, head } => format!("it cannot start at {start}: the head is {head}"),
        Invalid::CannotRun { node, processor } => {
            format!("node {node} is not there, is leaving, or cannot run {processor}")
        }
        Invalid::WaitsWithOther { processor, segment, position, waits_with } => {
            let now = waits_with.map_or_else(|| "no event".into(), |at| format!("the event at position {at}"));
            format!("the segment {processor}/{segment} waits with {now}, not with the one at position {position}")
        }
        Invalid::NotFirst { processor, segment, position } => {
            format!("{processor}/{segment} has events before position {position} that are not done yet")
        }
        Invalid::ResetBeyondHead { position, head } => {
            format!("it cannot be reset to {position}: the head is {head}")
        }
        Invalid::NothingToSplit(processor) => format!("{processor} has no segment that can be split"),
        Invalid::NothingToMerge(processor) => format!("{processor} has no two segments that can be merged"),
        Invalid::CannotSplit { processor, segment } => {
            format!("the segment {processor}/{segment} covers a single hash, and cannot be split")
        }
        Invalid::NoSibling { processor, segment } => format!(
            "the segment {processor}/{segment} has no sibling to merge with: it was never split, or its other half was \
             split again"
        ),
        Invalid::Reshaping { processor, segment } => {
            format!("the segment {processor}/{segment} is being split or merged; repeat it when that is done")
        }
        Invalid::NoReplay(processor) => format!("{processor} is not replaying: there is no replay to end"),
        Invalid::LastMember(name) => {
            format!("{name} is the last member, and cannot leave; stop it: its data stay where they are")
        }
    }
}

fn measured(of: &Measured) -> String {
    let what = match of {
        Measured::AppendEvents => "events of an append",
        Measured::AppendBytes => "bytes of an append",
        Measured::Conditions => "conditions of an append",
        Measured::Expectations => "streams that are expected",
        Measured::AppendCriteria => "bytes of criteria of an append",
        Measured::ReadCriteria => "bytes of criteria of a read",
        Measured::ProcessorCriteria => "bytes of criteria of a processor",
        Measured::Stream => "bytes of a stream",
        Measured::Event(part, nth) => return format!("{} event {nth}", event_part(*part)),
        Measured::ExtensionValue(name, nth) => return format!("bytes of `{name}` of event {nth}"),
        Measured::CriteriaItems => "items of criteria",
        Measured::CriteriaTypes => "types of an item of criteria",
        Measured::CriteriaTags => "tags of an item of criteria",
        Measured::CriteriaType => "bytes of a type of criteria",
        Measured::CriteriaTag => "bytes of a tag of criteria",
        Measured::ProcessorName => "bytes of a processor's name",
        Measured::ProcessorCommand => "bytes of a processor's command",
        Measured::ProcessorTexts => "bytes of the types and tags of a processor",
        Measured::SequencedBy => "bytes of what a sequence is named by",
        Measured::SequenceName => "bytes of a sequence's name",
        Measured::MemberName => "bytes of a member's name",
        Measured::PeerAddress => "bytes of a member's peer address",
        Measured::HttpAddress => "bytes of a member's HTTP address",
        Measured::Capabilities => "processors of one program",
        Measured::Versions => "versions of one processor",
        Measured::Reason => "bytes of a reason",
        Measured::Principal => "bytes of a principal",
        Measured::ResetContext => "bytes of the context of a reset",
    };
    what.to_owned()
}

const fn event_part(part: EventPart) -> &'static str {
    match part {
        EventPart::Whole => "bytes of",
        EventPart::Tags => "tags of",
        EventPart::Tag => "bytes of a tag of",
        EventPart::Id => "bytes of the id of",
        EventPart::Source => "bytes of the source of",
        EventPart::Type => "bytes of the type of",
        EventPart::Stream => "bytes of the stream of",
        EventPart::Key => "bytes of the key of",
        EventPart::Time => "bytes of the time of",
        EventPart::ContentType => "bytes of the datacontenttype of",
        EventPart::Schema => "bytes of the dataschema of",
        EventPart::Extensions => "extensions of",
        EventPart::ExtensionName => "bytes of the name of an extension of",
    }
}
