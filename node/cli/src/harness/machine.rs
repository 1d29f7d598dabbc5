//! How idle the machine is: absolute times mean little on a busy one.

/// A measurement of idle time since a start.
pub(crate) struct IdleTime(Option<(u64, u64)>);

impl IdleTime {
    /// Starts a measurement.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self(read_ticks())
    }

    /// Returns the fraction of all processors' time that was idle since the start, from 0 to 1; 0 if the system does
    /// not report it.
    #[must_use]
    pub(crate) fn fraction(&self) -> f64 {
        let (Some((idle, total)), Some((idle_now, total_now))) = (self.0, read_ticks()) else { return 0.0 };
        let (idle, total) = (idle_now.saturating_sub(idle), total_now.saturating_sub(total).max(1));
        idle as f64 / total as f64
    }
}

/// Returns the idle ticks and all ticks, summed over the processors.
fn read_ticks() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).filter_map(|tick| tick.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((idle, ticks.iter().take(8).sum()))
}

/// Returns the seconds of processor time that these processes have used so far, in total.
#[must_use]
pub(crate) fn cpu_seconds(processes: &[u32]) -> f64 {
    // Fields 14 and 15 of /proc/PID/stat, in ticks of 1/100 s on every Linux; the name before them may have spaces.
    let ticks = |process: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let fields = text.rsplit_once(')')?.1.split_whitespace().collect::<Vec<_>>();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    processes.iter().filter_map(ticks).sum::<u64>() as f64 / 100.0
}
