//! The retry policy of one request: tries one server after the other, pauses between rounds, and fails in the end.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::servers::Servers;
use crate::{
    codes,
    error::{ApiError, Class},
    unknown_outcome::UnknownOutcome,
};

/// If no server ever answered, a request fails after this time, once all were tried: usually the address is wrong.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The first pause between two rounds over all servers.
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// The longest pause between two rounds.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Time for which a request is retried.
#[derive(Clone, Copy, Debug)]
pub(super) enum RetryTime {
    /// No attempt begins after this time, or after [`FIRST_ANSWER_TIMEOUT`] if no server ever answered.
    UpTo(Duration),
    /// The request fails after exactly this time, even during an attempt.
    Exactly(Duration),
}

/// The attempts of one request.
pub(super) struct Retries {
    begun: Instant,
    retry_time: RetryTime,
    pause: Duration,
    all: usize,
    in_round: usize,
    /// Number of consecutive servers that are unreachable, or that asked to wait longer than the time left.
    too_late: usize,
    unknown: UnknownOutcome,
    /// The last error that a server answered with.
    answered: Option<ApiError>,
    /// Why each server is unreachable.
    unreachable: BTreeMap<String, String>,
}

impl Retries {
    /// Starts the retry time of a request.
    pub(super) fn new(retry_time: RetryTime) -> Self {
        let (begun, unknown) = (Instant::now(), UnknownOutcome::default());
        Self {
            begun,
            retry_time,
            pause: PAUSE_MIN,
            all: 0,
            in_round: 0,
            too_late: 0,
            unknown,
            answered: None,
            unreachable: BTreeMap::new(),
        }
    }

    /// Returns the deadline of the request, if it has an exact one.
    pub(super) fn until(&self) -> Option<Instant> {
        match self.retry_time {
            RetryTime::UpTo(_) => None,
            RetryTime::Exactly(time) => Some(self.begun + time),
        }
    }

    /// Returns the unknown outcome of the failed attempts, if any.
    pub(super) fn unknown(self) -> UnknownOutcome {
        self.unknown
    }

    /// Prepares the next attempt after one with `server` failed.
    ///
    /// # Errors
    /// The error of the request if there is no further attempt.
    pub(super) async fn next(&mut self, error: ApiError, server: &str, servers: &Servers) -> Result<(), ApiError> {
        if !error.may_repeat() {
            return Err(self.unknown.apply(error));
        }
        // Also if this request fails for good: the next request begins with another server.
        servers.failed(server, &error);
        (self.all, self.in_round) = (self.all + 1, self.in_round + 1);
        let wait = error.retry_after_ms.map(|ms| Duration::from_millis(u64::from(ms)));
        let absent = error.is(&codes::NO_SERVER);
        let error = self.most_informative(error, server);
        let error = self.unknown.apply(error);
        let never_answered = !servers.ever_answered() && self.all >= servers.len();
        let retry_time = match self.retry_time {
            RetryTime::UpTo(time) if never_answered => time.min(FIRST_ANSWER_TIMEOUT),
            RetryTime::UpTo(time) | RetryTime::Exactly(time) => time,
        };
        let left = retry_time.saturating_sub(self.begun.elapsed());
        // An unreachable server does not contradict those that answer.
        let too_late = wait.is_some_and(|wait| wait > left) || (absent && self.too_late > 0);
        self.too_late = if too_late { self.too_late + 1 } else { 0 };
        if left.is_zero() || (self.until().is_none() && self.too_late >= servers.len()) {
            return Err(error);
        }
        if self.in_round >= servers.len() || wait.is_some() {
            tokio::time::sleep(wait.unwrap_or(self.pause).min(PAUSE_MAX).min(left)).await;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            self.in_round = 0;
        }
        // An attempt without any time left would report less than the last one did.
        if self.until().is_some_and(|until| Instant::now() >= until) { Err(error) } else { Ok(()) }
    }

