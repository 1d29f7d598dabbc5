//! One node's Raft, for the rest of the crate: takes payloads for the log, and returns where they are in it.

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

/// The reason why an entry is not known to be in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// It is not in the log, and will not be: this node does not lead. Another may.
    NotLeader(Option<NodeId>),
    /// It may be in the log, now or later.
    Unknown(String),
}

/// An entry on its way into the log.
pub(crate) struct Receipt(OneshotReceiverOf<Types, openraft::raft::ClientWriteResult<Types>>);

impl Receipt {
    /// Waits until it is applied, or known not to be in the log.
    pub(crate) async fn applied(self) -> Result<(LogIndex, Vec<Outcome>), WriteError> {
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

/// A node's role in the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The leader: all writes pass through it.
    Leader,
    /// A voter.
    #[default]
    Follower,
    /// A candidate: it requests votes.
    Candidate,
    /// A learner: it follows the log without a vote.
    Learner,
    /// Stopped.
    Stopped,
}

/// The status of a node's Raft.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RaftStatus {
    /// Its role.
    pub role: Role,
    /// Its current term.
    pub term: Term,
    /// The leader, as far as it knows.
    pub leader: Option<NodeId>,
    /// The last index of its log.
    pub last: Option<LogIndex>,
    /// The last index that it knows to be committed.
    pub committed: Option<LogIndex>,
    /// The last index applied here.
    pub applied: Option<LogIndex>,
    /// The voters; while the membership changes, all of the old and the new voters.
    pub voters: Vec<NodeId>,
    /// The nodes that are voters whichever way a membership change ends.
    pub certain_voters: Vec<NodeId>,
    /// The voter sets, of each of which more than half must agree: one, or two while the membership changes.
    pub quorums: Vec<BTreeSet<NodeId>>,
    /// Whether the membership is being changed.
    pub joint: bool,
    /// All members of the group, voters and learners.
    pub raft_members: BTreeMap<NodeId, RaftMember>,
    /// On the leader: the last index up to which each other node's log is known to match.
    pub matched: BTreeMap<NodeId, Option<LogIndex>>,
    /// On the leader: the age of the last answered request of each other node; none for a node that has answered none
    /// yet.
    pub answer_ages: BTreeMap<NodeId, Duration>,
    /// On the leader: the time since a quorum last answered.
    pub quorum_age: Option<Duration>,
    /// The reason why it has stopped.
    pub stopped: Option<String>,
}

/// Notifies of changes of the leader or the group's membership.
pub(crate) struct LeaderChanges(WatchReceiverOf<Types, openraft::metrics::RaftServerMetrics<Types>>);

impl LeaderChanges {
    /// Returns the current term and leader, and marks them as seen.
    pub(crate) fn current(&mut self) -> (Term, Option<NodeId>) {
        let metrics = self.0.borrow_and_update();
        (Term(metrics.vote.leader_id.term), metrics.current_leader.map(NodeId))
    }

