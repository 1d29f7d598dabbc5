//! The names of contexts.

use evener_core::id::ContextId;

use crate::{codes, error::ApiError};

/// Returns the context with this name or number.
///
/// # Errors
///
/// There is none.
pub fn named(name: &str) -> Result<ContextId, ApiError> {
    match name {
        "default" => Ok(ContextId::DEFAULT),
        "system" => Ok(ContextId::SYSTEM),
        other => other
            .parse()
            .map(ContextId)
            .map_err(|_| ApiError::new(&codes::UNKNOWN_CONTEXT, format!("there is no context '{other}'"))),
    }
}
