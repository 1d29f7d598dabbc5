//! What this node counts and measures, as Prometheus reads it. The registry is a value: several nodes live in
//! one process.

mod exposition;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use crate::log_writer;

pub use exposition::Form;

/// A gauge with a fraction.
pub type FloatGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Which route, and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The path, with `{name}` for what varies.
    pub route: String,
    /// The HTTP status.
    pub status: u16,
}

/// Which route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// The path, with `{name}` for what varies.
    pub route: String,
}

/// Which processor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProcessorLabels {
    /// Its name.
    pub processor: String,
}

/// Which processor, and how its handler answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VerdictLabels {
    /// Its name.
    pub processor: String,
    /// `retry`, `set-aside` or `skip`.
    pub verdict: &'static str,
}

/// Which limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabels {
    /// `letters_max` or `sequences_max`.
    pub limit: &'static str,
}

/// Which segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SegmentLabels {
    /// Of which processor.
    pub processor: String,
    /// Its number.
    pub segment: u32,
}

/// Everything that is counted and measured. A clone counts into the same.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    /// Requests answered.
    pub requests: Family<RequestLabels, Counter>,
    /// How long that took.
    pub request_time: Family<RouteLabels, Histogram, fn() -> Histogram>,
    /// Events that this node took and the cluster stored.
    pub appended: Counter,
    /// Appends that were refused.
    pub refused: Counter,
    /// How long an append took until it was durable and judged.
    pub append_time: Histogram,
    /// The position of the next event.
    pub head: Gauge,
    /// The last Raft index applied here.
    pub applied: Gauge,
    /// The last Raft index synced to this node's disk.
    pub durable: Gauge,
    /// Bytes that are free on the disk.
    pub disk_free: Gauge,
    /// Bytes that the log takes on the disk.
    pub log_bytes: Gauge,
    /// Bytes below which appends are refused.
    pub disk_reserve: Gauge,
    /// One while appends are refused for lack of space.
    pub disk_refuses: Gauge,
    /// The Raft term.
    pub term: Gauge,
    /// One on the leader.
    pub leader: Gauge,
    /// By how much this node's clock is ahead of the majority's.
    pub clock_ahead: FloatGauge,
    /// By how much the log's time is ahead of the majority's clock.
    pub log_ahead: FloatGauge,
    /// Events still to be handled.
    pub lag_events: Family<SegmentLabels, Gauge>,
    /// How long the oldest of them has waited.
    pub lag_time: Family<SegmentLabels, FloatGauge>,
    /// Segments that this node owns.
    pub owned: Family<ProcessorLabels, Gauge>,
    /// Segments without an owner.
    pub unowned: Family<ProcessorLabels, Gauge>,
    /// Segments that are stalled until an operator acts.
    pub stalled: Family<ProcessorLabels, Gauge>,
    /// Sequences set aside.
    pub set_aside: Family<ProcessorLabels, Gauge>,
    /// Sequences that wait for an operator.
    pub dead: Family<ProcessorLabels, Gauge>,
    /// Events skipped, ever.
    pub skipped: Family<ProcessorLabels, Gauge>,
    /// Letters.
    pub letters: Family<ProcessorLabels, Gauge>,
    /// Letters of the sequence that has the most.
    pub letters_fullest: Family<ProcessorLabels, Gauge>,
    /// Limits of what may be set aside.
    pub limits: Family<LimitLabels, Gauge>,
    /// Events that handlers of this node finished.
    pub handled: Family<ProcessorLabels, Counter>,
    /// How long handlers of this node took for a try.
    pub handler_time: Family<ProcessorLabels, Histogram, fn() -> Histogram>,
    /// Connections of clients.
    pub connections: Gauge,
    /// Tries that failed on this node.
    pub failures: Family<VerdictLabels, Counter>,
    /// Log lines that this process dropped.
    pub log_lines_dropped: Counter,
    /// From the loss of a segment's owner until this node, the next one, has taken it up.
    pub takeover: Histogram,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What handlers of one processor come to on this node.
#[derive(Clone, Debug)]
pub struct HandlerMetrics {
    processor: String,
    handled: Counter,
    time: Histogram,
    failures: Family<VerdictLabels, Counter>,
}

impl HandlerMetrics {
    /// An event is finished.
    pub fn handled(&self) {
        self.handled.inc();
    }

