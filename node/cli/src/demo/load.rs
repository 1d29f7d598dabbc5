//! The load: writers that each append events to streams of their own, one after the other, and record the
//! acknowledgements.

use std::{sync::Arc, time::Duration};

use evener_core::{
    append,
    event::{DataKind, Event},
};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use uuid::Uuid;

use super::records::Acked;
use evener::client::Client;

/// The number of concurrent writers.
const WRITERS: usize = 16;
/// Streams per writer: the demo's accounts.
const STREAMS: usize = 8;
/// The interval of each writer's appends, if the cluster keeps up: 1,000 events a second in total.
const APPEND_INTERVAL: Duration = Duration::from_millis(16);

/// A running load.
pub(super) struct Load {
    started: Instant,
    end: watch::Sender<bool>,
    acked: Arc<Mutex<Vec<Acked>>>,
    writers: JoinSet<()>,
}

impl Load {
    /// Starts the load. Times are measured from `start`.
    pub(super) fn start(client: &Client, start: Instant) -> Self {
        let (end, ended) = watch::channel(false);
        let acked = Arc::<Mutex<Vec<Acked>>>::default();
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(write(client.clone(), writer, start, acked.clone(), ended.clone()));
        }
        Self { started: Instant::now(), end, acked, writers }
    }

    /// Returns when the load was started.
    pub(super) const fn started(&self) -> Instant {
        self.started
    }

    /// Returns the number of acknowledged events so far, and the time of the last acknowledgement.
    pub(super) fn so_far(&self) -> (usize, u64) {
        let acked = self.acked.lock();
        (acked.len(), acked.last().map_or(0, |acked| acked.at_ms))
    }

    /// Ends the load, and returns the acknowledgements in order.
    pub(super) async fn end(mut self) -> Vec<Acked> {
        self.end.send_replace(true);
        while self.writers.join_next().await.is_some() {}
        std::mem::take(&mut self.acked.lock())
    }
}

async fn write(
    client: Client,
    writer: usize,
    start: Instant,
    acked: Arc<Mutex<Vec<Acked>>>,
    mut ended: watch::Receiver<bool>,
) {
    let mut interval = tokio::time::interval(APPEND_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for nth_append in 0_u64.. {
        tokio::select! {
            _ = interval.tick() => {}
            _ = ended.changed() => return,
        }
        let (nth, number) = (nth_append as usize % STREAMS, nth_append / STREAMS as u64);
        let stream = format!("account-{writer}-{nth}");
        let event = event(&stream, number);
        let id = event.id;
        let request = append::Request { request: Uuid::new_v4(), events: vec![event], ..append::Request::default() };
        // The same append is repeated until it is acknowledged: only then is the next event of the stream sent.
        let position = loop {
            match client.append(&request).await {
                Ok(appended) => break appended.first.0,
                Err(error) if *ended.borrow() => {
                    tracing::info!(%error, "the load ended with an append whose outcome is unknown");
                    return;
                }
                Err(error) => tracing::warn!(%error, "append failed; retrying"),
            }
        };
        let at_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        acked.lock().push(Acked { id, stream, number, position, at_ms });
    }
}

fn event(stream: &str, number: u64) -> Event {
    let data =
        serde_json::json!({ "number": number, "account": stream, "cents": number * 100, "memo": "a demo's deposit" });
    Event {
        id: Uuid::new_v4(),
        source: "evener/demo".into(),
        kind: "account.credited.v1".into(),
        stream: Some(stream.into()),
        tags: vec![format!("account={stream}")],
        data_kind: DataKind::Json,
        data: data.to_string().into_bytes(),
        ..Event::default()
    }
}
