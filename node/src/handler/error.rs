//! What a handler answers: done, or an error together with what it means for the event.

use std::{error::Error as StdError, fmt, time::Duration};

use super::delivery::{Verdict, cause};

type Cause = Box<dyn StdError + Send + Sync>;

/// Why an event was not handled, and what becomes of it. `?` on any other error makes one that means *retry*.
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
    /// As `main` prints it when it ends with one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
    note = "a handler returns `()` or `Result<(), E>`, where `E` is any error"
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

impl<E: Into<Error> + Send> Outcome for std::result::Result<(), E> {
    fn into_result(self) -> Result {
        self.map_err(Into::into)
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
    fn each_meaning_has_its_verdict() {
        let after = Verdict::from(Error::after(30.secs(), "busy"));
        assert_eq!(after, Verdict::Retry { cause: "busy".into(), after: Some(Duration::from_secs(30)) });
        assert_eq!(Verdict::from(Error::set_aside("no")), Verdict::SetAside { cause: "no".into() });
        assert_eq!(Verdict::from(Error::skip("no")), Verdict::Skip { cause: "no".into() });
    }
}
