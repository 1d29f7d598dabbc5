//! `evener processor …`

mod create;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use evener_core::id::{Position, SegmentId};

use super::{
    Server,
    args::{ChangeArgs, DestructiveArgs, name, number, outcome_line},
    block_on,
    fold::{folded, segments},
    leaderless::{self, LeaderlessNode, MarkedReply},
    not_yet,
    operations::history,
    output::{ago, count, due, maybe, some, span, table, wrapped},
};
use evener::{
    codes,
    engine::{Operation, OperationState, Processor, Replay, Reply, Request, Segment, SetAside, Verb, WantedBy, What},
    error::ApiError,
    reset::{ResetAt, ResetRequest},
};

use create::Create;

/// Manage processors
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List processors
    List(Server),
    /// Show a processor and its segments
    Show {
        /// Name of the processor
        #[arg(value_parser = name())]
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Create a processor
    Create(Box<Create>),
    /// Delete a processor, its progress and what it has set aside
    Delete {
        /// Name of the processor
        #[arg(value_parser = name())]
        name: String,
        #[command(flatten)]
        giving_up: DestructiveArgs,
    },
    /// Pause a processor
    Pause(Named),
    /// Resume a paused processor
    Resume(Named),
    /// Move a processor to another position, so that events are handled again or skipped
    ///
    /// Events that it had passed are replayed: handlers see `"replaying": true`. What was set aside from the position
    /// on is dropped and handled again. --dry-run counts the events. `--to replay-end` ends a running replay: each
    /// segment continues where it was before the reset.
    Reset {
        /// Name of the processor
        #[arg(value_parser = name())]
        name: String,
        /// Place: `beginning`, `head`, `replay-end`, a position, or a time such as 2026-01-31T08:00:00Z
        #[arg(long, value_name = "PLACE")]
        to: String,
        /// Any JSON, which the handlers of replayed events and the hooks of the replay receive
        #[arg(long, value_name = "JSON")]
        context: Option<String>,
        #[command(flatten)]
        resetting: DestructiveArgs,
    },
    /// Split a segment in two
    ///
    /// Its owner first finishes the events that are being handled; no event is handled again. Both halves stay with it
    /// until the cluster balances them.
    Split(MaybeSegment),
    /// Merge a segment with its sibling, the other half of what was split
    ///
    /// Both owners first finish the events that are being handled; no event is handled again. Each half keeps its token
    /// until they are equal.
    Merge(MaybeSegment),
    /// Move a segment to a node and pin it there until `unpin` or `release`
    Move {
        #[command(flatten)]
        of: OfSegment,
        /// Name of the node
        #[arg(long)]
        node: String,
    },
    /// Unpin a segment from the node that claimed it
    Unpin(OfSegment),
    /// Skip the event that stalls a segment, as under `--on-error stop`
    ///
    /// The event counts as skipped and is not handled again. A running attempt is cancelled.
    SkipEvent {
        #[command(flatten)]
        of: OfSegment,
        /// Skip only the event at this position [default: the event that stalls the segment now]
        #[arg(long, value_name = "POSITION", value_parser = number::<u64>)]
        position: Option<u64>,
    },
    /// Release a segment from its owner, which cannot own it again for a while
    Release(OfSegment),
    /// Assign a segment to a node and pin it there until `unpin` or `release`
    Claim {
        #[command(flatten)]
        of: OfSegment,
        /// Name of the node [default: the node that receives the request]
        #[arg(long)]
        node: Option<String>,
    },
    /// Promote a new version (not built yet)
    Promote(not_yet::Args),
}

/// The arguments of a change to a processor.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Name of the processor
    #[arg(value_parser = name())]
    name: String,
    #[command(flatten)]
    changing: ChangeArgs,
}

/// The arguments of a change to a segment.
#[derive(Debug, Args)]
pub(super) struct OfSegment {
    /// Name of the processor
    #[arg(value_parser = name())]
    name: String,
    /// Number of the segment
    #[arg(long, value_name = "N", value_parser = number::<u32>)]
    segment: u32,
    #[command(flatten)]
    changing: ChangeArgs,
}

