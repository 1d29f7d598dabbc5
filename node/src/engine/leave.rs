//! Members that come, go, and lead.

use evener_core::id::NodeId;
use tokio::time::timeout;

use super::{
    Change, Reply, Request, What,
    change::{Done, member},
    local::{ANSWER_WAIT, Engine, name_of},
};
use crate::{client::Client, codes, error::ApiError};

/// A node joins by itself, as it must show who it is: this tells how, and whether it has.
pub fn join(engine: &Engine, peer: &str) -> Result<Done, ApiError> {
    let state = engine.cluster().state();
    if let Some(member) = state.members.values().find(|member| member.peer == peer || member.name == peer) {
        return Ok(Done::so(Some(format!("{} is a member", member.name))));
    }
    let (here, cluster) = (engine.cluster().peer_addr(), engine.cluster().id());
    Ok(Done::waiting(format!(
        "the node at {peer} joins when it is started so: \
         evener serve --peer-listen {peer} --join {here} --cluster {cluster}"
    )))
}

/// A member that lives is asked to hand over first; one that does not is taken out.
pub async fn leave(engine: &Engine, name: &str, change: &Change) -> Result<Done, ApiError> {
    let (node, alive, http, last) = {
        let state = engine.cluster().state();
        let node = member(&state, name)?;
        let http = state.members.get(&node).map(|member| member.http.clone()).unwrap_or_default();
        (node, state.sessions.contains_key(&node), http, state.members.len() == 1)
    };
    if last {
        let message = format!("{name} is the last member, and cannot leave");
        return Err(ApiError::new(&codes::REFUSED_BY_CLUSTER, message).hint("stop it; its data stay where they are"));
    }
    if change.dry_run {
        let how = if alive { "would hand over what it has and leave" } else { "would be taken out" };
        return Ok(Done::so(Some(format!("{name} {how}; nothing was changed"))));
    }
    if node == engine.cluster().me() {
        engine.leave();
        return Ok(Done::waiting(format!("{name} hands over what it has, then leaves and ends")));
    }
    if alive && let Some(done) = ask_it(&http, name, change).await {
        return Ok(done);
    }
    engine.cluster().remove(node).await.map_err(|error| engine.told(error))?;
    Ok(Done::so(Some(format!("{name} was taken out"))))
}

/// Asks a member to leave by itself; none where it does not answer.
async fn ask_it(http: &str, name: &str, change: &Change) -> Option<Done> {
    let client = Client::connect(http).ok()?.with_patience(ANSWER_WAIT);
    let what = What::Leave(name.to_owned());
    let request = Request::Change(Change { what, ..change.clone() });
    match timeout(ANSWER_WAIT, client.ask(&request)).await {
        Ok(Ok(Reply::Operation(operation))) => {
            Some(Done { state: operation.state, why: operation.why, changed: operation.changed })
        }
        _ => None,
    }
}

/// Lets another member lead.
pub async fn transfer(engine: &Engine, name: Option<&str>, dry_run: bool) -> Result<Done, ApiError> {
    let standing = engine.cluster().status();
    let to = match name {
        Some(name) => member(&engine.cluster().state(), name)?,
        None => heir(engine)?,
    };
    let name = name_of(&engine.cluster().state(), to);
    if standing.leader == Some(to) {
        return Ok(Done::so(Some(format!("{name} leads already"))));
    }
    if dry_run {
        return Ok(Done::so(Some(format!("{name} would lead; nothing was changed"))));
    }
    let mut leadership = engine.cluster().leadership();
    engine.cluster().transfer(to).await.map_err(|error| engine.told(error))?;
    match timeout(ANSWER_WAIT, leadership.wait_for(|now| now.leader == Some(to))).await {
        Ok(Ok(_)) => Ok(Done::so(Some(format!("{name} leads")))),
        _ => Ok(Done::waiting(format!("{name} was asked to lead and does not yet: it may lack a part of the log"))),
    }
}

/// Who should lead next: of the voters that live the one that is furthest, as far as this node knows.
fn heir(engine: &Engine) -> Result<NodeId, ApiError> {
    let standing = engine.cluster().status();
    let state = engine.cluster().state();
    let alive = |node: &&NodeId| Some(**node) != standing.leader && state.sessions.contains_key(node);
    let furthest = |node: &&NodeId| standing.matched.get(node).copied().flatten();
    let heir = standing.voters.iter().filter(alive).max_by_key(furthest).copied();
    heir.ok_or_else(|| ApiError::new(&codes::REFUSED_BY_CLUSTER, "no other voter lives that could lead"))
}
