//! Who may speak with this node: asked by the handshake, answered from what the log says about members.

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

/// Knows this node, as soon as it is one, and the members.
pub struct NodeAdmission {
    /// Before it is a member.
    joining: Identity,
    member: OnceLock<(Identity, Arc<StateView>)>,
}

impl NodeAdmission {
    /// A node that is no member yet.
    pub fn new(incarnation: Incarnation, level: FeatureLevel) -> Arc<Self> {
        let joining = Identity { cluster: None, node: None, incarnation, level };
        Arc::new(Self { joining, member: OnceLock::new() })
    }

    /// It is a member now.
    pub fn set_member(&self, identity: &evener_store::Identity, level: FeatureLevel, view: Arc<StateView>) {
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
            return Err(Refused::not_ready("this node is not a member yet; ask again"));
        };
        let Some(node) = them.identity.node else {
            return Err(Refused::other("a peer has a number; join first"));
        };
        check_member(&view.state(), node, them.identity.incarnation)
    }
}

/// Whether this is still a member, with the directory that it is known by.
pub fn check_member(state: &State, node: NodeId, incarnation: Incarnation) -> Result<(), Refused> {
    match state.members.get(&node) {
        Some(member) if member.incarnation == incarnation => Ok(()),
        Some(member) => Err(Refused::emptied(node, member.incarnation, incarnation)),
        // A number that this node has seen given, and that is no member's: it was removed.
        None if node <= state.issued.node => Err(match state.removals.get(&node) {
            Some(removal) => Refused::removed(removal_notice(&removal.name, state.cluster, Some(removal))),
            None => Refused::not_a_member(node, state.cluster),
        }),
        // One that it has not seen: it is behind, and they may be newer.
        None => Ok(()),
    }
}

/// Returns the notice for a node that is no longer a member, with the time of its removal if that is still known.
pub fn removal_notice(name: &str, cluster: ClusterId, removal: Option<&Removal>) -> String {
    let date = |removal: &Removal| jiff::Timestamp::from_millisecond(i64::try_from(removal.recorded.0).ok()?).ok();
    let when = removal.and_then(date).map(|date| format!(" at {date}")).unwrap_or_default();
    format!("node {name} was removed from cluster {cluster}{when}, and its directory is of no more use to it")
}
