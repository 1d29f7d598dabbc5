//! Resets: the place that a time stands for, and how many events a reset touches.

use evener_cluster::SearchPhase;
use evener_core::{
    command,
    criteria::Criteria,
    hash,
    id::{ContextId, Position},
    processor::Processor,
    replay::ResetTo,
    time::Timestamp,
};
use evener_store::{
    EventReader,
    events::{Query, ReadError},
};

use super::{Done, perform};
use crate::engine::{Change, local::Engine, read::unread};
use crate::{
    codes,
    error::ApiError,
    reset::{Place, ResetRequest},
};

/// Events that are counted for a dry run: a few seconds of reading.
const COUNT_EVENTS_MAX: u64 = 262_144;
/// Events of one page of them.
const PAGE: usize = 512;

/// Resets a processor, or counts the events that this would touch.
///
/// # Errors
///
/// The processor does not exist, the time is none or lies in the future, the position lies beyond the head, there is no
/// replay to end, or the log cannot be read.
pub(super) async fn reset(
    engine: &Engine,
    name: String,
    request: &ResetRequest,
    change: &Change,
) -> Result<Done, ApiError> {
    let to = match request.to.place()? {
        Place::Known(to) => to,
        Place::At(time) => ResetTo::At(position_at(engine, &name, time).await?),
    };
    let context = request.context.as_ref().map(ToString::to_string);
    let done = perform(engine, command::Change::Reset(name.clone(), to, context), change).await?;
    if !change.dry_run {
        return Ok(done);
    }
    let touched = touched(engine, &name, to).await?;
    Ok(Done { changed: Some(touched.again + touched.skipped), why: Some(touched.describe()), ..done })
}

/// Returns the position of the first event that was recorded at `time` or later; the head if all were recorded before.
async fn position_at(engine: &Engine, name: &str, time: Timestamp) -> Result<Position, ApiError> {
    if time > engine.cluster().wall_time() {
        let message = "a processor cannot be reset to a time in the future";
        return Err(ApiError::new(&codes::INVALID_CHANGE, message).hint("`head` skips everything that is not handled"));
    }
    // A node that lags behind would find an earlier place.
    engine.cluster().barrier().await.map_err(|error| engine.api_error(error))?;
    let context = processor(engine, name)?.definition.context;
    let search = engine.cluster().search(SearchPhase::Start, move |events| first_at(events, context, time));
    search.await.map_err(|error| engine.api_error(error))?.map_err(unread)
}

/// Searches by halves: the log's clock never runs back.
fn first_at(events: &EventReader, context: ContextId, time: Timestamp) -> Result<Position, ReadError> {
    let (mut low, mut high) = (Position(0), events.head(context));
    while low < high {
        let middle = Position(low.0 + (high.0 - low.0) / 2);
        let (from, to, limit, criteria) = (middle, Some(middle.next()), 1, &Criteria::ANY);
        let page = events.read(&Query { context, from, to, limit, criteria, stream: None, backwards: false })?;
        if page.events.first().is_none_or(|stored| stored.recorded < time) {
            low = middle.next();
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The events that a reset touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Touched {
    /// Events that are handled again.
    again: u64,
    /// Events that will not be handled.
    skipped: u64,
    /// Whether there are more, which were not counted.
    more: bool,
}

impl Touched {
    fn describe(self) -> String {
        let least = if self.more { "at least " } else { "" };
        let events = |count: u64| format!("{least}{count} event{}", if count == 1 { "" } else { "s" });
        match (self.again, self.skipped) {
            (0, 0) => "it would handle no event again; nothing was changed".to_owned(),
            (again, 0) => format!("it would handle {} again; nothing was changed", events(again)),
            (0, skipped) => format!("it would skip {}; nothing was changed", events(skipped)),
            (again, skipped) => {
                format!("it would handle {} again and skip {skipped}; nothing was changed", events(again))
            }
        }
    }
}

/// Counts the events that a reset touches, up to a bound.
async fn touched(engine: &Engine, name: &str, to: ResetTo) -> Result<Touched, ApiError> {
    let before = processor(engine, name)?;
    let mut after = before.clone();
    let head = engine.cluster().state().head(before.definition.context);
    for share in after.segments.values_mut() {
        match to {
            ResetTo::Beginning => share.token.reset(Position(0)),
            ResetTo::Head => share.token.reset(head),
            ResetTo::At(position) => share.token.reset(position),
            ResetTo::ReplayEnd => share.token.end_replay(),
        }
    }
    let search = engine.cluster().search(SearchPhase::Start, move |events| count(events, &before, &after, head));
    search.await.map_err(|error| engine.api_error(error))?.map_err(unread)
}

fn count(events: &EventReader, before: &Processor, after: &Processor, head: Position) -> Result<Touched, ReadError> {
    let definition = &before.definition;
    let (context, criteria) = (definition.context, &definition.criteria);
    let mut touched = Touched::default();
    let mut from = before.low().into_iter().chain(after.low()).min().unwrap_or(head);
    // No event changes from the furthest token on.
    let tokens = [before, after].map(|processor| processor.segments.values().flat_map(|share| share.token.items()));
    let head = tokens.into_iter().flatten().map(|item| item.next).max().unwrap_or(head).min(head);
    while from < head {
        if touched.again + touched.skipped >= COUNT_EVENTS_MAX {
            touched.more = true;
            break;
        }
        let (to, limit) = (Some(head), PAGE);
        let page = events.read(&Query { context, from, to, limit, criteria, stream: None, backwards: false })?;
        for stored in &page.events {
            let hash = hash::sequence(definition.sequencing.name(&stored.event).as_bytes());
            let wants = |processor: &Processor| {
                processor.share_of(hash).is_some_and(|(_, share)| share.token.wants(hash, stored.position))
            };
            match (wants(before), wants(after)) {
                (false, true) => touched.again += 1,
                (true, false) => touched.skipped += 1,
                _ => {}
            }
        }
        from = page.next;
    }
    Ok(touched)
}

/// Returns the processor without its letters, which may be many.
fn processor(engine: &Engine, name: &str) -> Result<Processor, ApiError> {
    let state = engine.cluster().state();
    let unknown = || ApiError::new(&codes::UNKNOWN_PROCESSOR, format!("there is no processor {name}"));
    state.processor(name).map(Processor::without_letters).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_counts_in_words() {
        let words = |again, skipped, more| Touched { again, skipped, more }.describe();
        assert_eq!(words(0, 0, false), "it would handle no event again; nothing was changed");
        assert_eq!(words(1, 0, false), "it would handle 1 event again; nothing was changed");
        assert_eq!(words(7, 2, true), "it would handle at least 7 events again and skip 2; nothing was changed");
        assert_eq!(words(0, 3, false), "it would skip 3 events; nothing was changed");
    }
}
