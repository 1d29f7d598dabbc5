//! `evener demo`: three nodes as child processes with real sockets and files, a load, and a checker that uses only what
//! is visible from outside. Nodes are killed and restarted during the run.

mod checker;
mod handler;
mod load;
mod observer;
mod records;
mod report;
mod view;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use evener_core::{backoff::Backoff, criteria::Criteria, id::ContextId, processor, sequence::Sequencing};
use tokio::time::Instant;

pub(crate) use self::{
    handler::run as run_handler,
    observer::Observed,
    records::{InjectedFault, Records},
    report::Report,
};
use self::{load::Load, observer::Observer, records::handled, view::View};
use crate::harness::{IdleTime, Interrupt, Nodes};
use evener::{
    client::Client,
    engine::{Change, Read, Request, What},
    error::ApiError,
};

/// The demo's processor.
const PROCESSOR: &str = "demo";
/// The folder that the handlers write to.
const HANDLED: &str = "handled";
/// The pause before the first kill, and between the restart of a node and the next kill.
const PAUSE: Duration = Duration::from_millis(2_500);
/// How long a killed node stays down.
const DOWNTIME: Duration = Duration::from_millis(2_500);
/// How long the cluster may take to handle all events once all nodes run and the load has ended.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// The options of a run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How long the load runs.
    pub time: Duration,
    /// Whether only the JSON object is printed, without a view.
    pub headless: bool,
    /// A fault to inject into the records.
    pub fault: Option<InjectedFault>,
    /// The program that provides `serve` and `demo-handler`: usually this one.
    pub program: PathBuf,
}

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The report; none if the run was interrupted before there was anything to check.
    pub report: Option<Report>,
    /// The folder that is kept if a promise was broken.
    pub kept: Option<PathBuf>,
}

/// Runs the demo.
///
/// # Errors
///
/// If the run fails. A broken promise is not an error: the report lists it.
pub(crate) async fn run(options: Options) -> Result<Outcome, String> {
    let folder = tempfile::Builder::new().prefix("evener-demo-").tempdir().map_err(|error| error.to_string())?;
    let ran = run_in(&options, folder.path()).await;
    match ran {
        Ok(report) if report.as_ref().is_none_or(Report::holds) => Ok(Outcome { report, kept: None }),
        Ok(report) => Ok(Outcome { report, kept: Some(folder.keep()) }),
        Err(error) => Err(format!("{error}\nthe data and logs of the nodes are kept in {}", folder.keep().display())),
    }
}

/// Runs the demo in `folder`. The nodes are stopped when this returns.
async fn run_in(options: &Options, folder: &Path) -> Result<Option<Report>, String> {
    let mut interrupt = Interrupt::listen();
    let mut view = View::new(options.headless);
    let mut nodes = Nodes::new(&options.program, folder, 3)?;
    if let (false, Some((name, url))) = (options.headless, nodes.each_url().first()) {
        eprintln!("page: {url} (of {name}, once it has started)");
    }
    view.message(&format!("starting three nodes in {}", folder.display()));
    let ran = run_with_nodes(options, folder, &mut nodes, &mut view, &mut interrupt).await;
    view.close();
    nodes.stop().await;
    ran
}

/// Runs the load and the kills with these nodes, and checks the records.
async fn run_with_nodes(
    options: &Options,
    folder: &Path,
    nodes: &mut Nodes,
    view: &mut View,
    interrupt: &mut Interrupt,
) -> Result<Option<Report>, String> {
    tokio::select! {
        started = nodes.start() => started?,
        () = interrupt.next() => return Ok(None),
    }
    let (client, start) = (Client::connect(&nodes.urls()).map_err(|error| error.to_string())?, Instant::now());
    let observer = Observer::start(client.clone(), &nodes.each_url(), start)?;
    tokio::select! {
        prepared = prepare(options, &client, folder, &observer) => prepared?,
        () = interrupt.next() => return Ok(None),
    }
    view.open();
    let idle = IdleTime::start();
    let load = Load::start(&client, start);
    let until = start.elapsed() + options.time;
    inject_kills(nodes, &observer, &load, view, interrupt, start, until).await?;
    view.close();
    view.message("the load has ended; waiting until all events are handled, then reading them back");
    let (seconds, idle_share) = (load.started().elapsed().as_secs_f64(), idle.fraction());
    let (mut records, observed) = tokio::select! {
        gathered = collect_records(folder, nodes, load, observer) => gathered?,
        () = interrupt.next() => return Ok(None),
    };
    if let Some(fault) = options.fault {
        records.inject(fault);
    }
    let report = Report::of(&records, &observed, seconds, idle_share);
    if !report.holds() {
        records.save(folder).map_err(|error| format!("failed to save the records: {error}"))?;
    }
    Ok(Some(report))
}

/// Creates the processor, and waits until its segments are distributed.
async fn prepare(options: &Options, client: &Client, folder: &Path, observer: &Observer) -> Result<(), String> {
    let handled = folder.join(HANDLED);
    std::fs::create_dir(&handled).map_err(|error| format!("cannot make {}: {error}", handled.display()))?;
    create(options, client, &handled).await.map_err(|error| format!("failed to create the processor: {error}"))?;
    observer.wait_even(Duration::from_secs(20)).await
}

