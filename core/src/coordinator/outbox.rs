//! An outbox: what one worker has reported and the log has not acknowledged yet.
//!
//! A coordinator has one outbox for each segment of its node, and one for the letters lent to the node. All of them
//! take part in each progress that the coordinator sends, and follow the same protocol:
//!
//! ```text
//!  receive ---> waiting --- send ---> in flight --- acknowledge ---> acknowledged
//!                  ^                      |
//!                  +----- take_back ------+   the answer was lost: sent again, before what came since
//!                  |                      |
//!               refused <--- refuse ------+   a limit is reached: sent again after a wait
//! ```
//!
//! A worker that dies takes nothing with it that it had reported; `restart` begins the reports of its successor.

#[cfg(test)]
mod tests;

use alloc::{collections::VecDeque, vec::Vec};
use core::{mem, time::Duration};

use super::Room;
use crate::{
    command::LetterMove, id::Position, letter::SequenceKey, reason::LimitReached, time::Moment, worker::Report,
};

/// The longest wait before refused letters are sent again.
const REFUSED_WAIT_MAX: Duration = Duration::from_secs(60);

/// What one worker has reported and the log has not acknowledged yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    /// All events before this position are acknowledged. Stays 0 if the outbox is for lent letters only.
    acknowledged: Position,
    /// Events reported done that wait to be sent.
    done: usize,
    /// Letters that wait to be sent, in order.
    letters: Vec<LetterMove>,
    /// What the progress in flight holds of this outbox.
    in_flight: Option<InFlight>,
    /// Letters that the log has no room for.
    refused: Option<Refused>,
    /// The number of the worker's last report.
    reported: u64,
    /// The number of the last report of which the log has judged everything.
    settled: u64,
}

/// The part of one outbox in a progress that was sent.
#[derive(Clone, Debug, Default)]
struct InFlight {
    /// The token as sent.
    next: Position,
    /// Events done that it covers.
    done: usize,
    /// The last report of which everything is judged once this is.
    reported: u64,
    /// How often these letters were refused before.
    times: u32,
    /// The limit that refused them.
    limit: Option<LimitReached>,
    letters: Vec<LetterMove>,
}

/// Letters that the log has no room for, because a limit is reached. The token stays before them, and the segment is
/// not fed; letters are still tried, since that is what makes room.
#[derive(Clone, Debug)]
struct Refused {
    letters: Vec<LetterMove>,
    /// When they are sent again.
    until: Moment,
    times: u32,
    limit: Option<LimitReached>,
}

impl Outbox {
    /// Returns an empty outbox of a segment with this token.
    pub(super) fn new(acknowledged: Position) -> Self {
        Self { acknowledged, ..Self::default() }
    }

    /// Begins with the reports of a new worker, which count from 1. The judgement of what its predecessor reported
    /// settles none of them.
    pub(super) fn restart(&mut self) {
        (self.reported, self.settled) = (0, 0);
        if let Some(sent) = &mut self.in_flight {
            sent.reported = 0;
        }
    }

    /// Forgets everything, except that a progress may be in flight: its answer is still to come.
    pub(super) fn abandon(&mut self) {
        let in_flight = self.in_flight.take().map(|_| InFlight::default());
        *self = Self { in_flight, ..Self::default() };
    }

    /// Takes a report of the worker.
    pub(super) fn receive(&mut self, report: Report) {
        self.reported = report.number;
        self.done += report.done;
        self.add_letters(report.letters);
        if self.in_flight.is_none() {
            self.settle(self.settled);
        }
    }

    /// Adds letters behind those that wait. Of the letters about the segment's own stall only the latest counts:
    /// a handler that is called again and again while nothing can be sent adds nothing.
    pub(super) fn add_letters(&mut self, letters: impl IntoIterator<Item = LetterMove>) {
        for letter in letters {
            if is_about_stall(&letter) {
                self.letters.retain(|letter| !is_about_stall(letter));
            }
            self.letters.push(letter);
        }
    }

