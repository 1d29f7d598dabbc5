//! The report that the demo prints at its end.

use serde::Serialize;

use super::{
    checker::{CheckResult, check},
    observer::Observed,
    records::Records,
};

/// The JSON object of a headless run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) acked: u64,
    pub(crate) stored: u64,
    pub(crate) handled: u64,
    pub(crate) lost: u64,
    pub(crate) stored_twice: u64,
    pub(crate) redelivered: u64,
    pub(crate) out_of_order: u64,
    pub(crate) moves: u64,
    pub(crate) spread_max: u64,
    pub(crate) takeover_ms: Spread,
    pub(crate) append_gap_ms: Spread,
    pub(crate) events_per_s: f64,
    pub(crate) idle_share: f64,
    pub(crate) kills: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) broken: Vec<String>,
}

/// The median and the maximum.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) p50: u64,
    pub(crate) max: u64,
}

impl Spread {
    fn of(mut all: Vec<u64>) -> Self {
        all.sort_unstable();
        Self { p50: all.get(all.len() / 2).copied().unwrap_or(0), max: all.last().copied().unwrap_or(0) }
    }
}

impl Report {
    /// Checks the records, and adds the observations.
    #[must_use]
    pub(crate) fn of(records: &Records, observed: &Observed, seconds: f64, idle_share: f64) -> Self {
        let result = check(records);
        let gaps = gaps(records, observed);
        let CheckResult { acked, stored, handled, lost, stored_twice, redelivered, out_of_order, mut broken } = result;
        if observed.spread_max > 1 {
            broken.push(format!(
                "the segments were not evenly distributed after a pause: spread {}",
                observed.spread_max
            ));
        }
        Self {
            acked,
            stored,
            handled,
            lost,
            stored_twice,
            redelivered,
            out_of_order,
            moves: observed.moves,
            spread_max: observed.spread_max,
            takeover_ms: Spread::of(observed.takeovers_ms.clone()),
            append_gap_ms: Spread::of(gaps),
            events_per_s: (acked as f64 / seconds.max(0.001)).round(),
            idle_share: (idle_share * 1_000.0).round() / 1_000.0,
            kills: observed.kills_ms.len(),
            broken,
        }
    }

    /// Returns whether every promise held.
    #[must_use]
    pub(crate) const fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    /// Returns the violations.
    #[must_use]
    pub(crate) fn broken(&self) -> &[String] {
        &self.broken
    }
}

/// Returns the longest time without an acknowledgement after each kill.
fn gaps(records: &Records, observed: &Observed) -> Vec<u64> {
    let mut acks: Vec<u64> = records.acked.iter().map(|acked| acked.at_ms).collect();
    acks.sort_unstable();
    let ends = observed.kills_ms.iter().skip(1).copied().chain([u64::MAX]);
    let after = observed.kills_ms.iter().zip(ends).map(|(kill, end)| {
        let pairs = acks.windows(2).filter(|pair| pair[1] >= *kill && pair[0] < end);
        pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    });
    after.collect()
}
