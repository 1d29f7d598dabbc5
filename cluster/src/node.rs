//! One running node: what its tasks and its peers share.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    mem::take,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use evener_core::{
    append::{self, Appended, Checked, Refusal, Request, Stamp},
    balance,
    command::{Assign, Command, Entry, Outcome},
    event::Event,
    id::{ContextId, FeatureLevel, LogIndex, NodeId, SessionId},
};
use evener_store::{
    EventReader, Identity, Journal, codec,
    history::{Past, SHORT_CHECK_PROBES_MAX},
};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    disk_reserve::{self, DiskRoom},
    error::{Class, Error},
    gate,
    links::Links,
    log_clock::LogClock,
    majority::Lack,
    message::Kind,
    messages::{Lead, ReadAt, Renew, Renewed},
    proposal::Group,
    proposer::{Leadership, Proposer},
    pulse::{Pulse, Pulses},
    raft::{Engine, WriteError},
    recovery::Ledger,
    searches::{Searches, Turn},
    sessions::{Lease, Leases, Sleep},
    transport::Clock,
};

/// Before a question is put to the leader again.
const ASK_AGAIN_WAIT: Duration = Duration::from_millis(20);

/// What the tasks of a node share.
pub struct Node {
    pub config: Config,
    pub identity: Identity,
    /// Where peers reach it.
    pub peer: String,
    pub engine: Engine,
    pub journal: Journal,
    pub ledger: Ledger,
    pub events: EventReader,
    pub searches: Searches,
    pub proposer: Arc<Proposer>,
    pub leadership: watch::Receiver<Leadership>,
    /// That nothing can be decided.
    pub lack: watch::Sender<Option<Lack>>,
    pub session: watch::Sender<Option<SessionId>>,
    /// This process cannot do its work: its session is not renewed.
    pub aside: watch::Sender<bool>,
    /// As its owner counts it.
    pub lease: Mutex<Option<Lease>>,
    pub sleep: Mutex<Sleep>,
    pub leases: Mutex<Leases>,
    pub links: Arc<Links>,
    pub pulses: Pulses,
    /// The room on this node's disk.
    pub disk_room: watch::Sender<DiskRoom>,
    /// The nodes whose disks have too little room for more appends.
    pub no_room: watch::Sender<BTreeSet<NodeId>>,
    /// The log's.
    pub clock: Arc<LogClock>,
    /// How many milliseconds this machine's wall clock is ahead of the majority's, where that can be told.
    pub ahead: Mutex<Option<i64>>,
    /// This machine's.
    pub wall: Arc<dyn Clock>,
    pub stop: CancellationToken,
    pub stopped: watch::Sender<Option<String>>,
    /// It is a member no more, in the words of who told it.
    pub removed: OnceLock<String>,
}

impl Node {
    /// Which member this is.
    pub fn me(&self) -> NodeId {
        self.identity.node
    }

    /// What people call a member.
    pub fn name_of(&self, who: NodeId) -> String {
        let name = self.ledger.view.state().members.get(&who).map(|member| member.name.clone());
        name.unwrap_or_else(|| format!("node {who}"))
    }

