//! A removed member. The cluster remembers it for the case that a node is started on its directory again.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The number of removals that are remembered, the latest ones: of earlier ones it is only known that they were
/// members.
pub const REMOVALS_MAX: usize = 1_024;

/// What the cluster keeps of a node that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Its name; another member may have it by now.
    pub name: String,
    /// When the log recorded the removal.
    pub recorded: Timestamp,
}
