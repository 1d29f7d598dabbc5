//! The requester of an operation. Requests have no principal yet: every place that will carry one has `None`.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// The name of the requester, as the authentication of a request will establish it. Bounded like every name
/// (`name_bytes_max`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Principal(pub String);
