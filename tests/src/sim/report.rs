//! What came of a run.

use std::{collections::BTreeMap, time::Duration};

use super::plan::{FaultKind, Plan};
use crate::oracle::Violation;

/// An acknowledgement each tenth of a second is the least that a run must have had.
const ACKNOWLEDGED_PER_SECOND_MIN: u64 = 10;
/// A fault that bit every ten seconds is the least.
const SECONDS_PER_EFFECTIVE_FAULT_MAX: u64 = 10;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it was.
    pub plan: Plan,
    /// Promises that did not hold.
    pub violations: Vec<Violation>,
    /// Appends that were acknowledged.
    pub acknowledged: u64,
    /// Events in the log at its end.
    pub events: u64,
    /// Events handled by processors.
    pub handled: u64,
    /// Faults that did something to somebody, by kind.
    pub effective_faults: BTreeMap<FaultKind, u64>,
    /// Virtual time that it took.
    pub virtual_time: Duration,
    /// Lines of its trace, and their number.
    pub trace: (u64, u64),
}

/// What a run says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise held, under faults and load.
    Held,
    /// One did not.
    Broken,
    /// Nothing: the faults did not bite, or too little was acknowledged.
    Invalid,
}

impl Report {
    /// What it says.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let seconds = self.plan.safety.as_secs();
        let effective_faults: u64 = self.effective_faults.values().sum();
        if !self.violations.is_empty() {
            Verdict::Broken
        } else if self.acknowledged < seconds * ACKNOWLEDGED_PER_SECOND_MIN
            || effective_faults < seconds / SECONDS_PER_EFFECTIVE_FAULT_MAX
        {
            Verdict::Invalid
        } else {
            Verdict::Held
        }
    }

    /// The line that repeats it.
    #[must_use]
    pub fn command(&self) -> String {
        let (seed, seconds) = (self.plan.seed, self.plan.safety.as_secs());
        format!("cargo run -p evener-tests --bin sim -- --seed {seed} --seconds {seconds} --trace")
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let effective_faults: Vec<_> =
            self.effective_faults.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
        writeln!(
            f,
            "seed {} {:?}: {} acknowledged, {} events, {} handled in {:.0} virtual s; faults that bit: {}; \
             {} lines of trace {:016x}",
            self.plan.seed,
            self.verdict(),
            self.acknowledged,
            self.events,
            self.handled,
            self.virtual_time.as_secs_f64(),
            effective_faults.join(", "),
            self.trace.0,
            self.trace.1,
        )?;
        for violation in self.violations.iter().take(20) {
            writeln!(f, "  {violation}")?;
        }
        if self.verdict() != Verdict::Held {
            writeln!(f, "  again: {}", self.command())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_shows_nothing_is_invalid_and_one_that_breaks_is_broken() {
        let mut report = Report {
            plan: Plan::new(1, Duration::from_secs(60)),
            violations: Vec::new(),
            acknowledged: 600,
            events: 600,
            handled: 0,
            effective_faults: BTreeMap::from([(FaultKind::Kill, 6)]),
            virtual_time: Duration::from_secs(80),
            trace: (1, 1),
        };
        assert_eq!(report.verdict(), Verdict::Held);
        report.acknowledged = 599;
        assert_eq!(report.verdict(), Verdict::Invalid);
        report.acknowledged = 600;
        report.effective_faults = BTreeMap::from([(FaultKind::Kill, 5)]);
        assert_eq!(report.verdict(), Verdict::Invalid);
        report.violations.push(Violation { promise: "P1", what: "x".into() });
        assert_eq!(report.verdict(), Verdict::Broken);
        assert!(report.to_string().contains("--seed 1 --seconds 60"));
    }
}