/// The arguments of a change to a segment that may be chosen by the cluster.
#[derive(Debug, Args)]
pub(super) struct MaybeSegment {
    /// Name of the processor
    #[arg(value_parser = name())]
    name: String,
    /// Number of the segment [default: the best candidate]
    #[arg(long, value_name = "N", value_parser = number::<u32>)]
    segment: Option<u32>,
    #[command(flatten)]
    changing: ChangeArgs,
}

impl Command {
    /// Runs the command.
    pub(super) fn run(self) -> Result<(), ApiError> {
        match self {
            Self::List(server) => list(&server),
            Self::Show { name, server } => show(name, &server),
            Self::Create(create) => create.run(),
            Self::Delete { name, giving_up } => giving_up.change(&format!("delete {name}"), What::Delete(name)),
            Self::Pause(named) => named.change(What::Pause),
            Self::Resume(named) => named.change(What::Resume),
            Self::Unpin(of) => of.change(What::Unpin),
            Self::Release(of) => of.change(What::Release),
            Self::SkipEvent { of, position } => of.skip_event(position),
            Self::Claim { of, node } => of.change(|name, segment| What::Claim(name, segment, node)),
            Self::Reset { name, to, context, resetting } => reset(name, &to, context, resetting),
            Self::Split(of) => of.change(What::Split),
            Self::Merge(of) => of.change(What::Merge),
            Self::Move { of, node } => of.change(|name, segment| What::Move(name, segment, node)),
            Self::Promote(args) => args.run(Verb::Promote),
        }
    }
}

fn reset(name: String, to: &str, context: Option<String>, resetting: DestructiveArgs) -> Result<(), ApiError> {
    let wrong = |error| ApiError::new(&codes::USAGE, format!("--context is not JSON: {error}"));
    let context = context.map(|json| serde_json::from_str(&json).map_err(wrong)).transpose()?;
    let request = ResetRequest { to: ResetAt::of_word(to)?, context };
    let action = format!("reset {name}");
    let more = format!("progress: evener processor show {name}\n");
    let text = |operation: &Operation| {
        let done = !operation.dry_run && operation.state == OperationState::Done;
        outcome_line(&action, operation) + if done { &more } else { "" }
    };
    resetting.change_with(&action, What::Reset(name, request), text)
}

impl Named {
    fn change(self, what: impl FnOnce(String) -> What) -> Result<(), ApiError> {
        let what = what(self.name.clone());
        self.changing.change(&format!("{} {}", what.verb().entry().word(), self.name), what)
    }
}

impl MaybeSegment {
    fn change(self, what: impl FnOnce(String, Option<SegmentId>) -> What) -> Result<(), ApiError> {
        let of = self.segment.map(|segment| format!("/{segment}")).unwrap_or_default();
        let what = what(self.name.clone(), self.segment.map(SegmentId));
        self.changing.change(&format!("{} {}{of}", what.verb().entry().word(), self.name), what)
    }
}

impl OfSegment {
    fn change(self, what: impl FnOnce(String, SegmentId) -> What) -> Result<(), ApiError> {
        let what = what(self.name.clone(), SegmentId(self.segment));
        let action = format!("{} {}/{}", what.verb().entry().word(), self.name, self.segment);
        self.changing.change(&action, what)
    }

    fn skip_event(self, position: Option<u64>) -> Result<(), ApiError> {
        let of = format!("{}/{}", self.name, self.segment);
        let position = match position {
            Some(position) => position,
            None => {
                self.skipped_or_waits_with().map_err(|error| error.doing(format!("failed to skip an event of {of}")))?
            }
        };
        let what = What::SkipEvent(self.name, SegmentId(self.segment), Position(position));
        let words = |operation: &Operation| match operation.dry_run {
            true => format!("it would skip the event at position {position} of {of}; nothing was changed\n"),
            false => format!("the event at position {position} of {of} was skipped\n"),
        };
        self.changing.change_with(&format!("skip the event at position {position} of {of}"), what, words)
    }