/// Ends the load, waits until all events are handled, and collects the records.
async fn collect_records(
    folder: &Path,
    nodes: &mut Nodes,
    load: Load,
    observer: Observer,
) -> Result<(Records, Observed), String> {
    let acked = load.end().await;
    nodes.start().await?;
    observer.wait_caught_up(CATCH_UP_MAX).await?;
    observer.wait_even(CATCH_UP_MAX).await?;
    let observed = observer.end().await;
    let mut records = Records { acked, handled: handled(&folder.join(HANDLED))?, ..Records::default() };
    for (name, url) in nodes.each_url() {
        records.read.insert(name, read_back(&url).await?);
    }
    Ok((records, observed))
}

/// Kills and restarts nodes until the time is over or the user ends the run. The victims are, in turn, the leader and
/// the node with the most segments.
async fn inject_kills(
    nodes: &mut Nodes,
    observer: &Observer,
    load: &Load,
    view: &mut View,
    interrupt: &mut Interrupt,
    start: Instant,
    until: Duration,
) -> Result<(), String> {
    let mut next_kill = start.elapsed() + PAUSE;
    let mut down: Option<(String, Duration)> = None;
    let mut leader_next = true;
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
            () = interrupt.next() => return Ok(()),
        }
        let now = start.elapsed();
        let seen = observer.now();
        view.show(&seen, nodes, load, start.elapsed(), until);
        nodes.check()?;
        let command = view.key_command();
        if now >= until || command == view::KeyCommand::Quit {
            return Ok(());
        }
        if let view::KeyCommand::Toggle(nth) = command {
            let name = nodes.name(nth);
            match &down {
                Some((down_name, _)) if *down_name == name => down = Some((name, now)),
                Some(_) => view.message("one node is down already: killing a second would leave no majority"),
                None => next_kill = kill(nodes, observer, view, &name, now, &mut down),
            }
        }
        match &down {
            Some((name, restart_at)) if *restart_at <= now => {
                let name = name.clone();
                nodes.restart(&name).await?;
                observer.restarted(&name);
                view.message(&format!("{name} restarts with the same command"));
                down = None;
                next_kill = start.elapsed() + PAUSE;
            }
            None if next_kill <= now && now + DOWNTIME < until => {
                let victim = if leader_next { seen.leader.clone() } else { seen.busiest() };
                if let Some(victim) = victim {
                    observer.sample_spread();
                    leader_next = !leader_next;
                    next_kill = kill(nodes, observer, view, &victim, now, &mut down);
                }
            }
            _ => {}
        }
    }
}

fn kill(
    nodes: &mut Nodes,
    observer: &Observer,
    view: &mut View,
    victim: &str,
    now: Duration,
    down: &mut Option<(String, Duration)>,
) -> Duration {
    let leads = observer.now().leader.as_deref() == Some(victim);
    observer.killed(victim);
    nodes.kill(victim);
    view.message(&format!("{victim}{} is killed with SIGKILL", if leads { ", the leader," } else { "" }));
    *down = Some((victim.to_owned(), now + DOWNTIME));
    now + DOWNTIME + PAUSE
}

/// Creates the demo's processor. Its handler program is this binary, which records each event that it receives.
async fn create(options: &Options, client: &Client, handled: &Path) -> Result<(), ApiError> {
    let quote = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let command = format!("exec {} demo-handler {}", quote(&options.program), quote(handled));
    let definition = processor::Definition {
        name: PROCESSOR.into(),
        context: ContextId::DEFAULT,
        handler: processor::Handler::Exec(command),
        segments: evener::handler::SEGMENTS,
        start: processor::Start::Beginning,
        criteria: Criteria::ANY,
        sequencing: Sequencing::KeyElseStream,
        on_error: processor::OnError::SetAside,
        backoff: Backoff::default(),
    };
    client.ask(&Request::Change(Change::new(What::Create(definition.into())))).await.map(drop)
}

/// Reads all events from one node.
async fn read_back(url: &str) -> Result<Vec<records::Read>, String> {
    #[derive(serde::Deserialize)]
    struct Line {
        id: uuid::Uuid,
        subject: String,
        data: Data,
    }
    #[derive(serde::Deserialize)]
    struct Data {
        number: u64,
    }
    let failed = |error: &dyn std::fmt::Display| format!("failed to read the events back from {url}: {error}");
    let client = Client::connect(url).map_err(|error| failed(&error))?;
    let mut reading = client.read(Read::default());
    let mut all = Vec::new();
    while let Some(line) = reading.next().await.map_err(|error| failed(&error))? {
        let evener::client::Line::Event(position, json) = line else { continue };
        let Line { id, subject: stream, data } = serde_json::from_str(&json).map_err(|error| failed(&error))?;
        all.push(records::Read { id, position: position.0, stream, number: data.number });
    }
    Ok(all)
}
