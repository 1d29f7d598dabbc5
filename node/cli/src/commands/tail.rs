//! `evener tail`

use std::time::Duration;

use evener_core::id::Position;
use tokio::time::{Instant, timeout_at};

use super::{
    Server,
    args::{ReadArgs, ServerArgs, duration},
    block_on,
    read::Show,
};
use evener::{client::Line, codes, engine::Consistency, error::ApiError};

/// Follow new events, from the head or from --from
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    read_args: ReadArgs,
    #[command(flatten)]
    server_args: ServerArgs,
    /// Give up if there is no answer, or no further event, within this time [default: follow until interrupted]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

impl Args {
    /// Follows events until --limit events have arrived, the position --to is reached, no event arrives within
    /// --timeout, or the process is interrupted.
    pub(super) fn run(self) -> Result<(), ApiError> {
        let server = Server { server_args: self.server_args, timeout: self.timeout };
        let client = server.client()?;
        let mut read = self.read_args.read()?;
        let mut show = Show::new(&server);
        block_on(async {
            // With --from the head is needed only for a note, so the server's own is good enough.
            let consistency = if self.read_args.from.is_some() { Consistency::Local } else { read.consistency };
            let head = client.head(read.context, consistency).await;
            let head = head.map_err(|error| error.doing("failed to find the head"))?;
            read.from = self.read_args.from.map_or(head, Position);
            self.read_args.note_beyond_head(head);
            let end = read.to;
            let mut tail = client.tail(read);
            let next = async || tail.next().await.map_err(|error| error.doing("failed to follow events"));
            let followed = follow(next, self.timeout, |line| {
                let next = match line {
                    Line::Event(position, json) => {
                        show.event(&json)?;
                        position.next()
                    }
                    Line::Progress { next, .. } => next,
                };
                Ok(end.is_some_and(|end| next >= end))
            });
            // Collected events are shown even after an error.
            let followed = followed.await;
            show.end().and(followed)
        })
    }
}

/// Passes each line to `take` until it returns true, the stream ends, or no event arrives within `idle`.
async fn follow(
    mut next: impl AsyncFnMut() -> Result<Option<Line>, ApiError>,
    idle: Option<Duration>,
    mut take: impl FnMut(Line) -> Result<bool, ApiError>,
) -> Result<(), ApiError> {
    let mut since = Instant::now();
    loop {
        let line = match idle {
            None => next().await?,
            Some(idle) => timeout_at(since + idle, next()).await.map_err(|_| no_event(idle))??,
        };
        let Some(line) = line else { return Ok(()) };
        if matches!(line, Line::Event(..)) {
            since = Instant::now();
        }
        if take(line)? {
            return Ok(());
        }
    }
}

fn no_event(idle: Duration) -> ApiError {
    let message = format!("no event arrived within {} s", idle.as_secs_f64());
    ApiError::new(&codes::WAITED, message).hint("events may arrive later: use a longer --timeout, or none")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows a server that sends these lines, each after a delay in milliseconds, and then nothing.
    async fn followed(idle_ms: Option<u64>, lines: &[(u64, Line)]) -> (usize, Duration, Result<(), ApiError>) {
        let (begun, mut left, mut taken) = (Instant::now(), lines.iter(), 0);
        let next = async || match left.next() {
            Some((after, line)) => {
                tokio::time::sleep(Duration::from_millis(*after)).await;
                Ok(Some(line.clone()))
            }
            None => std::future::pending().await,
        };
        let last = lines.len();
        let ended = follow(next, idle_ms.map(Duration::from_millis), |line| {
            taken += 1;
            Ok(taken == last && matches!(line, Line::Event(..)))
        });
        let ended = ended.await;
        (taken, begun.elapsed(), ended)
    }

    #[tokio::test(start_paused = true)]
    async fn it_times_out_without_events_even_if_other_lines_arrive() {
        let event = || Line::Event(Position(3), "{}".into());
        let progress = || Line::Progress { next: Position(4), marker: Position(4) };
        for (lines, taken, after_ms) in [
            (vec![], 0, 2_000),
            (vec![(0, progress())], 1, 2_000),
            (vec![(1_500, progress()), (1_000, progress())], 1, 2_000),
            (vec![(1_500, event()), (1_500, event()), (10, progress())], 3, 5_000),
            (vec![(1_500, event()), (2_500, event())], 1, 3_500),
        ] {
            let (took, time, ended) = followed(Some(2_000), &lines).await;
            let error = ended.expect_err("it timed out");
            assert!(error.is(&codes::WAITED) && error.exit_code() == 8, "{error}");
            assert!(error.message.contains("within 2 s"), "{error}");
            assert_eq!((took, time), (taken, Duration::from_millis(after_ms)), "{lines:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_after_the_last_event_and_waits_without_limit_by_default() {
        let lines: Vec<_> = [1_500, 1_900, 1_000].map(|after| (after, Line::Event(Position(3), "{}".into()))).into();
        for idle in [Some(2_000), None] {
            let (taken, _, ended) = followed(idle, &lines).await;
            assert!(taken == 3 && ended.is_ok(), "{ended:?}");
        }
        let patient = tokio::time::timeout(Duration::from_secs(99_999), followed(None, &[]));
        assert!(patient.await.is_err());
    }
}
