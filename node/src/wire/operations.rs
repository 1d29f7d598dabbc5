//! Which operations to list, as a query.

use super::{
    change::operation_id,
    query::{Query, push},
};
use crate::{engine::OperationFilter, error::ApiError};

/// Reads a query.
pub(super) fn parse(text: &str) -> Result<OperationFilter, ApiError> {
    let mut query = Query::parse(text)?;
    let filter = OperationFilter {
        processor: query.text("processor")?,
        node: query.text("node")?,
        kind: query.text("kind")?,
        before: query.text("before")?.as_deref().map(operation_id).transpose()?,
        limit: query.number("limit")?,
    };
    query.finish()?;
    Ok(filter)
}

/// Writes a query.
pub(super) fn write(filter: &OperationFilter) -> String {
    let mut query = String::new();
    let (before, limit) = (filter.before.map(|id| id.to_string()), filter.limit.map(|limit| limit.to_string()));
    let fields = [
        ("processor", filter.processor.as_ref()),
        ("node", filter.node.as_ref()),
        ("kind", filter.kind.as_ref()),
        ("before", before.as_ref()),
        ("limit", limit.as_ref()),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            push(&mut query, name, value);
        }
    }
    query
}
