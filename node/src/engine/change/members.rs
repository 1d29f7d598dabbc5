//! Members that come, go, and lead.

use evener_core::{
    command::Change as To,
    state::{ChangeKind, Goal},
};

use super::{Done, decide, first_node, goal_of, member, perform, reached, repeated};
use crate::engine::{Change, local::Engine, votes};
use crate::{codes, error::ApiError};

/// A node joins by itself, since it has to prove its identity: the hint says how.
pub(super) fn how_to_join(engine: &Engine, peer: &str) -> String {
    let (here, cluster) = (engine.cluster().peer_addr(), engine.cluster().id());
    format!(
        "the node at {peer} joins when it is started so: \
         evener serve --peer-listen {peer} --join {here} --cluster {cluster}"
    )
}

/// Lets a member leave for ever, and says what is left of the votes then.
pub(super) async fn leave(engine: &Engine, name: &str, change: &Change) -> Result<Done, ApiError> {
    let (node, note) = {
        let (standing, state) = (engine.cluster().status(), engine.cluster().state());
        match first_node(&state, change, ChangeKind::Leave, Some(name)) {
            Some(node) if !state.members.contains_key(&node) => (node, None),
            first => {
                let node = first.map_or_else(|| member(&state, name), Ok)?;
                (node, votes::without(&standing, &state, node))
            }
        }
    };
    let done = perform(engine, To::Leave(node), change).await?;
    let why = done.why.into_iter().chain(note).reduce(|why, note| format!("{why}; {note}"));
    Ok(Done { why, ..done })
}

/// Lets another member lead.
pub(super) async fn transfer(engine: &Engine, name: Option<&str>, change: &Change) -> Result<Done, ApiError> {
    let standing = engine.cluster().status();
    let first = first_node(&engine.cluster().state(), change, ChangeKind::Lead, name);
    let to = match (first, name) {
        (Some(first), _) => first,
        (None, Some(name)) => member(&engine.cluster().state(), name)?,
        (None, None) => engine
            .cluster()
            .successor(|_| true)
            .ok_or_else(|| ApiError::new(&codes::REFUSED_BY_CLUSTER, "no other voter is alive that could lead"))?,
    };
    let name = engine.cluster().state().name_of(to);
    if standing.leadership.leader == Some(to) {
        return Ok(Done::so(Some(format!("{name} leads already"))));
    }
    if first.is_none() && !standing.voters.contains(&to) {
        let message = format!("{name} does not vote, so it cannot lead");
        return Err(ApiError::new(&codes::REFUSED_BY_CLUSTER, message));
    }
    let lead = To::Lead(to, engine.cluster().leadership().borrow().term);
    if change.dry_run {
        let Some(first) = repeated(engine, &lead, change) else {
            return Ok(Done::so(Some(format!("{name} would lead; nothing was changed"))));
        };
        first?;
    } else {
        decide(engine, lead, change).await?;
    }
    let decided = first_node(&engine.cluster().state(), change, ChangeKind::Lead, None).unwrap_or(to);
    let name = engine.cluster().state().name_of(decided);
    // A repetition: another node may have led in the meantime.
    if let Some(Goal::Leads(to, _)) = goal_of(engine, change.operation).filter(|_| !change.dry_run) {
        engine.cluster().transfer(to).await.map_err(|error| engine.api_error(error))?;
    }
    Ok(reached(engine, change.operation).await.map_or_else(|| Done::so(Some(format!("{name} leads"))), Done::waiting))
}
