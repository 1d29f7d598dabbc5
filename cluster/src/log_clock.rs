//! The clock that entries are stamped with: the wall clock, and where that is behind the log's, the log's own time
//! going on from where it stands.
//!
//! A wall clock that jumps is not believed at once, as what was stamped once stays in the log: until the others have
//! been asked it goes on at the pace of the machine's steady clock, and while they say that it is off it shows what
//! theirs do.
//!
//! The log's time never goes back. A leader whose clock was an hour ahead for a moment leaves a log that is an hour
//! ahead; were entries stamped with the wall alone, its time would stand still for that hour, and with it every wait
//! that is told in it: a segment that was released would have no owner until then.

use std::{sync::Arc, time::Duration};

use evener_core::{
    clocks::{self, CLOCK_OFF_MAX},
    time::Timestamp,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{transport::Clock, view::StateView};

/// See the [module](self).
pub struct LogClock {
    wall: Arc<dyn Clock>,
    view: Arc<StateView>,
    /// What the log told, and when it was seen here.
    seen: Mutex<(Timestamp, Instant)>,
    steady: Mutex<Steady>,
}

/// What the wall clock should show.
#[derive(Clone, Copy, Debug)]
struct Steady {
    /// What it showed, or should have shown, and the time since the start of the machine then.
    wall: Timestamp,
    boot: Duration,
    /// Since when it shows something else, and nobody was asked yet who is right.
    jumped: Option<Instant>,
}

impl LogClock {
    pub fn new(wall: Arc<dyn Clock>, view: Arc<StateView>) -> Self {
        let seen = Mutex::new((view.state().recorded, Instant::now()));
        let steady = Mutex::new(Steady { wall: wall.wall(), boot: wall.boot(), jumped: None });
        Self { wall, view, seen, steady }
    }

    /// When the wall clock was seen to jump; what others said before says nothing of it.
    pub fn jumped(&self) -> Option<Instant> {
        let _ = self.steady();
        self.steady.lock().jumped
    }

    /// The others were asked: the wall clock is so many milliseconds ahead of theirs.
    pub fn judge(&self, ahead_ms: i64) {
        let (actual, boot) = (self.wall.wall(), self.wall.boot());
        let right = match clocks::is_off(ahead_ms) {
            true => Timestamp(actual.0.saturating_add_signed(ahead_ms.saturating_neg())),
            false => actual,
        };
        let jumped = self.steady.lock().jumped.filter(|_| clocks::is_off(ahead_ms));
        *self.steady.lock() = Steady { wall: right, boot, jumped };
    }

    /// The wall clock, or what it should show where that is something else.
    pub fn steady(&self) -> Timestamp {
        let (actual, boot) = (self.wall.wall(), self.wall.boot());
        let mut steady = self.steady.lock();
        let expected = steady.wall.after(boot.saturating_sub(steady.boot));
        if actual.since(expected).max(expected.since(actual)) > CLOCK_OFF_MAX {
            steady.jumped.get_or_insert_with(Instant::now);
            return expected;
        }
        *steady = Steady { wall: actual, boot, jumped: None };
        actual
    }

    /// How far the log's time is ahead of a wall clock that is right.
    pub fn log_ahead(&self) -> Duration {
        self.wall().since(self.steady())
    }
}

impl Clock for LogClock {
    fn boot(&self) -> Duration {
        self.wall.boot()
    }

    fn wall(&self) -> Timestamp {
        let recorded = self.view.state().recorded;
        let now = Instant::now();
        let mut seen = self.seen.lock();
        let (told, at) = *seen;
        let gone_on = told.after(now.saturating_duration_since(at));
        if recorded > gone_on {
            *seen = (recorded, now);
        }
        self.steady().max(gone_on).max(recorded)
    }
}

#[cfg(test)]
mod tests {
    use evener_core::{
        command::Entry,
        id::{ContextId, LogIndex, Term},
    };

    use super::*;
    use crate::sim_wire::SimClock;

    #[tokio::test(start_paused = true)]
    async fn a_log_whose_leader_was_ahead_goes_on_from_there() {
        let (wall, view) = (SimClock::new(Timestamp(1_000_000)), Arc::new(StateView::default()));
        let clock = LogClock::new(Arc::new(wall.clone()), view.clone());
        assert_eq!(clock.wall(), Timestamp(1_000_000), "an empty log says nothing");
        let ahead = Entry { proposed: Timestamp(4_600_000), context: ContextId::DEFAULT, commands: Vec::new() };
        view.apply(Term(1), LogIndex(1), &ahead);
        assert_eq!(clock.wall(), Timestamp(4_600_000));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(clock.wall(), Timestamp(4_610_000), "it does not wait an hour for the wall");
        wall.set_offset(9_000_000);
        assert_eq!(clock.wall(), Timestamp(4_610_000), "a wall that has jumped is not believed at once");
        clock.judge(0);
        assert_eq!(clock.wall(), Timestamp(10_010_000), "a wall that is ahead is believed where the others say so");
        assert_eq!(clock.log_ahead(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_that_is_off_shows_what_the_others_do() {
        let (wall, view) = (SimClock::new(Timestamp(100_000_000)), Arc::new(StateView::default()));
        let clock = LogClock::new(Arc::new(wall.clone()), view);
        wall.set_offset(3_600_000);
        assert_eq!(clock.wall(), Timestamp(100_000_000));
        assert!(clock.jumped().is_some());
        clock.judge(3_600_000);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(clock.wall(), Timestamp(100_010_000));
        wall.set_offset(-3_600_000);
        clock.judge(-3_600_000);
        assert_eq!(clock.wall(), Timestamp(100_010_000));
        wall.set_offset(1_500);
        assert_eq!(clock.wall(), Timestamp(100_011_500), "so small a step is a clock that is set");
        assert_eq!(clock.jumped(), None);
    }
}
