//! A member of the cluster: a node that was admitted and has not left.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::{FeatureLevel, Incarnation, NodeId};

/// What the cluster knows of a node, whether it lives or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Given at admission.
    pub node: NodeId,
    /// Unique among members; chosen by the operator.
    pub name: String,
    /// Its data directory's life.
    pub incarnation: Incarnation,
    /// Where peers reach it, `host:port`.
    pub peer: String,
    /// Where clients reach it, `http://host:port`.
    pub http: String,
    /// What its build understands.
    pub level: FeatureLevel,
    /// It was asked to leave for ever.
    pub leaving: bool,
}
