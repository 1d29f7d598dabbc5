//! Changes in JSON. Each may have an operation id, a reason, and the flag of a dry run.

use evener_core::id::{Position, SegmentId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Call, definition,
    fields::{plain, rest, value},
    query::Query,
    reset, selection,
};
use crate::{
    codes,
    engine::{Change, Verb, What, verbs},
    error::ApiError,
};

/// The fields that every change may have.
#[derive(Default, Deserialize, Serialize)]
struct Common {
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

/// Generates how the body of each change is read, written and described.
macro_rules! bodies {
    ($($section:ident {$(
        $verb:ident: $effect:ident $method:ident $route:literal, $words:literal, $about:literal $({
            $(#[$doc:meta])*
            takes: $([$path:ident: $path_type:ty])? $({ $($field:ident: $type:ty = $json:literal),* })?
                $(by $body:ident: $body_type:ty)?,
            kind: $kind:ident, counts: $counts:literal $(, method: $call:ident)?;
        })?;
    )*})*) => {
        fn read(verb: Verb, call: &Call, fields: Map<String, Value>) -> Result<What, ApiError> {
            match verb {
                $($($(Verb::$verb => {
                    $(let $path = call.name()?;)?
                    $(
                        #[derive(Deserialize)]
                        #[serde(deny_unknown_fields)]
                        struct Fields {
                            $($field: $type),*
                        }
                        let Fields { $($field),* } = rest(fields)?;
                    )?
                    $(let $body = $body::read(fields)?;)?
                    Ok(What::$verb($($path,)? $($($field),*)? $($body)?))
                })?)*)*
                _ => Err(ApiError::not_yet(verb.entry().words)),
            }
        }

        /// Returns the name for the path, if the change has one, and its fields.
        fn fields_of(what: &What) -> (Option<&String>, Map<String, Value>) {
            match what {
                $($($(What::$verb($($path,)? $($($field),*)? $($body)?) => {
                    let fields: &[(&str, Value)] = &[$($((stringify!($field), plain($field))),*)?];
                    let fields = fields.iter().filter(|(_, value)| !value.is_null()).cloned();
                    let fields: Map<_, _> = fields.map(|(name, value)| ((*name).to_owned(), value)).collect();
                    $(let fields = Map::from_iter($body::write($body).into_iter().chain(fields));)?
                    (None$(.or(Some($path)))?, fields)
                })?)*)*
            }
        }

        /// Returns the JSON schema of each field of the body of a change.
        #[must_use]
        pub fn properties(verb: Verb) -> Value {
            match verb {
                $($($(Verb::$verb => {
                    let properties: &[(&str, &str)] = &[$($((stringify!($field), $json)),*)?];
                    let properties = properties.iter().map(|(name, of)| ((*name).to_owned(), json!({"type": of})));
                    let properties: Map<_, _> = properties.collect();
                    $(let properties = Map::from_iter($body::properties().into_iter().chain(properties));)?
                    Value::Object(properties)
                })?)*)*
                _ => json!({}),
            }
        }
    };
}

verbs!(bodies);

/// Reads a change.
pub fn parse(verb: Verb, call: &Call) -> Result<Change, ApiError> {
    let mut fields: Map<String, Value> = super::json(&call.body)?;
    let common = common(&mut fields, &call.query)?;
    let what = read(verb, call, fields)?;
    let operation = common.operation.unwrap_or_else(Uuid::new_v4);
    Ok(Change { operation, principal: None, reason: common.reason, dry_run: common.dry_run, what })
}

/// Writes a change.
#[must_use]
pub fn write(change: &Change) -> Call {
    let common = Common { operation: Some(change.operation), reason: change.reason.clone(), dry_run: change.dry_run };
    let (name, fields) = fields_of(&change.what);
    let mut body = value(common);
    body.extend(fields);
    let body = serde_json::to_vec(&body).expect("a map of values is JSON");
    Call { path: name.into_iter().cloned().collect(), query: String::new(), body }
}

/// Reads an operation's id.
pub fn operation_id(text: &str) -> Result<Uuid, ApiError> {
    let wrong = |_| ApiError::new(&codes::BAD_QUERY, format!("'{text}' is not an operation's id: it must be a UUID"));
    text.parse().map_err(wrong)
}

/// Takes the common fields out of the others; `DELETE` may have them in its query.
fn common(fields: &mut Map<String, Value>, query: &str) -> Result<Common, ApiError> {
    let mut taken = Map::new();
    for name in ["operation", "reason", "dry_run"] {
        taken.extend(fields.remove_entry(name));
    }
    let mut common: Common = rest(taken)?;
    let mut query = Query::parse(query)?;
    if let Some(id) = query.text("operation")? {
        common.operation = Some(operation_id(&id)?);
    }
    common.reason = query.text("reason")?.or(common.reason);
    common.dry_run |= query.flag("dry_run")?;
    query.finish()?;
    Ok(common)
}
