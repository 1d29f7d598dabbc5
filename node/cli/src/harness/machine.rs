//! How idle the machine is: what makes absolute times worth something.

/// The processors' counters at a beginning.
pub struct IdleTime(Option<(u64, u64)>);

impl IdleTime {
    /// From now on.
    #[must_use]
    pub fn start() -> Self {
        Self(read_ticks())
    }

    /// The share of all processors' time that was idle since, from 0 to 1; 0 where the system does not tell.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        let (Some((idle, total)), Some((idle_now, total_now))) = (self.0, read_ticks()) else { return 0.0 };
        let (idle, total) = (idle_now.saturating_sub(idle), total_now.saturating_sub(total).max(1));
        idle as f64 / total as f64
    }
}

/// IdleTime and all ticks of all processors together.
fn read_ticks() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).filter_map(|tick| tick.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((idle, ticks.iter().take(8).sum()))
}

/// Seconds of processor time that these processes have used so far, all together.
#[must_use]
pub fn cpu_seconds(processes: &[u32]) -> f64 {
    // Fields 14 and 15 of /proc/PID/stat, in ticks of 1/100 s on every Linux; the name before them may have spaces.
    let ticks = |process: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let fields = text.rsplit_once(')')?.1.split_whitespace().collect::<Vec<_>>();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    processes.iter().filter_map(ticks).sum::<u64>() as f64 / 100.0
}
