//! Whether a node can do its work, as several checks.

use std::sync::Arc;

/// Looks at this node, now.
pub(crate) type Health = Arc<dyn Fn() -> Vec<Check> + Send + Sync>;

/// One thing that must be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is looked at.
    pub name: &'static str,
    /// Without it the process should be started again; other checks only keep requests away.
    pub vital: bool,
    /// Why it is not so; none if it is.
    pub trouble: Option<String>,
    /// What one should know all the same.
    pub note: Option<String>,
}
