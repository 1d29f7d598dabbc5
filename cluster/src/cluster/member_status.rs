//! The status that members report to each other. Its bytes are opaque here: the program that embeds the node writes and
//! reads them.

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

/// Writes the status of this node for another member; none if the node is ending.
pub type StatusProvider = Box<dyn Fn() -> BoxFuture<'static, Option<Bytes>> + Send + Sync>;

impl Cluster {
    /// Has members that ask for this node's status answered by `provider`. The first one that is given stays. The
    /// cluster's threads call it, so what takes long it must run elsewhere; and it must not hold the node, which it
    /// would keep alive.
    pub fn provide_status(&self, provider: StatusProvider) {
        let _ = self.status_provider.set(provider);
    }

    /// Returns the status of another member, as its provider has written it. Opens no connection: to a member without
    /// one nothing is sent.
    ///
    /// # Errors
    ///
    /// The member did not answer in time, has no provider yet, is of a build that does not know the question, or has
    /// written more than [`STATUS_BYTES_MAX`] bytes.
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
