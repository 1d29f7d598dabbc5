//! The service that answers requests of peers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use evener_core::{
    command::{Command, Outcome, RefusalReason},
    id::ClusterId,
};
use evener_store::codec::{self, decode_message, encode_message};
use futures::{StreamExt, future::BoxFuture};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    admission,
    cluster::{Cluster, WeakCluster},
    error::{Class, Error, StartRefusal},
    handshake::{PeerIdentity, Purpose, Reason, Refused},
    link::{Code, Refusal, Service, StreamReceiver, StreamSender},
    message::Kind,
    messages::{Join, Joined, NodeInfo, TransferLeadership},
    raft::Call,
    status::{STATUS_BYTES_MAX, too_long},
};

/// Answers peers' requests once the node is set.
#[derive(Default)]
pub(crate) struct PeerService(OnceLock<WeakCluster>);

impl PeerService {
    /// Sets the node that answers from now on.
    pub(crate) fn open(&self, node: WeakCluster) {
        let _ = self.0.set(node);
    }

    fn node(&self) -> Option<Cluster> {
        self.0.get()?.upgrade()
    }
}

fn not_ready() -> Refusal {
    Refusal::new(Code::NotReady, "this node is starting or stopping")
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    decode_message(bytes).map_err(|error| Refusal::new(Code::Malformed, error.to_string()))
}

fn encode<T: Serialize>(answer: &T) -> Result<Bytes, Refusal> {
    encode_message(answer).map_err(|error: codec::DecodeError| Refusal::new(Code::Failed, error.to_string()))
}

impl Service for PeerService {
    fn handle(
        &self,
        kind: Kind,
        from: Arc<PeerIdentity>,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let node = self.node();
        Box::pin(async move {
            let node = node.ok_or_else(not_ready)?;
            match kind {
                Kind::NODE_INFO => encode(&node_info(&node)),
                Kind::JOIN => encode(&join(&node, &from, read(&payload)?).await),
                _ if from.purpose == Purpose::Inquiry => {
                    Err(Refusal::new(Code::Failed, format!("only members may send {kind}; join first")))
                }
                Kind::PROPOSE => node.proposer.serve(payload, node.append_refusal().as_deref()).await.map_err(refusal),
                Kind::READ_INDEX => encode(&node.serve_read_index().await),
                Kind::RENEW => encode(&node.serve_renew(read(&payload)?)),
                Kind::HEARTBEAT => Ok(node.heartbeat().encode()),
                Kind::STATUS => status(&node).await,
                Kind::LEAD => {
                    let TransferLeadership { to } = read(&payload)?;
                    node.transfer(to).await.map_err(refusal)?;
                    Ok(Bytes::new())
                }
                _ => {
                    let call = Call::of(kind).ok_or_else(|| Refusal::unknown(kind))?;
                    let answer = node.consensus.serve(call, payload).await;
                    answer.map_err(|error| Refusal::new(Code::Failed, error.to_string()))
                }
            }
        })
    }

    fn stream(
        &self,
        kind: Kind,
        from: Arc<PeerIdentity>,
        _: Bytes,
        mut sender: StreamSender,
        receiver: StreamReceiver,
    ) -> BoxFuture<'static, ()> {
        let node = self.node();
        Box::pin(async move {
            let Some(node) = node else { return sender.refuse(&not_ready()).await };
            if kind != Kind::APPEND || from.purpose == Purpose::Inquiry {
                return sender.refuse(&Refusal::unknown(kind)).await;
            }
            let questions = receiver.take_while(|item| std::future::ready(item.is_ok()));
            let questions = questions.filter_map(|item| std::future::ready(item.ok())).boxed();
            let mut answers = node.consensus.serve_appends(questions);
            // The stream must not keep the node alive.
            drop(node);
            while let Some(Ok(answer)) = answers.next().await {
                if sender.send(answer).await.is_err() {
                    return;
                }
            }
        })
    }
}

