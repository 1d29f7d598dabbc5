//! One node's Raft, for the rest of the crate: in goes what should be in the log, out comes where it stands.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use evener_core::{
    command::Outcome,
    id::{LogIndex, NodeId, Term},
};
use evener_store::journal::Journal;
use futures::{Stream, StreamExt, future::join_all};
use openraft::{
    Instant, ReadPolicy, ServerState, SnapshotPolicy,
    async_runtime::watch::WatchReceiver,
    errors::{ClientWriteError, Fatal, InitializeError, LinearizableReadError, RaftError},
    impls::OneshotResponder,
    raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest},
    type_config::alias::{OneshotReceiverOf, WatchReceiverOf},
};
use tokio::time::timeout;

use super::{
    acknowledged::AcknowledgedEntries,
    layout::{Appended, Layout},
    log::Log,
    machine::Machine,
    network::{Call, ConnectionClass, Network, Peers},
    types::{Payload, RaftMember, Types, Vote, seeded},
};
use crate::{config::Raft as Settings, recovery::AppliedState};

type Raft = openraft::Raft<Types, Machine>;

/// Why an entry is not known to be in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// It is not, and will not be: this node does not lead. Another may.
    NotLeader(Option<NodeId>),
    /// It may be, or may yet come to be.
    Unknown(String),
}

/// An entry on its way.
pub struct Receipt(OneshotReceiverOf<Types, openraft::raft::ClientWriteResult<Types>>);

impl Receipt {
    /// Waits until it is applied, or known not to be in the log.
    pub async fn applied(self) -> Result<(LogIndex, Vec<Outcome>), WriteError> {
        match self.0.await {
            Ok(Ok(written)) => Ok((LogIndex(written.log_id.index), written.data)),
            Ok(Err(ClientWriteError::ForwardToLeader(to))) => Err(WriteError::NotLeader(to.leader_id.map(NodeId))),
            Ok(Err(ClientWriteError::LogEntryDiscarded(_))) => {
                Err(WriteError::Unknown("the leader changed while the entry was under way".into()))
            }
            Ok(Err(error)) => Err(WriteError::Unknown(error.to_string())),
            Err(_) => Err(WriteError::Unknown("the node stopped while the entry was under way".into())),
        }
    }
}

/// What part a node has in the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It leads: all writes pass through it.
    Leader,
    /// It votes.
    #[default]
    Follower,
    /// It asks for votes.
    Candidate,
    /// It follows the log without a vote.
    Learner,
    /// It has stopped.
    Stopped,
}

/// How a node's Raft stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// Its part.
    pub role: Role,
    /// The term it knows.
    pub term: Term,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The end of its log.
    pub last: Option<LogIndex>,
    /// What it knows to be committed.
    pub committed: Option<LogIndex>,
    /// What is applied here.
    pub applied: Option<LogIndex>,
    /// Who votes; while this changes, all of the old and the new voters.
    pub voters: Vec<NodeId>,
    /// Who votes whichever way a change of the membership ends.
    pub certain_voters: Vec<NodeId>,
    /// Of each of these more than half must agree: one set of voters, two while the membership is being changed.
    pub quorums: Vec<BTreeSet<NodeId>>,
    /// The membership is being changed.
    pub joint: bool,
    /// Everybody in the group, voter or not.
    pub raft_members: BTreeMap<NodeId, RaftMember>,
    /// On the leader: how far each other's log is known to match.
    pub matched: BTreeMap<NodeId, Option<LogIndex>>,
    /// On the leader: how long ago what each other node has answered was sent; none of who has answered nothing yet.
    pub answer_ages: BTreeMap<NodeId, Duration>,
    /// On the leader: how long ago a quorum last answered.
    pub quorum_age: Option<Duration>,
    /// Why it has stopped.
    pub stopped: Option<String>,
}

/// Tells when it changes who leads or who is in the group.
pub struct LeaderChanges(WatchReceiverOf<Types, openraft::metrics::RaftServerMetrics<Types>>);

impl LeaderChanges {
    /// In which term who leads; this is then no news any more.
    pub fn current(&mut self) -> (Term, Option<NodeId>) {
        let metrics = self.0.borrow_and_update();
        (Term(metrics.vote.leader_id.term), metrics.current_leader.map(NodeId))
    }

