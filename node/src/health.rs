//! Health checks of a node.

use std::sync::Arc;

/// Runs the checks of this node.
pub(crate) type Health = Arc<dyn Fn() -> Vec<Check> + Send + Sync>;

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Name of the check.
    pub name: &'static str,
    /// Whether a failure requires a restart of the process; other failures only mean that it is not ready.
    pub vital: bool,
    /// Reason of the failure; none if the check passes.
    pub trouble: Option<String>,
    /// A note for the operator, independent of the result.
    pub note: Option<String>,
}
