//! One run: a cluster is bootstrapped, runs under load and faults, recovers, and is checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use evener::engine::{Reply, Request};
use evener_cluster::{
    Cluster, Config,
    sim_wire::{Settings, SimNet},
};
use evener_core::{
    command::{Change, Command, Operate},
    criteria::Criteria,
    id::{ContextId, LogIndex, Position},
    processor::Definition,
};
use evener_store::{codec, events::Query};
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, RngSeed},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    client::{self, RunContext, Writer},
    fault_injector::FaultInjector,
    handlers::{self, HandlerContext},
    machine::{Machine, Process},
    operators,
    plan::{Plan, Turnover},
    report::Report,
    sim_rng::SimRng,
    trace::Trace,
    turnover,
};
use crate::oracle::{self, History, LogEvent, Violation, replicas::Replica};

/// The interval at which the states of the nodes are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(700);
/// The time after the last event within which progress is still written to the log.
const QUIET_WAIT: Duration = Duration::from_secs(3);
/// The time for which an idle cluster is observed.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// The time within which a cluster without faults is bootstrapped.
const BOOTSTRAP_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a plan in its own runtime. `print` shows the trace on stderr.
#[must_use]
pub fn run(plan: Plan, print: bool) -> Report {
    let seed = SimRng::new(plan.seed).derive("runtime").number();
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()
        .expect("a runtime without threads or sockets");
    runtime.block_on(async { Run::new(plan, print).execute().await })
}

/// Hashes of each node's state, with the last applied index of each.
type States = BTreeMap<String, Vec<(LogIndex, u64)>>;

struct Run {
    plan: Plan,
    trace: Trace,
    injector: FaultInjector,
    context: RunContext,
    states: Arc<Mutex<States>>,
}

impl Run {
    fn new(plan: Plan, print: bool) -> Self {
        let rng = SimRng::new(plan.seed);
        let trace = Trace::new(print);
        trace.record(format_args!("{plan:?}"));
        let net = SimNet::new(Settings::seeded(rng.derive("wire").number()));
        let machines = plan.founders + usize::from(plan.turnover == Turnover::Joins);
        let hosts: Vec<_> = (1..=machines).map(|n| format!("n{n}")).collect();
        let machines: Vec<_> = hosts.iter().map(|host| Machine::new(host, &hosts, &net, &trace, &rng)).collect();
        let mut config = Config::new("", "");
        config.journal.chunk_bytes = plan.chunk_bytes;
        config.join = machines.iter().map(|machine| machine.peer()).collect();
        config.capabilities = handlers::capabilities();
        let history = Arc::default();
        let injector = FaultInjector {
            machines: machines.clone(),
            net,
            trace: trace.clone(),
            config,
            handler_context: HandlerContext::new(&history, &trace, plan.seed),
            effective_faults: Arc::default(),
            failures: Arc::default(),
        };
        let context = RunContext { machines, history, trace: trace.clone(), stop: CancellationToken::new() };
        Self { plan, trace, injector, context, states: Arc::default() }
    }

    async fn execute(self) -> Report {
        let mut violations = Vec::new();
        let liveness = |what: &str| Violation { promise: "liveness", what: what.into() };
        match timeout(BOOTSTRAP_TIMEOUT, self.bootstrap()).await {
            Ok(()) => {
                let rng = SimRng::new(self.plan.seed);
                let mut load: Vec<_> = (1..=self.plan.clients)
                    .map(|number| tokio::spawn(Writer::new(&self.context, number, &rng).run()))
                    .collect();
                load.push(tokio::spawn(client::read(self.context.clone(), rng.derive("reader"))));
                load.push(tokio::spawn(sample_states(self.context.clone(), self.states.clone())));
                load.push(tokio::spawn(turnover::run(self.injector.clone(), self.plan.clone())));
                if self.plan.meddled {
                    load.push(tokio::spawn(operators::run(self.context.clone(), rng.derive("people"))));
                }
                self.injector.run(&self.plan).await;
                self.context.stop.cancel();
                if timeout(self.plan.liveness, self.settle(load)).await.is_ok() {
                    violations.extend(self.check_idle().await.map(|what| liveness(&what)));
                } else {
                    let bound = self.plan.liveness;
                    violations
                        .push(liveness(&format!("the cluster did not recover within {bound:?} after the faults")));
                    violations.extend(self.node_statuses().map(|status| liveness(&status)));
                }
            }
            Err(_) => violations.push(liveness("the cluster was not bootstrapped")),
        }
        violations.extend(self.injector.failures.lock().iter().map(|why| liveness(why)));
        let members = self.members();
        let mut report = self.check(violations);
        report.violations.extend(stale_views(&members).await.into_iter().map(|what| liveness(&what)));
        report
    }

