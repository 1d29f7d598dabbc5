//! The clock that entries are stamped with: the wall clock, and where that is behind the log's, the log's own time
//! going on from where it stands.
//!
//! The log's time never goes back. A leader whose clock was an hour ahead for a moment leaves a log that is an hour
//! ahead; were entries stamped with the wall alone, its time would stand still for that hour, and with it every wait
//! that is told in it: a segment that was released would have no owner until then.

use std::{sync::Arc, time::Duration};

use evener_core::time::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{transport::Clock, view::View};

/// See the [module](self).
pub struct LogClock {
    wall: Arc<dyn Clock>,
    view: Arc<View>,
    /// What the log told, and when it was seen here.
    seen: Mutex<(Timestamp, Instant)>,
}

impl LogClock {
    pub fn new(wall: Arc<dyn Clock>, view: Arc<View>) -> Self {
        let seen = Mutex::new((view.state().recorded, Instant::now()));
        Self { wall, view, seen }
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
        self.wall.wall().max(gone_on).max(recorded)
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
        let (wall, view) = (SimClock::new(Timestamp(1_000_000)), Arc::new(View::recover(None).unwrap()));
        let clock = LogClock::new(Arc::new(wall.clone()), view.clone());
        assert_eq!(clock.wall(), Timestamp(1_000_000), "an empty log says nothing");
        let ahead = Entry { proposed: Timestamp(4_600_000), context: ContextId::DEFAULT, commands: Vec::new() };
        view.apply(Term(1), LogIndex(1), &ahead);
        assert_eq!(clock.wall(), Timestamp(4_600_000));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(clock.wall(), Timestamp(4_610_000), "it does not wait an hour for the wall");
        wall.set_off(9_000_000);
        assert_eq!(clock.wall(), Timestamp(10_010_000), "a wall that is ahead is believed");
    }
}
