//! What a processor has set aside.

use evener_core::{hash, letter::Waiting};

use super::{
    DeadLetter, Letter,
    local::{Engine, name_of, time_text},
};
use crate::{codes, error::ApiError};

/// All of it, by sequence.
pub fn list(engine: &Engine, name: &str) -> Result<Vec<DeadLetter>, ApiError> {
    let state = engine.cluster().state();
    let Some(processor) = state.processor(name) else {
        return Err(ApiError::new(&codes::UNKNOWN_PROCESSOR, format!("there is no processor {name}")));
    };
    let letters = processor.set_aside.iter().map(|(key, aside)| DeadLetter {
        sequence: key.name.clone(),
        state: match aside.waiting {
            Waiting::ForItsTime => "waiting",
            Waiting::ForAPerson => "dead",
        }
        .to_owned(),
        letters: aside
            .letters
            .iter()
            .map(|letter| Letter { position: letter.position.0, kind: letter.kind.clone(), attempts: letter.attempts })
            .collect(),
        cause: aside.cause.clone(),
        retry_at: aside.due().map(time_text),
        lent_to: aside.loan.map(|loan| name_of(&state, loan.node)),
        segment: processor.share_of(hash::sequence(key.name.as_bytes())).map(|(id, _)| id.0),
    });
    Ok(letters.collect())
}
