//! A member that is none any more: what is left of it is said to its directory, should that be started again.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// So many are remembered, the latest ones: with the others it is only known that they were members.
pub const REMOVALS_MAX: usize = 1_024;

/// What the cluster keeps of a node that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Its name; another may have it by now.
    pub name: String,
    /// When the log recorded that.
    pub recorded: Timestamp,
}