    /// Moves what waits into `letters`, as far as there is room, and returns the token to send with them: `next`, or
    /// the position of the first letter that is left behind.
    pub(super) fn send(
        &mut self,
        now: Moment,
        next: Position,
        room: &mut Room,
        letters: &mut Vec<LetterMove>,
    ) -> Position {
        let is_waiting = self.refused.as_ref().is_some_and(|refused| now < refused.until);
        let mut sent = InFlight { next: self.acknowledged, reported: self.settled, ..InFlight::default() };
        // Results of tries go first: they make room, and do not depend on whether there is any.
        let (mut tries, mut holding, mut stalls) = sorted(mem::take(&mut self.letters));
        let mut all = room.fill(&mut tries, &mut sent.letters);
        let mut known = all;
        let tried = sent.letters.len();
        if let Some(refused) = self.refused.as_mut().filter(|_| is_waiting) {
            refused.letters.extend(holding.drain(..));
        } else {
            if let Some(Refused { letters, times, limit, .. }) = self.refused.take() {
                (sent.times, sent.limit) = (times, limit);
                letters.into_iter().rev().for_each(|letter| holding.push_front(letter));
            }
            all = all && room.fill(&mut holding, &mut sent.letters);
            // Sequences of letters that were refused before also count as set aside while the letters wait.
            known &= holding.is_empty() || sent.times > 0;
            let left = holding.front().and_then(LetterMove::holds);
            sent.next = next.min(left.unwrap_or(Position(u64::MAX))).max(self.acknowledged);
        }
        // A stall may pass the claim on, which all other letters of the segment are judged by.
        let mut stall = Vec::new();
        known = known && room.fill(&mut stalls, &mut stall);
        sent.letters.splice(tried..tried, stall);
        if known {
            sent.reported = self.reported;
        }
        if all && !is_waiting {
            sent.done = mem::take(&mut self.done);
        }
        if sent.times > 0 && !holding.is_empty() {
            let (letters, times, limit) = (holding.drain(..).collect(), sent.times, sent.limit.clone());
            self.refused = Some(Refused { letters, until: now, times, limit });
        }
        self.letters.extend(tries.into_iter().chain(stalls).chain(holding));
        letters.extend(sent.letters.iter().cloned());
        self.in_flight.insert(sent).next
    }

    /// Takes note that the log has judged what is in flight.
    pub(super) fn acknowledge(&mut self) {
        if let Some(sent) = self.in_flight.take() {
            self.acknowledged = self.acknowledged.max(sent.next);
            self.settle(sent.reported);
        }
    }

    /// Takes note that the log had no room for the letters in flight from `low` on, where it left the token.
    pub(super) fn refuse(&mut self, now: Moment, delay: Duration, limit: LimitReached, low: Position) {
        let Some(sent) = self.in_flight.take() else { return };
        self.acknowledged = self.acknowledged.max(low);
        self.done += sent.done;
        let wait = delay.saturating_mul(1 << sent.times.min(5)).min(REFUSED_WAIT_MAX);
        let letters = sent.letters.into_iter().filter(|letter| letter.holds().is_some_and(|place| place >= low));
        // Of those that were refused before, some may not have been sent yet.
        let letters = letters.chain(self.refused.take().into_iter().flat_map(|refused| refused.letters)).collect();
        self.refused = Some(Refused { letters, until: now.after(wait), times: sent.times + 1, limit: Some(limit) });
        self.settle(sent.reported);
    }