    /// Returns the position skipped by an earlier run of this operation, else that of the event that stalls the
    /// segment.
    fn skipped_or_waits_with(&self) -> Result<u64, ApiError> {
        let first = self.changing.previous_outcome("failed to look for the operation")?.and_then(|first| first.note);
        first.and_then(|note| note.subject.position).map_or_else(|| self.waits_with(), Ok)
    }

    /// Returns the position of the event that stalls the segment.
    fn waits_with(&self) -> Result<u64, ApiError> {
        let client = self.changing.server.client()?;
        let request = Request::Processor(self.name.clone());
        let Reply::Processor(processor) = block_on(async { client.ask(&request).await })? else {
            unreachable!("a processor is answered with a processor");
        };
        let segment = processor.segments.iter().find(|segment| segment.id == self.segment);
        segment.and_then(|segment| segment.waits_with).ok_or_else(|| {
            let (name, segment) = (&self.name, self.segment);
            let hint = format!(
                "`evener processor show {name}` shows what each segment waits for; what is set aside is \
                                passed over with `evener dead-letter skip`"
            );
            ApiError::new(&codes::INVALID_CHANGE, format!("the segment {name}/{segment} is not stalled by an event"))
                .hint(hint)
        })
    }
}

fn list(server: &Server) -> Result<(), ApiError> {
    let client = server.client()?;
    let seen = block_on(leaderless::request_marked(&client, &Request::Processors));
    let seen = seen.map_err(|error| error.doing("failed to list processors"))?;
    let MarkedReply { reply: Reply::Processors(processors), leaderless } = seen else {
        unreachable!("processors are answered with processors");
    };
    // Warn on stderr as well, as for every other reply: JSON has no footer.
    if let Some(leaderless) = &leaderless {
        leaderless.warn();
    }
    server.format().show(&processors, || listed(&processors, leaderless.as_ref()))
}

/// Formats the list of processors. Owners reported by a leaderless node may be outdated, and are marked.
fn listed(processors: &[Processor], leaderless: Option<&LeaderlessNode>) -> String {
    let mark = if leaderless.is_some() { "?" } else { "" };
    let row = |processor: &Processor| {
        let lag: u64 = processor.segments.iter().map(|segment| segment.lag_events).sum();
        let aside = processor.set_aside;
        let oldest = processor.segments.iter().map(|segment| segment.lag_seconds).fold(0.0, f64::max);
        let owned = processor.segments.iter().filter(|segment| segment.owner.is_some()).count();
        [
            processor.name.clone(),
            processor.display_state.clone(),
            format!("{owned}/{}{mark}", processor.segments.len()),
            lag_text(lag),
            age_text(lag, oldest),
            aside_text(aside).unwrap_or_else(|| "-".to_owned()),
            count(aside.dead),
        ]
    };
    let heads = ["name", "state", "owned", "lag", "oldest", "set aside", "dead"];
    let mut text = table(heads, processors.iter().map(row));
    if let Some(leaderless) = leaderless {
        text += &wrapped(&format!("\n{}", leaderless.owners_note()));
    }
    text
}

fn show(name: String, server: &Server) -> Result<(), ApiError> {
    let Reply::Processor(processor) = server.ask("failed to show a processor", Request::Processor(name))? else {
        unreachable!("a processor is answered with a processor");
    };
    server.format().show(&processor, || text(&processor))
}