    /// What people call these members.
    pub fn names_of<'w>(&self, nodes: impl IntoIterator<Item = &'w NodeId>) -> Vec<String> {
        nodes.into_iter().map(|who| self.name_of(*who)).collect()
    }

    /// Whether its cluster exists, as far as it knows.
    pub fn is_founded(&self) -> bool {
        !self.ledger.view.state().members.is_empty()
    }

    /// Whether this node leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.leadership.borrow().leader == Some(self.me())
    }

    /// Whether it knows that nothing can be decided.
    pub fn lacks(&self) -> bool {
        self.lack.borrow().is_some()
    }

    /// That nothing can be decided, where that has lasted so long that nobody should wait for it.
    pub fn despairs(&self) -> Option<Lack> {
        let lack = self.lack.borrow();
        lack.clone().filter(|lack| lack.since.elapsed() >= self.config.raft.election_max)
    }

    /// Refuses what comes after the end.
    fn runs(&self) -> Result<(), Error> {
        match &*self.stopped.borrow() {
            Some(why) => Err(Error::stopped(why)),
            None => Ok(()),
        }
    }

    /// Waits until the beginning of the log is applied here. A node that has just joined knows of no context and no
    /// limit before, and what it would say of a request is not true of the cluster.
    async fn begun(&self, deadline: Instant) -> Result<(), Error> {
        let mut applied = self.ledger.view.applied();
        let begun = timeout_at(deadline, applied.wait_for(|_| self.is_founded())).await;
        let late =
            || Error::new(Class::Overloaded, "this node has not heard of the cluster's log yet; ask another one");
        begun.map(|_| ()).map_err(|_| late().retry_after(ASK_AGAIN_WAIT))
    }

    /// Adds events: all or none.
    pub async fn append(&self, request: &Request) -> Result<Appended, Error> {
        self.runs()?;
        let deadline = Instant::now() + self.config.proposer.deadline;
        self.begun(deadline).await?;
        let context = request.context;
        if !self.is_founded() {
            let why = "this node has just joined and has not heard of its cluster yet; nothing was written";
            return Err(Error::new(Class::Overloaded, why).retry_after(Duration::from_millis(250)));
        }
        if !self.ledger.view.state().contexts.contains_key(&context) {
            return Err(Error::new(Class::Invalid, format!("there is no context {context}")));
        }
        let mut request = Cow::Borrowed(request);
        if self.ledger.view.state().level < FeatureLevel::SOURCE_IDS {
            let request = request.to_mut();
            request.events = take(&mut request.events).into_iter().map(Event::into_bare).collect();
        }
        // The reader that the marker is from may have asked a node that is ahead of this one.
        let head = self.events.head(context);
        if request.conditions.iter().any(|condition| condition.marker > head) {
            self.barrier().await?;
        }
        loop {
            // Off the path of apply, against all that is applied here: whatever is refused now would be refused
            // at its place in the log too, as the history only grows.
            let stamp = match self.check(&request).await? {
                Checked::Answered(appended) => return Ok(appended),
                Checked::Refused(refusal) => return Err(refusal.into()),
                Checked::Passed(stamp) => stamp,
            };
            // A repetition of what is stored was answered above.
            self.has_room()?;
            let (index, outcomes) = self.proposer.propose(Group::append(&request, &stamp)).await?;
            match outcomes.into_iter().next() {
                Some(Outcome::Appended(appended)) => return Ok(appended),
                // Too much came between the check and its place: check again, up to that place.
                Some(Outcome::Refused(Refusal::Retry)) if Instant::now() < deadline => {
                    self.ledger.view.reach(index).await;
                    if !request.conditions.is_empty() {
                        with_later_markers(request.to_mut(), &stamp);
                    }
                }
                Some(Outcome::Refused(refusal)) => return Err(refusal.into()),
                Some(Outcome::Not(why)) => return Err(why.into()),
                other => return Err(Error::unknown(format!("the answer makes no sense: {other:?}"))),
            }
        }
    }

    /// Checks an append against all that is applied here. A check that looks far back goes on where it may take long.
    async fn check(&self, request: &Request) -> Result<Checked, Error> {
        let limits = self.ledger.view.state().limits;
        let (checked, exhausted) = {
            let past = Past::new(self.events.clone(), SHORT_CHECK_PROBES_MAX);
            let checked = append::check(&past, &limits, request);
            (checked, past.is_exhausted())
        };
        match checked {
            Checked::Passed(_) if exhausted => {
                let (events, request) = (self.events.clone(), request.clone());
                let check = move |cancelled| append::check(&Past::unlimited(events, cancelled), &limits, &request);
                self.searches.run(Turn::First, check).await
            }
            // A reason against it stays one, however much more there is to look at.
            checked => Ok(checked),
        }
    }

    /// Brings one command into the log, and tells how it was judged.
    pub async fn propose(&self, command: &Command) -> Result<Outcome, Error> {
        let (_, outcomes) = self.propose_all(std::slice::from_ref(command)).await?;
        outcomes.into_iter().next().ok_or_else(|| Error::unknown("the answer is empty"))
    }

    /// Brings commands into the log next to each other, in one entry.
    pub async fn propose_all(&self, commands: &[Command]) -> Result<(LogIndex, Vec<Outcome>), Error> {
        self.runs()?;
        if let Some(passed) = commands.iter().find_map(|command| command.may_be_proposed().err()) {
            return Err(Refusal::Limit(passed).into());
        }
        self.proposer.propose(Group::new(ContextId::DEFAULT, commands)).await
    }

    /// Waits until everything that was true when this was asked is applied here.
    pub async fn barrier(&self) -> Result<LogIndex, Error> {
        self.runs()?;
        let wait = self.config.proposer.deadline;
        let deadline = Instant::now() + wait;
        let asked = async {
            loop {
                if let Some(lack) = self.despairs() {
                    return Err(Error::no_majority(&lack));
                }
                if let Some(index) = self.read_index(deadline).await {
                    self.ledger.view.reach(index).await;
                    return Ok(index);
                }
                sleep(ASK_AGAIN_WAIT).await;
            }
        };
        timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(Error::no_leader(wait)))
    }

    async fn read_index(&self, deadline: Instant) -> Option<LogIndex> {
        let leader = self.leadership.borrow().leader?;
        if leader == self.me() {
            return self.engine.read_index().await.ok();
        }
        let within = deadline.saturating_duration_since(Instant::now());
        let answer = self.links.ask(leader, Kind::READ_INDEX, Bytes::new(), within.min(self.config.raft.election_max));
        match codec::decode_message(&answer.await.ok()?) {
            Ok(ReadAt::Index(index)) => Some(index),
            Ok(ReadAt::NotLeader) | Err(_) => None,
        }
    }

    /// A peer asks this node as the leader.
    pub async fn serve_read_index(&self) -> ReadAt {
        match self.engine.read_index().await {
            Ok(index) => ReadAt::Index(index),
            Err(WriteError::NotLeader(_) | WriteError::Unknown(_)) => ReadAt::NotLeader,
        }
    }

    /// Returns what this node tells of itself.
    pub fn pulse(&self) -> Pulse {
        let leader = self.leadership.borrow().leader;
        let others = leader.filter(|leader| *leader != self.me());
        let silence = others.and_then(|leader| self.pulses.silence(leader)).unwrap_or_default();
        Pulse { wall: self.wall.wall(), leader, silence, disk_low: self.disk_room.borrow().low }
    }

    /// Returns why no append is taken, if none is.
    pub fn append_refusal(&self) -> Option<String> {
        let blocking = self.no_room.borrow().clone();
        (!blocking.is_empty()).then(|| disk_reserve::refusal(&self.names_of(&blocking), *self.disk_room.borrow()))
    }

    /// Refuses an append while there is no room for it.
    fn has_room(&self) -> Result<(), Error> {
        self.append_refusal().map_or(Ok(()), |why| Err(disk_reserve::refused(why)))
    }

    /// Says to the leader that this node's session lives.
    pub async fn renew(&self, session: SessionId, within: Duration) -> Renewed {
        let renew = Renew { node: self.me(), session };
        let leader = self.leadership.borrow().leader;
        match leader {
            None => Renewed::NotLeader,
            Some(leader) if leader == self.me() => self.serve_renew(renew),
            Some(leader) => {
                let Ok(question) = codec::encode_message(&renew) else { return Renewed::NotLeader };
                match self.links.ask(leader, Kind::RENEW, question, within).await {
                    Ok(answer) => codec::decode_message(&answer).unwrap_or(Renewed::NotLeader),
                    Err(_) => Renewed::NotLeader,
                }
            }
        }
    }

    /// A session's owner says to this node as the leader that it lives.
    pub fn serve_renew(&self, renew: Renew) -> Renewed {
        // Cut off, it may have a successor that counts already.
        let standing = self.engine.standing();
        let alone = standing.voters == [self.me()];
        // An answer from before it was suspended is older than it looks.
        let now = Instant::now();
        let woke = self.sleep.lock().woke(now, self.wall.boot());
        let heard = |age| woke.is_none_or(|woke| age < now.saturating_duration_since(woke));
        let fresh = standing.quorum_age.is_some_and(|age| age <= self.config.lease / 3 && heard(age));
        if !alone && !fresh {
            return Renewed::NotLeader;
        }
        if self.engine.has_lapsed(renew.node) {
            return Renewed::Lapsed;
        }
        let live = self.ledger.view.state().sessions.get(&renew.node).map(|live| live.session);
        self.leases.lock().renew(renew.node, renew.session, live, Instant::now())
    }

    /// Whether this node has this session, and its lease is not over.
    pub fn holds(&self, session: SessionId) -> bool {
        let lease = self.lease.lock().filter(|lease| lease.session == session);
        let over = |lease: Lease| lease.is_over(self.config.lease, Instant::now(), self.wall.boot());
        *self.session.borrow() == Some(session) && lease.is_some_and(|lease| !over(lease))
    }

    /// Ends the session of a node that this one, as the leader, has not heard of. Who does not lead any more has
    /// nothing to say of that: its successor counts the leases anew.
    pub async fn expire(&self, node: NodeId, session: SessionId) -> Result<(), Error> {
        self.runs()?;
        let group = Group::new(ContextId::DEFAULT, &self.ending(node, session));
        self.proposer.propose_as_leader(group).await.map(|_| ())
    }

    /// Ends this node's own session.
    pub async fn resign(&self, session: SessionId) -> Result<(), Error> {
        self.propose_all(&self.ending(self.me(), session)).await.map(|_| ())
    }

    /// What ends a session, and gives what it had to others, in one entry.
    fn ending(&self, node: NodeId, session: SessionId) -> Vec<Command> {
        // A plan is made from the table as the expiry leaves it, and named by that table's generation.
        let (mut after, index) = {
            let state = self.ledger.view.state();
            (state.clone(), self.ledger.view.applied().borrow().index)
        };
        let expire = Command::Expire(node, session);
        let entry = Entry { proposed: self.clock.wall(), context: ContextId::DEFAULT, commands: vec![expire.clone()] };
        after.apply(index, &entry);
        let moves = balance::plan(&after.balance_view(self.clock.wall()));
        let mut commands = vec![expire];
        if !moves.is_empty() {
            commands.push(Command::Assign(Assign { generation: after.generation, moves }));
        }
        commands
    }

    /// Passes leadership on to a voter. It is tried, not promised.
    pub async fn transfer(&self, to: NodeId) -> Result<(), Error> {
        let Some(leader) = self.leadership.borrow().leader else {
            return Err(Error::no_leader(Duration::ZERO));
        };
        if !self.engine.standing().voters.contains(&to) {
            return Err(Error::new(Class::Invalid, format!("node {to} does not vote, so it cannot lead")));
        }
        if leader == self.me() {
            self.engine.transfer(to).await;
            return Ok(());
        }
        let question = codec::encode_message(&Lead { to }).expect("it is a number");
        let answer = self.links.ask(leader, Kind::LEAD, question, self.config.raft.election_max).await;
        answer.map(|_| ()).map_err(|error| Error::new(Class::Refused, error.to_string()))
    }

    /// Of the voters that live, other than this node, one that stays if any does, and whose log is known to reach
    /// farthest.
    pub fn heir(&self) -> Option<NodeId> {
        self.heir_among(|_| true)
    }

    /// As [`Self::heir`], of those that are meant.
    pub fn heir_among(&self, meant: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let standing = self.engine.standing();
        let (state, gone) = (self.ledger.view.state(), self.links.gone().borrow().clone());
        let live = |node: &&NodeId| **node != self.me() && !gone.contains(node) && state.sessions.contains_key(node);
        let stays = |node: &NodeId| state.sessions.get(node).is_some_and(|session| !session.draining);
        let rank = |node: &&NodeId| (stays(node), standing.matched.get(node).copied().flatten());
        standing.voters.iter().filter(|voter| meant(**voter)).filter(live).max_by_key(rank).copied()
    }

    /// Waits until so many voters' processes are gone that nothing can be decided: who ends then need not try.
    pub async fn forsaken(&self) {
        let outvoted = |gone: &BTreeSet<NodeId>| {
            let voters = self.engine.standing().voters;
            let left = voters.iter().filter(|voter| !gone.contains(voter)).count();
            !voters.is_empty() && left * 2 <= voters.len()
        };
        // It cannot close: the sender is the node's.
        let _ = self.links.gone().wait_for(outvoted).await;
    }

    /// Waits until its Raft has stopped, and tells why: the disk's own words, where it was the disk.
    pub async fn ended(&self) -> String {
        let why = self.engine.ended().await;
        self.journal.stopped().unwrap_or(why)
    }

    /// It learned that it is a member no more: the node takes no part any more.
    pub fn dismissed(&self, farewell: String) {
        let _ = self.removed.set(farewell);
        self.fail(self.farewell());
    }

    /// What is said to a node that is a member no more: as others told it, else as its own log does.
    pub fn farewell(&self) -> String {
        let Identity { name, cluster, .. } = &self.identity;
        let own = || gate::farewell(name, *cluster, self.ledger.view.state().removals.get(&self.me()));
        self.removed.get().cloned().unwrap_or_else(own)
    }

    /// Whether the log, as far as it is applied here, says that this node was removed.
    pub fn is_removed(&self) -> bool {
        let state = self.ledger.view.state();
        let seen = state.given.node >= self.me();
        self.removed.get().is_some() || (seen && !state.members.contains_key(&self.me()))
    }

    /// Something below failed: the node takes no part any more, and says why.
    pub fn fail(&self, why: String) {
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                tracing::error!(node = %self.me(), why, "this node stops");
                *stopped = Some(why);
            }
            first
        });
        self.session.send_replace(None);
        self.stop.cancel();
    }
}

/// Moves the markers of the conditions to where they were checked: nothing before that matches, so it need not be
/// checked again.
fn with_later_markers(request: &mut Request, stamp: &Stamp) {
    for condition in &mut request.conditions {
        condition.marker = condition.marker.max(stamp.checked_to);
    }
}
