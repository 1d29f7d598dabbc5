//! What a processor has set aside.

use evener_core::{
    command::Selection,
    hash,
    letter::{SetAside, WaitsFor},
    sequence::Sequencing,
    state::State,
};

use super::{
    DeadLetter, Letter, What,
    local::{Engine, Now},
};
use crate::{codes, error::ApiError};

/// All of it, by sequence.
pub(super) fn list(engine: &Engine, name: &str) -> Result<Vec<DeadLetter>, ApiError> {
    let now = Now::of(engine.cluster());
    let state = engine.cluster().state();
    let Some(processor) = state.processor(name) else {
        return Err(ApiError::new(&codes::UNKNOWN_PROCESSOR, format!("there is no processor {name}")));
    };
    let letters = processor.set_aside.iter().map(|(key, aside)| DeadLetter {
        sequence: key.name.clone(),
        unnamed: key.name.is_empty().then(|| unnamed(&processor.definition.sequencing)),
        state: match aside.waits_for {
            WaitsFor::NextTry => "waiting",
            WaitsFor::Operator => "dead",
        }
        .to_owned(),
        letters: aside
            .letters
            .iter()
            .map(|letter| Letter { position: letter.position.0, kind: letter.kind.clone(), attempts: letter.attempts })
            .collect(),
        cause: aside.cause.clone(),
        retry_at: aside.due().map(|due| now.due_text(due)),
        lent_to: aside.loan.map(|loan| state.name_of(loan.node)),
        segment: processor.share_of(hash::sequence(key.name.as_bytes())).map(|(id, _)| id.0),
    });
    Ok(letters.collect())
}

/// Counts the events that a change gives up, if it is one that does.
pub(super) fn given_up(state: &State, what: &What) -> Option<u64> {
    let letters = |name: &str, which: &Selection, of: fn(&SetAside) -> usize| {
        let set_aside = state.processor(name).into_iter().flat_map(|processor| &processor.set_aside);
        let meant = set_aside.filter(|(key, _)| match which {
            Selection::All => true,
            Selection::Sequence(component, name) => key.component == *component && key.name == *name,
        });
        Some(meant.map(|(_, aside)| of(aside) as u64).sum())
    };
    match what {
        What::Drop(name, which) => letters(name, which, |aside| aside.letters.len()),
        What::Skip(name, which) => letters(name, which, |aside| aside.letters.len().min(1)),
        What::Delete(name) => letters(name, &Selection::All, |aside| aside.letters.len()),
        _ => None,
    }
}

/// What people call a sequence.
pub(super) fn called(policy: &Sequencing, name: &str) -> String {
    if name.is_empty() { unnamed(policy) } else { format!("'{name}'") }
}

/// What people call the sequence of the events that `policy` finds no name for: an empty name is none that one sees.
fn unnamed(policy: &Sequencing) -> String {
    match policy {
        Sequencing::KeyElseStream | Sequencing::Stream => "(no subject)".to_owned(),
        Sequencing::Tag(name) => format!("(no tag {name})"),
        Sequencing::Extension(name) => format!("(no {name})"),
        Sequencing::Whole | Sequencing::None => "(all events)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_without_a_name_is_called_by_what_its_events_lack() {
        let of = |policy: Sequencing| called(&policy, "");
        assert_eq!(called(&Sequencing::Stream, "order-1"), "'order-1'");
        assert_eq!(
            (of(Sequencing::KeyElseStream), of(Sequencing::Whole)),
            ("(no subject)".into(), "(all events)".into())
        );
        assert_eq!(of(Sequencing::Tag("case".into())), "(no tag case)");
        assert_eq!(of(Sequencing::Extension("tenant".into())), "(no tenant)");
    }
}
