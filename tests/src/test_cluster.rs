//! A test cluster: nodes as real processes with real sockets and files, used only through their public interfaces.

use std::{
    collections::BTreeMap,
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use evener::{
    client::Client,
    engine::{Cluster, DeadLetter, Processor, Reply, Request},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, timeout},
};

use crate::redelivered::Killed;

/// How long a test waits for a condition.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The nodes of one cluster, and the folder for all their files.
pub struct TestCluster {
    folder: TempDir,
    program: PathBuf,
    nodes: BTreeMap<String, NodeProcess>,
}

struct NodeProcess {
    http: String,
    peer: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    program: PathBuf,
    child: Option<Child>,
    frozen: bool,
}

/// A delivery that a handler program recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    /// The event's position.
    pub position: u64,
    /// Its stream.
    pub stream: String,
    /// Its type.
    pub kind: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// The segment of the claim: the node's own, or the one that the loan came from.
    pub segment: u32,
    /// The claim's epoch.
    pub epoch: u64,
    /// When, in microseconds of the system clock.
    pub at_us: u64,
    /// Whether it was handled successfully.
    pub ok: bool,
    /// Whether it was marked as a replay.
    pub replaying: bool,
    /// The context of the reset, as JSON.
    pub context: String,
    /// The process id of the node that ran the handler.
    pub node: u32,
}

impl TestCluster {
    /// Creates an empty cluster. `program` is the binary under test. Its files are kept if `EVENER_KEEP` is set.
    #[must_use]
    pub fn new(program: &str) -> Self {
        let keep = std::env::var_os("EVENER_KEEP").is_some();
        let mut folder = tempfile::Builder::new();
        let folder = folder.prefix("evener-test-").disable_cleanup(keep).tempdir().expect("a folder can be made");
        Self { folder, program: program.into(), nodes: BTreeMap::new() }
    }

    /// Returns the folder of all files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Creates a folder for a test's own files.
    #[must_use]
    pub fn new_folder(&self, name: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::create_dir_all(&path).expect("a folder can be made");
        path
    }

    /// Adds a node and starts it: the first bootstraps the cluster, the others join.
    pub async fn add_node(&mut self, name: &str, args: &[&str]) {
        let program = self.program.clone();
        self.add_node_with(name, &program, args, &[]).await;
    }

    /// Adds a node as [`add_node`](Self::add_node) does, run by a given program, which takes the flags of `serve`.
    pub async fn add_node_with(&mut self, name: &str, program: &Path, args: &[&str], env: &[(&str, &str)]) {
        let [http, peer] = free_addresses();
        let mut all = vec!["--allow-exec".to_owned(), "--data".into(), self.folder().join(name).display().to_string()];
        if program == self.program {
            all.insert(0, "serve".into());
        }
        all.extend(["--name", name, "--listen", &http, "--peer-listen", &peer].map(String::from));
        match self.nodes.values().next() {
            None => all.push("--bootstrap".into()),
            Some(first) => all.extend(["--join".to_owned(), first.peer.clone()]),
        }
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.nodes.insert(
            name.into(),
            NodeProcess { http, peer, args: all, env, program: program.into(), child: None, frozen: false },
        );
        self.start(name).await;
    }

    /// Starts three nodes, `n1` to `n3`.
    pub async fn three_nodes(program: &str, args: &[&str]) -> Self {
        let mut cluster = Self::new(program);
        for name in ["n1", "n2", "n3"] {
            cluster.add_node(name, args).await;
        }
        cluster
    }

    /// Starts a node again with its command, and waits until it is ready.
    pub async fn start(&mut self, name: &str) {
        if let Err(error) = self.try_start(name).await {
            panic!("{error}");
        }
    }

    async fn try_start(&mut self, name: &str) -> Result<(), String> {
        let log = self.log(name);
        let node = self.nodes.get_mut(name).expect("the node was added");
        let stderr = File::options().create(true).append(true).open(&log).expect("a log can be written");
        let mut command = Command::new(&node.program);
        command.args(&node.args).envs(node.env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("{name} cannot be run: {error}"))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(TIMEOUT, lines.next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            return Err(format!("{name} did not become ready; its log:\n{}", tail_of(&log)));
        };
        let ready: serde_json::Value = serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"))?;
        assert_eq!((&ready["ready"], &ready["node"]), (&true.into(), &name.into()), "{line}");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        node.child = Some(child);
        Ok(())
    }

