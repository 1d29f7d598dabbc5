//! Members and their sessions: which nodes are members, which are active, and the effect on claims and loans.

use alloc::vec::Vec;

use super::{State, exists, invalid, not_found};
use crate::{
    claim::Motion,
    command::{Admit, Assign, Begin, Outcome, RefusalReason},
    id::{FeatureLevel, LogIndex, NodeId, SessionId},
    limits::LimitName,
    member::Member,
    reason::{Existing, Invalid, LimitReached, NotFound},
    removal::{REMOVALS_MAX, Removal},
    session::Session,
};

/// The greatest weight of a node relative to another's: a greater one would leave the others nothing to do.
const WEIGHT_MAX: u32 = 1_000;

impl State {
    /// Admits a node as a member.
    pub(super) fn admit(&mut self, index: LogIndex, admit: &Admit) -> Outcome {
        if let Err(exceeded) = admit.within(&self.limits) {
            return Outcome::Refused(exceeded.into());
        }
        let Admit { name, incarnation, peer, http, level } = admit.clone();
        if let Some(member) = self.members.values_mut().find(|member| member.incarnation == incarnation) {
            if member.name != name {
                return exists(Existing::Directory(member.name.clone()));
            }
            (member.peer, member.http, member.level) = (peer, http, level);
            return Outcome::Admitted(member.node);
        }
        if self.member(&name).is_some() {
            return exists(Existing::MemberName(name));
        }
        let members_max = self.limits.members_max;
        if self.members.len() >= members_max as usize {
            return Outcome::Refused(RefusalReason::Limit(LimitReached::new(LimitName::Members, members_max)));
        }
        let node = self.issued.node.next();
        self.issued.node = node;
        self.members.insert(node, Member { node, name, incarnation, peer, http, level, leaving: false });
        self.mark_changed(index);
        Outcome::Admitted(node)
    }

    /// Removes a member permanently; its number is never reused.
    pub(super) fn remove(&mut self, index: LogIndex, node: NodeId) -> Outcome {
        let Some(member) = self.members.get(&node) else { return not_found(NotFound::Member(node)) };
        if self.members.len() == 1 {
            return invalid(Invalid::LastMember(member.name.clone()));
        }
        self.end_session(index, node);
        self.dismiss(node);
        self.mark_changed(index);
        Outcome::Done
    }

    /// Ends a membership, and all pins to the node. Only the latest removals are remembered.
    fn dismiss(&mut self, node: NodeId) {
        if let Some(Member { name, .. }) = self.members.remove(&node) {
            self.removals.insert(node, Removal { name, recorded: self.recorded });
        }
        if self.removals.len() > REMOVALS_MAX {
            self.removals.pop_first();
        }
        for share in self.processors.values_mut().flat_map(|processor| processor.segments.values_mut()) {
            share.claim.pin.take_if(|pin| pin.node == node);
        }
    }

    /// Asks a member to leave. An active one is given no more work, and ends when it has handed over.
    pub(super) fn leave(&mut self, index: LogIndex, node: NodeId) -> Outcome {
        let others_stay = self.members.values().any(|other| other.node != node && !other.leaving);
        let Some(member) = self.members.get_mut(&node) else { return not_found(NotFound::Member(node)) };
        if !others_stay {
            return invalid(Invalid::LastMember(member.name.clone()));
        }
        let asked_before = core::mem::replace(&mut member.leaving, true);
        match self.sessions.get_mut(&node) {
            Some(_) if asked_before => return Outcome::Changed(0),
            Some(session) => session.draining = true,
            None => self.dismiss(node),
        }
        self.mark_changed(index);
        Outcome::Changed(1)
    }

    /// Begins a session of a member's process.
    pub(super) fn begin(&mut self, index: LogIndex, begin: &Begin) -> Outcome {
        if let Err(exceeded) = begin.within(&self.limits) {
            return Outcome::Refused(exceeded.into());
        }
        let Begin { node, incarnation, peer, http, level, capabilities, weight, nonce } = begin.clone();
        let Some(member) = self.members.get_mut(&node) else { return not_found(NotFound::Member(node)) };
        if member.incarnation != incarnation {
            return exists(Existing::Incarnation(member.name.clone()));
        }
        if let Some(session) = self.sessions.get(&node).filter(|session| session.nonce == nonce) {
            return Outcome::Begun(session.session);
        }
        (member.peer, member.http, member.level) = (peer, http, level);
        let draining = member.leaving;
        self.end_session(index, node);
        let session = self.issued.session.next();
        self.issued.session = session;
        let weight = weight.clamp(1, WEIGHT_MAX);
        self.sessions.insert(node, Session { node, session, since: index, capabilities, weight, nonce, draining });
        self.mark_changed(index);
        Outcome::Begun(session)
    }

