//! Names handlers that hold their thread: an `async fn` that computes or blocks for long keeps others waiting,
//! and cannot be interrupted. Waiting at an `.await` is no holding.

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

/// A handler that holds its thread for longer is named in status.
pub const HOLD_MAX: Duration = Duration::from_secs(1);

/// Ended holds that are remembered.
pub const HELD_KEPT_MAX: usize = 16;

/// What handlers on one node hold their threads. Cheap to clone.
#[derive(Clone)]
pub struct HandlerWatch(Arc<Inner>);

struct Inner {
    started: Instant,
    running: Mutex<Table>,
    ended: Mutex<VecDeque<Held>>,
    some_running: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    rows: BTreeMap<u64, Arc<Row>>,
}

struct Row {
    delivery: Delivery,
    /// Milliseconds after the start, plus one; 0 while it waits.
    since: AtomicU64,
    /// The hold that was logged: its `since`.
    logged: AtomicU64,
}

/// A handler that holds its thread, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
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

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, segment, position, kind, held_ms, holding } = self;
        let holds = if *holding { "holds its thread since" } else { "held its thread for" };
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
    /// Handlers that hold their thread longer than `HOLD_MAX` now, the longest first, and then those that did,
    /// the latest first.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        let now = self.now();
        let rows: Vec<Arc<Row>> = self.0.running.lock().rows.values().cloned().collect();
        let mut held: Vec<Held> = rows.iter().filter_map(|row| row.held(now)).collect();
        held.sort_by_key(|held| std::cmp::Reverse(held.held_ms));
        held.extend(self.0.ended.lock().iter().rev().cloned());
        held
    }

    /// Tells the board, and once each the log, of handlers that hold their thread, while they do. Runs for ever, on
    /// threads that are not the handlers'; sleeps where no handler runs.
    pub async fn watch(self, board: StatusBoard, clock: Arc<dyn Clock>) {
        let mut told = self.row(clock.wall());
        board.publish(told.clone());
        loop {
            let some = self.0.some_running.notified();
            if told.queue == 0 && self.0.running.lock().rows.is_empty() {
                some.await;
            }
            tokio::time::sleep(HOLD_MAX).await;
            self.log_new();
            let row = self.row(clock.wall());
            let since = if row.phase == told.phase { told.since } else { row.since };
            let row = ActorStatus { since, ..row };
            if row != told {
                told = row;
                board.publish(told.clone());
            }
        }
    }

    /// What the board says of all handlers together.
    fn row(&self, since: Timestamp) -> ActorStatus {
        let held = self.held();
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
        let rows: Vec<Arc<Row>> = self.0.running.lock().rows.values().cloned().collect();
        for row in rows {
            let since = row.since.load(Relaxed);
            if let Some(held) = row.held(now)
                && row.logged.swap(since, Relaxed) != since
            {
                tracing::warn!("{held}; give it to `.on_blocking(…)`, or let it await");
            }
        }
    }

    /// Watches over the handling of a delivery.
    pub(super) fn watched(
        &self,
        delivery: Delivery,
        handling: impl Future<Output = Verdict> + Send + 'static,
    ) -> Watched {
        let row = Arc::new(Row { delivery, since: AtomicU64::new(0), logged: AtomicU64::new(0) });
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

    fn ended(&self, held: Held) {
        let mut ended = self.0.ended.lock();
        if ended.len() == HELD_KEPT_MAX {
            ended.pop_front();
        }
        ended.push_back(Held { holding: false, ..held });
    }
}

impl Row {
    fn held(&self, now: u64) -> Option<Held> {
        let since = self.since.load(Relaxed).checked_sub(1)?;
        let held_ms = now.saturating_sub(since);
        let Delivery { processor, segment, stored, .. } = &self.delivery;
        (u128::from(held_ms) > HOLD_MAX.as_millis()).then(|| Held {
            processor: processor.to_string(),
            segment: segment.0,
            position: stored.position.0,
            kind: stored.event.kind.clone(),
            held_ms,
            holding: true,
        })
    }
}

/// A handling that is watched.
pub(super) struct Watched {
    handling: BoxFuture<'static, Verdict>,
    watch: HandlerWatch,
    row: Arc<Row>,
    number: u64,
}

impl Future for Watched {
    type Output = Verdict;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        self.row.since.store(self.watch.now() + 1, Relaxed);
        let polled = self.handling.as_mut().poll(cx);
        let held = self.row.held(self.watch.now());
        self.row.since.store(0, Relaxed);
        if let Some(held) = held {
            self.watch.ended(held);
        }
        polled
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.0.running.lock().rows.remove(&self.number);
    }
}
