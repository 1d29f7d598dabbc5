//! The proposer: joins all queued groups into one entry, without a timer.
//!
//! A few entries are under way at once; groups that arrive meanwhile form the next one, so entries grow with the
//! load. On the leader an entry goes to Raft; on another node the same batch goes to the leader, which joins it with
//! its own groups. A proposal that did not reach the log is retried here until its caller stops waiting; one that may
//! have reached it is retried only if a repetition is recognized.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use evener_core::id::{ContextId, NodeId};
use evener_store::{
    codec::{self, ENTRY_BYTES_MAX},
    payload::EntryBuilder,
};
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    config::Proposer as Settings,
    disk_reserve,
    error::{Class, Error, ErrorReason},
    leadership::{Leadership, NoDecision},
    links::{Links, RequestError},
    message::PAYLOAD_BYTES_MAX,
    proposal::{self, Decided, Group, PendingProposal, Proposal, ProposalResult},
    raft::{Consensus, Payload, WriteError},
    transport::Clock,
};

/// The maximum bytes of commands sent to the leader at once. The leader splits them into several entries.
const FORWARD_BYTES_MAX: usize = 1 << 20;
/// The delay before a retry if there was no leader: an election is under way, or a new leader waits for its quorum.
const RETRY_WAIT: Duration = Duration::from_millis(20);
/// Bytes of an entry that are not commands.
const ENTRY_HEAD_BYTES: usize = 64;