fn text(processor: &Processor) -> String {
    let rows = processor.segments.iter().map(|segment| {
        [
            segment.id.to_string(),
            maybe(segment.owner.as_ref()),
            segment.epoch.to_string(),
            count(segment.token),
            lag_text(segment.lag_events),
            age_text(segment.lag_events, segment.lag_seconds),
            segment.display_state.clone(),
            maybe(segment.attempt),
            maybe(segment.retry_at.as_deref().map(due)),
        ]
    });
    let heads = ["segment", "owner", "epoch", "token", "lag", "oldest", "state", "attempt", "retry"];
    let Processor { name, version, head, skipped, .. } = processor;
    let aside = processor.set_aside;
    let mut text = format!(
        "{name} (version {version}): {}; the next event gets position {}\n\
         set aside: {}{}\n\n{}",
        processor.display_state.clone(),
        count(*head),
        aside_text(aside).map_or_else(|| "nothing".to_owned(), |text| text + &dead_text(aside.dead)),
        if *skipped == 0 { String::new() } else { format!("; {} skipped", some(*skipped, "event")) },
        table(heads, rows)
    );
    for line in processor.replay.iter().map(replay) {
        text += &wrapped(&format!("\n{line}\n"));
    }
    for line in segments_wanted(&processor.segments_wanted) {
        text += &wrapped(&format!("\n{line}\n"));
    }
    // Below the table there is enough room for the whole reason.
    for (nth, line) in reasons(&processor.segments).into_iter().enumerate() {
        text += &wrapped(&format!("{}{line}\n", if nth == 0 { "\n" } else { "" }));
    }
    text + &history(name, &processor.history)
}

/// Describes the latest replay.
fn replay(replay: &Replay) -> String {
    let Replay { phase, from, until, position, started, .. } = replay;
    let context = replay.context.as_ref().map(|context| format!("; context {context}")).unwrap_or_default();
    let range = format!("replay of {} to {}, begun {}", count(*from), count(*until), ago(started));
    let progress = match phase.as_str() {
        "preparing" => "its hook runs before events are handled".to_owned(),
        "ending" => "all events are replayed; its hook runs".to_owned(),
        "ended" => "ended".to_owned(),
        _ => {
            let percent = (position - from) * 100 / (until - from).max(1);
            let rate = replay.events_per_second.filter(|rate| *rate >= 1.0);
            let rate = rate.map(|rate| format!(", {} events/s", count(rate as u64)));
            let eta = replay.eta_seconds.map(|left| format!(", about {} left", span(left.ceil() as u64)));
            format!("at {} ({percent} %){}{}", count(*position), rate.unwrap_or_default(), eta.unwrap_or_default())
        }
    };
    format!("{range}: {progress}{context}")
}

/// Describes requests for another number of segments, one line per number.
fn segments_wanted(by: &[WantedBy]) -> Vec<String> {
    let mut nodes = BTreeMap::<(u32, u32), Vec<&str>>::new();
    for WantedBy { node, stored, wanted } in by {
        nodes.entry((*wanted, *stored)).or_default().push(node);
    }
    let line = |((wanted, stored), nodes): ((u32, u32), Vec<&str>)| {
        let nodes = nodes.join(", ");
        format!(
            "the program on {nodes} asks for {wanted} segments: the {stored} that it was created with stay; change the \
             program to `.segments({stored})`"
        )
    };
    nodes.into_iter().map(line).collect()
}

/// Describes why segments do not run, one line per reason.
fn reasons(all: &[Segment]) -> Vec<String> {
    let reason = |segment: &Segment| segment.reason.as_ref().map(|reason| (without_place(segment, reason), segment.id));
    let line = |(reason, ids): (String, Vec<u32>)| match all.iter().find(|segment| ids == [segment.id]) {
        Some(segment) => format!("{}: {}", segments(&ids), segment.reason.as_deref().unwrap_or_default()),
        None => format!("{}: {reason}", segments(&ids)),
    };
    folded(all.iter().filter_map(reason)).into_iter().map(line).collect()
}

/// Returns a reason without the position, which the table shows as the token.
fn without_place(segment: &Segment, reason: &str) -> String {
    match segment.waits_with {
        Some(position) => reason.replacen(&format!("the event at {position} "), "the event at its token ", 1),
        None => reason.to_owned(),
    }
}

