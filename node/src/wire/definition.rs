//! The body of `POST /processors`: the definition of a processor.

use evener_core::processor::Definition;
use serde_json::{Map, Value, json};

use super::fields::{rest, value};
use crate::{definition::Fields, error::ApiError};

/// Reads the definition of a processor.
///
/// # Errors
///
/// A field is unknown, missing or has a value that it cannot have.
pub(super) fn read(fields: Map<String, Value>) -> Result<Box<Definition>, ApiError> {
    rest::<Fields>(fields)?.definition().map(Box::new)
}

/// Writes the definition of a processor.
pub(super) fn write(definition: &Definition) -> Map<String, Value> {
    value(Fields::from(definition))
}

/// Returns the JSON schema of each field.
pub(super) fn properties() -> Map<String, Value> {
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    value(json!({
        "name": {"type": "string"}, "exec": {"type": "string"}, "segments": {"type": "integer"}, "start": {},
        "types": texts(), "tags": texts(), "criteria": {"$ref": "#/components/schemas/Criteria"},
        "sequencing": {"type": "string"}, "on_error": {"enum": ["set-aside", "stop", "skip"]},
        "retry": {"type": "object", "properties": {"first": {"type": "string"}, "max": {"type": "string"},
            "attempts": {"type": "integer"}}}, "context": {"type": "string"},
    }))
}
