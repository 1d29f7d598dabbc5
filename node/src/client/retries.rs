//! The tries of one request: goes on to the next server, pauses between rounds, and gives up.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::servers::Servers;
use crate::{
    codes,
    error::{ApiError, Class},
    unknown_outcome::UnknownOutcome,
};

/// Where no server ever answered, giving up is quick once all were asked: usually the address is wrong.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The first pause between two rounds over all servers.
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How long a request is repeated.
#[derive(Clone, Copy, Debug)]
pub(super) enum RetryTime {
    /// No try begins after this time, and sooner none where no server ever answered.
    UpTo(Duration),
    /// After this time it is given up, also in the middle of a try, and not before.
    Exactly(Duration),
}

/// The tries of one request.
pub(super) struct Retries {
    begun: Instant,
    retry_time: RetryTime,
    pause: Duration,
    all: usize,
    in_round: usize,
    /// So many in a row have said that it takes longer than there is patience, or are not there.
    too_late: usize,
    unknown: UnknownOutcome,
    /// What the last one said that could not do it.
    answered: Option<ApiError>,
    /// Why each server does not answer.
    unreachable: BTreeMap<String, String>,
}

impl Retries {
    /// None was made yet.
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

    /// When a try that is under way is given up, if that was asked for.
    pub(super) fn until(&self) -> Option<Instant> {
        match self.retry_time {
            RetryTime::UpTo(_) => None,
            RetryTime::Exactly(time) => Some(self.begun + time),
        }
    }

    /// What the tries that failed leave open.
    pub(super) fn unknown(self) -> UnknownOutcome {
        self.unknown
    }

    /// Prepares the next try after `asked` failed, or gives `error` back.
    pub(super) async fn next(&mut self, error: ApiError, asked: &str, servers: &Servers) -> Result<(), ApiError> {
        if !error.may_repeat() {
            return Err(self.unknown.apply(error));
        }
        // Also if this request fails for good: the next request begins with another server.
        servers.failed(asked, &error);
        (self.all, self.in_round) = (self.all + 1, self.in_round + 1);
        let wait = error.retry_after_ms.map(|ms| Duration::from_millis(u64::from(ms)));
        let absent = error.is(&codes::NO_SERVER);
        let error = self.most_informative(error, asked);
        let error = self.unknown.apply(error);
        let never_answered = !servers.ever_answered() && self.all >= servers.len();
        let retry_time = match self.retry_time {
            RetryTime::UpTo(time) if never_answered => time.min(FIRST_ANSWER_TIMEOUT),
            RetryTime::UpTo(time) | RetryTime::Exactly(time) => time,
        };
        let left = retry_time.saturating_sub(self.begun.elapsed());
        // One that is not there does not contradict those that are.
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

    /// What one says that answers: it knows more of the cluster than one that is not there. Where none does, that, with
    /// the reason of each.
    fn most_informative(&mut self, mut error: ApiError, asked: &str) -> ApiError {
        if !error.is(&codes::NO_SERVER) {
            self.unreachable.remove(asked);
            if error.class != Class::Unknown {
                self.answered = Some(error.clone());
            }
            return error;
        }
        self.unreachable.insert(asked.to_owned(), error.message);
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
    async fn who_has_no_patience_begins_elsewhere_the_next_time() {
        let servers = Servers::parse("http://a:1,http://b:2").unwrap();
        let gone = ApiError::new(&codes::OUTCOME_UNKNOWN, "it is gone");
        assert!(Retries::new(RetryTime::UpTo(Duration::ZERO)).next(gone, "http://a:1", &servers).await.is_err());
        assert_eq!(servers.current(), "http://b:2");
    }

    #[tokio::test]
    async fn what_a_stranger_says_makes_nothing_undone() {
        let servers = Servers::parse("http://a:1,http://b:2").unwrap();
        let mut retries = Retries::new(RetryTime::UpTo(FIRST_ANSWER_TIMEOUT));
        let (gone, stranger) = (ApiError::new(&codes::OUTCOME_UNKNOWN, "it is gone"), &codes::NOT_EVENER);
        retries.next(gone, "http://a:1", &servers).await.expect("the other one may know");
        let error = retries.next(ApiError::new(stranger, "who?"), "http://b:2", &servers).await.unwrap_err();
        assert!(error.is(&codes::OUTCOME_UNKNOWN), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn every_server_is_asked_before_giving_up_quickly() {
        let servers = Servers::parse("a:1,b:2").unwrap();
        let mut retries = Retries::new(RetryTime::UpTo(FIRST_ANSWER_TIMEOUT * 100));
        tokio::time::advance(FIRST_ANSWER_TIMEOUT * 3).await;
        retries.next(unreachable("a"), "http://a:1", &servers).await.unwrap();
        let error = retries.next(unreachable("b"), "http://b:2", &servers).await.unwrap_err();
        assert_eq!(error.message, "failed to connect to a; failed to connect to b");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_by_all_servers_that_it_takes_longer_than_it_waits_waits_no_more() {
        let servers = Servers::parse("a:1,b:2").unwrap();
        servers.mark_answered("http://a:1");
        let long = || ApiError::new(&codes::NO_LEADER, "no majority").retry_after(Duration::from_secs(20));
        let mut retries = Retries::new(RetryTime::UpTo(Duration::from_secs(15)));
        retries.next(long(), "http://a:1", &servers).await.expect("the other one may have a majority");
        assert!(retries.next(long(), "http://b:2", &servers).await.unwrap_err().is(&codes::NO_LEADER));
        let gone = || ApiError::new(&codes::NO_SERVER, "connection refused");
        let mut retries = Retries::new(RetryTime::UpTo(Duration::from_secs(15)));
        retries.next(gone(), "http://a:1", &servers).await.expect("the other one may be there");
        retries.next(long(), "http://b:2", &servers).await.expect("the first one may be there by now");
        assert!(retries.next(gone(), "http://a:1", &servers).await.unwrap_err().is(&codes::NO_LEADER), "one answers");
        let mut asked_for = Retries::new(RetryTime::Exactly(Duration::from_secs(15)));
        for server in ["http://a:1", "http://b:2", "http://a:1"] {
            asked_for.next(long(), server, &servers).await.expect("it was asked for");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_takes_all_the_patience_where_one_has_answered_or_it_was_asked_for() {
        let long = FIRST_ANSWER_TIMEOUT * 3;
        for (retry_time, heard) in [(RetryTime::UpTo(long), true), (RetryTime::Exactly(long), false)] {
            let servers = Servers::parse("a:1").unwrap();
            if heard {
                servers.mark_answered("http://a:1");
            }
            let (mut retries, begun) = (Retries::new(retry_time), Instant::now());
            while retries.next(unreachable("a"), "http://a:1", &servers).await.is_ok() {}
            assert!((long..long + PAUSE_MAX).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        }
    }
}
