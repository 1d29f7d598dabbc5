//! One outbox between a worker and a naive log, under lost answers, limits and worker deaths (P4, P6).

use std::{collections::BTreeSet, string::String, vec, vec::Vec};

use proptest::{collection, prelude::*};

use super::*;
use crate::{
    command::Right,
    coordinator::Bounds,
    id::{ComponentId, Epoch, SegmentId},
    letter::Failure,
    limits::LimitName,
};

const SEGMENT: SegmentId = SegmentId(0);
const EPOCH: Epoch = Epoch(1);
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// What happens to one event.
#[derive(Clone, Copy, Debug)]
enum Event {
    Handled,
    SetAside,
    Queued,
    Skipped,
}

#[derive(Clone, Debug)]
enum Step {
    /// The worker reports these events, this number of results of tries, and perhaps a stall or the end of one.
    Report(Vec<Event>, usize, Option<bool>),
    /// As much as fits is sent: at most this number of letters.
    Send(usize),
    /// The answer arrives.
    Judged,
    /// The answer is lost; the progress was judged or not.
    Lost(bool),
    /// Sets whether the limit of the log is reached.
    Full(bool),
    Pass(u64),
    /// The worker died, or stopped because it was idle; another one starts.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event = prop_oneof![
        4 => Just(Event::Handled),
        1 => Just(Event::SetAside),
        1 => Just(Event::Queued),
        1 => Just(Event::Skipped),
    ];
    let step = prop_oneof![
        5 => (collection::vec(event, 0..5), 0_usize..3, proptest::option::weighted(0.2, any::<bool>()))
            .prop_map(|(events, tries, stall)| Step::Report(events, tries, stall)),
        6 => (1_usize..6).prop_map(Step::Send),
        4 => Just(Step::Judged),
        2 => any::<bool>().prop_map(Step::Lost),
        1 => any::<bool>().prop_map(Step::Full),
        2 => (0_u64..5_000).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ];
    collection::vec(step, 0..120)
}

/// A log that knows one segment: it accepts letters in order, refuses those that it has no room for, and moves the
/// token no further than the first refused letter.
#[derive(Default)]
struct Log {
    token: u64,
    /// Letters that hold the token, in the order of arrival.
    holding: Vec<LetterMove>,
    tries: Vec<LetterMove>,
    stall: Option<LetterMove>,
    is_full: bool,
}

impl Log {
    /// Judges one progress; returns whether the limit refused a letter.
    fn judge(&mut self, next: Position, letters: &[LetterMove]) -> bool {
        let mut held = None;
        for letter in letters {
            match letter.holds() {
                _ if held.is_some() => {}
                Some(position) if position.0 < self.token => {}
                Some(position) if self.is_full => held = Some(position),
                Some(_) => self.holding.push(letter.clone()),
                None if is_about_stall(letter) => self.stall = Some(letter.clone()),
                None if self.tries.contains(letter) => {}
                None => self.tries.push(letter.clone()),
            }
        }
        self.token = self.token.max(held.map_or(next, |held| next.min(held)).0);
        held.is_some()
    }

    fn has(&self, letter: &LetterMove) -> bool {
        self.holding.contains(letter) || self.tries.contains(letter)
    }
}

/// An outbox between its worker and the log.
struct Setup {
    outbox: Outbox,
    log: Log,
    /// Whether the outbox is for lent letters: its worker reports results of tries only, and moves no token.
    is_lent: bool,
    now: u64,
    events: u64,
    /// Reports of the present worker.
    reports: u64,
    /// All letters, each with the report of the present worker that had it; 0 if a predecessor had it.
    reported: Vec<(u64, LetterMove)>,
    last_stall: Option<LetterMove>,
    sent: Option<(Position, Vec<LetterMove>)>,
}

impl Setup {
    fn new(is_lent: bool) -> Self {
        Self {
            outbox: Outbox::new(Position(0)),
            log: Log::default(),
            is_lent,
            now: 0,
            events: 0,
            reports: 0,
            reported: Vec::new(),
            last_stall: None,
            sent: None,
        }
    }

    fn letter_of(position: u64, event: Event) -> Option<LetterMove> {
        let position = Position(position);
        let (segment, epoch, sequence, kind) = (SEGMENT, EPOCH, sequence(position.0), String::new());
        match event {
            Event::Handled => None,
            Event::SetAside => {
                Some(LetterMove::SetAside { segment, epoch, sequence, position, kind, failure: failure() })
            }
            Event::Queued => Some(LetterMove::Queue { segment, epoch, sequence, position, kind }),
            Event::Skipped => Some(LetterMove::Skipped { segment, epoch, sequence, position }),
        }
    }

    fn report(&mut self, events: &[Event], tries: usize, stall: Option<bool>) {
        let mut letters = Vec::new();
        for nth in 0..tries as u64 {
            let (right, unique) =
                (Right::Claim(SEGMENT, EPOCH), Position(1_000_000 + self.reported.len() as u64 + nth));
            letters.push(LetterMove::Done { right, sequence: sequence(0), position: unique, skipped: false });
        }
        let events = if self.is_lent { &[] } else { events };
        for (position, event) in (self.events..).zip(events) {
            letters.extend(Self::letter_of(position, *event));
        }
        self.events += events.len() as u64;
        if let Some(stalls) = stall.filter(|_| !self.is_lent) {
            let (segment, epoch, position) = (SEGMENT, EPOCH, Position(self.events));
            self.last_stall = Some(match stalls {
                true => LetterMove::Stall { segment, epoch, position, failure: failure(), unable: false },
                false => LetterMove::Resume { segment, epoch, position },
            });
            letters.extend(self.last_stall.clone());
        }
        self.reports += 1;
        let kept = letters.iter().filter(|letter| !is_about_stall(letter));
        self.reported.extend(kept.map(|letter| (self.reports, letter.clone())));
        self.outbox.receive(Report { number: self.reports, done: events.len(), letters, drained: false });
    }

