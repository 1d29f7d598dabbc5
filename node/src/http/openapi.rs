//! `/openapi.json`: made from the table of verbs, so that it has every route and none that is not there. What has its
//! place in the contract and is not built yet is marked `x-not-yet`, and says that it answers 501.

use axum::{http::StatusCode, response::Response};
use serde_json::{Map, Value, json};

use super::answer::typed;
use crate::{
    engine::{OPERATIONS_PAGE, OPERATIONS_PAGE_MAX, TABLE, Verb, VerbEntry, kinds},
    wire::{binding, change::properties},
};

/// `GET /openapi.json`.
pub(super) async fn show() -> Response {
    typed(StatusCode::OK, "application/json", document().to_string())
}

/// The document.
pub(super) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for row in TABLE {
        let path = paths.entry(row.path).or_insert_with(|| json!({}));
        path[row.method.to_ascii_lowercase()] = operation(row);
    }
    for (path, about) in [
        ("/livez", "200 while the process should go on, else 503 and why"),
        ("/readyz", "200 while this node can do its work, else 503 and why"),
        ("/healthz", "all checks; with `?verbose` one line each"),
        ("/metrics", "what Prometheus reads"),
    ] {
        paths.insert(path.into(), json!({"get": {"summary": about, "responses": {"200": {"description": about}}}}));
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Evener", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas()},
    })
}

fn operation(row: &VerbEntry) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    for name in row.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        parameters.push(json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    }
    for (name, kind) in query(row.verb) {
        // Lists are joined by commas, each value encoded before.
        parameters.push(match *kind {
            "list" => json!({"name": name, "in": "query", "style": "form", "explode": false, "schema": list("string")}),
            kind => json!({"name": name, "in": "query", "schema": {"type": kind}}),
        });
    }
    let kind = match row.verb {
        Verb::AppendMany | Verb::Read | Verb::ReadBy => "application/x-ndjson",
        Verb::Tail => "text/event-stream",
        _ => "application/json",
    };
    let error =
        |about: &str| json!({"description": about, "content": {"application/json": {"schema": refer("Error")}}});
    let mut operation = json!({
        "operationId": format!("{:?}", row.verb),
        "summary": row.about,
        "parameters": parameters,
        "responses": {
            "200": {"description": row.about, "content": {kind: {"schema": answer(row)}}},
            "default": error("why not"),
        },
    });
    if row.verb == Verb::Operations {
        operation["description"] = format!(
            "The latest are remembered, as many as the limit `operations_max` says (1,024). `limit` is at most \
             {OPERATIONS_PAGE_MAX} (operations_page_max), by default {OPERATIONS_PAGE}. Older ones than a page has are \
             asked for with `before`, the id of its last one."
        )
        .into();
    }
    if row.is_not_yet() {
        operation["summary"] = format!("{} (not built yet)", row.about).into();
        operation["x-not-yet"] = true.into();
        operation["responses"] = json!({"501": error("EV0900: it is not built yet"), "default": error("why not")});
    }
    if let Some((kind, schema)) = body(row) {
        operation["requestBody"] = json!({"content": {kind: {"schema": schema}}});
    }
    if row.verb == Verb::Append {
        let content = &mut operation["requestBody"]["content"];
        content[binding::ONE] = json!({"schema": refer("CloudEvent")});
        content[binding::SEVERAL] = json!({"schema": {"type": "array", "items": refer("CloudEvent")}});
    }
    operation
}

fn query(verb: Verb) -> &'static [(&'static str, &'static str)] {
    match verb {
        Verb::Read | Verb::Tail => &[
            ("context", "string"),
            ("from", "integer"),
            ("to", "integer"),
            ("limit", "integer"),
            ("types", "list"),
            ("tags", "list"),
            ("stream", "string"),
            ("backwards", "boolean"),
            ("consistency", "string"),
        ],
        Verb::Operations => &[
            ("processor", "string"),
            ("node", "string"),
            ("kind", "string"),
            ("before", "string"),
            ("limit", "integer"),
        ],
        Verb::Delete => &[("operation", "string"), ("reason", "string"), ("dry_run", "boolean")],
        _ => &[],
    }
}

