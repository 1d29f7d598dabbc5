//! Which of a processor's sequences that are set aside a change is about, in JSON.

use evener_core::{command::Selection, id::ComponentId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::fields::{rest, value, wrong};
use crate::error::ApiError;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    component: Option<u16>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
}

/// Reads a selection.
///
/// # Errors
///
/// Neither one sequence is named nor all are, or both.
pub(super) fn read(fields: Map<String, Value>) -> Result<Selection, ApiError> {
    let fields: Fields = rest(fields)?;
    match (fields.sequence, fields.all) {
        (Some(sequence), false) => Ok(Selection::Sequence(ComponentId(fields.component.unwrap_or(0)), sequence)),
        (None, true) => Ok(Selection::All),
        _ => Err(wrong("say which: either `sequence`, or `all` as true")),
    }
}

/// Writes a selection.
pub(super) fn write(selection: &Selection) -> Map<String, Value> {
    value(match selection {
        Selection::All => Fields { sequence: None, component: None, all: true },
        Selection::Sequence(component, name) => {
            let component = (component.0 != 0).then_some(component.0);
            Fields { sequence: Some(name.clone()), component, all: false }
        }
    })
}

/// Returns the JSON schema of each field.
pub(super) fn properties() -> Map<String, Value> {
    value(json!({"sequence": {"type": "string"}, "component": {"type": "integer"}, "all": {"type": "boolean"}}))
}