    /// Waits for news. False if there will be none.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

fn raft_status(metrics: &openraft::RaftMetrics<Types>) -> RaftStatus {
    let index = |id: &Option<super::types::LogId>| id.as_ref().map(|id| LogIndex(id.index));
    let membership = metrics.membership_config.membership();
    let answer_ages = metrics.heartbeat.iter().flatten();
    RaftStatus {
        role: match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        },
        term: Term(metrics.current_term),
        leader: metrics.current_leader.map(NodeId),
        last: metrics.last_log_index.map(LogIndex),
        committed: index(&metrics.local_committed),
        applied: index(&metrics.last_applied),
        voters: membership.voter_ids().map(NodeId).collect(),
        certain_voters: certain_voters(membership.get_joint_config()),
        quorums: membership
            .get_joint_config()
            .iter()
            .map(|voters| voters.iter().copied().map(NodeId).collect())
            .collect(),
        joint: membership.get_joint_config().len() > 1,
        raft_members: membership.nodes().map(|(node, raft_member)| (NodeId(*node), raft_member.clone())).collect(),
        matched: metrics.replication.iter().flatten().map(|(node, matched)| (NodeId(*node), index(matched))).collect(),
        answer_ages: answer_ages.filter_map(|(node, at)| Some((NodeId(*node), at.as_ref()?.elapsed()))).collect(),
        quorum_age: metrics.last_quorum_acked.as_ref().map(|at| at.elapsed()),
        stopped: metrics.running_state.as_ref().err().map(describe),
    }
}

/// Tells when anything of a [`RaftStatus`] changes: as often as the log grows, and later than [`LeaderChanges`].
pub struct StatusChanges(WatchReceiverOf<Types, openraft::RaftMetrics<Types>>);

impl StatusChanges {
    /// What has changed until now is no news any more.
    pub fn mark_unchanged(&mut self) {
        self.0.borrow_and_update();
    }

    /// Waits until it changes. False if it will not.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// Who is a voter of all of these.
fn certain_voters(configs: &[BTreeSet<u64>]) -> Vec<NodeId> {
    let Some((first, others)) = configs.split_first() else { return Vec::new() };
    first.iter().filter(|node| others.iter().all(|config| config.contains(node))).copied().map(NodeId).collect()
}

/// Why a node's Raft has stopped, in words.
fn describe(fatal: &Fatal<Types>) -> String {
    match fatal {
        Fatal::Stopped => "it was told to stop".into(),
        Fatal::Panicked => "a fault in the consensus core; please report it".into(),
        Fatal::StorageError(error) => error.to_string(),
    }
}

/// One node's Raft.
#[derive(Clone)]
pub struct Consensus {
    raft: Raft,
    me: NodeId,
    seed: u64,
    acknowledged: Arc<AcknowledgedEntries>,
    peers: Arc<dyn Peers>,
}

impl Consensus {
    /// Starts it: reads what the journal holds, applies what is known to be committed, and takes part.
    pub async fn start(
        me: NodeId,
        settings: &Settings,
        seed: u64,
        journal: Journal,
        applied_state: AppliedState,
        peers: Arc<dyn Peers>,
    ) -> Result<Self, String> {
        let config = openraft_config(settings).map_err(|error| format!("failed to set up consensus: {error}"))?;
        let machine = Machine::new(applied_state);
        let acknowledged = Arc::new(AcknowledgedEntries::default());
        let network = Network::new(peers.clone(), acknowledged.clone());
        let raft = seeded(seed, Raft::new(me.0, Arc::new(config), network, Log::new(journal), machine)).await;
        let raft = raft.map_err(|fatal| format!("failed to start consensus: {}", describe(&fatal)))?;
        Ok(Self { raft, me, seed, acknowledged, peers })
    }

    /// Which member this is.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Makes a group of this node alone. Harmless where there is a group already.
    pub async fn found(&self, raft_member: RaftMember) -> Result<(), String> {
        match self.raft.initialize(BTreeMap::from([(self.me.0, raft_member)])).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(format!("failed to found the group: {error}")),
        }
    }