    /// Drains a member's process, which is leaving.
    pub(super) fn drain(&mut self, index: LogIndex, node: NodeId, session: SessionId) -> Outcome {
        match self.sessions.get_mut(&node) {
            Some(live) if live.session == session => {
                if !live.draining {
                    live.draining = true;
                    self.mark_changed(index);
                }
                Outcome::Done
            }
            _ => Outcome::Refused(RefusalReason::Fenced),
        }
    }

    /// Ends the session of a member's process. It is named, so that a later session is not affected.
    pub(super) fn expire(&mut self, index: LogIndex, node: NodeId, session: SessionId) -> Outcome {
        if self.sessions.get(&node).is_none_or(|live| live.session != session) {
            return Outcome::Refused(RefusalReason::Fenced);
        }
        self.end_session(index, node);
        // It was asked to leave, and has ended.
        if self.members.get(&node).is_some_and(|member| member.leaving) {
            self.dismiss(node);
        }
        self.mark_changed(index);
        Outcome::Done
    }

    /// Ends all claims and loans of a node, in this one entry.
    fn end_session(&mut self, index: LogIndex, node: NodeId) {
        if self.sessions.remove(&node).is_none() {
            return;
        }
        let (mut returned, mut reshaped) = (Vec::new(), Vec::new());
        for processor in self.processors.values_mut() {
            if processor.segments.values().any(|share| share.reshape.is_some() && share.claim.owner == Some(node)) {
                reshaped.push(processor.id);
            }
            for share in processor.segments.values_mut() {
                if share.claim.owner == Some(node) {
                    share.claim.give(None, self.issued.next_epoch(), index);
                    processor.changed = index;
                } else if share.claim.motion == Motion::To(node) {
                    share.claim.motion = Motion::Stay;
                    processor.changed = index;
                }
            }
            for (sequence, set_aside) in &processor.set_aside {
                if set_aside.loan.is_some_and(|loan| loan.node == node) {
                    returned.push((processor.id, sequence.clone()));
                }
            }
        }
        for (processor, sequence) in returned {
            self.take_back(index, processor, &sequence);
            self.lend(index, processor, &sequence);
        }
        reshaped.into_iter().for_each(|processor| self.reshape(index, processor, None));
    }

    /// Applies the balancer's plan.
    pub(super) fn assign(&mut self, index: LogIndex, assign: &Assign) -> Outcome {
        if assign.generation != self.generation {
            return Outcome::Refused(RefusalReason::Outdated);
        }
        let mut given = 0;
        for wanted in &assign.moves {
            let Some(processor) = self.processors.get(&wanted.processor) else { continue };
            if !self.can_run(wanted.to, processor) {
                continue;
            }
            let processor = self.processors.get_mut(&wanted.processor).expect("it was found above");
            let Some(share) = processor.segments.get_mut(&wanted.segment) else { continue };
            match share.claim.owner {
                None => share.claim.give(Some(wanted.to), self.issued.next_epoch(), index),
                Some(owner) if owner == wanted.to => share.claim.motion = Motion::Stay,
                Some(_) => share.claim.motion = Motion::To(wanted.to),
            }
            processor.changed = index;
            given += 1;
        }
        if given > 0 {
            self.mark_changed(index);
        }
        Outcome::Changed(given)
    }

    /// Raises the level that all members understand.
    pub(super) fn raise_level(&mut self, index: LogIndex, level: FeatureLevel) -> Outcome {
        if self.members.values().any(|member| member.level < level) {
            return Outcome::Refused(RefusalReason::Outdated);
        }
        if self.level < level {
            self.level = level;
            self.mark_changed(index);
        }
        Outcome::Done
    }
}
