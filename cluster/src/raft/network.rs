//! Raft's network: requests to peers over our links, in our layout.
//!
//! Entries go over one stream per follower, with several requests under way, answered in order. Heartbeats and votes
//! use another connection class, so that no bulk data delays them. Every request ends within the time given by
//! openraft.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use evener_core::id::{LogIndex, NodeId, Term};
use futures::{Stream, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use openraft::{
    OptionalSend, RaftNetworkFactory,
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
        TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
    type_config::alias::SnapshotOf,
};

use super::{
    acknowledged::AcknowledgedEntries,
    layout::{Appended, Layout},
    machine::SnapshotData,
    types::{RaftMember, Types, Vote},
};
use crate::message::Kind;

/// A request to a peer's Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Append entries; without entries it is a heartbeat.
    Append,
    /// Request a vote.
    Vote,
    /// Ask whether the peer would grant a vote.
    PreVote,
    /// Take over leadership.
    Transfer,
}

impl Call {
    /// Returns the kind of message that carries it.
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Append => Kind::APPEND,
            Self::Vote => Kind::VOTE,
            Self::PreVote => Kind::PRE_VOTE,
            Self::Transfer => Kind::TRANSFER,
        }
    }

    /// Returns the Raft request of a kind of message; none if it is not one of Raft's.
    pub(crate) const fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::APPEND => Some(Self::Append),
            Kind::VOTE => Some(Self::Vote),
            Kind::PRE_VOTE => Some(Self::PreVote),
            Kind::TRANSFER => Some(Self::Transfer),
            _ => None,
        }
    }
}

/// The class of a connection to a peer: bulk data must not delay heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionClass {
    /// Entries.
    Bulk,
    /// Heartbeats and votes.
    Urgent,
}

/// The links to the other members, as Raft uses them.
pub(crate) trait Peers: Send + Sync + 'static {
    /// Sends one request and returns its answer.
    fn request(
        self: Arc<Self>,
        to: NodeId,
        class: ConnectionClass,
        call: Call,
        body: Bytes,
    ) -> BoxFuture<'static, io::Result<Bytes>>;

    /// Sends requests and returns their answers in the same order.
    fn stream(self: Arc<Self>, to: NodeId, call: Call, questions: BoxStream<'static, Bytes>) -> Answers;
}

/// A stream that is being opened: fails, or yields answers until one of them fails.
pub(crate) type Answers = BoxFuture<'static, io::Result<BoxStream<'static, io::Result<Bytes>>>>;

/// Creates the clients of one node.
pub(super) struct Network {
    peers: Arc<dyn Peers>,
    acknowledged: Arc<AcknowledgedEntries>,
}

impl Network {
    pub(super) fn new(peers: Arc<dyn Peers>, acknowledged: Arc<AcknowledgedEntries>) -> Self {
        Self { peers, acknowledged }
    }

    fn client(&self, target: u64, class: ConnectionClass) -> Client {
        Client { peers: self.peers.clone(), acknowledged: self.acknowledged.clone(), target: NodeId(target), class }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _: &RaftMember) -> Client {
        self.client(target, ConnectionClass::Bulk)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _: &RaftMember) -> Client {
        self.client(target, ConnectionClass::Urgent)
    }
}

/// Sends requests to one peer.
pub(super) struct Client {
    peers: Arc<dyn Peers>,
    acknowledged: Arc<AcknowledgedEntries>,
    target: NodeId,
    class: ConnectionClass,
}

fn unreachable(error: &io::Error) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(error))
}

/// Waits for a peer's answer, at most `wait`.
async fn within<T>(wait: Duration, work: impl Future<Output = io::Result<T>>) -> Result<T, RPCError<Types>> {
    match tokio::time::timeout(wait, work).await {
        Ok(done) => done.map_err(|error| unreachable(&error)),
        Err(_) => Err(unreachable(&io::Error::new(io::ErrorKind::TimedOut, "the peer did not answer in time"))),
    }
}

/// Records the progress of a follower. One that lacks entries it held is unreachable.
fn record_appended(
    acknowledged: &AcknowledgedEntries,
    target: NodeId,
    term: Term,
    appended: &Appended,
) -> Result<(), RPCError<Types>> {
    match appended {
        Ok(matched) => acknowledged.record_held(target, term, matched.as_ref().map(|id| LogIndex(id.index))),
        Err(StreamAppendError::Conflict(id)) if acknowledged.record_missing(target, term, LogIndex(id.index)) => {
            return Err(unreachable(&io::Error::other("it has lost entries that it acknowledged")));
        }
        Err(StreamAppendError::Conflict(_) | StreamAppendError::HigherVote(_)) => {}
    }
    Ok(())
}