fn refusal(error: Error) -> Refusal {
    let code = match error.class {
        Class::Overloaded => Code::Overloaded,
        Class::Invalid => Code::Malformed,
        Class::Refused | Class::Conflict | Class::Unknown => Code::Failed,
    };
    let refusal = Refusal::new(code, error.message);
    match error.retry_after {
        Some(wait) => refusal.retry_after(wait),
        None => refusal,
    }
}

fn node_info(node: &Cluster) -> NodeInfo {
    NodeInfo {
        cluster: Some(node.identity.cluster),
        node: Some(node.me()),
        name: node.identity.name.clone(),
        leader: node.leadership.borrow().leader,
        members: node.applied_state.view.state().members.values().cloned().collect(),
    }
}

/// Returns the status of this node, as encoded by its status provider.
async fn status(node: &Cluster) -> Result<Bytes, Refusal> {
    let provider = node.status_provider.get().ok_or_else(not_ready)?;
    let status = provider().await.ok_or_else(not_ready)?;
    if status.len() > STATUS_BYTES_MAX {
        return Err(Refusal::new(Code::Failed, too_long(status.len())));
    }
    Ok(status)
}

/// Returns why a node is no longer admitted.
fn start_refusal(refused: &Refused) -> StartRefusal {
    if refused.reason == Reason::NotAMember { StartRefusal::Removed } else { StartRefusal::OtherCluster }
}

/// Answers a join request: admits the node through the log, after which the leader adds it to the Raft group.
///
/// A member whose address has changed sends the same request. It must not get a new number: a removed member stays
/// removed.
async fn join(node: &Cluster, from: &PeerIdentity, join: Join) -> Joined {
    let cluster = node.identity.cluster;
    if let Some(wanted) = join.cluster.filter(|wanted| *wanted != cluster) {
        let why = format!(
            "this is cluster {cluster}, but {wanted} is configured; give the address of a member of that one, \
             or leave out the cluster's id"
        );
        return Joined::Refused { reason: StartRefusal::OtherCluster, message: why };
    }
    if node.applied_state.view.state().cluster == ClusterId::default() {
        return Joined::Retry("its cluster is being founded".into());
    }
    if let Some(member) = from.node() {
        if let Err(refused) = admission::check_member(&node.applied_state.view.state(), member, join.admit.incarnation)
        {
            return Joined::Refused { reason: start_refusal(&refused), message: refused.text };
        }
        // Set before it is in the log: if all members have new addresses, there is no leader that could record them.
        node.links.set_reported_address(member, &join.admit.peer);
        // Its removal may not be applied here yet.
        if let Err(error) = node.barrier().await {
            return Joined::Retry(error.message);
        }
        if let Err(refused) = admission::check_member(&node.applied_state.view.state(), member, join.admit.incarnation)
        {
            return Joined::Refused { reason: start_refusal(&refused), message: refused.text };
        }
    }
    match node.propose(Command::Admit(join.admit)).await {
        Ok(Outcome::Admitted(number)) if from.node().is_some_and(|member| member != number) => {
            // The member was removed meanwhile, and this admitted it under a new number, which no node uses.
            let _ = node.propose(Command::Remove(number)).await;
            Joined::Refused { reason: StartRefusal::Removed, message: "it was removed from the cluster".into() }
        }
        Ok(Outcome::Admitted(number)) => Joined::Admitted {
            cluster,
            node: number,
            chunk_bytes: node.identity.chunk_bytes,
            members: node.applied_state.view.state().members.values().cloned().collect(),
        },
        Ok(Outcome::Refused(
            why @ (RefusalReason::Exists(_)
            | RefusalReason::Invalid(_)
            | RefusalReason::Limit(_)
            | RefusalReason::NotFound(_)),
        )) => {
            let reason = if matches!(why, RefusalReason::Exists(_)) {
                StartRefusal::EmptiedDirectory
            } else {
                StartRefusal::InvalidConfig
            };
            Joined::Refused { reason, message: (node.config.describe)(&why) }
        }
        Ok(other) => Joined::Retry(format!("{other:?}")),
        Err(error) => Joined::Retry(error.message),
    }
}
