//! The faults of a run: they come and go as its plan says, and it is counted which of them bit.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use evener_cluster::{
    Config,
    sim_wire::{Settings, SimNet},
};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::{
    dice::Dice,
    handlers::Kit,
    machine::Machine,
    plan::{Kind, Plan},
    trace::Trace,
};

/// How many times as long things take on a slow wire or disk.
const SLOW_TIMES: u32 = 50;

/// What faults are done to.
#[derive(Clone)]
pub struct Chaos {
    /// The machines.
    pub machines: Vec<Arc<Machine>>,
    /// Their network.
    pub net: SimNet,
    /// What happens.
    pub trace: Trace,
    /// What a process is started with.
    pub config: Config,
    /// What its handlers are made of.
    pub kit: Kit,
    /// Which faults bit.
    pub bites: Arc<Mutex<BTreeMap<Kind, u64>>>,
    /// Why processes did not start.
    pub failures: Arc<Mutex<Vec<String>>>,
}

impl Chaos {
    /// Lets faults come and go until the plan's time is over, and ends them all.
    pub async fn run(&self, plan: &Plan) {
        let mut dice = Dice::new(plan.seed).of("faults");
        let end = self.trace.now() + plan.safety;
        while self.trace.now() < end {
            let pause = dice.time(Duration::from_millis(500), plan.pause_max);
            sleep(pause.min(end.saturating_sub(self.trace.now()))).await;
            let kind = dice.pick(&plan.kinds);
            let lasts = dice.time(Duration::from_millis(100), plan.fault_max);
            let lasts = lasts.min(end.saturating_sub(self.trace.now()));
            if !lasts.is_zero() {
                self.fault(kind, lasts, &mut dice).await;
            }
        }
        self.end_all();
    }

    /// All is well again from now on.
    pub fn end_all(&self) {
        self.trace.tell("all faults end");
        for machine in &self.machines {
            machine.slow_down(1);
            machine.mend_disk();
            if !machine.is_outcast() {
                self.start(machine);
            }
        }
    }

    async fn fault(&self, kind: Kind, lasts: Duration, dice: &mut Dice) {
        let victim = dice.pick(&self.machines);
        self.trace.tell(format_args!("{kind:?} of {} for {lasts:?}", victim.name));
        let bit = match kind {
            Kind::PowerCut => self.down(&[victim], lasts, Machine::cut_power).await,
            Kind::Kill => self.down(&[victim], lasts, Machine::kill).await,
            Kind::Blackout => self.down(&self.machines.clone(), lasts, Machine::cut_power).await,
            Kind::Isolate => self.cut_off(&victim, &[true, false], lasts).await,
            Kind::OneWay => self.cut_off(&victim, &[dice.once_in(2)], lasts).await,
            Kind::SlowWire => {
                let Settings { latency_min, latency_max, .. } = Settings::seeded(0);
                self.net.set_latency(latency_min * SLOW_TIMES, latency_max * SLOW_TIMES);
                sleep(lasts).await;
                self.net.set_latency(latency_min, latency_max);
                true
            }
            Kind::BrokenDisk => self.broken_disk(&victim, lasts, dice.between(0, 50)).await,
            Kind::ClockJump => {
                let minutes = i64::try_from(dice.between(1, 20)).expect("a small number");
                victim.jump_clock(if dice.once_in(2) { minutes } else { -minutes } * 60_000);
                sleep(lasts).await;
                victim.jump_clock(0);
                victim.process().is_some()
            }
            Kind::SlowDisk => {
                victim.slow_down(u64::from(SLOW_TIMES));
                sleep(lasts).await;
                victim.slow_down(1);
                victim.process().is_some()
            }
        };
        if bit {
            *self.bites.lock().entry(kind).or_default() += 1;
        }
    }

    /// Between the victim and all others nothing passes, of what it says (`true`) or is told (`false`). It bit if
    /// the victim and another were there to miss it.
    async fn cut_off(&self, victim: &Machine, says: &[bool], lasts: Duration) -> bool {
        let others = || self.machines.iter().filter(|other| other.name != victim.name);
        let pairs = || {
            let both = others().flat_map(|other| says.iter().map(move |says| (*says, other)));
            both.map(|(says, other)| if says { (&victim.name, &other.name) } else { (&other.name, &victim.name) })
        };
        let bit = victim.process().is_some() && others().any(|other| other.process().is_some());
        pairs().for_each(|(from, to)| self.net.block(from, to));
        sleep(lasts).await;
        pairs().for_each(|(from, to)| self.net.unblock(from, to));
        bit
    }

    /// Whoever goes on after a failed write or sync believes a lie: the node stops by itself, and is started again.
    async fn broken_disk(&self, victim: &Arc<Machine>, lasts: Duration, after: u64) -> bool {
        let Some(process) = victim.process() else { return false };
        victim.break_disk(after);
        let mut stopped = process.cluster.stopped();
        let bit = timeout(lasts, stopped.wait_for(Option::is_some)).await.is_ok();
        victim.mend_disk();
        if bit {
            self.down(std::slice::from_ref(victim), lasts, Machine::kill).await;
        }
        bit
    }

    async fn down(&self, victims: &[Arc<Machine>], lasts: Duration, how: fn(&Machine) -> bool) -> bool {
        let mut bit = false;
        for victim in victims {
            bit |= how(victim);
        }
        sleep(lasts).await;
        for victim in victims {
            self.start(victim);
        }
        bit
    }

    /// Starts a process where there is none; it may take as long as the others need to let it in.
    pub fn start(&self, machine: &Arc<Machine>) {
        let (machine, chaos) = (machine.clone(), self.clone());
        tokio::spawn(async move {
            if let Err(why) = machine.start(chaos.config.clone(), &chaos.kit).await {
                chaos.trace.tell(&why);
                if !machine.is_outcast() {
                    chaos.failures.lock().push(why);
                }
            }
        });
    }
}