    /// Puts a payload on its way into the log. Those submitted one after the other stand so in the log.
    pub async fn submit(&self, payload: Payload) -> Result<Receipt, WriteError> {
        let (responder, receipt) = OneshotResponder::new_pair();
        match self.raft.client_write_ff(payload, Some(responder)).await {
            Ok(()) => Ok(Receipt(receipt)),
            Err(_) => Err(WriteError::NotLeader(None)),
        }
    }

    /// The place up to which one must have applied to read what is true now. Asks a quorum.
    pub async fn read_index(&self) -> Result<LogIndex, WriteError> {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(read) => Ok(LogIndex(read.read_log_id().index())),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(WriteError::NotLeader(to.leader_id.map(NodeId)))
            }
            Err(error) => Err(WriteError::Unknown(error.to_string())),
        }
    }

    /// How it stands now.
    pub fn status(&self) -> RaftStatus {
        raft_status(&self.raft.metrics().borrow_watched())
    }

    /// Whether a follower of this leader has lost what it acknowledged to it.
    pub fn has_lost_entries(&self, node: NodeId) -> bool {
        self.acknowledged.has_lost_entries(node, self.status().term)
    }

    /// When its standing changes.
    pub fn status_changes(&self) -> StatusChanges {
        StatusChanges(self.raft.metrics())
    }

    /// Who leads and who is in the group, and when that changes: far more rarely than the log grows.
    pub fn leader_changes(&self) -> LeaderChanges {
        LeaderChanges(self.raft.server_metrics())
    }

    /// Waits until it has stopped, and tells why.
    pub async fn ended(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return describe(fatal);
            }
            if metrics.changed().await.is_err() {
                return "its core has ended".into();
            }
        }
    }

    /// Gives seats without a vote, or brings them up to date.
    pub async fn set_members(&self, raft_members: BTreeMap<NodeId, RaftMember>) -> Result<(), String> {
        let raft_members = raft_members.into_iter().map(|(node, raft_member)| (node.0, raft_member)).collect();
        self.change(openraft::ChangeMembers::SetNodes(raft_members)).await
    }

    /// Makes these the voters, and no others. Those who voted before keep their seats.
    pub async fn set_voters(&self, voters: impl IntoIterator<Item = NodeId>) -> Result<(), String> {
        let voters = voters.into_iter().map(|node| node.0).collect();
        self.change(openraft::ChangeMembers::ReplaceAllVoters(voters)).await
    }

    /// Takes the seats of nodes that do not vote.
    pub async fn remove_members(&self, nodes: impl IntoIterator<Item = NodeId>) -> Result<(), String> {
        self.change(openraft::ChangeMembers::RemoveNodes(nodes.into_iter().map(|node| node.0).collect())).await
    }

    async fn change(&self, change: openraft::ChangeMembers<u64, RaftMember>) -> Result<(), String> {
        self.raft.change_membership(change, true).await.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Passes leadership on. It is tried, not promised.
    pub async fn transfer(&self, to: NodeId) {
        let _ = self.raft.trigger().transfer_leader(to.0).await;
    }

    /// A member is back: it is tried at once, not when its next try is due.
    pub async fn reset_backoff(&self, node: NodeId) {
        let _ = self.raft.trigger().reset_backoff([node.0]).await;
    }

    /// The leader is known to be gone: asks for votes at once, without waiting for its lease to end. Safe
    /// whatever the truth is; a wrong word costs an election.
    pub async fn campaign(&self) {
        let vote = self.raft.metrics().borrow_watched().vote;
        let _ = self.raft.handle_transfer_leader(TransferLeaderRequest::new(vote, self.me.0, None)).await;
    }

    /// This node has begun. Where it led when its process ended nobody leads, and it may be back before it was missed:
    /// the others would wait for its lease to end. So it tells them that it leads no more, and asks for votes; a leader
    /// that was elected meanwhile is not disturbed.
    pub async fn resume(&self, within: Duration) {
        let me = self.me.0;
        let own = move |state: &openraft::RaftState<Types>| {
            let leader = state.vote_ref().leader_id;
            let led = leader.term > 0 && leader.voted_for == me && state.server_state == ServerState::Follower;
            let voters = state.membership_state.effective().voter_ids().map(NodeId).collect::<Vec<_>>();
            led.then_some((Vote { leader_id: leader, committed: true }, voters))
        };
        let Ok(Some((vote, voters))) = self.raft.with_raft_state(own).await else { return };
        let request = TransferLeaderRequest::<Types>::new(vote, me, None).to_bytes();
        let others = voters.into_iter().filter(|voter| *voter != self.me);
        let asked = others
            .map(|voter| self.peers.clone().request(voter, ConnectionClass::Urgent, Call::Transfer, request.clone()));
        let _ = timeout(within, join_all(asked)).await;
        let _ = self.raft.trigger().elect(true).await;
    }

    /// Answers a peer's question to this Raft.
    pub async fn serve(&self, call: Call, bytes: Bytes) -> io::Result<Bytes> {
        match call {
            Call::Append => {
                let request = AppendEntriesRequest::<Types>::from_bytes(bytes).map_err(io::Error::other)?;
                let answers = self.appended(futures::stream::iter([request]));
                let answer = answers.into_future().await.0;
                Ok(answer.ok_or_else(stopped)??.to_bytes())
            }
            Call::Vote => {
                let request = VoteRequest::<Types>::from_bytes(bytes).map_err(io::Error::other)?;
                Ok(self.raft.vote(request).await.map_err(io::Error::other)?.to_bytes())
            }
            Call::PreVote => {
                let request = VoteRequest::<Types>::from_bytes(bytes).map_err(io::Error::other)?;
                Ok(self.raft.pre_vote(request).await.map_err(io::Error::other)?.to_bytes())
            }
            Call::Transfer => {
                let request = TransferLeaderRequest::<Types>::from_bytes(bytes).map_err(io::Error::other)?;
                let answer = self.raft.handle_transfer_leader(request).await.map_err(io::Error::other)?;
                Ok(Bytes::from_static(if answer.is_ok() { &[1] } else { &[0] }))
            }
        }
    }

    /// Answers a stream of requests to append, one by one, in order. Ends with the first that fails.
    pub fn serve_appends<S>(&self, requests: S) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static
    where
        S: Stream<Item = Bytes> + Send + Unpin + 'static,
    {
        let requests = requests
            .map(AppendEntriesRequest::<Types>::from_bytes)
            // What cannot be read ends the stream; the leader opens another.
            .take_while(|request| std::future::ready(request.is_ok()))
            .filter_map(|request| std::future::ready(request.ok()));
        self.appended(requests).map(|answer| answer.map(|answer| answer.to_bytes()))
    }

    fn appended<S>(&self, requests: S) -> impl Stream<Item = io::Result<Appended>> + Send + Unpin + 'static
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + 'static,
    {
        // openraft reads the requests in a task of its own, which the seed must reach. Its streams panic when
        // they are polled after their end, hence the fuses.
        let (raft, seed) = (self.raft.clone(), self.seed);
        let answers = seeded(seed, async move { raft.stream_append(requests.fuse()).fuse().boxed() });
        let answers = futures::stream::once(answers).flatten();
        Box::pin(answers.map(|answer| answer.map_err(io::Error::other)).fuse())
    }

    /// Stops taking part, and waits until nothing of it runs.
    pub async fn shutdown(&self) {
        let _ = self.raft.shutdown().await;
    }
}

fn stopped() -> io::Error {
    io::Error::other("this node has stopped taking part")
}

fn openraft_config(settings: &Settings) -> Result<openraft::Config, openraft::ConfigError> {
    let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "evener".into(),
        heartbeat_interval: millis(settings.heartbeat),
        election_timeout_min: millis(settings.election_min),
        election_timeout_max: millis(settings.election_max),
        // The log is the event log: kept whole, never replaced by a snapshot.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: u64::MAX,
        // Together with the cap in bytes where entries are read for a message.
        max_payload_entries: 1024,
        broadcast_submitted_on_append: Some(true),
        enable_pre_vote: Some(true),
        allow_log_reversion: Some(false),
        enable_leader_restore: Some(false),
        backoff: "100ms 200ms 400ms ..1s".into(),
        ..openraft::Config::default()
    }
    .validate()
}
