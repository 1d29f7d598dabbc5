//! The clock that stamps entries: the wall clock, or, if that is behind the log's time, the log's last time advanced at
//! the normal rate.
//!
//! A jump of the wall clock is not trusted at once, because a wrong timestamp stays in the log. Until the other voters'
//! clocks have been compared, the clock continues at the rate of the machine's steady clock; while they disagree with
//! the wall clock, it follows theirs.
//!
//! The log's time never goes back. If a leader's clock is an hour ahead for a moment, the log stays an hour ahead. If
//! entries were stamped with the wall clock alone, the log's time would not advance for that hour, nor would any
//! deadline in log time pass: a released segment, for example, would have no owner until then.

use std::{sync::Arc, time::Duration};

use evener_core::{
    clocks::{self, CLOCK_OFF_MAX},
    time::Timestamp,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{transport::Clock, view::StateView};

/// See the [module](self).
pub(crate) struct LogClock {
    wall: Arc<dyn Clock>,
    view: Arc<StateView>,
    /// The last time recorded in the log, and when this node first saw it.
    seen: Mutex<(Timestamp, Instant)>,
    steady: Mutex<Steady>,
}

/// The expected value of the wall clock.
#[derive(Clone, Copy, Debug)]
struct Steady {
    /// The value that the wall clock showed or should have shown at the time `boot` since the start of the machine.
    wall: Timestamp,
    boot: Duration,
    /// When the wall clock was seen to differ, until it is judged against the other voters' clocks.
    jumped: Option<Instant>,
}

impl LogClock {
    pub(crate) fn new(wall: Arc<dyn Clock>, view: Arc<StateView>) -> Self {
        let seen = Mutex::new((view.state().recorded, Instant::now()));
        let steady = Mutex::new(Steady { wall: wall.wall(), boot: wall.boot(), jumped: None });
        Self { wall, view, seen, steady }
    }

    /// Returns when the wall clock was seen to jump. Offsets measured before do not apply.
    pub(crate) fn jumped(&self) -> Option<Instant> {
        let _ = self.steady();
        self.steady.lock().jumped
    }

    /// Sets how many milliseconds the wall clock is ahead of the other voters' clocks.
    pub(crate) fn judge(&self, ahead_ms: i64) {
        let (actual, boot) = (self.wall.wall(), self.wall.boot());
        let right = match clocks::is_off(ahead_ms) {
            true => Timestamp(actual.0.saturating_add_signed(ahead_ms.saturating_neg())),
            false => actual,
        };
        let jumped = self.steady.lock().jumped.filter(|_| clocks::is_off(ahead_ms));
        *self.steady.lock() = Steady { wall: right, boot, jumped };
    }

    /// Returns the wall clock's value, or its expected value if it differs from that by too much.
    pub(crate) fn steady(&self) -> Timestamp {
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

    /// Returns how far the log's time is ahead of a correct wall clock.
    pub(crate) fn log_ahead(&self) -> Duration {
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
        let (last, at) = *seen;
        let advanced = last.after(now.saturating_duration_since(at));
        if recorded > advanced {
            *seen = (recorded, now);
        }
        self.steady().max(advanced).max(recorded)
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
    async fn the_time_of_a_log_that_is_ahead_advances_at_the_normal_rate() {
        let (wall, view) = (SimClock::new(Timestamp(1_000_000)), Arc::new(StateView::default()));
        let clock = LogClock::new(Arc::new(wall.clone()), view.clone());
        assert_eq!(clock.wall(), Timestamp(1_000_000), "an empty log has no time");
        let ahead = Entry { proposed: Timestamp(4_600_000), context: ContextId::DEFAULT, commands: Vec::new() };
        view.apply(Term(1), LogIndex(1), &ahead);
        assert_eq!(clock.wall(), Timestamp(4_600_000));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(clock.wall(), Timestamp(4_610_000), "the log's time advances while it is ahead of the wall clock");
        wall.set_offset(9_000_000);
        assert_eq!(clock.wall(), Timestamp(4_610_000), "a jump of the wall clock is not trusted at once");
        clock.judge(0);
        assert_eq!(clock.wall(), Timestamp(10_010_000), "a jump is trusted if the other clocks agree");
        assert_eq!(clock.log_ahead(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_wall_clock_is_replaced_by_the_majoritys_time() {
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
        assert_eq!(clock.wall(), Timestamp(100_011_500), "a small step is trusted");
        assert_eq!(clock.jumped(), None);
    }
}
