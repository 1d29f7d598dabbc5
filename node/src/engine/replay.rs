//! The progress of a replay as people see it.

use evener_core::{
    processor::Processor,
    replay::{self, ReplayPhase},
    time::Timestamp,
};

use super::Replay;
use crate::describe::time_text;

/// Returns the status of a processor's latest replay, if it ever had one.
pub(super) fn status(processor: &Processor, now: Timestamp) -> Option<Replay> {
    let replay = processor.replay.as_ref()?;
    let replay::Replay { context, started, from, until, phase, .. } = replay;
    // A part of a token that has finished its replay counts as being at the end of the replay.
    let places = processor.segments.values().flat_map(|share| share.token.items());
    let place = |item: &evener_core::token::Item| if item.replay_until > item.next { item.next } else { *until };
    let position = match phase {
        ReplayPhase::Preparing => *from,
        ReplayPhase::Running => places.map(place).min().unwrap_or(*until).max(*from),
        ReplayPhase::Ending | ReplayPhase::Ended => *until,
    };
    let seconds = now.since(*started).as_secs_f64();
    let rate = (position.0 - from.0) as f64 / seconds.max(0.001);
    let running = *phase == ReplayPhase::Running;
    let left = until.0.saturating_sub(position.0) as f64;
    Some(Replay {
        phase: word(*phase).to_owned(),
        from: from.0,
        until: until.0,
        position: position.0,
        started: time_text(*started),
        events_per_second: running.then_some(rate),
        eta_seconds: (running && rate > 0.0).then(|| left / rate),
        context: context.as_deref().and_then(|json| serde_json::from_str(json).ok()),
    })
}

const fn word(phase: ReplayPhase) -> &'static str {
    match phase {
        ReplayPhase::Preparing => "preparing",
        ReplayPhase::Running => "running",
        ReplayPhase::Ending => "ending",
        ReplayPhase::Ended => "ended",
    }
}
