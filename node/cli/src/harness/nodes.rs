//! Nodes as child processes of `evener serve`, each with a directory and a log file of its own.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use super::parent_watch;

/// How long a node may take to be ready.
const READY_MAX: Duration = Duration::from_secs(30);
/// How long a node may take to exit after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(15);

/// The nodes of one cluster.
pub(crate) struct Nodes {
    program: PathBuf,
    folder: PathBuf,
    nodes: Vec<Node>,
}

struct Node {
    name: String,
    http: String,
    peer: String,
    child: Option<Child>,
    /// Held open while the child may run: see [`parent_watch`].
    stdin: Option<ChildStdin>,
}

impl Nodes {
    /// Allocates ports for `count` nodes with directories below `folder`. Starts none.
    ///
    /// # Errors
    ///
    /// If there are no free ports.
    pub(crate) fn new(program: &Path, folder: &Path, count: usize) -> Result<Self, String> {
        let ports = free_ports(2 * count)?;
        let nodes = (0..count).map(|nth| Node {
            name: format!("n{}", nth + 1),
            http: format!("127.0.0.1:{}", ports[nth]),
            peer: format!("127.0.0.1:{}", ports[nth + count]),
            child: None,
            stdin: None,
        });
        Ok(Self { program: program.into(), folder: folder.into(), nodes: nodes.collect() })
    }

    /// Starts every node that does not run: the first bootstraps the cluster, the others join it. If this fails or is
    /// cancelled halfway, [`stop`](Self::stop) stops the nodes that were started.
    ///
    /// # Errors
    ///
    /// If a node does not become ready.
    pub(crate) async fn start(&mut self) -> Result<(), String> {
        for nth in 0..self.nodes.len() {
            if self.nodes[nth].child.is_none() {
                self.start_node(nth).await?;
            }
        }
        Ok(())
    }

    /// Returns all URLs, separated by commas, for a client.
    pub(crate) fn urls(&self) -> String {
        self.nodes.iter().map(|node| format!("http://{}", node.http)).collect::<Vec<_>>().join(",")
    }

    /// Returns the name and URL of each node.
    pub(crate) fn each_url(&self) -> Vec<(String, String)> {
        self.nodes.iter().map(|node| (node.name.clone(), format!("http://{}", node.http))).collect()
    }

    /// Returns the name of the n-th node, from 0.
    pub(crate) fn name(&self, nth: usize) -> String {
        self.nodes.get(nth).map_or_else(String::new, |node| node.name.clone())
    }

    /// Returns the name of each node, and whether it runs.
    pub(crate) fn running(&self) -> impl Iterator<Item = (&str, bool)> {
        self.nodes.iter().map(|node| (node.name.as_str(), node.child.is_some()))
    }

    /// Returns the ids of the running processes.
    pub(crate) fn process_ids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.child.as_ref()?.id()).collect()
    }

    /// Sends SIGKILL: to the other nodes this looks like a power failure of the machine.
    pub(crate) fn kill(&mut self, name: &str) {
        if let Some(node) = self.nodes.iter_mut().find(|node| node.name == name)
            && let Some(mut child) = node.child.take()
        {
            let _ = child.start_kill();
            // Reaped in the background: the demo continues at once.
            tokio::spawn(async move { child.wait().await });
        }
    }

    /// Starts a killed node again with the same command.
    pub(crate) async fn restart(&mut self, name: &str) -> Result<(), String> {
        match self.nodes.iter().position(|node| node.name == name && node.child.is_none()) {
            Some(nth) => self.start_node(nth).await,
            None => Ok(()),
        }
    }

    /// Checks that every node that was started still runs.
    ///
    /// # Errors
    ///
    /// If a node has exited by itself, with the end of its log.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            if let Some(child) = &mut node.child
                && let Ok(Some(status)) = child.try_wait()
            {
                let log = last_lines(&self.folder.join(format!("{}.log", node.name)));
                return Err(format!("{} exited by itself ({status}); the end of its log:\n{log}", node.name));
            }
        }
        Ok(())
    }

    /// Sends SIGTERM to all, and SIGKILL to those that do not exit in time.
    pub(crate) async fn stop(&mut self) {
        for child in self.nodes.iter().filter_map(|node| node.child.as_ref()) {
            if let Some(pid) = child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take()
                && timeout(STOP_MAX, child.wait()).await.is_err()
            {
                let _ = child.kill().await;
            }
        }
    }

    async fn start_node(&mut self, nth: usize) -> Result<(), String> {
        let (folder, node) = (&self.folder, &self.nodes[nth]);
        let log = folder.join(format!("{}.log", node.name));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let mut command = Command::new(&self.program);
        command.args(["serve", "--allow-exec"]).arg("--data").arg(folder.join(&node.name)).args(["--name", &node.name]);
        command.args(["--listen", &node.http, "--peer-listen", &node.peer]);
        match nth {
            0 => command.arg("--bootstrap"),
            _ => command.args(["--join", &self.nodes[0].peer]),
        };
        // In a process group of its own: Ctrl-C reaches only the parent, which then stops the nodes.
        command
            .arg(parent_watch::FLAG)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("cannot run {}: {error}", self.program.display()))?;
        let stdout = child.stdout.take().ok_or("a child has no stdout")?;
        self.nodes[nth].stdin = child.stdin.take();
        self.nodes[nth].child = Some(child);
        let mut lines = BufReader::new(stdout).lines();
        let ready = timeout(READY_MAX, lines.next_line()).await;
        if !matches!(&ready, Ok(Ok(Some(line))) if line.contains("\"ready\":true")) {
            let log = last_lines(&log);
            return Err(format!("{} did not become ready; the end of its log:\n{log}", self.nodes[nth].name));
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(())
    }
}

/// Returns ports that are free now.
fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    let bound: Result<Vec<_>, _> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let bound = bound.map_err(|error| format!("no free port: {error}"))?;
    bound.iter().map(|socket| Ok(socket.local_addr().map_err(|error| error.to_string())?.port())).collect()
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(12).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