fn refer(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn answer(row: &VerbEntry) -> Value {
    match row.verb {
        Verb::Append | Verb::AppendMany => refer("Appended"),
        Verb::Read | Verb::ReadBy | Verb::Tail => json!({"oneOf": [refer("CloudEvent"), refer("End")]}),
        _ if row.is_change() => refer("Operation"),
        Verb::Operations => json!({"type": "array", "items": refer("Operation")}),
        Verb::Operation => refer("Operation"),
        Verb::Processors | Verb::DeadLetters => json!({"type": "array", "items": {"type": "object"}}),
        _ => json!({"type": "object"}),
    }
}

fn body(row: &VerbEntry) -> Option<(&'static str, Value)> {
    let json = |schema| Some(("application/json", schema));
    match row.verb {
        Verb::Append => json(refer("Append")),
        Verb::AppendMany => Some(("application/x-ndjson", refer("Append"))),
        Verb::ReadBy => json(refer("Read")),
        _ if row.is_change() && row.method == "POST" => json(change(properties(row.verb))),
        _ => None,
    }
}

fn list(kind: &str) -> Value {
    json!({"type": "array", "items": {"type": kind}})
}

fn change(properties: Value) -> Value {
    json!({"allOf": [refer("Change"), {"type": "object", "properties": properties}]})
}

fn schemas() -> Value {
    json!({
        "CloudEvent": {"type": "object", "required": ["id", "source", "type"], "properties": {
            "specversion": {"const": "1.0"}, "source": {"type": "string"},
            "id": {"type": "string", "description": "Identifies the event together with `source`, byte for byte. \
                Kept and returned as given, a UUID too; inside, it is the UUIDv5 of source, a zero byte and id."},
            "type": {"type": "string"}, "subject": {"type": "string"}, "time": {"type": "string"},
            "key": {"type": "string"}, "tags": {"type": "string"}, "datacontenttype": {"type": "string"},
            "dataschema": {"type": "string"}, "data": {}, "data_base64": {"type": "string"},
            "position": {"type": "integer"}, "recorded": {"type": "string"}, "stream": {"type": "string"},
            "revision": {"type": "integer"}}},
        "Append": {"type": "object", "required": ["events"], "additionalProperties": false, "properties": {
            "request_id": {"type": "string"}, "context": {"type": "string"},
            "events": {"type": "array", "items": refer("CloudEvent")},
            "conditions": {"type": "array", "items": {"type": "object", "required": ["criteria", "marker"],
                "properties": {"criteria": refer("Criteria"), "marker": {"type": "integer"}}}},
            "expect": {"type": "array", "items": {"type": "object", "required": ["stream", "revision"],
                "properties": {"stream": {"type": "string"},
                    "revision": {"oneOf": [{"type": "integer"}, {"enum": ["none", "any"]}]}}}}}},
        "Appended": {"type": "object", "required": ["first", "next"], "properties": {
            "first": {"type": "integer"}, "next": {"type": "integer"}, "repeated": {"type": "boolean"}}},
        "Criteria": {"type": "array", "items": {"type": "object", "additionalProperties": false,
            "properties": {"types": list("string"), "tags": list("string")}}},
        "Read": {"type": "object", "additionalProperties": false, "properties": {
            "context": {"type": "string"}, "from": {"type": "integer"}, "to": {"type": "integer"},
            "limit": {"type": "integer"}, "criteria": refer("Criteria"), "stream": {"type": "string"},
            "backwards": {"type": "boolean"}, "consistency": {"enum": ["linearizable", "local"]}}},
        "End": {"type": "object", "required": ["next", "marker"], "properties": {
            "next": {"type": "integer"}, "marker": {"type": "integer"}}},
        "Change": {"type": "object", "properties": {"operation": {"type": "string"}, "reason": {"type": "string"},
            "dry_run": {"type": "boolean"}}},
        "Operation": {"type": "object", "required": ["operation", "state"], "properties": {
            "operation": {"type": "string"}, "state": {"enum": ["done", "waiting", "refused"]},
            "why": {"type": ["string", "null"]}, "changed": {"type": "integer"},
            "events": {"type": "integer"}, "dry_run": {"type": "boolean"},
            "recorded": {"type": "string", "format": "date-time"}, "index": {"type": "integer"},
            "principal": {"type": ["string", "null"], "description": "Null as long as requests have no principal."},
            "kind": {"enum": kinds()}, "subject": {"type": "object", "properties": {
                "processor": {"type": "string"}, "segment": {"type": "integer"}, "position": {"type": "integer"},
                "sequence": {"type": "string"}, "component": {"type": "integer"}, "node": {"type": "string"},
                "node_id": {"type": "integer"}, "address": {"type": "string"}}},
            "reason": {"type": "string"},
            "code": {"type": "string", "description": "The code of the error, if it was refused."}}},
        "Error": {"type": "object", "required": ["code", "class", "message", "hint"], "properties": {
            "code": {"type": "string"},
            "class": {"enum": ["invalid", "conflict", "refused", "unknown", "overloaded", "unauthorized"]},
            "message": {"type": "string"}, "hint": {"type": "string"}, "retry_after_ms": {"type": "integer"},
            "leader": {"type": "string"}, "conflict": {"type": "object"}}},
    })
}
