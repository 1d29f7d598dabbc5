//! `evener wait caught-up`: a token at the head does not mean that every event was handled, so the command reports what
//! was set aside or skipped, and reports a stalled processor at once.

use std::collections::{BTreeMap, btree_map::Entry};

use evener_core::id::{ContextId, Position};
use serde_json::Value;

use super::{Condition, WaitArgs, leaderless};
use crate::commands::{block_on, output::some, processor::aside_text};
use evener::{
    client::Client,
    codes, context,
    engine::{Consistency, Processor, Reply, Request, Segment},
    error::ApiError,
};

/// The position up to which all events must be handled, for each context.
type Heads = BTreeMap<ContextId, Position>;

/// Wait until a processor has handled or set aside every event stored now
///
/// Events that were set aside are reported on stderr; with --strict the exit status is then 9.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Processors to wait for
    #[arg(required = true)]
    names: Vec<String>,
    /// Exit with status 9 if events are set aside or were ever skipped
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    wait_args: WaitArgs,
}

impl Args {
    /// Waits, and reports events that were not handled.
    pub(crate) fn run(self) -> Result<(), ApiError> {
        let Self { names, strict, wait_args } = self;
        let (mut now, mut processors) = (None, Vec::new());
        block_on(async {
            let client = wait_args.client()?;
            let check = async || {
                if now.is_none()
                    && let Some(condition) = leaderless(&client).await?
                {
                    return Ok(condition);
                }
                processors = ask(&client, &names).await?;
                let heads = match &now {
                    Some(heads) => heads,
                    None => now.insert(heads(&client, &processors).await?),
                };
                condition(&processors, heads)
            };
            wait_args.wait(&client, "caught up", check).await
        })?;
        for note in processors.iter().filter_map(note) {
            eprintln!("{}", evener::printable::printable(&note));
        }
        processors.iter().filter(|_| strict).find_map(not_all_handled).map_or(Ok(()), Err)
    }
}

/// Returns the current heads of the contexts of these processors, confirmed by a quorum.
async fn heads(client: &Client, processors: &[Processor]) -> Result<Heads, ApiError> {
    let mut heads = Heads::new();
    for processor in processors {
        if let Entry::Vacant(unknown) = heads.entry(context(processor)?) {
            let head = client.head(*unknown.key(), Consistency::Linearizable).await?;
            unknown.insert(head);
        }
    }
    Ok(heads)
}

/// Returns the context of a processor.
fn context(processor: &Processor) -> Result<ContextId, ApiError> {
    processor.definition.get("context").and_then(Value::as_str).map_or(Ok(ContextId::DEFAULT), context::named)
}

async fn ask(client: &Client, names: &[String]) -> Result<Vec<Processor>, ApiError> {
    let mut processors = Vec::with_capacity(names.len());
    for name in names {
        let Reply::Processor(processor) = client.ask(&Request::Processor(name.clone())).await? else {
            unreachable!("a processor is answered with a processor");
        };
        processors.push(*processor);
    }
    Ok(processors)
}

/// Returns the condition of all processors: a stalled one takes precedence over one that only needs time.
fn condition(processors: &[Processor], heads: &Heads) -> Result<Condition, ApiError> {
    let mut all = Condition::Met;
    for processor in processors {
        let head = heads.get(&context(processor)?).copied().unwrap_or_default();
        match condition_of(processor, head) {
            Condition::Met => {}
            Condition::Unmet(missing) => all = Condition::Unmet(missing),
            stuck @ Condition::Blocked(_) => return Ok(stuck),
        }
    }
    Ok(all)
}

fn condition_of(processor: &Processor, head: Position) -> Condition {
    if processor.head < head.0 {
        return Condition::Unmet(format!("the server has applied {} of {head} events", processor.head));
    }
    let behind = || processor.segments.iter().filter(|segment| segment.lag_events > 0);
    let lag: u64 = behind().map(|segment| segment.lag_events).sum();
    if lag == 0 {
        return Condition::Met;
    }
    let name = &processor.name;
    // No numbers that change with every check: the reason is printed whenever it changes.
    if processor.state == "paused" {
        return Condition::Blocked(format!("{name} is paused (resume with: evener processor resume {name})"));
    }
    match behind().find(|segment| is_stalled(segment)) {
        None => Condition::Unmet(format!("{name} has a lag of {}", some(lag, "event"))),
        Some(Segment { id, state, reason, retry_at, .. }) => {
            let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let again = retry_at.as_ref().map(|at| format!("; retry at {at}")).unwrap_or_default();
            Condition::Blocked(format!("{name}/{id} is {state}{why}{again} (see: evener processor show {name})"))
        }
    }
}

/// Returns whether a lagging segment needs more than time.
fn is_stalled(segment: &Segment) -> bool {
    !matches!(segment.state.as_str(), "running" | "caught-up" | "moving")
}

