//! Answers every request from the cluster's log, the replicated state as applied here, and what the actors publish.

use std::sync::Arc;

use evener_core::limits::Limits;
use futures::future::{BoxFuture, join_all};
use tokio::{runtime::Handle, time::timeout};

use super::{
    Answers, Reply, Request, Status, change, lag, letters,
    local::{ANSWER_WAIT, Engine, OfProcessors},
    node_status, operations, peers, read,
};
use crate::error::{ApiError, Class};

impl Engine {
    /// Answers other members that ask for this node's status in a task on these threads: those of the cluster, which
    /// renew sessions and leadership, must not write it.
    pub fn answer_members(&self, threads: Handle) {
        let engine = self.downgrade();
        self.cluster().provide_status(Box::new(move || {
            let engine = engine.clone();
            let written = threads.spawn(async move { Some(peers::write(node_status::status(&engine.upgrade()?))) });
            Box::pin(async move { written.await.ok().flatten() })
        }));
    }

    /// Answers one request.
    pub async fn call(&self, request: Request) -> Result<Reply, ApiError> {
        match request {
            Request::Append(request) => self.append(request).await.map(Reply::Appended),
            Request::AppendMany(requests) => {
                let answers = requests.into_iter().map(|request| self.append(request));
                Ok(Reply::Many(join_all(answers).await))
            }
            Request::Read(request) => read::read(self, &request).await.map(Reply::Page),
            Request::Tail(request) => read::tail(self, &request).await.map(Reply::Page),
            Request::Processors => Ok(Reply::Processors(lag::processors(self, &self.reported_by_owners(None).await))),
            Request::Processor(name) => {
                let reported = self.reported_by_owners(Some(&name)).await;
                let mut found = self.found(|| lag::processor(self, &name, &reported)).await?;
                found.history = operations::history(self, &name);
                Ok(Reply::Processor(found))
            }
            Request::DeadLetters(name) => self.found(|| letters::list(self, &name)).await.map(Reply::DeadLetters),
            Request::Status => Ok(Reply::Status(Box::new(node_status::status(self)))),
            Request::ClusterStatus => Ok(Reply::Cluster(Box::new(node_status::cluster(self).await))),
            Request::Operations(filter) => {
                operations::check(&filter)?;
                self.found(|| operations::list(self, &filter)).await.map(Reply::Operations)
            }
            Request::Operation(id) => self.found(|| operations::one(self, id)).await.map(Reply::Operation),
            Request::Change(request) => change::change(self, request).await.map(Reply::Operation),
        }
    }

    /// What nodes say of one processor, or of all.
    async fn reported_by_owners(&self, of: Option<&str>) -> OfProcessors {
        let reported = self.status_of(|state, node| {
            let processors = state.processors.values();
            let mut meant = processors.filter(|processor| of.is_none_or(|name| processor.definition.name == name));
            meant.any(|processor| processor.segments.values().any(|share| share.claim.owner == Some(node)))
        });
        let reported = reported.await;
        let wanted = node_status::segments_wanted(&self.cluster().state(), self.board());
        let here = (self.cluster().status().name, self.board().standstills(), wanted);
        let there =
            |status: &Arc<Status>| (status.node.clone(), status.standstills.clone(), status.segments_wanted.clone());
        let mut of = OfProcessors::default();
        for (node, standstills, wanted) in reported.values().map(there).chain([here]) {
            of.standstills.extend(standstills);
            of.segments_wanted.extend(wanted.into_iter().map(|wanted| (node.clone(), wanted)));
        }
        of
    }

    /// Looks in the applied state first; what is missing may be in the part of the log that is not applied here yet.
    async fn found<T>(&self, look: impl Fn() -> Result<T, ApiError>) -> Result<T, ApiError> {
        let missing = match look() {
            Err(error) if error.class == Class::Invalid => error,
            answer => return answer,
        };
        match timeout(ANSWER_WAIT, self.cluster().barrier()).await {
            Ok(Ok(_)) => look(),
            // No leader can confirm it; this node reports that it does not exist.
            Ok(Err(_)) | Err(_) => Err(missing),
        }
    }
}

impl Answers for Engine {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>> {
        Box::pin(self.call(request))
    }

    fn limits(&self) -> Limits {
        self.cluster().state().limits
    }
}
