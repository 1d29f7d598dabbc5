//! Processors and their segments as the API shows them, each with its lag: the number of events that it still has to
//! handle, not of those that it still has to read.

use std::collections::BTreeMap;

use evener_core::{
    claim::Motion,
    hash,
    id::{Position, SegmentId},
    letter::SequenceKey,
    processor::{self, LimitUsage, OnError, Reshape, Share, UsageLevel},
    state::State,
    time::Timestamp,
};
use evener_store::events::Query;

use super::{
    Processor, Room, Segment, SetAside, Used, WantedBy, letters,
    local::{Engine, Now, OfProcessors},
    node_status::why_unowned,
    replay,
};
use crate::{
    codes,
    definition::Fields,
    describe::time_text,
    error::ApiError,
    status::{SegmentsWanted, Standstill},
};

/// Maximum number of events that are read to count the lag of a processor. Of the rest, each segment is assumed to
/// have an equal share.
pub(super) const LAG_EVENTS_MAX: usize = 4_096;
const PAGE: usize = 512;

/// Returns all processors.
pub(super) fn processors(engine: &Engine, reported: &OfProcessors) -> Vec<Processor> {
    let names: Vec<String> = engine.cluster().state().names.keys().cloned().collect();
    // One may have been deleted in the meantime.
    names.iter().filter_map(|name| processor(engine, name, reported).ok()).map(|processor| *processor).collect()
}

/// Returns one processor, with the status that its nodes report.
pub(super) fn processor(engine: &Engine, name: &str, reported: &OfProcessors) -> Result<Box<Processor>, ApiError> {
    let now = Now::of(engine.cluster());
    let (known, mut segments, head) = {
        let state = engine.cluster().state();
        let Some(known) = state.processor(name) else {
            return Err(ApiError::new(&codes::UNKNOWN_PROCESSOR, format!("there is no processor {name}")));
        };
        let segments = known.segments.values().map(|share| segment(&state, known, share, now)).collect::<Vec<_>>();
        let light = known.without_letters();
        let aside =
            SetAside { sequences: known.set_aside.len() as u64, letters: known.letters, dead: known.dead() as u64 };
        let (letters, sequences) = known.limit_usage(&state.limits);
        let used = |LimitUsage { used, max }| Used { used, max };
        let room = Room { sequences: used(sequences), letters: used(letters) };
        ((light, aside, room), segments, state.head(known.definition.context))
    };
    let (known, set_aside, room) = known;
    let lags = lags(engine, &known, head);
    let now = now.log;
    for (segment, id) in segments.iter_mut().zip(known.segments.keys()) {
        let lag = lags.get(id).copied().unwrap_or_default();
        segment.lag_events = lag.events;
        let oldest = lag.oldest.map(|oldest| now.since(oldest).as_secs_f64());
        segment.lag_seconds = oldest.unwrap_or(0.0);
        if let Some(still) = reported.standstills.iter().find(|still| is_of(still, name, segment)) {
            show_standstill(segment, still);
        }
        if segment.state.is_empty() {
            let replays = segment.replay_until.is_some();
            let states = ["caught-up", "running", "replaying"];
            segment.state = states[if lag.events == 0 { 0 } else { 1 + usize::from(replays) }].to_owned();
        }
    }
    if engine.cluster().leadership().borrow().deciding_leader().is_none() {
        segments.iter_mut().for_each(without_leader);
    }
    for segment in &mut segments {
        segment.display_state = display_state(&segment.state, segment.set_aside.sequences);
    }
    let overall = overall(&segments, known.paused);
    Ok(Box::new(Processor {
        name: known.definition.name.clone(),
        version: known.version,
        state: overall.to_owned(),
        display_state: display_state(overall, set_aside.sequences),
        head: head.0,
        segments,
        set_aside,
        definition: serde_json::to_value(Fields::from(&known.definition)).expect("a definition is plain values"),
        skipped: known.skipped,
        replay: replay::status(&known, now),
        room,
        segments_wanted: wanted_by(name, reported),
        history: Vec::new(),
    }))
}

/// Returns the nodes whose programs request another number of segments than a processor has, by name.
fn wanted_by(processor: &str, reported: &OfProcessors) -> Vec<WantedBy> {
    let of = reported.segments_wanted.iter().filter(|(_, wanted)| wanted.processor == processor);
    let by = |(node, wanted): &(String, SegmentsWanted)| {
        let SegmentsWanted { stored, wanted, .. } = *wanted;
        WantedBy { node: node.clone(), stored, wanted }
    };
    let mut nodes: Vec<WantedBy> = of.map(by).collect();
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    nodes
}

