//! Who comes and who goes in the middle of a run, whatever the faults do meanwhile.

use std::{sync::Arc, time::Duration};

use evener_core::id::NodeId;
use tokio::time::{sleep, timeout};

use super::{
    fault_injector::FaultInjector,
    machine::{Machine, Process},
    plan::{Plan, Turnover},
    sim_rng::SimRng,
};

/// Before what did not succeed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);
/// How long a node is waited for that must be refused.
const REFUSED_WAIT: Duration = Duration::from_secs(2);

/// Does what the plan says, at a time of its own, and ends when it is done.
pub async fn run(injector: FaultInjector, plan: Plan) {
    let mut rng = SimRng::new(plan.seed).derive("turnover");
    sleep(rng.time(plan.safety / 10, plan.safety / 2)).await;
    let mut victim = rng.pick(&injector.machines);
    match plan.turnover {
        Turnover::Nobody => return,
        Turnover::Joins => {
            victim = injector.machines.last().expect("a machine more than founders").clone();
            injector.trace.record(format_args!("{} is to join", victim.name));
            injector.start(&victim);
        }
        Turnover::Leaves => leave(&injector, &victim).await,
        Turnover::Wiped => wipe(&injector, &victim).await,
    }
    injector.trace.record(format_args!("{:?}: {} is done with", plan.turnover, victim.name));
}

/// The node leaves; if it is killed on its way, it is started again, and leaves then.
async fn leave(injector: &FaultInjector, machine: &Arc<Machine>) {
    machine.set_leaving(true);
    let number = node_id_of(injector, machine).await;
    while !machine.leave().await && !is_removed(injector, machine, number) {
        injector.start(machine);
        sleep(RETRY_INTERVAL).await;
    }
    machine.kill();
}

/// The node loses its disk. Under its name it is refused as long as the cluster believes that it holds something.
async fn wipe(injector: &FaultInjector, machine: &Arc<Machine>) {
    machine.set_leaving(true);
    let number = node_id_of(injector, machine).await;
    injector.trace.record(format_args!("{} loses its disk", machine.name));
    machine.wipe();
    let _ = timeout(REFUSED_WAIT, machine.start(injector.config.clone(), &injector.handler_context)).await;
    if machine.process().is_some() {
        injector.failures.lock().push(format!("{} came back without its disk, as if nothing were lost", machine.name));
    }
    while !is_removed(injector, machine, number) {
        let asked = others(injector, machine).next();
        if let Some(process) = asked {
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

/// Which member it is, as soon as somebody is there who knows.
async fn node_id_of(injector: &FaultInjector, machine: &Machine) -> NodeId {
    loop {
        let known = |process: Process| process.cluster.state().member(&machine.name).map(|member| member.node);
        if let Some(number) = others(injector, machine).find_map(known) {
            return number;
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Whether somebody knows that it is no member any more. Who knows of no member at all has yet to hear.
fn is_removed(injector: &FaultInjector, machine: &Machine, number: NodeId) -> bool {
    others(injector, machine).any(|process| {
        let state = process.cluster.state();
        !state.members.is_empty() && !state.members.contains_key(&number)
    })
}
