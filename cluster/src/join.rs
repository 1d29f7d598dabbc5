//! How a node becomes a member: from the identity in its directory, by founding a cluster, or by joining one.

use std::{collections::BTreeMap, io, time::Duration};

use bytes::Bytes;
use evener_core::{
    command::{Admit, Command, Found, Outcome, RefusalReason},
    id::{ClusterId, Incarnation, NodeId},
};
use evener_store::{
    Disk, Identity, Journal,
    codec::{decode_message, encode_message},
    disk::Op,
    error::OpenError,
    identity::NODE_NAME_BYTES_MAX,
};
use futures::future::join_all;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{
    cluster::Cluster,
    config::Config,
    error::{StartError, StartRefusal},
    links::Links,
    message::Kind,
    messages::{Join, Joined, NodeInfo},
    unique_id::{IdPurpose, unique_id},
};

/// The time limit for asking which node is at an address.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// The time limit for a join request: the member may have to find the leader first.
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);
/// The delay before the addresses are tried again.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// The file that holds the incarnation of a directory before it has an identity.
const INCARNATION_FILE: &str = "incarnation";

/// The file and the number of bytes with which a start tests the disk: enough for a vote, a watermark and the first
/// entries.
const TRIAL_FILE: &str = "trial";
const START_BYTES: usize = 64 << 10;

/// Returns the incarnation of this directory. It is generated once and persisted before it is sent to a member, so that
/// an interrupted join can be resumed.
pub(crate) fn incarnation(config: &Config, disk: &dyn Disk) -> Result<Incarnation, StartError> {
    if let Some(identity) = Identity::read(disk)? {
        return Ok(identity.incarnation);
    }
    let failed = || OpenError::io(format!("write the incarnation into {}", disk.name()));
    if disk.len(INCARNATION_FILE).map_err(failed())? == Some(16) {
        let bytes = disk.read(INCARNATION_FILE, 0, 16).map_err(failed())?;
        let written = Uuid::from_slice(&bytes).expect("16 bytes were read");
        if !written.is_nil() {
            return Ok(Incarnation(written));
        }
    }
    let generated = unique_id(config.random_id, IdPurpose::Incarnation, 0);
    let file = INCARNATION_FILE.to_owned();
    let bytes = Bytes::copy_from_slice(generated.as_bytes());
    disk.perform(vec![
        Op::Create { file: file.clone(), preallocate: 0 },
        Op::Write { file: file.clone(), offset: 0, bytes },
        Op::SyncData { file },
        Op::SyncDir { dir: String::new() },
    ])
    .map_err(failed())?;
    Ok(Incarnation(generated))
}

/// Writes to the directory of a node and syncs it, before the node is reported as ready: on a full or read-only disk it
/// would stop at its first vote.
pub(crate) fn try_disk(disk: &dyn Disk) -> Result<(), StartError> {
    let file = TRIAL_FILE.to_owned();
    let tried = disk.perform(vec![
        Op::Create { file: file.clone(), preallocate: 0 },
        Op::Write { file: file.clone(), offset: 0, bytes: Bytes::from_static(&[0; START_BYTES]) },
        Op::SyncData { file: file.clone() },
    ]);
    // Even a file that was written in part takes up space.
    let removed = disk.perform(vec![Op::Remove { file }]);
    tried.and(removed).map_err(|source| {
        let doing = format!("write {START_BYTES} bytes into {}, as every start does", disk.name());
        OpenError::Io { action: doing, source }.into()
    })
}

/// Checks that an empty log has space for its first chunk: without it the node would wait, and never be ready.
pub(crate) fn check_first_chunk(journal: &Journal, disk: &dyn Disk) -> Result<(), StartError> {
    let (directory, bytes) = (disk.name(), journal.chunk_bytes());
    let action = format!("allocate {bytes} bytes for the first chunk of the log in {directory}");
    let free = disk.space().map_err(OpenError::io(format!("measure the free space of {directory}")))?.free;
    if journal.chunks().is_empty() && free < bytes {
        let source = io::Error::new(io::ErrorKind::StorageFull, format!("only {free} bytes are free"));
        return Err(OpenError::Io { action, source }.into());
    }
    Ok(())
}