    /// Returns the last error that a server answered with: it knows more of the cluster than an unreachable one. If
    /// none answers, returns why each is unreachable.
    fn most_informative(&mut self, mut error: ApiError, server: &str) -> ApiError {
        if !error.is(&codes::NO_SERVER) {
            self.unreachable.remove(server);
            if error.class != Class::Unknown {
                self.answered = Some(error.clone());
            }
            return error;
        }
        self.unreachable.insert(server.to_owned(), error.message);
        error.message = self.unreachable.values().map(String::as_str).collect::<Vec<_>>().join("; ");
        self.answered.clone().unwrap_or(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(server: &str) -> ApiError {
        ApiError::new(&codes::NO_SERVER, format!("failed to connect to {server}"))
    }

    #[tokio::test]
    async fn a_request_without_retry_time_makes_the_next_one_use_another_server() {
        let servers = Servers::parse("http://a:1,http://b:2").unwrap();
        let lost = ApiError::new(&codes::OUTCOME_UNKNOWN, "it is lost");
        assert!(Retries::new(RetryTime::UpTo(Duration::ZERO)).next(lost, "http://a:1", &servers).await.is_err());
        assert_eq!(servers.current(), "http://b:2");
    }

    #[tokio::test]
    async fn an_unknown_outcome_stays_unknown_after_an_answer_of_another_program() {
        let servers = Servers::parse("http://a:1,http://b:2").unwrap();
        let mut retries = Retries::new(RetryTime::UpTo(FIRST_ANSWER_TIMEOUT));
        let lost = ApiError::new(&codes::OUTCOME_UNKNOWN, "it is lost");
        retries.next(lost, "http://a:1", &servers).await.expect("the other server may know");
        let error = retries.next(ApiError::new(&codes::NOT_EVENER, "404"), "http://b:2", &servers).await.unwrap_err();
        assert!(error.is(&codes::OUTCOME_UNKNOWN), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn every_server_is_tried_before_an_early_failure() {
        let servers = Servers::parse("a:1,b:2").unwrap();
        let mut retries = Retries::new(RetryTime::UpTo(FIRST_ANSWER_TIMEOUT * 100));
        tokio::time::advance(FIRST_ANSWER_TIMEOUT * 3).await;
        retries.next(unreachable("a"), "http://a:1", &servers).await.unwrap();
        let error = retries.next(unreachable("b"), "http://b:2", &servers).await.unwrap_err();
        assert_eq!(error.message, "failed to connect to a; failed to connect to b");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_fails_at_once_if_all_servers_need_longer_than_its_retry_time() {
        let servers = Servers::parse("a:1,b:2").unwrap();
        servers.mark_answered("http://a:1");
        let long = || ApiError::new(&codes::NO_LEADER, "no majority").retry_after(Duration::from_secs(20));
        let mut retries = Retries::new(RetryTime::UpTo(Duration::from_secs(15)));
        retries.next(long(), "http://a:1", &servers).await.expect("the other server may have a majority");
        assert!(retries.next(long(), "http://b:2", &servers).await.unwrap_err().is(&codes::NO_LEADER));
        let down = || ApiError::new(&codes::NO_SERVER, "connection refused");
        let mut retries = Retries::new(RetryTime::UpTo(Duration::from_secs(15)));
        retries.next(down(), "http://a:1", &servers).await.expect("the other server may be up");
        retries.next(long(), "http://b:2", &servers).await.expect("the first server may be up by now");
        assert!(retries.next(down(), "http://a:1", &servers).await.unwrap_err().is(&codes::NO_LEADER), "one answers");
        let mut exactly = Retries::new(RetryTime::Exactly(Duration::from_secs(15)));
        for server in ["http://a:1", "http://b:2", "http://a:1"] {
            exactly.next(long(), server, &servers).await.expect("an exact time is used up");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_retry_time_is_used_up_if_a_server_has_answered_or_the_time_is_exact() {
        let long = FIRST_ANSWER_TIMEOUT * 3;
        for (retry_time, answered) in [(RetryTime::UpTo(long), true), (RetryTime::Exactly(long), false)] {
            let servers = Servers::parse("a:1").unwrap();
            if answered {
                servers.mark_answered("http://a:1");
            }
            let (mut retries, begun) = (Retries::new(retry_time), Instant::now());
            while retries.next(unreachable("a"), "http://a:1", &servers).await.is_ok() {}
            assert!((long..long + PAUSE_MAX).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        }
    }
}
