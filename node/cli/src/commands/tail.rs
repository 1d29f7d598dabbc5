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

/// Follow events as they come, from the head on unless --from says otherwise
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    read_args: ReadArgs,
    #[command(flatten)]
    server_args: ServerArgs,
    /// Give up if there is no answer, or no further event, within this time [default: follow until interrupted]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

impl Args {
    /// Follows them until it is ended, or --limit events have come, or the position --to is reached, or none comes for
    /// as long as --timeout.
    pub fn run(self) -> Result<(), ApiError> {
        let server = Server { server_args: self.server_args, timeout: self.timeout };
        let client = server.client()?;
        let mut read = self.read_args.read()?;
        let mut show = Show::new(&server);
        block_on(async {
            // Where it is only for a note, what the server has is good enough.
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
            // What was gathered is shown, however it ended.
            let followed = followed.await;
            show.end().and(followed)
        })
    }
}

/// Takes each line until `take` says that it was the last, or none is left, or no event comes for as long as `idle`.
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
    let message = format!("no event came within {} s", idle.as_secs_f64());
    ApiError::new(&codes::WAITED, message).hint("events may come later: give more time with --timeout, or leave it out")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows a server that sends these lines, each after so many milliseconds, and then nothing more.
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
    async fn it_gives_up_if_no_event_comes_in_time_whatever_else_does() {
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
            let error = ended.expect_err("it gave up");
            assert!(error.is(&codes::WAITED) && error.exit_code() == 8, "{error}");
            assert!(error.message.contains("within 2 s"), "{error}");
            assert_eq!((took, time), (taken, Duration::from_millis(after_ms)), "{lines:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_its_last_event_and_waits_for_ever_unless_told_otherwise() {
        let lines: Vec<_> = [1_500, 1_900, 1_000].map(|after| (after, Line::Event(Position(3), "{}".into()))).into();
        for idle in [Some(2_000), None] {
            let (taken, _, ended) = followed(idle, &lines).await;
            assert!(taken == 3 && ended.is_ok(), "{ended:?}");
        }
        let patient = tokio::time::timeout(Duration::from_secs(99_999), followed(None, &[]));
        assert!(patient.await.is_err());
    }
}
