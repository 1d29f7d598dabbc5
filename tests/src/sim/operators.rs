//! Operators: during the faults they pause, resume and reset processors, release, claim, split, merge and move segments,
//! retry events that are set aside, and create a temporary processor, which they delete at the end.

use std::time::Duration;

use evener_core::{
    command::{Change, Command, LetterChange, Operate, Outcome, Selection},
    id::{NodeId, Position, SegmentId},
    processor::Processor,
    replay::ResetTo,
};
use tokio::time::sleep;

use super::{client::RunContext, handlers, sim_rng::SimRng};

/// Events before a processor's lowest token that a reset replays, at most.
const REPLAY_EVENTS_MAX: u64 = 20;

/// Makes random changes until the run stops, then resumes all processors and deletes the temporary one.
pub async fn run(context: RunContext, mut rng: SimRng) {
    while !context.stop.is_cancelled() {
        let pause = rng.time(Duration::from_millis(200), Duration::from_secs(2));
        sleep(pause).await;
        let Some(process) = rng.pick(&context.machines).process() else { continue };
        let name = rng.pick(&handlers::PROCESSOR_NAMES);
        let change = {
            let state = process.cluster.state();
            let segments: Vec<SegmentId> =
                state.processor(name).map(|processor| processor.segments.keys().copied().collect()).unwrap_or_default();
            let nodes: Vec<NodeId> = state.sessions.keys().copied().collect();
            let low = state.processor(name).and_then(Processor::low).unwrap_or_default();
            change(&mut rng, name, low, &segments, &nodes)
        };
        propose(&context, &mut rng, change, 1).await;
    }
    for change in handlers::PROCESSOR_NAMES.map(|name| Change::Pause(name.into(), false)) {
        propose(&context, &mut rng, change, u64::MAX).await;
    }
    propose(&context, &mut rng, Change::Delete(handlers::TEMPORARY.into()), u64::MAX).await;
}

fn change(rng: &mut SimRng, name: &str, low: Position, segments: &[SegmentId], nodes: &[NodeId]) -> Change {
    let name_owned = name.to_owned();
    if segments.is_empty() || nodes.is_empty() {
        return Change::Create(Box::new(handlers::definition(name)));
    }
    let segment = rng.pick(segments);
    match rng.between(1, 10) {
        1 => Change::Pause(name_owned, true),
        2 => Change::Pause(name_owned, false),
        3 => Change::Release(name_owned, segment),
        4 => Change::Claim(name_owned, segment, rng.pick(nodes)),
        5 => Change::Split(name_owned, None),
        6 => Change::Merge(name_owned, None),
        7 => Change::Move(name_owned, segment, rng.pick(nodes)),
        // Back only, and not far: what a reset skips is never handled, and a replay must end before the run does.
        8 => {
            let back = rng.between(0, REPLAY_EVENTS_MAX);
            Change::Reset(name_owned, ResetTo::At(Position(low.0.saturating_sub(back))), Some("{}".into()))
        }
        // Skipped and dropped events are never handled, so only the temporary processor, which no oracle checks, may
        // have any.
        _ if name == handlers::TEMPORARY => {
            let change = rng.pick(&[LetterChange::Retry, LetterChange::Skip, LetterChange::Drop]);
            Change::Letters(name_owned, Selection::All, change)
        }
        _ => Change::Letters(name_owned, Selection::All, LetterChange::Retry),
    }
}

/// Proposes a change until there is an outcome, `attempts_max` times at most. Every attempt has the same operation id,
/// so that the change is applied once.
async fn propose(context: &RunContext, rng: &mut SimRng, change: Change, attempts_max: u64) -> Option<Outcome> {
    let operate = Operate { operation: rng.uuid(), principal: None, reason: None, change };
    for _ in 0..attempts_max {
        let Some(process) = rng.pick(&context.machines).process() else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let proposed = process.cluster.propose(Command::Operate(operate.clone()));
        if let Some(Ok(outcome)) = process.killed.run_until_cancelled(proposed).await {
            context.trace.record(format_args!("a person asked for {:?}: {outcome:?}", operate.change));
            return Some(outcome);
        }
        sleep(Duration::from_millis(50)).await;
    }
    None
}
