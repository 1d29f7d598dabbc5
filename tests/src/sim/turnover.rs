//! Who comes and who goes in the middle of a run, whatever the faults do meanwhile.

use std::{sync::Arc, time::Duration};

use evener_core::id::NodeId;
use tokio::time::{sleep, timeout};

use super::{
    chaos::Chaos,
    dice::Dice,
    machine::{Machine, Process},
    plan::{Plan, Turnover},
};

/// Before what did not succeed is tried again.
const AGAIN_WAIT: Duration = Duration::from_millis(300);
/// How long a node is waited for that must be refused.
const REFUSED_WAIT: Duration = Duration::from_secs(2);

/// Does what the plan says, at a time of its own, and ends when it is done.
pub async fn run(chaos: Chaos, plan: Plan) {
    let mut dice = Dice::new(plan.seed).of("turnover");
    sleep(dice.time(plan.safety / 10, plan.safety / 2)).await;
    let mut victim = dice.pick(&chaos.machines);
    match plan.turnover {
        Turnover::Nobody => return,
        Turnover::Joins => {
            victim = chaos.machines.last().expect("a machine more than founders").clone();
            chaos.trace.tell(format_args!("{} is to join", victim.name));
            chaos.start(&victim);
        }
        Turnover::Leaves => leave(&chaos, &victim).await,
        Turnover::Wiped => wipe(&chaos, &victim).await,
    }
    chaos.trace.tell(format_args!("{:?}: {} is done with", plan.turnover, victim.name));
}

/// The node leaves; if it is killed on its way, it is started again, and leaves then.
async fn leave(chaos: &Chaos, machine: &Arc<Machine>) {
    machine.set_outcast(true);
    let number = number_of(chaos, machine).await;
    while !machine.leave().await && !is_gone(chaos, machine, number) {
        chaos.start(machine);
        sleep(AGAIN_WAIT).await;
    }
    machine.kill();
}

/// The node loses its disk. Under its name it is refused as long as the cluster believes that it holds something.
async fn wipe(chaos: &Chaos, machine: &Arc<Machine>) {
    machine.set_outcast(true);
    let number = number_of(chaos, machine).await;
    chaos.trace.tell(format_args!("{} loses its disk", machine.name));
    machine.wipe();
    let _ = timeout(REFUSED_WAIT, machine.start(chaos.config.clone(), &chaos.kit)).await;
    if machine.process().is_some() {
        chaos.failures.lock().push(format!("{} came back without its disk, as if nothing were lost", machine.name));
    }
    while !is_gone(chaos, machine, number) {
        let asked = others(chaos, machine).next();
        if let Some(process) = asked {
            let _ = process.dead.run_until_cancelled(process.cluster.remove(number)).await;
        }
        sleep(AGAIN_WAIT).await;
    }
    chaos.trace.tell(format_args!("{} is removed, and may join as another", machine.name));
    machine.kill();
    machine.set_outcast(false);
    chaos.start(machine);
}

fn others<'c>(chaos: &'c Chaos, machine: &'c Machine) -> impl Iterator<Item = Process> + 'c {
    chaos.machines.iter().filter(|other| other.name != machine.name).filter_map(|other| other.process())
}

/// Which member it is, as soon as somebody is there who knows.
async fn number_of(chaos: &Chaos, machine: &Machine) -> NodeId {
    loop {
        let known = |process: Process| process.cluster.state().member(&machine.name).map(|member| member.node);
        if let Some(number) = others(chaos, machine).find_map(known) {
            return number;
        }
        sleep(AGAIN_WAIT).await;
    }
}

/// Whether somebody knows that it is no member any more. Who knows of no member at all has yet to hear.
fn is_gone(chaos: &Chaos, machine: &Machine, number: NodeId) -> bool {
    others(chaos, machine).any(|process| {
        let state = process.cluster.state();
        !state.members.is_empty() && !state.members.contains_key(&number)
    })
}
