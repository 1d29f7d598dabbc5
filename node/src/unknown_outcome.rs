//! A request whose outcome is unknown may still be applied later by the server that received it. So after one attempt
//! with an unknown outcome, no later attempt can prove that the request had no effect.

use crate::{
    codes,
    error::{ApiError, Class},
};

/// The error of the first attempt with an unknown outcome, if any.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnknownOutcome(Option<ApiError>);

impl UnknownOutcome {
    /// Returns the error of the whole request after an attempt that failed with `error`.
    pub(crate) fn apply(&mut self, error: ApiError) -> ApiError {
        match (&self.0, error.class) {
            (None, Class::Unknown) => {
                self.0 = Some(error.clone());
                error
            }
            // A server that is not Evener does not know the outcome either.
            (Some(unknown), class) if class == Class::Overloaded || error.is(&codes::NOT_EVENER) => {
                let message = format!("{}; and then: {}", unknown.message, error.message);
                ApiError { message, retry_after_ms: error.retry_after_ms, leader: error.leader, ..unknown.clone() }
            }
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::{CONDITION, NO_LEADER, NOT_EVENER, OUTCOME_UNKNOWN};

    #[test]
    fn an_unknown_outcome_stays_unknown_until_a_decision() {
        let mut unknown = UnknownOutcome::default();
        assert!(unknown.apply(ApiError::new(&NO_LEADER, "none")).is(&NO_LEADER), "nothing happened so far");
        assert!(unknown.apply(ApiError::new(&OUTCOME_UNKNOWN, "it is lost")).is(&OUTCOME_UNKNOWN));
        let then = unknown.apply(ApiError::new(&NO_LEADER, "there is no leader"));
        assert!(then.is(&OUTCOME_UNKNOWN), "{then}");
        assert_eq!(then.message, "it is lost; and then: there is no leader");
        assert!(unknown.apply(ApiError::new(&NOT_EVENER, "404")).is(&OUTCOME_UNKNOWN));
        assert!(unknown.apply(ApiError::new(&CONDITION, "no")).is(&CONDITION), "a decision is final");
    }
}
