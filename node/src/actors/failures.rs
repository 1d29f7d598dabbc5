//! Logs failures of a segment and their outcome, on its owner. Floods are folded: one line for many events of a kind.

use std::{collections::BTreeMap, time::Duration};

use evener_core::{
    command::LetterMove,
    id::Position,
    letter::Failure,
    processor::OnError,
    time::Moment,
    worker::{Report, Settings},
};

/// Minimum time between two lines of a kind.
pub(super) const LINE_WAIT: Duration = Duration::from_secs(10);

/// What happens to an event or to its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// It failed: its sequence is set aside with it, and is tried again.
    SetAside,
    /// It failed for the last time: its sequence waits for an operator.
    Dead,
    /// An event that was set aside is handled.
    Recovered,
    /// The segment waits with it.
    Stalled,
    /// The segment continues.
    Resumed,
}

/// Reports of a worker that are not logged yet.
#[derive(Debug, Default)]
pub(super) struct Failures {
    folds: BTreeMap<Kind, Fold>,
    /// The event that the segment waits at: its further attempts are not logged.
    stalled: Option<Position>,
}

/// Events of one kind.
#[derive(Debug, Default)]
struct Fold {
    count: u64,
    latest: Option<Occurrence>,
    logged: Option<Moment>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Occurrence {
    position: Position,
    sequence: Option<String>,
    failure: Option<(u32, String)>,
}

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    kind: Kind,
    count: u64,
    occurrence: Occurrence,
}

impl Failures {
    /// Continues with the state of an earlier worker.
    pub(super) fn new(settings: &Settings) -> Self {
        Self { stalled: settings.stalled.map(|stalled| stalled.position), ..Self::default() }
    }

    /// Adds a report.
    pub(super) fn add(&mut self, settings: &Settings, report: &Report) {
        for letter in &report.letters {
            if let Some((kind, occurrence)) = self.classify(settings.on_error, letter) {
                let fold = self.folds.entry(kind).or_default();
                fold.count += 1;
                fold.latest = Some(occurrence);
            }
        }
    }

    /// Returns the lines to log now; `last` if no further report follows.
    pub(super) fn due(&mut self, now: Moment, last: bool) -> Vec<Line> {
        let line = |(kind, fold): (&Kind, &mut Fold)| {
            let waits = fold.logged.is_some_and(|logged| now < logged.after(LINE_WAIT));
            let occurrence = if waits && !last { None } else { fold.latest.take() }?;
            fold.logged = Some(now);
            Some(Line { kind: *kind, count: std::mem::take(&mut fold.count), occurrence })
        };
        self.folds.iter_mut().filter_map(line).collect()
    }

    /// Returns whether a line waits to be logged.
    pub(super) fn has_pending(&self) -> bool {
        self.folds.values().any(|fold| fold.latest.is_some())
    }

    fn classify(&mut self, on_error: OnError, letter: &LetterMove) -> Option<(Kind, Occurrence)> {
        let occurrence = |position: &Position, sequence: Option<&String>, failure: Option<&Failure>| Occurrence {
            position: *position,
            sequence: sequence.cloned(),
            failure: failure.map(|failure| (failure.attempt, failure.cause.clone())),
        };
        // Events that `on_error: skip` skips are logged as skipped.
        let skips = |failure: &Failure| on_error == OnError::Skip && failure.last;
        Some(match letter {
            LetterMove::SetAside { sequence, position, failure, .. } if !skips(failure) => {
                let kind = if failure.last { Kind::Dead } else { Kind::SetAside };
                (kind, occurrence(position, Some(&sequence.name), Some(failure)))
            }
            LetterMove::Tried { sequence, position, failure, .. } if failure.last && !skips(failure) => {
                (Kind::Dead, occurrence(position, Some(&sequence.name), Some(failure)))
            }
            LetterMove::Done { sequence, position, skipped: false, .. } => {
                (Kind::Recovered, occurrence(position, Some(&sequence.name), None))
            }
            LetterMove::Stall { position, failure, .. } if self.stalled != Some(*position) => {
                self.stalled = Some(*position);
                (Kind::Stalled, occurrence(position, None, Some(failure)))
            }
            LetterMove::Resume { position, .. } => {
                self.stalled = None;
                (Kind::Resumed, occurrence(position, None, None))
            }
            _ => return None,
        })
    }
}

impl Line {
    /// Logs it.
    pub(super) fn log(self, processor: &str, segment: Option<u32>) {
        let Self { kind, count, occurrence: Occurrence { position, sequence, failure } } = self;
        let (position, (attempt, cause)) =
            (position.0, failure.map_or((None, None), |(n, cause)| (Some(n), Some(cause))));
        match kind {
            Kind::SetAside => tracing::warn!(
                %processor, segment, count, sequence, position, attempt, cause,
                "events failed; their sequences are set aside and tried again; the last one is named"
            ),
            Kind::Dead => tracing::warn!(
                %processor, segment, count, sequence, position, attempt, cause,
                "sequences are dead and wait for an operator; the last one is named; see `evener dead-letter list`"
            ),
            Kind::Recovered => tracing::info!(
                %processor, segment, count, sequence, position,
                "events that were set aside are handled; the last one is named"
            ),
            Kind::Stalled => tracing::warn!(
                %processor, segment, count, position, attempt, cause,
                "a segment stalls: it waits at an event that is retried"
            ),
            Kind::Resumed => tracing::info!(%processor, segment, count, position, "a segment continues after a stall"),
        }
    }
}