    /// Waits for a change. Returns false if there will be none.
    pub(crate) async fn changed(&mut self) -> bool {
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

/// Notifies of every change of a [`RaftStatus`]: as often as the log grows, and later than [`LeaderChanges`].
pub(crate) struct StatusChanges(WatchReceiverOf<Types, openraft::RaftMetrics<Types>>);

impl StatusChanges {
    /// Marks all changes until now as seen.
    pub(crate) fn mark_unchanged(&mut self) {
        self.0.borrow_and_update();
    }

    /// Waits for a change. Returns false if there will be none.
    pub(crate) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// Returns the nodes that are voters in all of these.
fn certain_voters(configs: &[BTreeSet<u64>]) -> Vec<NodeId> {
    let Some((first, others)) = configs.split_first() else { return Vec::new() };
    first.iter().filter(|node| others.iter().all(|config| config.contains(node))).copied().map(NodeId).collect()
}

/// Describes why a node's Raft has stopped.
fn describe(fatal: &Fatal<Types>) -> String {
    match fatal {
        Fatal::Stopped => "a stop was requested".into(),
        Fatal::Panicked => "a fault in the consensus core; please report it".into(),
        Fatal::StorageError(error) => error.to_string(),
    }
}

/// One node's Raft.
#[derive(Clone)]
pub(crate) struct Consensus {
    raft: Raft,
    me: NodeId,
    seed: u64,
    acknowledged: Arc<AcknowledgedEntries>,
    peers: Arc<dyn Peers>,
}

impl Consensus {
    /// Starts Raft: reads the journal, applies what is known to be committed, and takes part in the group.
    pub(crate) async fn start(
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

    /// Returns this member's node id.
    pub(crate) fn me(&self) -> NodeId {
        self.me
    }

    /// Founds a group with this node alone. Does nothing if there is a group already.
    pub(crate) async fn found(&self, raft_member: RaftMember) -> Result<(), String> {
        match self.raft.initialize(BTreeMap::from([(self.me.0, raft_member)])).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(format!("failed to found the group: {error}")),
        }
    }

    /// Submits a payload to the log. Payloads submitted one after the other have that order in the log.
    pub(crate) async fn submit(&self, payload: Payload) -> Result<Receipt, WriteError> {
        let (responder, receipt) = OneshotResponder::new_pair();
        match self.raft.client_write_ff(payload, Some(responder)).await {
            Ok(()) => Ok(Receipt(receipt)),
            Err(_) => Err(WriteError::NotLeader(None)),
        }
    }

    /// Returns the index up to which a node must have applied the log for a linearizable read. Requires a quorum.
    pub(crate) async fn read_index(&self) -> Result<LogIndex, WriteError> {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(read) => Ok(LogIndex(read.read_log_id().index())),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(WriteError::NotLeader(to.leader_id.map(NodeId)))
            }
            Err(error) => Err(WriteError::Unknown(error.to_string())),
        }
    }

    /// Returns the current status.
    pub(crate) fn status(&self) -> RaftStatus {
        raft_status(&self.raft.metrics().borrow_watched())
    }

    /// Returns whether a follower of this leader has lost entries that it acknowledged to it.
    pub(crate) fn has_lost_entries(&self, node: NodeId) -> bool {
        self.acknowledged.has_lost_entries(node, self.status().term)
    }

    /// Returns a receiver of status changes.
    pub(crate) fn status_changes(&self) -> StatusChanges {
        StatusChanges(self.raft.metrics())
    }

    /// Returns a receiver of changes of the leader and the membership, which are far rarer than log growth.
    pub(crate) fn leader_changes(&self) -> LeaderChanges {
        LeaderChanges(self.raft.server_metrics())
    }

    /// Waits until it has stopped, and returns the reason.
    pub(crate) async fn ended(&self) -> String {
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

    /// Adds members without a vote, or updates their addresses.
    pub(crate) async fn set_members(&self, raft_members: BTreeMap<NodeId, RaftMember>) -> Result<(), String> {
        let raft_members = raft_members.into_iter().map(|(node, raft_member)| (node.0, raft_member)).collect();
        self.change(openraft::ChangeMembers::SetNodes(raft_members)).await
    }

    /// Makes these nodes the voters, and no others. Previous voters remain members.
    pub(crate) async fn set_voters(&self, voters: impl IntoIterator<Item = NodeId>) -> Result<(), String> {
        let voters = voters.into_iter().map(|node| node.0).collect();
        self.change(openraft::ChangeMembers::ReplaceAllVoters(voters)).await
    }

    /// Removes members that do not vote.
    pub(crate) async fn remove_members(&self, nodes: impl IntoIterator<Item = NodeId>) -> Result<(), String> {
        self.change(openraft::ChangeMembers::RemoveNodes(nodes.into_iter().map(|node| node.0).collect())).await
    }

    async fn change(&self, change: openraft::ChangeMembers<u64, RaftMember>) -> Result<(), String> {
        self.raft.change_membership(change, true).await.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Transfers leadership, without a guarantee that it succeeds.
    pub(crate) async fn transfer(&self, to: NodeId) {
        let _ = self.raft.trigger().transfer_leader(to.0).await;
    }

    /// Retries a member at once instead of after its backoff, because it is reachable again.
    pub(crate) async fn reset_backoff(&self, node: NodeId) {
        let _ = self.raft.trigger().reset_backoff([node.0]).await;
    }

    /// Campaigns at once, without waiting for the lease of the leader, whose process is known to have exited. Always
    /// safe; if the leader has not exited, it costs an election.
    pub(crate) async fn campaign(&self) {
        let vote = self.raft.metrics().borrow_watched().vote;
        let _ = self.raft.handle_transfer_leader(TransferLeaderRequest::new(vote, self.me.0, None)).await;
    }

    /// Resigns and campaigns after a restart. If this node led when its process ended, it may be back before the
    /// others noticed, and they would wait for its lease to end. A leader that was elected meanwhile is not
    /// disturbed.
    pub(crate) async fn resume(&self, within: Duration) {
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

    /// Answers a peer's request to this Raft.
    pub(crate) async fn serve(&self, call: Call, bytes: Bytes) -> io::Result<Bytes> {
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

    /// Answers a stream of append requests one by one, in order. Ends with the first that fails.
    pub(crate) fn serve_appends<S>(&self, requests: S) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static
    where
        S: Stream<Item = Bytes> + Send + Unpin + 'static,
    {
        let requests = requests
            .map(AppendEntriesRequest::<Types>::from_bytes)
            // A malformed request ends the stream; the leader opens another.
            .take_while(|request| std::future::ready(request.is_ok()))
            .filter_map(|request| std::future::ready(request.ok()));
        self.appended(requests).map(|answer| answer.map(|answer| answer.to_bytes()))
    }

    fn appended<S>(&self, requests: S) -> impl Stream<Item = io::Result<Appended>> + Send + Unpin + 'static
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + 'static,
    {
        // openraft reads the requests in a task of its own, which must inherit the seed. Its streams panic if they
        // are polled after their end, hence the fuses.
        let (raft, seed) = (self.raft.clone(), self.seed);
        let answers = seeded(seed, async move { raft.stream_append(requests.fuse()).fuse().boxed() });
        let answers = futures::stream::once(answers).flatten();
        Box::pin(answers.map(|answer| answer.map_err(io::Error::other)).fuse())
    }

    /// Stops taking part, and waits until all its tasks have ended.
    pub(crate) async fn shutdown(&self) {
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
        // The log is the event log: it is kept whole, and never replaced by a snapshot.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: u64::MAX,
        // Applies together with the limit in bytes on the entries read for one message.
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
