//! The status that members report to each other. Its bytes are opaque to this crate: the program that embeds the node
//! encodes and decodes them.

use std::time::Duration;

use bytes::Bytes;
use evener_core::id::NodeId;
use futures::future::BoxFuture;

use super::Cluster;
use crate::{
    error::{Class, Error},
    message::Kind,
    status::{STATUS_BYTES_MAX, too_long},
};

/// Encodes the status of this node for another member; returns `None` if the node is stopping.
pub type StatusProvider = Box<dyn Fn() -> BoxFuture<'static, Option<Bytes>> + Send + Sync>;

impl Cluster {
    /// Sets the `provider` that answers other members' requests for this node's status; only the first call has an
    /// effect. The cluster's threads call the provider, so it must not block, and it must hold no strong reference to
    /// the node, which would never be dropped.
    pub fn provide_status(&self, provider: StatusProvider) {
        let _ = self.status_provider.set(provider);
    }

    /// Returns the status of another member, as its provider encoded it. Opens no connection: fails if none is open to
    /// that member.
    ///
    /// # Errors
    ///
    /// The member did not answer in time, has no provider yet, runs a build that does not know the request, or answered
    /// with more than [`STATUS_BYTES_MAX`] bytes.
    pub async fn member_status(&self, member: NodeId, within: Duration) -> Result<Bytes, Error> {
        let refused = |why: String| Error::new(Class::Refused, why);
        let answer = self.links.ask_connected(member, Kind::STATUS, Bytes::new(), within).await;
        let status = answer.map_err(|error| refused(error.to_string()))?;
        match status.len() {
            0..=STATUS_BYTES_MAX => Ok(status),
            bytes => Err(refused(too_long(bytes))),
        }
    }
}