    /// Bootstraps the cluster, waits until all founders vote, and creates the processors.
    async fn bootstrap(&self) {
        let founders = self.plan.founders;
        let bootstrap = Config { bootstrap: true, join: Vec::new(), ..self.injector.config.clone() };
        let first = &self.context.machines[0];
        if let Err(why) = first.start(bootstrap, &self.injector.handler_context).await {
            self.injector.failures.lock().push(why);
        }
        for machine in &self.context.machines[1..founders] {
            self.injector.start(machine);
        }
        loop {
            let up: Vec<_> = self.context.machines.iter().filter_map(|machine| machine.process()).collect();
            if up.len() == founders && up.iter().all(|process| process.cluster.status().voters.len() == founders) {
                self.trace.record("all founders vote");
                return self.create_processors(&up[0].cluster).await;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Creates the permanent processors.
    async fn create_processors(&self, cluster: &Cluster) {
        let mut rng = SimRng::new(self.plan.seed).derive("processors");
        for definition in handlers::definitions() {
            let change = Change::Create(Box::new(definition));
            let operate = Operate { operation: rng.uuid(), principal: None, reason: None, change };
            let outcome = cluster.propose(Command::Operate(operate)).await;
            self.trace.record(format_args!("a processor is created: {outcome:?}"));
        }
    }

    /// Waits until the cluster has recovered: clients have their answers, every node accepts an append, and all have
    /// applied the same.
    async fn settle(&self, load: Vec<tokio::task::JoinHandle<()>>) {
        for task in load {
            task.await.expect("no client panics");
        }
        self.wait_until_equal().await;
        let rng = SimRng::new(self.plan.seed).derive("settle");
        for (machine, _) in self.members() {
            Writer::new(&self.context, 1_000, &rng.derive(&machine.name)).append_at(&machine).await;
        }
        self.wait_until_equal().await;
        // A full chunk is sealed when an entry is applied after the chunk was synced: one more entry is needed.
        Writer::new(&self.context, 1_001, &rng).append_at(&self.members()[0].0).await;
        self.wait_until_equal().await;
        sleep(Duration::from_secs(1)).await;
        self.wait_until_caught_up().await;
        self.trace.record("all is well");
    }

    /// Returns the machines that are members according to the node that has applied most, with their processes.
    fn members(&self) -> Vec<(Arc<Machine>, Process)> {
        let up = || self.context.machines.iter().filter_map(|machine| Some((machine, machine.process()?)));
        let Some((_, most)) = up().max_by_key(|(_, process)| process.cluster.status().applied) else {
            return Vec::new();
        };
        let member = |machine: &Machine| most.cluster.state().member(&machine.name).is_some();
        up().filter(|(machine, _)| member(machine)).map(|(machine, process)| (machine.clone(), process)).collect()
    }

    /// Waits until all expected members are up and have applied the same index.
    async fn wait_until_equal(&self) {
        let count = self.context.machines.len() - usize::from(self.plan.turnover == Turnover::Leaves);
        loop {
            let members = self.members();
            let applied: BTreeSet<_> = members.iter().map(|(_, process)| process.cluster.status().applied).collect();
            if members.len() == count && applied.len() == 1 {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until every processor has handled all events, no event is set aside, the segments are balanced, and no bar
    /// remains, since the end of a bar rebalances the segments.
    async fn wait_until_caught_up(&self) {
        let members = self.members();
        let Some((_, process)) = members.first() else { return };
        loop {
            let slowest = members.iter().map(|(_, process)| process.cluster.log_time()).min().unwrap_or_default();
            let caught_up = process.cluster.with_state(|state, _| {
                let head = state.head(ContextId::DEFAULT);
                let all = state.processors.values();
                let mut done = all.map(|p| p.low() == Some(head) && p.set_aside.is_empty());
                let barred = state.balance_view(slowest).next_bar_end().is_some();
                done.all(|done| done) && !barred && oracle::balanced::check(state).is_empty()
            });
            if caught_up {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Checks that an idle cluster writes nothing; returns what it wrote otherwise.
    async fn check_idle(&self) -> Option<String> {
        sleep(QUIET_WAIT).await;
        let last = || self.members().first().and_then(|(_, process)| process.cluster.status().last);
        let before = last();
        sleep(IDLE_TIME).await;
        let after = last();
        self.trace.record(format_args!("the log ends at {before:?}, and after {IDLE_TIME:?} at {after:?}"));
        (before != after).then(|| format!("an idle cluster's log went from {before:?} to {after:?}"))
    }

    fn node_statuses(&self) -> impl Iterator<Item = String> {
        self.context.machines.iter().map(|machine| match machine.process() {
            Some(process) => format!("{}: {:?}", machine.name, process.cluster.status()),
            None => format!("{} is not up", machine.name),
        })
    }

    fn check(self, mut violations: Vec<Violation>) -> Report {
        let mut replicas = Vec::new();
        for (machine, process) in self.members() {
            match read_log(&process.cluster) {
                Ok(log) => {
                    let states = self.states.lock().get(&machine.name).cloned().unwrap_or_default();
                    let chunks = sealed_chunks(&machine);
                    replicas.push(Replica { node: machine.name.clone(), log, states, chunks });
                }
                Err(why) => violations.push(Violation { promise: "P8", what: format!("{}: {why}", machine.name) }),
            }
        }
        let history: History = self.context.history.lock().clone();
        if let Some(first) = replicas.first() {
            violations.extend(oracle::check_appends_and_reads(&history, &first.log));
            violations.extend(oracle::owner::check(&history));
            for definition in handlers::definitions() {
                let Definition { name, sequencing, .. } = &definition;
                violations.extend(oracle::handled::check(&history, &first.log, name, sequencing));
            }
        }
        violations.extend(oracle::replicas::check(&replicas));
        violations.sort();
        violations.dedup();
        for violation in &violations {
            self.trace.record(violation);
        }
        self.trace.record(format_args!("what passed over the wire: {:016x}", self.injector.net.trace()));
        let effective_faults = self.injector.effective_faults.lock().clone();
        Report {
            plan: self.plan,
            violations,
            acknowledged: history.acknowledged() as u64,
            events: replicas.first().map_or(0, |replica| replica.log.len() as u64),
            handled: history.handlings.iter().filter(|handling| handling.done).count() as u64,
            effective_faults,
            virtual_time: self.trace.now(),
            trace: self.trace.digest(),
        }
    }
}

/// Asks every member for the cluster status; returns the members for which it does not show the latest applied index.
async fn stale_views(members: &[(Arc<Machine>, Process)]) -> Vec<String> {
    let mut stale = Vec::new();
    for (machine, process) in members {
        let Ok(Reply::Cluster(cluster)) = process.engine.call(Request::ClusterStatus).await else {
            stale.push(format!("{} does not return the cluster status", machine.name));
            continue;
        };
        let applied = Some(process.cluster.status().applied.0);
        let others = cluster.members.into_iter().filter(|member| member.applied != applied);
        let reports = others.map(|other| {
            format!("{} has applied {applied:?} and sees {} at {:?}", machine.name, other.name, other.applied)
        });
        stale.extend(reports);
    }
    stale
}

/// Samples the state of each node, whatever index it has applied.
async fn sample_states(context: RunContext, states: Arc<Mutex<States>>) {
    while !context.stop.is_cancelled() {
        sleep(SAMPLE_INTERVAL).await;
        for machine in &context.machines {
            let Some(process) = machine.process() else { continue };
            let sample = state(&process.cluster);
            states.lock().entry(machine.name.clone()).or_default().push(sample);
        }
    }
}

fn state(cluster: &Cluster) -> (LogIndex, u64) {
    let state = cluster.state();
    let image = codec::encode_image(&*state);
    let applied = *cluster.applied().borrow();
    (applied.index, xxh3_64(&image))
}

/// Returns all events that a node returns to readers.
fn read_log(cluster: &Cluster) -> Result<Vec<LogEvent>, String> {
    let mut events = Vec::new();
    let mut from = Position(0);
    loop {
        let query = Query {
            context: ContextId::DEFAULT,
            from,
            to: None,
            limit: 4_096,
            criteria: &Criteria::ANY,
            stream: None,
            backwards: false,
        };
        let page = cluster.events().read(&query).map_err(|error| error.to_string())?;
        let stored = page.events.into_iter();
        events.extend(stored.map(|s| LogEvent { position: s.position, revision: s.revision, event: s.event }));
        if !page.more {
            return Ok(events);
        }
        from = page.next;
    }
}

/// Returns hashes of all chunks except the last, which is still being written.
fn sealed_chunks(machine: &Machine) -> BTreeMap<String, u64> {
    let files = machine.files().into_iter().filter(|(file, _)| file.ends_with(".chunk"));
    let mut chunks: BTreeMap<_, _> = files.map(|(file, bytes)| (file, xxh3_64(&bytes))).collect();
    chunks.pop_last();
    chunks
}
