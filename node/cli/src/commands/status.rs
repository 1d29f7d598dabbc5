//! `evener status`

use super::{
    Server,
    output::{count, maybe, span, table},
};
use evener::{
    engine::{Reply, Request, Status, clock_words},
    error::ApiError,
};

/// Show the status of a node and its actors
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: Server,
}

impl Args {
    /// Shows the status.
    pub(super) fn run(self) -> Result<(), ApiError> {
        let Reply::Status(status) = self.server.ask("failed to read the status of the node", Request::Status)? else {
            unreachable!("a status request is answered with the status");
        };
        self.server.format().show(&status, || text(&status))
    }
}

fn text(status: &Status) -> String {
    let rows = status.actors.iter().map(|actor| {
        [
            actor.name.clone(),
            actor.kind.clone(),
            actor.phase.clone(),
            actor.queue.to_string(),
            actor.restarts.to_string(),
            maybe(actor.last_error.as_ref()),
        ]
    });
    let trouble = status.trouble.as_ref().map(|why| format!("NOTHING CAN BE WRITTEN: {why}\n\n")).unwrap_or_default();
    let clock = clock_words(status.clock_ahead_ms, status.log_ahead_ms).map(|note| format!("{note}\n"));
    let clock = clock.unwrap_or_default();
    let room = match &status.disk.appends_refused {
        Some(why) => format!("disk: appends are refused: {why}"),
        None => format!(
            "disk: {} MiB free, appends are refused below {} MiB; the log takes {} MiB",
            count(status.disk.free_bytes >> 20),
            count(status.disk.reserve_bytes >> 20),
            count(status.disk.log_bytes >> 20)
        ),
    };
    let segments: String = status.segments_wanted.iter().map(|wanted| wanted.text() + "\n").collect();
    format!(
        "{trouble}{} {}, {} in term {}, leader {}, up {}\n\
         the next event gets position {}\n\
         log index: applied {}, on disk {}, state {} at {}\n{room}\n{clock}{segments}\n{}",
        status.node,
        status.version,
        status.role,
        status.term,
        maybe(status.leader.as_ref()),
        span(status.uptime_s),
        count(status.head),
        status.applied,
        status.durable,
        status.state_hash.hash,
        status.state_hash.index,
        table(["actor", "kind", "phase", "queue", "restarts", "last error"], rows)
    )
}