    /// Runs a node again with its command, which must exit by itself; returns its exit status and output.
    pub async fn run_to_exit(&self, name: &str) -> (i32, String, String) {
        let node = &self.nodes[name];
        let mut command = Command::new(&node.program);
        command.args(&node.args).envs(node.env.iter().map(|(key, value)| (key, value)));
        let output = timeout(TIMEOUT, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
        let output = output.unwrap_or_else(|_| panic!("{name} does not exit")).expect("the binary can be run");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// Sends SIGKILL, and waits until the process has exited.
    pub async fn kill(&mut self, name: &str) -> Killed {
        let killed = self.send_kill(name).await;
        let _ = self.take_child(name).wait().await;
        killed
    }

    /// Sends SIGKILL without exclusive access to the cluster: the node counts as running until [`reap`](Self::reap).
    pub async fn send_kill(&self, name: &str) -> Killed {
        let killed = Killed { node: self.process_id(name), at_us: now_us() };
        self.signal(name, "-KILL").await;
        killed
    }

    /// Waits until a killed node has exited.
    pub async fn reap(&mut self, name: &str) {
        let _ = self.take_child(name).wait().await;
    }

    /// Returns the process id of a node.
    #[must_use]
    pub fn process_id(&self, name: &str) -> u32 {
        let child = self.nodes[name].child.as_ref();
        child.and_then(Child::id).unwrap_or_else(|| panic!("{name} is not running"))
    }

    /// Sends SIGTERM, and returns the exit status.
    pub async fn stop(&mut self, name: &str) -> Option<i32> {
        signal(self.nodes[name].child.as_ref().expect("the node runs"), "-TERM").await;
        self.wait_exit(name).await
    }

    /// Waits until a node exits by itself, and returns its exit status.
    pub async fn wait_exit(&mut self, name: &str) -> Option<i32> {
        let mut child = self.take_child(name);
        let ended = timeout(TIMEOUT, child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{name} did not exit; its log:\n{}", tail_of(&self.log(name))));
        ended.expect("a child can be waited for").code()
    }

    /// Sends SIGSTOP. Commands do not use the node until [`thaw`](Self::thaw).
    pub async fn freeze(&mut self, name: &str) {
        self.signal(name, "-STOP").await;
        self.nodes.get_mut(name).expect("the node was added").frozen = true;
    }

    /// Sends SIGCONT.
    pub async fn thaw(&mut self, name: &str) {
        self.signal(name, "-CONT").await;
        self.nodes.get_mut(name).expect("the node was added").frozen = false;
    }

    /// Sends a signal to a node.
    pub async fn signal(&self, name: &str, which: &str) {
        signal(self.nodes[name].child.as_ref().expect("the node runs"), which).await;
    }

    /// Returns the processor time of a node; none if the system has no `/proc`.
    #[must_use]
    pub fn cpu_time(&self, name: &str) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process_id(name))).ok()?;
        // Behind the name, which is in parentheses and may hold anything: the 12th and 13th are ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |nth: usize| fields.get(nth)?.parse::<u64>().ok();
        Some(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
    }

    fn take_child(&mut self, name: &str) -> Child {
        let node = self.nodes.get_mut(name).expect("the node was added");
        node.child.take().unwrap_or_else(|| panic!("{name} is not running"))
    }

    /// Returns the path of a node's log.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.log"))
    }

