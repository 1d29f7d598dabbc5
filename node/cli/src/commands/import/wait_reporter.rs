//! Reports why an import waits while the cluster acknowledges nothing: one append may be retried for long.

use std::{collections::BTreeSet, pin::pin, time::Duration};

use indicatif::ProgressBar;
use tokio::time::{Instant, timeout_at};

use evener::client::Client;

/// The time without an acknowledgement after which the cause is reported.
const REPORT_AFTER: Duration = Duration::from_secs(3);
/// How often the cause is determined.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The reporter of an import.
pub(super) struct WaitReporter {
    /// The progress bar, possibly hidden.
    pub bar: ProgressBar,
    /// Whether nothing is reported.
    pub quiet: bool,
    /// How long one append is retried.
    pub retry_time: Duration,
}

impl WaitReporter {
    /// Returns the result of `work`. While it takes long, queries the servers for the cause and reports it.
    pub(super) async fn watch<T>(&self, client: &Client, work: impl Future<Output = T>) -> T {
        if self.quiet {
            return work.await;
        }
        let (mut work, start, stored) = (pin!(work), Instant::now(), self.bar.message());
        let (mut look, mut reported) = (start + REPORT_AFTER, BTreeSet::new());
        let done = loop {
            if let Ok(done) = timeout_at(look, &mut work).await {
                break done;
            }
            tokio::select! {
                done = &mut work => break done,
                why = client.not_ready() => {
                    let (cause, waited) = (cause(why), start.elapsed().as_secs());
                    self.bar.set_message(format!("{stored}, no answer for {waited} s"));
                    if reported.insert(cause.clone()) {
                        self.say(&words(&cause, waited, self.retry_time));
                    }
                }
            }
            look = Instant::now() + REPORT_INTERVAL;
        };
        self.bar.set_message(stored);
        done
    }

    /// Prints a line above the bar, or to stderr if there is none.
    fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{}", evener::printable::printable(line));
        } else {
            self.bar.println(line);
        }
    }
}

fn cause(not_ready: Option<String>) -> String {
    not_ready.unwrap_or_else(|| "every server is ready, and none has acknowledged the append yet".to_owned())
}

fn words(cause: &str, waited: u64, retry_time: Duration) -> String {
    let retry_time = retry_time.as_secs();
    format!(
        "waiting for the cluster for {waited} s: {cause}; retrying for up to {retry_time} s in total (see --timeout)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_the_cause_and_the_times() {
        let reported = words(&cause(Some("http://a:1: no leader is known".into())), 3, Duration::from_secs(90));
        let expected = "waiting for the cluster for 3 s: http://a:1: no leader is known; retrying for up to 90 s in \
                        total (see --timeout)";
        assert_eq!(reported, expected);
        assert!(words(&cause(None), 3, REPORT_AFTER).contains("none has acknowledged"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_result_of_slow_work_is_returned() {
        let wait_reporter = WaitReporter { bar: ProgressBar::hidden(), quiet: false, retry_time: REPORT_AFTER };
        wait_reporter.bar.set_message("2 events");
        let client = Client::connect("127.0.0.1:1").unwrap();
        let work = async {
            tokio::time::sleep(REPORT_AFTER * 2).await;
            7
        };
        assert_eq!(wait_reporter.watch(&client, work).await, 7);
    }
}
