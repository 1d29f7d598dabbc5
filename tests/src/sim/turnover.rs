//! Changes of the members during the faults of a run: a node joins, leaves, or loses its disk.

use std::{sync::Arc, time::Duration};

use evener_core::id::NodeId;
use tokio::time::{sleep, timeout};

use super::{
    fault_injector::FaultInjector,
    machine::{Machine, Process},
    plan::{Plan, Turnover},
    sim_rng::SimRng,
};

/// The time between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);
/// The time within which a refused node could have started, if it were admitted.
const REFUSED_WAIT: Duration = Duration::from_secs(2);

/// Makes the change of the plan at a random time; returns when it is done.
pub async fn run(injector: FaultInjector, plan: Plan) {
    let mut rng = SimRng::new(plan.seed).derive("turnover");
    sleep(rng.time(plan.safety / 10, plan.safety / 2)).await;
    let mut target = rng.pick(&injector.machines);
    match plan.turnover {
        Turnover::Nobody => return,
        Turnover::Joins => {
            target = injector.machines.last().expect("a machine more than founders").clone();
            injector.trace.record(format_args!("{} is to join", target.name));
            injector.start(&target);
        }
        Turnover::Leaves => leave(&injector, &target).await,
        Turnover::Wiped => wipe(&injector, &target).await,
    }
    injector.trace.record(format_args!("{:?}: {} is done with", plan.turnover, target.name));
}

/// Makes a node leave; if it is killed meanwhile, it is started and leaves again.
async fn leave(injector: &FaultInjector, machine: &Arc<Machine>) {
    machine.set_leaving(true);
    let number = node_id_of(injector, machine).await;
    while !machine.leave().await && !is_removed(injector, machine, number) {
        injector.start(machine);
        sleep(RETRY_INTERVAL).await;
    }
    machine.kill();
}

/// Wipes the disk of a node. The cluster must refuse the node under its name until the old member is removed.
async fn wipe(injector: &FaultInjector, machine: &Arc<Machine>) {
    machine.set_leaving(true);
    let number = node_id_of(injector, machine).await;
    injector.trace.record(format_args!("{} loses its disk", machine.name));
    machine.wipe();
    let _ = timeout(REFUSED_WAIT, machine.start(injector.config.clone(), &injector.handler_context)).await;
    if machine.process().is_some() {
        injector.failures.lock().push(format!("{} was admitted under its old identity without its data", machine.name));
    }
    while !is_removed(injector, machine, number) {
        let other = others(injector, machine).next();
        if let Some(process) = other {
            let _ = process.killed.run_until_cancelled(process.cluster.remove(number)).await;
        }
        sleep(RETRY_INTERVAL).await;
    }
    injector.trace.record(format_args!("{} is removed, and may join as another", machine.name));
    machine.kill();
    machine.set_leaving(false);
    injector.start(machine);
}

fn others<'c>(injector: &'c FaultInjector, machine: &'c Machine) -> impl Iterator<Item = Process> + 'c {
    injector.machines.iter().filter(|other| other.name != machine.name).filter_map(|other| other.process())
}

/// Returns the node id of a machine, once another node knows it.
async fn node_id_of(injector: &FaultInjector, machine: &Machine) -> NodeId {
    loop {
        let known = |process: Process| process.cluster.state().member(&machine.name).map(|member| member.node);
        if let Some(number) = others(injector, machine).find_map(known) {
            return number;
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Returns whether another node knows that this one is no longer a member. A node that knows no members at all is not
/// up to date.
fn is_removed(injector: &FaultInjector, machine: &Machine, number: NodeId) -> bool {
    others(injector, machine).any(|process| {
        let state = process.cluster.state();
        !state.members.is_empty() && !state.members.contains_key(&number)
    })
}