fn read<T: Layout>(bytes: Bytes) -> Result<T, RPCError<Types>> {
    T::from_bytes(bytes).map_err(|error| unreachable(&io::Error::other(error)))
}

impl Client {
    async fn call<Q: Layout>(
        &self,
        call: Call,
        class: ConnectionClass,
        question: &Q,
        wait: Duration,
    ) -> Result<Bytes, RPCError<Types>> {
        within(wait, self.peers.clone().request(self.target, class, call, question.to_bytes())).await
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let answer = self.call(Call::Append, self.class, &rpc, option.soft_ttl()).await?;
        let appended = read::<Appended>(answer)?;
        record_appended(&self.acknowledged, self.target, Term(rpc.vote.leader_id.term), &appended)?;
        Ok(appended.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let asked = Arc::new(AtomicU64::new(0));
        let count = asked.clone();
        let mut questions = input.fuse().map(move |request| {
            count.fetch_add(1, Relaxed);
            (Term(request.vote.leader_id.term), request.to_bytes())
        });
        let (peers, acknowledged, target) = (self.peers.clone(), self.acknowledged.clone(), self.target);
        Box::pin(async move {
            // openraft waits after a failure only when it is asked for the next request: a stream that fails to open
            // without asking is reopened at once, in a busy loop.
            let Some((term, first)) = questions.next().await else { return Ok(stream::empty().boxed()) };
            let questions = stream::iter([first]).chain(questions.map(|(_, question)| question));
            let answers = within(option.soft_ttl(), peers.stream(target, Call::Append, questions.boxed())).await?;
            let stall = option.hard_ttl() * STALL_TTLS;
            let record = Box::new(move |appended: &_| record_appended(&acknowledged, target, term, appended));
            let state = AnswerStream { answers: answers.fuse(), record, asked, answered: 0, stall };
            Ok(stream::unfold(Some(state), AnswerStream::next).fuse().boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        read(self.call(Call::Vote, ConnectionClass::Urgent, &rpc, option.soft_ttl()).await?)
    }

    // Not the default one, which grants the vote without asking the peer.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        read(self.call(Call::PreVote, ConnectionClass::Urgent, &rpc, option.soft_ttl()).await?)
    }

    async fn full_snapshot(
        &mut self,
        _: Vote,
        _: SnapshotOf<Types, SnapshotData>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        // The log is kept whole: no follower is ever behind its beginning.
        let error = io::Error::other("a snapshot was requested, and evener keeps the log whole; please report it");
        Err(StreamingError::Unreachable(Unreachable::new(&error)))
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let answer = self.call(Call::Transfer, ConnectionClass::Urgent, &rpc, option.soft_ttl()).await?;
        let refused = TransferLeaderError::LogNotFlushed { expected: rpc.last_log_id().copied(), actual: None };
        Ok(if answer.first() == Some(&1) { Ok(()) } else { Err(refused) })
    }
}

/// A stream whose requests stay unanswered for this many times the timeout of one request is closed. An answer waits
/// for the follower's disk, which may be slow for a while.
const STALL_TTLS: u32 = 10;

/// Answers as they arrive, and an error if they do not.
struct AnswerStream {
    answers: futures::stream::Fuse<BoxStream<'static, io::Result<Bytes>>>,
    record: Record,
    asked: Arc<AtomicU64>,
    answered: u64,
    stall: Duration,
}

type Record = Box<dyn Fn(&Appended) -> Result<(), RPCError<Types>> + Send>;
type Item = Result<StreamAppendResult<Types>, RPCError<Types>>;

impl AnswerStream {
    async fn next(state: Option<Self>) -> Option<(Item, Option<Self>)> {
        let mut state = state?;
        loop {
            let waiting_since = state.answered;
            let answer = tokio::time::timeout(state.stall, state.answers.next()).await;
            return match answer {
                // No answer is expected while there is no pending request.
                Err(_) if state.asked.load(Relaxed) <= waiting_since => continue,
                Err(_) => {
                    let error = io::Error::new(io::ErrorKind::TimedOut, "the peer stopped answering");
                    Some((Err(unreachable(&error)), None))
                }
                Ok(None) => None,
                Ok(Some(Err(error))) => Some((Err(unreachable(&error)), None)),
                Ok(Some(Ok(bytes))) => {
                    match read::<Appended>(bytes).and_then(|read| (state.record)(&read).map(|()| read)) {
                        Err(error) => Some((Err(error), None)),
                        // A refusal is the last answer of a stream.
                        Ok(Err(refused)) => Some((Ok(Err(refused)), None)),
                        Ok(Ok(matched)) => {
                            state.answered += 1;
                            Some((Ok(Ok(matched)), Some(state)))
                        }
                    }
                }
            };
        }
    }
}
