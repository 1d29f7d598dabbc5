//! Changes in JSON. Every one may name its operation, say why, and ask for a trial.

use evener_core::{
    command::Selection,
    id::{ComponentId, Position, SegmentId},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Call, definition::Fields, query::Query};
use crate::{
    codes,
    engine::{Change, Verb, What},
    error::ApiError,
};

/// What every change can say.
#[derive(Default, Deserialize, Serialize)]
struct Common {
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OfSegment {
    segment: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OfEvent {
    segment: u32,
    position: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OfSequences {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    component: Option<u16>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OfPeer {
    peer: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OfNode {
    node: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OfNodeMaybe {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
}

/// Reads a change.
pub fn parse(verb: Verb, call: &Call) -> Result<Change, ApiError> {
    let mut fields: Map<String, Value> = super::json(&call.body)?;
    let common = common(&mut fields, &call.query)?;
    let what = match verb {
        Verb::Create => What::Create(Box::new(rest::<Fields>(fields)?.definition()?)),
        Verb::Delete => rest::<Nothing>(fields).and_then(|_| call.name()).map(What::Delete)?,
        Verb::Pause => rest::<Nothing>(fields).and_then(|_| call.name()).map(What::Pause)?,
        Verb::Resume => rest::<Nothing>(fields).and_then(|_| call.name()).map(What::Resume)?,
        Verb::Release | Verb::Claim | Verb::Unpin => of_segment(verb, call.name()?, rest(fields)?)?,
        Verb::SkipEvent => {
            let OfEvent { segment, position } = rest(fields)?;
            What::SkipEvent(call.name()?, SegmentId(segment), Position(position))
        }
        Verb::Retry => What::Retry(call.name()?, selection(rest(fields)?)?),
        Verb::Skip => What::Skip(call.name()?, selection(rest(fields)?)?),
        Verb::Drop => What::Drop(call.name()?, selection(rest(fields)?)?),
        Verb::Join => What::Join(rest::<OfPeer>(fields)?.peer),
        Verb::Leave => What::Leave(rest::<OfNode>(fields)?.node),
        Verb::Transfer => What::Transfer(rest::<OfNodeMaybe>(fields)?.node),
        _ => return Err(ApiError::not_yet(verb.row().words)),
    };
    let operation = common.operation.unwrap_or_else(Uuid::new_v4);
    Ok(Change { operation, principal: None, reason: common.reason, dry_run: common.dry_run, what })
}

/// Writes a change.
#[must_use]
pub fn write(change: &Change) -> Call {
    let common = Common { operation: Some(change.operation), reason: change.reason.clone(), dry_run: change.dry_run };
    let segment = |segment: &SegmentId, node: Option<String>| OfSegment { segment: segment.0, node };
    let (name, fields) = match &change.what {
        What::Create(definition) => (None, value(Fields::from(definition.as_ref()))),
        What::Delete(name) | What::Pause(name) | What::Resume(name) => (Some(name), value(Nothing {})),
        What::Release(name, id) | What::Unpin(name, id) => (Some(name), value(segment(id, None))),
        What::Claim(name, id, node) => (Some(name), value(segment(id, node.clone()))),
        What::SkipEvent(name, id, position) => (Some(name), value(OfEvent { segment: id.0, position: position.0 })),
        What::Retry(name, which) | What::Skip(name, which) | What::Drop(name, which) => {
            (Some(name), value(of_selection(which)))
        }
        What::Join(peer) => (None, value(OfPeer { peer: peer.clone() })),
        What::Leave(node) => (None, value(OfNode { node: node.clone() })),
        What::Transfer(node) => (None, value(OfNodeMaybe { node: node.clone() })),
        What::NotYet(_) => (None, value(Nothing {})),
    };
    let mut body = value(common);
    body.extend(fields);
    let body = serde_json::to_vec(&body).expect("a map of values is JSON");
    Call { path: name.into_iter().cloned().collect(), query: String::new(), body }
}

/// Reads an operation's id.
pub fn operation_id(text: &str) -> Result<Uuid, ApiError> {
    let wrong = |_| ApiError::new(&codes::BAD_QUERY, format!("'{text}' is no operation's id: it must be a UUID"));
    text.parse().map_err(wrong)
}

/// What every change can say, taken out of the other fields; `DELETE` may say it in its query.
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

fn of_segment(verb: Verb, name: String, fields: OfSegment) -> Result<What, ApiError> {
    let segment = SegmentId(fields.segment);
    match (verb, fields.node) {
        (Verb::Claim, node) => Ok(What::Claim(name, segment, node)),
        (_, Some(_)) => Err(wrong("`node` has no meaning here: a segment is released or unpinned from whoever has it")),
        (Verb::Release, None) => Ok(What::Release(name, segment)),
        (_, None) => Ok(What::Unpin(name, segment)),
    }
}

fn selection(fields: OfSequences) -> Result<Selection, ApiError> {
    match (fields.sequence, fields.all) {
        (Some(sequence), false) => Ok(Selection::Sequence(ComponentId(fields.component.unwrap_or(0)), sequence)),
        (None, true) => Ok(Selection::All),
        _ => Err(wrong("say which: either `sequence`, or `all` as true")),
    }
}

fn of_selection(selection: &Selection) -> OfSequences {
    match selection {
        Selection::All => OfSequences { sequence: None, component: None, all: true },
        Selection::Sequence(component, name) => {
            let component = (component.0 != 0).then_some(component.0);
            OfSequences { sequence: Some(name.clone()), component, all: false }
        }
    }
}

fn rest<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, ApiError> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| wrong(&format!("failed to read the body: {error}")))
}

fn value(fields: impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(fields).expect("fields are plain values") {
        Value::Object(map) => map,
        _ => unreachable!("fields are objects"),
    }
}

fn wrong(message: &str) -> ApiError {
    ApiError::new(&codes::BAD_BODY, message)
}
