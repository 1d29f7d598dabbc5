//! Detects segments that this node has taken over from an owner whose session ended.

use std::collections::BTreeMap;

use evener_core::id::{NodeId, SegmentId, SessionId};

/// The last known owner of each segment of a processor, with its session.
#[derive(Debug, Default)]
pub(super) struct KnownOwners(BTreeMap<SegmentId, (NodeId, SessionId)>);

impl KnownOwners {
    /// Updates the owners. Returns the previous owner of each segment that `me` owns now and that belonged to another
    /// node whose session has ended.
    pub(super) fn update(
        &mut self,
        me: NodeId,
        owners: &BTreeMap<SegmentId, Option<NodeId>>,
        live: impl Fn(NodeId) -> Option<SessionId>,
    ) -> Vec<NodeId> {
        let lost = |(segment, owner): (&SegmentId, &Option<NodeId>)| {
            let (before, session) = *self.0.get(segment)?;
            (*owner == Some(me) && before != me && live(before) != Some(session)).then_some(before)
        };
        let all_lost = owners.iter().filter_map(lost).collect();
        // A segment without an owner keeps its last owner: the next owner takes it over from that node.
        self.0.retain(|segment, _| owners.contains_key(segment));
        self.0.extend(owners.iter().filter_map(|(segment, owner)| Some((*segment, ((*owner)?, live((*owner)?)?)))));
        all_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);

    /// Returns the detected takeovers for these owners of segment 0, each with node 2's session at that time.
    fn seen(looks: &[(Option<NodeId>, Option<u64>)]) -> Vec<NodeId> {
        let mut owners = KnownOwners::default();
        let look = |(owner, session): &(Option<NodeId>, Option<u64>)| {
            let live = |node| if node == ME { Some(SessionId(1)) } else { session.map(SessionId) };
            owners.update(ME, &[(SegmentId(0), *owner)].into(), live)
        };
        looks.iter().flat_map(look).collect()
    }

    #[test]
    fn a_takeover_from_an_ended_session_is_detected_once() {
        let (mine, theirs) = (Some(ME), Some(OTHER));
        assert_eq!(seen(&[(theirs, Some(7)), (mine, None), (mine, None)]), [OTHER]);
        assert_eq!(seen(&[(theirs, Some(7)), (None, None), (mine, None)]), [OTHER], "it had no owner for a while");
        assert_eq!(seen(&[(theirs, Some(7)), (mine, Some(8))]), [OTHER], "its process has started again");
    }

    #[test]
    fn what_is_handed_over_or_first_seen_is_none() {
        let (mine, theirs) = (Some(ME), Some(OTHER));
        assert_eq!(seen(&[(theirs, Some(7)), (mine, Some(7))]), []);
        assert_eq!(seen(&[(mine, None), (mine, None)]), []);
        assert_eq!(seen(&[(None, None), (mine, None)]), []);
    }
}
