//! The result of a handler: success, or an error that determines what happens to the event.

use std::{error::Error as StdError, fmt, time::Duration};

use super::delivery::{Verdict, cause};
use crate::error::ApiError;

type Cause = Box<dyn StdError + Send + Sync>;

/// The reason why an event was not handled, and what happens to it. `?` converts any other error into one that means
/// *retry*; for a text use [`Error::retry`], or return `Result<(), String>`.
///
/// ```
/// use evener::prelude::*;
///
/// fn amount(text: &str) -> Result<i64> {
///     if text.is_empty() {
///         return Err(Error::set_aside("an amount must be there")); // a retry will not help
///     }
///     Ok(text.parse()?) // any error: retried
/// }
/// assert!(amount("x").is_err());
/// ```
pub struct Error {
    kind: FaultKind,
    cause: Cause,
}

enum FaultKind {
    Retry(Option<Duration>),
    SetAside,
    Skip,
}

impl Error {
    /// Retries the event on the processor's schedule, as `?` does.
    #[must_use]
    pub fn retry(cause: impl Into<Cause>) -> Self {
        Self { kind: FaultKind::Retry(None), cause: cause.into() }
    }

    /// Retries the event after this delay instead of the scheduled one.
    #[must_use]
    pub fn after(wait: Duration, cause: impl Into<Cause>) -> Self {
        Self { kind: FaultKind::Retry(Some(wait)), cause: cause.into() }
    }

    /// Sets the event aside without retries: its sequence waits for an operator.
    #[must_use]
    pub fn set_aside(cause: impl Into<Cause>) -> Self {
        Self { kind: FaultKind::SetAside, cause: cause.into() }
    }

    /// Skips the event and continues with the next one.
    #[must_use]
    pub fn skip(cause: impl Into<Cause>) -> Self {
        Self { kind: FaultKind::Skip, cause: cause.into() }
    }

    /// Returns the underlying error.
    #[must_use]
    pub fn cause(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.cause
    }
}

impl From<Error> for Verdict {
    fn from(error: Error) -> Self {
        let cause = cause(error.to_string());
        match error.kind {
            FaultKind::Retry(after) => Self::Retry { cause, after },
            FaultKind::SetAside => Self::SetAside { cause },
            FaultKind::Skip => Self::Skip { cause },
        }
    }
}

impl fmt::Display for Error {
    /// Writes the error and its chain of sources, each text once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last_text = self.cause.to_string();
        f.write_str(&last_text)?;
        let mut next = self.cause.source();
        while let Some(source) = next {
            let text = source.to_string();
            if !last_text.contains(&text) {
                write!(f, ": {text}")?;
            }
            last_text = text;
            next = source.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    /// Formats the error as `main` prints it; an error of Evener includes the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause.downcast_ref::<ApiError>() {
            Some(last_text) => fmt::Debug::fmt(last_text, f),
            None => fmt::Display::fmt(self, f),
        }
    }
}

/// An [`Error`] boxed as a [`Cause`] that keeps its kind. [`Error`] itself does not implement [`StdError`], since `?`
/// converts every `StdError` into an [`Error`].
struct BoxedError(Error);

impl fmt::Display for BoxedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for BoxedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl StdError for BoxedError {}

impl From<Error> for Cause {
    fn from(error: Error) -> Self {
        Box::new(BoxedError(error))
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

/// The return type of handlers and of programs with handlers.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// A type that a handler may return.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "not an outcome of handling an event",
    note = "a handler returns `()` or `Result<(), E>`, where `E` is any error, or a text"
)]
pub trait Outcome: Send {
    /// Converts the value into a result.
    fn into_result(self) -> Result;
}

impl Outcome for () {
    fn into_result(self) -> Result {
        Ok(())
    }
}

/// A handler may return any error that converts into a boxed error: an error type, a text, a boxed error, an `anyhow`
/// error, or [`Error`].
impl<E: Into<Cause> + Send> Outcome for std::result::Result<(), E> {
    fn into_result(self) -> Result {
        self.map_err(|error| match error.into().downcast::<BoxedError>() {
            Ok(boxed) => boxed.0,
            Err(cause) => Error::retry(cause),
        })
    }
}

/// Extension methods that create durations: `30.secs()`, `500.millis()`.
pub trait DurationExt {
    /// Returns a duration of this many milliseconds.
    fn millis(self) -> Duration;
    /// Returns a duration of this many seconds.
    fn secs(self) -> Duration;
    /// Returns a duration of this many minutes.
    fn mins(self) -> Duration;
}

impl DurationExt for u64 {
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
        let last_text = format!("{error:?}");
        let lines: Vec<&str> = last_text.lines().collect();
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
