//! `evener processor …`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use evener_core::id::{Position, SegmentId};
use evener_core::processor::OnError;

use super::{
    Server,
    args::{ChangeArgs, DestructiveArgs, name, number, number_from_1, outcome_line},
    block_on,
    fold::{folded, segments},
    leaderless::{self, LeaderlessNode, MarkedReply},
    not_yet,
    operations::history,
    output::{ago, count, due, maybe, some, span, table, wrapped},
};
use evener::{
    codes,
    definition::{Fields, RetryFields, StartAt},
    engine::{Operation, OperationState, Processor, Replay, Reply, Request, Segment, SetAside, Verb, WantedBy, What},
    error::ApiError,
    reset::{ResetAt, ResetRequest},
};

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
    /// Split a segment (not built yet)
    Split(not_yet::Args),
    /// Merge two segments (not built yet)
    Merge(not_yet::Args),
    /// Move a segment to a node and pin it there (not built yet)
    Move(not_yet::Args),
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

const EXAMPLE: &str = r#"Example, with this as totals.py in the directory where each `evener serve` was started:

import json, sys
for line in sys.stdin:
    delivery = json.loads(line)
    print("handled", delivery["event"]["id"], file=sys.stderr)
    print(json.dumps({"delivery": delivery["delivery"], "ok": True}), flush=True)

evener processor create totals --exec 'python3 totals.py'"#;

/// The arguments of `create`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Create {
    /// Name of the processor, unique in the cluster
    #[arg(value_parser = name())]
    name: String,
    /// Handler program, run by `sh -c` on each node once per busy segment: it reads one JSON object per line and
    /// answers each with one
    ///
    /// Each node needs the program; a relative path such as ./totals.py refers to the working directory of that node's
    /// `evener serve`. Its stderr goes to the node's log.
    ///
    /// A running program is not replaced when its file changes: the new one is started after `evener processor pause`
    /// and `resume`, or once the old one was idle for 10 s.
    ///
    /// The program reads {"delivery":1,"processor":"mail","segment":3,"mask":15,"epoch":8,"lent":false,"attempt":1,
    /// "replaying":false,"event":{…}} and answers {"delivery":1,"ok":true} or {"delivery":1,"error":"no such
    /// address"}, optionally with "verdict": "retry", "set-aside" or "skip".
    ///
    /// To fence writes to your own database, store the epoch of each processor, segment and mask there, and in the
    /// writing transaction refuse an event if an overlapping row of the processor has a higher epoch; rows overlap if
    /// row.segment and segment agree in the bits of row.mask & mask. Answer a refusal with an error: it does not count
    /// as an attempt.
    #[arg(long, value_name = "CMD", required_unless_present = "webhook")]
    exec: Option<String>,
    /// URL to which events are posted (not built yet)
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// Number of segments [default: 16]
    #[arg(long, value_name = "N", value_parser = number_from_1::<u32>)]
    segments: Option<u32>,
    /// Start position: `beginning`, `head`, a position, or a time (not built yet) [default: beginning]
    #[arg(long)]
    start: Option<String>,
    /// Only events of this type (repeatable: any of the types)
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only events with exactly this tag, any text such as account=7 (repeatable: all of the tags)
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Sequencing policy, which events are handled in order: key-else-stream (events of one `key`, else of one
    /// subject), stream (of one subject), tag:NAME, extension:NAME, whole (all), none [default: key-else-stream]
    ///
    /// Events to which the policy does not apply, such as those without a subject, form one sequence: if one of them
    /// keeps failing, all later ones are set aside.
    #[arg(long, value_name = "POLICY")]
    sequencing: Option<String>,
    /// Action for an event that keeps failing: set-aside, stop or skip [default: set-aside]
    #[arg(long, value_name = "WHAT", value_parser = on_error)]
    on_error: Option<OnError>,
    /// Wait after the first failure [default: 1s]
    #[arg(long, value_name = "TIME")]
    retry_first: Option<String>,
    /// Maximum wait between attempts [default: 60s]
    #[arg(long, value_name = "TIME")]
    retry_max: Option<String>,
    /// Maximum number of attempts [default: 10]
    #[arg(long, value_name = "N", value_parser = number_from_1::<u32>)]
    retry_attempts: Option<u32>,
    /// The event store: `default` or `system`
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
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
            Self::Split(args) => args.run(Verb::Split),
            Self::Merge(args) => args.run(Verb::Merge),
            Self::Move(args) => args.run(Verb::Move),
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
        self.changing.change(&format!("{} {}", what.verb().row().word(), self.name), what)
    }
}

impl OfSegment {
    fn change(self, what: impl FnOnce(String, SegmentId) -> What) -> Result<(), ApiError> {
        let what = what(self.name.clone(), SegmentId(self.segment));
        let action = format!("{} {}/{}", what.verb().row().word(), self.name, self.segment);
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

impl Create {
    fn run(self) -> Result<(), ApiError> {
        let retry = RetryFields { first: self.retry_first, max: self.retry_max, attempts: self.retry_attempts };
        let name = self.name.clone();
        let fields = Fields {
            name: self.name,
            context: self.context,
            exec: self.exec,
            webhook: self.webhook,
            segments: self.segments,
            start: self.start.as_deref().map(StartAt::of_word).transpose()?,
            types: self.types,
            tags: self.tags,
            sequencing: self.sequencing,
            on_error: self.on_error,
            retry: Some(retry),
            ..Fields::default()
        };
        let what = What::Create(Box::new(fields.definition()?));
        let action = format!("create {name}");
        self.changing.change_with(&action, what, |operation| outcome_line(&action, operation) + &see(&name, operation))
    }
}

/// Returns the line that follows a creation: a created processor may still fail to run its program.
fn see(name: &str, operation: &Operation) -> String {
    if operation.dry_run || operation.state != OperationState::Done {
        return String::new();
    }
    format!("progress: evener processor show {name}\n")
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
    if dead == 0 { String::new() } else { format!(" ({} dead: they wait for a person)", count(dead)) }
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

fn on_error(word: &str) -> Result<OnError, String> {
    match word {
        "set-aside" => Ok(OnError::SetAside),
        "stop" => Ok(OnError::Stop),
        "skip" => Ok(OnError::Skip),
        _ => Err("it must be set-aside, stop or skip".to_owned()),
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
            (0..16).map(|id| segment(id, "it waits with the event at # until that is handled")).collect();
        assert_eq!(reasons(&all), ["16 segments: 0-15: it waits with the event at its token until that is handled"]);
        all[3].reason = Some("another".into());
        all[4].reason = None;
        let shown = reasons(&all);
        assert_eq!(
            shown,
            [
                "14 segments: 0-2, 5-15: it waits with the event at its token until that is handled",
                "segment 3: another",
            ]
        );
        let alone = reasons(&all[5..6]);
        assert_eq!(
            alone,
            ["segment 5: it waits with the event at 35 until that is handled"],
            "whole where it is alone"
        );
    }
}