    fn send(&mut self, letters_max: usize) {
        if self.sent.is_some() {
            return;
        }
        let bounds = Bounds { progress_letters_max: letters_max, ..Bounds::default() };
        let ((mut room, _), mut letters) = (Room::of(bounds), Vec::new());
        let next = Position(self.events);
        let sent = self.outbox.send(Moment(self.now), next, &mut room, &mut letters);
        assert!(sent <= next && sent >= self.outbox.acknowledged_position());
        assert!(letters.len() <= letters_max);
        self.sent = Some((sent, letters));
    }

    fn answer(&mut self, is_judged: bool, is_lost: bool) {
        let Some((next, letters)) = self.sent.take() else { return };
        let is_refused = is_judged && self.log.judge(next, &letters);
        if is_lost {
            return self.outbox.take_back(Moment(self.now));
        }
        if is_refused {
            let limit = LimitReached::new(LimitName::Letters, 1);
            self.outbox.refuse(Moment(self.now), RETRY_DELAY, limit, Position(self.log.token));
        } else {
            self.outbox.acknowledge();
        }
    }

    /// Starts another worker. A coordinator does that only if nothing is pending or in flight.
    fn restart(&mut self) {
        let nothing_in_flight = self.sent.as_ref().is_none_or(|(_, letters)| letters.is_empty());
        if nothing_in_flight && !self.outbox.has_letters() && self.outbox.unacknowledged_events() == 0 {
            self.outbox.restart();
            self.reports = 0;
            self.reported.iter_mut().for_each(|(report, _)| *report = 0);
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Report(events, tries, stall) => self.report(events, *tries, *stall),
            Step::Send(letters_max) => self.send(*letters_max),
            Step::Judged => self.answer(true, false),
            Step::Lost(is_judged) => self.answer(*is_judged, true),
            Step::Full(is_full) => self.log.is_full = *is_full,
            Step::Pass(millis) => self.now += millis,
            Step::Restart => self.restart(),
        }
        self.check();
    }

    /// Checks the properties that the coordinator and the worker rely on, after every step.
    fn check(&self) {
        let refused: BTreeSet<_> = self.outbox.refused_sequences().map(|(sequence, _)| sequence).collect();
        for (report, letter) in &self.reported {
            if letter.holds().is_some_and(|position| position.0 < self.log.token) {
                assert!(self.log.has(letter), "the token passed a letter that the log does not have: {letter:?}");
            }
            let is_known = match letter {
                LetterMove::Skipped { .. } => true,
                LetterMove::SetAside { sequence, .. } | LetterMove::Queue { sequence, .. } => {
                    refused.contains(sequence) || self.log.has(letter)
                }
                _ => self.log.has(letter),
            };
            assert!(
                is_known || *report == 0 || *report > self.outbox.settled(),
                "settled although the log never had it: {letter:?}"
            );
        }
        let again = self.events.saturating_sub(self.log.token);
        assert!(
            again <= self.outbox.unacknowledged_events() as u64,
            "the outbox counts too few events that would be handled again"
        );
        assert!(self.outbox.settled() <= self.reports);
        assert!(!self.outbox.is_empty() || self.outbox.settled() == self.reports);
        assert_eq!(self.outbox.is_in_flight(), self.sent.is_some());
    }

    /// Lets the log accept everything, and checks that all reports arrive.
    fn settle(&mut self) {
        self.take(&Step::Full(false));
        for _ in 0..10_000 {
            if self.outbox.is_empty() {
                break;
            }
            self.take(&Step::Judged);
            self.take(&Step::Pass(1_000));
            self.take(&Step::Send(4));
            self.take(&Step::Judged);
        }
        self.take(&Step::Send(4));
        self.take(&Step::Judged);
        assert!(self.outbox.is_empty());
        assert_eq!(self.log.token, self.events);
        let holding = self.reported.iter().map(|(_, letter)| letter).filter(|letter| letter.holds().is_some());
        assert_eq!(self.log.holding, holding.cloned().collect::<Vec<_>>(), "each arrives once, in order");
        let tries = self.reported.iter().map(|(_, letter)| letter).filter(|letter| letter.holds().is_none());
        assert_eq!(self.log.tries, tries.cloned().collect::<Vec<_>>());
        assert_eq!(self.log.stall, self.last_stall, "only the latest counts");
    }
}

fn sequence(position: u64) -> SequenceKey {
    SequenceKey { component: ComponentId(0), name: std::format!("s{position}") }
}

fn failure() -> Failure {
    Failure { attempt: 1, cause: "cause".into(), wait_ms: 1_000, random: 0, last: false }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn p4_reports_arrive_in_order_despite_lost_answers_and_refusals(is_lent in any::<bool>(), steps in steps()) {
        let mut setup = Setup::new(is_lent);
        steps.iter().for_each(|step| setup.take(step));
        setup.settle();
    }
}

#[test]
fn an_abandoned_outbox_awaits_its_answer_and_is_empty_after_it() {
    let mut setup = Setup::new(false);
    setup.take(&Step::Report(vec![Event::SetAside, Event::Handled], 1, None));
    setup.take(&Step::Send(4));
    setup.take(&Step::Report(vec![Event::Handled], 0, None));
    setup.outbox.abandon();
    assert!(setup.outbox.is_in_flight() && !setup.outbox.has_letters());
    assert_eq!(setup.outbox.unacknowledged_events(), 0);
    setup.outbox.take_back(Moment(0));
    assert!(setup.outbox.is_empty());
}
