//! Reports handlers that block their thread: an `async fn` that computes or blocks for long delays others and cannot be
//! interrupted. Waiting at an `.await` does not block the thread.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use evener_cluster::transport::Clock;
use evener_core::time::Timestamp;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{sync::Notify, time::Instant};

use super::{Delivery, Verdict};
use crate::status::{ActorStatus, StatusBoard};

/// A handler that blocks its thread for longer is reported in status.
pub(super) const BLOCKED_MAX: Duration = Duration::from_secs(1);

/// The number of ended blocks that are remembered.
pub(super) const BLOCKED_KEPT_MAX: usize = 16;

/// The running handlers of one node, and for how long each has blocked its thread. Cheap to clone.
#[derive(Clone)]
pub struct HandlerWatch(Arc<Inner>);

struct Inner {
    started: Instant,
    running: Mutex<RunningHandlers>,
    ended: Mutex<VecDeque<BlockedThread>>,
    some_running: Notify,
}

#[derive(Default)]
struct RunningHandlers {
    next: u64,
    rows: BTreeMap<u64, Arc<RunningHandler>>,
}

struct RunningHandler {
    delivery: Delivery,
    /// When the current poll began, in milliseconds since the start plus one; 0 between polls.
    since: AtomicU64,
    /// The `since` of the block that was last logged.
    logged: AtomicU64,
}

/// A handler that blocks its thread, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockedThread {
    /// Whose.
    pub processor: String,
    /// Which segment.
    pub segment: u32,
    /// With which event.
    pub position: u64,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// For how long.
    pub held_ms: u64,
    /// Whether it still does.
    pub holding: bool,
}

impl fmt::Display for BlockedThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, segment, position, kind, held_ms, holding } = self;
        let holds = if *holding { "has blocked its thread for" } else { "blocked its thread for" };
        write!(f, "the handler of {processor}/{segment} {holds} {held_ms} ms, with event {position} ({kind})")
    }
}

impl Default for HandlerWatch {
    fn default() -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            running: Mutex::default(),
            ended: Mutex::default(),
            some_running: Notify::new(),
        }))
    }
}

impl HandlerWatch {
    /// Returns the handlers that have blocked their thread for longer than `BLOCKED_MAX`: current ones, longest first,
    /// then ended ones, latest first.
    #[must_use]
    pub fn blocked_threads(&self) -> Vec<BlockedThread> {
        let now = self.now();
        let rows: Vec<Arc<RunningHandler>> = self.0.running.lock().rows.values().cloned().collect();
        let mut held: Vec<BlockedThread> = rows.iter().filter_map(|row| row.blocked(now)).collect();
        held.sort_by_key(|held| std::cmp::Reverse(held.held_ms));
        held.extend(self.0.ended.lock().iter().rev().cloned());
        held
    }

    /// Publishes blocked threads on the status board and logs each once. Never returns; runs on other threads than the
    /// handlers' and sleeps while no handler runs.
    pub async fn watch(self, board: StatusBoard, clock: Arc<dyn Clock>) {
        let mut published = self.row(clock.wall());
        board.publish(published.clone());
        loop {
            let some = self.0.some_running.notified();
            if published.queue == 0 && self.0.running.lock().rows.is_empty() {
                some.await;
            }
            tokio::time::sleep(BLOCKED_MAX).await;
            self.log_new();
            let row = self.row(clock.wall());
            let since = if row.phase == published.phase { published.since } else { row.since };
            let row = ActorStatus { since, ..row };
            if row != published {
                published = row;
                board.publish(published.clone());
            }
        }
    }

    /// Returns the status row of all handlers together.
    fn row(&self, since: Timestamp) -> ActorStatus {
        let held = self.blocked_threads();
        let holding = held.first().is_some_and(|held| held.holding);
        ActorStatus {
            name: "handlers".into(),
            kind: "handlers".into(),
            phase: if holding { "held" } else { "free" }.into(),
            parent: Some("node".into()),
            queue: self.0.running.lock().rows.len() as u64,
            restarts: 0,
            last_error: held.first().map(ToString::to_string),
            since,
        }
    }

    fn log_new(&self) {
        let now = self.now();
        let rows: Vec<Arc<RunningHandler>> = self.0.running.lock().rows.values().cloned().collect();
        for row in rows {
            let since = row.since.load(Relaxed);
            if let Some(held) = row.blocked(now)
                && row.logged.swap(since, Relaxed) != since
            {
                tracing::warn!("{held}; give it to `.on_blocking(…)`, or add an await");
            }
        }
    }

    /// Wraps the handling of a delivery so that its polls are timed.
    pub(super) fn watched(
        &self,
        delivery: Delivery,
        handling: impl Future<Output = Verdict> + Send + 'static,
    ) -> Watched {
        let row = Arc::new(RunningHandler { delivery, since: AtomicU64::new(0), logged: AtomicU64::new(0) });
        let mut table = self.0.running.lock();
        let number = table.next;
        table.next += 1;
        table.rows.insert(number, row.clone());
        drop(table);
        self.0.some_running.notify_one();
        Watched { handling: Box::pin(handling), watch: self.clone(), row, number }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn remember(&self, held: BlockedThread) {
        let mut ended = self.0.ended.lock();
        if ended.len() == BLOCKED_KEPT_MAX {
            ended.pop_front();
        }
        ended.push_back(BlockedThread { holding: false, ..held });
    }
}

impl RunningHandler {
    fn blocked(&self, now: u64) -> Option<BlockedThread> {
        let since = self.since.load(Relaxed).checked_sub(1)?;
        let held_ms = now.saturating_sub(since);
        let Delivery { processor, segment, stored, .. } = &self.delivery;
        (u128::from(held_ms) > BLOCKED_MAX.as_millis()).then(|| BlockedThread {
            processor: processor.to_string(),
            segment: segment.0,
            position: stored.position.0,
            kind: stored.event.kind.clone(),
            held_ms,
            holding: true,
        })
    }
}

/// A handler future whose polls are timed.
pub(super) struct Watched {
    handling: BoxFuture<'static, Verdict>,
    watch: HandlerWatch,
    row: Arc<RunningHandler>,
    number: u64,
}

impl Future for Watched {
    type Output = Verdict;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        self.row.since.store(self.watch.now() + 1, Relaxed);
        let polled = self.handling.as_mut().poll(cx);
        let held = self.row.blocked(self.watch.now());
        self.row.since.store(0, Relaxed);
        if let Some(held) = held {
            self.watch.remember(held);
        }
        polled
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.0.running.lock().rows.remove(&self.number);
    }
}