    /// A try took so long.
    pub fn observe(&self, time: Duration) {
        self.time.observe(time.as_secs_f64());
    }

    /// A try ended with this verdict.
    pub fn failed(&self, verdict: &'static str) {
        self.failures.get_or_create(&VerdictLabels { processor: self.processor.clone(), verdict }).inc();
    }
}

fn short_histogram() -> Histogram {
    // 0.25 ms to 8 s: from a sync of a fast disk to the patience of a client.
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

fn long_histogram() -> Histogram {
    // 0.5 ms to 64 s: from a handler in memory to twice the time that a handler program has.
    Histogram::new(exponential_buckets(0.000_5, 2.0, 18))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            registry: Arc::default(),
            requests: Family::default(),
            request_time: Family::new_with_constructor(short_histogram),
            appended: Counter::default(),
            refused: Counter::default(),
            append_time: short_histogram(),
            head: Gauge::default(),
            applied: Gauge::default(),
            durable: Gauge::default(),
            disk_free: Gauge::default(),
            log_bytes: Gauge::default(),
            disk_reserve: Gauge::default(),
            disk_refuses: Gauge::default(),
            term: Gauge::default(),
            leader: Gauge::default(),
            clock_ahead: FloatGauge::default(),
            log_ahead: FloatGauge::default(),
            lag_events: Family::default(),
            lag_time: Family::default(),
            owned: Family::default(),
            unowned: Family::default(),
            stalled: Family::default(),
            set_aside: Family::default(),
            dead: Family::default(),
            skipped: Family::default(),
            letters: Family::default(),
            letters_fullest: Family::default(),
            limits: Family::default(),
            handled: Family::default(),
            handler_time: Family::new_with_constructor(long_histogram),
            connections: Gauge::default(),
            failures: Family::default(),
            log_lines_dropped: Counter::default(),
            takeover: short_histogram(),
        }
        .registered()
    }
}