    /// Takes back what is in flight, because it may not have been judged: it is sent again. Letters that were refused
    /// before count as refused until then, or the worker would handle events of their sequences meanwhile.
    pub(super) fn take_back(&mut self, now: Moment) {
        let Some(InFlight { done, times, limit, mut letters, .. }) = self.in_flight.take() else { return };
        self.done += done;
        if times > 0 {
            let (tries, mut refused): (_, Vec<_>) = letters.into_iter().partition(|letter| letter.holds().is_none());
            letters = tries;
            refused.extend(self.refused.take().into_iter().flat_map(|refused| refused.letters));
            self.refused = Some(Refused { letters: refused, until: now, times, limit });
        }
        let newer = mem::replace(&mut self.letters, letters);
        self.add_letters(newer);
        self.settle(self.settled);
    }

    /// Takes note that the log has judged everything up to the report `judged`. Later reports that left nothing to
    /// send have nothing that the log could judge.
    fn settle(&mut self, judged: u64) {
        self.settled = if self.done == 0 && self.letters.is_empty() { self.reported } else { judged };
    }

    /// Returns the position before which all events are acknowledged.
    pub(super) const fn acknowledged_position(&self) -> Position {
        self.acknowledged
    }

    /// Returns the number of the last report of which the log has judged everything.
    pub(super) const fn settled(&self) -> u64 {
        self.settled
    }

    /// Returns whether a progress that this outbox took part in awaits its answer.
    pub(super) const fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Returns whether letters wait that the log has not refused.
    pub(super) const fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }

    /// Returns whether nothing waits and nothing is in flight. Refused letters are not waited for: their events are
    /// handled again by the next owner of the segment.
    pub(super) const fn is_acknowledged(&self) -> bool {
        self.in_flight.is_none() && (self.refused.is_some() || self.done == 0) && self.letters.is_empty()
    }

    /// Returns whether nothing at all is left in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.in_flight.is_none() && self.refused.is_none() && self.done == 0 && self.letters.is_empty()
    }

    /// Returns whether there is something to send now, apart from the token.
    pub(super) fn has_something_to_send(&self, now: Moment) -> bool {
        match &self.refused {
            Some(refused) => refused.until <= now || self.letters.iter().any(|letter| letter.holds().is_none()),
            None => self.done > 0 || !self.letters.is_empty(),
        }
    }

    /// Returns how many events are done and not acknowledged.
    pub(super) fn unacknowledged_events(&self) -> usize {
        self.done + self.in_flight.as_ref().map_or(0, |sent| sent.done)
    }

    /// Returns the limit that refused letters, and when they are sent again, if any are refused.
    pub(super) fn refusal(&self) -> Option<(Option<&LimitReached>, Moment)> {
        self.refused.as_ref().map(|refused| (refused.limit.as_ref(), refused.until))
    }

    /// Returns the sequences that count as set aside although the log has had no room for them yet, each with the
    /// position of a letter.
    pub(super) fn refused_sequences(&self) -> impl Iterator<Item = (SequenceKey, Position)> {
        let again = self.in_flight.iter().filter(|sent| sent.times > 0).flat_map(|sent| &sent.letters);
        let letters = self.refused.iter().flat_map(|refused| &refused.letters).chain(again);
        letters.filter_map(|letter| match letter {
            LetterMove::SetAside { sequence, position, .. } | LetterMove::Queue { sequence, position, .. } => {
                Some((sequence.clone(), *position))
            }
            _ => None,
        })
    }
}

/// Sorts letters into results of tries and resumptions, letters that hold the token, and stalls of the segment.
fn sorted(letters: Vec<LetterMove>) -> (VecDeque<LetterMove>, VecDeque<LetterMove>, VecDeque<LetterMove>) {
    let (holding, others): (VecDeque<_>, VecDeque<_>) =
        letters.into_iter().partition(|letter| letter.holds().is_some());
    let (stalls, tries) = others.into_iter().partition(|letter| matches!(letter, LetterMove::Stall { .. }));
    (tries, holding, stalls)
}

/// Returns whether a letter says that the segment waits with an event, or that it goes on.
const fn is_about_stall(letter: &LetterMove) -> bool {
    matches!(letter, LetterMove::Stall { .. } | LetterMove::Resume { .. })
}
