//! What a handler answers: done, or an error together with what it means for the event.

use std::{error::Error as StdError, fmt, time::Duration};

use super::delivery::{Verdict, cause};
use crate::error::ApiError;

type Cause = Box<dyn StdError + Send + Sync>;

/// Why an event was not handled, and what becomes of it. `?` on any other error makes one that means *retry*; for a
/// mere text there is [`Error::retry`], or a handler that returns `Result<(), String>`.
///
/// ```
/// use evener::prelude::*;
///
/// fn amount(text: &str) -> Result<i64> {
///     if text.is_empty() {
///         return Err(Error::set_aside("an amount must be there")); // no later try will mend that
///     }
///     Ok(text.parse()?) // any error: tried again
/// }
/// assert!(amount("x").is_err());
/// ```
pub struct Error {
    meaning: Meaning,
    cause: Cause,
}

enum Meaning {
    Retry(Option<Duration>),
    SetAside,
    Skip,
}

impl Error {
    /// Try it again, on the processor's schedule. What `?` does.
    #[must_use]
    pub fn retry(cause: impl Into<Cause>) -> Self {
        Self { meaning: Meaning::Retry(None), cause: cause.into() }
    }

    /// Try it again after this wait, whatever the schedule says.
    #[must_use]
    pub fn after(wait: Duration, cause: impl Into<Cause>) -> Self {
        Self { meaning: Meaning::Retry(Some(wait)), cause: cause.into() }
    }

    /// Do not try it again: its sequence waits for a person.
    #[must_use]
    pub fn set_aside(cause: impl Into<Cause>) -> Self {
        Self { meaning: Meaning::SetAside, cause: cause.into() }
    }

    /// Pass over the event, and go on behind it.
    #[must_use]
    pub fn skip(cause: impl Into<Cause>) -> Self {
        Self { meaning: Meaning::Skip, cause: cause.into() }
    }

    /// What went wrong.
    #[must_use]
    pub fn cause(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.cause
    }
}

impl From<Error> for Verdict {
    fn from(error: Error) -> Self {
        let cause = cause(error.to_string());
        match error.meaning {
            Meaning::Retry(after) => Self::Retry { cause, after },
            Meaning::SetAside => Self::SetAside { cause },
            Meaning::Skip => Self::Skip { cause },
        }
    }
}

impl fmt::Display for Error {
    /// The error and what caused it, each once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.cause.to_string();
        f.write_str(&told)?;
        let mut next = self.cause.source();
        while let Some(source) = next {
            let text = source.to_string();
            if !told.contains(&text) {
                write!(f, ": {text}")?;
            }
            told = text;
            next = source.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    /// As `main` prints it when it ends with one: an error of Evener's with what to do next.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause.downcast_ref::<ApiError>() {
            Some(told) => fmt::Debug::fmt(told, f),
            None => fmt::Display::fmt(self, f),
        }
    }
}

/// An [`Error`] on its way through a [`Cause`]: it keeps its meaning. An [`Error`] itself is no [`StdError`], as `?`
/// on any of these makes one.
struct Meant(Error);

impl fmt::Display for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl StdError for Meant {}

impl From<Error> for Cause {
    fn from(error: Error) -> Self {
        Box::new(Meant(error))
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

/// What handlers, and programs made of them, return.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Anything a handler may return.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "not an outcome of handling an event",
    note = "a handler returns `()` or `Result<(), E>`, where `E` is any error, or a text"
)]
pub trait Outcome: Send {
    /// As a result.
    fn into_result(self) -> Result;
}

impl Outcome for () {
    fn into_result(self) -> Result {
        Ok(())
    }
}

/// What can become a boxed error can be returned: any error, a text, a boxed error, those of `anyhow`, and [`Error`].
impl<E: Into<Cause> + Send> Outcome for std::result::Result<(), E> {
    fn into_result(self) -> Result {
        self.map_err(|error| match error.into().downcast::<Meant>() {
            Ok(meant) => meant.0,
            Err(cause) => Error::retry(cause),
        })
    }
}

/// Durations as one says them: `30.secs()`, `500.millis()`.
pub trait Every {
    /// So many milliseconds.
    fn millis(self) -> Duration;
    /// So many seconds.
    fn secs(self) -> Duration;
    /// So many minutes.
    fn mins(self) -> Duration;
}

impl Every for u64 {
    fn millis(self) -> Duration {
        Duration::from_millis(self)
    }

    fn secs(self) -> Duration {
        Duration::from_secs(self)
    }

    fn mins(self) -> Duration {
        Duration::from_secs(self.saturating_mul(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to save order 7")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_cause_tells_the_whole_chain_once() {
        let error = Error::from(Outer(std::io::Error::other("disk full")));
        assert_eq!(error.to_string(), "failed to save order 7: disk full");
        let verdict = Verdict::from(error);
        assert_eq!(verdict, Verdict::Retry { cause: "failed to save order 7: disk full".into(), after: None });
    }

    #[test]
    fn whatever_a_handler_returns_keeps_its_meaning() {
        fn check(returned: impl Outcome, verdict: Verdict) {
            assert_eq!(returned.into_result().map_or_else(Verdict::from, |()| Verdict::Handled), verdict);
        }
        let retry = |cause: &str| Verdict::Retry { cause: cause.into(), after: None };
        check((), Verdict::Handled);
        check(Ok::<(), String>(()), Verdict::Handled);
        check(Err::<(), _>("a text".to_owned()), retry("a text"));
        check(Err::<(), _>("a text"), retry("a text"));
        check(Err::<(), _>(Outer(std::io::Error::other("full"))), retry("failed to save order 7: full"));
        check(Err::<(), _>(Box::<dyn StdError + Send + Sync>::from("boxed")), retry("boxed"));
        check(Err::<(), _>(Error::retry("tried")), retry("tried"));
        check(Err::<(), _>(Error::set_aside("no")), Verdict::SetAside { cause: "no".into() });
        check(Err::<(), _>(Error::skip("no")), Verdict::Skip { cause: "no".into() });
    }

    #[test]
    fn an_error_without_words_has_a_cause_whatever_it_means() {
        let none = || "the handler gave no reason".to_owned();
        assert_eq!(Verdict::from(Error::retry("")), Verdict::Retry { cause: none(), after: None });
        assert_eq!(Verdict::from(Error::set_aside("")), Verdict::SetAside { cause: none() });
        assert_eq!(Verdict::from(Error::skip("")), Verdict::Skip { cause: none() });
    }

    #[test]
    fn main_that_ends_with_an_error_of_ours_says_what_to_do_next() {
        let error = Error::from(ApiError::new(&crate::codes::PORT_IN_USE, "failed to listen on 127.0.0.1:4750"));
        let told = format!("{error:?}");
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[0], "failed to listen on 127.0.0.1:4750 (EV0505)");
        assert_eq!(lines[1], format!("  next: {}", crate::codes::PORT_IN_USE.hint));
        assert_eq!(lines[2], "  more: evener explain EV0505");
    }

    #[test]
    fn each_meaning_has_its_verdict() {
        let after = Verdict::from(Error::after(30.secs(), "busy"));
        assert_eq!(after, Verdict::Retry { cause: "busy".into(), after: Some(Duration::from_secs(30)) });
        assert_eq!(Verdict::from(Error::set_aside("no")), Verdict::SetAside { cause: "no".into() });
        assert_eq!(Verdict::from(Error::skip("no")), Verdict::Skip { cause: "no".into() });
    }
}