impl Metrics {
    fn registered(self) -> Self {
        let registry = self.registry.clone();
        let mut registry = registry.lock();
        let all = registry.sub_registry_with_prefix("evener");
        all.register("http_requests", "requests answered", self.requests.clone());
        let time = "from the head of a request to the head of its answer";
        all.register_with_unit("http_request", time, Unit::Seconds, self.request_time.clone());
        all.register("events_appended", "events that this node accepted and the cluster stored", self.appended.clone());
        all.register("appends_refused", "appends that were refused", self.refused.clone());
        let time = "from the arrival of an append to its answer";
        all.register_with_unit("append", time, Unit::Seconds, self.append_time.clone());
        all.register("head", "position of the next event", self.head.clone());
        all.register("applied_index", "last Raft index applied here", self.applied.clone());
        all.register("durable_index", "last Raft index synced to this node's disk", self.durable.clone());
        let free = "free bytes on the disk of the data directory";
        all.register_with_unit("disk_free", free, Unit::Bytes, self.disk_free.clone());
        let log = "bytes of the log on disk";
        all.register_with_unit("log", log, Unit::Bytes, self.log_bytes.clone());
        let reserve = "bytes below which appends are refused";
        all.register_with_unit("disk_reserve", reserve, Unit::Bytes, self.disk_reserve.clone());
        let refuses = "one while appends are refused because a disk has too little space, else zero";
        all.register("disk_appends_refused", refuses, self.disk_refuses.clone());
        all.register("term", "Raft term", self.term.clone());
        all.register("leader", "one on the leader, else zero", self.leader.clone());
        let time = "by how much this node's clock is ahead of the majority's; zero if unknown";
        all.register_with_unit("clock_ahead", time, Unit::Seconds, self.clock_ahead.clone());
        let time = "by how much the log's time is ahead of the majority's clock";
        all.register_with_unit("log_ahead", time, Unit::Seconds, self.log_ahead.clone());
        all.register("segment_lag_events", "events still to be handled", self.lag_events.clone());
        let time = "age of the oldest event still to be handled";
        all.register_with_unit("segment_lag", time, Unit::Seconds, self.lag_time.clone());
        all.register("segments_owned", "segments that this node owns", self.owned.clone());
        all.register("segments_unowned", "segments without an owner", self.unowned.clone());
        let stalled = "segments stalled until an operator acts: at a failing event (on_error: stop) or a limit";
        all.register("segments_stalled", stalled, self.stalled.clone());
        all.register("sequences_set_aside", "sequences set aside", self.set_aside.clone());
        all.register("sequences_dead", "sequences that wait for an operator", self.dead.clone());
        let skipped = "events that a handler, on_error or an operator skipped since the processor was created";
        all.register("events_skipped", skipped, self.skipped.clone());
        all.register("letters", "events that wait in sequences set aside", self.letters.clone());
        let fullest = "letters of the sequence with the most letters; at letters_max its segment stalls";
        all.register("letters_fullest", fullest, self.letters_fullest.clone());
        all.register("limit", "limits of what a processor may set aside", self.limits.clone());
        all.register("events_handled", "events that handlers of this node finished", self.handled.clone());
        let time = "duration of an attempt at an event by a handler of this node, whatever its outcome";
        all.register_with_unit("handler", time, Unit::Seconds, self.handler_time.clone());
        all.register("http_connections", "open connections of clients", self.connections.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        all.register("build", "the version of this program", build);
        let tries = "failed attempts at an event by handlers of this node, by verdict";
        all.register("handler_failures", tries, self.failures.clone());
        let lines = "log lines that this process dropped because stderr was not read fast enough";
        all.register("log_lines_dropped", lines, self.log_lines_dropped.clone());
        let time = "from when the owner of a segment was missed (its socket closed, or else a lease before its session \
                    ended) until this node had taken the segment up";
        all.register_with_unit("takeover", time, Unit::Seconds, self.takeover.clone());
        drop(registry);
        self
    }

    /// Forgets what was measured of processors and segments, so that those deleted are not shown for ever.
    pub fn clear_processors(&self) {
        self.lag_events.clear();
        self.lag_time.clear();
        let families = [&self.owned, &self.unowned, &self.stalled, &self.set_aside, &self.dead];
        for family in families.into_iter().chain([&self.skipped, &self.letters, &self.letters_fullest]) {
            family.clear();
        }
    }

    /// What handlers of this processor come to here; from zero on, so that the first event shows as one more.
    #[must_use]
    pub fn handler_metrics(&self, processor: &str) -> HandlerMetrics {
        let processor = processor.to_owned();
        let handled = self.handled.get_or_create_owned(&ProcessorLabels { processor: processor.clone() });
        let time = self.handler_time.get_or_create_owned(&ProcessorLabels { processor: processor.clone() });
        HandlerMetrics { processor, handled, time, failures: self.failures.clone() }
    }

    /// The text that Prometheus reads, as OpenMetrics.
    #[must_use]
    pub fn text(&self) -> String {
        self.log_lines_dropped.inner().store(log_writer::dropped(), Relaxed);
        let mut text = String::new();
        encode(&mut text, &self.registry.lock()).expect("a String takes all text");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_units_and_two_nodes_count_apart() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.appended.inc_by(3);
        one.lag_time.get_or_create(&SegmentLabels { processor: "p".into(), segment: 4 }).set(0.5);
        one.takeover.observe(0.2);
        let text = one.text();
        assert!(text.contains("evener_events_appended_total 3"), "{text}");
        assert!(text.contains(r#"evener_segment_lag_seconds{processor="p",segment="4"} 0.5"#), "{text}");
        assert!(text.contains("evener_takeover_seconds_count 1"), "{text}");
        assert!(other.text().contains("evener_events_appended_total 0"));
        assert!(text.contains(concat!("evener_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")), "{text}");
        one.clear_processors();
        assert!(!one.text().contains(r#"segment="4""#));
    }

    #[test]
    fn each_family_tells_what_it_is_and_labels_are_escaped() {
        let metrics = Metrics::default();
        metrics.handler_metrics("a\"b\\c").observe(Duration::from_millis(3));
        let text = Form::Text.of(metrics.text());
        assert!(text.contains(r#"evener_handler_seconds_count{processor="a\"b\\c"} 1"#), "{text}");
        for sample in text.lines().filter(|line| !line.starts_with('#')) {
            let name = sample.split(['{', ' ']).next().unwrap();
            let endings = ["", "_bucket", "_sum", "_count"];
            let described = endings.iter().filter_map(|ending| name.strip_suffix(ending));
            let described = described.filter(|name| {
                let (help, kind) = (format!("# HELP {name} "), format!("# TYPE {name} "));
                text.contains(&help) && text.contains(&kind)
            });
            assert!(described.count() > 0, "{name} has no HELP or no TYPE");
        }
    }
}