    /// Returns the names of the running nodes.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        self.nodes.iter().filter(|(_, node)| node.child.is_some()).map(|(name, _)| name.clone()).collect()
    }

    /// Returns the URLs of the running nodes.
    #[must_use]
    pub fn urls(&self) -> String {
        let running = self.nodes.values().filter(|node| node.child.is_some());
        running.map(|node| format!("http://{}", node.http)).collect::<Vec<_>>().join(",")
    }

    /// Returns the URLs of all nodes, even stopped ones, except for frozen ones, which do not even refuse connections.
    #[must_use]
    pub fn all_urls(&self) -> String {
        let asked = self.nodes.values().filter(|node| !node.frozen);
        asked.map(|node| format!("http://{}", node.http)).collect::<Vec<_>>().join(",")
    }

    /// Returns the URL of a node.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("http://{}", self.nodes[name].http)
    }

    /// Returns the peer address of a node.
    #[must_use]
    pub fn peer(&self, name: &str) -> String {
        self.nodes[name].peer.clone()
    }

    /// Returns a client of all nodes.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::connect(&self.all_urls()).expect("the addresses are good")
    }

    /// Runs a client command, and returns its output.
    pub async fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(args).env("EVENER_SERVER", self.all_urls()).stdin(Stdio::null()).kill_on_drop(true);
        command.output().await.expect("the binary can be run")
    }

    /// Runs a client command that must succeed, and returns its stdout.
    pub async fn run_ok(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "evener {} failed:\n{stderr}", args.join(" "));
        String::from_utf8(output.stdout).expect("it prints text")
    }

    /// Runs a client command that must fail, and returns its exit status and stderr.
    pub async fn run_err(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "evener {} should fail", args.join(" "));
        (output.status.code().unwrap_or(-1), stderr)
    }

    /// Returns the status of a processor.
    pub async fn processor(&self, name: &str) -> Processor {
        match self.client().ask(&Request::Processor(name.into())).await {
            Ok(Reply::Processor(processor)) => *processor,
            other => panic!("unexpected reply for {name}: {other:?}"),
        }
    }

    /// Returns the status of the cluster.
    pub async fn status(&self) -> Cluster {
        match self.client().ask(&Request::ClusterStatus).await {
            Ok(Reply::Cluster(cluster)) => *cluster,
            other => panic!("unexpected reply for the cluster: {other:?}"),
        }
    }

    /// Returns the events that a processor has set aside.
    pub async fn dead_letters(&self, name: &str) -> Vec<DeadLetter> {
        match self.client().ask(&Request::DeadLetters(name.into())).await {
            Ok(Reply::DeadLetters(letters)) => letters,
            other => panic!("unexpected reply for the letters of {name}: {other:?}"),
        }
    }

    /// Waits for a leader, and returns its name.
    pub async fn leader(&self) -> String {
        let until = Instant::now() + TIMEOUT;
        loop {
            if let Some(leader) = self.status().await.leader {
                return leader;
            }
            assert!(Instant::now() < until, "no leader was elected");
            pause().await;
        }
    }

    /// Waits until a processor meets the condition `is`, described by `what`.
    pub async fn wait_for(&self, name: &str, what: &str, is: impl Fn(&Processor) -> bool) -> Processor {
        let until = Instant::now() + TIMEOUT;
        loop {
            let processor = self.processor(name).await;
            if is(&processor) {
                return processor;
            }
            assert!(Instant::now() < until, "{name} did not become {what} in time: {processor:#?}");
            pause().await;
        }
    }

    /// Waits until a processor has passed all stored events.
    pub async fn wait_passed(&self, name: &str) -> Processor {
        self.wait_for(name, "at the head", |processor| {
            processor.segments.iter().all(|segment| segment.token == processor.head)
        })
        .await
    }
}

/// Returns the number of segments of each node; none if a segment has no owner.
#[must_use]
pub fn shares(processor: &Processor) -> Option<BTreeMap<String, usize>> {
    let mut shares = BTreeMap::new();
    for segment in &processor.segments {
        *shares.entry(segment.owner.clone()?).or_default() += 1;
    }
    Some(shares)
}

/// Returns whether the segments are distributed over exactly these nodes, with counts that differ by at most one.
#[must_use]
pub fn balanced_over(processor: &Processor, nodes: &[String]) -> bool {
    let Some(shares) = shares(processor) else { return false };
    let counts: Vec<usize> = nodes.iter().map(|node| shares.get(node).copied().unwrap_or(0)).collect();
    let all: usize = counts.iter().sum();
    let (Some(most), Some(fewest)) = (counts.iter().max(), counts.iter().min()) else { return false };
    all == processor.segments.len() && most - fewest <= 1
}

/// Reads the records of the handler programs in a folder, ordered by time.
#[must_use]
pub fn handled_events(folder: &Path) -> Vec<Handled> {
    let mut all = Vec::new();
    for file in std::fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = file.path();
        if path.extension().is_none_or(|extension| extension != "seen") {
            continue;
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let node = stem.split('-').next().and_then(|node| node.parse().ok()).expect("a record is named after its node");
        let text = std::fs::read_to_string(&path).expect("a record can be read");
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let fields: Vec<&str> = line.trim_end().split('\t').collect();
            let number = |nth: usize| fields[nth].parse::<u64>().unwrap_or_else(|_| panic!("not a number: {line}"));
            all.push(Handled {
                position: number(0),
                stream: fields[1].into(),
                kind: fields[2].into(),
                attempt: number(3) as u32,
                segment: number(4) as u32,
                epoch: number(5),
                at_us: number(6),
                ok: fields[7] == "true",
                replaying: fields[8] == "true",
                context: fields[9].into(),
                node,
            });
        }
    }
    all.sort_by_key(|seen| seen.at_us);
    all
}

/// The interval at which conditions are polled.
pub const PAUSE: Duration = Duration::from_millis(50);

/// Waits one poll interval.
pub async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

/// Returns the time of the system clock, which handler programs record, in microseconds.
#[must_use]
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Sends a signal to a process.
pub async fn signal(child: &Child, which: &str) {
    let pid = child.id().expect("the child runs").to_string();
    let sent = Command::new("kill").args([which, &pid]).status().await;
    assert!(sent.is_ok_and(|status| status.success()), "{which} can be sent");
}

fn free_addresses() -> [String; 2] {
    let sockets = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).expect("a free port"));
    sockets.map(|socket| socket.local_addr().expect("it is bound").to_string())
}

fn tail_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
