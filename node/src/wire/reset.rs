//! The body of `POST /processors/{name}/reset`.

use serde_json::{Map, Value, json};

use super::fields::{rest, value};
use crate::{error::ApiError, reset::ResetRequest};

/// Reads a reset.
///
/// # Errors
///
/// A field is unknown or missing, or has a value that it cannot have.
pub(super) fn read(fields: Map<String, Value>) -> Result<ResetRequest, ApiError> {
    rest(fields)
}

/// Writes a reset.
pub(super) fn write(reset: &ResetRequest) -> Map<String, Value> {
    value(reset)
}

/// Returns the JSON schema of each field.
pub(super) fn properties() -> Map<String, Value> {
    let place = json!({"oneOf": [
        {"enum": ["beginning", "head", "replay-end"]},
        {"type": "object", "properties": {"position": {"type": "integer"}}, "required": ["position"]},
        {"type": "object", "properties": {"time": {"type": "string", "format": "date-time"}}, "required": ["time"]},
    ]});
    value(json!({"to": place, "context": {}}))
}