/// One node's proposer.
pub(crate) struct Proposer {
    settings: Settings,
    consensus: Consensus,
    clock: Arc<dyn Clock>,
    links: Arc<Links>,
    leadership: watch::Receiver<Leadership>,
    queue: Mutex<BTreeMap<ContextId, VecDeque<Proposal>>>,
    more: Notify,
    slots: Arc<Semaphore>,
    commands: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl Proposer {
    /// Starts the proposer on the current runtime.
    pub(crate) fn start(
        settings: Settings,
        consensus: Consensus,
        clock: Arc<dyn Clock>,
        links: Arc<Links>,
        leadership: watch::Receiver<Leadership>,
        stop: tokio_util::sync::CancellationToken,
    ) -> Arc<Self> {
        let proposer = Arc::new(Self {
            slots: Arc::new(Semaphore::new(settings.entries_max)),
            settings,
            consensus,
            clock,
            links,
            leadership,
            queue: Mutex::default(),
            more: Notify::new(),
            commands: Arc::default(),
            bytes: Arc::default(),
        });
        let runner = proposer.clone();
        tokio::spawn(async move {
            let _ = stop.run_until_cancelled(runner.run()).await;
            // The closed channel reports the end to waiting callers.
            runner.queue.lock().clear();
        });
        proposer
    }

    /// Brings a group into the log, on whichever node leads, and returns its outcome.
    pub(crate) async fn propose(&self, group: Group) -> Result<Decided, Error> {
        self.decide(group, false).await
    }

    /// Brings a group into the log if this node leads, and never forwards it: what a leader knows about other nodes
    /// may no longer be true when its successor reads it.
    pub(crate) async fn propose_as_leader(&self, group: Group) -> Result<Decided, Error> {
        self.decide(group, true).await
    }

    async fn decide(&self, group: Group, local_only: bool) -> Result<Decided, Error> {
        let deadline = Instant::now() + self.settings.deadline;
        let mut waiting = self.enqueue(group, local_only)?;
        match timeout_at(deadline, &mut waiting.result).await {
            Ok(Ok(ProposalResult::Decided(decided))) => Ok(decided),
            Ok(Ok(ProposalResult::Unknown(why))) => Err(Error::unknown(why)),
            Ok(Ok(ProposalResult::Refused(why))) if why.starts_with(disk_reserve::REFUSAL) => {
                Err(disk_reserve::refused(why))
            }
            Ok(Ok(ProposalResult::Refused(why))) => Err(Error::new(Class::Invalid, why)),
            Ok(Ok(ProposalResult::NotLeader(_))) if let Some(no_decision) = &self.leadership.borrow().no_decision => {
                Err(Error::no_majority(no_decision))
            }
            Ok(Ok(ProposalResult::NotLeader(leader))) => {
                Err(Error { leader, ..Error::new(Class::Refused, "this node does not lead; send it to the leader") })
            }
            Ok(Err(_)) if !waiting.abandon() => {
                Err(Error::unknown("this node stopped while the proposal was under way"))
            }
            Ok(Err(_)) => Err(Error::stopped("a stop was requested")),
            Err(_) if !waiting.abandon() => {
                Err(Error::unknown(format!("no majority answered within {:?}", self.settings.deadline)))
            }
            Err(_) if let Some(no_decision) = &self.leadership.borrow().no_decision => {
                Err(Error::no_majority(no_decision))
            }
            Err(_) => Err(Error::no_leader(self.settings.deadline)),
        }
    }

    /// Serves groups from another node as the leader: they join the queue, and are not forwarded. Appends are refused
    /// if there is a reason for it.
    pub(crate) async fn serve(&self, groups: Bytes, append_refusal: Option<&str>) -> Result<Bytes, Error> {
        let malformed = || Error::new(Class::Invalid, "the proposal cannot be read");
        let groups = proposal::decode(groups).ok_or_else(malformed)?;
        let waiting: Vec<_> = groups
            .into_iter()
            .map(|group| match append_refusal.filter(|_| group.events > 0) {
                Some(why) => Err(disk_reserve::refused(why.to_owned())),
                None => self.enqueue(group, true),
            })
            .collect();
        let results = waiting.into_iter().map(|waiting| async {
            match waiting {
                Ok(waiting) => waiting.result().await,
                Err(error) if error.class == Class::Invalid || error.reason == Some(ErrorReason::DiskReserve) => {
                    ProposalResult::Refused(error.message)
                }
                // The queue is full here: the sender keeps the group and retries.
                Err(_) => ProposalResult::NotLeader(None),
            }
        });
        encode_results(&join_all(results).await)
    }

    /// Fails the proposals that wait for a majority, because there has been none for long. Proposals already sent
    /// keep waiting for their outcome.
    pub(crate) fn fail_waiting(&self, no_decision: &NoDecision) {
        let waiting = std::mem::take(&mut *self.queue.lock());
        waiting.into_values().flatten().for_each(|proposal| proposal.fail(&no_decision.describe()));
    }

    /// Returns the number of commands that wait or are under way.
    pub(crate) fn depth(&self) -> usize {
        self.commands.load(Relaxed)
    }

    fn enqueue(&self, group: Group, local_only: bool) -> Result<PendingProposal, Error> {
        let (commands, bytes) = (group.commands.len(), group.bytes());
        if bytes + ENTRY_HEAD_BYTES > ENTRY_BYTES_MAX {
            let message = format!("entry_bytes_max is {ENTRY_BYTES_MAX}, and the command has {bytes}; make it smaller");
            return Err(Error::new(Class::Invalid, message));
        }
        // Every node has to decode the group in the log, so it is decoded before it is written, even if it came from
        // a peer.
        if let Some(error) = group.commands.iter().find_map(|command| command.check().err()) {
            let message = format!("the command cannot go into the log, as the nodes could not read it there: {error}");
            return Err(Error::new(Class::Invalid, message));
        }
        let room = CapacityPermit::take(&self.commands, commands, self.settings.commands_max)
            .ok_or_else(|| Error::overloaded("proposer_commands_max", self.settings.commands_max))?;
        let more = CapacityPermit::take(&self.bytes, bytes, self.settings.bytes_max)
            .ok_or_else(|| Error::overloaded("proposer_bytes_max", self.settings.bytes_max))?;
        let (proposal, waiting) = Proposal::new(group, local_only, Box::new((room, more)));
        self.queue.lock().entry(proposal.group.context).or_default().push_back(proposal);
        self.more.notify_one();
        Ok(waiting)
    }

    async fn run(self: &Arc<Self>) {
        let mut last = ContextId::DEFAULT;
        loop {
            let slot = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            // The contexts take turns.
            let context = loop {
                let next = self.next_context(last);
                match next {
                    Some(context) => break context,
                    None => self.more.notified().await,
                }
            };
            last = context;
            // A leader without a majority sends no proposals: their outcome would stay unknown.
            let leader = self.leadership.borrow().deciding_leader();
            match leader {
                Some(leader) if leader == self.consensus.me() => self.write(context, slot).await,
                Some(leader) => self.send(context, leader, slot),
                None => {
                    self.reject_local_only(None);
                    let _ = tokio::time::timeout(RETRY_WAIT, self.leader_known()).await;
                }
            }
        }
    }

    /// Waits until a node takes proposals.
    async fn leader_known(&self) {
        let _ = self.leadership.clone().wait_for(|now| now.deciding_leader().is_some()).await;
    }

    fn next_context(&self, last: ContextId) -> Option<ContextId> {
        let mut queue = self.queue.lock();
        queue.retain(|_, proposals| {
            proposals.retain(Proposal::has_waiter);
            !proposals.is_empty()
        });
        let next = queue.range(last.next()..).next().or_else(|| queue.iter().next());
        next.map(|(context, _)| *context)
    }

    /// Takes the queued proposals of a context, up to the limits, and claims them for sending; at least one if there
    /// is any.
    fn take(&self, context: ContextId, bytes_max: usize, wanted: impl Fn(&Proposal) -> bool) -> Vec<Proposal> {
        let mut queue = self.queue.lock();
        let Some(waiting) = queue.get_mut(&context) else { return Vec::new() };
        let (mut taken, mut bytes, mut commands) = (Vec::new(), ENTRY_HEAD_BYTES, 0);
        while let Some(first) = waiting.front() {
            let (more, count) = (first.group.bytes(), first.group.commands.len());
            let fits = bytes + more <= bytes_max && commands + count <= self.settings.entry_commands_max;
            if !wanted(first) || !(fits || taken.is_empty()) {
                break;
            }
            let first = waiting.pop_front().expect("it was just looked at");
            // Its caller may have abandoned it since, knowing that nothing was written.
            if first.mark_sent() {
                (bytes, commands) = (bytes + more, commands + count);
                taken.push(first);
            }
        }
        taken
    }

    /// Rejects local proposals if another node leads: their callers retry elsewhere, or stop.
    fn reject_local_only(&self, leader: Option<NodeId>) {
        let mut queue = self.queue.lock();
        for waiting in queue.values_mut() {
            let (staying, others) = std::mem::take(waiting).into_iter().partition(|proposal| proposal.local_only);
            *waiting = others;
            let staying: VecDeque<Proposal> = staying;
            staying.into_iter().for_each(|proposal| proposal.complete(ProposalResult::NotLeader(leader)));
        }
    }

    /// Writes a batch into Raft, as the leader.
    async fn write(self: &Arc<Self>, context: ContextId, slot: OwnedSemaphorePermit) {
        let proposals = self.take(context, self.settings.entry_bytes_max, |_| true);
        if proposals.is_empty() {
            return;
        }
        let mut entry = EntryBuilder::default();
        let mut count = 0;
        for proposal in &proposals {
            proposal.group.commands.iter().for_each(|command| entry.push(command));
            count += proposal.group.events;
        }
        let payload = Payload { context, count, bytes: entry.finish(self.clock.wall(), context) };
        let receipt = self.consensus.submit(payload).await;
        let proposer = self.clone();
        tokio::spawn(async move {
            let written = match receipt {
                Ok(receipt) => receipt.applied().await,
                Err(error) => Err(error),
            };
            drop(slot);
            match written {
                Ok((index, outcomes)) => {
                    let mut outcomes = outcomes.into_iter();
                    for proposal in proposals {
                        let own = outcomes.by_ref().take(proposal.group.commands.len()).collect();
                        proposal.complete(ProposalResult::Decided((index, own)));
                    }
                }
                Err(WriteError::NotLeader(leader)) => {
                    proposer.retry(proposals, &ProposalResult::NotLeader(leader)).await
                }
                Err(WriteError::Unknown(why)) => proposer.retry(proposals, &ProposalResult::Unknown(why)).await,
            }
        });
    }

    /// Sends a batch to the leader, as another node.
    fn send(self: &Arc<Self>, context: ContextId, leader: NodeId, slot: OwnedSemaphorePermit) {
        self.reject_local_only(Some(leader));
        let proposals = self.take(context, FORWARD_BYTES_MAX, |proposal| !proposal.local_only);
        if proposals.is_empty() {
            return;
        }
        let groups = proposal::encode(proposals.iter().map(|proposal| &proposal.group));
        let (proposer, within) = (self.clone(), self.settings.deadline);
        tokio::spawn(async move {
            let mut leadership = proposer.leadership.clone();
            // A leader that is cut off may not answer for long; its successor is known sooner.
            let lost = |now: &Leadership| now.no_decision.is_some() || now.leader.is_some_and(|now| now != leader);
            let answered = tokio::select! {
                answered = proposer.links.forward(leader, groups, within) => answered.map_err(result_without_answer),
                now = leadership.wait_for(lost) => {
                    let no_answer = now.is_ok_and(|now| now.no_decision.is_some());
                    let why = if no_answer { "the leader stopped answering" } else { "the leader changed" };
                    Err(ProposalResult::Unknown(format!("{why} while the proposal was under way")))
                }
            };
            drop(slot);
            let results = answered.and_then(|bytes| {
                codec::decode_message::<Vec<ProposalResult>>(&bytes)
                    .map_err(|error| ProposalResult::Unknown(error.to_string()))
            });
            match results {
                Ok(results) if results.len() == proposals.len() => {
                    for (proposal, result) in proposals.into_iter().zip(results) {
                        match result {
                            decided @ (ProposalResult::Decided(_) | ProposalResult::Refused(_)) => {
                                proposal.complete(decided)
                            }
                            other => proposer.retry(vec![proposal], &other).await,
                        }
                    }
                }
                Ok(_) => {
                    proposer
                        .retry(proposals, &ProposalResult::Unknown("the leader's answer is incomplete".into()))
                        .await
                }
                Err(result) => proposer.retry(proposals, &result).await,
            }
        });
    }

    /// Queues undecided proposals again if they may be retried, and fails the others.
    async fn retry(&self, proposals: Vec<Proposal>, result: &ProposalResult) {
        let mut back = Vec::new();
        for mut proposal in proposals {
            proposal.on_undecided(result);
            let repeat = matches!(result, ProposalResult::NotLeader(_)) || proposal.group.repeatable;
            if proposal.local_only || !repeat {
                proposal.complete(result.clone());
            } else if proposal.has_waiter() {
                back.push(proposal);
            }
        }
        if back.is_empty() {
            return;
        }
        sleep(RETRY_WAIT).await;
        let mut queue = self.queue.lock();
        for proposal in back.into_iter().rev() {
            queue.entry(proposal.group.context).or_default().push_front(proposal);
        }
        self.more.notify_one();
    }
}

/// Returns the result of groups that the leader did not answer.
fn result_without_answer(error: RequestError) -> ProposalResult {
    if error.may_have_happened { ProposalResult::Unknown(error.why) } else { ProposalResult::NotLeader(None) }
}

/// A share of a bounded resource, released when dropped.
struct CapacityPermit {
    of: Arc<AtomicUsize>,
    share: usize,
}

impl CapacityPermit {
    fn take(of: &Arc<AtomicUsize>, share: usize, max: usize) -> Option<Self> {
        let fits = |taken: usize| (taken + share <= max).then_some(taken + share);
        of.fetch_update(Relaxed, Relaxed, fits).ok()?;
        Some(Self { of: of.clone(), share })
    }
}

impl Drop for CapacityPermit {
    fn drop(&mut self) {
        self.of.fetch_sub(self.share, Relaxed);
    }
}

/// Encodes the results of groups for the node that sent them. If they are longer than a message, the groups are decided
/// nevertheless, so the answer is that each outcome is unknown: a refusal would mean that nothing had happened, and the
/// sender would propose the groups again.
fn encode_results(results: &[ProposalResult]) -> Result<Bytes, Error> {
    match codec::encode_message(&results) {
        Ok(answer) if answer.len() <= PAYLOAD_BYTES_MAX => Ok(answer),
        _ => {
            let unknown = |_| ProposalResult::Unknown("the leader's answer is longer than a message".into());
            let results: Vec<_> = results.iter().map(unknown).collect();
            codec::encode_message(&results).map_err(|error| Error::new(Class::Unknown, error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_longer_than_a_message_says_that_the_outcomes_are_unknown() {
        let long = "x".repeat(PAYLOAD_BYTES_MAX / 2);
        for count in [1, 2, 3] {
            let results: Vec<_> = (0..count).map(|_| ProposalResult::Refused(long.clone())).collect();
            let answer = encode_results(&results).unwrap();
            assert!(answer.len() <= PAYLOAD_BYTES_MAX);
            let read: Vec<ProposalResult> = codec::decode_message(&answer).unwrap();
            assert_eq!(read.len(), count);
            let unknown = read.iter().all(|result| matches!(result, ProposalResult::Unknown(_)));
            assert_eq!(unknown, count > 1, "{count} results");
        }
    }
}
