//! The configuration of one node.

use std::{collections::BTreeMap, time::Duration};

use evener_core::{
    command::RefusalReason,
    id::{ClusterId, FeatureLevel},
    limits::Limits,
};
use uuid::Uuid;

/// The configuration of one node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, unique among members.
    pub name: String,
    /// The address on which the node listens for peers. Port 0 lets the system choose.
    pub listen: String,
    /// The address at which peers reach the node, if it is not the listen address.
    pub peer: Option<String>,
    /// The address at which clients reach the node, published to the other members.
    pub http: String,
    /// The cluster to which the node belongs; any other is refused. `None` accepts any cluster.
    pub cluster: Option<ClusterId>,
    /// Founds a new cluster, unless the directory belongs to one already. Refused if a cluster answers at `join`.
    pub bootstrap: bool,
    /// Addresses of members through which the node joins; one that answers is enough.
    pub join: Vec<String>,
    /// The feature level of the node's build.
    pub level: FeatureLevel,
    /// The embedded processors that the node can run, with their versions.
    pub capabilities: BTreeMap<String, Vec<u32>>,
    /// The node's share of the work, relative to the other nodes.
    pub weight: u32,
    /// The replicated limits of a new cluster.
    pub limits: Limits,
    /// The seed of all random numbers of this process, chosen at random by the caller.
    pub seed: u64,
    /// The random id from which this process's unique ids are derived, chosen by the caller.
    pub random_id: Uuid,
    /// Raft's timeouts.
    pub raft: Raft,
    /// How long a session lasts without a renewal.
    pub lease: Duration,
    /// The maximum number of voters; further members are learners.
    pub voters_max: usize,
    /// The limits of proposals to the log.
    pub proposer: Proposer,
    /// The limits of long searches.
    pub searches: Searches,
    /// When checkpoints are written.
    pub checkpoint: Checkpoint,
    /// The number of free bytes below which appends are refused. `None` means the largest of 16 MiB, three chunks, and
    /// a hundredth of the file system, the last at most 4 GiB; 0 refuses no append.
    pub disk_reserve: Option<u64>,
    /// The settings of the log's files.
    pub journal: evener_store::JournalSettings,
    /// Describes why the log refused a command. Reasons are values; the program that embeds the node words them.
    pub describe: fn(&RefusalReason) -> String,
}

/// Raft's timeouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raft {
    /// How often the leader sends heartbeats.
    pub heartbeat: Duration,
    /// The shortest time without a message from the leader after which a voter campaigns.
    pub election_min: Duration,
    /// The longest such time.
    pub election_max: Duration,
}

impl Raft {
    /// Returns the timeouts for a heartbeat interval and a shortest election timeout.
    #[must_use]
    pub const fn new(heartbeat: Duration, election: Duration) -> Self {
        Self { heartbeat, election_min: election, election_max: Duration::from_millis(election.as_millis() as u64 * 2) }
    }

    /// Returns how long the leader must not have answered a voter before the voter compares with the others, see
    /// `crate::heartbeat`. A successor must lead and renew sessions before their owners stop, which is two thirds of a
    /// lease after the last renewal.
    #[must_use]
    pub const fn no_answer_timeout(&self) -> Duration {
        Duration::from_millis(self.election_min.as_millis() as u64 * 3 / 2)
    }
}

impl Default for Raft {
    /// Returns timeouts long enough for two shared cores and a shared disk. An exited leader is detected by its closed
    /// socket, and an unresponsive one by a majority that compares its answers, both before these timeouts.
    fn default() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(1))
    }
}

/// The limits of proposals to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposer {
    /// The maximum number of commands queued or in flight on one node. More are refused as overload.
    pub commands_max: usize,
    /// The maximum size of these commands, in bytes.
    pub bytes_max: usize,
    /// The maximum size of a batch in one entry, in bytes. A larger command has an entry of its own.
    pub entry_bytes_max: usize,
    /// The maximum number of commands in one entry.
    pub entry_commands_max: usize,
    /// The maximum number of entries in flight. A small number lets batches grow with the load.
    pub entries_max: usize,
    /// How long a proposal is retried before its outcome is reported as unknown.
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

/// The limits of long searches (reads, and conditions that read far back) on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Searches {
    /// The maximum number of running searches. Two, so that one can run while the other waits for the disk.
    pub running_max: usize,
    /// The maximum number of queued searches. More are refused as overload.
    pub waiting_max: usize,
}

impl Default for Searches {
    fn default() -> Self {
        Self { running_max: 2, waiting_max: 64 }
    }
}

/// When checkpoints of the replicated state are written, so that a restart need not replay the whole log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The number of entries after which a checkpoint is written.
    pub entries: u64,
    /// The number of bytes of entries after which a checkpoint is written.
    pub bytes: u64,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { entries: 50_000, bytes: 64 << 20 }
    }
}

impl Config {
    /// Returns the default configuration of a node with this name that listens at `listen`.
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