/// Returns the most urgent state of its segments.
fn overall(segments: &[Segment], paused: bool) -> &'static str {
    let any = |state: &str| segments.iter().any(|segment| segment.state == state);
    match () {
        () if any("leaderless") => "leaderless",
        () if paused => "paused",
        () if any("stalled") => "stalled",
        () if any("flooded") => "flooded",
        () if any("unowned") => "unowned",
        () if any("preparing") => "preparing",
        () if any("replaying") => "replaying",
        () if any("running") || any("moving") => "running",
        () => "caught-up",
    }
}

/// Returns the displayed state: events that are set aside were passed, but not handled.
fn display_state(state: &str, sequences: u64) -> String {
    match (state, sequences) {
        ("caught-up" | "running", 1..) => format!("{sequences} set aside"),
        _ => state.to_owned(),
    }
}

/// Marks a segment while there is no leader: it makes no progress, although the applied state shows no problem.
fn without_leader(segment: &mut Segment) {
    if matches!(segment.state.as_str(), "running" | "replaying" | "preparing" | "caught-up" | "moving") {
        segment.state = "leaderless".to_owned();
    }
}

/// Returns a segment without its lag; its state is left empty if the lag decides it.
fn segment(state: &State, processor: &processor::Processor, share: &Share, now: Now) -> Segment {
    let mut segment = Segment {
        id: share.segment.id,
        mask: share.segment.mask,
        owner: share.claim.owner.map(|owner| state.name_of(owner)),
        epoch: share.claim.epoch.0,
        token: share.token.low().0,
        replay_until: share.token.replay_end().map(|end| end.0),
        ..Segment::default()
    };
    show_pin(&mut segment, state, processor, share);
    show_set_aside(&mut segment, state, processor, share, now);
    if let Some(stall) = &share.stalled {
        segment.state = "stalled".to_owned();
        segment.attempt = Some(stall.failure.attempt);
        segment.retry_at = (!stall.failure.last).then(|| now.due_text(stall.recorded.after(stall.failure.wait())));
        segment.waits_with = Some(stall.position.0);
        // Unless it stops at failed events, the handler was not called, and the cause has the hint.
        let name = &processor.definition.name;
        let tip = match processor.definition.on_error {
            OnError::Stop => format!(
                "; fix the cause, make the handler return `skip` or `set-aside` for such events, or skip this \
                 one: `evener processor skip-event {name}`"
            ),
            OnError::SetAside | OnError::Skip => String::new(),
        };
        let (position, cause) = (stall.position, &stall.failure.cause);
        segment.reason = Some(format!("it waits at the event at {position} until that is handled: {cause}{tip}"));
    }
    if let Some(reshape) = share.reshape {
        let what = if reshape == Reshape::Split { "split" } else { "merged with its sibling" };
        segment.state = "moving".to_owned();
        segment.reason = Some(format!("it is {what} once its running handlers end"));
    } else if share.claim.owner.is_none() {
        segment.state = "unowned".to_owned();
        segment.reason = Some(why_unowned(state, processor, share));
    } else if let Some(reason) = moving(state, &share.claim.motion) {
        segment.state = "moving".to_owned();
        segment.reason = Some(reason);
    }
    if processor.paused {
        segment.state = "paused".to_owned();
    }
    segment
}

/// Shows the node that an operator pinned it to, and the reason.
fn show_pin(segment: &mut Segment, state: &State, processor: &processor::Processor, share: &Share) {
    let Some(pin) = &share.claim.pin else { return };
    let (node, name) = (state.name_of(pin.node), &processor.definition.name);
    let why = pin.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    segment.reason = Some(format!("an operator pinned it to {node}{why}, until `evener processor unpin {name}`"));
    segment.pinned = Some(node);
}

/// Shows the set-aside sequences of a segment, the cause of the one that is tried next, and any limit that is near.
fn show_set_aside(segment: &mut Segment, state: &State, processor: &processor::Processor, share: &Share, now: Now) {
    let mut next = None;
    for (key, aside) in processor.set_aside_in(share.segment) {
        segment.set_aside.sequences += 1;
        segment.set_aside.letters += aside.letters.len() as u64;
        segment.set_aside.dead += u64::from(aside.due().is_none());
        let due = aside.due().unwrap_or(Timestamp(u64::MAX));
        if next.is_none_or(|(_, _, earliest)| due < earliest) {
            next = Some((key, aside, due));
        }
    }
    let Some((key, aside, _)) = next else { return };
    segment.attempt = Some(aside.first().attempts);
    segment.retry_at = aside.due().map(|due| now.due_text(due));
    let name = letters::called(&processor.definition.sequencing, &key.name);
    let more = match segment.set_aside.sequences - 1 {
        0 => String::new(),
        more => format!(" (and {more} more of this segment)"),
    };
    let limit = near_limit(state, processor, share).map(|near| format!("; {near}")).unwrap_or_default();
    segment.reason = Some(format!("the sequence {name} is set aside{more}: {}{limit}", aside.cause));
}

