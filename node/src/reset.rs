//! The request of a reset: what `POST /processors/NAME/reset` takes.

use evener_core::{id::Position, replay::ResetTo, rfc3339, time::Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{codes, error::ApiError};

/// The request to reset a processor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResetRequest {
    /// The place to which the processor is reset.
    pub to: ResetAt,
    /// Any JSON: handlers of replayed events and the hooks of the replay receive it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
}

/// The place to which a processor is reset.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResetAt {
    /// The first event of the log.
    Beginning,
    /// The next event: everything that is not handled yet is skipped.
    Head,
    /// The end of the running replay: each segment continues where it was before the reset.
    ReplayEnd,
    /// This position.
    Position(u64),
    /// The first event that was recorded at this time or later: RFC 3339.
    Time(String),
}

impl ResetRequest {
    /// Returns a reset without a context.
    #[must_use]
    pub const fn to(to: ResetAt) -> Self {
        Self { to, context: None }
    }

    /// Sets the context, which is any JSON.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<Value>) -> Self {
        self.context = Some(context.into());
        self
    }
}

impl ResetAt {
    /// Parses a word of the command line.
    ///
    /// # Errors
    /// If it is neither a place, nor a position, nor a time.
    pub fn of_word(word: &str) -> Result<Self, ApiError> {
        match (word, word.parse()) {
            ("beginning", _) => Ok(Self::Beginning),
            ("head", _) => Ok(Self::Head),
            ("replay-end", _) => Ok(Self::ReplayEnd),
            (_, Ok(position)) => Ok(Self::Position(position)),
            _ if rfc3339::check(word).is_ok() => Ok(Self::Time(word.to_owned())),
            _ => {
                let words = ["beginning", "head", "replay-end"].map(str::to_owned).into_iter();
                let message = format!(
                    "--to is '{word}': it must be beginning, head, replay-end, a position, or a time such as \
                     2026-01-31T08:00:00Z"
                );
                let error = ApiError::new(&codes::USAGE, message);
                Err(match crate::settings::nearest(&word.to_ascii_lowercase(), words) {
                    Some(near) => error.hint(format!("did you mean --to {near}?")),
                    None => error,
                })
            }
        }
    }

    /// Returns the place, or the time from which it follows.
    ///
    /// # Errors
    ///
    /// The text of the time is none.
    pub(crate) fn place(&self) -> Result<Place, ApiError> {
        Ok(match self {
            Self::Beginning => Place::Known(ResetTo::Beginning),
            Self::Head => Place::Known(ResetTo::Head),
            Self::ReplayEnd => Place::Known(ResetTo::ReplayEnd),
            Self::Position(position) => Place::Known(ResetTo::At(Position(*position))),
            Self::Time(text) => Place::At(time(text)?),
        })
    }
}

/// A place, or the time from which it follows.
pub(crate) enum Place {
    Known(ResetTo),
    At(Timestamp),
}

fn time(text: &str) -> Result<Timestamp, ApiError> {
    let wrong = |why: String| ApiError::new(&codes::INVALID_CHANGE, format!("the time '{text}' {why}"));
    rfc3339::check(text).map_err(|error| wrong(error.to_string()))?;
    let time: jiff::Timestamp = text.parse().map_err(|error| wrong(format!("cannot be read: {error}")))?;
    Ok(Timestamp(u64::try_from(time.as_millisecond()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_misspelt_is_no_time() {
        let wrong = |word: &str| ResetAt::of_word(word).expect_err("it is no place");
        assert_eq!(wrong("Begining").hint.as_ref(), "did you mean --to beginning?");
        assert_eq!(wrong("replay_end").hint.as_ref(), "did you mean --to replay-end?");
        assert!(wrong("10k").is(&codes::USAGE) && wrong("").message.contains("a position, or a time"));
        assert_eq!(ResetAt::of_word("7").unwrap(), ResetAt::Position(7));
        assert!(matches!(ResetAt::of_word("2026-01-31T08:00:00Z"), Ok(ResetAt::Time(_))));
    }

    #[test]
    fn a_time_is_read_as_milliseconds() {
        assert_eq!(time("1970-01-01T00:00:01.5Z").unwrap(), Timestamp(1_500));
        assert_eq!(time("1969-01-01T00:00:00Z").unwrap(), Timestamp(0), "before every event");
        let error = time("yesterday").unwrap_err();
        assert!(error.is(&codes::INVALID_CHANGE) && error.message.contains("'yesterday' does not have the form"));
    }
}
