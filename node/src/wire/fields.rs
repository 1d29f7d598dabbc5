//! The fields of JSON bodies.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{codes, error::ApiError};

/// Reads a body from its fields.
pub(super) fn rest<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, ApiError> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| wrong(&format!("failed to read the body: {error}")))
}

/// Converts a field into JSON.
pub(super) fn plain(field: &impl Serialize) -> Value {
    serde_json::to_value(field).expect("fields are plain values")
}

/// Converts a body into its fields.
pub(super) fn value(fields: impl Serialize) -> Map<String, Value> {
    match plain(&fields) {
        Value::Object(map) => map,
        _ => unreachable!("fields are objects"),
    }
}

/// Returns the error of a malformed body.
pub(super) fn wrong(message: &str) -> ApiError {
    ApiError::new(&codes::BAD_BODY, message)
}