/// Describes the limit that the set-aside sequences of a segment are near, if any.
fn near_limit(state: &State, processor: &processor::Processor, share: &Share) -> Option<String> {
    let fullest = processor.set_aside_in(share.segment).max_by_key(|(_, aside)| aside.letters.len());
    let (letters, sequences) = processor.limit_usage(&state.limits);
    let called = |key: &SequenceKey| letters::called(&processor.definition.sequencing, &key.name);
    let letters = fullest.map(|(key, aside)| (key, LimitUsage { used: aside.letters.len() as u64, ..letters }));
    letters.filter(|(_, letters)| letters.level() > UsageLevel::Room).map_or_else(
        || {
            let LimitUsage { used, max } = sequences;
            let near = format!("{used} of {max} sequences (sequences_max) are set aside: if all are, segments stall");
            (sequences.level() > UsageLevel::Room).then_some(near)
        },
        |(key, LimitUsage { used, max })| {
            let key = called(key);
            Some(format!("{key} has {used} of {max} letters (letters_max): if it has all, its segment stalls"))
        },
    )
}

fn moving(state: &State, motion: &Motion) -> Option<String> {
    match motion {
        Motion::Stay => None,
        Motion::To(node) => Some(format!("it moves to {} once its running handlers end", state.name_of(*node))),
        Motion::Release => Some("it is released once its running handlers end".to_owned()),
    }
}

/// Returns whether a standstill is of this segment under its current claim.
fn is_of(still: &Standstill, processor: &str, segment: &Segment) -> bool {
    (still.processor.as_str(), still.segment, still.epoch) == (processor, segment.id, segment.epoch)
}

/// Shows the standstill that its owner reports, unless the applied state has a reason (paused, moving or stalled).
fn show_standstill(segment: &mut Segment, still: &Standstill) {
    if !segment.state.is_empty() {
        return;
    }
    segment.state = still.state.clone();
    segment.attempt = None;
    segment.retry_at = still.retry_at.map(time_text);
    let name = &still.processor;
    let see = match still.reason.contains("a limit is reached") || still.state == "flooded" {
        true => format!("; see the set-aside sequences: `evener dead-letter list {name}`"),
        false => String::new(),
    };
    segment.reason = Some(format!("{}{see}", still.reason));
}

/// The lag of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lag {
    events: u64,
    oldest: Option<Timestamp>,
}

/// Counts the events that segments have not passed, up to a bound, by segment.
fn lags(engine: &Engine, processor: &processor::Processor, head: Position) -> BTreeMap<SegmentId, Lag> {
    let mut lags: BTreeMap<SegmentId, Lag> = BTreeMap::new();
    let definition = &processor.definition;
    let mut from = processor.low().unwrap_or(head);
    let (mut looked, mut latest) = (0, None);
    while from < head && looked < LAG_EVENTS_MAX {
        let query = Query {
            context: definition.context,
            from,
            to: Some(head),
            limit: PAGE,
            criteria: &definition.criteria,
            stream: None,
            backwards: false,
        };
        // The handlers report unreadable events; here they only count as not examined.
        let Ok(page) = engine.cluster().events().read(&query) else { break };
        for stored in &page.events {
            let hash = hash::sequence(definition.sequencing.name(&stored.event).as_bytes());
            let Some((id, share)) = processor.share_of(hash) else { continue };
            if share.token.wants(hash, stored.position) {
                let lag = lags.entry(*id).or_default();
                lag.events += 1;
                lag.oldest.get_or_insert(stored.recorded);
            }
        }
        latest = page.events.last().map(|stored| stored.recorded).or(latest);
        looked += page.events.len();
        from = page.next;
    }
    if from < head {
        for (id, share) in &processor.segments {
            let left = head.0 - from.max(share.token.low()).0;
            let lag = lags.entry(*id).or_default();
            lag.events += left.div_ceil(u64::from(share.segment.mask) + 1);
            lag.oldest = lag.oldest.or(latest.filter(|_| left > 0));
        }
    }
    lags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_with_set_aside_sequences_is_not_shown_as_caught_up() {
        assert_eq!([display_state("caught-up", 2), display_state("running", 2)], ["2 set aside", "2 set aside"]);
        assert_eq!([display_state("caught-up", 0), display_state("stalled", 2)], ["caught-up", "stalled"]);
    }

    #[test]
    fn without_a_leader_no_segment_is_shown_as_running() {
        let states = ["running", "caught-up", "moving", "stalled", "paused", "unowned", "flooded"];
        let segment = |state: &str| Segment { state: state.into(), ..Segment::default() };
        let mut segments = states.map(segment);
        segments.iter_mut().for_each(without_leader);
        let leaderless = segments.iter().filter(|segment| segment.state == "leaderless");
        assert_eq!(leaderless.count(), 3, "{segments:?}");
        assert_eq!(segments[3], segment("stalled"), "what needs an operator is still shown");
        assert_eq!(overall(&segments, false), "leaderless");
    }
}