/// Describes the events that a processor has passed and not handled, if any: `3 sequences, 9 events set aside and 2
/// events skipped`.
fn unhandled(processor: &Processor) -> Option<String> {
    let aside = aside_text(processor.set_aside).map(|aside| format!("{aside} set aside"));
    let skipped = (processor.skipped > 0).then(|| format!("{} skipped", some(processor.skipped, "event")));
    let parts: Vec<String> = aside.into_iter().chain(skipped).collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

fn not_all_handled(processor: &Processor) -> Option<ApiError> {
    let (name, unhandled) = (&processor.name, unhandled(processor)?);
    let hint = match processor.set_aside.sequences {
        0 => "skipped events are not handled later: see `evener operations`, and the nodes' logs for skips by handlers"
            .into(),
        _ => format!("evener dead-letter list {name} shows what failed and why"),
    };
    Some(ApiError::new(&codes::NOT_ALL_HANDLED, format!("{name} has {unhandled}")).hint(hint))
}

/// Returns the note to print about a processor that has caught up.
fn note(processor: &Processor) -> Option<String> {
    let name = &processor.name;
    let see = match processor.set_aside.sequences {
        0 => String::new(),
        _ => format!(" (see: evener dead-letter list {name})"),
    };
    let aside = unhandled(processor).map(|unhandled| format!("{name}: caught up; {unhandled}{see}"));
    let paused = (processor.state == "paused").then(|| {
        format!("{name}: caught up; paused, so nothing new is handled (resume with: evener processor resume {name})")
    });
    let notes: Vec<String> = aside.into_iter().chain(paused).collect();
    (!notes.is_empty()).then(|| notes.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evener::engine::SetAside;

    const HEAD: Position = Position(10);

    fn processor(state: &str, segments: &[(&str, u64)]) -> Processor {
        let segment = |(id, (state, lag)): (usize, &(&str, u64))| Segment {
            id: id as u32,
            state: (*state).into(),
            lag_events: *lag,
            ..Segment::default()
        };
        Processor {
            name: "p".into(),
            version: 1,
            state: state.into(),
            display_state: state.into(),
            head: HEAD.0,
            segments: segments.iter().enumerate().map(segment).collect(),
            ..Processor::default()
        }
    }

    #[test]
    fn a_lag_that_only_needs_time_is_unmet() {
        assert_eq!(condition_of(&processor("caught-up", &[("caught-up", 0)]), HEAD), Condition::Met);
        let running = processor("running", &[("running", 1), ("moving", 1), ("unowned", 0)]);
        assert_eq!(condition_of(&running, HEAD), Condition::Unmet("p has a lag of 2 events".into()));
        let Condition::Unmet(behind) = condition_of(&running, Position(11)) else { panic!("the server is behind") };
        assert!(behind.contains("10 of 11"), "{behind}");
    }

    #[test]
    fn a_stalled_processor_is_reported_with_a_hint() {
        let paused = processor("paused", &[("paused", 1)]);
        let expected = "p is paused (resume with: evener processor resume p)";
        assert_eq!(condition_of(&paused, HEAD), Condition::Blocked(expected.into()));
        for state in ["stalled", "flooded", "unowned", "a state of a newer server"] {
            let mut stalled = processor(state, &[("running", 3), (state, 4)]);
            stalled.segments[1].reason = Some("because".into());
            let Condition::Blocked(why) = condition_of(&stalled, HEAD) else { panic!("{state} needs more than time") };
            assert_eq!(why, format!("p/1 is {state}: because (see: evener processor show p)"));
        }
    }

    #[test]
    fn a_stalled_processor_takes_precedence_over_a_lagging_one() {
        let all = [processor("running", &[("running", 5)]), processor("paused", &[("paused", 1)])];
        let heads = Heads::from([(ContextId::DEFAULT, HEAD)]);
        assert!(matches!(condition(&all, &heads), Ok(Condition::Blocked(_))));
        assert!(matches!(condition(&all[..1], &heads), Ok(Condition::Unmet(_))));
    }

    #[test]
    fn each_processor_is_compared_with_the_head_of_its_own_context() {
        let mut system = processor("caught-up", &[("caught-up", 0)]);
        system.definition = serde_json::json!({"context": "system"});
        let heads = Heads::from([(ContextId::DEFAULT, Position(99)), (context(&system).unwrap(), HEAD)]);
        assert_eq!(condition(&[system], &heads).unwrap(), Condition::Met);
    }

    #[test]
    fn events_set_aside_or_skipped_are_reported() {
        let mut well = processor("caught-up", &[("caught-up", 0)]);
        assert_eq!(note(&well), None);
        well.set_aside = SetAside { sequences: 3, letters: 9, dead: 1 };
        assert_eq!(
            note(&well).unwrap(),
            "p: caught up; 3 sequences, 9 events set aside (see: evener dead-letter list p)"
        );
        assert_eq!(not_all_handled(&well).unwrap().message, "p has 3 sequences, 9 events set aside");
        well.skipped = 20;
        assert_eq!(
            not_all_handled(&well).unwrap().message,
            "p has 3 sequences, 9 events set aside and 20 events skipped"
        );
        well.set_aside = SetAside::default();
        assert_eq!(not_all_handled(&well).unwrap().message, "p has 20 events skipped");
        assert_eq!(note(&well).unwrap(), "p: caught up; 20 events skipped");
        let paused = note(&processor("paused", &[("paused", 0)])).unwrap();
        assert!(paused.contains("evener processor resume p"), "{paused}");
    }
}