/// Formats the amount set aside, if any.
pub(super) fn aside_text(aside: SetAside) -> Option<String> {
    let SetAside { sequences, letters, .. } = aside;
    (sequences > 0).then(|| format!("{}, {}", some(sequences, "sequence"), some(letters, "event")))
}

fn dead_text(dead: u64) -> String {
    if dead == 0 { String::new() } else { format!(" ({} dead: they need an operator)", count(dead)) }
}

fn lag_text(events: u64) -> String {
    if events == 0 { "none".to_owned() } else { some(events, "event") }
}

/// Formats the age of the oldest waiting event, if any.
fn age_text(events: u64, seconds: f64) -> String {
    match (events, seconds) {
        (0, _) => "-".to_owned(),
        (_, 0.0..100.0) => format!("{seconds:.1} s"),
        _ => span(seconds as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evener::engine::Room;

    #[test]
    fn owners_reported_by_a_leaderless_node_are_marked() {
        let segment = |id, owner: Option<&str>| Segment { id, owner: owner.map(str::to_owned), ..Segment::default() };
        let processor = Processor {
            name: "p".into(),
            version: 1,
            state: "leaderless".into(),
            display_state: "leaderless".into(),
            head: 0,
            segments: vec![segment(0, Some("n1")), segment(1, Some("n2")), segment(2, None)],
            set_aside: SetAside::default(),
            definition: serde_json::Value::Null,
            skipped: 0,
            replay: None,
            room: Room::default(),
            segments_wanted: Vec::new(),
            history: Vec::new(),
        };
        let processors = [processor];
        let leaderless = LeaderlessNode::new("n1", Some("no majority for 7 s: 1 of 3 voters answers"));
        let shown = listed(&processors, Some(&leaderless));
        assert!(
            shown.contains(" 2/3? ") && shown.contains("\nno majority for 7 s: 1 of 3 voters answers\n"),
            "{shown}"
        );
        let led = listed(&processors, None);
        assert!(led.contains(" 2/3 ") && !led.contains("majority"), "{led}");
    }

    #[test]
    fn set_aside_amounts_are_formatted() {
        let aside = SetAside { sequences: 2, letters: 501, dead: 1 };
        let none = SetAside::default();
        assert_eq!((aside_text(aside), aside_text(none)), (Some("2 sequences, 501 events".into()), None));
        let one = SetAside { sequences: 1, letters: 1, dead: 0 };
        assert_eq!(aside_text(one).unwrap() + &dead_text(0), "1 sequence, 1 event");
    }

    #[test]
    fn equal_requests_for_segments_are_one_line() {
        let by = |node: &str, wanted| WantedBy { node: node.into(), stored: 8, wanted };
        let shown = segments_wanted(&[by("a", 16), by("b", 16), by("c", 4)]);
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(shown[0].starts_with("the program on c asks for 4 segments: the 8 "), "{shown:?}");
        assert!(shown[1].starts_with("the program on a, b asks for 16 segments: "), "{shown:?}");
    }

    #[test]
    fn a_reason_of_many_segments_is_one_line() {
        let segment = |id: u32, reason: &str| Segment {
            id,
            waits_with: Some(u64::from(id) * 7),
            reason: Some(reason.replace('#', &(id * 7).to_string())),
            ..Segment::default()
        };
        let mut all: Vec<Segment> =
            (0..16).map(|id| segment(id, "it waits at the event at # until that is handled")).collect();
        assert_eq!(reasons(&all), ["16 segments: 0-15: it waits at the event at its token until that is handled"]);
        all[3].reason = Some("another".into());
        all[4].reason = None;
        let shown = reasons(&all);
        assert_eq!(
            shown,
            ["14 segments: 0-2, 5-15: it waits at the event at its token until that is handled", "segment 3: another",]
        );
        let alone = reasons(&all[5..6]);
        assert_eq!(alone, ["segment 5: it waits at the event at 35 until that is handled"], "whole where it is alone");
    }
}
