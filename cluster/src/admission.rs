//! Admission of peers: the handshake asks it whether a peer may connect, and it decides by the members in the log.

use std::sync::{Arc, OnceLock};

use evener_core::{
    id::{ClusterId, FeatureLevel, Incarnation, NodeId},
    removal::Removal,
    state::State,
};

use crate::{
    handshake::{Admission, Identity, PeerIdentity, Purpose, Refused},
    view::StateView,
};

/// Admits peers by this node's identity and the members in the log.
pub(crate) struct NodeAdmission {
    /// The identity of this node before it is a member.
    joining: Identity,
    member: OnceLock<(Identity, Arc<StateView>)>,
}

impl NodeAdmission {
    /// Returns the admission of a node that is not a member yet.
    pub(crate) fn new(incarnation: Incarnation, level: FeatureLevel) -> Arc<Self> {
        let joining = Identity { cluster: None, node: None, incarnation, level };
        Arc::new(Self { joining, member: OnceLock::new() })
    }

    /// Sets the identity of this node as a member.
    pub(crate) fn set_member(&self, identity: &evener_store::Identity, level: FeatureLevel, view: Arc<StateView>) {
        let evener_store::Identity { cluster, node, incarnation, .. } = *identity;
        let _ = self.member.set((Identity { cluster: Some(cluster), node: Some(node), incarnation, level }, view));
    }
}

impl Admission for NodeAdmission {
    fn me(&self) -> Identity {
        self.member.get().map_or(self.joining, |(identity, _)| *identity)
    }

    fn admit(&self, them: &PeerIdentity) -> Result<(), Refused> {
        if them.purpose == Purpose::Inquiry {
            return Ok(());
        }
        let Some((_, view)) = self.member.get() else {
            return Err(Refused::not_ready("this node is not a member yet; retry"));
        };
        let Some(node) = them.identity.node else {
            return Err(Refused::other("the peer has no node number; join first"));
        };
        check_member(&view.state(), node, them.identity.incarnation)
    }
}

/// Checks that `node` is a member and has the data directory under which it was admitted.
pub(crate) fn check_member(state: &State, node: NodeId, incarnation: Incarnation) -> Result<(), Refused> {
    match state.members.get(&node) {
        Some(member) if member.incarnation == incarnation => Ok(()),
        Some(member) => Err(Refused::emptied(node, member.incarnation, incarnation)),
        // This number was issued, but no member has it: that member was removed.
        None if node <= state.issued.node => Err(match state.removals.get(&node) {
            Some(removal) => Refused::removed(removal_notice(&removal.name, state.cluster, Some(removal))),
            None => Refused::not_a_member(node, state.cluster),
        }),
        // This number is not known to be issued: this node may have applied less of the log than the peer.
        None => Ok(()),
    }
}

/// Returns the notice for a node that is no longer a member, with the time of its removal if that is still known.
pub(crate) fn removal_notice(name: &str, cluster: ClusterId, removal: Option<&Removal>) -> String {
    let date = |removal: &Removal| jiff::Timestamp::from_millisecond(i64::try_from(removal.recorded.0).ok()?).ok();
    let when = removal.and_then(date).map(|date| format!(" at {date}")).unwrap_or_default();
    format!("node {name} was removed from cluster {cluster}{when}, and its data directory cannot be used any more")
}