/// Returns the identity of this node, and whether it is new and still to be persisted.
pub(crate) async fn become_member(
    config: &Config,
    disk: &dyn Disk,
    links: &Links,
    peer: &str,
    incarnation: Incarnation,
) -> Result<(Identity, bool), StartError> {
    if let Some(identity) = Identity::read(disk)? {
        let identity = check_identity(config, identity)?;
        check_join_addresses(config, &disk.name(), links, peer, &identity).await?;
        return Ok((identity, false));
    }
    if config.name.len() > NODE_NAME_BYTES_MAX {
        let why = format!(
            "a node's name has at most {NODE_NAME_BYTES_MAX} bytes, and this one has {}; choose another",
            config.name.len()
        );
        return Err(StartError::Refused { reason: StartRefusal::InvalidConfig, message: why });
    }
    if let Err(error) = evener_core::name::check(&config.name) {
        let why = format!("the node's name {:?} {error}; choose another", config.name);
        return Err(StartError::Refused { reason: StartRefusal::InvalidConfig, message: why });
    }
    let identity = match (config.bootstrap, config.join.is_empty()) {
        (true, _) => {
            check_no_cluster_answers(config, links).await?;
            Identity {
                cluster: config.cluster.unwrap_or(ClusterId(unique_id(config.random_id, IdPurpose::Cluster, 0))),
                node: NodeId(1),
                name: config.name.clone(),
                incarnation,
                chunk_bytes: config.journal.chunk_bytes,
            }
        }
        (false, false) => join(config, links, peer, incarnation).await?,
        (false, true) => {
            let disk = disk.name();
            let why =
                format!("{disk} holds no node: found a cluster with --bootstrap, or join one with --join ADDRESS");
            return Err(StartError::Refused { reason: StartRefusal::NoCluster, message: why });
        }
    };
    Ok((identity, true))
}

/// Persists a new identity. It is written after the log is created, so a directory with an identity but without a log
/// has lost entries that it may have acknowledged; such a node must not vote under its number, and is refused.
pub(crate) fn persist_identity(identity: &Identity, new: bool, fresh: bool, disk: &dyn Disk) -> Result<(), StartError> {
    if new {
        return Ok(identity.write(disk)?);
    }
    if fresh {
        let (name, disk) = (&identity.name, disk.name());
        let why = format!(
            "{disk} belongs to node {name} and holds no log: what the node may have acknowledged is lost; empty the \
             directory and join under another name, then remove the old one with `evener cluster leave {name}`"
        );
        return Err(StartError::Refused { reason: StartRefusal::EmptiedDirectory, message: why });
    }
    Ok(())
}

/// Checks that the identity in the directory is the configured one.
fn check_identity(config: &Config, identity: Identity) -> Result<Identity, StartError> {
    let Identity { cluster, name, .. } = &identity;
    if let Some(wanted) = config.cluster.filter(|wanted| wanted != cluster) {
        let why = format!(
            "the data directory is of cluster {cluster}, but cluster {wanted} is configured; give that cluster's \
             directory, or an empty one"
        );
        return Err(StartError::Refused { reason: StartRefusal::OtherCluster, message: why });
    }
    if *name != config.name {
        let why = format!(
            "the data directory is of the node named {name}, and it was started as {}; start it under its name, \
             or give an empty directory",
            config.name
        );
        return Err(StartError::Refused { reason: StartRefusal::OtherName, message: why });
    }
    Ok(identity)
}

/// Checks that the addresses to join are not those of another cluster than the directory's. Without the check, the node
/// would start as a member of the directory's cluster. If no address answers, the check passes: all members may be
/// starting at once.
async fn check_join_addresses(
    config: &Config,
    directory: &str,
    links: &Links,
    peer: &str,
    identity: &Identity,
) -> Result<(), StartError> {
    let asked = config.join.iter().filter(|at| *at != peer).map(async |at| (at, query_node(links, at).await));
    let Ok(answers) = timeout(QUERY_TIMEOUT, join_all(asked)).await else { return Ok(()) };
    let clusters: Vec<_> = answers.into_iter().filter_map(|(at, info)| Some((at, info?.cluster?))).collect();
    let Identity { cluster, name, .. } = identity;
    // Another node may have taken over one of the addresses.
    if clusters.iter().any(|(_, theirs)| theirs == cluster) {
        return Ok(());
    }
    let Some((at, theirs)) = clusters.first() else { return Ok(()) };
    let why = format!(
        "{directory} belongs to node {name} of cluster {cluster}, and {at} is of cluster {theirs}; to go on as {name} \
         leave out --join {at}; to join cluster {theirs} give an empty directory"
    );
    Err(StartError::Refused { reason: StartRefusal::OtherCluster, message: why })
}

async fn query_node(links: &Links, at: &str) -> Option<NodeInfo> {
    let answer = links.inquire(at, Kind::NODE_INFO, Bytes::new(), QUERY_TIMEOUT).await.ok()?;
    decode_message(&answer).ok()
}

/// Checks that no cluster answers at the addresses to join: founding a second cluster would split the nodes in two.
async fn check_no_cluster_answers(config: &Config, links: &Links) -> Result<(), StartError> {
    for at in &config.join {
        let Some(info) = query_node(links, at).await else { continue };
        if let Some(cluster) = info.cluster {
            let why = format!(
                "refused to found a cluster: node {} of cluster {cluster} answers at {at}; join it by leaving out \
                 --bootstrap, or leave out --join {at}",
                info.name
            );
            return Err(StartError::Refused { reason: StartRefusal::ClusterAnswers, message: why });
        }
    }
    Ok(())
}

