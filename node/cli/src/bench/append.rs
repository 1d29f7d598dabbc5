//! One result line: a number of writers, each with one append in flight.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use evener_core::{
    append,
    criteria::{Criteria, Criterion},
    event::{DataKind, Event},
};
use hdrhistogram::Histogram;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;

use super::{Baseline, Options};
use crate::harness::{IdleTime, Nodes, cpu_seconds};
use evener::{
    client::{Client, Line},
    engine::Read,
};

/// How long the load runs before the measurement starts.
const WARM_UP: Duration = Duration::from_millis(500);

/// The measurements of one line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// Server processes.
    pub nodes: usize,
    /// Writers, each with one append in flight.
    pub writers: usize,
    /// Events per append.
    pub batch: usize,
    /// Events acknowledged after a quorum had synced them, per second.
    pub events_per_s: f64,
    /// Appends per second, relative to the disk's `fdatasync` rate in the same run.
    pub appends_per_fdatasync: f64,
    /// The median latency of an append.
    pub p50_us: u64,
    /// The 99th percentile of the latency.
    pub p99_us: u64,
    /// Processor time of all processes, including the load generator, per million events.
    pub cpu_s_per_million: f64,
    /// The fraction of processor time that was idle.
    pub idle_share: f64,
    /// Events acknowledged, including the warm-up.
    pub acked: u64,
    /// Events that were read back.
    pub stored: u64,
}

/// Measures one line.
pub(super) async fn measure(
    options: &Options,
    nodes: &Nodes,
    count: usize,
    writers: usize,
    batch: usize,
    baseline: &Baseline,
) -> Result<Row, String> {
    let client = Client::connect(&nodes.urls()).map_err(|error| error.to_string())?;
    let kind: Arc<str> = format!("bench.{writers}.{batch}.v1").into();
    let acked = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let (from, until) = (start + WARM_UP, start + WARM_UP + options.time);
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let writer = Writer { client: client.clone(), nth: writer, batch, bytes: options.bytes, kind: kind.clone() };
        tasks.spawn(write(writer, acked.clone(), from, until));
    }
    tokio::time::sleep_until(from).await;
    let mut processes = nodes.process_ids();
    processes.push(std::process::id());
    let (idle, cpu) = (IdleTime::start(), cpu_seconds(&processes));
    tokio::time::sleep_until(until).await;
    let (idle_share, cpu) = (idle.fraction(), cpu_seconds(&processes) - cpu);
    let mut times = Histogram::<u64>::new_with_max(super::TIME_US_MAX, 3).map_err(|error| error.to_string())?;
    while let Some(ended) = tasks.join_next().await {
        let writer_times = ended.map_err(|error| error.to_string())??;
        times.add(writer_times).map_err(|error| error.to_string())?;
    }
    let acked = acked.load(Relaxed);
    let stored = count_stored(&client, &kind).await?;
    if stored < acked {
        return Err(format!("{acked} events were acknowledged, but only {stored} are stored"));
    }
    let appends = times.len() as f64 / options.time.as_secs_f64();
    let events = appends * batch as f64;
    Ok(Row {
        nodes: count,
        writers,
        batch,
        events_per_s: events.round(),
        appends_per_fdatasync: (appends / baseline.fdatasync_per_s * 100.0).round() / 100.0,
        p50_us: times.value_at_quantile(0.5),
        p99_us: times.value_at_quantile(0.99),
        cpu_s_per_million: (cpu / (events * options.time.as_secs_f64()).max(1.0) * 1e6 * 10.0).round() / 10.0,
        idle_share: (idle_share * 1_000.0).round() / 1_000.0,
        acked,
        stored,
    })
}

struct Writer {
    client: Client,
    nth: usize,
    batch: usize,
    bytes: usize,
    kind: Arc<str>,
}

/// Appends until `until`; returns the latencies of the appends within the measured time.
async fn write(writer: Writer, acked: Arc<AtomicU64>, from: Instant, until: Instant) -> Result<Histogram<u64>, String> {
    let Writer { client, nth, batch, bytes, kind } = writer;
    let mut rng = SmallRng::seed_from_u64(nth as u64);
    let mut times = Histogram::<u64>::new_with_max(super::TIME_US_MAX, 3).map_err(|error| error.to_string())?;
    while Instant::now() < until {
        let events = (0..batch).map(|_| {
            let mut data = vec![0; bytes];
            rng.fill(&mut data[..]);
            event(&kind, nth, data)
        });
        let request =
            append::Request { request: Uuid::new_v4(), events: events.collect(), ..append::Request::default() };
        let at = Instant::now();
        client.append(&request).await.map_err(|error| format!("an append failed: {error}"))?;
        acked.fetch_add(batch as u64, Relaxed);
        let now = Instant::now();
        if at >= from && now <= until {
            times.saturating_record(u64::try_from((now - at).as_micros()).unwrap_or(u64::MAX));
        }
    }
    Ok(times)
}

fn event(kind: &str, writer: usize, data: Vec<u8>) -> Event {
    Event {
        id: Uuid::new_v4(),
        source: "evener/bench".into(),
        kind: kind.into(),
        stream: Some(format!("writer-{writer}")),
        content_type: Some("application/octet-stream".into()),
        data_kind: DataKind::Binary,
        data,
        ..Event::default()
    }
}

async fn count_stored(client: &Client, kind: &str) -> Result<u64, String> {
    let criteria = Criteria(vec![Criterion { types: vec![kind.into()], tags: vec![] }]);
    let mut reading = client.read(Read { criteria, ..Read::default() });
    let mut stored = 0;
    while let Some(line) =
        reading.next().await.map_err(|error| format!("the events could not be read back: {error}"))?
    {
        stored += u64::from(matches!(line, Line::Event(..)));
    }
    Ok(stored)
}
