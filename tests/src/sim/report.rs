//! The result of a run.

use std::{collections::BTreeMap, time::Duration};

use super::plan::{FaultKind, Plan};
use crate::oracle::Violation;

/// The minimum rate of acknowledgements in a valid run.
const ACKNOWLEDGED_PER_SECOND_MIN: u64 = 10;
/// A valid run has at least one effective fault per this many seconds.
const SECONDS_PER_EFFECTIVE_FAULT_MAX: u64 = 10;

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The plan of the run.
    pub plan: Plan,
    /// The violations of promises.
    pub violations: Vec<Violation>,
    /// The number of acknowledged appends.
    pub acknowledged: u64,
    /// The number of events in the log at the end.
    pub events: u64,
    /// The number of handled events, counted per processor.
    pub handled: u64,
    /// The number of faults that took effect, by kind.
    pub effective_faults: BTreeMap<FaultKind, u64>,
    /// The virtual time of the run.
    pub virtual_time: Duration,
    /// The number of lines in the trace, and their hash.
    pub trace: (u64, u64),
}

/// The verdict on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise held under faults and load.
    Held,
    /// A promise was broken.
    Broken,
    /// The run proves nothing: too few faults took effect, or too few appends were acknowledged.
    Invalid,
}

impl Report {
    /// Returns the verdict.
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

    /// Returns the command that repeats the run.
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
            "seed {} {:?}: {} acknowledged, {} events, {} handled in {:.0} virtual s; effective faults: {}; \
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
            writeln!(f, "  repeat: {}", self.command())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_too_little_load_or_faults_is_invalid_and_one_with_a_violation_is_broken() {
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
