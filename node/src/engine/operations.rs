//! The operations that the replicated state remembers: who changed what, why, and what came of it. The latest
//! `operations_max` are kept.

use std::collections::BTreeSet;

use evener_core::{
    command::Outcome,
    state::{self, ChangeKind, State},
};
use uuid::Uuid;

use super::{Note, Operation, OperationFilter, OperationState, Subject, TABLE, change::waits_for, local::Engine};
use crate::{
    codes,
    describe::{kind_word, time_text},
    error::ApiError,
    settings,
};

/// Operations of one page at most: `operations_page_max`.
pub const OPERATIONS_PAGE_MAX: u64 = 1_000;
/// Operations of one page, unless the request says how many.
pub const OPERATIONS_PAGE: u64 = 100;
/// Operations that are shown with a processor, the newest first.
pub(crate) const HISTORY_OPERATIONS_MAX: usize = 5;

/// Checks that a filter makes sense.
pub(super) fn check(filter: &OperationFilter) -> Result<(), ApiError> {
    let limit = filter.limit.unwrap_or(OPERATIONS_PAGE);
    if !(1..=OPERATIONS_PAGE_MAX).contains(&limit) {
        let message = format!("a page has 1 to {OPERATIONS_PAGE_MAX} operations (operations_page_max), not {limit}");
        let hint = "ask for older ones with `before`, the id of the last one";
        return Err(ApiError::new(&codes::BAD_QUERY, message).hint(hint));
    }
    filter.kind.as_ref().map_or(Ok(()), |kind| known_kind(kind))
}

/// Lists the remembered operations that match, the newest first.
pub(super) fn list(engine: &Engine, filter: &OperationFilter) -> Result<Vec<Operation>, ApiError> {
    let limit = usize::try_from(filter.limit.unwrap_or(OPERATIONS_PAGE)).unwrap_or(usize::MAX);
    let state = engine.cluster().state();
    let end = match filter.before {
        None => state.operations.len(),
        Some(id) => state.operations.iter().position(|known| known.operation == id).ok_or_else(|| unknown(id))?,
    };
    let wanted = state.operations.iter().take(end).rev().filter(|known| matches(&state, known, filter));
    Ok(wanted.take(limit).map(|known| shown(engine, &state, known)).collect())
}

/// Returns the last operations on a processor, the newest first.
pub(super) fn history(engine: &Engine, processor: &str) -> Vec<Operation> {
    let state = engine.cluster().state();
    let of = |known: &&state::Operation| known.subject.processor.as_deref() == Some(processor);
    let wanted = state.operations.iter().rev().filter(of).take(HISTORY_OPERATIONS_MAX);
    wanted.map(|known| shown(engine, &state, known)).collect()
}

/// Returns what came of the operation with this id.
pub(super) fn one(engine: &Engine, id: Uuid) -> Result<Operation, ApiError> {
    let state = engine.cluster().state();
    let known = state.operations.iter().find(|known| known.operation == id).ok_or_else(|| unknown(id))?;
    Ok(shown(engine, &state, known))
}

fn unknown(id: Uuid) -> ApiError {
    ApiError::new(&codes::UNKNOWN_OPERATION, format!("there is no operation {id}"))
}

fn known_kind(kind: &str) -> Result<(), ApiError> {
    let known = BTreeSet::from_iter(kinds());
    if known.contains(kind) {
        return Ok(());
    }
    let all = known.iter().copied().collect::<Vec<_>>().join(", ");
    let error = ApiError::new(&codes::BAD_QUERY, format!("no operation is of the kind '{kind}'"));
    Err(error.hint(match settings::nearest(kind, known.iter().map(|&known| known.to_owned())) {
        Some(near) => format!("did you mean {near}? The kinds are {all}"),
        None => format!("the kinds are {all}"),
    }))
}

fn matches(state: &State, known: &state::Operation, filter: &OperationFilter) -> bool {
    let subject = &known.subject;
    let node = |name: &String| {
        let called = subject.member.as_ref() == Some(name) || subject.address.as_ref() == Some(name);
        called || subject.node.is_some_and(|node| state.name_of(node) == *name)
    };
    filter.processor.as_ref().is_none_or(|name| subject.processor.as_ref() == Some(name))
        && filter.kind.as_ref().is_none_or(|kind| kind_word(known.kind) == kind)
        && filter.node.as_ref().is_none_or(node)
}

fn shown(engine: &Engine, state: &State, known: &state::Operation) -> Operation {
    let waits = || known.goal.as_ref().and_then(|goal| waits_for(engine, state, goal));
    let (mut code, mut changed) = (None, None);
    let (reached, why) = match &known.outcome {
        Outcome::Refused(why) => {
            let error = ApiError::from(why.clone());
            code = Some(error.code.into_owned());
            (OperationState::Refused, Some(error.message))
        }
        outcome => {
            changed = if let Outcome::Changed(changed) = outcome { Some(*changed) } else { None };
            waits().map_or((OperationState::Done, None), |why| (OperationState::Waiting, Some(why)))
        }
    };
    let note = Note {
        recorded: time_text(known.recorded),
        index: known.index.0,
        principal: known.principal.as_ref().map(|principal| principal.0.clone()),
        kind: kind_word(known.kind).to_owned(),
        subject: subject(state, &known.subject),
        reason: known.reason.clone(),
        code,
    };
    let operation = known.operation;
    Operation { operation, state: reached, why, changed, events: None, dry_run: false, note: Some(note) }
}

fn subject(state: &State, of: &state::Subject) -> Subject {
    let component = of.sequence.as_ref().map(|sequence| sequence.component.0);
    Subject {
        processor: of.processor.clone(),
        segment: of.segment.map(|segment| segment.0),
        position: of.position.map(|position| position.0),
        sequence: of.sequence.as_ref().map(|sequence| sequence.name.clone()),
        component: component.filter(|component| *component != 0),
        node: of.member.clone().or_else(|| of.node.map(|node| state.name_of(node))),
        node_id: of.node.map(|node| node.0),
        address: of.address.clone(),
    }
}

/// Returns the kinds of operations as they are typed.
#[must_use]
pub fn kinds() -> Vec<&'static str> {
    let mut kinds: Vec<ChangeKind> = TABLE.iter().filter_map(|row| row.verb.kind()).collect();
    kinds.sort_unstable();
    kinds.push(ChangeKind::SetLimits);
    kinds.into_iter().map(kind_word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_word_of_its_verb() {
        for row in TABLE {
            assert!(row.verb.kind().is_none_or(|kind| kind_word(kind) == row.word()), "{}", row.words);
        }
        let kinds = kinds();
        assert_eq!(kinds.len(), kinds.iter().collect::<BTreeSet<_>>().len(), "{kinds:?}");
    }
}
