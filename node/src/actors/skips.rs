//! Logs skipped events, folded: one line for many.

use std::time::Duration;

use evener_core::{
    command::LetterMove,
    processor::OnError,
    time::Moment,
    worker::{Report, Settings},
};

/// Minimum time between two lines.
const LINE_WAIT: Duration = Duration::from_secs(10);

/// Skipped events of one worker that are not logged yet.
#[derive(Debug, Default)]
pub(super) struct Skips {
    count: u64,
    /// The latest: its position, and why.
    latest: Option<(u64, String)>,
    /// The handler's cause of its latest skip.
    handler_cause: String,
    logged: Option<Moment>,
}

impl Skips {
    /// Records the cause of a handler's skip; the report of it follows.
    pub(super) fn set_handler_cause(&mut self, cause: &str) {
        self.handler_cause = format!("its handler returned skip: {cause}");
    }

    /// Counts the skips of a report; returns the line to log now, if any.
    pub(super) fn add(&mut self, now: Moment, settings: &Settings, report: &Report) -> Option<Line> {
        for (position, cause) in
            report.letters.iter().filter_map(|letter| skipped(settings.on_error, letter, &self.handler_cause))
        {
            self.count += 1;
            self.latest = Some((position, cause));
        }
        let waits = self.logged.is_some_and(|logged| now < logged.after(LINE_WAIT));
        if waits { None } else { self.flush(now) }
    }

    /// Returns the last line to log, if any.
    pub(super) fn flush(&mut self, now: Moment) -> Option<Line> {
        let (position, cause) = self.latest.take()?;
        self.logged = Some(now);
        Some(Line { count: std::mem::take(&mut self.count), position, cause })
    }
}

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    count: u64,
    position: u64,
    cause: String,
}

impl Line {
    /// Logs it.
    pub(super) fn log(self, processor: &str, segment: Option<u32>) {
        let Self { count, position, cause } = self;
        tracing::warn!(%processor, segment, count, position, cause, "events were skipped; the last one is named");
    }
}

/// Returns the event that a letter skips, and the cause.
fn skipped(on_error: OnError, letter: &LetterMove, handler_cause: &str) -> Option<(u64, String)> {
    match letter {
        LetterMove::Skipped { position, .. } | LetterMove::Done { position, skipped: true, .. } => {
            Some((position.0, handler_cause.to_owned()))
        }
        LetterMove::SetAside { position, failure, .. }
        | LetterMove::Failed { position, failure, .. }
        | LetterMove::Tried { position, failure, unable: false, .. }
            if on_error == OnError::Skip && failure.last =>
        {
            Some((position.0, format!("on_error: skip, after attempt {}: {}", failure.attempt, failure.cause)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use evener_core::{
        backoff::Backoff,
        id::{ComponentId, Epoch, Position, SegmentId},
        letter::{Failure, SequenceKey},
    };

    use super::*;

    fn report(position: u64, last: bool) -> Report {
        let (segment, epoch, position) = (SegmentId(0), Epoch(1), Position(position));
        let sequence = SequenceKey { component: ComponentId(0), name: "s".into() };
        let failure = Failure { attempt: 3, cause: "boom".into(), wait_ms: 0, random: 0, last };
        let letters = vec![LetterMove::SetAside { segment, epoch, sequence, position, kind: "k".into(), failure }];
        Report { number: 1, done: 1, letters, drained: false }
    }

    #[test]
    fn many_skips_are_one_line_and_none_is_lost() {
        let settings = |on_error| Settings {
            claim: None,
            mask: 0,
            on_error,
            backoff: Backoff::default(),
            batch_events_max: 1,
            cause_bytes_max: 64,
            stalled: None,
        };
        let (skip, aside) = (settings(OnError::Skip), settings(OnError::SetAside));
        let mut skips = Skips::default();
        assert_eq!(skips.add(Moment(0), &aside, &report(1, true)), None, "it is set aside, not skipped");
        assert_eq!(skips.add(Moment(0), &skip, &report(1, false)), None, "it is tried again");
        let cause = "on_error: skip, after attempt 3: boom".to_owned();
        let line = |count, position| Some(Line { count, position, cause: cause.clone() });
        assert_eq!(skips.add(Moment(5), &skip, &report(2, true)), line(1, 2), "the first at once");
        assert!((3..8).all(|position| skips.add(Moment(6), &skip, &report(position, true)).is_none()));
        assert_eq!(skips.add(Moment(10_005), &skip, &report(8, true)), line(6, 8));
        skips.add(Moment(10_006), &skip, &report(9, true));
        assert_eq!((skips.flush(Moment(10_007)), skips.flush(Moment(10_007))), (line(1, 9), None));
    }
}
