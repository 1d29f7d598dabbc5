//! What may have happened once may still happen: a server that was given up may do the request later. So after one
//! try that ended *unknown*, no later one can say of the whole request that nothing happened.

use crate::{
    codes,
    error::{ApiError, Class},
};

/// The first try of a request that ended unknown, if one did.
#[derive(Clone, Debug, Default)]
pub struct Doubt(Option<ApiError>);

impl Doubt {
    /// What a try that ended with `error` says of the request as a whole.
    pub fn weigh(&mut self, error: ApiError) -> ApiError {
        match (&self.0, error.class) {
            (None, Class::Unknown) => {
                self.0 = Some(error.clone());
                error
            }
            // Who is no server of ours knows nothing of it, either.
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
    fn after_one_try_that_may_have_happened_nobody_says_that_nothing_did() {
        let mut doubt = Doubt::default();
        assert!(doubt.weigh(ApiError::new(&NO_LEADER, "none")).is(&NO_LEADER), "nothing happened so far");
        assert!(doubt.weigh(ApiError::new(&OUTCOME_UNKNOWN, "it is lost")).is(&OUTCOME_UNKNOWN));
        let then = doubt.weigh(ApiError::new(&NO_LEADER, "nobody leads"));
        assert!(then.is(&OUTCOME_UNKNOWN), "{then}");
        assert_eq!(then.message, "it is lost; and then: nobody leads");
        assert!(doubt.weigh(ApiError::new(&NOT_EVENER, "who?")).is(&OUTCOME_UNKNOWN));
        assert!(doubt.weigh(ApiError::new(&CONDITION, "no")).is(&CONDITION), "what is decided is decided");
    }
}