#[cfg(test)]
mod tests {
    use evener_core::{
        backoff::Backoff,
        command::Right,
        id::{ComponentId, Epoch, SegmentId},
        letter::SequenceKey,
    };

    use super::*;

    const SEGMENT: SegmentId = SegmentId(0);
    const EPOCH: Epoch = Epoch(1);

    fn settings(on_error: OnError) -> Settings {
        let (backoff, claim, stalled) = (Backoff::default(), None, None);
        Settings { claim, mask: 0, on_error, backoff, batch_events_max: 1, cause_bytes_max: 64, stalled }
    }

    fn report(letters: Vec<LetterMove>) -> Report {
        Report { number: 1, done: 1, letters, drained: false }
    }

    fn sequence() -> SequenceKey {
        SequenceKey { component: ComponentId(0), name: "s".into() }
    }

    fn failure(attempt: u32, last: bool) -> Failure {
        Failure { attempt, cause: "boom".into(), wait_ms: 0, random: 0, last }
    }

    fn aside(position: u64, last: bool) -> LetterMove {
        let (position, sequence, failure) = (Position(position), sequence(), failure(1, last));
        LetterMove::SetAside { segment: SEGMENT, epoch: EPOCH, sequence, position, kind: "k".into(), failure }
    }

    fn stall(position: u64, attempt: u32) -> LetterMove {
        let (position, failure) = (Position(position), failure(attempt, false));
        LetterMove::Stall { segment: SEGMENT, epoch: EPOCH, position, failure, unable: false }
    }

    fn kinds(lines: &[Line]) -> Vec<(Kind, u64, u64)> {
        lines.iter().map(|line| (line.kind, line.count, line.occurrence.position.0)).collect()
    }

    #[test]
    fn a_flood_is_one_line_and_none_is_lost() {
        let (mut failures, settings) = (Failures::default(), settings(OnError::SetAside));
        failures.add(&settings, &report(vec![aside(1, false)]));
        assert_eq!(kinds(&failures.due(Moment(5), false)), [(Kind::SetAside, 1, 1)], "the first at once");
        (2..154).for_each(|position| failures.add(&settings, &report(vec![aside(position, false)])));
        failures.add(&settings, &report(vec![aside(154, true)]));
        assert_eq!(kinds(&failures.due(Moment(6), false)), [(Kind::Dead, 1, 154)], "another kind does not wait");
        assert!(failures.has_pending());
        assert_eq!(kinds(&failures.due(Moment(10_005), false)), [(Kind::SetAside, 152, 153)]);
        assert!(!failures.has_pending());
        failures.add(&settings, &report(vec![aside(155, true)]));
        assert_eq!(kinds(&failures.due(Moment(10_006), true)), [(Kind::Dead, 1, 155)], "at the end nothing waits");
    }

    #[test]
    fn a_stall_is_logged_once_with_its_cause_and_so_is_its_end() {
        let (mut failures, settings) = (Failures::default(), settings(OnError::Stop));
        failures.add(&settings, &report(vec![stall(7, 1)]));
        let lines = failures.due(Moment(0), false);
        assert_eq!(
            (kinds(&lines), &lines[0].occurrence.failure),
            (vec![(Kind::Stalled, 1, 7)], &Some((1, "boom".into())))
        );
        failures.add(&settings, &report(vec![stall(7, 2)]));
        assert_eq!(failures.due(Moment(60_000), false), [], "it is known");
        let resume = LetterMove::Resume { segment: SEGMENT, epoch: EPOCH, position: Position(7) };
        failures.add(&settings, &report(vec![resume, stall(8, 1)]));
        assert_eq!(kinds(&failures.due(Moment(60_000), false)), [(Kind::Stalled, 1, 8), (Kind::Resumed, 1, 7)]);
    }

    #[test]
    fn a_skip_is_not_logged_twice_and_a_recovery_is_logged() {
        let mut failures = Failures::default();
        failures.add(&settings(OnError::Skip), &report(vec![aside(1, true)]));
        assert!(!failures.has_pending());
        let done = |skipped| {
            let right = Right::Claim(SEGMENT, EPOCH);
            LetterMove::Done { right, sequence: sequence(), position: Position(9), skipped }
        };
        failures.add(&settings(OnError::SetAside), &report(vec![done(true), done(false)]));
        assert_eq!(kinds(&failures.due(Moment(0), false)), [(Kind::Recovered, 1, 9)]);
    }
}
