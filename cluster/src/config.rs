//! What one node is told before it starts. Every number has a default and a reason.

use std::{collections::BTreeMap, time::Duration};

use evener_core::{
    command::RefusalReason,
    id::{ClusterId, FeatureLevel},
    limits::Limits,
};
use uuid::Uuid;

/// What one node is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name, unique among members.
    pub name: String,
    /// Where it listens for peers. Port 0 lets the system choose.
    pub listen: String,
    /// Where peers reach it, if that is not where it listens.
    pub peer: Option<String>,
    /// Where clients reach it, told to the others.
    pub http: String,
    /// The cluster it belongs to. Any other is refused; none takes the one it finds.
    pub cluster: Option<ClusterId>,
    /// Makes a new cluster, unless this directory has one already. Refused where a cluster answers at `join`.
    pub bootstrap: bool,
    /// Members (any of them) that let it join.
    pub join: Vec<String>,
    /// What its build understands.
    pub level: FeatureLevel,
    /// Embedded processors it can run, and which versions of them.
    pub capabilities: BTreeMap<String, Vec<u32>>,
    /// Its share of the work, relative to others.
    pub weight: u32,
    /// What a new cluster's replicated limits are.
    pub limits: Limits,
    /// From which all dice of this process follow. Drawn by whoever starts it.
    pub seed: u64,
    /// Names this life of the process, and its directory if that is new. Drawn by whoever starts it.
    pub random_id: Uuid,
    /// Raft's clocks.
    pub raft: Raft,
    /// How long a session lives without a renewal.
    pub lease: Duration,
    /// How many vote. A cluster of more has learners.
    pub voters_max: usize,
    /// How commands get into the log.
    pub proposer: Proposer,
    /// How many long searches run and wait.
    pub searches: Searches,
    /// When the state is written down.
    pub checkpoint: Checkpoint,
    /// Below this many free bytes appends are refused. None is the larger of three chunks and a hundredth of the file
    /// system, the latter at most 4 GiB; 0 refuses nothing.
    pub disk_reserve: Option<u64>,
    /// How the log is kept.
    pub journal: evener_store::JournalSettings,
    /// Puts into words why the log refused something: reasons are values, and only who embeds this words them.
    pub describe: fn(&RefusalReason) -> String,
}

/// Raft's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raft {
    /// How often the leader shows that it lives.
    pub heartbeat: Duration,
    /// Without a sign of the leader for at least this long, a voter asks for votes.
    pub election_min: Duration,
    /// And at the latest after this long.
    pub election_max: Duration,
}

impl Raft {
    /// The clocks that follow from how often the leader shows that it lives, and from how long it is waited for.
    #[must_use]
    pub const fn new(heartbeat: Duration, election: Duration) -> Self {
        Self { heartbeat, election_min: election, election_max: Duration::from_millis(election.as_millis() as u64 * 2) }
    }

    /// How long a voter has not heard of the leader before it compares with the others, see `crate::heartbeat`. A
    /// successor must lead and renew sessions before their owners stop, which is two thirds of a lease after the last
    /// renewal.
    #[must_use]
    pub const fn no_answer_timeout(&self) -> Duration {
        Duration::from_millis(self.election_min.as_millis() as u64 * 3 / 2)
    }
}

impl Default for Raft {
    /// Wide enough for two shared cores and a shared disk. A lost leader is noticed by its closed socket, and a silent
    /// one by a majority that compares what it hears, both before these clocks.
    fn default() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(1))
    }
}

/// How commands get into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposer {
    /// Commands that wait or are under way on one node. More are refused as overload.
    pub commands_max: usize,
    /// Their bytes together.
    pub bytes_max: usize,
    /// Bytes that are gathered into one entry. A larger command goes alone.
    pub entry_bytes_max: usize,
    /// Commands that are gathered into one entry.
    pub entry_commands_max: usize,
    /// Entries under way at once. Few, so that the next ones grow with the load.
    pub entries_max: usize,
    /// How long one tries before answering that the outcome is unknown.
    pub deadline: Duration,
}

impl Default for Proposer {
    fn default() -> Self {
        Self {
            commands_max: 16_384,
            bytes_max: 64 << 20,
            entry_bytes_max: 256 << 10,
            entry_commands_max: 4_096,
            entries_max: 4,
            deadline: Duration::from_secs(10),
        }
    }
}

/// How many long searches (reads, and conditions that look far back) run and wait on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Searches {
    /// At once: as many as a small machine has cores, so that one of them can wait for the disk.
    pub running_max: usize,
    /// Waiting for their turn. A new one beyond them is refused as overload.
    pub waiting_max: usize,
}

impl Default for Searches {
    fn default() -> Self {
        Self { running_max: 2, waiting_max: 64 }
    }
}

/// When the replicated state is written down, so that a restart need not begin at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// After so many entries.
    pub entries: u64,
    /// Or after so many bytes of them.
    pub bytes: u64,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { entries: 50_000, bytes: 64 << 20 }
    }
}

impl Config {
    /// A node with this name that listens at `listen`, everything else being as usual.
    #[must_use]
    pub fn new(name: impl Into<String>, listen: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            listen: listen.into(),
            peer: None,
            http: String::new(),
            cluster: None,
            bootstrap: false,
            join: Vec::new(),
            level: FeatureLevel::CURRENT,
            capabilities: BTreeMap::new(),
            weight: 1,
            limits: Limits::DEFAULT,
            seed: 0,
            random_id: Uuid::nil(),
            raft: Raft::default(),
            lease: Duration::from_secs(5),
            voters_max: 5,
            proposer: Proposer::default(),
            searches: Searches::default(),
            checkpoint: Checkpoint::default(),
            disk_reserve: None,
            journal: evener_store::JournalSettings::default(),
            describe: |why| format!("{why:?}"),
        }
    }
}
