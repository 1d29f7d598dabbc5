//! What is said of a request that was tried several times. A try of which nobody knows what came of it is not undone
//! by a later one of which it is known that nothing did: whoever is told *nothing happened* may give up, and then it
//! happens.

use crate::error::{ApiError, Class};

/// The first try of which nobody knows what came of it.
#[derive(Debug, Default)]
pub struct Doubt(Option<ApiError>);

impl Doubt {
    /// A try ended so.
    pub fn note(&mut self, error: &ApiError) {
        if error.class == Class::Unknown {
            self.0.get_or_insert_with(|| error.clone());
        }
    }

    /// What is said where the last try ended so.
    #[must_use]
    pub fn told(self, last: ApiError) -> ApiError {
        match self.0 {
            Some(first) if last.class == Class::Overloaded => first,
            _ => last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    fn told(tries: &[&codes::Code]) -> String {
        let mut doubt = Doubt::default();
        let errors: Vec<_> = tries.iter().map(|code| ApiError::new(code, "it failed")).collect();
        errors.iter().for_each(|error| doubt.note(error));
        doubt.told(errors.last().unwrap().clone()).code.into_owned()
    }

    #[test]
    fn what_may_have_happened_is_not_undone_by_a_later_try() {
        assert_eq!(told(&[&codes::OUTCOME_UNKNOWN, &codes::NO_LEADER]), codes::OUTCOME_UNKNOWN.id);
        assert_eq!(told(&[&codes::NO_LEADER, &codes::NO_LEADER]), codes::NO_LEADER.id);
        assert_eq!(told(&[&codes::OUTCOME_UNKNOWN, &codes::REVISION]), codes::REVISION.id, "the log has judged it");
    }
}
