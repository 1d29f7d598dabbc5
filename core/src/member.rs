//! A member of the cluster: a node that was admitted and has not left.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::{FeatureLevel, Incarnation, NodeId};

/// What the cluster knows of a node, whether it is active or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Assigned at admission.
    pub node: NodeId,
    /// Unique among members; chosen by the operator.
    pub name: String,
    /// The incarnation of its data directory.
    pub incarnation: Incarnation,
    /// Its address for peers, `host:port`.
    pub peer: String,
    /// Its address for clients, `http://host:port`.
    pub http: String,
    /// The level that its build understands.
    pub level: FeatureLevel,
    /// Whether it was asked to leave permanently.
    pub leaving: bool,
}