/// Asks one member after the other until one admits this node, or one refuses it.
async fn join(config: &Config, links: &Links, peer: &str, incarnation: Incarnation) -> Result<Identity, StartError> {
    let join = Join { admit: admit(config, incarnation, peer), cluster: config.cluster };
    let question = encode_message(&join).map_err(|error| StartError::Failed(error.to_string()))?;
    let others: Vec<&String> = config.join.iter().filter(|at| *at != peer).collect();
    if others.is_empty() {
        let why = format!(
            "the only address to join is this node's own, {peer}; give that of a member, or found a cluster with \
             --bootstrap"
        );
        return Err(StartError::Refused { reason: StartRefusal::NoCluster, message: why });
    }
    let mut failures = BTreeMap::new();
    loop {
        for at in &others {
            let why = match links.inquire(at, Kind::JOIN, question.clone(), JOIN_TIMEOUT).await {
                Ok(answer) => match decode_message(&answer) {
                    Ok(Joined::Admitted { cluster, node, chunk_bytes, .. }) => {
                        let name = config.name.clone();
                        return Ok(Identity { cluster, node, name, incarnation, chunk_bytes });
                    }
                    Ok(Joined::Refused { reason, message: why }) => {
                        return Err(StartError::Refused { reason, message: format!("refused to join at {at}: {why}") });
                    }
                    Ok(Joined::Retry(why)) => why,
                    Err(error) => error.to_string(),
                },
                Err(why) => why,
            };
            let why = format!("failed to join at {at}: {why}");
            if failures.get(at) != Some(&why) {
                tracing::warn!(name = config.name, "{why}; trying again");
                failures.insert(at, why);
            }
        }
        sleep(RETRY_DELAY).await;
    }
}

fn admit(config: &Config, incarnation: Incarnation, peer: &str) -> Admit {
    Admit {
        name: config.name.clone(),
        incarnation,
        peer: peer.to_owned(),
        http: config.http.clone(),
        level: config.level,
    }
}

/// Founds the Raft group and the cluster, unless that was done before. Only node 1 may; its log shows whether it has.
pub(crate) async fn found(node: &Cluster) -> Result<(), StartError> {
    let first = admit(&node.config, node.identity.incarnation, &node.peer);
    let raft_member = crate::raft::RaftMember {
        name: first.name.clone(),
        peer: first.peer.clone(),
        http: first.http.clone(),
        incarnation: first.incarnation,
    };
    if let Err(why) = node.consensus.found(raft_member).await {
        return Err(StartError::Failed(node.journal.stopped().unwrap_or(why)));
    }
    let found = Command::Found(Found { cluster: node.identity.cluster, limits: node.config.limits, first });
    let founded = tokio::select! {
        founded = node.propose(found) => founded,
        // There is no other node that could lead.
        why = node.ended() => return Err(StartError::Failed(format!("failed to found the cluster: {why}"))),
    };
    match founded {
        // `Exists`: the cluster was founded before.
        Ok(Outcome::Admitted(_) | Outcome::Refused(RefusalReason::Exists(_))) => Ok(()),
        Ok(other) => Err(StartError::Failed(format!("failed to found the cluster: {other:?}"))),
        Err(error) => Err(StartError::Failed(format!("failed to found the cluster: {error}"))),
    }
}

/// Announces this member's address to the others if it has changed: at the old address no node can reach it.
pub(crate) async fn announce_address(node: Cluster) {
    let config = &node.config;
    let join =
        Join { admit: admit(config, node.identity.incarnation, &node.peer), cluster: Some(node.identity.cluster) };
    let Ok(question) = encode_message(&join) else { return };
    loop {
        // If no address has changed, the leader connects by itself.
        sleep(RETRY_DELAY).await;
        let known: Vec<(NodeId, String)> = {
            let state = node.applied_state.view.state();
            state.members.values().map(|member| (member.node, member.peer.clone())).collect()
        };
        // The address in the log is the current one, and a leader is known.
        if node.leadership.borrow().leader.is_some() && known.contains(&(node.me(), node.peer.clone())) {
            return;
        }
        let others = known.into_iter().filter(|(member, _)| *member != node.me()).map(|(_, at)| at);
        for at in others.chain(config.join.iter().cloned()).filter(|at| *at != node.peer) {
            let answer = node.links.inquire(&at, Kind::JOIN, question.clone(), config.raft.election_max).await;
            match answer.ok().and_then(|answer| decode_message(&answer).ok()) {
                Some(Joined::Admitted { .. }) => break,
                Some(Joined::Refused { reason: StartRefusal::Removed, message: why }) => return node.on_removed(why),
                Some(Joined::Refused { message: why, .. }) => return node.fail(format!("refused at {at}: {why}")),
                // Ask every member: without a leader, none can record the address for the others.
                Some(Joined::Retry(_)) | None => {}
            }
        }
    }
}
