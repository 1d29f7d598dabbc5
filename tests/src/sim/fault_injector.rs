//! Injects the faults of a run as its plan says, and counts those that took effect.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use evener_cluster::{
    Config,
    sim_wire::{Settings, SimNet},
};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::{
    handlers::HandlerContext,
    machine::Machine,
    plan::{FaultKind, Plan},
    sim_rng::SimRng,
    trace::Trace,
};

/// The factor by which a slow wire or disk takes longer.
const SLOW_FACTOR: u32 = 50;

/// The machines and the network that faults are injected into.
#[derive(Clone)]
pub struct FaultInjector {
    /// The machines of the run.
    pub machines: Vec<Arc<Machine>>,
    /// Their network.
    pub net: SimNet,
    /// The trace of the run.
    pub trace: Trace,
    /// The configuration of every process.
    pub config: Config,
    /// The state that all handlers share.
    pub handler_context: HandlerContext,
    /// The number of faults that took effect, by kind.
    pub effective_faults: Arc<Mutex<BTreeMap<FaultKind, u64>>>,
    /// The reasons why processes did not start.
    pub failures: Arc<Mutex<Vec<String>>>,
}

impl FaultInjector {
    /// Injects one fault after another until the plan's time is over, then ends them all.
    pub async fn run(&self, plan: &Plan) {
        let mut rng = SimRng::new(plan.seed).derive("faults");
        let end = self.trace.now() + plan.safety;
        while self.trace.now() < end {
            let pause = rng.time(Duration::from_millis(500), plan.pause_max);
            sleep(pause.min(end.saturating_sub(self.trace.now()))).await;
            let kind = rng.pick(&plan.kinds);
            let duration = rng.time(Duration::from_millis(100), plan.fault_max);
            let duration = duration.min(end.saturating_sub(self.trace.now()));
            if !duration.is_zero() {
                self.inject(kind, duration, &mut rng).await;
            }
        }
        self.end_all();
    }

    /// Ends all faults and starts the processes that are down.
    pub fn end_all(&self) {
        self.trace.record("all faults end");
        for machine in &self.machines {
            machine.slow_disk(1);
            machine.repair_disk();
            if !machine.is_leaving() {
                self.start(machine);
            }
        }
    }

    async fn inject(&self, kind: FaultKind, duration: Duration, rng: &mut SimRng) {
        let target = rng.pick(&self.machines);
        self.trace.record(format_args!("{kind:?} of {} for {duration:?}", target.name));
        let took_effect = match kind {
            FaultKind::PowerCut => self.take_down(&[target], duration, Machine::cut_power).await,
            FaultKind::Kill => self.take_down(&[target], duration, Machine::kill).await,
            FaultKind::Blackout => self.take_down(&self.machines.clone(), duration, Machine::cut_power).await,
            FaultKind::Isolate => self.isolate(&target, &[true, false], duration).await,
            FaultKind::OneWay => self.isolate(&target, &[rng.once_in(2)], duration).await,
            FaultKind::SlowWire => {
                let Settings { latency_min, latency_max, .. } = Settings::seeded(0);
                self.net.set_latency(latency_min * SLOW_FACTOR, latency_max * SLOW_FACTOR);
                sleep(duration).await;
                self.net.set_latency(latency_min, latency_max);
                true
            }
            FaultKind::BrokenDisk => self.broken_disk(&target, duration, rng.between(0, 50)).await,
            FaultKind::ClockJump => {
                let minutes = i64::try_from(rng.between(1, 20)).expect("a small number");
                target.jump_clock(if rng.once_in(2) { minutes } else { -minutes } * 60_000);
                sleep(duration).await;
                target.jump_clock(0);
                target.process().is_some()
            }
            FaultKind::SlowDisk => {
                target.slow_disk(u64::from(SLOW_FACTOR));
                sleep(duration).await;
                target.slow_disk(1);
                target.process().is_some()
            }
        };
        if took_effect {
            *self.effective_faults.lock().entry(kind).or_default() += 1;
        }
    }

    /// Drops the messages between a machine and all others: those that it sends (`true`), those that it receives
    /// (`false`). Returns whether the machine and another one were up, and thus affected.
    async fn isolate(&self, target: &Machine, sending: &[bool], duration: Duration) -> bool {
        let others = || self.machines.iter().filter(|other| other.name != target.name);
        let pairs = || {
            let both = others().flat_map(|other| sending.iter().map(move |sending| (*sending, other)));
            both.map(|(sending, other)| if sending { (&target.name, &other.name) } else { (&other.name, &target.name) })
        };
        let took_effect = target.process().is_some() && others().any(|other| other.process().is_some());
        pairs().for_each(|(from, to)| self.net.block(from, to));
        sleep(duration).await;
        pairs().for_each(|(from, to)| self.net.unblock(from, to));
        took_effect
    }

    /// Makes a write or sync fail. After that the node does not know what is stored, so it must stop by itself; then
    /// it is started again.
    async fn broken_disk(&self, target: &Arc<Machine>, duration: Duration, after: u64) -> bool {
        let Some(process) = target.process() else { return false };
        target.break_disk(after);
        let mut stopped = process.cluster.stopped();
        let took_effect = timeout(duration, stopped.wait_for(Option::is_some)).await.is_ok();
        target.repair_disk();
        if took_effect {
            self.take_down(std::slice::from_ref(target), duration, Machine::kill).await;
        }
        took_effect
    }

    async fn take_down(&self, targets: &[Arc<Machine>], duration: Duration, how: fn(&Machine) -> bool) -> bool {
        let mut took_effect = false;
        for target in targets {
            took_effect |= how(target);
        }
        sleep(duration).await;
        for target in targets {
            self.start(target);
        }
        took_effect
    }

    /// Starts the process of a machine, unless it runs. It is up once the other nodes have admitted it.
    pub fn start(&self, machine: &Arc<Machine>) {
        let (machine, injector) = (machine.clone(), self.clone());
        tokio::spawn(async move {
            if let Err(why) = machine.start(injector.config.clone(), &injector.handler_context).await {
                injector.trace.record(&why);
                if !machine.is_leaving() {
                    injector.failures.lock().push(why);
                }
            }
        });
    }
}
